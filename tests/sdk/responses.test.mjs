// The official `openai` npm package, unchanged, against the gateway in front of every provider dialect: Responses.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
  ARGUMENTS, LIMIT, PNG, PROVIDERS, SCHEMA, SIGNATURE, SIGNING, THOUGHT, UNICODE, WORDS, apiKey, baseURL, seen, thrown,
} from "./asking.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const user = (content) => ({ role: "user", content });
const WEATHER = { type: "function", name: "get_weather", parameters: SCHEMA, strict: true };
const Weather = z.object({ city: z.enum(["Lübeck", "Genoa"]), days: z.int() });

// A response, whole or put together from a stream: both must be alike.
const WAYS = {
  whole: (model, input, more) => client.responses.create({ model, input, ...more }),
  streamed: (model, input, more) => client.responses.stream({ model, input, ...more }).finalResponse(),
};

for (const provider of PROVIDERS) {
  const model = `up-${provider}-plain`;
  for (const [way, ask] of Object.entries(WAYS)) {
    describe(`${provider}, ${way}`, () => {
      test("text", LIMIT, async () => {
        const response = await ask(model, UNICODE, { instructions: "Be terse." });
        assert.equal(response.output_text, `Turn 1: (Be terse.) ${UNICODE}`);
        assert.equal(response.status, "completed");
        assert.deepEqual([response.usage.input_tokens, response.usage.output_tokens], [7, 11]);
      });

      test("a conversation that is kept", LIMIT, async () => {
        const first = await ask(model, "one");
        const second = await ask(model, "two", { previous_response_id: first.id });
        assert.equal(second.output_text, "Turn 2: two");
        assert.equal((await client.responses.retrieve(first.id)).id, first.id);
        await client.responses.delete(first.id);
        const error = await thrown(() => client.responses.retrieve(first.id));
        assert.ok(error instanceof OpenAI.NotFoundError);
      });

      test("thinking, a tool, and the second turn", LIMIT, async () => {
        await seen();
        const more = {
          tools: [WEATHER],
          reasoning: { effort: "medium", summary: "auto" },
          include: ["reasoning.encrypted_content"],
        };
        const first = await ask(model, "How is it?", more);
        const [reasoning, call] = first.output;
        assert.equal(reasoning.type, "reasoning");
        assert.deepEqual(
          [...reasoning.summary, ...(reasoning.content ?? [])].map((part) => part.text),
          [THOUGHT],
        );
        assert.deepEqual([call.name, JSON.parse(call.arguments)], ["get_weather", ARGUMENTS]);
        const result = { type: "function_call_output", call_id: call.call_id, output: "fair" };
        const second = await ask(model, [user("How is it?"), ...first.output, result], more);
        assert.equal(second.output_text, "The tools said: fair");
        const [, asked] = await seen();
        assert.deepEqual(asked.ask.signatures, SIGNING.includes(provider) ? [SIGNATURE] : []);
      });

      test("images", LIMIT, async () => {
        await seen();
        const image = { type: "input_image", image_url: `data:image/png;base64,${PNG}`, detail: "auto" };
        assert.equal((await ask(model, [user([image])])).output_text, "I see image/png");
        assert.deepEqual((await seen())[0].ask.images, [["image/png", PNG]]);
      });

      test("typed errors", LIMIT, async () => {
        for (const [behaviour, kind, status] of [
          ["fail-400", OpenAI.BadRequestError, 400],
          ["fail-404", OpenAI.NotFoundError, 404],
          ["fail-429", OpenAI.RateLimitError, 429],
          ["fail-401", OpenAI.InternalServerError, 502],
        ]) {
          const error = await thrown(() => ask(`up-${provider}-${behaviour}`, "hi"));
          assert.ok(error instanceof kind, `${behaviour}: ${error}`);
          assert.equal(error.status, status);
        }
      });
    });
  }

  test(`${provider}: structured output, and an error within a stream`, LIMIT, async () => {
    const text = { format: zodTextFormat(Weather, "weather") };
    assert.deepEqual((await client.responses.parse({ model, input: "hi", text })).output_parsed, ARGUMENTS);
    let told = "";
    const error = await thrown(async () => {
      const stream = await client.responses.create({ model: `up-${provider}-broken`, input: WORDS, stream: true });
      for await (const event of stream) {
        if (event.type === "response.output_text.delta") told += event.delta;
        if (event.type === "response.failed") throw new OpenAI.APIError(undefined, event.response.error, undefined);
      }
    });
    assert.ok(error instanceof OpenAI.APIError, `${error}`);
    assert.match(error.message, /overloaded/);
    assert.ok(told && `Turn 1: ${WORDS}`.startsWith(told));
  });
}
