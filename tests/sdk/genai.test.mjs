// The official `@google/genai` npm package, unchanged, against the gateway in front of every provider dialect.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ApiError, GoogleGenAI } from "@google/genai";

import {
  ARGUMENTS, LIMIT, PNG, PROVIDERS, SCHEMA, SIGNATURE, SIGNING, THOUGHT, UNICODE, WORDS, all, apiKey, root, seen,
  thrown,
} from "./asking.mjs";

const connect = (key) => new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: root, timeout: 20_000 } });
const client = connect(apiKey);
const STATUSES = { "fail-400": 400, "fail-404": 404, "fail-429": 429, "fail-401": 502 };
const said = (text) => ({ role: "user", parts: [{ text }] });
const WEATHER = { name: "get_weather", description: "The weather at a place.", parametersJsonSchema: SCHEMA };
const TOOLS = [{ functionDeclarations: [WEATHER] }];

/** What an answer says, whole or put together of a stream's pieces. */
function answer(pieces) {
  const parts = pieces.flatMap((piece) => piece.candidates[0].content?.parts ?? []);
  const text = (thought) => parts.filter((part) => !!part.thought === thought).map((part) => part.text ?? "").join("");
  const last = pieces.at(-1);
  return {
    text: text(false),
    thought: text(true),
    calls: parts.filter((part) => part.functionCall).map((part) => part.functionCall),
    content: { role: "model", parts },
    finish: last.candidates[0].finishReason,
    usage: last.usageMetadata,
  };
}

const WAYS = {
  whole: async (model, contents, config) => answer([await client.models.generateContent({ model, contents, config })]),
  streamed: async (model, contents, config) =>
    answer(await all(await client.models.generateContentStream({ model, contents, config }))),
};

for (const provider of PROVIDERS) {
  const model = `up-${provider}-plain`;
  for (const [way, ask] of Object.entries(WAYS)) {
    describe(`${provider}, ${way}`, () => {
      test("text", LIMIT, async () => {
        const got = await ask(model, UNICODE, { systemInstruction: "Be terse." });
        assert.equal(got.text, `Turn 1: (Be terse.) ${UNICODE}`);
        assert.equal(got.finish, "STOP");
        assert.deepEqual([got.usage.promptTokenCount, got.usage.candidatesTokenCount], [7, 11]);
      });

      test("thinking, a tool, and the second turn", LIMIT, async () => {
        await seen();
        const config = { tools: TOOLS, thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 } };
        const first = await ask(model, "How is it?", config);
        assert.equal(first.thought, THOUGHT);
        const [call] = first.calls;
        assert.deepEqual([call.name, call.args], ["get_weather", ARGUMENTS]);
        const response = { id: call.id, name: call.name, response: { result: "fair" } };
        const contents = [said("How is it?"), first.content, { role: "user", parts: [{ functionResponse: response }] }];
        assert.equal((await ask(model, contents, config)).text, "The tools said: fair");
        const [, asked] = await seen();
        assert.deepEqual(asked.ask.signatures, SIGNING.includes(provider) ? [SIGNATURE] : []);
      });

      test("images", LIMIT, async () => {
        await seen();
        const parts = [{ inlineData: { mimeType: "image/png", data: PNG } }, { text: "What is it?" }];
        assert.equal((await ask(model, [{ role: "user", parts }])).text, "I see image/png");
        assert.deepEqual((await seen())[0].ask.images, [["image/png", PNG]]);
      });

      test("structured output", LIMIT, async () => {
        const config = { responseMimeType: "application/json", responseJsonSchema: SCHEMA };
        assert.deepEqual(JSON.parse((await ask(model, "hi", config)).text), ARGUMENTS);
      });

      test("typed errors", LIMIT, async () => {
        for (const [behaviour, status] of Object.entries(STATUSES)) {
          const error = await thrown(() => ask(`up-${provider}-${behaviour}`, "hi"));
          assert.ok(error instanceof ApiError, `${behaviour}: ${error}`);
          assert.equal(error.status, status);
        }
      });
    });
  }

  test(`${provider}: counting, a chat, and an error within a stream`, LIMIT, async () => {
    assert.ok((await client.models.countTokens({ model, contents: "one two three" })).totalTokens > 0);
    const chat = client.chats.create({ model });
    assert.equal((await chat.sendMessage({ message: "one" })).text, "Turn 1: one");
    assert.equal((await chat.sendMessage({ message: "two" })).text, "Turn 2: two");
    let text = "";
    const error = await thrown(async () => {
      const broken = { model: `up-${provider}-broken`, contents: WORDS };
      for await (const piece of await client.models.generateContentStream(broken)) text += piece.text ?? "";
    });
    assert.ok(error instanceof ApiError, `${error}`);
    assert.match(error.message, /overloaded/);
    assert.ok(text && `Turn 1: ${WORDS}`.startsWith(text));
  });
}

test("models and keys", LIMIT, async () => {
  const names = (await all(await client.models.list())).map((model) => model.name);
  assert.ok(names.includes("models/up-bedrock-plain"));
  const nobody = connect("pk-nobody");
  const error = await thrown(() => nobody.models.generateContent({ model: "up-chat-plain", contents: "hi" }));
  assert.ok(error instanceof ApiError && [400, 401].includes(error.status));
});
