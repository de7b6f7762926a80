//! Anthropic Messages.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Answer, Call, Choice, Counts, Finish, events, items, members, string};

/// Members that are read here, or that say nothing to a caller.
const TOP: [&str; 8] = ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"];

/// A whole answer.
pub fn whole(body: &Value) -> Answer {
    let mut answer = Answer { whole: true, ..Answer::default() };
    begin(&mut answer, body);
    let mut usage = BTreeMap::new();
    count(&mut usage, &body["usage"]);
    answer.usage = counts(&usage, &body["usage"]["iterations"]);
    let choice = answer.choices.entry(0).or_default();
    choice.finish = finish(&body["stop_reason"]);
    answer
}

/// A streamed answer.
pub fn stream(text: &str) -> Answer {
    let mut answer = Answer::default();
    let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
    let mut usage = BTreeMap::new();
    let mut iterations = Value::Null;
    let mut word = Value::Null;
    for (_, data) in events(text) {
        if data == "[DONE]" {
            continue;
        }
        let event: Value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
        let block = blocks.entry(event["index"].as_u64().unwrap_or(u64::MAX)).or_default();
        match event["type"].as_str().unwrap() {
            "message_start" => {
                begin(&mut answer, &event["message"]);
                count(&mut usage, &event["message"]["usage"]);
                word = event["message"]["stop_reason"].clone();
            }
            "content_block_start" => *block = event["content_block"].clone(),
            "content_block_delta" => {
                let delta = &event["delta"];
                let (member, piece) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("text", &delta["text"]),
                    "thinking_delta" => ("thinking", &delta["thinking"]),
                    "signature_delta" => ("signature", &delta["signature"]),
                    "input_json_delta" => ("pieces", &delta["partial_json"]),
                    "citations_delta" => {
                        answer.note("content.citations", &delta["citation"]);
                        continue;
                    }
                    "compaction_delta" => {
                        block["content"] = delta["content"].clone();
                        continue;
                    }
                    other => panic!("a delta that this reading does not know: {other}"),
                };
                let text = string(&block[member]) + piece.as_str().unwrap();
                block[member] = Value::String(text);
            }
            "message_delta" => {
                for (name, value) in members(&event["delta"]).filter(|(name, _)| !TOP.contains(&name.as_str())) {
                    answer.note(name.as_str(), value);
                }
                for (name, value) in members(&event).filter(|(name, _)| !["delta", "usage", "type"].contains(&&***name))
                {
                    answer.note(name.as_str(), value);
                }
                count(&mut usage, &event["usage"]);
                iterations = event["usage"]["iterations"].clone();
                word = event["delta"]["stop_reason"].clone();
            }
            "message_stop" => answer.whole = true,
            "ping" | "content_block_stop" => {}
            other => panic!("an event that this reading does not know: {other}"),
        }
    }
    blocks.remove(&u64::MAX);
    for mut block in blocks.into_values() {
        let pieces = string(&block["pieces"]);
        if !pieces.is_empty() {
            let json = serde_json::from_str(&pieces).ok().filter(|_| block["type"] != "tool_use");
            block["input"] = json.unwrap_or(Value::String(pieces));
        }
        if let Some(members) = block.as_object_mut() {
            members.remove("pieces");
        }
        self::block(&mut answer, &block);
    }
    answer.usage = counts(&usage, &iterations);
    let choice = answer.choices.entry(0).or_default();
    choice.finish = finish(&word);
    answer
}

fn begin(answer: &mut Answer, message: &Value) {
    answer.id = string(&message["id"]);
    answer.model = string(&message["model"]);
    for (name, value) in members(message).filter(|(name, _)| !TOP.contains(&name.as_str())) {
        answer.note(name.as_str(), value);
    }
    for block in items(&message["content"]) {
        self::block(answer, block);
    }
}

fn block(answer: &mut Answer, block: &Value) {
    let choice: &mut Choice = answer.choice(0);
    match block["type"].as_str().unwrap() {
        "text" => {
            choice.text.push_str(block["text"].as_str().unwrap());
            answer.note("content.citations", &block["citations"]);
        }
        "thinking" => {
            choice.reasoning.push_str(block["thinking"].as_str().unwrap());
            choice.proofs.extend(block["signature"].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        }
        "redacted_thinking" => {
            choice.proofs.insert(string(&block["data"]));
        }
        "tool_use" => {
            let arguments = match &block["input"] {
                // Joined from the pieces of a stream.
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            choice.calls.push(Call { id: string(&block["id"]), name: string(&block["name"]), arguments });
            // What newer models say of every call that they make themselves.
            if block["caller"]["type"] != "direct" {
                answer.note("content.caller", &block["caller"]);
            }
        }
        // What the provider's own tools were asked and said has no place in Chat Completions.
        other => answer.note(format!("content.{other}"), block),
    }
}

/// `null` is what a stream says that broke off.
fn finish(word: &Value) -> Option<Finish> {
    match word.as_str() {
        Some("end_turn" | "stop_sequence") => Finish::as_is("stop"),
        Some("max_tokens") => Finish::as_is("length"),
        Some("tool_use") => Finish::as_is("tool_calls"),
        Some("refusal") => Finish::as_is("content_filter"),
        Some("pause_turn") => Finish::less("stop"),
        None => None,
        Some(word) => panic!("a finish reason that this reading does not know: {word}"),
    }
}

/// Counts of a stream are cumulative: the last one stated holds.
fn count(counts: &mut BTreeMap<&'static str, u64>, usage: &Value) {
    for name in ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"] {
        if let Some(n) = usage[name].as_u64() {
            counts.insert(name, n);
        }
    }
    for (name, value) in [
        ("thinking", &usage["output_tokens_details"]["thinking_tokens"]),
        ("hour", &usage["cache_creation"]["ephemeral_1h_input_tokens"]),
        ("searches", &usage["server_tool_use"]["web_search_requests"]),
    ] {
        if let Some(n) = value.as_u64() {
            counts.insert(name, n);
        }
    }
}

/// What was read from and written to the cache is counted beside the fresh input. What a compaction used is told in
/// `iterations` alone, and billed.
fn counts(usage: &BTreeMap<&'static str, u64>, iterations: &Value) -> Option<Counts> {
    if usage.is_empty() {
        return None;
    }
    let mut sum = usage.clone();
    for iteration in items(iterations).filter(|iteration| iteration["type"] == "compaction") {
        let mut more = BTreeMap::new();
        count(&mut more, iteration);
        for (name, n) in more {
            *sum.entry(name).or_default() += n;
        }
    }
    let n = |name| sum.get(name).copied().unwrap_or(0);
    let prompt = n("input_tokens") + n("cache_creation_input_tokens") + n("cache_read_input_tokens");
    Some(Counts {
        prompt,
        completion: n("output_tokens"),
        total: prompt + n("output_tokens"),
        cached: n("cache_read_input_tokens"),
        written: n("cache_creation_input_tokens") - n("hour"),
        written_1h: n("hour"),
        reasoning: n("thinking"),
        searches: n("searches"),
        ..Counts::default()
    })
}

/// Holds a whole answer of ours to what the SDKs' types demand.
///
/// # Errors
/// A member is missing or of another kind.
pub fn shaped(body: &Value) -> Result<(), String> {
    let counted = body["usage"]["input_tokens"].is_u64() && body["usage"]["output_tokens"].is_u64();
    let named = body["type"] == "message" && body["role"] == "assistant" && string(&body["id"]).starts_with("msg_");
    if !counted || !named || !body["content"].is_array() || body.get("stop_sequence").is_none() {
        return Err(format!("not a message: {body}"));
    }
    Ok(())
}

/// A streamed answer of ours: every event in its place.
///
/// # Errors
/// The order does not hold.
pub fn ours(text: &str) -> Result<Answer, String> {
    let (mut open, mut next, mut started, mut ending, mut ended) = (None, 0, false, false, false);
    for (name, data) in events(text) {
        let event: Value = serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        let kind = event["type"].as_str().unwrap_or_default();
        let index = event["index"].as_u64();
        let holds = name == kind
            && !ended
            && match kind {
                "message_start" => {
                    shaped(&event["message"])?;
                    !std::mem::replace(&mut started, true)
                }
                "content_block_start" => {
                    let holds = started && !ending && open.is_none() && index == Some(next);
                    (open, next) = (index, next + 1);
                    holds
                }
                "content_block_delta" => open.is_some() && open == index,
                "content_block_stop" => index.is_some() && open.take() == index,
                "message_delta" => {
                    ending = true;
                    started && open.is_none() && event["delta"]["stop_reason"].is_string()
                }
                "message_stop" => {
                    ended = true;
                    ending
                }
                "ping" => true,
                _ => false,
            };
        if !holds {
            return Err(format!("out of order: {event}"));
        }
    }
    Ok(stream(text))
}
