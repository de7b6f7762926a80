//! Blocks of a conversation as they are written, and what stands beside their content.

use std::borrow::Cow;

use super::media::Form;
use crate::ir::ToolCall;
use crate::wire::json::{Extras, Raw};
use crate::wire::writer::{Array, Object};

/// One block, and what stands beside its content.
pub(super) struct Item<'r> {
    pub(super) piece: Piece<'r>,
    pub(super) cache: Option<&'r Raw<'r>>,
    pub(super) extras: Option<&'r Extras<'r>>,
    /// Where it stood: message, and part of its content.
    pub(super) place: (usize, usize),
}

pub(super) enum Piece<'r> {
    Text { text: Cow<'r, str>, citations: &'r [Raw<'r>] },
    Media(Form<'r>),
    Thinking { text: &'r str, signature: &'r str },
    Redacted(&'r str),
    Call { id: Cow<'r, str>, call: &'r ToolCall<'r>, input: Input<'r> },
    Result { id: Cow<'r, str>, items: Vec<Item<'r>>, is_error: Option<bool> },
    Raw(&'r Raw<'r>),
}

/// Arguments of a call.
pub(super) enum Input<'r> {
    Json(&'r str),
    /// Text that is no JSON object, under a name of ours.
    Text(&'static str),
}

/// Writes blocks: as a bare string where that says it all.
pub(super) fn content(o: &mut Object<'_>, name: &str, items: &[Item<'_>]) {
    match items {
        [Item { piece: Piece::Text { text, citations: [] }, cache: None, extras: None, .. }] => o.string(name, text),
        items => o.array(name, |a| items.iter().for_each(|item| item.write(a))),
    }
}

impl<'r> Item<'r> {
    /// A text of ours.
    pub(super) fn made(text: Cow<'r, str>) -> Item<'r> {
        Item { piece: Piece::Text { text, citations: &[] }, cache: None, extras: None, place: (0, 0) }
    }

    pub(super) fn write(&self, a: &mut Array<'_>) {
        if let Piece::Raw(json) = self.piece {
            return a.raw(json);
        }
        a.object(|o| {
            match &self.piece {
                Piece::Text { text, citations } => {
                    o.string("type", "text");
                    o.string("text", text);
                    if !citations.is_empty() {
                        o.array("citations", |a| citations.iter().for_each(|json| a.raw(json)));
                    }
                }
                Piece::Media(form) => form.write(self.extras.and_then(|extras| extras.get("source")), o),
                Piece::Thinking { text, signature } => {
                    o.string("type", "thinking");
                    o.string("thinking", text);
                    o.string("signature", signature);
                }
                Piece::Redacted(data) => {
                    o.string("type", "redacted_thinking");
                    o.string("data", data);
                }
                Piece::Call { id, call, input } => {
                    o.string("type", "tool_use");
                    o.string("id", id);
                    o.string("name", &call.name);
                    match input {
                        Input::Json(json) => o.value("input").extend_from_slice(json.as_bytes()),
                        Input::Text(name) => o.object("input", |o| o.string(name, &call.arguments)),
                    }
                }
                Piece::Result { id, items, is_error } => {
                    o.string("type", "tool_result");
                    o.string("tool_use_id", id);
                    if !items.is_empty() {
                        content(o, "content", items);
                    }
                    if let Some(is_error) = is_error {
                        o.bool("is_error", *is_error);
                    }
                }
                Piece::Raw(_) => {}
            }
            if let Some(mark) = self.cache {
                o.raw("cache_control", mark);
            }
            for (name, json) in self.extras.into_iter().flat_map(Extras::iter) {
                // Written in its place.
                if name != "source" {
                    o.raw(name, json);
                }
            }
        });
    }
}
