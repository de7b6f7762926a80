// The official `openai` npm package, unchanged, against the gateway in front of every provider dialect: Chat Completions.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
  ARGUMENTS, LIMIT, PNG, PROVIDERS, SCHEMA, SIGNATURE, SIGNING, THOUGHT, UNICODE, WORDS, apiKey, baseURL, seen, thrown,
} from "./asking.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const user = (content) => ({ role: "user", content });
const tool = (name, parameters) => ({ type: "function", function: { name, parameters } });
const WEATHER = tool("get_weather", SCHEMA);
const TIDE = tool("get_tide", { type: "object", properties: {} });
const Weather = z.object({ city: z.enum(["Lübeck", "Genoa"]), days: z.int() });

// A completion, whole or put together from a stream: both must be alike.
const WAYS = {
  whole: (model, messages, more) => client.chat.completions.create({ model, messages, ...more }),
  streamed: (model, messages, more) =>
    client.chat.completions
      .stream({ model, messages, stream_options: { include_usage: true }, ...more })
      .finalChatCompletion(),
};

for (const provider of PROVIDERS) {
  const model = `up-${provider}-plain`;
  for (const [way, ask] of Object.entries(WAYS)) {
    describe(`${provider}, ${way}`, () => {
      test("text", LIMIT, async () => {
        const completion = await ask(model, [{ role: "system", content: "Be terse." }, user(UNICODE)]);
        const [choice] = completion.choices;
        assert.equal(choice.message.content, `Turn 1: (Be terse.) ${UNICODE}`);
        assert.equal(choice.finish_reason, "stop");
        const { prompt_tokens, completion_tokens, total_tokens } = completion.usage;
        assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [7, 11, 18]);
      });

      test("parallel calls and the second turn", LIMIT, async () => {
        await seen();
        const more = { tools: [WEATHER, TIDE] };
        const { message, finish_reason } = (await ask(model, [user("both")], more)).choices[0];
        assert.equal(finish_reason, "tool_calls");
        assert.deepEqual(
          message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
          [
            ["get_weather", ARGUMENTS],
            ["get_tide", {}],
          ],
        );
        const results = message.tool_calls.map((call, at) => ({
          role: "tool",
          tool_call_id: call.id,
          content: ["fair", "ebb"][at],
        }));
        const second = await ask(model, [user("both"), message, ...results], more);
        assert.equal(second.choices[0].message.content, "The tools said: fair, ebb");
        assert.deepEqual(
          (await seen()).map((asked) => Object.keys(asked.ask.tools)),
          Array(2).fill(["get_weather", "get_tide"]),
        );
      });

      test("images", LIMIT, async () => {
        await seen();
        const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } };
        const completion = await ask(model, [user([image, { type: "text", text: "What is it?" }])]);
        assert.equal(completion.choices[0].message.content, "I see image/png");
        assert.deepEqual((await seen())[0].ask.images, [["image/png", PNG]]);
      });

      test("structured output", LIMIT, async () => {
        const response_format = zodResponseFormat(Weather, "weather");
        const completion = await ask(model, [user("hi")], { response_format });
        assert.deepEqual(JSON.parse(completion.choices[0].message.content), ARGUMENTS);
      });

      test("thinking, a tool, and the second turn", LIMIT, async () => {
        await seen();
        const more = { tools: [WEATHER], reasoning_effort: "medium" };
        const { message } = (await ask(model, [user("How is it?")], more)).choices[0];
        const [call] = message.tool_calls;
        const result = { role: "tool", tool_call_id: call.id, content: "fair" };
        const second = await ask(model, [user("How is it?"), message, result], more);
        assert.equal(second.choices[0].message.content, "The tools said: fair");
        // The stream helper of this package keeps the last piece of what it does not know; a whole message is whole.
        if (way === "whole") {
          assert.equal(message.reasoning_content, THOUGHT);
          const [, asked] = await seen();
          assert.deepEqual(asked.ask.signatures, SIGNING.includes(provider) ? [SIGNATURE] : []);
        }
      });

      test("typed errors", LIMIT, async () => {
        for (const [behaviour, kind, status] of [
          ["fail-400", OpenAI.BadRequestError, 400],
          ["fail-404", OpenAI.NotFoundError, 404],
          ["fail-429", OpenAI.RateLimitError, 429],
          ["fail-401", OpenAI.InternalServerError, 502],
        ]) {
          const error = await thrown(() => ask(`up-${provider}-${behaviour}`, [user("hi")]));
          assert.ok(error instanceof kind, `${behaviour}: ${error}`);
          assert.equal(error.status, status);
          assert.ok(error.requestID);
        }
      });
    });
  }

  test(`${provider}: its own retry, and an error within a stream`, LIMIT, async () => {
    const patient = client.withOptions({ maxRetries: 1 });
    const retried = await patient.chat.completions.create({ model: `up-${provider}-flaky`, messages: [user("hi")] });
    assert.equal(retried.choices[0].message.content, "Turn 1: hi");
    let told = "";
    const error = await thrown(async () => {
      const asking = { model: `up-${provider}-broken`, messages: [user(WORDS)], stream: true };
      for await (const chunk of await client.chat.completions.create(asking)) {
        told += chunk.choices[0].delta.content ?? "";
      }
    });
    assert.ok(error instanceof OpenAI.APIError, `${error}`);
    assert.match(error.message, /overloaded/);
    assert.ok(told && `Turn 1: ${WORDS}`.startsWith(told));
  });
}
