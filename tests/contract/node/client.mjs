// The AWS SDK for JavaScript, unmodified, against a running service. What it received goes out as one JSON document.
// Settings come in the environment: ENDPOINT, MODEL, REGION, and the SDK's own credentials.
import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  CountTokensCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
  ApplyGuardrailCommand,
} from "@aws-sdk/client-bedrock-runtime";

const { ENDPOINT: endpoint, MODEL: modelId, REGION: region } = process.env;
const client = new BedrockRuntimeClient({ endpoint, region, maxAttempts: 1 });
const messages = [{ role: "user", content: [{ text: "hi" }] }];
const body = JSON.stringify({
  anthropic_version: "bedrock-2023-05-31",
  max_tokens: 64,
  messages: [{ role: "user", content: "hi" }],
});
const text = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
const refusal = async (one, command) => {
  try {
    await one.send(command);
    return "answered";
  } catch (error) {
    return { name: error.name, status: error.$metadata?.httpStatusCode, message: error.message };
  }
};

const whole = await client.send(
  new ConverseCommand({ modelId, messages, system: [], inferenceConfig: {}, additionalModelResponseFieldPaths: ["/delta/stop_sequence"] }),
);

const converseEvents = [];
const streamed = await client.send(new ConverseStreamCommand({ modelId, messages }));
for await (const event of streamed.stream) converseEvents.push(event);

const invoked = await client.send(new InvokeModelCommand({ modelId, body }));

const invokeEvents = [];
const invokeStream = await client.send(new InvokeModelWithResponseStreamCommand({ modelId, body }));
for await (const event of invokeStream.body) invokeEvents.push(text(event.chunk.bytes));

const counted = await client.send(new CountTokensCommand({ modelId, input: { converse: { messages } } }));

const together = await Promise.all(
  Array.from({ length: 8 }, async () => {
    const reply = await client.send(new ConverseStreamCommand({ modelId, messages }));
    let said = "";
    for await (const event of reply.stream) said += event.contentBlockDelta?.delta.text ?? "";
    return said;
  }),
);

const stranger = new BedrockRuntimeClient({
  endpoint,
  region,
  maxAttempts: 1,
  credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: "x".repeat(40) },
});
const refusals = {
  model: await refusal(client, new ConverseCommand({ modelId: "local.unknown-v1:0", messages })),
  image: await refusal(
    client,
    new ConverseCommand({
      modelId,
      messages: [{ role: "user", content: [{ image: { format: "png", source: { bytes: new Uint8Array(4) } } }] }],
    }),
  ),
  stream: await refusal(client, new ConverseStreamCommand({ modelId, messages: [] })),
  unbuilt: await refusal(
    client,
    new ApplyGuardrailCommand({
      guardrailIdentifier: "abc",
      guardrailVersion: "1",
      source: "INPUT",
      content: [{ text: { text: "x" } }],
    }),
  ),
  secret: await refusal(stranger, new ConverseCommand({ modelId, messages })),
};

console.log(
  JSON.stringify({ whole, converseEvents, invoked: text(invoked.body), invokeEvents, counted, together, refusals }),
);
client.destroy();
stranger.destroy();
