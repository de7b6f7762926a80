//! Streamed answers, written: block events into `text_completion` frames, all of one shape and ended by `[DONE]`.

use std::collections::BTreeMap;

use crate::dialect::openai_chat::response::write_shown;
use crate::dialect::openai_chat::usage;
use crate::dialect::openai_chat::wire::unscored;
use crate::dialect::{Asked, Shown, StreamEncoder};
use crate::ir::{Content, Delta, Event, Losses, Usage};
use crate::wire::json::Raw;
use crate::wire::writer::{self, Object};

use super::logprobs;
use super::response::{Wanted, id, said, word};

pub(super) struct Encoder {
    include_usage: bool,
    wanted: Wanted,
    /// What every chunk begins with, up to `choices`.
    head: Vec<u8>,
    candidates: BTreeMap<u32, Candidate>,
    usage: Option<Usage>,
}

#[derive(Default)]
struct Candidate {
    /// The first chunk went out.
    begun: bool,
    /// The open block is text.
    shows: bool,
    /// Where the text goes on, for log probabilities.
    offset: u64,
}

impl Encoder {
    pub(super) fn new(asked: &Asked<'_>) -> Self {
        Encoder {
            include_usage: asked.include_usage,
            wanted: Wanted::of(asked),
            head: Vec::new(),
            candidates: BTreeMap::new(),
            usage: None,
        }
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        match event {
            Event::Start { id: given, model, created, service_tier, fingerprint, extras } => {
                self.wanted.name(losses);
                let model = if model.is_empty() { shown.asked.model } else { model };
                self.begin(&id(given, &shown.asked), model, created.unwrap_or(shown.now), fingerprint.as_deref());
                if service_tier.is_some() {
                    losses.dropped("service_tier");
                }
                for (name, _) in extras.iter() {
                    losses.dropped(name.to_owned());
                }
            }
            Event::Open { candidate, content, .. } => {
                let text = said(content, losses);
                self.state(*candidate, out).shows = matches!(content, Content::Text { .. } | Content::Refusal(_));
                self.say(*candidate, text, out);
            }
            Event::Delta { candidate, delta, .. } => match delta {
                Delta::Text(text) if self.state(*candidate, out).shows => self.say(*candidate, text, out),
                Delta::Citation(_) => losses.dropped("content.citations"),
                // The block was named as a loss when it opened.
                _ => {}
            },
            Event::Close { candidate, .. } => self.state(*candidate, out).shows = false,
            Event::Logprobs { candidate, json } => {
                unscored(json, losses);
                self.probabilities(*candidate, json, out);
            }
            Event::Finish { candidate, finish } => {
                self.state(*candidate, out);
                let word = word(finish.reason, losses);
                self.choice(*candidate, "", None, Some(word), out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(shown, out),
            // The failure is told by `Inbound::error_event`, which knows the request.
            Event::Fault(_) => {}
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::Extra { name, .. } => losses.dropped(name.to_string()),
        }
    }
}

impl Encoder {
    fn begin(&mut self, id: &str, model: &str, created: u64, fingerprint: Option<&str>) {
        let mut head = Vec::with_capacity(192);
        writer::object(&mut head, |o| {
            o.string("id", id);
            o.string("object", "text_completion");
            o.number("created", created);
            o.string("model", model);
            if let Some(fingerprint) = fingerprint {
                o.string("system_fingerprint", fingerprint);
            }
        });
        head.pop();
        self.head = head;
    }

    /// The candidate's state; before its first chunk, the prompt goes out where it is to be repeated.
    fn state(&mut self, index: u32, out: &mut Vec<u8>) -> &mut Candidate {
        let offset = self.wanted.offset;
        let begun = self.candidates.get(&index).is_some_and(|candidate| candidate.begun);
        if !begun {
            self.candidates.insert(index, Candidate { begun: true, shows: false, offset });
            if let Some(prompt) = self.wanted.echo.clone() {
                self.choice(index, &prompt, None, None, out);
            }
        }
        self.candidates.entry(index).or_default()
    }

    fn say(&mut self, index: u32, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.choice(index, text, None, None, out);
        }
    }

    fn probabilities(&mut self, index: u32, json: &Raw<'_>, out: &mut Vec<u8>) {
        let mut offset = self.state(index, out).offset;
        if let Some(lists) = logprobs::lists(json, self.wanted.tops, &mut offset) {
            self.state(index, out).offset = offset;
            self.choice(index, "", Some(&lists), None, out);
        }
    }

    /// Writes one chunk with one choice.
    fn choice(&mut self, index: u32, text: &str, logprobs: Option<&[u8]>, finish: Option<&str>, out: &mut Vec<u8>) {
        let members = |o: &mut Object<'_>| {
            o.array("choices", |a| {
                a.object(|o| {
                    o.string("text", text);
                    o.number("index", u64::from(index));
                    match logprobs {
                        Some(json) => o.value("logprobs").extend_from_slice(json),
                        None => o.null("logprobs"),
                    }
                    match finish {
                        Some(word) => o.string("finish_reason", word),
                        None => o.null("finish_reason"),
                    }
                });
            });
        };
        self.chunk(members, None, out);
    }

    fn chunk(&mut self, members: impl FnOnce(&mut Object<'_>), usage: Option<&Usage>, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            self.begin("", "", 0, None);
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&self.head);
        // The rest of the object: its opening brace becomes the comma after the head.
        let from = out.len();
        writer::object(out, |o| {
            members(o);
            match usage {
                Some(usage) => o.object("usage", |o| usage::write(o, usage)),
                None if self.include_usage => o.null("usage"),
                None => {}
            }
        });
        if let Some(brace) = out.get_mut(from) {
            *brace = b',';
        }
        out.extend_from_slice(b"\n\n");
    }

    fn end(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        if let Some(usage) = self.usage.take().filter(|_| self.include_usage) {
            let members = |o: &mut Object<'_>| {
                o.array("choices", |_| {});
                write_shown(o, shown);
            };
            self.chunk(members, Some(&usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}
