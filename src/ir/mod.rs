//! Floor 2: what is said, in no provider's words.
//!
//! Dialects translate to and from these types, so that N callers' and M providers' dialects need N + M translators.
//! The shape is that of blocks (text, reasoning, tool call, ...) inside messages, and of block events (start, delta,
//! stop) inside streams: blocks flatten to chat deltas for free, and the reverse is written once. Values borrow from
//! the body or chunk that they were read from and are never stored. What only one dialect knows rides along raw in
//! `extras`, and is written back only by that dialect ([`Origin`]); everyone else names it as a [`loss::Loss`].

pub mod collect;
pub mod event;
pub mod fault;
pub mod loss;
pub mod message;
pub mod request;
pub mod response;
pub mod tool;
pub mod usage;

pub use collect::Collector;
pub use event::{Delta, Event};
pub use fault::{Fault, FaultKind};
pub use loss::{How, Loss, Losses};
pub use message::{
    Block, CacheMark, Content, Media, MediaKind, Message, Reasoning, Role, Source, ToolCall, ToolKind, ToolResult,
    Whence,
};
pub use request::{Effort, Format, ReasoningWish, Request, Sampling};
pub use response::{Candidate, Finish, FinishReason, Response};
pub use tool::{Tool, ToolChoice};
pub use usage::Usage;

/// The name of the dialect that a value was decoded from: the owner of its extras and of its signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin(pub &'static str);
