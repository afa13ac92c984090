// A role made, assumed and used by the AWS SDK for JavaScript, unmodified. What it met goes out as one JSON document.
// Settings come in the environment: ENDPOINT, MODEL, REGION, ACCOUNT, and the SDK's own credentials of an administrator.
import { BedrockRuntimeClient, ConverseCommand } from "@aws-sdk/client-bedrock-runtime";
import { CreateRoleCommand, CreateUserCommand, CreateAccessKeyCommand, IAMClient, PutRolePolicyCommand } from "@aws-sdk/client-iam";
import { CreateKeyCommand, DecryptCommand, EncryptCommand, KMSClient } from "@aws-sdk/client-kms";
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const { ENDPOINT: endpoint, MODEL: modelId, REGION: region, ACCOUNT: account } = process.env;
const settings = { endpoint, region, maxAttempts: 1 };
const messages = [{ role: "user", content: [{ text: "hi" }] }];
const document = (...Statement) => JSON.stringify({ Version: "2012-10-17", Statement });
const refusal = async (one, command) => {
  try {
    await one.send(command);
    return "answered";
  } catch (error) {
    const { httpStatusCode: status, requestId } = error.$metadata ?? {};
    return { name: error.name, status, requestId, message: error.message };
  }
};
const keysOf = ({ AccessKeyId, SecretAccessKey, SessionToken }) => ({
  credentials: { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken },
});

const iam = new IAMClient(settings);
await iam.send(new CreateUserCommand({ UserName: "js-user" }));
const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName: "js-user" }));
const principal = { Effect: "Allow", Principal: { AWS: `arn:aws:iam::${account}:user/js-user` }, Action: "sts:AssumeRole" };
const { Role } = await iam.send(
  new CreateRoleCommand({ RoleName: "js-role", AssumeRolePolicyDocument: document(principal) }),
);
const may = { Effect: "Allow", Action: ["bedrock:InvokeModel", "kms:Encrypt", "kms:Decrypt"], Resource: "*" };
await iam.send(new PutRolePolicyCommand({ RoleName: "js-role", PolicyName: "may", PolicyDocument: document(may) }));

const user = { ...settings, ...keysOf(AccessKey) };
const sts = new STSClient(user);
const asked = { RoleArn: Role.Arn, RoleSessionName: "from-js" };
const session = { ...settings, ...keysOf((await sts.send(new AssumeRoleCommand(asked))).Credentials) };
const runtime = new BedrockRuntimeClient(session);
const said = await runtime.send(new ConverseCommand({ modelId, messages }));
const identity = await new STSClient(session).send(new GetCallerIdentityCommand({}));

const { KeyMetadata } = await new KMSClient(settings).send(new CreateKeyCommand({}));
const kms = new KMSClient(session);
const sealed = await kms.send(new EncryptCommand({ KeyId: KeyMetadata.KeyId, Plaintext: new TextEncoder().encode("js") }));
const opened = await kms.send(new DecryptCommand({ CiphertextBlob: sealed.CiphertextBlob }));

const narrow = document({ Effect: "Allow", Action: "kms:*", Resource: "*" });
const narrowed = { ...settings, ...keysOf((await sts.send(new AssumeRoleCommand({ ...asked, Policy: narrow }))).Credentials) };
const refusals = {
  user: await refusal(new BedrockRuntimeClient(user), new ConverseCommand({ modelId, messages })),
  session: await refusal(new BedrockRuntimeClient(narrowed), new ConverseCommand({ modelId, messages })),
  role: await refusal(sts, new AssumeRoleCommand({ ...asked, RoleArn: `${Role.Arn}-of-nobody` })),
};
console.log(
  JSON.stringify({
    role: Role.Arn,
    said: said.output.message.content[0].text,
    identity: identity.Arn,
    opened: new TextDecoder().decode(opened.Plaintext),
    refusals,
  }),
);
