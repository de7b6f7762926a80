//! Messages and the blocks they are made of.

use std::fmt;

use crate::wire::json::{Extras, Raw, Text};

/// One turn of the conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message<'a> {
    pub role: Role,
    /// Name of the participant, where a dialect has one.
    pub name: Option<Text<'a>>,
    pub blocks: Vec<Block<'a>>,
    pub extras: Extras<'a>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    System,
    Developer,
    #[default]
    User,
    Assistant,
    /// Holds [`Content::ToolResult`] blocks only. Dialects that put results into user turns split and merge.
    Tool,
}

/// One block of a message or an answer.
#[derive(Clone, PartialEq)]
pub struct Block<'a> {
    pub content: Content<'a>,
    /// The prompt up to and including this block should be cached.
    pub cache: Option<CacheMark<'a>>,
    pub extras: Extras<'a>,
    pub whence: Whence,
}

impl<'a> Block<'a> {
    pub fn new(content: Content<'a>) -> Self {
        Block::with(content, None, Extras::default())
    }

    pub fn with(content: Content<'a>, cache: Option<CacheMark<'a>>, extras: Extras<'a>) -> Self {
        Block { content, cache, extras, whence: Whence::default() }
    }

    pub fn text(text: impl Into<Text<'a>>) -> Self {
        Block::new(Content::Text { text: text.into(), citations: Vec::new() })
    }
}

/// Without whence it came, which is no part of what is said.
impl fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Block { content, cache, extras, whence: _ } = self;
        f.debug_struct("Block").field("content", content).field("cache", cache).field("extras", extras).finish()
    }
}

/// Where a block stood in the caller's body, for naming it in the caller's words when it is lost. No part of what is
/// said: all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whence {
    /// Each one more than the index, 0 where there is none.
    item: u32,
    part: u32,
}

impl Whence {
    /// Item of the conversation (message, content, input item). One without stood outside: among the instructions, or as
    /// a bare prompt.
    pub fn item(self) -> Option<usize> {
        self.item.checked_sub(1).and_then(|index| usize::try_from(index).ok())
    }

    /// Part within the item, or within the result of a tool for blocks of one. One without is the whole.
    pub fn part(self) -> Option<usize> {
        self.part.checked_sub(1).and_then(|index| usize::try_from(index).ok())
    }

    pub fn of_item(mut self, index: usize) -> Whence {
        self.item = number(index);
        self
    }

    pub fn of_part(mut self, index: usize) -> Whence {
        self.part = number(index);
        self
    }
}

/// An index beyond what fits is none.
fn number(index: usize) -> u32 {
    u32::try_from(index).ok().and_then(|index| index.checked_add(1)).unwrap_or_default()
}

impl PartialEq for Whence {
    fn eq(&self, _: &Whence) -> bool {
        true
    }
}

/// `cache_control`, raw: kind and time to live are the provider's.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheMark<'a>(pub Raw<'a>);

#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    Text {
        text: Text<'a>,
        /// Citations or annotations, raw, in the words of the dialect that sent them.
        citations: Vec<Raw<'a>>,
    },
    /// The model declined, in its own words.
    Refusal(Text<'a>),
    Media(Media<'a>),
    Reasoning(Reasoning<'a>),
    ToolCall(ToolCall<'a>),
    ToolResult(ToolResult<'a>),
    /// A block that only the decoding dialect knows: its type name and the whole block, raw. Server-side tool traffic
    /// (web search calls and results, code execution) is carried so.
    Other {
        kind: Text<'a>,
        json: Raw<'a>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Media<'a> {
    pub kind: MediaKind,
    pub source: Source<'a>,
    /// MIME type (`image/png`), where the caller said it.
    pub mime: Option<Text<'a>>,
    /// File name or title.
    pub name: Option<Text<'a>>,
    /// Resolution wished for (`low`, `high`, `auto`).
    pub detail: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    Image,
    Audio,
    Video,
    /// Documents, PDF above all.
    File,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source<'a> {
    Url(Text<'a>),
    /// Standard base64 without the `data:` prefix.
    Base64(Text<'a>),
    /// An id at the provider (uploaded file, earlier audio answer).
    Id(Text<'a>),
    /// Plain text as a document.
    Text(Text<'a>),
}

/// What the model thought. Signatures prove to their issuer that the thoughts are its own; they are kept byte for byte
/// so that the next turn through the same provider is accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasoning<'a> {
    pub text: Option<Text<'a>>,
    /// The text is the provider's summary, not the thoughts themselves.
    pub summary: bool,
    /// Proof over `text` (Anthropic `signature`, Gemini `thoughtSignature`).
    pub signature: Option<Text<'a>>,
    /// The thoughts themselves, encrypted (Anthropic `redacted_thinking.data`, OpenAI `encrypted_content`).
    pub encrypted: Option<Text<'a>>,
    /// Dialect whose provider issued signature or encryption (`anthropic`, `gemini`, ...): no other may be sent them.
    pub issuer: Option<Text<'a>>,
    /// The provider's id of the item, where it has one.
    pub id: Option<Text<'a>>,
}

impl Reasoning<'_> {
    /// What stands beside the text, by name: proofs and names, which have no place in a dialect that takes text alone.
    pub fn beside(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.signature.is_some(), "signature"),
            (self.encrypted.is_some(), "encrypted"),
            (self.id.is_some(), "id"),
        ];
        all.into_iter().filter_map(|(is, name)| is.then_some(name))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall<'a> {
    /// Empty where the provider gives none; the encoder for a caller then makes one from position.
    pub id: Text<'a>,
    pub name: Text<'a>,
    /// Arguments as JSON text (of an object); free text for [`ToolKind::Custom`].
    pub arguments: Text<'a>,
    pub kind: ToolKind,
    /// Gemini's `thoughtSignature` on the call, with its issuer implied: `gemini`.
    pub signature: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolKind {
    #[default]
    Function,
    /// Free-form input (OpenAI custom tools).
    Custom,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolResult<'a> {
    /// Id of the call answered.
    pub id: Text<'a>,
    /// Name of the tool, where the dialect repeats it (Gemini needs it; encoders look it up from the call otherwise).
    pub name: Option<Text<'a>>,
    pub blocks: Vec<Block<'a>>,
    /// The result as a JSON object, where the dialect carries one (Gemini `functionResponse.response`).
    pub structured: Option<Raw<'a>>,
    pub is_error: Option<bool>,
}
