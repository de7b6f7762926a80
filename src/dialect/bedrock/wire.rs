//! The shapes of Converse bodies and events, and the words that stand for the IR's.
//!
//! Unions are objects with one member; each shape here has the members that we know, and keeps another one raw.

use crate::ir::FinishReason;
use crate::shape;
use crate::wire::json::{Number, Raw, Text};

shape! {
    /// A whole answer.
    pub(super) struct Answer {
        output "output": Output<'a>,
        stop "stopReason": Text<'a>,
        usage "usage": Counts<'a>,
        metrics "metrics": Raw<'a>,
        trace "trace": Raw<'a>,
        fields "additionalModelResponseFields": Raw<'a>,
        tier "serviceTier": Tier<'a>,
        message "message" | "Message": Text<'a>,
    }
}

shape! {
    pub(super) struct Output { message "message": Message<'a> }
}

shape! {
    pub(super) struct Message { role "role": Text<'a>, content "content": Vec<Raw<'a>> }
}

shape! {
    /// A content block.
    pub(super) struct Part {
        text "text": Text<'a>,
        call "toolUse": Call<'a>,
        reasoning "reasoningContent": Thought<'a>,
        cited "citationsContent": Cited<'a>,
        image "image": Picture<'a>,
    }
}

shape! {
    pub(super) struct Call {
        id "toolUseId": Text<'a>,
        name "name": Text<'a>,
        input "input": Raw<'a>,
        kind "type": Text<'a>,
    }
}

shape! {
    pub(super) struct Thought { told "reasoningText": ThoughtText<'a>, redacted "redactedContent": Text<'a> }
}

shape! {
    pub(super) struct ThoughtText { text "text": Text<'a>, signature "signature": Text<'a> }
}

shape! {
    pub(super) struct Cited { content "content": Vec<Part<'a>>, citations "citations": Vec<Raw<'a>> }
}

shape! {
    pub(super) struct Picture { format "format": Text<'a>, source "source": Bytes<'a> }
}

shape! {
    pub(super) struct Bytes { bytes "bytes": Text<'a> }
}

shape! {
    pub(super) struct Counts {
        input "inputTokens": Number<'a>,
        output "outputTokens": Number<'a>,
        total "totalTokens": Number<'a>,
        read "cacheReadInputTokens": Number<'a>,
        written "cacheWriteInputTokens": Number<'a>,
        details "cacheDetails": Vec<Written<'a>>,
    }
}

shape! {
    /// Tokens written to the cache, by their time to live.
    pub(super) struct Written { ttl "ttl": Text<'a>, tokens "inputTokens": Number<'a> }
}

shape! {
    pub(super) struct Tier { kind "type": Text<'a> }
}

shape! {
    pub(super) struct Trace { router "promptRouter": Router<'a> }
}

shape! {
    pub(super) struct Router { model "invokedModelId": Text<'a> }
}

shape! {
    /// What a model adds to its answer of its own.
    pub(super) struct Fields { sequence "stop_sequence": Text<'a> }
}

shape! {
    /// The payload of an event. `p` is padding against those who measure lengths.
    pub(super) struct Payload {
        padding "p": Text<'a>,
        role "role": Text<'a>,
        index "contentBlockIndex": Number<'a>,
        start "start": Raw<'a>,
        delta "delta": Raw<'a>,
        stop "stopReason": Text<'a>,
        fields "additionalModelResponseFields": Raw<'a>,
        usage "usage": Counts<'a>,
        metrics "metrics": Raw<'a>,
    }
}

shape! {
    /// What `contentBlockStart` says of a block; a block of text has none.
    pub(super) struct Start {
        call "toolUse": Call<'a>,
        result "toolResult": Raw<'a>,
        image "image": Picture<'a>,
    }
}

shape! {
    /// What `contentBlockDelta` brings.
    pub(super) struct Delta {
        text "text": Text<'a>,
        call "toolUse": CallDelta<'a>,
        reasoning "reasoningContent": ThoughtDelta<'a>,
        citation "citation": Raw<'a>,
        result "toolResult": Vec<Raw<'a>>,
        image "image": Picture<'a>,
    }
}

shape! {
    pub(super) struct CallDelta { input "input": Text<'a> }
}

shape! {
    pub(super) struct ThoughtDelta {
        text "text": Text<'a>,
        signature "signature": Text<'a>,
        redacted "redactedContent": Text<'a>,
    }
}

shape! {
    /// A caller's mark of what to cache.
    pub(super) struct Mark { ttl "ttl": Text<'a> }
}

shape! {
    /// Any object: all its members, in order.
    pub(super) struct Bag {}
}

/// `stopReason` and what it means.
pub(super) const STOPS: [(&str, FinishReason); 9] = [
    ("end_turn", FinishReason::Stop),
    ("stop_sequence", FinishReason::StopSequence),
    ("max_tokens", FinishReason::Length),
    ("model_context_window_exceeded", FinishReason::Length),
    ("tool_use", FinishReason::ToolCalls),
    ("guardrail_intervened", FinishReason::ContentFilter),
    ("content_filtered", FinishReason::ContentFilter),
    ("malformed_model_output", FinishReason::Error),
    ("malformed_tool_use", FinishReason::Error),
];

/// What one block says of a tool that Bedrock runs itself (Nova's code interpreter).
pub(super) const SERVER_TOOL: &str = "server_tool_use";
