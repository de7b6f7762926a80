//! Bedrock's Converse.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::super::recordings::binary_events;
use super::{Answer, Call, Counts, Finish, items, members, string};

/// Members that are read here, or that say nothing to a caller.
const TOP: [&str; 6] = ["output", "stopReason", "usage", "metrics", "serviceTier", "performanceConfig"];

/// A whole answer.
pub fn whole(body: &Value) -> Answer {
    let mut answer = Answer { whole: true, ..Answer::default() };
    answer.choice(0);
    items(&body["output"]["message"]["content"]).for_each(|block| self::block(&mut answer, block));
    for (name, value) in members(body).filter(|(name, _)| !TOP.contains(&name.as_str())) {
        answer.note(name.as_str(), value);
    }
    answer.model = string(&body["trace"]["promptRouter"]["invokedModelId"]);
    answer.usage = counts(&body["usage"]);
    answer.choice(0).finish = finish(body["stopReason"].as_str());
    answer
}

/// A streamed answer.
pub fn stream(bytes: &[u8]) -> Answer {
    let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
    let mut body = json!({});
    let mut error = None;
    for (name, payload) in binary_events(bytes) {
        let event: Value = serde_json::from_slice(payload).unwrap();
        let index = event["contentBlockIndex"].as_u64().unwrap_or_default();
        match name.as_str() {
            "messageStart" | "contentBlockStop" => {}
            "contentBlockStart" => {
                let mut start = event["start"].clone();
                if start["toolUse"].is_object() {
                    start["toolUse"]["input"] = "".into();
                }
                blocks.insert(index, start);
            }
            "contentBlockDelta" => {
                let block = blocks.entry(index).or_insert_with(|| json!({}));
                for (name, delta) in members(&event["delta"]) {
                    match name.as_str() {
                        "text" => append(&mut block["text"], delta),
                        "toolUse" => append(&mut block["toolUse"]["input"], &delta["input"]),
                        "reasoningContent" if delta["redactedContent"].is_string() => {
                            append(&mut block["reasoningContent"]["redactedContent"], &delta["redactedContent"]);
                        }
                        "reasoningContent" => {
                            for (name, piece) in members(delta) {
                                append(&mut block["reasoningContent"]["reasoningText"][name], piece);
                            }
                        }
                        "citation" => block["citation"] = delta.clone(),
                        other => block[other] = delta.clone(),
                    }
                }
            }
            "messageStop" => body["stopReason"] = event["stopReason"].clone(),
            "metadata" => {
                for (name, value) in members(&event).filter(|(name, _)| *name != "p") {
                    body[name] = value.clone();
                }
            }
            other if other.ends_with("Exception") => error = Some(event.clone()),
            other => panic!("an event that this reading does not know: {other}"),
        }
    }
    body["output"] = json!({"message": {"content": blocks.into_values().collect::<Vec<_>>()}});
    let mut answer = whole(&body);
    answer.whole = body["stopReason"].is_string();
    answer.error = error;
    answer
}

fn append(to: &mut Value, piece: &Value) {
    *to = Value::String(string(to) + piece.as_str().unwrap());
}

fn block(answer: &mut Answer, block: &Value) {
    let choice = answer.choice(0);
    if let Some(text) = block["text"].as_str() {
        choice.text.push_str(text);
    } else if block["toolUse"].is_object() {
        let call = &block["toolUse"];
        if call["type"] == "server_tool_use" {
            return answer.note("content.server_tool_use", block);
        }
        let arguments = match &call["input"] {
            // Joined from the pieces of a stream.
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        choice.calls.push(Call { id: string(&call["toolUseId"]), name: string(&call["name"]), arguments });
    } else if block["reasoningContent"].is_object() {
        let thought = &block["reasoningContent"];
        choice.reasoning.push_str(&string(&thought["reasoningText"]["text"]));
        choice.proofs.extend(thought["reasoningText"]["signature"].as_str().map(str::to_owned));
        // Bytes, which are letters of Anthropic's own base64.
        if let Some(data) = thought["redactedContent"].as_str() {
            let plain = BASE64.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            choice.proofs.insert(plain.unwrap_or_else(|| data.to_owned()));
        }
    } else if let Some(kind) = members(block).map(|(name, _)| name.clone()).next() {
        answer.note(format!("content.{kind}"), block);
    }
}

fn finish(word: Option<&str>) -> Option<Finish> {
    match word? {
        "end_turn" | "stop_sequence" => Finish::as_is("stop"),
        "max_tokens" => Finish::as_is("length"),
        "tool_use" => Finish::as_is("tool_calls"),
        "guardrail_intervened" | "content_filtered" => Finish::as_is("content_filter"),
        word => panic!("a finish reason that this reading does not know: {word}"),
    }
}

/// What was read from and written to the cache is counted beside the input.
fn counts(usage: &Value) -> Option<Counts> {
    let n = |name: &str| usage[name].as_u64().unwrap_or(0);
    let hour = items(&usage["cacheDetails"]).filter(|detail| detail["ttl"] == "1h");
    let hour: u64 = hour.map(|detail| detail["inputTokens"].as_u64().unwrap_or(0)).sum();
    let prompt = n("inputTokens") + n("cacheReadInputTokens") + n("cacheWriteInputTokens");
    usage.is_object().then(|| Counts {
        prompt,
        completion: n("outputTokens"),
        total: usage["totalTokens"].as_u64().unwrap_or(prompt + n("outputTokens")),
        cached: n("cacheReadInputTokens"),
        written: n("cacheWriteInputTokens") - hour,
        written_1h: hour,
        ..Counts::default()
    })
}
