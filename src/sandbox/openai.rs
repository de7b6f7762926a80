//! OpenAI Chat Completions, as its provider: <https://platform.openai.com/docs/api-reference/chat> (seen 2026-11-21).
//!
//! As strict as the original where a gateway could err: pairs of tool calls and results, `stream_options` without a
//! stream, members that are not the API's. Reasoning goes as `reasoning_content` (DeepSeek's name, understood by most
//! clients); this dialect has no signatures.

use serde_json::{Value, json};

use super::answer::{Answer, Ask, Choice, Finish, Format, IMAGE_TOKENS, Tool, pieces, tokens};
use super::http::Request;
use super::member::Member;
use super::{Refused, Speaker, Stamp, data_url, sse, tool_name};
use crate::dialect::CONTROLS;

pub struct OpenAi;

impl Speaker for OpenAi {
    fn read(&self, request: &Request) -> Result<Ask, Refused> {
        let body: Value = serde_json::from_slice(&request.body).map_err(|error| {
            Refused::new(400, format!("We could not parse the JSON body of your request. ({error})"))
        })?;
        let mut ask = Ask { copies: 1, show_reasoning: true, ..Ask::default() };
        ask.model = body.at("model").as_str().ok_or_else(|| missing("model"))?.to_owned();
        if let Some(name) = CONTROLS.into_iter().find(|name| body.get(name).is_some()) {
            return Err(Refused::new(400, format!("Unrecognized request argument supplied: {name}")));
        }
        settings(&body, &mut ask)?;
        let list = body.at("tools").as_array().into_iter().flatten();
        for (at, tool) in list.enumerate().filter(|(_, tool)| tool.at("type") == "function") {
            let function = tool.at("function");
            let param = format!("tools[{at}].function.name");
            let name = function.at("name").as_str().ok_or_else(|| missing(&param))?;
            if !tool_name(name, 64) {
                let message = format!("Invalid '{param}': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'.");
                return Err(Refused::new(400, message).param(param).code("invalid_value"));
            }
            ask.tools.push(Tool { name: name.to_owned(), schema: function.at("parameters").clone() });
        }
        if !ask.tools.is_empty() {
            ask.count(tokens(&body.at("tools").to_string()));
        }
        ask.choice = choice(body.at("tool_choice"), &ask.tools)?;
        messages(&body, &mut ask)?;
        Ok(ask)
    }

    /// There is no such question: its paths lead here never.
    fn count(&self, input: u64) -> Value {
        json!({"prompt_tokens": input})
    }

    fn whole(&self, ask: &Ask, answer: &Answer, stamp: &Stamp) -> Value {
        let mut message = json!({
            "role": "assistant",
            "content": answer.calls.is_empty().then_some(&answer.text),
            "refusal": null,
            "annotations": [],
        });
        if !answer.reasoning.is_empty() {
            message.set("reasoning_content", answer.reasoning.as_str());
        }
        if !answer.calls.is_empty() {
            let call = |(at, (name, arguments)): (usize, &(String, Value))| {
                let function = json!({"name": name, "arguments": arguments.to_string()});
                json!({"id": stamp.call("call", at), "type": "function", "function": function})
            };
            message.set("tool_calls", answer.calls.iter().enumerate().map(call).collect::<Value>());
        }
        let choice =
            |index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish(answer)});
        json!({
            "id": stamp.id("chatcmpl"), "object": "chat.completion", "created": stamp.now, "model": ask.model,
            "choices": (0..ask.copies).map(choice).collect::<Value>(),
            "usage": usage(ask, answer),
            "service_tier": "default", "system_fingerprint": "fp_sandbox",
        })
    }

    fn frames(&self, ask: &Ask, answer: &Answer, stamp: &Stamp) -> Vec<Vec<u8>> {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": stamp.id("chatcmpl"), "object": "chat.completion.chunk", "created": stamp.now,
                "model": ask.model, "service_tier": "default", "system_fingerprint": "fp_sandbox", "choices": choices,
            });
            if ask.include_usage {
                chunk.set("usage", usage);
            }
            sse(None, &chunk)
        };
        let mut frames = Vec::new();
        for index in 0..ask.copies {
            let delta = |delta: Value, finish: Option<&str>| {
                let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
                chunk(json!([choice]), Value::Null)
            };
            let first = if answer.calls.is_empty() { json!("") } else { Value::Null };
            frames.push(delta(json!({"role": "assistant", "content": first, "refusal": null}), None));
            for piece in pieces(&answer.reasoning) {
                frames.push(delta(json!({"reasoning_content": piece}), None));
            }
            for piece in pieces(&answer.text) {
                frames.push(delta(json!({"content": piece}), None));
            }
            for (at, (name, arguments)) in answer.calls.iter().enumerate() {
                let head = json!({"index": at, "id": stamp.call("call", at), "type": "function",
                    "function": {"name": name, "arguments": ""}});
                frames.push(delta(json!({"tool_calls": [head]}), None));
                for piece in pieces(&arguments.to_string()) {
                    let more = json!({"index": at, "function": {"arguments": piece}});
                    frames.push(delta(json!({"tool_calls": [more]}), None));
                }
            }
            frames.push(delta(json!({}), Some(finish(answer))));
        }
        if ask.include_usage {
            frames.push(chunk(json!([]), usage(ask, answer)));
        }
        frames.push(b"data: [DONE]\n\n".to_vec());
        frames
    }

    fn error(&self, refused: &Refused, _: &Stamp) -> Value {
        let (kind, code) = match refused.status {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            404 => ("invalid_request_error", Some("model_not_found")),
            429 => ("requests", Some("rate_limit_exceeded")),
            400..=499 => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        let code = refused.code.or(code);
        json!({"error": {"message": refused.message, "type": kind, "param": refused.param, "code": code}})
    }

    fn error_frame(&self, refused: &Refused, stamp: &Stamp) -> Vec<u8> {
        sse(None, &self.error(refused, stamp))
    }

    fn headers(&self, stamp: &Stamp) -> Vec<(&'static str, String)> {
        vec![
            ("x-request-id", stamp.id("req")),
            ("openai-version", "2020-10-01".to_owned()),
            ("openai-processing-ms", "1".to_owned()),
            ("x-ratelimit-limit-requests", "10000".to_owned()),
            ("x-ratelimit-remaining-requests", "9999".to_owned()),
        ]
    }
}

fn missing(param: &str) -> Refused {
    let message = format!("Missing required parameter: '{param}'.");
    Refused::new(400, message).param(param).code("missing_required_parameter")
}

fn invalid(param: impl Into<String>, what: &str) -> Refused {
    let param = param.into();
    Refused::new(400, format!("Invalid '{param}': {what}")).param(param).code("invalid_value")
}

fn settings(body: &Value, ask: &mut Ask) -> Result<(), Refused> {
    ask.stream = optional(body, "stream", Value::as_bool, "boolean")?.unwrap_or(false);
    if !body.at("stream_options").is_null() && !ask.stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refused::new(400, message).param("stream_options"));
    }
    ask.include_usage = body.at("stream_options").at("include_usage") == true;
    for (name, most) in [("temperature", 2.0), ("top_p", 1.0)] {
        let number = optional(body, name, Value::as_f64, "decimal")?;
        if let Some(number) = number.filter(|number| !(0.0..=most).contains(number)) {
            let what =
                format!("decimal out of range. Expected a value between 0 and {most}, but got {number} instead.");
            return Err(invalid(name, &what));
        }
    }
    ask.copies = optional(body, "n", Value::as_u64, "integer")?.unwrap_or(1);
    if !(1..=8).contains(&ask.copies) {
        return Err(invalid("n", "integer out of range. Expected a value between 1 and 8."));
    }
    for name in ["max_tokens", "max_completion_tokens"] {
        ask.limit = optional(body, name, Value::as_u64, "integer")?.or(ask.limit);
    }
    match body.at("stop") {
        Value::String(stop) => ask.stop.push(stop.clone()),
        Value::Array(stops) => ask.stop.extend(stops.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
    ask.stop.retain(|stop| !stop.is_empty());
    if ask.stop.len() > 4 {
        return Err(invalid("stop", "array too long. Expected an array with maximum length 4."));
    }
    ask.parallel = body.at("parallel_tool_calls") != false;
    // The forms of the providers that speak this dialect: OpenAI, OpenRouter, DeepSeek, Qwen.
    ask.reason = body.at("reasoning_effort").as_str().is_some_and(|effort| effort != "none")
        || body.at("reasoning").is_object() && body.at("reasoning").at("enabled") != false
        || body.at("thinking").at("type") == "enabled"
        || body.at("enable_thinking") == true;
    ask.format = match body.at("response_format").at("type").as_str() {
        None | Some("text") => Format::Text,
        Some("json_object") => Format::Object,
        Some("json_schema") => match body.pointer("/response_format/json_schema/schema") {
            Some(schema)
                if tool_name(body.at("response_format").at("json_schema").at("name").as_str().unwrap_or(""), 64) =>
            {
                Format::Schema(schema.clone())
            }
            Some(_) => return Err(missing("response_format.json_schema.name")),
            None => return Err(missing("response_format.json_schema.schema")),
        },
        Some(_) => return Err(invalid("response_format.type", "unknown.")),
    };
    Ok(())
}

fn optional<'v, T>(
    body: &'v Value,
    name: &str,
    read: impl Fn(&'v Value) -> Option<T>,
    kind: &str,
) -> Result<Option<T>, Refused> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| {
            let message = format!("Invalid type for '{name}': expected {kind}.");
            Refused::new(400, message).param(name).code("invalid_type")
        }),
    }
}

fn choice(choice: &Value, tools: &[Tool]) -> Result<Choice, Refused> {
    if choice.is_null() {
        return Ok(Choice::Auto);
    }
    if tools.is_empty() {
        let message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(Refused::new(400, message).param("tool_choice"));
    }
    match (choice.as_str(), choice.at("function").at("name").as_str()) {
        (Some("auto" | "required"), _) => Ok(Choice::Auto),
        (Some("none"), _) => Ok(Choice::None),
        (None, Some(name)) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Named(name.to_owned())),
        (None, Some(name)) => {
            let message = format!("Invalid value for 'tool_choice': no function named '{name}' was specified.");
            Err(Refused::new(400, message).param("tool_choice"))
        }
        (None, None) if choice.at("type") == "allowed_tools" => Ok(Choice::Auto),
        _ => Err(invalid("tool_choice", "unknown.")),
    }
}

fn messages(body: &Value, ask: &mut Ask) -> Result<(), Refused> {
    let list = body.at("messages").as_array().ok_or_else(|| missing("messages"))?;
    if list.is_empty() {
        return Err(invalid("messages", "empty array. Expected an array with minimum length 1."));
    }
    // Calls that still lack a result, as id and name.
    let mut open: Vec<(String, String)> = Vec::new();
    for (at, message) in list.iter().enumerate() {
        let role = message.at("role").as_str().ok_or_else(|| missing(&format!("messages[{at}].role")))?;
        if role != "tool" && !open.is_empty() {
            return Err(unanswered(&open));
        }
        let (text, images) = content(message.at("content"), at)?;
        ask.count(tokens(&text) + IMAGE_TOKENS * images.len() as u64);
        ask.images.extend(images);
        match role {
            "system" | "developer" => ask.system.push(text),
            "user" => ask.user(text),
            "assistant" => {
                ask.assistant();
                for call in message.at("tool_calls").as_array().into_iter().flatten() {
                    let id =
                        call.at("id").as_str().ok_or_else(|| missing(&format!("messages[{at}].tool_calls[0].id")))?;
                    let name = call.at("function").at("name").as_str().or(call.at("custom").at("name").as_str());
                    ask.latest += tokens(call.at("function").at("arguments").as_str().unwrap_or_default());
                    open.push((id.to_owned(), name.unwrap_or_default().to_owned()));
                }
            }
            "tool" => {
                let id = message.at("tool_call_id").as_str();
                let id = id.ok_or_else(|| missing(&format!("messages[{at}].tool_call_id")))?;
                let Some(call) = open.iter().position(|(open, _)| open == id) else {
                    let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding \
                        message with 'tool_calls'.";
                    return Err(Refused::new(400, message).param(format!("messages.[{at}].role")));
                };
                let (_, name) = open.remove(call);
                ask.result(name, text);
            }
            _ => {
                let what = format!("value '{role}'. Supported values are: 'system', 'assistant', 'user', 'tool'.");
                return Err(invalid(format!("messages[{at}].role"), &what));
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err(unanswered(&open)) }
}

fn unanswered(open: &[(String, String)]) -> Refused {
    let ids: Vec<_> = open.iter().map(|(id, _)| id.as_str()).collect();
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         The following tool_call_ids did not have response messages: {}",
        ids.join(", ")
    );
    Refused::new(400, message).param("messages")
}

/// Text and media types of the images of a message's content.
fn content(content: &Value, at: usize) -> Result<(String, Vec<String>), Refused> {
    let parts = match content {
        Value::Null => return Ok(Default::default()),
        Value::String(text) => return Ok((text.clone(), Vec::new())),
        Value::Array(parts) => parts,
        _ => return Err(invalid(format!("messages[{at}].content"), "expected a string or an array of parts.")),
    };
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for (n, part) in parts.iter().enumerate() {
        match part.at("type").as_str() {
            Some("text") => texts.push(part.at("text").as_str().unwrap_or_default()),
            Some("refusal") => texts.push(part.at("refusal").as_str().unwrap_or_default()),
            Some("image_url") => {
                let param = format!("messages[{at}].content[{n}].image_url.url");
                let url = part.at("image_url").at("url").as_str().ok_or_else(|| missing(&param))?;
                images.push(match url.strip_prefix("data:") {
                    Some(data) => data_url(data).ok_or_else(|| {
                        invalid(param, "not a data URL with base64 of an image.").code("invalid_base64")
                    })?,
                    None if url.starts_with("http") => "by URL".to_owned(),
                    None => return Err(invalid(param, "not a URL.").code("invalid_image_url")),
                });
            }
            Some("input_audio" | "file") => {}
            _ => {
                let what = "unknown. Supported values are: 'text', 'image_url', 'input_audio', 'refusal', 'file'.";
                return Err(invalid(format!("messages[{at}].content[{n}].type"), what));
            }
        }
    }
    Ok((texts.join("\n"), images))
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop | Finish::Sequence(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
    }
}

fn usage(ask: &Ask, answer: &Answer) -> Value {
    let usage = &answer.usage;
    let output = usage.output * ask.copies;
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": output,
        "total_tokens": usage.input + output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning * ask.copies, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}
