//! Chat Completions as the providers that call themselves compatible write them.

use serde_json::Value;

use super::{Answer, Call, Choice, Counts, Finish, events, items, members, says, string};

/// Members that are read here, or that say nothing to a caller: roles, dates, and noise against traffic analysis.
const TOP: [&str; 9] =
    ["id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "error"];
const CHOICE: [&str; 6] = ["index", "message", "delta", "finish_reason", "logprobs", "usage"];
const MESSAGE: [&str; 12] = [
    "role",
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "audio",
    "images",
    "annotations",
    "tool_call_id",
];
/// Only in streams: padding (OpenAI, Mistral, Copilot), and where a piece stands (vLLM). Together repeats the text
/// beside the delta, Perplexity the whole message.
const NOISE: [&str; 6] = ["obfuscation", "p", "padding", "index", "token_id", "text"];

/// A whole answer.
pub fn whole(body: &Value, provider: &str) -> Answer {
    let mut answer = Answer { id: string(&body["id"]), model: string(&body["model"]), ..Answer::default() };
    answer.usage = counts(&body["usage"], provider);
    for (name, value) in members(body).filter(|(name, _)| !TOP.contains(&name.as_str())) {
        answer.note(name.as_str(), value);
    }
    for (n, said) in items(&body["choices"]).enumerate() {
        answer.usage = answer.usage.or_else(|| counts(&said["usage"], provider));
        let index = said["index"].as_u64().unwrap_or(n as u64);
        let from = if said["message"].is_object() { &said["message"] } else { &said["delta"] };
        for (name, value) in members(said).filter(|(name, _)| !CHOICE.contains(&name.as_str())) {
            answer.note(format!("choices.{name}"), value);
        }
        for (name, value) in members(from).filter(|(name, _)| !MESSAGE.contains(&name.as_str())) {
            if name == "extra_content" && has_google_signature(value) {
                continue;
            }
            answer.note(format!("message.{name}"), value);
        }
        let choice = answer.choice(index);
        message(choice, from);
        for call in items(&from["tool_calls"]) {
            choice.calls.push(tool_call(call));
            choice.proofs.extend(google_signature(&call["extra_content"]));
        }
        choice.logprobs.extend(logprobs(said));
        close(choice, &said["finish_reason"]);
    }
    answer.whole = true;
    answer
}

/// A streamed answer.
pub fn stream(text: &str, provider: &str) -> Answer {
    let mut answer = Answer::default();
    let mut words: std::collections::BTreeMap<u64, Value> = Default::default();
    let mut done = false;
    for (name, data) in events(text) {
        let data = data.trim();
        if data == "[DONE]" {
            done = true;
            break;
        }
        let chunk: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        if name == "error" || says(&chunk["error"]) {
            answer.error = Some(if says(&chunk["error"]) { chunk["error"].clone() } else { chunk });
            break;
        }
        if answer.id.is_empty() {
            answer.id = string(&chunk["id"]);
            answer.model = string(&chunk["model"]);
        }
        for (name, value) in members(&chunk).filter(|(name, _)| !TOP.contains(&name.as_str()) && !noise(name)) {
            answer.note(name.as_str(), value);
        }
        for said in items(&chunk["choices"]) {
            answer.usage = counts(&said["usage"], provider).or(answer.usage);
            let from = if said["delta"].is_object() { &said["delta"] } else { &said["message"] };
            for (name, value) in members(said).filter(|(name, _)| !CHOICE.contains(&name.as_str()) && !noise(name)) {
                answer.note(format!("choices.{name}"), value);
            }
            for (name, value) in members(from).filter(|(name, _)| !MESSAGE.contains(&name.as_str()) && !noise(name)) {
                answer.note(format!("delta.{name}"), value);
            }
            let index = said["index"].as_u64().unwrap_or(0);
            let choice = answer.choice(index);
            message(choice, from);
            for piece in items(&from["tool_calls"]) {
                call_piece(choice, piece);
            }
            choice.logprobs.extend(logprobs(said));
            if says(&said["finish_reason"]) {
                words.entry(index).or_insert_with(|| said["finish_reason"].clone());
            }
        }
        // Groq's own member carries usage where it was not asked for.
        answer.usage =
            counts(&chunk["usage"], provider).or_else(|| counts(&chunk["x_groq"]["usage"], provider)).or(answer.usage);
    }
    answer.whole = done || !answer.choices.is_empty() && answer.choices.keys().all(|index| words.contains_key(index));
    for (index, choice) in &mut answer.choices {
        close(choice, words.get(index).unwrap_or(&Value::Null));
    }
    for choice in answer.choices.values_mut() {
        choice.calls.iter_mut().for_each(|call| call.id = call.id.split('\0').next().unwrap().to_owned());
    }
    answer
}

fn noise(name: &str) -> bool {
    NOISE.contains(&name)
}

/// What a message or a delta says beside tool calls.
fn message(choice: &mut Choice, from: &Value) {
    match &from["content"] {
        Value::String(text) => choice.text.push_str(text),
        // Mistral: text and thoughts as parts.
        Value::Array(parts) => {
            for part in parts {
                match part["type"].as_str() {
                    Some("text") => choice.text.push_str(part["text"].as_str().unwrap()),
                    Some("thinking") => match &part["thinking"] {
                        Value::String(text) => choice.reasoning.push_str(text),
                        list => items(list).for_each(|part| choice.reasoning.push_str(&string(&part["text"]))),
                    },
                    other => panic!("a part that this reading does not know: {other:?}"),
                }
            }
        }
        _ => {}
    }
    choice.refusal.push_str(&string(&from["refusal"]));
    // Several carriers tell the same thoughts: the details where they have text, else whichever member has it.
    let details: String = items(&from["reasoning_details"])
        .map(|detail| match detail["type"].as_str() {
            Some("reasoning.summary") => string(&detail["summary"]),
            _ => string(&detail["text"]),
        })
        .collect();
    let plain = ["reasoning_content", "reasoning"].map(|name| string(&from[name]));
    let plain = plain.into_iter().find(|text| !text.is_empty());
    choice.reasoning.push_str(if details.is_empty() { plain.as_deref().unwrap_or_default() } else { &details });
    for detail in items(&from["reasoning_details"]) {
        let proofs = [&detail["signature"], &detail["data"]].map(string);
        choice.proofs.extend(proofs.into_iter().filter(|proof| !proof.is_empty()));
    }
    choice.proofs.extend(google_signature(&from["extra_content"]));
    for image in items(&from["images"]) {
        choice.images.push(string(&image["image_url"]["url"]));
    }
    if from["audio"].is_object() && (says(&from["audio"]["id"]) || says(&from["audio"]["data"])) {
        choice.audio = Some(from["audio"].clone());
    }
    choice.annotations.extend(items(&from["annotations"]).cloned());
    // The deprecated form, without an id; Snowflake sends an empty one.
    let function = &from["function_call"];
    if says(&function["name"]) {
        choice.calls.push(Call {
            id: String::new(),
            name: string(&function["name"]),
            arguments: string(&function["arguments"]),
        });
    } else if let (true, Some(call)) = (says(&function["arguments"]), choice.calls.last_mut()) {
        call.arguments.push_str(&string(&function["arguments"]));
    }
}

fn tool_call(call: &Value) -> Call {
    if call["type"] == "custom" {
        let custom = &call["custom"];
        return Call { id: string(&call["id"]), name: string(&custom["name"]), arguments: string(&custom["input"]) };
    }
    Call {
        id: string(&call["id"]),
        name: string(&call["function"]["name"]),
        arguments: arguments(&call["function"]["arguments"]),
    }
}

/// By rule a string of JSON; some hosts of open models send the object itself.
fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A piece of a call in a stream. Calls are told apart by their index; some providers give all of them the same, or
/// none, and then a new id begins a new call.
fn call_piece(choice: &mut Choice, piece: &Value) {
    let index = piece["index"].to_string();
    let mut read = tool_call(piece);
    choice.proofs.extend(google_signature(&piece["extra_content"]));
    let of = |call: &Call| call.id.split_once('\0').map(|(id, index)| (id.to_owned(), index.to_owned())).unwrap();
    let known = choice.calls.iter_mut().rev().find(|call| of(call).1 == index);
    match known {
        Some(call) if read.id.is_empty() || of(call).0 == read.id || of(call).0.is_empty() => {
            call.arguments.push_str(&read.arguments);
            if call.name.is_empty() {
                call.name = read.name;
            }
        }
        _ => {
            // The index is kept behind the id until the stream is read.
            read.id = format!("{}\0{index}", read.id);
            choice.calls.push(read);
        }
    }
}

/// Tokens of the text, and DeepSeek's of the thoughts.
pub fn logprobs(choice: &Value) -> impl Iterator<Item = Value> {
    ["content", "reasoning_content"].into_iter().flat_map(|name| items(&choice["logprobs"][name]).cloned())
}

fn google_signature(extra: &Value) -> Option<String> {
    extra["google"]["thought_signature"].as_str().map(str::to_owned)
}

fn has_google_signature(extra: &Value) -> bool {
    google_signature(extra).is_some()
}

/// The finish reason, by its word. Some providers send an empty one, or end a stream without.
fn close(choice: &mut Choice, word: &Value) {
    choice.finish = match word.as_str() {
        Some("stop" | "eos") => Finish::as_is("stop"),
        Some("tool_calls" | "function_call") => Finish::as_is("tool_calls"),
        Some("length") => Finish::as_is("length"),
        Some("content_filter") => Finish::as_is("content_filter"),
        None | Some("") if choice.calls.is_empty() => Finish::as_is("stop"),
        None | Some("") => Finish::as_is("tool_calls"),
        Some(word) => panic!("a finish reason that this reading does not know: {word}"),
    };
}

/// Usage, with what single providers are known to count otherwise.
fn counts(usage: &Value, provider: &str) -> Option<Counts> {
    let n = |value: &Value| value.as_u64().unwrap_or(0);
    if !says(&usage["prompt_tokens"]) && !says(&usage["completion_tokens"]) {
        return None;
    }
    let prompt = &usage["prompt_tokens_details"];
    let details = &usage["completion_tokens_details"];
    let cached = [
        &prompt["cached_tokens"],
        &usage["prompt_cache_hit_tokens"],
        &usage["cached_tokens"],
        &usage["num_cached_tokens"],
        &usage["cache_read_input_tokens"],
    ];
    let written = n(&prompt["cache_write_tokens"]).max(n(&usage["cache_creation_input_tokens"]));
    let written_1h = n(&usage["cache_creation"]["ephemeral_1h_input_tokens"]);
    let tools = [&usage["server_tool_use"], &usage["server_tool_use_details"]];
    let searches = tools.into_iter().map(|tools| n(&tools["web_search_requests"])).max().unwrap();
    let mut counts = Counts {
        prompt: n(&usage["prompt_tokens"]),
        completion: n(&usage["completion_tokens"]),
        total: n(&usage["total_tokens"]),
        cached: cached.into_iter().map(n).max().unwrap(),
        written: written - written_1h,
        written_1h,
        audio_in: n(&prompt["audio_tokens"]),
        reasoning: n(&details["reasoning_tokens"]).max(n(&usage["reasoning_tokens"])),
        audio_out: n(&details["audio_tokens"]),
        searches: searches.max(n(&usage["num_search_queries"])),
    };
    match provider {
        // Reasoning is counted beside completions.
        "xai" => counts.completion += counts.reasoning,
        // Thoughts are in the total only.
        "gemini" => {
            counts.reasoning = counts.total - counts.prompt - counts.completion;
            counts.completion = counts.total - counts.prompt;
        }
        // Audio is counted beside the prompt.
        "mistral" => counts.prompt += counts.audio_in,
        // States more reasoning than completion; what is billed is the completion.
        "doubleword" | "openrouter" => counts.reasoning = counts.reasoning.min(counts.completion),
        _ => {}
    }
    if usage["total_tokens"].is_null() {
        counts.total = counts.prompt + counts.completion;
    }
    Some(counts)
}
