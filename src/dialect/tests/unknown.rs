//! What nobody knows yet, in requests: a new member at any place, of any caller's dialect. It is never an error; whoever
//! is asked is told of it, or it is a loss with a name.

use serde_json::{Value, json};

use super::*;
use crate::ir::Losses;

/// The new member's value, which stands nowhere else.
pub(super) const MARK: &str = "mark-7f3a";

const TARGETS: [(&str, &str); 8] = [
    ("openai_chat", "gpt-5.2"),
    ("openai_responses", "gpt-5.2"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-3-pro-preview"),
    ("gemini", "gemini-2.5-flash"),
    ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("cohere", "command-a-reasoning-08-2025"),
    ("ollama", "qwen3"),
];

/// A request of each dialect with a value of every kind that has members. Their texts are all different.
fn samples() -> Vec<(&'static str, Value)> {
    let png = "data:image/png;base64,iVBORw0KGgoAAAA=";
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    vec![
        (
            "openai_chat",
            json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": [{"type": "text", "text": "rule one"}]},
                    {"role": "system", "content": "rule two"},
                    {"role": "user", "content": [
                        {"type": "text", "text": "question one"},
                        {"type": "image_url", "image_url": {"url": png}},
                        {"type": "file", "file": {"filename": "paper.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQ="}},
                    ]},
                    {"role": "assistant", "content": "answer one", "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"city\":\"Rome\"}"}},
                        {"id": "call_2", "type": "custom", "custom": {"name": "draw", "input": "a circle"}},
                    ]},
                    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "result one"}]},
                    {"role": "tool", "tool_call_id": "call_2", "content": "result two"},
                    {"role": "assistant", "content": [{"type": "text", "text": "answer two"}]},
                    {"role": "user", "content": "question two"},
                ],
                "tools": [{"type": "function", "function": {"name": "look", "description": "looks up", "parameters": schema}}],
                "tool_choice": {"type": "function", "function": {"name": "look"}},
                "response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}},
                "reasoning": {"effort": "low"},
                "stream": true,
                "stream_options": {"include_usage": true},
            }),
        ),
        (
            "openai_responses",
            json!({
                "model": "m",
                "input": [
                    {"type": "message", "role": "user", "content": [
                        {"type": "input_text", "text": "question one"},
                        {"type": "input_image", "image_url": png},
                        {"type": "input_file", "filename": "paper.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQ="},
                    ]},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "answer one"}]},
                    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{\"city\":\"Rome\"}"},
                    {"type": "custom_tool_call", "call_id": "call_2", "name": "draw", "input": "a circle"},
                    {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "result one"}]},
                    {"type": "custom_tool_call_output", "call_id": "call_2", "output": "result two"},
                    {"role": "user", "content": "question two"},
                ],
                "tools": [{"type": "function", "name": "look", "description": "looks up", "parameters": schema}],
                "tool_choice": {"type": "function", "name": "look"},
                "text": {"format": {"type": "json_schema", "name": "form", "schema": schema}},
                "reasoning": {"effort": "low"},
                "stream": true,
                "stream_options": {},
            }),
        ),
        (
            "anthropic",
            json!({
                "model": "m",
                "max_tokens": 9000,
                "system": [{"type": "text", "text": "rule one"}],
                "messages": [
                    {"role": "user", "content": [
                        {"type": "text", "text": "question one"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAA="}},
                        {"type": "document", "title": "paper", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="}},
                    ]},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "thought one", "signature": "c2lnbmVk"},
                        {"type": "text", "text": "answer one"},
                        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": "Rome"}},
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "result one"}]},
                        {"type": "text", "text": "question two"},
                    ]},
                ],
                "tools": [{"name": "look", "description": "looks up", "input_schema": schema}],
                "tool_choice": {"type": "auto"},
                "thinking": {"type": "enabled", "budget_tokens": 2048},
                "output_config": {"format": {"type": "json_schema", "schema": schema}},
                "metadata": {"user_id": "somebody"},
                "stream": true,
            }),
        ),
        (
            "gemini",
            json!({
                "systemInstruction": {"parts": [{"text": "rule one"}]},
                "contents": [
                    {"role": "user", "parts": [
                        {"text": "question one"},
                        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgoAAAA="}},
                        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://files.example/paper.pdf"}},
                    ]},
                    {"role": "model", "parts": [
                        {"text": "thought one", "thought": true, "thoughtSignature": "c2lnbmVk"},
                        {"text": "answer one"},
                        {"functionCall": {"id": "call_1", "name": "look", "args": {"city": "Rome"}}, "thoughtSignature": "c2lnbmVk"},
                        {"functionCall": {"id": "call_2", "name": "look", "args": {"city": "Oslo"}}},
                    ]},
                    {"role": "user", "parts": [
                        {"functionResponse": {"id": "call_1", "name": "look", "response": {"result": "result one"},
                            "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgoBBBB="}}]}},
                        {"functionResponse": {"id": "call_2", "name": "look", "response": {"result": "result two"}}},
                    ]},
                    {"role": "model", "parts": [{"text": "answer two"}]},
                    {"role": "user", "parts": [{"text": "question two"}]},
                ],
                "tools": [{"functionDeclarations": [{"name": "look", "description": "looks up", "parametersJsonSchema": schema}]}],
                "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
                "generationConfig": {"maxOutputTokens": 9000, "thinkingConfig": {"thinkingBudget": 2048}},
                "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            }),
        ),
        ("openai_completions", json!({"model": "m", "prompt": "question one", "stream": true, "stream_options": {}})),
    ]
}

/// The places of all objects, as JSON pointers (RFC 6901).
pub(super) fn objects(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| objects(value, format!("{at}/{name}"), all));
            all.push(at);
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| objects(value, format!("{at}/{i}"), all));
        }
        _ => {}
    }
}

/// What a target is told, and what it is not; `None`: it cannot be asked.
fn told(caller: &dyn Inbound, body: &Value, (dialect, model): (&str, &str)) -> Option<(String, Losses)> {
    let body = body.to_string();
    let mut request = caller.decode(body.as_bytes()).unwrap_or_else(|invalid| panic!("{invalid}: {body}"));
    request.stream = true;
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model, stream: true, quirks: &quirks, abilities: &abilities };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let face = named(dialect).unwrap().outbound.unwrap();
    face.encode(&request, &to, &mut out, &mut losses).ok()?;
    Some((String::from_utf8(out).unwrap(), losses))
}

#[test]
fn new_members_ride_along_or_have_a_name() {
    let mut silent = Vec::new();
    for (name, sample) in samples() {
        let caller = named(name).unwrap().inbound.unwrap();
        let mut places = Vec::new();
        objects(&sample, String::new(), &mut places);
        for target in TARGETS {
            let Some((before, lost)) = told(caller, &sample, target) else { continue };
            for place in &places {
                let mut marked = sample.clone();
                marked.pointer_mut(place).unwrap()["x_new"] = json!(MARK);
                let (after, losses) = told(caller, &marked, target).unwrap_or_else(|| panic!("{target:?}: {place}"));
                let whole = is_lost(place, &sample, &before, &lost);
                if !after.contains(MARK) && losses == lost && !whole {
                    silent.push(format!("{name} to {target:?}: {place}"));
                }
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// Whether an object did not come across at all, and that has a name.
fn is_lost(place: &str, sample: &Value, body: &str, losses: &Losses) -> bool {
    let top = match place.split('/').nth(1).unwrap_or_default() {
        "text" | "output_config" => "response_format",
        top => top,
    };
    let strings = strings(sample.pointer(place).unwrap());
    let absent = !strings.is_empty() && !strings.iter().any(|text| body.contains(text.as_str()));
    losses.iter().any(|loss| loss.path == top) || absent && !losses.is_empty()
}

/// Texts in it that tell it from others.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.contains([' ', '.', '=']) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// In its own dialect a request is written back with all that it brought.
#[test]
fn new_members_come_back_in_their_own_dialect() {
    let mut lost = Vec::new();
    for (name, sample) in samples() {
        let caller = named(name).unwrap().inbound.unwrap();
        let mut places = Vec::new();
        objects(&sample, String::new(), &mut places);
        for target in TARGETS.into_iter().filter(|(dialect, _)| *dialect == name) {
            for place in &places {
                let mut marked = sample.clone();
                marked.pointer_mut(place).unwrap()["x_new"] = json!(MARK);
                let (after, losses) = told(caller, &marked, target).unwrap();
                // Of how to think, providers of one dialect are told in different forms.
                if !after.contains(MARK) && !losses.to_string().contains("reasoning.x_new") {
                    lost.push(format!("{target:?}: {place}: {losses}"));
                }
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
