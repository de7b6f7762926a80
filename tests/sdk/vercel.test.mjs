// Vercel's AI SDK, unchanged, with its providers for OpenAI (Responses and Chat), Anthropic and Google, against the
// gateway in front of every provider dialect.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, Output, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import {
  ARGUMENTS, LIMIT, PNG, PROVIDERS, SIGNATURE, SIGNING, UNICODE, WORDS, all, apiKey, baseURL, root, seen, thrown,
} from "./asking.mjs";

const openai = createOpenAI({ baseURL, apiKey });
const CLIENTS = {
  responses: { of: (model) => openai.responses(model) },
  chat: { of: (model) => openai.chat(model) },
  anthropic: {
    of: createAnthropic({ baseURL, apiKey }),
    thinking: { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } },
  },
  google: {
    of: createGoogleGenerativeAI({ baseURL: `${root}/v1beta`, apiKey }),
    thinking: { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 } } },
  },
};
const Weather = z.object({ city: z.enum(["Lübeck", "Genoa"]), days: z.int() });
const STATUSES = { "fail-400": 400, "fail-404": 404, "fail-429": 429, "fail-401": 502 };
const once = { maxRetries: 0 };

function tools(seen) {
  const execute = (given) => {
    seen.push(given);
    return "fair";
  };
  return { get_weather: tool({ description: "The weather at a place.", inputSchema: Weather, execute }) };
}

for (const [name, { of, thinking }] of Object.entries(CLIENTS)) {
  for (const provider of PROVIDERS) {
    const model = of(`up-${provider}-plain`);
    describe(`${name} to ${provider}`, () => {
      test("text", LIMIT, async () => {
        const asked = { model, system: "Be terse.", prompt: UNICODE, ...once };
        const want = `Turn 1: (Be terse.) ${UNICODE}`;
        const whole = await generateText(asked);
        assert.deepEqual([whole.text, whole.finishReason], [want, "stop"]);
        assert.deepEqual([whole.usage.inputTokens, whole.usage.outputTokens], [7, 11]);
        const stream = streamText(asked);
        assert.ok((await all(stream.textStream)).length > 2);
        assert.equal(await stream.text, want);
        assert.equal(await stream.finishReason, "stop");
      });

      test("a tool and the second turn, with thoughts where they can be asked for", LIMIT, async () => {
        await seen();
        const given = [];
        const more = { ...once, tools: tools(given), stopWhen: stepCountIs(2), providerOptions: thinking };
        assert.equal((await generateText({ model, prompt: "How is it?", ...more })).text, "The tools said: fair");
        const stream = streamText({ model, prompt: "How is it?", ...more });
        await stream.consumeStream();
        assert.equal(await stream.text, "The tools said: fair");
        assert.deepEqual(given, [ARGUMENTS, ARGUMENTS]);
        const signatures = thinking && SIGNING.includes(provider) ? [SIGNATURE] : [];
        assert.deepEqual(
          (await seen()).map((one) => one.ask.signatures),
          [[], signatures, [], signatures],
        );
      });

      test("images and objects", LIMIT, async () => {
        await seen();
        const content = [
          { type: "image", image: PNG, mediaType: "image/png" },
          { type: "text", text: "What is it?" },
        ];
        const { text } = await generateText({ model, messages: [{ role: "user", content }], ...once });
        assert.equal(text, "I see image/png");
        assert.deepEqual((await seen())[0].ask.images, [["image/png", PNG]]);
        assert.deepEqual((await generateObject({ model, schema: Weather, prompt: "hi", ...once })).object, ARGUMENTS);
        const output = Output.object({ schema: Weather });
        assert.deepEqual((await generateText({ model, output, prompt: "hi", ...once })).output, ARGUMENTS);
      });

      test("errors", LIMIT, async () => {
        for (const [behaviour, status] of Object.entries(STATUSES)) {
          const failing = of(`up-${provider}-${behaviour}`);
          const error = await thrown(() => generateText({ model: failing, prompt: "hi", ...once }));
          assert.ok(APICallError.isInstance(error), `${behaviour}: ${error}`);
          assert.equal(error.statusCode, status);
        }
        const failed = [];
        const onError = ({ error }) => failed.push(error);
        const broken = { model: of(`up-${provider}-broken`), prompt: WORDS, onError, ...once };
        const parts = await all(streamText(broken).fullStream);
        const text = parts.map((part) => (part.type === "text-delta" ? part.text : "")).join("");
        assert.ok(text && `Turn 1: ${WORDS}`.startsWith(text), text);
        assert.match(JSON.stringify(failed.map((error) => error.message ?? error)), /overloaded/);
      });
    });
  }
}
