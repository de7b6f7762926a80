//! What callers of the Responses API call the parts of a request.

use crate::dialect::words::Words;

pub(super) const WORDS: Words = Words {
    turns: "input",
    system: "instructions",
    results: "output",
    members: &[
        ("messages", &["input"]),
        ("max_tokens", &["max_output_tokens"]),
        ("response_format", &["text.format"]),
        ("response_format.json_schema", &["text.format"]),
        ("reasoning.max_tokens", &["reasoning.effort"]),
        ("reasoning_effort", &["reasoning.effort"]),
        ("reasoning.summary", &["reasoning.summary", "reasoning.generate_summary"]),
        ("logprobs", &["include"]),
        ("user", &["user", "safety_identifier"]),
    ],
    within: &[
        (".function.arguments", &[".arguments"]),
        (".function.name", &[".name"]),
        (".image_url.detail", &[".detail"]),
        (".file.filename", &[".filename"]),
        (".file.file_id", &[".file_id"]),
        (".citations", &[".annotations"]),
        (".signature", &[".encrypted_content", ".signature"]),
        (".tool_call_id", &[".call_id"]),
    ],
    tools: &[
        (".function.parameters", &[".parameters"]),
        (".function.name", &[".name"]),
        (".function.description", &[".description"]),
        (".function.strict", &[".strict"]),
    ],
    ..Words::PLAIN
};
