// The official `openai` npm package, unchanged, against the gateway: each test at each of three provider dialects.
//
// The sandbox behind it answers the same in each dialect (src/sandbox), so one expectation holds for all.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const { PORTOLAN_URL: baseURL, PORTOLAN_KEY: apiKey } = process.env;
assert.ok(baseURL && apiKey, "tests/sdk/run sets these");

const DIALECTS = ["openai", "anthropic", "gemini"];
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==";
const UNICODE = 'Grüße, 世界 🌍🏽 "quoted" \\ back\\slash\t\u0001 \u2028 נמל';
const LIMIT = { timeout: 30_000 };

// A client that never tries again: what the gateway says is what is seen.
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });

const user = (content) => ({ role: "user", content });
const echo = (text) => `Ahoy from the sandbox! You said: ${text}`;
// The sandbox's count, for words of at most 16 characters.
const tokens = (text) => text.split(/\s+/).filter(Boolean).length;
const create = (model, messages, more = {}) => client.chat.completions.create({ model, messages, ...more });

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather at a place.",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Lübeck", "Genoa"] }, days: { type: "integer", minimum: 3 } },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
};
const TIDE = { type: "function", function: { name: "get_tide", parameters: { type: "object", properties: {} } } };
const WEATHER_ARGUMENTS = { city: "Lübeck", days: 3 };

/** The error that a call is refused with: of this class and status, with a request id. */
async function fails(kind, status, call) {
  let error;
  await assert.rejects(call, (thrown) => {
    error = thrown;
    return true;
  });
  assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error}`);
  assert.equal(error.status, status);
  assert.ok(error.requestID);
  assert.ok(error.error.message);
  return error;
}

async function collect(stream) {
  const all = { text: "", finishes: [], usages: [], chunks: [] };
  for await (const chunk of stream) {
    all.chunks.push(chunk);
    if (chunk.usage) all.usages.push(chunk.usage);
    for (const choice of chunk.choices) {
      all.text += choice.delta.content ?? "";
      if (choice.finish_reason) all.finishes.push(choice.finish_reason);
    }
  }
  return all;
}

for (const dialect of DIALECTS) {
  const model = `${dialect}-sandbox`;

  describe(dialect, () => {
    test("text and usage", LIMIT, async () => {
      const completion = await create(model, [{ role: "system", content: "Be terse." }, user(UNICODE)]);
      const text = `Ahoy from the sandbox! My orders: Be terse. You said: ${UNICODE}`;
      const [choice] = completion.choices;
      assert.equal(choice.message.content, text);
      assert.equal(choice.message.role, "assistant");
      assert.equal(choice.finish_reason, "stop");
      assert.equal(completion.object, "chat.completion");
      const { prompt_tokens, completion_tokens, total_tokens } = completion.usage;
      assert.ok(prompt_tokens > 2 && completion_tokens > prompt_tokens);
      assert.equal(total_tokens, prompt_tokens + completion_tokens);
    });

    test("a stream and its usage", LIMIT, async () => {
      const { text, finishes, usages, chunks } = await collect(
        await create(model, [user(UNICODE)], { stream: true, stream_options: { include_usage: true } }),
      );
      assert.equal(text, echo(UNICODE));
      assert.deepEqual(finishes, ["stop"]);
      assert.ok(chunks.length > 6);
      assert.deepEqual(chunks.at(-1).choices, []);
      const whole = await create(model, [user(UNICODE)]);
      assert.equal(usages.length, 1);
      for (const figure of ["prompt_tokens", "completion_tokens", "total_tokens"]) {
        assert.equal(usages[0][figure], whole.usage[figure]);
      }
      const without = await collect(await create(model, [user("hi")], { stream: true }));
      assert.deepEqual(without.usages, []);
    });

    test("the stream helper", LIMIT, async () => {
      let deltas = "";
      const stream = client.chat.completions
        .stream({ model, messages: [user("hi there")] })
        .on("content", (delta) => (deltas += delta));
      const completion = await stream.finalChatCompletion();
      assert.equal(deltas, echo("hi there"));
      assert.equal(completion.choices[0].message.content, deltas);
      assert.equal(completion.choices[0].finish_reason, "stop");
    });

    test("leaving a stream early", LIMIT, async () => {
      let read = "";
      for await (const chunk of await create(`${model}-long-200`, [user("hi")], { stream: true })) {
        read += chunk.choices[0].delta.content ?? "";
        if (read.length > 20) break;
      }
      assert.ok(read.startsWith("wave1 wave2 "));
      assert.equal((await create(model, [user("hi")])).choices[0].message.content, echo("hi"));
    });

    test("stop and limits", LIMIT, async () => {
      const stopped = await create(model, [user("one two three")], { stop: ["two"] });
      assert.equal(stopped.choices[0].message.content, echo("one "));
      assert.equal(stopped.choices[0].finish_reason, "stop");
      const cut = await create(model, [user("hi")], { max_completion_tokens: 3 });
      assert.equal(cut.choices[0].message.content.trim(), "Ahoy from the");
      assert.equal(cut.choices[0].finish_reason, "length");
      assert.equal(cut.usage.completion_tokens, 3);
    });

    test("several answers, natively or refused by name", LIMIT, async () => {
      if (dialect === "openai") {
        const completion = await create(model, [user("hi")], { n: 2 });
        assert.deepEqual(
          completion.choices.map((choice) => [choice.index, choice.message.content]),
          [
            [0, echo("hi")],
            [1, echo("hi")],
          ],
        );
      } else {
        const error = await fails(OpenAI.BadRequestError, 400, create(model, [user("hi")], { n: 2 }));
        if (dialect === "anthropic") assert.equal(error.param, "n");
        else assert.match(error.message, /Multiple candidates/);
      }
    });

    test("a tool call and its result", LIMIT, async () => {
      const question = user("How is the weather?");
      const first = await create(model, [question], { tools: [WEATHER, TIDE] });
      assert.equal(first.choices[0].finish_reason, "tool_calls");
      const [call, ...others] = first.choices[0].message.tool_calls;
      assert.deepEqual(others, []);
      assert.equal(call.function.name, "get_weather");
      assert.deepEqual(JSON.parse(call.function.arguments), WEATHER_ARGUMENTS);
      const result = { role: "tool", tool_call_id: call.id, content: "fair, 12 °C" };
      const second = await create(model, [question, first.choices[0].message, result], { tools: [WEATHER, TIDE] });
      assert.equal(second.choices[0].message.content, "Back from the tools. get_weather said: fair, 12 °C");
      assert.equal(second.choices[0].finish_reason, "stop");
    });

    for (const stream of [false, true]) {
      test(`the tool runner, parallel calls, ${stream ? "streamed" : "whole"}`, LIMIT, async () => {
        const seen = [];
        const tool = (name, parameters, answer) =>
          zodFunction({
            name,
            parameters: z.object(parameters),
            function: (given) => {
              seen.push([name, given]);
              return answer;
            },
          });
        const runner = client.chat.completions.runTools({
          model,
          stream,
          messages: [user("Both in parallel.")],
          tools: [
            tool("get_weather", { city: z.enum(["Lübeck", "Genoa"]), days: z.number() }, "fair"),
            tool("get_tide", {}, "ebb"),
          ],
        });
        const text = await runner.finalContent();
        assert.match(text, /^Back from the tools\. /);
        assert.match(text, /get_weather said: fair/);
        assert.match(text, /get_tide said: ebb/);
        assert.deepEqual(seen.map(([name]) => name).sort(), ["get_tide", "get_weather"]);
        assert.equal(seen.find(([name]) => name === "get_weather")[1].city, "Lübeck");
      });
    }

    test("tool choice", LIMIT, async () => {
      const named = { type: "function", function: { name: "get_tide" } };
      const one = await create(model, [user("hi")], { tools: [WEATHER, TIDE], tool_choice: named });
      assert.deepEqual(
        one.choices[0].message.tool_calls.map((call) => call.function.name),
        ["get_tide"],
      );
      const none = await create(model, [user("hi")], { tools: [WEATHER, TIDE], tool_choice: "none" });
      assert.equal(none.choices[0].message.content, echo("hi"));
    });

    test("images", LIMIT, async () => {
      for (const [url, seen] of [
        [`data:image/png;base64,${PNG}`, "image/png"],
        ["https://example.com/harbour.jpg", "by URL"],
      ]) {
        const parts = [
          { type: "text", text: "What is it?" },
          { type: "image_url", image_url: { url } },
        ];
        const completion = await create(model, [user(parts)]);
        assert.equal(
          completion.choices[0].message.content,
          `Ahoy from the sandbox! I see 1 image (${seen}). You said: What is it?`,
        );
        assert.equal(completion.usage.prompt_tokens, 3 + 85);
      }
    });

    const Harbour = z.object({
      city: z.enum(["Lübeck", "Genoa"]),
      open: z.boolean(),
      lights: z.array(z.object({ name: z.literal("Arkona"), colour: z.string().nullable() })),
    });

    test("structured output", LIMIT, async () => {
      const form = zodResponseFormat(Harbour, "harbour");
      const completion = await client.chat.completions.parse({ model, messages: [user("hi")], response_format: form });
      const harbour = completion.choices[0].message.parsed;
      assert.deepEqual([harbour.city, harbour.open, harbour.lights[0].name], ["Lübeck", true, "Arkona"]);
      assert.deepEqual(harbour, JSON.parse(completion.choices[0].message.content));
      assert.equal(completion.choices[0].finish_reason, "stop");

      const stream = client.chat.completions.stream({ model, messages: [user("hi")], response_format: form });
      assert.deepEqual((await stream.finalChatCompletion()).choices[0].message.parsed, harbour);
    });

    test("thoughts, and the second turn that brings them back", LIMIT, async () => {
      const question = user("Think about it.");
      const effort = { reasoning_effort: "medium" };
      const thought = "Turn 1 brought 3 tokens. An echo will do; no storm in sight.";
      const whole = await create(model, [question], effort);
      assert.equal(whole.choices[0].message.reasoning_content, thought);
      assert.equal(whole.usage.completion_tokens_details.reasoning_tokens, tokens(thought));

      const streamed = { role: "assistant", content: "", reasoning_content: "", reasoning_details: [] };
      for await (const chunk of await create(model, [question], { ...effort, stream: true })) {
        const { content, reasoning_content, reasoning_details } = chunk.choices[0].delta;
        streamed.content += content ?? "";
        streamed.reasoning_content += reasoning_content ?? "";
        for (const { index, text, ...more } of reasoning_details ?? []) {
          const entry = (streamed.reasoning_details[index] ??= { index });
          if (text) entry.text = (entry.text ?? "") + text;
          Object.assign(entry, more);
        }
      }
      assert.equal(streamed.reasoning_content, thought);
      assert.equal(streamed.content, echo("Think about it."));

      for (const message of [whole.choices[0].message, streamed]) {
        const next = [question, message, user("And again.")];
        const second = await create(model, next, effort);
        assert.equal(second.choices[0].message.content, "Ahoy from the sandbox! Turn 2. You said: And again.");
        assert.match(second.choices[0].message.reasoning_content, /^Turn 2 brought 2 tokens\./);
        if (dialect === "openai") continue;
        // The sandbox refuses a signature that is not its own, so those above came back as they were.
        const forged = structuredClone(message);
        const signed = forged.reasoning_details.filter((detail) => detail.signature);
        assert.ok(signed.length > 0);
        for (const detail of signed) detail.signature = `AAAA${detail.signature.slice(4)}`;
        const error = await fails(
          OpenAI.BadRequestError,
          400,
          create(model, [question, forged, user("And again.")], effort),
        );
        assert.match(error.message, /signature/i);
      }

      // Through a tool.
      const first = await create(model, [question], { ...effort, tools: [WEATHER] });
      const [call] = first.choices[0].message.tool_calls;
      const result = { role: "tool", tool_call_id: call.id, content: "fair" };
      const back = await create(model, [question, first.choices[0].message, result], { ...effort, tools: [WEATHER] });
      assert.equal(back.choices[0].message.content, "Back from the tools. get_weather said: fair");
      assert.equal(back.choices[0].message.reasoning_content, thought);
    });

    test("the helpers keep only the last piece of a thought, and the conversation goes on", LIMIT, async () => {
      const messages = [user("Think about it.")];
      const effort = { model, reasoning_effort: "medium" };
      const first = await client.chat.completions.stream({ ...effort, messages }).finalChatCompletion();
      const next = [...messages, first.choices[0].message, user("And again.")];
      const second = await client.chat.completions.create({ ...effort, messages: next });
      assert.equal(second.choices[0].message.content, "Ahoy from the sandbox! Turn 2. You said: And again.");
      const tide = zodFunction({ name: "get_tide", parameters: z.object({}), function: () => "ebb" });
      const runner = client.chat.completions.runTools({ ...effort, messages, stream: true, tools: [tide] });
      assert.equal(await runner.finalContent(), "Back from the tools. get_tide said: ebb");
    });

    test("headers", LIMIT, async () => {
      const { data, response, request_id } = await client.chat.completions
        .create({ model, messages: [user("hi")] })
        .withResponse();
      assert.equal(data.choices[0].message.content, echo("hi"));
      const header = (name) => response.headers.get(name);
      assert.equal(header("x-portolan-provider"), dialect);
      assert.equal(header("x-portolan-model"), model);
      assert.equal(header("x-portolan-attempts"), "1");
      assert.equal(request_id, header("x-request-id"));
      assert.ok(header("x-portolan-request-id").length >= 32);
      const want = (data.usage.prompt_tokens + 2 * data.usage.completion_tokens) / 1e6;
      assert.ok(Math.abs(Number(header("x-portolan-cost-usd")) - want) < 1e-9);
      if (dialect !== "openai") assert.ok(Math.abs(data.cost_usd - want) < 1e-9);
    });

    for (const stream of [false, true]) {
      const kind = stream ? "streamed" : "whole";
      test(`typed errors, ${kind}`, LIMIT, async () => {
        for (const [behaviour, type, status] of [
          ["sandbox-fail-400", OpenAI.BadRequestError, 400],
          ["unheard-of", OpenAI.NotFoundError, 404],
          ["sandbox-429-7", OpenAI.RateLimitError, 429],
          ["sandbox-fail-500", OpenAI.InternalServerError, 500],
          ["sandbox-fail-503", OpenAI.InternalServerError, 503],
          ["sandbox-fail-401", OpenAI.InternalServerError, 502],
          ["sandbox-garbage", OpenAI.InternalServerError, 502],
          ["sandbox-reset", OpenAI.InternalServerError, 502],
          ["hasty", OpenAI.InternalServerError, 504],
        ]) {
          const error = await fails(type, status, create(`${dialect}-${behaviour}`, [user("hi")], { stream }));
          if (status === 429) {
            assert.equal(error.code, "rate_limit_exceeded");
            assert.equal(error.headers.get("retry-after"), "7");
          }
        }
      });

      test(`failover, ${kind}`, LIMIT, async () => {
        for (const other of DIALECTS) {
          const { data, response } = await client.chat.completions
            .create({
              model: `${dialect}-sandbox-fail-500`,
              messages: [user("hi")],
              stream,
              fallback: [`${other}-sandbox`],
              tags: { from: dialect },
            })
            .withResponse();
          assert.equal(response.headers.get("x-portolan-attempts"), "2");
          assert.equal(response.headers.get("x-portolan-provider"), other);
          const text = stream ? (await collect(data)).text : data.choices[0].message.content;
          assert.equal(text, echo("hi"));
        }
      });
    }

    test("errors within a stream", LIMIT, async () => {
      for (const [behaviour, code] of [
        ["error-mid", undefined],
        ["cut-9", "truncated"],
      ]) {
        let text = "";
        let error;
        try {
          const stream = await create(`${model}-${behaviour}`, [user("one two three four")], { stream: true });
          for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
        } catch (thrown) {
          error = thrown;
        }
        assert.ok(error instanceof OpenAI.APIError, `${behaviour}: ${error}`);
        assert.equal(error.status, undefined);
        if (code) assert.equal(error.code, code);
        else assert.match(error.message, /overloaded/);
        assert.ok(text.length > 0 && echo("one two three four").startsWith(text));
      }
    });

    test("time", LIMIT, async () => {
      const started = Date.now();
      const slow = { model: `${dialect}-sandbox-slow-3000`, messages: [user("hi")] };
      await assert.rejects(
        client.chat.completions.create(slow, { timeout: 400 }),
        (error) => error instanceof OpenAI.APIConnectionTimeoutError,
      );
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 200);
      await assert.rejects(
        client.chat.completions.create(slow, { signal: controller.signal }),
        (error) => error instanceof OpenAI.APIUserAbortError,
      );
      const late = await fails(
        OpenAI.InternalServerError,
        504,
        client.chat.completions.create({ ...slow, timeout: 0.4 }),
      );
      assert.equal(late.code, "deadline_exceeded");
      assert.ok(Date.now() - started < 2_800);
    });

    test("its own retries", LIMIT, async () => {
      const patient = client.withOptions({ maxRetries: 2 });
      for (const stream of [false, true]) {
        const answer = await patient.chat.completions.create({
          model: `${dialect}-sandbox-flaky-2`,
          messages: [user("hi")],
          stream,
        });
        const text = stream ? (await collect(answer)).text : answer.choices[0].message.content;
        assert.equal(text, echo("hi"));
      }
      const started = Date.now();
      await fails(
        OpenAI.RateLimitError,
        429,
        client
          .withOptions({ maxRetries: 1 })
          .chat.completions.create({ model: `${dialect}-sandbox-429-1`, messages: [user("hi")] }),
      );
      assert.ok(Date.now() - started >= 900, "the stated second is waited for");
    });

    test("a prompt of a megabyte", LIMIT, async () => {
      const text = "wave ".repeat(200_000) + "end";
      const completion = await create(model, [user(text)]);
      assert.equal(completion.usage.prompt_tokens, 200_001);
      assert.equal(completion.choices[0].message.content, echo(`${text.slice(0, 4000)}…`));
    });
  });
}

describe("any dialect", () => {
  test("keys", LIMIT, async () => {
    const nobody = new OpenAI({ baseURL, apiKey: "pk-nobody", maxRetries: 0 });
    const call = (asking) => asking.chat.completions.create({ model: "openai-sandbox", messages: [user("hi")] });
    const bad = await fails(OpenAI.AuthenticationError, 401, call(nobody));
    assert.equal(bad.code, "invalid_api_key");
    const narrow = new OpenAI({ baseURL, apiKey: process.env.PORTOLAN_NARROW_KEY, maxRetries: 0 });
    const forbidden = await fails(
      OpenAI.PermissionDeniedError,
      403,
      narrow.chat.completions.create({ model: "gemini-sandbox", messages: [user("hi")] }),
    );
    assert.deepEqual([forbidden.code, forbidden.param], ["model_not_allowed", "model"]);
  });

  test("models", LIMIT, async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    for (const dialect of DIALECTS) assert.ok(ids.includes(`${dialect}-sandbox`));
    assert.equal((await client.models.retrieve("gemini-sandbox")).id, "gemini-sandbox");
    const unknown = await fails(OpenAI.NotFoundError, 404, create("no-such-model", [user("hi")]));
    assert.deepEqual([unknown.code, unknown.param], ["model_not_found", "model"]);
  });

  test("many at once", LIMIT, async () => {
    const calls = Array.from({ length: 60 }, async (_, number) => {
      const [model, said] = [`${DIALECTS[number % 3]}-sandbox`, `call number ${number}`];
      const answer = await create(model, [user(said)], { stream: number % 2 === 1 });
      const text = number % 2 ? (await collect(answer)).text : answer.choices[0].message.content;
      assert.equal(text, echo(said));
    });
    assert.equal((await Promise.all(calls)).length, 60);
  });
});
