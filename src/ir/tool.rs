//! What the model may call.

use super::message::CacheMark;
use crate::wire::json::{Extras, Raw, Text};

#[derive(Clone, Debug, PartialEq)]
pub enum Tool<'a> {
    Function {
        name: Text<'a>,
        description: Option<Text<'a>>,
        /// JSON Schema of the arguments; absent means no arguments.
        parameters: Option<Raw<'a>>,
        strict: Option<bool>,
        cache: Option<CacheMark<'a>>,
        extras: Extras<'a>,
    },
    /// A tool that only its own dialect knows (web search, code execution, custom grammars), whole and raw.
    Other { kind: Text<'a>, json: Raw<'a> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice<'a> {
    Auto,
    /// Must not call.
    None,
    /// Must call some tool (`required`, `any`).
    Required,
    /// Must call this tool.
    Function(Text<'a>),
    /// Must call one of these, or (`required: false`) may.
    Allowed {
        required: bool,
        names: Vec<Text<'a>>,
    },
    /// A choice that only its own dialect knows.
    Other(Raw<'a>),
}
