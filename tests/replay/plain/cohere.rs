//! Cohere's chat, second version.

use serde_json::{Value, json};

use super::{Answer, Call, Counts, Finish, events, items, members, says, string};

/// A whole answer.
pub fn whole(body: &Value) -> Answer {
    let mut answer = Answer { id: string(&body["id"]), whole: true, ..Answer::default() };
    let message = &body["message"];
    let choice = answer.choice(0);
    choice.reasoning.push_str(&string(&message["tool_plan"]));
    choice.text.push_str(&string(&message["content"]));
    for part in items(&message["content"]) {
        choice.text.push_str(&string(&part["text"]));
        choice.reasoning.push_str(&string(&part["thinking"]));
    }
    for call in items(&message["tool_calls"]) {
        let function = &call["function"];
        let arguments = match &function["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        choice.calls.push(Call { id: string(&call["id"]), name: string(&function["name"]), arguments });
    }
    choice.finish = match body["finish_reason"].as_str() {
        Some("COMPLETE" | "STOP_SEQUENCE") => Finish::as_is("stop"),
        Some("MAX_TOKENS") => Finish::as_is("length"),
        Some("TOOL_CALL") => Finish::as_is("tool_calls"),
        Some("ERROR" | "TIMEOUT") | None => None,
        Some(word) => panic!("a finish reason that this reading does not know: {word}"),
    };
    if let Some("ERROR" | "TIMEOUT") = body["finish_reason"].as_str() {
        answer.error = Some(json!({"message": body["error"].as_str().unwrap_or("")}));
    }
    answer.note("content.citations", &message["citations"]);
    for (name, value) in members(body) {
        if !["id", "message", "finish_reason", "usage", "logprobs", "error"].contains(&name.as_str()) {
            answer.note(name.as_str(), value);
        }
    }
    answer.usage = counts(&body["usage"]);
    answer
}

/// A streamed answer, put together and read as a whole one.
pub fn stream(text: &str) -> Answer {
    let mut body = json!({"message": {"content": [], "tool_calls": [], "citations": []}});
    let mut ended = false;
    let at = |event: &Value| event["index"].as_u64().unwrap_or(0) as usize;
    for (_, data) in events(text) {
        if data.trim() == "[DONE]" {
            continue;
        }
        let event: Value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
        let message = &event["delta"]["message"];
        let ours = &mut body["message"];
        match event["type"].as_str().unwrap() {
            "message-start" => body["id"] = event["id"].clone(),
            "content-start" => push(&mut ours["content"], at(&event), &message["content"]),
            "content-delta" => {
                for name in ["text", "thinking"] {
                    append(&mut ours["content"][at(&event)][name], &message["content"][name]);
                }
            }
            "tool-plan-delta" => append(&mut ours["tool_plan"], &message["tool_plan"]),
            "tool-call-start" => push(&mut ours["tool_calls"], at(&event), &message["tool_calls"]),
            "tool-call-delta" => append(
                &mut ours["tool_calls"][at(&event)]["function"]["arguments"],
                &message["tool_calls"]["function"]["arguments"],
            ),
            "citation-start" => ours["citations"].as_array_mut().unwrap().push(message["citations"].clone()),
            "content-end" | "tool-call-end" | "citation-end" => {}
            "message-end" => {
                ended = true;
                for name in ["finish_reason", "usage", "error"] {
                    body[name] = event["delta"][name].clone();
                }
            }
            other => panic!("an event that this reading does not know: {other}"),
        }
    }
    let mut answer = whole(&body);
    answer.whole = ended && answer.error.is_none();
    answer
}

fn push(list: &mut Value, at: usize, item: &Value) {
    let list = list.as_array_mut().unwrap();
    while list.len() <= at {
        list.push(json!({}));
    }
    list[at] = item.clone();
}

fn append(to: &mut Value, piece: &Value) {
    if says(piece) {
        *to = Value::String(string(to) + piece.as_str().unwrap());
    }
}

/// What is billed counts, and what the model read and wrote where no bill is stated; what was cached is part of the latter
/// alone. Images stand beside the input.
fn counts(usage: &Value) -> Option<Counts> {
    let said = |name: &str| ["input_tokens", "output_tokens"].iter().any(|part| usage[name][*part].is_number());
    let name = ["billed_units", "tokens"].into_iter().find(|name| said(name))?;
    let of = &usage[name];
    let n = |value: &Value| value.as_f64().unwrap_or(0.0) as u64;
    let prompt = n(&of["input_tokens"]) + n(&of["image_tokens"]);
    let completion = n(&of["output_tokens"]);
    let thought = n(&usage["tokens"]["reasoning_tokens"]).min(completion);
    Some(Counts {
        prompt,
        completion,
        total: prompt + completion,
        cached: if name == "tokens" { n(&usage["cached_tokens"]).min(prompt) } else { 0 },
        reasoning: n(&of["reasoning_tokens"]).max(thought),
        ..Counts::default()
    })
}
