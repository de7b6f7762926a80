//! Items of an answer, written for callers: blocks of the IR put together to what this dialect calls an item.
//!
//! A whole answer and a stream use the same, so that what a stream's events say at its end is what a whole answer would
//! have said.

use std::borrow::Cow;

use crate::ir::{Content, Losses, Media, MediaKind, Reasoning, Source, ToolCall, ToolKind};
use crate::shape;
use crate::wire::json::{Extras, Kind, Raw, Text, clip};
use crate::wire::writer::{self, Object};

use super::carry::Carried;
use super::items;
use super::wire::{ITEM, NAME};

/// One item, and its id.
pub struct Item<'a> {
    pub id: String,
    pub body: Body<'a>,
}

pub enum Body<'a> {
    Message {
        parts: Vec<Part<'a>>,
        extras: Option<&'a Extras<'a>>,
    },
    Reasoning(Thoughts<'a>),
    Call(Call<'a>),
    Image(Media<'a>, Option<&'a Extras<'a>>),
    /// An item that only this dialect knows.
    Raw(Raw<'a>),
}

/// A text or a refusal.
#[derive(Default)]
pub struct Part<'a> {
    pub refusal: bool,
    pub text: Cow<'a, str>,
    /// In this dialect's shape.
    pub annotations: Vec<Raw<'a>>,
    /// Items of a list, with commas between.
    pub logprobs: String,
}

/// What one reasoning item holds.
#[derive(Default)]
pub struct Thoughts<'a> {
    pub summary: Vec<Cow<'a, str>>,
    pub content: Vec<Cow<'a, str>>,
    pub proof: Carried<'a>,
    /// The provider's own id: with it goes what it issued.
    named: bool,
}

pub struct Call<'a> {
    pub kind: ToolKind,
    pub id: Text<'a>,
    pub name: Text<'a>,
    pub arguments: Cow<'a, str>,
    pub signature: Option<Text<'a>>,
    pub extras: Option<&'a Extras<'a>>,
}

impl<'a> Item<'a> {
    /// An item that begins with a block, without its text. `None`: this dialect cannot show it. `answer` is what ids
    /// are made from, `index` the item's place.
    pub fn begin(content: &Content<'a>, answer: &str, index: u64) -> Option<Item<'a>> {
        let (prefix, body) = match content {
            Content::Text { .. } | Content::Refusal(_) => ("msg", Body::Message { parts: Vec::new(), extras: None }),
            Content::Reasoning(thought) => {
                let named = thought.id.is_some();
                let thoughts = Thoughts { named, ..Thoughts::default() };
                let id = thought.id.as_ref().map_or_else(|| made("rs", answer, index), |id| id.to_string());
                return Some(Item { id, body: Body::Reasoning(thoughts) });
            }
            Content::ToolCall(ToolCall { id, name, kind, .. }) => {
                let id = if id.is_empty() { Text::from(made("call", answer, index)) } else { id.clone() };
                let call = Call {
                    kind: *kind,
                    id,
                    name: name.clone(),
                    arguments: Cow::Borrowed(""),
                    signature: None,
                    extras: None,
                };
                (if *kind == ToolKind::Custom { "ctc" } else { "fc" }, Body::Call(call))
            }
            Content::Media(media @ Media { kind: MediaKind::Image, source: Source::Base64(_), .. }) => {
                ("ig", Body::Image(media.clone(), None))
            }
            Content::Other { kind, json } if items::is_ours(kind, json) => ("", Body::Raw(json.clone())),
            _ => return None,
        };
        Some(Item { id: made(prefix, answer, index), body })
    }

    /// An item just begun, owning what it holds: one that is open outlives the event it began with.
    pub fn into_owned(self) -> Item<'static> {
        let body = match self.body {
            Body::Message { .. } => Body::Message { parts: Vec::new(), extras: None },
            Body::Reasoning(thoughts) => Body::Reasoning(Thoughts { named: thoughts.named, ..Thoughts::default() }),
            Body::Call(call) => Body::Call(Call {
                kind: call.kind,
                id: call.id.into_owned(),
                name: call.name.into_owned(),
                arguments: Cow::Borrowed(""),
                signature: None,
                extras: None,
            }),
            Body::Image(media, _) => {
                let source = match media.source {
                    Source::Base64(data) => Source::Base64(data.into_owned()),
                    _ => Source::Base64(Text::default()),
                };
                let mime = media.mime.map(Text::into_owned);
                Body::Image(Media { kind: media.kind, source, mime, name: None, detail: None }, None)
            }
            Body::Raw(json) => Body::Raw(json.into_owned()),
        };
        Item { id: self.id, body }
    }

    /// Whether a block goes on with this item rather than begins another.
    pub fn takes(&self, content: &Content<'_>, extras: Option<&Extras<'_>>) -> bool {
        match (&self.body, content) {
            (Body::Message { .. }, Content::Text { .. } | Content::Refusal(_)) => {
                !extras.is_some_and(|extras| extras.iter().any(|(name, _)| name.starts_with(ITEM)))
            }
            (Body::Reasoning(thoughts), Content::Reasoning(next)) => {
                // Summaries stand before thoughts, and a proof after both.
                thoughts.named
                    && next.id.as_deref() == Some(&self.id)
                    && thoughts.proof.signature.is_none()
                    && thoughts.proof.encrypted.is_none()
                    && (thoughts.content.is_empty() || !next.summary)
            }
            _ => false,
        }
    }

    /// The item for the signature on the call that this item is. It stands after the call, since who reads the first
    /// item of an answer looks for what to do.
    pub fn proof(&self, answer: &str, index: u64) -> Option<Item<'a>> {
        let Body::Call(call) = &self.body else { return None };
        let proof = Carried {
            issuer: Some("gemini".into()),
            signature: Some(call.signature.clone()?),
            encrypted: None,
            call: Some(call.id.clone()),
        };
        let thoughts = Thoughts { proof, ..Thoughts::default() };
        Some(Item { id: made("rs", answer, index), body: Body::Reasoning(thoughts) })
    }

    /// Writes the item.
    pub fn write(&self, out: &mut Vec<u8>, status: &str, losses: &mut Losses) {
        if let Body::Raw(json) = &self.body {
            return out.extend_from_slice(json.get().as_bytes());
        }
        writer::object(out, |o| {
            o.string("id", &self.id);
            o.string("type", self.kind());
            match &self.body {
                Body::Message { parts, extras } => {
                    o.string("status", status);
                    o.string("role", "assistant");
                    o.array("content", |a| parts.iter().for_each(|part| part.write(a.value())));
                    for (name, json) in extras.iter().flat_map(|extras| extras.iter()) {
                        if let Some(name) = name.strip_prefix(ITEM) {
                            o.raw(name, json);
                        }
                    }
                }
                Body::Reasoning(thoughts) => thoughts.write(o, losses),
                Body::Call(call) => call.write(o, status),
                Body::Image(media, extras) => {
                    if extras.is_none_or(|extras| extras.get("status").is_none()) {
                        o.string("status", status);
                    }
                    if let Some(format) = media.mime.as_deref().and_then(|mime| mime.strip_prefix("image/")) {
                        o.string("output_format", format);
                    }
                    if let Source::Base64(data) = &media.source {
                        o.string("result", data);
                    }
                    for (name, json) in extras.iter().flat_map(|extras| extras.iter()) {
                        if name != "id" {
                            o.raw(name, json);
                        }
                    }
                }
                Body::Raw(_) => {}
            }
        });
    }

    /// Writes the item as it is when it begins.
    pub fn write_begun(&self, out: &mut Vec<u8>) {
        if let Body::Raw(json) = &self.body {
            return out.extend_from_slice(json.get().as_bytes());
        }
        writer::object(out, |o| {
            o.string("id", &self.id);
            o.string("type", self.kind());
            match &self.body {
                Body::Message { .. } => {
                    o.string("status", "in_progress");
                    o.string("role", "assistant");
                    o.array("content", |_| {});
                }
                Body::Reasoning(_) => o.array("summary", |_| {}),
                Body::Call(call) => call.write_begun(o),
                Body::Image(..) => {
                    o.string("status", "in_progress");
                    o.null("result");
                }
                Body::Raw(_) => {}
            }
        });
    }

    fn kind(&self) -> &'static str {
        match &self.body {
            Body::Message { .. } => "message",
            Body::Reasoning(_) => "reasoning",
            Body::Call(Call { kind: ToolKind::Custom, .. }) => "custom_tool_call",
            Body::Call(_) => "function_call",
            Body::Image(..) => "image_generation_call",
            Body::Raw(_) => "",
        }
    }
}

impl Part<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        writer::object(out, |o| {
            if self.refusal {
                o.string("type", "refusal");
                o.string("refusal", &self.text);
                return;
            }
            o.string("type", "output_text");
            o.array("annotations", |a| self.annotations.iter().for_each(|json| a.raw(json)));
            let out = o.value("logprobs");
            out.push(b'[');
            out.extend_from_slice(self.logprobs.as_bytes());
            out.push(b']');
            o.string("text", &self.text);
        });
    }
}

impl<'a> Thoughts<'a> {
    /// Takes what a block has beside its text.
    pub fn prove(&mut self, thought: &Reasoning<'a>) {
        self.proof.issuer = thought.issuer.clone();
        self.proof.signature = thought.signature.clone();
        self.proof.encrypted = thought.encrypted.clone();
    }

    fn write(&self, o: &mut Object<'_>, losses: &mut Losses) {
        let list = |o: &mut Object<'_>, name: &str, kind: &str, texts: &[Cow<'_, str>]| {
            o.array(name, |a| {
                for text in texts {
                    a.object(|o| {
                        o.string("type", kind);
                        o.string("text", text);
                    });
                }
            });
        };
        list(o, "summary", "summary_text", &self.summary);
        if !self.content.is_empty() {
            list(o, "content", "reasoning_text", &self.content);
        }
        let proof = &self.proof;
        match (&proof.signature, &proof.encrypted) {
            (None, None) => {}
            // OpenAI's own passes as it is.
            (None, Some(encrypted)) if proof.issuer.as_deref() == Some(NAME) && proof.call.is_none() => {
                o.string("encrypted_content", encrypted);
            }
            _ => match proof.pack() {
                Some(packed) => o.string("encrypted_content", &packed),
                None => losses.dropped("reasoning.signature"),
            },
        }
    }
}

impl Call<'_> {
    fn write(&self, o: &mut Object<'_>, status: &str) {
        o.string("status", status);
        let arguments = match self.kind {
            // Callers parse them, and `""` is no JSON.
            ToolKind::Function if self.arguments.is_empty() => "{}",
            _ => &self.arguments,
        };
        o.string(self.member(), arguments);
        o.string("call_id", &self.id);
        o.string("name", &self.name);
        if let Some(extras) = self.extras {
            o.extras(extras);
        }
    }

    fn write_begun(&self, o: &mut Object<'_>) {
        o.string("status", "in_progress");
        o.string(self.member(), "");
        o.string("call_id", &self.id);
        o.string("name", &self.name);
    }

    /// The member that holds what the tool is called with.
    pub fn member(&self) -> &'static str {
        if self.kind == ToolKind::Custom { "input" } else { "arguments" }
    }
}

/// An id from the answer's and the place in it.
pub fn made(prefix: &str, answer: &str, index: u64) -> String {
    format!("{prefix}_{answer}_{index}")
}

/// The name of a block that this dialect cannot show.
pub fn lost(content: &Content<'_>) -> String {
    match content {
        Content::Other { kind, .. } => format!("content.{}", clip(kind, 80)),
        Content::ToolResult(_) => "content.tool_result".to_owned(),
        Content::Media(Media { kind: MediaKind::Image, .. }) => "content.image".to_owned(),
        Content::Media(Media { kind: MediaKind::Video, .. }) => "content.video".to_owned(),
        Content::Media(Media { kind: MediaKind::Audio, .. }) => "content.audio".to_owned(),
        Content::Media(_) => "content.file".to_owned(),
        _ => "content".to_owned(),
    }
}

shape! {
    struct Annotation { kind "type": Text<'a> }
}

/// A citation in this dialect's shape: its own as they are, and those of Chat Completions, which hold the same one level
/// deeper. `None`: it is another's.
pub fn annotation<'a>(json: &Raw<'a>) -> Option<Raw<'a>> {
    let nested = {
        let shape: Annotation<'_> = json.read().ok()?;
        let kind = shape.kind?;
        match shape.extras.get(&kind).filter(|inner| inner.kind() == Kind::Object) {
            Some(inner) => {
                let members: Annotation<'_> = inner.read().ok()?;
                let mut out = Vec::new();
                writer::object(&mut out, |o| {
                    o.string("type", &kind);
                    o.extras(&members.extras);
                });
                Some(String::from_utf8(out).ok()?)
            }
            None if matches!(
                kind.as_str(),
                "url_citation" | "file_citation" | "container_file_citation" | "file_path"
            ) =>
            {
                None
            }
            None => return None,
        }
    };
    Some(nested.map_or_else(|| json.clone(), Raw::trusted))
}

/// The tokens in an IR's log probabilities, as the inside of a list.
pub fn tokens(json: &Raw<'_>) -> Option<String> {
    shape! { struct Logprobs { content "content": Vec<Raw<'a>> } }
    let shape: Logprobs<'_> = json.read().ok()?;
    let list: Vec<&str> = shape.content.as_ref()?.iter().map(Raw::get).collect();
    (!list.is_empty()).then(|| list.join(","))
}
