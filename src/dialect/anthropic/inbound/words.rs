//! What callers of Messages call the parts of a request.

use crate::dialect::words::Words;

pub(super) const WORDS: Words = Words {
    system: "system",
    members: &[
        ("stop", &["stop_sequences"]),
        ("user", &["metadata.user_id"]),
        ("parallel_tool_calls", &["tool_choice.disable_parallel_tool_use"]),
        ("response_format", &["output_config.format", "output_format"]),
        ("response_format.json_schema", &["output_config.format", "output_format"]),
        ("reasoning", &["thinking", "output_config.effort"]),
        ("reasoning.max_tokens", &["thinking.budget_tokens", "output_config.effort", "thinking"]),
        ("reasoning.exclude", &["thinking.display"]),
        ("reasoning.show", &["thinking.display"]),
        ("reasoning.summary", &["thinking.display"]),
        ("reasoning_effort", &["output_config.effort", "thinking.type"]),
    ],
    within: &[
        (".function.arguments", &[".input"]),
        (".function.name", &[".name"]),
        (".file.filename", &[".title"]),
        (".file.file_id", &[".source.file_id"]),
        (".annotations", &[".citations"]),
        (".tool_call_id", &[".tool_use_id"]),
    ],
    tools: &[
        (".function.parameters", &[".input_schema"]),
        (".function.name", &[".name"]),
        (".function.description", &[".description"]),
        (".function.strict", &[".strict"]),
    ],
    ..Words::PLAIN
};
