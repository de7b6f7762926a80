//! The item of a stream that is told as it comes: what of it is open, and what was told already.

use crate::dialect::openai_chat::wire::some;
use crate::ir::{Content, Delta, Event, Reasoning, ToolKind};
use crate::wire::json::{Raw, Text};

use super::carry;
use super::response::joined;
use super::wire::NAME;

pub type Emit<'e> = dyn FnMut(Event<'_>) + 'e;

/// An item that has begun.
pub struct Begun {
    pub index: u64,
    pub id: String,
    pub kind: Kind,
    /// Part of it went by untold: only its end can tell it.
    pub missed: bool,
    /// Thoughts that were told until another item went on.
    pub left: bool,
}

#[derive(Clone)]
pub enum Kind {
    Message,
    Reasoning,
    Call { kind: ToolKind, call: String, name: String },
    Other,
}

/// The item that is told as it comes.
pub struct Active {
    pub begun: Begun,
    /// Number of the block that is open, or of the next one.
    pub next: u32,
    /// A block is open.
    pub open: bool,
    /// Any block was opened.
    pub any: bool,
    pub part: Place,
    /// Text of the part was told.
    pub sent: bool,
    pub cited: usize,
    pub scored: bool,
}

/// The part of an item that an event is about.
#[derive(Clone, Copy, PartialEq)]
pub struct Place {
    pub kind: PartKind,
    pub index: u64,
}

#[derive(Clone, Copy, PartialEq)]
pub enum PartKind {
    Text,
    Refusal,
    Summary,
    Thought,
}

impl Active {
    pub fn new(begun: Begun, next: u32) -> Self {
        let part = Place { kind: PartKind::Text, index: u64::MAX };
        Active { begun, next, open: false, any: false, part, sent: false, cited: 0, scored: false }
    }

    /// Leaves the part before, if another one goes on.
    pub fn turn(&mut self, part: Place, emit: &mut Emit<'_>) {
        if self.part != part {
            self.close(emit);
            self.part = part;
            self.sent = false;
            self.cited = 0;
            self.scored = false;
        }
    }

    pub fn text(&mut self, text: Text<'_>, emit: &mut Emit<'_>) {
        if text.is_empty() {
            return;
        }
        self.sent = true;
        if self.open {
            return emit(Event::Delta { candidate: 0, block: self.next, delta: Delta::Text(text) });
        }
        self.open = true;
        self.any = true;
        let content = match self.part.kind {
            PartKind::Text => Content::Text { text, citations: Vec::new() },
            PartKind::Refusal => Content::Refusal(text),
            PartKind::Summary | PartKind::Thought => Content::Reasoning(Reasoning {
                text: Some(text),
                summary: self.part.kind == PartKind::Summary,
                issuer: Some(NAME.into()),
                id: some(Some(self.begun.id.as_str().into())).filter(|id| !carry::is_made(id)),
                ..Reasoning::default()
            }),
        };
        emit(Event::Open { candidate: 0, block: self.next, content });
    }

    pub fn cite(&mut self, json: Raw<'_>, emit: &mut Emit<'_>) {
        if !self.open {
            self.open = true;
            self.any = true;
            let content = Content::Text { text: Text::default(), citations: Vec::new() };
            emit(Event::Open { candidate: 0, block: self.next, content });
        }
        self.cited += 1;
        emit(Event::Delta { candidate: 0, block: self.next, delta: Delta::Citation(json) });
    }

    /// Tells log probabilities; of those at the end of a part only if none came before.
    pub fn score(&mut self, json: &Raw<'_>, again: bool, emit: &mut Emit<'_>) {
        if again && self.scored {
            return;
        }
        if let Some(json) = joined(&json.read::<Vec<Raw<'_>>>().unwrap_or_default()) {
            self.scored = true;
            emit(Event::Logprobs { candidate: 0, json });
        }
    }

    pub fn argue(&mut self, piece: Text<'_>, emit: &mut Emit<'_>) {
        if !piece.is_empty() {
            self.sent = true;
            emit(Event::Delta { candidate: 0, block: self.next, delta: Delta::Arguments(piece) });
        }
    }

    pub fn close(&mut self, emit: &mut Emit<'_>) {
        if std::mem::take(&mut self.open) {
            emit(Event::Close { candidate: 0, block: self.next });
            self.next = self.next.saturating_add(1);
        }
    }
}
