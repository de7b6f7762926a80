//! OpenAI Responses, as providers send it; and as we do, held to the order of events that SDKs rely on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Answer, Call, Counts, Finish, events, items, members, says, string};

/// Members that are read here, that repeat the request, or that say nothing to a caller.
const TOP: [&str; 47] = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "model",
    "status",
    "output",
    "output_text",
    "usage",
    "error",
    "incomplete_details",
    "background",
    "billing",
    "total_tokens",
    "conversation",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "verbosity",
    "include",
    "stop",
    "input",
    "stream",
    "seed",
    "context_management",
    "tool_usage",
];

/// A whole answer.
pub fn whole(body: &Value) -> Answer {
    let mut answer = Answer { id: string(&body["id"]), model: string(&body["model"]), ..Answer::default() };
    for (name, value) in members(body).filter(|(name, _)| !TOP.contains(&name.as_str())) {
        answer.note(name.as_str(), value);
    }
    answer.choice(0);
    items(&body["output"]).for_each(|item| self::item(&mut answer, item));
    answer.usage = counts(body);
    let choice = answer.choice(0);
    let status = body["status"].as_str().unwrap_or("completed");
    let why = body["incomplete_details"]["reason"].as_str();
    choice.finish = match (status, why) {
        ("completed" | "complete", _) if choice.calls.is_empty() => Finish::as_is("stop"),
        ("completed" | "complete", _) => Finish::as_is("tool_calls"),
        ("incomplete", Some("content_filter")) => Finish::as_is("content_filter"),
        ("incomplete", Some("max_output_tokens")) => Finish::as_is("length"),
        ("incomplete", why) => panic!("a reason that this reading does not know: {why:?}"),
        ("in_progress" | "queued" | "failed", _) => None,
        (status, _) => panic!("a status that this reading does not know: {status}"),
    };
    if status == "failed" {
        answer.error = Some(body["error"].clone());
    }
    answer.whole = answer.choices.values().all(|choice| choice.finish.is_some());
    answer
}

/// A streamed answer: its items as they ended, in the frame of its last word.
pub fn stream(text: &str) -> Answer {
    let (mut begun, mut done): (BTreeMap<u64, Value>, BTreeMap<u64, Value>) = Default::default();
    let mut last = Value::Null;
    let (mut error, mut id) = (None, Value::Null);
    for (name, data) in events(text) {
        let data = data.trim();
        if data == "[DONE]" || data.is_empty() {
            continue;
        }
        let event: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        match event["type"].as_str().unwrap_or(&name) {
            "response.output_item.added" => {
                begun.insert(event["output_index"].as_u64().unwrap(), event["item"].clone());
            }
            "response.output_item.done" => {
                done.insert(event["output_index"].as_u64().unwrap(), event["item"].clone());
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                last = event["response"].clone();
                // Ids of redacted recordings change on the way.
                id = if id.is_null() { last["id"].clone() } else { id };
            }
            "response.completed" | "response.incomplete" | "response.failed" => last = event["response"].clone(),
            "error" => error = Some(event.clone()),
            _ => {}
        }
    }
    // An item that never ended is told at the end of all.
    let whole_items: BTreeMap<u64, Value> = (0..).zip(items(&last["output"]).cloned()).collect();
    let mut all = if whole_items.is_empty() { begun } else { whole_items };
    all.extend(done);
    if last.is_object() {
        last["output"] = all.into_values().collect();
        last["id"] = if id.is_null() { last["id"].clone() } else { id };
    }
    let mut answer = whole(&last);
    answer.error = error.or(answer.error);
    answer.whole &= answer.error.is_none();
    answer
}

/// A streamed answer of ours: every event in its place, pieces that add up to what ends them, and ends to the whole.
///
/// # Errors
/// The order or the sums do not hold.
pub fn ours(text: &str) -> Result<Answer, String> {
    let mut open: BTreeMap<u64, Value> = BTreeMap::new();
    let mut done: Vec<Value> = Vec::new();
    let mut pieces: BTreeMap<String, String> = BTreeMap::new();
    let mut ended = Value::Null;
    let mut started = false;
    for (n, (name, data)) in events(text).into_iter().enumerate() {
        let event: Value = serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        let kind = string(&event["type"]);
        rule(name == kind, || format!("the event is called {name}, its data {kind}"))?;
        rule(event["sequence_number"].as_u64() == Some(n as u64), || format!("sequence number of event {n}: {event}"))?;
        rule(ended.is_null(), || format!("something follows the end: {event}"))?;
        rule(n > 0 || kind == "response.created", || format!("it begins with {kind}"))?;
        let index = event["output_index"].as_u64();
        let place = format!(
            "{index:?} {} {} {}",
            event["content_index"],
            event["summary_index"],
            kind.rsplit_once('.').unwrap_or_default().0
        );
        match kind.as_str() {
            "response.created" => started = true,
            "response.in_progress" => {}
            _ if kind.starts_with("response.image_generation_call.") => {}
            "response.output_item.added" => {
                rule(started && index == Some(done.len() as u64) && open.is_empty(), || format!("added: {event}"))?;
                open.insert(index.unwrap_or_default(), event["item"].clone());
            }
            "response.output_item.done" => {
                let begun = index.and_then(|index| open.remove(&index)).ok_or("an item ends that did not begin")?;
                for name in ["id", "type", "call_id", "name"] {
                    rule(begun[name] == event["item"][name], || format!("an item changed its {name}: {event}"))?;
                }
                done.push(event["item"].clone());
            }
            "response.completed" | "response.incomplete" => ended = event["response"].clone(),
            _ if kind.ends_with(".delta") => {
                rule(index.is_some_and(|index| open.contains_key(&index)), || format!("no item is open: {event}"))?;
                pieces.entry(place).or_default().push_str(&string(&event["delta"]));
            }
            _ if kind.ends_with(".done") && event["part"].is_null() => {
                let said = ["text", "arguments", "input", "refusal"].into_iter().find_map(|name| event[name].as_str());
                let told = pieces.remove(&place).unwrap_or_default();
                rule(said.is_none_or(|said| said == told || told.is_empty() && said == "{}"), || {
                    format!("pieces do not add up: {told} and {event}")
                })?;
            }
            _ if kind.ends_with(".added") || kind.ends_with(".done") => {}
            other => return Err(format!("an event of ours that nobody knows: {other}")),
        }
    }
    if ended.is_null() {
        // It broke off: what came is what ended.
        let mut answer = whole(&serde_json::json!({"status": "in_progress", "output": done}));
        let item = open.into_values().next().unwrap_or_default();
        let choice = answer.choice(0);
        if item["type"] == "function_call" {
            choice.calls.push(call(&item, "arguments"));
        }
        for (place, piece) in pieces {
            match place.rsplit(' ').next().unwrap() {
                "response.output_text" => choice.text.push_str(&piece),
                "response.refusal" => choice.refusal.push_str(&piece),
                "response.function_call_arguments" => {
                    choice.calls.last_mut().unwrap().arguments = piece;
                }
                _ => choice.reasoning.push_str(&piece),
            }
        }
        return Ok(answer);
    }
    rule(open.is_empty() && pieces.is_empty(), || format!("never ended: {open:?} {pieces:?}"))?;
    rule(ended["output"] == Value::Array(done), || "the whole differs from its items".to_owned())?;
    shaped(&ended)?;
    Ok(whole(&ended))
}

/// Holds a whole answer of ours to what the SDKs' types demand.
///
/// # Errors
/// A member is missing or of another kind.
pub fn shaped(body: &Value) -> Result<(), String> {
    rule(body["object"] == "response" && string(&body["id"]).starts_with("resp_"), || format!("head: {}", body["id"]))?;
    rule(body["created_at"].is_number() && body["model"].is_string(), || "created_at or model".to_owned())?;
    rule(body["output"].is_array() && body["tools"].is_array(), || "output or tools".to_owned())?;
    rule(body.get("usage").is_some() && body["parallel_tool_calls"].is_boolean(), || "usage, calls".to_owned())?;
    for item in items(&body["output"]) {
        rule(item["type"].is_string(), || format!("an item without a type: {item}"))?;
        if item["type"] == "message" {
            rule(says(&item["content"]) || item["content"].is_array(), || format!("content: {item}"))?;
        }
    }
    Ok(())
}

fn rule(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn item(answer: &mut Answer, item: &Value) {
    let choice = answer.choice(0);
    match item["type"].as_str().unwrap() {
        "message" => {
            for part in items(&item["content"]) {
                match part["type"].as_str().unwrap() {
                    "output_text" => {
                        choice.text.push_str(part["text"].as_str().unwrap());
                        choice.logprobs.extend(items(&part["logprobs"]).cloned());
                        choice.annotations.extend(items(&part["annotations"]).cloned());
                    }
                    "refusal" => choice.refusal.push_str(part["refusal"].as_str().unwrap()),
                    other => panic!("a part that this reading does not know: {other}"),
                }
            }
        }
        "reasoning" => {
            for part in items(&item["summary"]).chain(items(&item["content"])) {
                choice.reasoning.push_str(&string(&part["text"]));
            }
            let proofs = [&item["encrypted_content"], &item["signature"]].map(string);
            choice.proofs.extend(proofs.into_iter().filter(|proof| !proof.is_empty()));
        }
        "function_call" => choice.calls.push(call(item, "arguments")),
        "custom_tool_call" => choice.calls.push(call(item, "input")),
        "image_generation_call" if item["result"].is_string() => {
            let format = item["output_format"].as_str().unwrap_or("png");
            choice.images.push(format!("data:image/{format};base64,{}", string(&item["result"])));
        }
        other => answer.note(format!("content.{other}"), item),
    }
}

fn call(item: &Value, member: &str) -> Call {
    Call { id: string(&item["call_id"]), name: string(&item["name"]), arguments: string(&item[member]) }
}

fn counts(body: &Value) -> Option<Counts> {
    let usage = &body["usage"];
    let n = |value: &Value| value.as_u64().unwrap_or(0);
    if !usage.is_object() {
        return None;
    }
    let (of_input, of_output) = (&usage["input_tokens_details"], &usage["output_tokens_details"]);
    let written_1h = n(&usage["cache_creation"]["ephemeral_1h_input_tokens"]);
    let searches =
        [&usage["server_tool_use"]["web_search_requests"], &body["tool_usage"]["web_search"]["num_requests"]];
    Some(Counts {
        prompt: n(&usage["input_tokens"]),
        completion: n(&usage["output_tokens"]),
        total: n(&usage["total_tokens"]),
        cached: n(&of_input["cached_tokens"]),
        written: n(&of_input["cache_write_tokens"]) - written_1h,
        written_1h,
        audio_in: n(&of_input["audio_tokens"]),
        reasoning: n(&of_output["reasoning_tokens"]),
        audio_out: n(&of_output["audio_tokens"]),
        searches: searches.into_iter().map(n).max().unwrap(),
    })
}
