//! Anthropic Messages, as its provider: <https://docs.anthropic.com/en/api/messages> (seen 2026-11-21).
//!
//! As strict as the original where a gateway could err: the version header, `max_tokens`, who speaks in turn, tool
//! results beside their calls, thinking's bounds and signatures, members that are not the API's.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Ask, Cache, Choice, Finish, Format, IMAGE_TOKENS, Tool, pieces, signature, tokens};
use super::http::Request;
use super::member::Member;
use super::{Refused, Speaker, Stamp, base64, sse, tool_name};

pub struct Anthropic;

const MEMBERS: [&str; 23] = [
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user_profile_id",
];

impl Speaker for Anthropic {
    fn read(&self, request: &Request) -> Result<Ask, Refused> {
        if request.header("anthropic-version").is_none() {
            return Err(refuse("anthropic-version: header is required"));
        }
        let body: Map<String, Value> = serde_json::from_slice(&request.body)
            .map_err(|error| refuse(format!("The request body is not valid JSON: {error}")))?;
        if let Some(name) = body.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(refuse(format!("{name}: Extra inputs are not permitted")));
        }
        let mut body = Value::Object(body);
        let only_count = request.path.ends_with("/count_tokens");
        if only_count {
            // The question has no limit of an answer (API reference "Count tokens in a Message", seen 2026-11-21).
            if let Some(name) = ["max_tokens", "stream"].into_iter().find(|name| !body.at(name).is_null()) {
                return Err(refuse(format!("{name}: Extra inputs are not permitted")));
            }
            body.set("max_tokens", u64::MAX);
        }
        let mut ask = Ask { copies: 1, only_count, show_reasoning: true, include_usage: true, ..Ask::default() };
        ask.model = body.at("model").as_str().ok_or_else(|| refuse("model: Field required"))?.to_owned();
        settings(&body, &mut ask)?;
        tools(&body, &mut ask)?;
        let system = match body.at("system") {
            Value::String(text) => text.clone(),
            blocks => texts(blocks),
        };
        if !system.is_empty() {
            ask.count(tokens(&system));
            ask.system.push(system);
        }
        let list = body.at("messages").as_array().ok_or_else(|| refuse("messages: Field required"))?;
        let tool_loop = messages(list, &mut ask)?;
        // A turn that began without thinking goes on without it: the API switches it off by itself
        // (docs.anthropic.com/en/docs/build-with-claude/extended-thinking, seen 2026-11-21).
        ask.reason &= !tool_loop;
        ask.cache = cache(&body);
        Ok(ask)
    }

    fn count(&self, input: u64) -> Value {
        json!({"input_tokens": input})
    }

    fn whole(&self, ask: &Ask, answer: &Answer, stamp: &Stamp) -> Value {
        let mut content = Vec::new();
        if !answer.reasoning.is_empty() {
            let signature = signature("anthropic", &answer.reasoning);
            content.push(json!({"type": "thinking", "thinking": answer.reasoning, "signature": signature}));
        }
        for (at, (name, arguments)) in answer.calls.iter().enumerate() {
            content.push(json!({"type": "tool_use", "id": stamp.call("toolu", at), "name": name, "input": arguments}));
        }
        if !answer.text.is_empty() {
            content.push(json!({"type": "text", "text": answer.text}));
        }
        let (reason, sequence) = finish(answer);
        let mut message = opening(ask, answer, stamp, final_usage(answer));
        message.set("content", content);
        message.set("stop_reason", reason);
        message.set("stop_sequence", sequence);
        message
    }

    fn frames(&self, ask: &Ask, answer: &Answer, stamp: &Stamp) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut event = |data: Value| frames.push(sse(data.at("type").as_str(), &data));
        event(json!({"type": "message_start", "message": opening(ask, answer, stamp, usage(answer))}));
        let mut index = 0;
        let mut block = |start: Value, deltas: Vec<Value>| {
            event(json!({"type": "content_block_start", "index": index, "content_block": start}));
            if index == 0 {
                event(json!({"type": "ping"}));
            }
            for delta in deltas {
                event(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            event(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        };
        if !answer.reasoning.is_empty() {
            let thought = |piece| json!({"type": "thinking_delta", "thinking": piece});
            let mut deltas: Vec<_> = pieces(&answer.reasoning).map(thought).collect();
            deltas.push(json!({"type": "signature_delta", "signature": signature("anthropic", &answer.reasoning)}));
            block(json!({"type": "thinking", "thinking": "", "signature": ""}), deltas);
        }
        for (at, (name, arguments)) in answer.calls.iter().enumerate() {
            let arguments = arguments.to_string();
            let text = std::iter::once("").chain(pieces(&arguments));
            let deltas = text.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect();
            block(json!({"type": "tool_use", "id": stamp.call("toolu", at), "name": name, "input": {}}), deltas);
        }
        if !answer.text.is_empty() {
            let deltas = pieces(&answer.text).map(|piece| json!({"type": "text_delta", "text": piece})).collect();
            block(json!({"type": "text", "text": ""}), deltas);
        }
        let (reason, sequence) = finish(answer);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        event(json!({"type": "message_delta", "delta": delta, "usage": final_usage(answer)}));
        event(json!({"type": "message_stop"}));
        frames
    }

    fn error(&self, refused: &Refused, stamp: &Stamp) -> Value {
        let kind = match refused.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": refused.message}, "request_id": stamp.id("req")})
    }

    fn error_frame(&self, refused: &Refused, stamp: &Stamp) -> Vec<u8> {
        sse(Some("error"), &self.error(refused, stamp))
    }

    fn headers(&self, stamp: &Stamp) -> Vec<(&'static str, String)> {
        vec![
            ("request-id", stamp.id("req")),
            ("anthropic-ratelimit-requests-limit", "4000".to_owned()),
            ("anthropic-ratelimit-requests-remaining", "3999".to_owned()),
        ]
    }
}

fn refuse(message: impl Into<String>) -> Refused {
    Refused::new(400, message)
}

fn settings(body: &Value, ask: &mut Ask) -> Result<(), Refused> {
    ask.stream = body.at("stream") == true;
    let limit = match body.at("max_tokens") {
        Value::Null => return Err(refuse("max_tokens: Field required")),
        limit => limit.as_u64().filter(|limit| *limit > 0),
    };
    let limit = limit.ok_or_else(|| refuse("max_tokens: Input should be greater than or equal to 1"))?;
    ask.limit = Some(limit);
    let temperature = body.at("temperature").as_f64();
    if temperature.is_some_and(|temperature| !(0.0..=1.0).contains(&temperature)) {
        return Err(refuse("temperature: range: 0..1"));
    }
    for stop in body.at("stop_sequences").as_array().into_iter().flatten().filter_map(Value::as_str) {
        if stop.trim().is_empty() {
            return Err(refuse("stop_sequences: each stop sequence must contain non-whitespace"));
        }
        ask.stop.push(stop.to_owned());
    }
    match body.at("thinking").at("type").as_str() {
        None | Some("disabled") => {}
        Some("adaptive") => ask.reason = true,
        Some("enabled") => {
            let budget = body.at("thinking").at("budget_tokens").as_u64();
            let budget = budget.ok_or_else(|| refuse("thinking.enabled.budget_tokens: Field required"))?;
            if budget < 1024 {
                let message = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024";
                return Err(refuse(message));
            }
            if limit <= budget {
                return Err(refuse("`max_tokens` must be greater than `thinking.budget_tokens`."));
            }
            if temperature.is_some_and(|temperature| temperature != 1.0) {
                return Err(refuse("`temperature` may only be set to 1 when thinking is enabled."));
            }
            ask.reason = true;
        }
        Some(_) => return Err(refuse("thinking: Input tag does not match any of the expected tags")),
    }
    let format = [body.at("output_config").at("format"), body.at("output_format")];
    if let Some(format) = format.into_iter().find(|format| !format.is_null()) {
        let schema = format.get("schema").filter(|_| format.at("type") == "json_schema");
        let schema = schema.ok_or_else(|| refuse("output_config.format.schema: Field required"))?;
        ask.format = Format::Schema(schema.clone());
    }
    Ok(())
}

fn tools(body: &Value, ask: &mut Ask) -> Result<(), Refused> {
    for (at, tool) in body.at("tools").as_array().into_iter().flatten().enumerate() {
        // A tool with a type of its own runs at the provider; the sandbox has none to run.
        if tool.at("type").as_str().is_some_and(|kind| kind != "custom") {
            continue;
        }
        let name = tool.at("name").as_str().ok_or_else(|| refuse(format!("tools.{at}.custom.name: Field required")))?;
        if !tool_name(name, 128) {
            let message = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'";
            return Err(refuse(format!("tools.{at}.custom.name: {message}")));
        }
        let schema = tool.at("input_schema");
        match schema.at("type").as_str() {
            Some("object") => {}
            None => return Err(refuse(format!("tools.{at}.custom.input_schema.type: Field required"))),
            Some(_) => {
                return Err(refuse(format!("tools.{at}.custom.input_schema.type: Input should be 'object'")));
            }
        }
        ask.tools.push(Tool { name: name.to_owned(), schema: schema.clone() });
    }
    if !ask.tools.is_empty() {
        ask.count(tokens(&body.at("tools").to_string()));
    }
    let choice = body.at("tool_choice");
    ask.parallel = choice.at("disable_parallel_tool_use") != true;
    ask.choice = match choice.at("type").as_str() {
        Some("none") => Choice::None,
        Some("tool") => Choice::Named(choice.at("name").as_str().unwrap_or_default().to_owned()),
        Some("any") | Some("auto") | None => Choice::Auto,
        Some(_) => return Err(refuse("tool_choice: Input tag does not match any of the expected tags")),
    };
    if matches!(choice.at("type").as_str(), Some("any" | "auto" | "tool")) && body.at("tools").is_null() {
        return Err(refuse("tool_choice: `tools` must be provided when `tool_choice` is"));
    }
    if let Choice::Named(name) = &ask.choice
        && !ask.tools.iter().any(|tool| tool.name == *name)
    {
        return Err(refuse(format!("Tool '{name}' not found in provided tools")));
    }
    if ask.reason && matches!(choice.at("type").as_str(), Some("any" | "tool")) {
        return Err(refuse("Thinking may not be enabled when tool_choice forces tool use."));
    }
    Ok(())
}

/// Reads the conversation; whether it stands in the middle of a tool loop that began without thinking.
fn messages(list: &[Value], ask: &mut Ask) -> Result<bool, Refused> {
    if list.is_empty() {
        return Err(refuse("messages: at least one message is required"));
    }
    let mut speaker = "assistant";
    // Calls of the turn before, as id and name.
    let mut open: Vec<(String, String)> = Vec::new();
    let mut tool_loop = false;
    for (at, message) in list.iter().enumerate() {
        let role = message.at("role").as_str().unwrap_or_default();
        match role {
            "user" | "assistant" if role != speaker => speaker = if role == "user" { "user" } else { "assistant" },
            "assistant" if at == 0 => return Err(refuse("messages: first message must use the \"user\" role")),
            "user" | "assistant" => {
                return Err(refuse(format!(
                    "messages: roles must alternate between \"user\" and \"assistant\", but found multiple \"{role}\" \
                     roles in a row"
                )));
            }
            _ => {
                let message = format!("messages.{at}.role: Input should be 'user' or 'assistant', not '{role}'");
                return Err(refuse(message));
            }
        }
        let single;
        let blocks = match message.at("content") {
            Value::String(text) => {
                single = [json!({"type": "text", "text": text})];
                &single[..]
            }
            Value::Array(blocks) => blocks,
            _ => return Err(refuse(format!("messages.{at}.content: Field required"))),
        };
        if blocks.is_empty() && at + 1 < list.len() {
            return Err(refuse(format!("messages.{at}: all messages must have non-empty content")));
        }
        let mut turn = Turn::default();
        for (n, block) in blocks.iter().enumerate() {
            turn.read(block, role, &mut open).map_err(|what| refuse(format!("messages.{at}.content.{n}: {what}")))?;
        }
        if role == "user" && !open.is_empty() {
            let ids: Vec<_> = open.iter().map(|(id, _)| id.as_str()).collect();
            return Err(refuse(format!(
                "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
                 `tool_use` block must have a corresponding `tool_result` block in the next message.",
                ids.join(", ")
            )));
        }
        ask.count(turn.tokens + IMAGE_TOKENS * turn.images.len() as u64);
        ask.images.append(&mut turn.images);
        if role == "assistant" {
            ask.assistant();
            tool_loop = !turn.calls.is_empty() && !turn.thought;
        } else {
            if !turn.texts.is_empty() || turn.results.is_empty() {
                ask.user(turn.texts.join("\n"));
                tool_loop &= !turn.results.is_empty();
            }
            for (name, text) in turn.results {
                ask.result(name, text);
            }
        }
        open = turn.calls;
    }
    if !open.is_empty() {
        return Err(refuse("messages: `tool_use` ids were found without `tool_result` blocks immediately after"));
    }
    Ok(tool_loop)
}

#[derive(Default)]
struct Turn {
    texts: Vec<String>,
    images: Vec<String>,
    calls: Vec<(String, String)>,
    results: Vec<(String, String)>,
    /// Begins with thinking.
    thought: bool,
    tokens: u64,
}

impl Turn {
    fn read(&mut self, block: &Value, role: &str, open: &mut Vec<(String, String)>) -> Result<(), String> {
        match (block.at("type").as_str().unwrap_or_default(), role) {
            ("text", _) => {
                let text = block.at("text").as_str().ok_or("text.text: Field required")?;
                if text.is_empty() {
                    return Err("text content blocks must be non-empty".to_owned());
                }
                self.tokens += tokens(text);
                self.texts.push(text.to_owned());
            }
            ("image", "user") => self.images.push(image(block.at("source"))?),
            ("tool_result", "user") => {
                let id = block.at("tool_use_id").as_str().ok_or("tool_result.tool_use_id: Field required")?;
                let call = open.iter().position(|(call, _)| call == id);
                let call = call.ok_or_else(|| {
                    format!(
                        "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must \
                         have a corresponding `tool_use` block in the previous message."
                    )
                })?;
                let (_, name) = open.remove(call);
                let text = match block.at("content") {
                    Value::String(text) => text.clone(),
                    blocks => texts(blocks),
                };
                for inner in block.at("content").as_array().into_iter().flatten().filter(|b| b.at("type") == "image") {
                    self.images.push(image(inner.at("source"))?);
                }
                self.tokens += tokens(&text);
                self.results.push((name, text));
            }
            ("tool_use", "assistant") => {
                let (Some(id), Some(name)) = (block.at("id").as_str(), block.at("name").as_str()) else {
                    return Err("tool_use.id: Field required".to_owned());
                };
                if !tool_name(id, 256) {
                    return Err("tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'".to_owned());
                }
                if !block.at("input").is_object() {
                    return Err("tool_use.input: Input should be a valid dictionary".to_owned());
                }
                self.tokens += tokens(&block.at("input").to_string());
                self.calls.push((id.to_owned(), name.to_owned()));
            }
            ("thinking", "assistant") => {
                let thought = block.at("thinking").as_str().ok_or("thinking.thinking: Field required")?;
                let proof = block.at("signature").as_str().ok_or("thinking.signature: Field required")?;
                if proof != signature("anthropic", thought) {
                    return Err("Invalid `signature` in `thinking` block".to_owned());
                }
                self.thought |= self.calls.is_empty() && self.texts.is_empty();
                self.tokens += tokens(thought);
            }
            // The sandbox encrypts no thoughts, so none of these is its own.
            ("redacted_thinking", "assistant") => {
                return Err("Invalid `data` in `redacted_thinking` block".to_owned());
            }
            ("document" | "search_result" | "container_upload", "user") => {}
            ("server_tool_use" | "web_search_tool_result" | "mcp_tool_use" | "mcp_tool_result", "assistant") => {}
            (kind, _) => {
                return Err(format!("Input tag '{kind}' found using 'type' does not match any of the expected tags"));
            }
        }
        Ok(())
    }
}

fn texts(blocks: &Value) -> String {
    let blocks = blocks.as_array().into_iter().flatten();
    blocks.filter_map(|block| block.at("text").as_str()).collect::<Vec<_>>().join("\n")
}

fn image(source: &Value) -> Result<String, String> {
    const TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    match source.at("type").as_str() {
        Some("url") if source.at("url").as_str().is_some_and(|url| url.starts_with("http")) => Ok("by URL".to_owned()),
        Some("url") => Err("image.source.url: Only HTTP(S) URLs are supported.".to_owned()),
        Some("base64") => {
            let kind = source.at("media_type").as_str().unwrap_or_default();
            if !TYPES.contains(&kind) {
                return Err(format!("image.source.base64.media_type: Input should be one of {}", TYPES.join(", ")));
            }
            match source.at("data").as_str() {
                Some(data) if base64(data) => Ok(kind.to_owned()),
                _ => Err("image.source.base64: invalid base64 data".to_owned()),
            }
        }
        _ => Err("image.source: Input tag does not match any of the expected tags: 'base64', 'url'".to_owned()),
    }
}

/// Whether anything in the prompt carries `cache_control`.
fn cache(body: &Value) -> Cache {
    let blocks = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut places = blocks(body.at("system"));
    places.extend(blocks(body.at("tools")));
    places.extend(blocks(body.at("messages")).iter().flat_map(|message| blocks(message.at("content"))));
    places.push(body.clone());
    let mark = places.iter().map(|place| place.at("cache_control")).find(|mark| mark.is_object());
    mark.map_or(Cache::Unmarked, |mark| Cache::Marked { hour: mark.at("ttl") == "1h" })
}

/// The message as its first event has it: without content.
fn opening(ask: &Ask, answer: &Answer, stamp: &Stamp, mut usage: Value) -> Value {
    let (short, long) = match ask.cache {
        Cache::Marked { hour: true } => (0, answer.usage.written),
        _ => (answer.usage.written, 0),
    };
    usage.set("cache_creation", json!({"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}));
    usage.set("service_tier", "standard");
    json!({
        "id": stamp.id("msg"), "type": "message", "role": "assistant", "model": ask.model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    })
}

/// The usage of the whole answer.
fn final_usage(answer: &Answer) -> Value {
    let mut counts = usage(answer);
    counts.set("output_tokens", answer.usage.output);
    if answer.usage.reasoning > 0 {
        counts.set("output_tokens_details", json!({"thinking_tokens": answer.usage.reasoning}));
    }
    counts
}

/// The usage of an answer that has just begun. Here `input_tokens` leaves out what was read from or written to the cache.
fn usage(answer: &Answer) -> Value {
    let usage = &answer.usage;
    json!({
        "input_tokens": usage.input - usage.cached - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": 1,
    })
}

fn finish(answer: &Answer) -> (&'static str, Option<&str>) {
    match &answer.finish {
        Finish::Stop => ("end_turn", None),
        Finish::Sequence(sequence) => ("stop_sequence", Some(sequence)),
        Finish::Length => ("max_tokens", None),
        Finish::Calls => ("tool_use", None),
    }
}
