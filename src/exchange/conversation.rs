//! Conversations that the gateway remembers: the state of the Responses API, for providers that have none.
//!
//! A call of that dialect may go on from an earlier answer by its id (`previous_response_id`). What was said until then
//! is put before the call's own `input`, and so any target can go on with it, also one that never saw the beginning.
//! The answer is kept in turn, as it was told to the caller ([`Keeper`]), unless `store: false`.
//! Source: OpenAI API reference "Create a model response", "Conversation state" (seen 2026-11-21).

use bytes::Bytes;

use super::{Call, Earlier, Refusal};
use crate::wire::frames::{Decoder, Framing};
use crate::wire::json::{Invalid, Raw, Text};
use crate::wire::patch::Patch;
use crate::wire::scan;
use crate::wire::writer;

/// What a call says of its conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Id of the answer to go on from.
    pub previous: Option<String>,
    /// The answer is to be kept.
    pub keep: bool,
}

/// One earlier call and its answer, oldest first in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// JSON array of items that the caller sent.
    pub input: String,
    /// The answer as the caller got it: a JSON object with `output`.
    pub response: String,
}

/// An answer to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    pub turn: Turn,
    pub previous: Option<String>,
}

impl Wanted {
    /// Reads what is wanted.
    ///
    /// # Errors
    /// A member is of the wrong type, or asks for what is not to be had here.
    pub fn read(call: &Call) -> Result<Wanted, Refusal> {
        let member = |name: &str| call.members.raw(&call.body, name).filter(|raw| !raw.is_null());
        let flag = |name: &'static str| match member(name) {
            Some(raw) => raw.read::<bool>().map(Some).map_err(|_| invalid(name, "expected true or false")),
            None => Ok(None),
        };
        if flag("background")? == Some(true) {
            return Err(invalid("background", "background responses are not offered here: leave it out, or stream"));
        }
        if member("conversation").is_some() {
            return Err(invalid(
                "conversation",
                "conversation objects are not offered here: refer to the last response with `previous_response_id`",
            ));
        }
        let previous = match member("previous_response_id") {
            Some(raw) => {
                let id: String =
                    raw.read().map_err(|_| invalid("previous_response_id", "expected the id of a response"))?;
                Some(id)
            }
            None => None,
        };
        Ok(Wanted { previous, keep: flag("store")?.unwrap_or(true) })
    }
}

/// The call's own input as a list of items.
pub fn input(call: &Call) -> String {
    match call.members.raw(&call.body, "input") {
        Some(raw) if raw.get().starts_with('[') => raw.get().to_owned(),
        Some(raw) if raw.get().starts_with('"') => {
            format!("[{{\"type\":\"message\",\"role\":\"user\",\"content\":{}}}]", raw.get())
        }
        _ => "[]".to_owned(),
    }
}

/// The list of a call's input items ("List input items"), newest first; each has an id, made from its place where the
/// caller gave none.
pub fn input_list(id: &str, input: &str, out: &mut Vec<u8>) {
    let mut items = Vec::new();
    let _ = scan::walk(input, usize::MAX, &mut |_, item| items.push(item));
    let mut ids = Vec::with_capacity(items.len());
    writer::object(out, |o| {
        o.string("object", "list");
        o.array("data", |a| {
            for (place, item) in items.iter().enumerate().rev() {
                let mut own = None;
                let mut typed = false;
                let _ = scan::walk(item, usize::MAX, &mut |name, value| {
                    typed |= name == "type";
                    if name == "id" {
                        own = Raw::parse(value).ok().and_then(|raw| raw.read::<String>().ok());
                    }
                });
                let made = own.is_none();
                let own = own.unwrap_or_else(|| format!("item_{}_{place}", id.trim_start_matches("resp_")));
                a.object(|o| {
                    if made {
                        o.string("id", &own);
                    }
                    if !typed {
                        o.string("type", "message");
                    }
                    let _ = scan::walk(item, usize::MAX, &mut |name, value| {
                        let out = o.value(name);
                        if name == "content" && value.starts_with('"') {
                            // What was sent as a plain text is listed as what it stands for.
                            out.extend_from_slice(b"[{\"type\":\"input_text\",\"text\":");
                            out.extend_from_slice(value.as_bytes());
                            out.extend_from_slice(b"}]");
                        } else {
                            out.extend_from_slice(value.as_bytes());
                        }
                    });
                });
                ids.push(own);
            }
        });
        for (name, id) in [("first_id", ids.first()), ("last_id", ids.last())] {
            match id {
                Some(id) => o.string(name, id),
                None => o.null(name),
            }
        }
        o.bool("has_more", false);
    });
}

/// The body of a call with what was said before put before its input.
///
/// # Errors
/// It would be larger than `most` bytes.
pub fn expand(call: &Call, turns: &[Turn], most: usize) -> Result<Bytes, Refusal> {
    let mut items = Vec::with_capacity(turns.iter().map(|turn| turn.input.len() + turn.response.len()).sum());
    items.push(b'[');
    for turn in turns {
        append(&mut items, &turn.input);
        output(&mut items, &turn.response);
    }
    append(&mut items, &input(call));
    items.push(b']');
    let mut patch = Patch::default();
    match call.members.get(&call.body, "input") {
        Some(member) => patch.replace_value(member, items),
        None => patch.insert(&call.members, &call.body, "input", &items),
    }
    let body = patch.apply(&call.body);
    if body.len() > most {
        return Err(Refusal::TooLarge { limit: most });
    }
    Ok(body.into())
}

/// What the input of an expanded call has before its own, which was `own`'s.
pub fn earlier(expanded: &Call, own: &Call) -> Earlier {
    let count = |list: &str| {
        let mut items: usize = 0;
        let _ = scan::walk(list, usize::MAX, &mut |_, _| items += 1);
        items
    };
    let all = expanded.members.raw(&expanded.body, "input").map_or(0, |raw| count(raw.get()));
    let text = own.members.raw(&own.body, "input").is_some_and(|raw| raw.get().starts_with('"'));
    Earlier { items: all.saturating_sub(count(&input(own))), text }
}

/// Adds the items of a list.
fn append(items: &mut Vec<u8>, list: &str) {
    let inner = list.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default().trim();
    if !inner.is_empty() {
        separate(items);
        items.extend_from_slice(inner.as_bytes());
    }
}

fn separate(items: &mut Vec<u8>) {
    if items.len() > 1 {
        items.push(b',');
    }
}

/// Adds the items of an answer. Ids of messages and calls are left out: only the provider that gave them knows them.
fn output(items: &mut Vec<u8>, response: &str) {
    let mut list = None;
    // What is kept was valid when it was kept.
    let _ = scan::walk(response, usize::MAX, &mut |name, value| {
        if name == "output" {
            list = Some(value);
        }
    });
    let _ = scan::walk(list.unwrap_or("[]"), usize::MAX, &mut |_, item| {
        let mut members = Vec::new();
        let mut nameless = false;
        let _ = scan::walk(item, usize::MAX, &mut |name, value| {
            nameless |= name == "type" && matches!(value, "\"message\"" | "\"function_call\"" | "\"custom_tool_call\"");
            members.push((name, value));
        });
        separate(items);
        writer::object(items, |o| {
            for (name, value) in members {
                if !(nameless && matches!(name, "id" | "status")) {
                    o.value(name).extend_from_slice(value.as_bytes());
                }
            }
        });
    });
}

/// Watches what a caller of Responses is told, and finds the answer in it.
pub struct Keeper {
    frames: Decoder,
    whole: Vec<u8>,
    stream: bool,
    most: usize,
    found: Option<(String, String)>,
}

impl Keeper {
    /// `stream`: the caller gets events; `most`: bytes of the largest answer that is kept.
    pub fn new(stream: bool, most: usize) -> Keeper {
        Keeper { frames: Decoder::new(Framing::Sse, most), whole: Vec::new(), stream, most, found: None }
    }

    /// Takes bytes on their way to the caller. What is too large, or not what it should be, is not kept.
    pub fn see(&mut self, bytes: &[u8]) {
        if !self.stream {
            if self.whole.len() + bytes.len() <= self.most {
                self.whole.extend_from_slice(bytes);
            }
            return;
        }
        let found = &mut self.found;
        let _ = self.frames.push(bytes, &mut |frame| {
            if frame.data.contains("\"response.completed\"") || frame.data.contains("\"response.incomplete\"") {
                let (mut kind, mut response) = (None, None);
                let _ = scan::walk(frame.data, usize::MAX, &mut |name, value| match name {
                    "type" => kind = Some(value),
                    "response" => response = Some(value),
                    _ => {}
                });
                if matches!(kind, Some("\"response.completed\"" | "\"response.incomplete\"")) {
                    *found = response.and_then(named);
                }
            }
        });
    }

    /// The answer, once it is whole.
    pub fn kept(self, input: String, previous: Option<String>) -> Option<Kept> {
        let (id, response) =
            if self.stream { self.found } else { std::str::from_utf8(&self.whole).ok().and_then(named) }?;
        Some(Kept { id, turn: Turn { input, response }, previous })
    }
}

/// An answer by its id.
fn named(response: &str) -> Option<(String, String)> {
    let mut id = None;
    scan::walk(response, usize::MAX, &mut |name, value| {
        if name == "id" {
            id = Raw::parse(value).ok().and_then(|raw| raw.read::<Text<'_>>().ok().map(|id| id.to_string()));
        }
    })
    .ok()?;
    Some((id.filter(|id| !id.is_empty())?, response.to_owned()))
}

fn invalid(path: &str, message: &str) -> Refusal {
    Refusal::Invalid(Invalid { path: path.to_owned(), message: message.to_owned() })
}
