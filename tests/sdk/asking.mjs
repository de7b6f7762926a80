// What the npm SDKs' tests share: the gateway under test, and the scripted upstream behind it (upstream.py).

import assert from "node:assert/strict";

const { PORTOLAN_URL, PORTOLAN_KEY, UPSTREAM_URL } = process.env;
assert.ok(PORTOLAN_URL && PORTOLAN_KEY && UPSTREAM_URL, "tests/sdk/run sets these");

export const baseURL = PORTOLAN_URL;
export const root = PORTOLAN_URL.replace(/\/v1$/, "");
export const apiKey = PORTOLAN_KEY;
export const LIMIT = { timeout: 30_000 };

export const PROVIDERS = ["chat", "messages", "gemini", "responses", "bedrock", "cohere", "ollama"];
// Those that sign thoughts and want them back as they were.
export const SIGNING = ["messages", "gemini", "responses", "bedrock"];
export const SIGNATURE = Buffer.from("signed by the upstream \xff\x00\x7f".repeat(3), "latin1").toString("base64");
export const THOUGHT = "Let me think about the harbour.";
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==";
export const UNICODE = 'Grüße, 世界 🌍🏽 "quoted" \\ back\\slash\t\u0001 \u2028 נמל';
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string", enum: ["Lübeck", "Genoa"] }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};
// What the upstream fills it with.
export const ARGUMENTS = { city: "Lübeck", days: 1 };
export const WORDS = "one two three four five six";

/** What the upstream was asked since the last time, as it read it. */
export async function seen() {
  return (await fetch(`${UPSTREAM_URL}/seen`)).json();
}

/** What a call throws. */
export async function thrown(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  assert.fail("nothing was thrown");
}

export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
