//! The blocks that a turn is made of, ready to be written.
//!
//! A block is an object with one member, and a mark of what to cache is a block of its own behind the one that it is for.

use std::borrow::Cow;

use super::media::Form;
use super::model::Model;
use super::wire::Mark;
use crate::ir::Losses;
use crate::wire::json::Raw;
use crate::wire::writer::{Array, Object};

/// Longest id of a call, and longest name of a tool.
pub(super) const LONGEST_ID: usize = 64;

/// One block, and whether the prompt up to here is to be cached.
pub(super) struct Item<'r> {
    pub(super) piece: Piece<'r>,
    pub(super) cache: Option<Cache>,
    /// Where it stood: message, and part of its content.
    pub(super) place: (usize, usize),
}

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cache {
    hour: bool,
}

/// What a block says.
pub(super) enum Piece<'r> {
    Text(Cow<'r, str>),
    Guarded {
        text: &'r str,
        qualifiers: Option<Raw<'r>>,
    },
    Media(Form<'r>),
    Thinking {
        text: &'r str,
        signature: &'r str,
    },
    /// In base64.
    Redacted(Cow<'r, str>),
    Call {
        id: Cow<'r, str>,
        name: Cow<'r, str>,
        input: Input<'r>,
    },
    Result {
        id: Cow<'r, str>,
        items: Vec<Item<'r>>,
        failed: bool,
    },
    Json(&'r Raw<'r>),
}

/// Arguments of a call.
pub(super) enum Input<'r> {
    Json(&'r str),
    /// Text that is no JSON object, under a name of ours.
    Text(&'static str, &'r str),
}

impl<'r> Item<'r> {
    pub(super) fn made(text: Cow<'r, str>) -> Item<'r> {
        Item { piece: Piece::Text(text), cache: None, place: (0, 0) }
    }
}

impl Piece<'_> {
    fn write(&self, o: &mut Object<'_>) {
        match self {
            Piece::Text(text) => o.string("text", text),
            Piece::Guarded { text, qualifiers } => o.object("guardContent", |o| {
                o.object("text", |o| {
                    o.string("text", text);
                    if let Some(qualifiers) = qualifiers {
                        o.raw("qualifiers", qualifiers);
                    }
                });
            }),
            Piece::Media(form) => form.write(o),
            Piece::Thinking { text, signature } => o.object("reasoningContent", |o| {
                o.object("reasoningText", |o| {
                    o.string("text", text);
                    o.string("signature", signature);
                });
            }),
            Piece::Redacted(data) => o.object("reasoningContent", |o| o.string("redactedContent", data)),
            Piece::Call { id, name, input } => o.object("toolUse", |o| {
                o.string("toolUseId", id);
                o.string("name", name);
                match input {
                    Input::Json(json) => o.value("input").extend_from_slice(json.as_bytes()),
                    Input::Text(name, text) => o.object("input", |o| o.string(name, text)),
                }
            }),
            Piece::Result { id, items, failed } => o.object("toolResult", |o| {
                o.string("toolUseId", id);
                o.array("content", |a| write(items.iter(), a));
                if *failed {
                    o.string("status", "error");
                }
            }),
            Piece::Json(json) => o.raw("json", json),
        }
    }
}

impl Cache {
    /// Reads a caller's mark.
    pub(super) fn of(mark: &Raw<'_>, model: Model, path: &str, losses: &mut Losses) -> Option<Cache> {
        if !model.caches() {
            losses.dropped(format!("{path}.cache_control"));
            return None;
        }
        let mark: Mark<'_> = mark.read().unwrap_or_default();
        let hour = mark.ttl.as_deref() == Some("1h");
        if hour && !model.caches_for_an_hour() {
            losses.altered(format!("{path}.cache_control"));
        }
        Some(Cache { hour: hour && model.caches_for_an_hour() })
    }

    /// Writes it as the block that it is here.
    pub(super) fn write(self, a: &mut Array<'_>) {
        a.object(|o| {
            o.object("cachePoint", |o| {
                o.string("type", "default");
                if self.hour {
                    o.string("ttl", "1h");
                }
            });
        });
    }
}

/// Writes blocks, and the marks after them.
pub(super) fn write<'i>(items: impl Iterator<Item = &'i Item<'i>>, a: &mut Array<'_>) {
    for item in items {
        a.object(|o| item.piece.write(o));
        if let Some(cache) = item.cache {
            cache.write(a);
        }
    }
}

/// An id or name in the letters that Bedrock takes (`[a-zA-Z0-9_-]{1,64}`). The same always becomes the same, and two that
/// differ stay different: what was replaced or cut is told apart by a hash (FNV-1a) of the whole.
pub(super) fn sound(id: &str) -> Cow<'_, str> {
    let taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.chars().all(taken) && (1..=LONGEST_ID).contains(&id.len()) {
        return Cow::Borrowed(id);
    }
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let kept: String = id.chars().take(LONGEST_ID - 17).map(|c| if taken(c) { c } else { '_' }).collect();
    Cow::Owned(format!("{kept}_{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_apart_and_short() {
        assert_eq!(sound("tooluse_01-aZ"), "tooluse_01-aZ");
        let (one, two) = (sound("call:1"), sound("call.1"));
        assert!(one.starts_with("call_1_") && two.starts_with("call_1_") && one != two);
        let long = "x".repeat(65);
        assert_eq!(sound(&long).len(), LONGEST_ID);
        assert_ne!(sound(&long), sound(&"x".repeat(66)));
        assert_eq!(sound("").len(), 17);
    }
}
