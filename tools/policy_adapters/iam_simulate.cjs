// Answers cases of tools/policy_differential.py with the public API of the npm package @cloud-copilot/iam-simulate,
// which the operator installs where they like; it is neither shipped nor linked:
//
//     node tools/policy_adapters/iam_simulate.cjs DIRECTORY_WITH_NODE_MODULES
//
// One JSON case a line in, one JSON answer a line out. Cases with a session policy or a resource policy go through
// runSimulation, which checks policies and drops condition keys that it does not know; all others through
// runUnsafeSimulation, which takes neither of the two.
// Not covered: the account's root and web identities, which the package has no rules for.
"use strict";

const path = require("node:path");
const readline = require("node:readline");
const { createRequire } = require("node:module");

const load = createRequire(path.resolve(process.argv[2] || ".") + path.sep);
const { runSimulation, runUnsafeSimulation, anonymousPrincipal } = load("@cloud-copilot/iam-simulate");

const named = (documents, name) => documents.map((policy, index) => ({ name: `${name}${index}`, policy }));
const levels = (groups, name) =>
  groups.map((group, index) => ({ orgIdentifier: `${name}${index}`, policies: named(group, `${name}${index}-`) }));
const allowsAll = (policy) => policy.Statement[0].Effect === "Allow";

function simulation(asked) {
  const who = asked.requester;
  const principal = who.kind === "anonymous" ? anonymousPrincipal : who.kind === "service" ? who.name : who.arn;
  return {
    request: {
      principal,
      action: asked.action,
      resource: { resource: asked.resource, accountId: asked.resource_account },
      contextVariables: asked.context,
    },
    identityPolicies: named(asked.identity, "identity"),
    permissionBoundaryPolicies: asked.boundary ? named([asked.boundary], "boundary") : undefined,
    resourcePolicy: asked.resource_policy || undefined,
    serviceControlPolicies: levels(asked.scps, "scp"),
    resourceControlPolicies: levels(asked.rcps, "rcp"),
  };
}

async function answer(asked) {
  const made = simulation(asked);
  if (!asked.session && !asked.resource_policy) {
    return { id: asked.id, answer: runUnsafeSimulation(made, {}) };
  }
  made.sessionPolicy = asked.session || undefined;
  // runSimulation adds the managed policy that allows everything to each level by itself.
  for (const level of made.resourceControlPolicies) {
    level.policies = level.policies.filter((each) => !allowsAll(each.policy));
  }
  const result = await runSimulation(made, {});
  if (result.resultType === "error") {
    return { id: asked.id, refused: JSON.stringify(result.errors).slice(0, 300) };
  }
  return { id: asked.id, answer: result.overallResult };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    let told;
    try {
      told = await answer(asked);
    } catch (error) {
      told = { id: asked.id, refused: `threw: ${String(error).slice(0, 300)}` };
    }
    process.stdout.write(JSON.stringify(told) + "\n");
  }
}

main();
