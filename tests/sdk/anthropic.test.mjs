// The official `@anthropic-ai/sdk` npm package, unchanged, against the gateway in front of every provider dialect.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

import {
  ARGUMENTS, LIMIT, PNG, PROVIDERS, SCHEMA, SIGNATURE, SIGNING, THOUGHT, UNICODE, WORDS, apiKey, root, seen, thrown,
} from "./asking.mjs";

const client = new Anthropic({ baseURL: root, apiKey, maxRetries: 0, timeout: 20_000 });
const user = (content) => ({ role: "user", content });
const WEATHER = { name: "get_weather", description: "The weather at a place.", input_schema: SCHEMA };
const said = (message) => message.content.map((block) => (block.type === "text" ? block.text : "")).join("");

// A message, whole or put together from a stream: both must be alike.
const WAYS = {
  whole: (model, messages, more) => client.messages.create({ model, max_tokens: 4000, messages, ...more }),
  streamed: (model, messages, more) =>
    client.messages.stream({ model, max_tokens: 4000, messages, ...more }).finalMessage(),
};

for (const provider of PROVIDERS) {
  const model = `up-${provider}-plain`;
  for (const [way, ask] of Object.entries(WAYS)) {
    describe(`${provider}, ${way}`, () => {
      test("text", LIMIT, async () => {
        const message = await ask(model, [user(UNICODE)], { system: "Be terse." });
        assert.equal(said(message), `Turn 1: (Be terse.) ${UNICODE}`);
        assert.deepEqual([message.role, message.stop_reason], ["assistant", "end_turn"]);
        assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [7, 11]);
      });

      test("thinking, a tool, and the second turn", LIMIT, async () => {
        await seen();
        const more = { tools: [WEATHER], thinking: { type: "enabled", budget_tokens: 2000 } };
        const first = await ask(model, [user("How is it?")], more);
        assert.deepEqual([first.content[0].type, first.content[0].thinking], ["thinking", THOUGHT]);
        const call = first.content.at(-1);
        assert.deepEqual([call.type, call.name, call.input], ["tool_use", "get_weather", ARGUMENTS]);
        assert.equal(first.stop_reason, "tool_use");
        const result = user([{ type: "tool_result", tool_use_id: call.id, content: "fair" }]);
        const turn = { role: "assistant", content: first.content };
        const second = await ask(model, [user("How is it?"), turn, result], more);
        assert.equal(said(second), "The tools said: fair");
        const [, asked] = await seen();
        assert.deepEqual(asked.ask.signatures, SIGNING.includes(provider) ? [SIGNATURE] : []);
      });

      test("images", LIMIT, async () => {
        await seen();
        const source = { type: "base64", media_type: "image/png", data: PNG };
        assert.equal(said(await ask(model, [user([{ type: "image", source }])])), "I see image/png");
        assert.deepEqual((await seen())[0].ask.images, [["image/png", PNG]]);
      });

      test("structured output", LIMIT, async () => {
        const output_config = { format: { type: "json_schema", schema: SCHEMA } };
        assert.deepEqual(JSON.parse(said(await ask(model, [user("hi")], { output_config }))), ARGUMENTS);
      });

      test("typed errors", LIMIT, async () => {
        for (const [behaviour, kind, status] of [
          ["fail-400", Anthropic.BadRequestError, 400],
          ["fail-404", Anthropic.NotFoundError, 404],
          ["fail-429", Anthropic.RateLimitError, 429],
          ["fail-401", Anthropic.InternalServerError, 502],
        ]) {
          const error = await thrown(() => ask(`up-${provider}-${behaviour}`, [user("hi")]));
          assert.ok(error instanceof kind, `${behaviour}: ${error}`);
          assert.equal(error.status, status);
          assert.ok(error.error.error.message);
        }
      });
    });
  }

  test(`${provider}: its own retry, counting, and an error within a stream`, LIMIT, async () => {
    const patient = client.withOptions({ maxRetries: 1 });
    const asking = { max_tokens: 99, messages: [user("hi")] };
    assert.equal(said(await patient.messages.create({ model: `up-${provider}-flaky`, ...asking })), "Turn 1: hi");
    assert.ok((await client.messages.countTokens({ model, messages: asking.messages })).input_tokens > 0);
    let text = "";
    const stream = client.messages.stream({ model: `up-${provider}-broken`, max_tokens: 99, messages: [user(WORDS)] });
    stream.on("text", (piece) => (text += piece));
    const error = await thrown(() => stream.finalMessage());
    assert.ok(error instanceof Anthropic.APIError, `${error}`);
    assert.match(error.message, /overloaded/);
    assert.ok(text && `Turn 1: ${WORDS}`.startsWith(text));
  });
}

test("models and keys", LIMIT, async () => {
  const ids = [];
  for await (const model of client.models.list({ limit: 1000 })) ids.push(model.id);
  assert.ok(ids.includes("up-bedrock-plain"));
  const nobody = new Anthropic({ baseURL: root, apiKey: "pk-nobody", maxRetries: 0 });
  const asking = { model: "up-chat-plain", max_tokens: 9, messages: [user("hi")] };
  const error = await thrown(() => nobody.messages.create(asking));
  assert.ok(error instanceof Anthropic.AuthenticationError);
});
