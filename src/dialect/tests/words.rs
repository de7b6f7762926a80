//! Losses by their callers' names: over all cases of requests, each path that is told leads to a member of the body.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::golden::Cases;
use super::table::{PROVIDERS, features, with};
use super::*;
use crate::dialect::words::Teller;

const CLIENTS: [&str; 5] = ["anthropic", "gemini", "openai_chat", "openai_completions", "openai_responses"];

/// What the body need not have: the limit that this dialect has where a caller gives none, and tools that were only called.
const IMPLIED: [(&str, &str); 2] = [("openai_completions", "max_tokens"), ("openai_chat", "tools")];

/// Every request among the cases, whoever's.
fn bodies(folder: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.display().to_string();
        if path.is_dir() {
            bodies(&path, all);
        } else if name.ends_with(".request.json") || name.ends_with(".asked.json") {
            all.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

/// What a request loses at all providers: how, where it stands in the IR, and what its caller is told.
fn losses(client: &str, body: &[u8]) -> BTreeSet<(String, String)> {
    let inbound = named(client).unwrap().inbound.unwrap();
    // Some bodies are requests of several dialects, and say nothing in one of them.
    let decoded = inbound.decode(body).ok().filter(|request| !request.messages.is_empty());
    let Some(mut request) = decoded else { return BTreeSet::new() };
    let mut all = BTreeSet::new();
    for stream in [false, true] {
        request.stream = stream;
        for (provider, model) in PROVIDERS {
            let outbound = named(provider).unwrap().outbound.unwrap();
            let refuses =
                ["temperature", "max_tokens", "tools", "reasoning_effort", "tool_choice", "response_format", "stop"];
            let strict =
                Quirks { refuses: refuses.map(str::to_owned).into(), no_json_schema: true, ..Quirks::default() };
            for quirks in [Quirks::default(), strict] {
                let to = To { model, stream, quirks: &quirks, abilities: &Abilities::default() };
                let (mut out, mut losses) = (Vec::new(), Losses::default());
                let done = outbound.encode(&request, &to, &mut out, &mut losses);
                let mut teller = Teller::new(inbound.words(), &request, body);
                all.extend(losses.iter().map(|loss| (loss.path.to_string(), teller.tell(&loss.path))));
                all.extend(done.err().map(|unsayable| (unsayable.path.clone(), teller.tell(&unsayable.path))));
            }
        }
    }
    all
}

/// Whether a path leads to a member, found by other means than the teller's.
fn leads(body: &Value, path: &str) -> bool {
    let pointer = path.replace('[', ".").replace(']', "").split('.').fold(String::new(), |all, step| all + "/" + step);
    body.pointer(&pointer).is_some()
}

#[test]
fn what_is_told_is_in_the_body() {
    let mut cases = Vec::new();
    bodies(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect"), &mut cases);
    assert!(cases.len() > 30);
    let fragments = features();
    for client in CLIENTS {
        let mut told = BTreeSet::new();
        let mut cases = cases.clone();
        for (feature, fragments) in &fragments {
            let at = super::table::CLIENTS.iter().position(|name| *name == client);
            let Some(fragment) = at.and_then(|at| fragments.get(at)).filter(|fragment| !fragment.is_null()) else {
                continue;
            };
            cases.push(((*feature).to_owned(), with(client, fragment).to_string().into_bytes()));
        }
        for (name, body) in cases {
            let value: Value = serde_json::from_slice(&body).unwrap();
            for (path, said) in losses(client, &body) {
                assert!(
                    leads(&value, &said) || IMPLIED.contains(&(client, &said)),
                    "{client}: {name} has no `{said}`, which is told for `{path}`"
                );
                told.insert((path, said));
            }
        }
        assert!(!told.is_empty(), "{client}");
        let mut table = String::new();
        told.iter().for_each(|(path, said)| writeln!(table, "{path} -> {said}").unwrap());
        Cases(client).golden("words.txt", &table);
    }
}

/// A caller's dialect, a body, and what is told for which paths.
type Case = (&'static str, Value, &'static [(&'static str, &'static str)]);

/// What the callers of each dialect read, in conversations whose items are others in the IR.
#[test]
fn indices_are_the_callers() {
    let cases: [Case; 6] = [
        (
            "anthropic",
            json!({
                "max_tokens": 5, "model": "m",
                "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}],
                "stop_sequences": ["x"],
                "messages": [
                    {"role": "user", "content": "go"},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "t", "signature": "s"},
                        {"type": "text", "text": "calls"},
                        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                        {"type": "tool_use", "id": "b", "name": "f", "input": {}}]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": "A"},
                        {"type": "tool_result", "tool_use_id": "b", "content": [
                            {"type": "text", "text": "B"},
                            {"type": "image", "source": {"type": "url", "url": "https://x"}}]},
                        {"type": "text", "text": "and", "cache_control": {"type": "ephemeral"}}]}],
                "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}]
            }),
            &[
                ("messages[0].content[1].cache_control", "system[1].cache_control"),
                ("messages[1].content[0].citations", "messages[0].content"),
                ("messages[2].reasoning", "messages[1].content[0]"),
                ("messages[2].content[0].signature", "messages[1].content[0].signature"),
                ("messages[2].tool_calls[1].function.arguments", "messages[1].content[3].input"),
                ("messages[3].content[1].content[1]", "messages[2].content[1].content[1]"),
                ("messages[3].content[0].content[0]", "messages[2].content[0].content"),
                ("messages[4].content[0].cache_control", "messages[2].content[2].cache_control"),
                ("messages[4].role", "messages[2].role"),
                ("tools[0].function.parameters", "tools[0].input_schema"),
                ("tools[0].cache_control", "tools[0].cache_control"),
                ("stop", "stop_sequences"),
                ("max_tokens", "max_tokens"),
            ],
        ),
        (
            "gemini",
            json!({
                "systemInstruction": {"parts": [{"text": "a"}, {"text": "b"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "see"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA", "displayName": "n"}}]},
                    {"role": "model", "parts": [{"text": "o"}]},
                    {"role": "model", "parts": [{"text": "k"}, {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "AAAA"}]},
                    {"role": "user", "parts": [{"text": "so"}, {"functionResponse": {"name": "f", "response": {}}}]}],
                "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}, {"name": "g", "parameters": {"type": "OBJECT"}}]}],
                "generation_config": {"max_output_tokens": 5, "stopSequences": ["x"], "thinkingConfig": {"thinkingBudget": 5}}
            }),
            &[
                ("messages[0].content[1]", "systemInstruction.parts[1]"),
                ("messages[1].content[1]", "contents[0].parts[1].inlineData"),
                ("messages[1].content[1].file.filename", "contents[0].parts[1].inlineData.displayName"),
                ("messages[2].tool_calls[0].signature", "contents[2].parts[1].thoughtSignature"),
                ("messages[2].tool_calls[0].function.arguments", "contents[2].parts[1].functionCall.args"),
                ("messages[3].content[0].is_error", "contents[3].parts[1].functionResponse"),
                ("messages[3].tool_call_id", "contents[3].parts[1].functionResponse.name"),
                ("messages[4].content[0]", "contents[3].parts[0]"),
                ("messages[4]", "contents[3]"),
                ("tools[0]", "tools[0]"),
                ("tools[2].function.parameters", "tools[1].functionDeclarations[1].parameters"),
                ("max_tokens", "generation_config.max_output_tokens"),
                ("stop", "generation_config.stopSequences"),
                ("reasoning.max_tokens", "generation_config.thinkingConfig.thinkingBudget"),
            ],
        ),
        (
            "openai_responses",
            json!({
                "model": "m", "instructions": "a", "max_output_tokens": 5, "include": ["message.output_text.logprobs"],
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
                "reasoning": {"effort": "low", "summary": "auto"},
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "t"},
                        {"type": "input_image", "image_url": "https://x", "detail": "low"}]},
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"},
                    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{"},
                    {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_file", "file_id": "x"}]},
                    {"role": "user", "content": "more"}],
                "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}]
            }),
            &[
                ("messages[0].content[0]", "instructions"),
                ("messages[1].content[1].image_url.detail", "input[0].content[1].detail"),
                ("messages[2].reasoning", "input[1]"),
                ("messages[2].content[0].signature", "input[1].encrypted_content"),
                ("messages[2].tool_calls[0].function.arguments", "input[2].arguments"),
                ("messages[2].content[2]", "input[3]"),
                ("messages[3].content[0].content[0].file.file_id", "input[4].output[0].file_id"),
                ("messages[4].content[0]", "input[5].content"),
                ("tools[0].function.strict", "tools[0].strict"),
                ("max_tokens", "max_output_tokens"),
                ("response_format.json_schema.schema", "text.format.schema"),
                ("reasoning_effort", "reasoning.effort"),
                ("reasoning.summary", "reasoning.summary"),
                ("logprobs", "include"),
            ],
        ),
        (
            "openai_responses",
            json!({"model": "m", "input": "t"}),
            &[("messages[0].content[0].cache_control", "input"), ("messages[0]", "input")],
        ),
        (
            "openai_chat",
            json!({
                "model": "m", "max_completion_tokens": 5, "reasoning_effort": "low",
                "messages": [
                    {"role": "system", "content": "a"},
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}}]},
                    {"role": "assistant", "content": "", "reasoning_content": "r", "refusal": "no",
                        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
                    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "t"}]}],
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "functions": [{"name": "g", "parameters": {"type": "object"}}]
            }),
            &[
                ("messages[0].content[0]", "messages[0].content"),
                ("messages[1].content[0].image_url.detail", "messages[1].content[0].image_url.detail"),
                ("messages[2].reasoning", "messages[2].reasoning_content"),
                ("messages[2].refusal", "messages[2].refusal"),
                ("messages[2].tool_calls[0].function.arguments", "messages[2].tool_calls[0].function.arguments"),
                ("messages[3].content[0].content[0]", "messages[3].content[0]"),
                ("messages[3].tool_call_id", "messages[3].tool_call_id"),
                ("tools[1].function.parameters", "functions[0].parameters"),
                ("max_tokens", "max_completion_tokens"),
                ("reasoning", "reasoning_effort"),
                ("routing", "routing"),
            ],
        ),
        (
            "openai_completions",
            json!({"model": "m", "prompt": ["t"], "logprobs": 1}),
            &[("messages[0].content[0]", "prompt"), ("messages", "prompt"), ("top_logprobs", "logprobs")],
        ),
    ];
    for (client, body, expected) in cases {
        let inbound = named(client).unwrap().inbound.unwrap();
        let text = format!(" \n{body}");
        let request = inbound.decode(text.as_bytes()).unwrap();
        let mut teller = Teller::new(inbound.words(), &request, text.as_bytes());
        for (path, said) in expected {
            assert_eq!(teller.tell(path), *said, "{client}: {path}");
        }
    }
}

/// A question for a count may have its request inside it.
#[test]
fn a_request_within_a_question_is_named_with_it() {
    let inbound = named("gemini").unwrap().inbound.unwrap();
    let body = br#"{"generateContentRequest":{"contents":[{"parts":[{"text":"t"}]}],"tools":[{"functionDeclarations":[{"name":"f"}]}]}}"#;
    let request = inbound.decode_count(body).unwrap();
    let mut teller = Teller::new(inbound.words(), &request, body);
    for (path, said) in [
        ("messages[0].content[0]", "generateContentRequest.contents[0].parts[0]"),
        ("tools[0].function.name", "generateContentRequest.tools[0].functionDeclarations[0].name"),
        ("max_tokens", "generationConfig.maxOutputTokens"),
    ] {
        assert_eq!(teller.tell(path), said, "{path}");
    }
}
