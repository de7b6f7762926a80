//! Our own answers, held to the shape that OpenAI's SDKs expect while they are read.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Answer, Call, Choice, Counts, Finish, events, items, says, string};

const WORDS: [&str; 5] = ["stop", "length", "tool_calls", "content_filter", "error"];

macro_rules! rule {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

/// A whole answer.
///
/// # Errors
/// It has not the shape of a `chat.completion`.
pub fn whole(body: &Value) -> Result<Answer, String> {
    rule!(body["object"] == "chat.completion", "`object` is {}", body["object"]);
    rule!(body["id"].is_string() && body["model"].is_string() && body["created"].is_u64(), "id, model or created");
    rule!(body["choices"].is_array(), "no list of choices");
    let mut answer =
        Answer { id: string(&body["id"]), model: string(&body["model"]), whole: true, ..Answer::default() };
    for said in items(&body["choices"]) {
        let message = &said["message"];
        rule!(message["role"] == "assistant", "role {}", message["role"]);
        rule!(message.get("content").is_some_and(|text| text.is_string() || text.is_null()), "content");
        rule!(message.get("refusal").is_some_and(|text| text.is_string() || text.is_null()), "refusal");
        rule!(said.get("logprobs").is_some(), "no logprobs");
        let index = said["index"].as_u64().ok_or("a choice without an index")?;
        let choice = answer.choice(index);
        said_by(choice, message);
        for call in items(&message["tool_calls"]) {
            if call["type"] == "custom" {
                let custom = &call["custom"];
                rule!(says(&call["id"]) && custom["name"].is_string() && custom["input"].is_string(), "a call: {call}");
                choice.calls.push(Call {
                    id: string(&call["id"]),
                    name: string(&custom["name"]),
                    arguments: string(&custom["input"]),
                });
                continue;
            }
            rule!(call["type"] == "function", "type of a call: {}", call["type"]);
            rule!(says(&call["id"]) && call["function"]["name"].is_string(), "a call lacks id or name: {call}");
            rule!(call["function"]["arguments"].is_string(), "arguments of a call: {call}");
            choice.calls.push(Call {
                id: string(&call["id"]),
                name: string(&call["function"]["name"]),
                arguments: string(&call["function"]["arguments"]),
            });
            proof(choice, call);
        }
        choice.logprobs.extend(super::chat::logprobs(said));
        choice.finish = finish(&said["finish_reason"])?;
    }
    answer.usage = usage(&body["usage"])?;
    Ok(answer)
}

/// A streamed answer. `include_usage` is what was asked for.
///
/// # Errors
/// It has not the shape of a stream of `chat.completion.chunk`s.
pub fn stream(text: &str, include_usage: bool) -> Result<Answer, String> {
    let mut answer = Answer::default();
    let mut begun: BTreeMap<u64, bool> = BTreeMap::new();
    let mut head = None;
    for (name, data) in events(text) {
        rule!(!answer.whole, "something follows the end: {data}");
        if data == "[DONE]" {
            answer.whole = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        if says(&chunk["error"]) {
            answer.error = Some(chunk["error"].clone());
            continue;
        }
        rule!(name.is_empty(), "an event has a name: {name}");
        rule!(chunk["object"] == "chat.completion.chunk", "`object` is {}", chunk["object"]);
        rule!(chunk["created"].is_u64() && chunk["id"].is_string(), "created or id");
        let now = [&chunk["id"], &chunk["model"], &chunk["created"]].map(Value::to_string);
        rule!(head.get_or_insert_with(|| now.clone()) == &now, "chunks differ in id, model or created");
        answer.id = string(&chunk["id"]);
        answer.model = string(&chunk["model"]);
        rule!(answer.usage.is_none(), "something follows the usage");
        rule!(chunk.get("usage").is_some() == include_usage, "usage asked for: {include_usage}, chunk {chunk}");
        answer.usage = usage(&chunk["usage"])?;
        rule!(chunk["choices"].is_array(), "no list of choices");
        rule!(answer.usage.is_none() || chunk["choices"] == serde_json::json!([]), "usage beside choices");
        for said in items(&chunk["choices"]) {
            let index = said["index"].as_u64().ok_or("a choice without an index")?;
            let delta = &said["delta"];
            rule!(delta.is_object() && said.get("finish_reason").is_some(), "a choice of a chunk: {said}");
            let is_first = !std::mem::replace(begun.entry(index).or_default(), true);
            rule!(is_first == (delta["role"] == "assistant"), "the role is told first, and once: {said}");
            let choice = answer.choice(index);
            rule!(choice.finish.is_none(), "a choice goes on after its finish: {said}");
            said_by(choice, delta);
            for piece in items(&delta["tool_calls"]) {
                call_piece(choice, piece)?;
            }
            choice.logprobs.extend(super::chat::logprobs(said));
            if !said["finish_reason"].is_null() {
                choice.finish = finish(&said["finish_reason"])?;
            }
        }
    }
    if answer.whole && answer.error.is_none() {
        rule!(answer.choices.values().all(|choice| choice.finish.is_some()), "a choice has no finish");
        rule!(!answer.choices.is_empty(), "no choice at all");
    }
    Ok(answer)
}

fn said_by(choice: &mut Choice, from: &Value) {
    choice.text.push_str(&string(&from["content"]));
    choice.refusal.push_str(&string(&from["refusal"]));
    choice.reasoning.push_str(&string(&from["reasoning_content"]));
    for detail in items(&from["reasoning_details"]) {
        for name in ["signature", "data"] {
            choice.proofs.extend(detail[name].as_str().map(str::to_owned));
        }
    }
    proof(choice, from);
    choice.images.extend(items(&from["images"]).map(|image| string(&image["image_url"]["url"])));
    choice.annotations.extend(items(&from["annotations"]).cloned());
    if from["audio"].is_object() {
        choice.audio = Some(from["audio"].clone());
    }
}

fn proof(choice: &mut Choice, from: &Value) {
    choice.proofs.extend(from["extra_content"]["google"]["thought_signature"].as_str().map(str::to_owned));
}

fn call_piece(choice: &mut Choice, piece: &Value) -> Result<(), String> {
    let index = piece["index"].as_u64().ok_or("a piece of a call without an index")? as usize;
    let custom = piece["custom"].is_object();
    let function = &piece[if custom { "custom" } else { "function" }];
    if index == choice.calls.len() {
        let typed = piece["type"] == "function" || piece["custom"].is_object();
        rule!(says(&piece["id"]) && typed && says(&function["name"]), "a call begins: {piece}");
        choice.calls.push(Call { id: string(&piece["id"]), name: string(&function["name"]), arguments: String::new() });
    } else {
        rule!(index + 1 == choice.calls.len(), "a piece of a call out of its order: {piece}");
        rule!(piece["id"].is_null() && function["name"].is_null(), "a call is named twice: {piece}");
    }
    choice.calls[index].arguments.push_str(&string(&function[if custom { "input" } else { "arguments" }]));
    proof(choice, piece);
    Ok(())
}

fn finish(word: &Value) -> Result<Option<Finish>, String> {
    let known = WORDS.into_iter().find(|known| word == known);
    known.map(Finish::as_is).ok_or_else(|| format!("finish reason {word}"))
}

pub fn usage(usage: &Value) -> Result<Option<Counts>, String> {
    if usage.is_null() {
        return Ok(None);
    }
    let n = |value: &Value| value.as_u64().ok_or_else(|| format!("a count of {usage}"));
    // Members that OpenAI does not have are there only if they count something.
    let other = |value: &Value| if value.is_null() { Ok(0) } else { n(value) };
    let (prompt, completion) = (&usage["prompt_tokens_details"], &usage["completion_tokens_details"]);
    let written_1h = other(&usage["cache_creation"]["ephemeral_1h_input_tokens"])?;
    Ok(Some(Counts {
        prompt: n(&usage["prompt_tokens"])?,
        completion: n(&usage["completion_tokens"])?,
        total: n(&usage["total_tokens"])?,
        cached: n(&prompt["cached_tokens"])?,
        written: other(&prompt["cache_write_tokens"])? - written_1h,
        written_1h,
        audio_in: n(&prompt["audio_tokens"])?,
        reasoning: n(&completion["reasoning_tokens"])?,
        audio_out: n(&completion["audio_tokens"])?,
        searches: other(&usage["server_tool_use"]["web_search_requests"])?,
    }))
}
