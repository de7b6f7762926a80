//! The shapes of Responses bodies, requests and answers alike: an item looks the same in both.
//!
//! Typed only as far as we interpret them. An item is first asked for its kind and then read as that kind, because
//! kinds use the same names for different things (`output` is a text here and an object there).

use crate::ir::{FinishReason, Origin};
use crate::shape;
use crate::wire::json::{Number, Raw, Text, TextOr};

/// The name of the dialect, as it stands in [`Origin`] and as issuer of encrypted thoughts.
pub const NAME: &str = "openai_responses";

/// The owner of this dialect's extras.
pub const ORIGIN: Origin = Origin(NAME);

/// Prefix of members of an item that ride along on the item's first block: they also mark where an item began.
pub const ITEM: &str = "item.";

shape! {
    pub struct RequestBody {
        model "model": Text<'a>,
        input "input": TextOr<'a, Vec<Raw<'a>>>,
        instructions "instructions": Text<'a>,
        prompt "prompt": Raw<'a>,
        tools "tools": Vec<Raw<'a>>,
        tool_choice "tool_choice": Raw<'a>,
        parallel "parallel_tool_calls": bool,
        text "text": TextOptions<'a>,
        reasoning "reasoning": ReasoningOptions<'a>,
        temperature "temperature": Number<'a>,
        top_p "top_p": Number<'a>,
        top_logprobs "top_logprobs": Number<'a>,
        max_output "max_output_tokens": Number<'a>,
        include "include": Vec<Text<'a>>,
        stream "stream": bool,
        stream_options "stream_options": StreamOptions<'a>,
        user "user": Text<'a>,
        safety "safety_identifier": Text<'a>,
        metadata "metadata": Raw<'a>,
        service_tier "service_tier": Text<'a>,
        cache_key "prompt_cache_key": Text<'a>,
        background "background": bool,
        // What these refer to was put into `input`, and what they ask for is done, before the body is read.
        state "previous_response_id" | "conversation" | "store": Raw<'a>,
    }
}

shape! {
    pub struct TextOptions { format "format": Raw<'a> }
}

shape! {
    pub struct TextFormat {
        kind "type": Text<'a>,
        name "name": Text<'a>,
        description "description": Text<'a>,
        schema "schema": Raw<'a>,
        strict "strict": bool,
    }
}

shape! {
    pub struct ReasoningOptions {
        effort "effort": Raw<'a>,
        summary "summary": Text<'a>,
        // The deprecated name.
        generate_summary "generate_summary": Text<'a>,
    }
}

shape! {
    pub struct StreamOptions { obfuscation "include_obfuscation": bool }
}

shape! {
    pub struct ToolDef {
        kind "type": Text<'a>,
        name "name": Text<'a>,
        description "description": Text<'a>,
        parameters "parameters": Raw<'a>,
        strict "strict": bool,
    }
}

shape! {
    pub struct Choice { kind "type": Text<'a>, name "name": Text<'a>, mode "mode": Text<'a>, tools "tools": Vec<Raw<'a>> }
}

shape! {
    /// What every item is asked first.
    pub struct Kind { kind "type": Raw<'a>, id "id": Raw<'a>, role "role": Raw<'a> }
}

shape! {
    pub struct MessageItem {
        kind "type": Raw<'a>,
        id "id": Raw<'a>,
        status "status": Raw<'a>,
        role "role": Text<'a>,
        content "content": TextOr<'a, Vec<Raw<'a>>>,
    }
}

shape! {
    pub struct ReasoningItem {
        kind "type": Raw<'a>,
        id "id": Text<'a>,
        status "status": Raw<'a>,
        summary "summary": Vec<Part<'a>>,
        content "content": Vec<Part<'a>>,
        encrypted "encrypted_content": Text<'a>,
        // OpenRouter, for issuers other than OpenAI.
        signature "signature": Text<'a>,
        format "format": Text<'a>,
    }
}

shape! {
    /// `function_call` and `custom_tool_call`.
    pub struct CallItem {
        kind "type": Raw<'a>,
        id "id": Raw<'a>,
        status "status": Raw<'a>,
        call_id "call_id": Text<'a>,
        name "name": Text<'a>,
        arguments "arguments": Raw<'a>,
        input "input": Text<'a>,
    }
}

shape! {
    /// `function_call_output` and `custom_tool_call_output`.
    pub struct ResultItem {
        kind "type": Raw<'a>,
        id "id": Raw<'a>,
        status "status": Raw<'a>,
        call_id "call_id": Text<'a>,
        output "output": TextOr<'a, Vec<Raw<'a>>>,
    }
}

shape! {
    /// `image_generation_call`.
    pub struct ImageItem { kind "type": Raw<'a>, result "result": Text<'a>, format "output_format": Text<'a> }
}

shape! {
    pub struct Part {
        kind "type": Text<'a>,
        text "text": Text<'a>,
        refusal "refusal": Text<'a>,
        annotations "annotations": Vec<Raw<'a>>,
        logprobs "logprobs": Raw<'a>,
        image_url "image_url": Raw<'a>,
        file_id "file_id": Text<'a>,
        file_data "file_data": Text<'a>,
        file_url "file_url": Text<'a>,
        filename "filename": Text<'a>,
        detail "detail": Text<'a>,
    }
}

shape! {
    /// An address in the shape of Chat Completions, which some callers send here too.
    pub struct Url { url "url": Text<'a> }
}

shape! {
    /// A whole answer.
    pub struct Answer {
        id "id": Text<'a>,
        object "object": Raw<'a>,
        created "created_at": Raw<'a>,
        model "model": Text<'a>,
        status "status": Text<'a>,
        incomplete "incomplete_details": Incomplete<'a>,
        error "error": Raw<'a>,
        output "output": Vec<Raw<'a>>,
        usage "usage": Raw<'a>,
        tool_usage "tool_usage": Raw<'a>,
        service_tier "service_tier": Text<'a>,
    }
}

shape! {
    pub struct Incomplete { reason "reason": Text<'a> }
}

shape! {
    /// One event of a stream.
    pub struct Event {
        kind "type": Text<'a>,
        index "output_index": Raw<'a>,
        part_index "content_index" | "summary_index": Raw<'a>,
        delta "delta": Raw<'a>,
        // The end of a part says all of it again.
        whole "text" | "refusal" | "arguments" | "input": Raw<'a>,
        part "part": Raw<'a>,
        item "item": Raw<'a>,
        response "response": Raw<'a>,
        annotation "annotation": Raw<'a>,
        logprobs "logprobs": Raw<'a>,
        error "error": Raw<'a>,
    }
}

/// Members of an answer that repeat the request, or say nothing that a caller of another dialect would want to know.
const ECHOES: [&str; 27] = [
    "background",
    "billing",
    "completed_at",
    "context_management",
    "conversation",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "output_text",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

/// Whether a member of an answer tells nothing of the answer.
pub fn is_echo(name: &str) -> bool {
    ECHOES.contains(&name) || matches!(name, "top_logprobs" | "truncation" | "total_tokens")
}

/// Kinds of items that stand for traffic with tools of the provider's own, and others that we carry whole.
pub fn is_item(kind: &str) -> bool {
    kind.ends_with("_call")
        || kind.ends_with("_call_output")
        || matches!(
            kind,
            "mcp_list_tools"
                | "mcp_approval_request"
                | "mcp_approval_response"
                | "tool_search_output"
                | "additional_tools"
                | "compaction"
                | "program"
                | "program_output"
        )
}

/// Why the model stopped, from an answer's status and the reason for which it is not complete.
pub fn finish(status: &str, incomplete: Option<&str>, called: bool) -> FinishReason {
    match (status, incomplete) {
        // `complete` is in the SDKs' own fixtures.
        ("completed" | "complete" | "", None) if called => FinishReason::ToolCalls,
        ("completed" | "complete" | "", None) => FinishReason::Stop,
        (_, Some("max_output_tokens" | "max_tokens" | "length")) => FinishReason::Length,
        (_, Some("content_filter")) => FinishReason::ContentFilter,
        ("failed" | "cancelled", _) => FinishReason::Error,
        _ => FinishReason::Other,
    }
}
