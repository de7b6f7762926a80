//! The README's table of what each client dialect's features become at each provider dialect, made by asking the encoders.
//!
//! A feature is a fragment of a request. Written for a provider with and without it, its fate shows: other bytes and no
//! loss, an emulation, a loss that names it, or a refusal. The same bytes and no loss would be a silent drop, and fails.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::ir::How;

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PDF: &str = "JVBERi0xLjQKMSAwIG9iago8PD4+CmVuZG9iago=";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

/// Client dialects, and the model that stands for each provider dialect.
pub(super) const CLIENTS: [&str; 4] = ["openai_chat", "openai_responses", "anthropic", "gemini"];
pub(super) const PROVIDERS: [(&str, &str); 7] = [
    ("openai_chat", "gpt-5.2"),
    ("openai_responses", "gpt-5.2"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-pro"),
    ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("cohere", "command-a-reasoning-08-2025"),
    ("ollama", "qwen3"),
];

/// A feature, and how each client dialect asks for it; `null`: it cannot.
pub(super) fn features() -> Vec<(&'static str, [Value; 4])> {
    let data = |mime: &str, data: &str| format!("data:{mime};base64,{data}");
    let chat = |part: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, part]}]});
    let items =
        |part: Value| json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}, part]}]});
    let parts = |part: Value| json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}, part]}]});
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let tool = (
        json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}),
        json!({"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": false}),
        json!({"name": "f", "description": "d", "input_schema": schema}),
        json!({"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": schema}]}),
    );
    let tools = |chat: Value, responses: Value, anthropic: Value, gemini: Value| {
        let with = |list: &Value, more: Value| {
            let mut all = json!({"tools": [list]});
            all.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            all
        };
        [with(&tool.0, chat), with(&tool.1, responses), with(&tool.2, anthropic), with(&tool.3, gemini)]
    };
    let n = Value::Null;
    vec![
        (
            "system prompt",
            [
                json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}),
                json!({"instructions": "Be brief."}),
                json!({"system": "Be brief."}),
                json!({"systemInstruction": {"parts": [{"text": "Be brief."}]}}),
            ],
        ),
        (
            "image, inline",
            [
                chat(json!({"type": "image_url", "image_url": {"url": data("image/png", PNG)}})),
                items(json!({"type": "input_image", "image_url": data("image/png", PNG), "detail": "auto"})),
                chat(json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}})),
                parts(json!({"inlineData": {"mimeType": "image/png", "data": PNG}})),
            ],
        ),
        (
            "image by URL",
            [
                chat(json!({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}})),
                items(json!({"type": "input_image", "image_url": "https://x.example/a.png", "detail": "auto"})),
                chat(json!({"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}})),
                parts(json!({"fileData": {"mimeType": "image/png", "fileUri": "https://x.example/a.png"}})),
            ],
        ),
        (
            "PDF, inline",
            [
                chat(json!({"type": "file", "file": {"filename": "a.pdf", "file_data": data("application/pdf", PDF)}})),
                items(json!({"type": "input_file", "filename": "a.pdf", "file_data": data("application/pdf", PDF)})),
                chat(
                    json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}),
                ),
                parts(json!({"inlineData": {"mimeType": "application/pdf", "data": PDF}})),
            ],
        ),
        (
            "audio, inline",
            [
                chat(json!({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}})),
                n.clone(),
                n.clone(),
                parts(json!({"inlineData": {"mimeType": "audio/wav", "data": WAV}})),
            ],
        ),
        ("tools", tools(n.clone(), n.clone(), n.clone(), n.clone())),
        (
            "a tool must be called",
            tools(
                json!({"tool_choice": "required"}),
                json!({"tool_choice": "required"}),
                json!({"tool_choice": {"type": "any"}}),
                json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
            ),
        ),
        (
            "this tool must be called",
            tools(
                json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                json!({"tool_choice": {"type": "function", "name": "f"}}),
                json!({"tool_choice": {"type": "tool", "name": "f"}}),
                json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}}),
            ),
        ),
        ("one call at a time", {
            let mut row = tools(
                json!({"parallel_tool_calls": false}),
                json!({"parallel_tool_calls": false}),
                json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
                n.clone(),
            );
            // Gemini has no word for it.
            row[3] = Value::Null;
            row
        }),
        (
            "JSON Schema answer",
            [
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": true}}}),
                json!({"text": {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": true}}}),
                json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
                json!({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}),
            ],
        ),
        (
            "JSON answer",
            [
                json!({"response_format": {"type": "json_object"}}),
                json!({"text": {"format": {"type": "json_object"}}}),
                n.clone(),
                json!({"generationConfig": {"responseMimeType": "application/json"}}),
            ],
        ),
        (
            "reasoning effort or budget",
            [
                json!({"reasoning_effort": "high"}),
                json!({"reasoning": {"effort": "high"}}),
                json!({"max_tokens": 9_000, "thinking": {"type": "enabled", "budget_tokens": 8_192}}),
                json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 8_192}}}),
            ],
        ),
        (
            "temperature",
            [
                json!({"temperature": 0.5}),
                json!({"temperature": 0.5}),
                json!({"temperature": 0.5}),
                json!({"generationConfig": {"temperature": 0.5}}),
            ],
        ),
        ("top_k", [n.clone(), n.clone(), json!({"top_k": 5}), json!({"generationConfig": {"topK": 5}})]),
        ("seed", [json!({"seed": 7}), n.clone(), n.clone(), json!({"generationConfig": {"seed": 7}})]),
        (
            "penalties",
            [
                json!({"frequency_penalty": 0.5}),
                n.clone(),
                n.clone(),
                json!({"generationConfig": {"frequencyPenalty": 0.5}}),
            ],
        ),
        (
            "stop sequences",
            [
                json!({"stop": ["END"]}),
                n.clone(),
                json!({"stop_sequences": ["END"]}),
                json!({"generationConfig": {"stopSequences": ["END"]}}),
            ],
        ),
        (
            "several candidates",
            [json!({"n": 2}), n.clone(), n.clone(), json!({"generationConfig": {"candidateCount": 2}})],
        ),
        (
            "log probabilities",
            [
                json!({"logprobs": true, "top_logprobs": 2}),
                json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
                n.clone(),
                json!({"generationConfig": {"responseLogprobs": true, "logprobs": 2}}),
            ],
        ),
        (
            "prompt caching",
            [
                json!({"prompt_cache_key": "k"}),
                json!({"prompt_cache_key": "k"}),
                json!({"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]}),
                json!({"cachedContent": "cachedContents/c"}),
            ],
        ),
        (
            "end user",
            [json!({"user": "u"}), json!({"safety_identifier": "u"}), json!({"metadata": {"user_id": "u"}}), n.clone()],
        ),
        (
            "service tier",
            [
                json!({"service_tier": "flex"}),
                json!({"service_tier": "flex"}),
                json!({"service_tier": "standard_only"}),
                n,
            ],
        ),
    ]
}

fn base(client: &str) -> Value {
    match client {
        "openai_chat" => json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
        "openai_responses" => {
            json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]})
        }
        "anthropic" => json!({"model": "m", "max_tokens": 9_000, "messages": [{"role": "user", "content": "Hi"}]}),
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
    }
}

/// A request of nothing but this.
pub(super) fn with(client: &str, fragment: &Value) -> Value {
    let mut body = base(client);
    body.as_object_mut().unwrap().extend(fragment.as_object().unwrap().clone());
    body
}

/// What becomes of a request: the body and its losses, or nothing where it is refused.
fn written(client: &str, provider: (&str, &str), body: &Value) -> Option<(Vec<u8>, Losses)> {
    let body = body.to_string();
    let mut request = named(client).unwrap().inbound.unwrap().decode(body.as_bytes()).unwrap();
    request.model = "m".into();
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model: provider.1, stream: false, quirks: &quirks, abilities: &abilities };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let outbound = named(provider.0).unwrap().outbound.unwrap();
    outbound.encode(&request, &to, &mut out, &mut losses).ok().map(|()| (out, losses))
}

fn fate(client: &str, provider: (&str, &str), fragment: &Value) -> &'static str {
    if fragment.is_null() {
        return "";
    }
    if client == provider.0 {
        return "yes";
    }
    let plain = base(client);
    let (before, known) = written(client, provider, &plain).unwrap();
    let Some((after, losses)) = written(client, provider, &with(client, fragment)) else { return "refused" };
    let new: Vec<_> = losses.iter().filter(|loss| !known.iter().any(|other| other == *loss)).collect();
    assert!(
        !new.is_empty() || before != after,
        "{client} to {}: {fragment} is dropped in silence: {}",
        provider.0,
        String::from_utf8_lossy(&after)
    );
    match () {
        () if new.is_empty() => "yes",
        () if new.iter().all(|loss| loss.how == How::Emulated) => "emulated",
        () if new.iter().all(|loss| loss.how != How::Dropped) => "altered",
        () => "loss",
    }
}

fn table() -> String {
    let mut out = String::new();
    for (at, client) in CLIENTS.iter().enumerate() {
        write!(out, "\n| `{client}` callers to").unwrap();
        for (provider, _) in PROVIDERS {
            write!(out, " | `{provider}`").unwrap();
        }
        writeln!(out, " |\n|---{}|", "|---".repeat(PROVIDERS.len())).unwrap();
        for (feature, fragments) in features() {
            let Some(fragment) = fragments.get(at).filter(|fragment| !fragment.is_null()) else { continue };
            write!(out, "| {feature}").unwrap();
            for provider in PROVIDERS {
                write!(out, " | {}", fate(client, provider, fragment)).unwrap();
            }
            writeln!(out, " |").unwrap();
        }
    }
    out
}

#[test]
fn the_readme_tells_what_the_encoders_do() {
    const BEGIN: &str = "<!-- features: begin -->\n";
    const END: &str = "\n<!-- features: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has a place for the table");
    let (shown, after) = rest.split_once(END).expect("and its end");
    let table = table();
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(shown == table, "stale: run `GOLDEN=write cargo test --lib the_readme_tells`\n{table}");
}
