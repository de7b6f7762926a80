//! The shapes of Messages bodies, and the words that stand for the IR's.
//!
//! Members are typed as far as we interpret them; the rest is kept raw. Tables of words are read in either direction.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::ir::FinishReason;
use crate::shape;
use crate::wire::json::{Number, Raw, Text};

shape! {
    /// A whole answer; the `message` of `message_start` is one without content.
    pub(super) struct Answer {
        kind "type": Text<'a>,
        id "id": Text<'a>,
        role "role": Text<'a>,
        model "model": Text<'a>,
        content "content": Vec<Raw<'a>>,
        stop_reason "stop_reason": Text<'a>,
        stop_sequence "stop_sequence": Text<'a>,
        usage "usage": Counts<'a>,
        error "error": Raw<'a>,
    }
}

shape! {
    /// A content block, of a request or an answer.
    pub(super) struct Part {
        kind "type": Text<'a>,
        text "text": Text<'a>,
        citations "citations": Vec<Raw<'a>>,
        thinking "thinking": Text<'a>,
        signature "signature": Text<'a>,
        data "data": Text<'a>,
        id "id": Text<'a>,
        name "name": Text<'a>,
        input "input": Raw<'a>,
        cache "cache_control": Raw<'a>,
    }
}

shape! {
    pub(super) struct Counts {
        input "input_tokens": Number<'a>,
        output "output_tokens": Number<'a>,
        read "cache_read_input_tokens": Number<'a>,
        written "cache_creation_input_tokens": Number<'a>,
        split "cache_creation": Lifetimes<'a>,
        details "output_tokens_details": Details<'a>,
        tools "server_tool_use": ServerTools<'a>,
        tier "service_tier": Text<'a>,
        iterations "iterations": Vec<Iteration<'a>>,
    }
}

shape! {
    /// Tokens written to the cache, by their time to live.
    pub(super) struct Lifetimes {
        short "ephemeral_5m_input_tokens": Number<'a>,
        long "ephemeral_1h_input_tokens": Number<'a>,
    }
}

shape! {
    pub(super) struct Details { thinking "thinking_tokens": Number<'a> }
}

shape! {
    pub(super) struct ServerTools { searches "web_search_requests": Number<'a> }
}

shape! {
    /// One sampling among several that made an answer.
    pub(super) struct Iteration {
        kind "type": Text<'a>,
        input "input_tokens": Number<'a>,
        output "output_tokens": Number<'a>,
        read "cache_read_input_tokens": Number<'a>,
        written "cache_creation_input_tokens": Number<'a>,
        split "cache_creation": Lifetimes<'a>,
    }
}

shape! {
    /// One event of a stream.
    pub(super) struct Frame {
        kind "type": Text<'a>,
        index "index": Number<'a>,
        message "message": Answer<'a>,
        block "content_block": Raw<'a>,
        delta "delta": Raw<'a>,
        usage "usage": Counts<'a>,
        error "error": Raw<'a>,
    }
}

shape! {
    /// What `content_block_delta` and `message_delta` bring.
    pub(super) struct Delta {
        kind "type": Text<'a>,
        text "text": Text<'a>,
        json "partial_json": Text<'a>,
        thinking "thinking": Text<'a>,
        signature "signature": Text<'a>,
        citation "citation": Raw<'a>,
        content "content": Raw<'a>,
        stop_reason "stop_reason": Text<'a>,
        stop_sequence "stop_sequence": Text<'a>,
    }
}

shape! {
    /// What the sniffer needs of a frame or a body. All that a content frame has is known here, so that nothing is
    /// gathered in `extras`, and reading one allocates nothing.
    pub(super) struct Glance {
        kind "type": Text<'a>,
        index "index": Skip,
        delta "delta": Skip,
        block "content_block": Raw<'a>,
        content "content": Skip,
        message "message": Raw<'a>,
        usage "usage": Raw<'a>,
        error "error": Raw<'a>,
    }
}

shape! {
    /// A block that begins, by its kind.
    pub(super) struct Begun {
        kind "type": Text<'a>,
    }
}

shape! {
    /// Any object: all its members, in order.
    pub(super) struct Bag {}
}

/// A value that is not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip;

impl<'de> Deserialize<'de> for Skip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Skip)
    }
}

/// `stop_reason` and what it means.
pub(super) const STOPS: [(&str, FinishReason); 7] = [
    ("end_turn", FinishReason::Stop),
    ("stop_sequence", FinishReason::StopSequence),
    ("max_tokens", FinishReason::Length),
    ("model_context_window_exceeded", FinishReason::Length),
    ("tool_use", FinishReason::ToolCalls),
    ("pause_turn", FinishReason::Pause),
    ("refusal", FinishReason::Refusal),
];

/// Text, unless it is empty.
pub(super) fn some(text: Option<Text<'_>>) -> Option<Text<'_>> {
    text.filter(|text| !text.is_empty())
}
