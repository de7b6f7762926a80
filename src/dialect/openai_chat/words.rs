//! What callers of Chat Completions call the parts of a request: the names of the older forms beside those of today.

use crate::dialect::words::Words;

pub(super) const WORDS: Words = Words {
    apart: true,
    members: &[
        ("max_tokens", &["max_completion_tokens", "max_tokens"]),
        ("tool_choice", &["tool_choice", "function_call"]),
        ("response_format.json_schema.schema", &["response_format.json_schema.schema", "response_format.schema"]),
        ("reasoning", &["reasoning", "reasoning_effort", "thinking", "thinking_budget", "enable_thinking"]),
        (
            "reasoning.max_tokens",
            &["reasoning.max_tokens", "thinking.budget_tokens", "thinking_budget", "reasoning_effort", "reasoning"],
        ),
        (
            "reasoning_effort",
            &["reasoning_effort", "reasoning.effort", "thinking.type", "enable_thinking", "reasoning.enabled"],
        ),
        ("reasoning.show", &["reasoning.exclude"]),
    ],
    within: &[
        (".function.arguments", &[".function.arguments", ".arguments"]),
        (".function.name", &[".function.name", ".name"]),
        (".image_url.detail", &[".image_url.detail", ".video_url.detail"]),
        (".citations", &[".annotations"]),
        (".signature", &[".extra_content"]),
    ],
    tools: &[
        (".function.name", &[".function.name", ".name"]),
        (".function.description", &[".function.description", ".description"]),
        (".function.parameters", &[".function.parameters", ".parameters"]),
    ],
    more_tools: "functions",
    ..Words::PLAIN
};
