//! Streamed answers, written: block events into frames that are each a `GenerateContentResponse`.
//!
//! As Google writes them: a part or more a frame, calls whole, and reason and usage in the last frame. Every frame has
//! a part, the last one at least an empty text, since SDKs keep a turn only if each of its frames had one (google-genai,
//! `chats`, Python 3.4 and JavaScript 2.32, seen 2026-11-21). A thought's last piece waits for the signature that may
//! follow it: a frame with nothing but a signature loses it in SDKs that gather parts by their text.

use std::collections::BTreeMap;

use super::answer::{write_head, write_shown};
use super::parts::{self, Piece, finish_word, tier_word, write_usage};
use super::response::{TRAFFIC, blocked};
use super::signature::Proof;
use super::{NAME, fault, signature};
use crate::dialect::{ErrorShape, Shown, StreamEncoder};
use crate::ir::{Content, Delta, Event, Losses, Reasoning, ToolCall, Usage};
use crate::wire::json::{Extras, Raw, Text};
use crate::wire::writer::{self, Object};

/// Members of a candidate that a Gemini stream may bring, and that are written for its callers beside the next part.
const CANDIDATE: [&str; 8] = [
    "avgLogprobs",
    "citationMetadata",
    "finishMessage",
    "groundingAttributions",
    "groundingMetadata",
    "safetyRatings",
    "tokenCount",
    "urlContextMetadata",
];
/// The same for the answer as a whole.
const ANSWER: [&str; 2] = ["modelStatus", FEEDBACK];
const FEEDBACK: &str = "promptFeedback";

/// Most bytes of a call's arguments that are gathered.
const MOST_ARGUMENTS: usize = 16 << 20;

/// One streamed answer.
#[derive(Default)]
pub(super) struct Encoder {
    /// Frames are items of a JSON array instead of events.
    array: bool,
    /// A frame was written.
    begun: bool,
    id: String,
    model: String,
    created: Option<u64>,
    tier: Option<String>,
    lanes: BTreeMap<u32, Lane>,
    usage: Option<Usage>,
    /// Members of the last frame.
    extras: Extras<'static>,
    traffic: Option<Raw<'static>>,
}

/// What is known of one candidate.
#[derive(Default)]
struct Lane {
    open: Open,
    /// Proofs of thoughts without text, for the next part.
    waiting: Vec<Proof>,
    /// A frame with a part of it was written.
    said: bool,
    finish: Option<String>,
    /// Members of its next frame.
    extras: Extras<'static>,
}

/// The block that is open, as far as its deltas must know.
#[derive(Default)]
enum Open {
    /// None, or one that is not shown.
    #[default]
    Silent,
    Text,
    Thought {
        /// Without its text.
        thought: Reasoning<'static>,
        /// The last piece of its text.
        held: Option<String>,
        /// Bytes of the pieces before it.
        length: usize,
    },
    Call(ToolCall<'static>),
}

impl Encoder {
    pub(super) fn new(array: bool) -> Self {
        Encoder { array, ..Encoder::default() }
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        let to = &mut Sink { shown, out, losses };
        match event {
            Event::Start { id, model, created, service_tier, fingerprint, extras } => {
                self.id = id.to_string();
                self.model = model.to_string();
                self.created = *created;
                self.tier = service_tier.as_deref().map(str::to_owned);
                if fingerprint.is_some() {
                    to.losses.dropped("system_fingerprint");
                }
                for (name, json) in extras.iter() {
                    self.extra(name, json, to.losses);
                }
            }
            Event::Open { candidate, content, .. } => self.open(*candidate, content, to),
            Event::Delta { candidate, delta, .. } => self.delta(*candidate, delta, to),
            Event::Close { candidate, .. } => self.close(*candidate, to),
            Event::Logprobs { candidate, json } => {
                let mut value = Vec::new();
                if parts::logprobs(json, &mut value, to.losses).is_some() {
                    self.frame(*candidate, Piece::Text(""), None, Some(&value), to);
                }
            }
            Event::Finish { candidate, finish } => {
                let (word, less) = finish_word(finish);
                self.lane(*candidate).finish = Some(word.to_owned());
                if less {
                    to.losses.altered("finish_reason");
                }
                if finish.sequence.is_some() {
                    to.losses.dropped("stop_sequence");
                }
            }
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                parts::uncounted(usage, to.losses);
            }
            Event::End => self.end(to),
            // The failure is told by `error`, which knows the request.
            Event::Fault(_) => {}
            // A comment would break google-genai for Python, which takes any line that is no data for JSON.
            Event::Ping => to.out.extend_from_slice(b"\r\n"),
            Event::Extra { name, json } => self.extra(name, json, to.losses),
        }
    }

    fn error(&mut self, error: &ErrorShape<'_>, _: &Shown<'_>, out: &mut Vec<u8>) -> bool {
        framed(self.array, &mut self.begun, out, |out| fault::write(error, out));
        if self.array {
            out.push(b']');
        }
        true
    }
}

/// Where an event goes.
struct Sink<'s, 'h> {
    shown: &'s Shown<'h>,
    out: &'s mut Vec<u8>,
    losses: &'s mut Losses,
}

impl Encoder {
    fn lane(&mut self, candidate: u32) -> &mut Lane {
        self.lanes.entry(candidate).or_default()
    }

    fn extra(&mut self, name: &str, json: &Raw<'_>, losses: &mut Losses) {
        let put = |extras: &mut Extras<'static>| {
            // A stream may say nothing more of it later.
            if json.get() != "{}" || extras.get(name).is_none() {
                extras.take(name);
                extras.push(name.to_owned(), json.reborrow().into_owned());
            }
        };
        if CANDIDATE.contains(&name) {
            // Events do not say whose it is; Google grounds one candidate.
            put(&mut self.lane(0).extras);
        } else if ANSWER.contains(&name) {
            put(&mut self.extras);
        } else if name == TRAFFIC {
            self.traffic = Some(json.reborrow().into_owned());
        } else {
            losses.dropped(name.to_owned());
        }
    }

    fn open(&mut self, candidate: u32, content: &Content<'_>, to: &mut Sink<'_, '_>) {
        self.lane(candidate).open = Open::Silent;
        match content {
            Content::Text { text, citations } => {
                self.lane(candidate).open = Open::Text;
                if !citations.is_empty() {
                    to.losses.dropped("content.citations");
                }
                self.say(candidate, text, to);
            }
            Content::Refusal(text) => {
                self.lane(candidate).open = Open::Text;
                to.losses.altered("content.refusal");
                self.say(candidate, text, to);
            }
            Content::Reasoning(thought) => {
                let held = thought.text.as_ref().map(|text| text.to_string());
                self.lane(candidate).open = Open::Thought {
                    thought: Reasoning {
                        text: None,
                        summary: thought.summary,
                        signature: own(thought.signature.as_ref()),
                        encrypted: own(thought.encrypted.as_ref()),
                        issuer: own(thought.issuer.as_ref()),
                        id: own(thought.id.as_ref()),
                    },
                    held,
                    length: 0,
                };
            }
            Content::ToolCall(call) => {
                self.lane(candidate).open = Open::Call(ToolCall {
                    id: call.id.reborrow().into_owned(),
                    name: call.name.reborrow().into_owned(),
                    arguments: call.arguments.reborrow().into_owned(),
                    kind: call.kind,
                    signature: own(call.signature.as_ref()),
                });
            }
            Content::Media(media) => {
                if let Some(piece) = parts::media(media, to.losses) {
                    self.frame(candidate, piece, None, None, to);
                }
            }
            Content::Other { kind, json } if parts::is_own(kind, json) => {
                if !self.lane(candidate).waiting.is_empty() {
                    self.frame(candidate, Piece::Text(""), None, None, to);
                }
                self.frame(candidate, Piece::Raw(json), None, None, to);
            }
            other => to.losses.dropped(parts::lost(other)),
        }
    }

    fn delta(&mut self, candidate: u32, delta: &Delta<'_>, to: &mut Sink<'_, '_>) {
        match (delta, &mut self.lane(candidate).open) {
            (Delta::Text(piece), Open::Text) => self.say(candidate, piece, to),
            (Delta::Text(piece), Open::Thought { held, length, .. }) => {
                if let Some(before) = held.replace(piece.to_string()).filter(|before| !before.is_empty()) {
                    *length = length.saturating_add(before.len());
                    self.frame(candidate, Piece::Thought(&before), None, None, to);
                }
            }
            (Delta::Signature(signature), Open::Thought { thought, .. }) => thought.signature = own(Some(signature)),
            (Delta::Encrypted(data), Open::Thought { thought, .. }) => thought.encrypted = own(Some(data)),
            (Delta::Arguments(piece), Open::Call(call))
                if call.arguments.len().saturating_add(piece.len()) <= MOST_ARGUMENTS =>
            {
                call.arguments.0.to_mut().push_str(piece);
            }
            (Delta::Arguments(_), Open::Call(_)) => to.losses.altered("content.tool_call.arguments"),
            (Delta::Signature(signature), Open::Call(call)) => call.signature = own(Some(signature)),
            (Delta::Citation(_), Open::Text) => to.losses.dropped("content.citations"),
            // The block was named as a loss when it opened.
            _ => {}
        }
    }

    fn close(&mut self, candidate: u32, to: &mut Sink<'_, '_>) {
        match std::mem::take(&mut self.lane(candidate).open) {
            Open::Silent | Open::Text => {}
            Open::Call(call) => self.frame(candidate, Piece::Call(&call), call.signature.as_deref(), None, to),
            Open::Thought { thought, held, length } => {
                let own = thought.issuer.as_deref() == Some(NAME);
                let text = held.filter(|text| own || length > 0 || !text.is_empty());
                let proof = Proof::of(&thought, text.as_ref().map(|text| length.saturating_add(text.len())));
                let Some(text) = text else {
                    return self.lane(candidate).waiting.extend(proof);
                };
                let piece = Piece::Thought(&text);
                match proof {
                    Some(proof) if proof.is_own() => {
                        self.frame(candidate, piece, proof.thought.signature.as_deref(), None, to);
                    }
                    proof => {
                        self.lane(candidate).waiting.extend(proof);
                        self.frame(candidate, piece, None, None, to);
                    }
                }
            }
        }
    }

    fn say(&mut self, candidate: u32, text: &str, to: &mut Sink<'_, '_>) {
        if !text.is_empty() {
            self.frame(candidate, Piece::Text(text), None, None, to);
        }
    }

    /// Writes one frame with one part of one candidate. `own`: the signature that the part came with.
    fn frame(
        &mut self,
        candidate: u32,
        piece: Piece<'_>,
        own: Option<&str>,
        logprobs: Option<&[u8]>,
        to: &mut Sink<'_, '_>,
    ) {
        let none = Extras::default();
        let lane = self.lane(candidate);
        lane.said = true;
        let mut written = Vec::new();
        let mut bare = |signature: &str| {
            parts::write(Piece::Text(""), Some(signature), &none, &mut written, &mut Losses::default());
            written.push(b',');
        };
        let signature = parts::sign(&mut lane.waiting, own, &mut bare);
        parts::write(piece, signature.as_deref(), &none, &mut written, to.losses);
        let extras = std::mem::take(&mut lane.extras);
        let (id, model, created) = (&self.id, &self.model, self.created);
        // Before there are counts, the first frame tells what they will be billed as.
        let tier = self.tier.as_deref().filter(|_| !self.begun);
        framed(self.array, &mut self.begun, to.out, |out| {
            writer::object(out, |o| {
                o.array("candidates", |a| {
                    a.object(|o| {
                        write_content(&written, o);
                        o.number("index", u64::from(candidate));
                        if let Some(logprobs) = logprobs {
                            o.value("logprobsResult").extend_from_slice(logprobs);
                        }
                        o.extras(&extras);
                    });
                });
                if let Some(tier) = tier {
                    o.object("usageMetadata", |o| o.string("serviceTier", tier_word(tier)));
                }
                write_head(model, id, created, to.shown, o);
            });
        });
    }

    /// The last frame: why each candidate stopped, and what was used.
    fn end(&mut self, to: &mut Sink<'_, '_>) {
        let Encoder { array, begun, id, model, created, tier, lanes, usage, extras, traffic } = self;
        let refused = extras.get(FEEDBACK).and_then(blocked).is_some() && lanes.values().all(|lane| !lane.said);
        framed(*array, begun, to.out, |out| {
            writer::object(out, |o| {
                if !lanes.is_empty() && !refused {
                    o.array("candidates", |a| {
                        for (index, lane) in lanes.iter() {
                            a.object(|o| write_end(*index, lane, o));
                        }
                    });
                }
                if usage.is_some() || traffic.is_some() {
                    o.object("usageMetadata", |o| write_usage(usage.as_ref(), tier.as_deref(), traffic.as_ref(), o));
                }
                write_head(model, id, *created, to.shown, o);
                o.extras(extras);
                write_shown(to.shown, o);
            });
        });
        if *array {
            to.out.push(b']');
        }
    }
}

fn write_end(index: u32, lane: &Lane, o: &mut Object<'_>) {
    let mut part = Vec::new();
    let signature = signature::carry(&lane.waiting);
    parts::write(Piece::Text(""), signature.as_deref(), &Extras::default(), &mut part, &mut Losses::default());
    write_content(&part, o);
    o.string("finishReason", lane.finish.as_deref().unwrap_or("STOP"));
    o.number("index", u64::from(index));
    o.extras(&lane.extras);
}

fn write_content(parts: &[u8], o: &mut Object<'_>) {
    o.object("content", |o| {
        o.array("parts", |a| a.value().extend_from_slice(parts));
        o.string("role", "model");
    });
}

fn own(text: Option<&Text<'_>>) -> Option<Text<'static>> {
    text.map(|text| text.reborrow().into_owned())
}

/// Writes one frame: an event, or an item of the array with the bytes between it and the one before, as Google has them.
pub(super) fn framed(array: bool, begun: &mut bool, out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>)) {
    let begun = std::mem::replace(begun, true);
    out.extend_from_slice(match (array, begun) {
        (false, _) => b"data: ",
        (true, false) => b"[",
        (true, true) => b",\r\n",
    });
    let start = out.len();
    json(out);
    // A provider's JSON, taken along raw, may have line breaks: between strings they are only space, and here they
    // would end the event.
    if out.get(start..).is_some_and(|json| memchr::memchr2(b'\n', b'\r', json).is_some()) {
        let mut at = 0;
        out.retain(|byte| {
            at += 1;
            at <= start || !matches!(byte, b'\n' | b'\r')
        });
    }
    escape_separators(out, start);
    out.extend_from_slice(if array { b"\n" } else { b"\r\n\r\n" });
}

/// Escapes what Unicode calls an end of line (U+0085, U+2028, U+2029), as Google does: its Python SDK splits streams there.
/// In JSON these stand in strings alone.
fn escape_separators(out: &mut Vec<u8>, start: usize) {
    const ESCAPES: [(&str, &str); 3] = [("\u{85}", "\\u0085"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")];
    let Some(json) = out.get(start..).and_then(|json| std::str::from_utf8(json).ok()) else { return };
    if json.is_ascii() || !ESCAPES.iter().any(|(raw, _)| json.contains(raw)) {
        return;
    }
    let escaped = ESCAPES.iter().fold(json.to_owned(), |json, (raw, escape)| json.replace(raw, escape));
    out.truncate(start);
    out.extend_from_slice(escaped.as_bytes());
}
