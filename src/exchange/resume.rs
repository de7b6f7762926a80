//! Going on with a stream that broke after its content had begun: at another target, from what was already said.
//!
//! A [`Seam`] follows the events of a caller's stream. While all is well it changes nothing and remembers the text. When the
//! stream breaks, what is remembered and the caller's encoder ([`Resume`]) pass to the next attempt, whose request has the
//! text as the beginning of its answer; the seam then makes the new answer's events a continuation of the old one's: no
//! second start, the open block goes on, what the model repeats is left out, usage is that of all attempts.
//!
//! Only plain text can be gone on with. Half a tool call, a thought, or JSON that must satisfy a schema would be guessed at:
//! there the caller is told that the stream broke.

use crate::dialect::{Inbound, Prefill, StreamEncoder};
use crate::ir::{Block, Content, Delta, Event, Format, Message, Request, Role, Usage};
use crate::policy::price::Nano;
use crate::wire::patch::Patch;
use crate::wire::scan;

use super::Call;

mod joint;

use joint::Joint;

/// What the model is told where it cannot be given the beginning of its own answer.
const GO_ON: &str = "Your answer above was cut off by a failure of the connection. What you write now is put directly behind \
     it. Go on with the very next character, as if you had not been interrupted: do not repeat anything of it, do not begin \
     anew, and do not say anything about the interruption.";

/// What goes from a broken attempt to the next one.
pub struct Resume {
    pub encoder: Box<dyn StreamEncoder>,
    pub seam: Box<Seam>,
}

/// Follows what a caller is told.
#[derive(Debug)]
pub struct Seam {
    /// All that was said.
    text: String,
    most: usize,
    /// Number of the next block.
    next: u32,
    /// The block that is open for the caller.
    open: Option<u32>,
    /// The last block is text.
    in_text: bool,
    /// Something was said that cannot be gone on with, or all of it.
    spoilt: bool,
    /// Of the attempts before.
    carried: Usage,
    pub cost: Nano,
    /// How often the stream was gone on with.
    pub times: u32,
    /// The provider's block, and what it is for the caller: nothing where it is left out.
    theirs: Option<(u32, Option<u32>)>,
    /// Where the old text and the new one meet.
    joint: Option<Joint>,
}

impl Seam {
    /// Remembers so many bytes of text; a longer answer cannot be gone on with.
    pub fn new(most: usize) -> Seam {
        Seam {
            text: String::new(),
            most,
            next: 0,
            open: None,
            in_text: false,
            spoilt: false,
            carried: Usage::default(),
            cost: 0,
            times: 0,
            theirs: None,
            joint: None,
        }
    }

    /// Whether the stream could be gone on with if it broke now.
    pub fn is_good(&self) -> bool {
        !self.spoilt && self.in_text && !self.text.trim().is_empty()
    }

    /// What is said cannot be followed.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// Adds what an attempt has used that broke.
    pub fn carry(&mut self, usage: Option<Usage>, cost: Nano) {
        self.carried = self.carried.plus(&usage.unwrap_or_default());
        self.cost = self.cost.saturating_add(cost);
    }

    /// The next attempt begins.
    pub fn go_on(&mut self) {
        self.times += 1;
        self.theirs = None;
        self.joint = Some(Joint::default());
    }

    /// Puts what was said at the end of a request. The answer is a member that marks it, if the provider has one.
    pub fn ask(&self, request: &mut Request<'_>, prefill: Prefill) -> Option<&'static str> {
        let thinks = request.reasoning.as_ref().is_some_and(|wish| wish.budget != Some(0));
        let said = |role, text: String| Message { role, blocks: vec![Block::text(text)], ..Message::default() };
        // A model that thinks before it answers cannot be put into the middle of its answer.
        let prefill = if thinks { Prefill::None } else { prefill };
        // Anthropic refuses a beginning that ends in white space; the model says it again.
        let text = if prefill == Prefill::Plain { self.text.trim_end() } else { &self.text };
        request.messages.push(said(Role::Assistant, text.to_owned()));
        if prefill == Prefill::None {
            request.messages.push(said(Role::User, GO_ON.to_owned()));
        }
        request.max_tokens = request.max_tokens.map(|most| most.saturating_sub(self.carried.output).max(1));
        prefill.member()
    }

    /// One event of the answer under way; `emit` gets what the caller's encoder is to write.
    pub fn event(&mut self, event: &Event<'_>, emit: &mut dyn FnMut(&Event<'_>)) {
        if self.times == 0 {
            self.follow(event);
            return emit(event);
        }
        match event {
            Event::Start { .. } => {}
            Event::Open { candidate, .. }
            | Event::Delta { candidate, .. }
            | Event::Close { candidate, .. }
            | Event::Finish { candidate, .. }
            | Event::Logprobs { candidate, .. }
                if *candidate != 0 => {}
            Event::Open { block, content, .. } => self.open(*block, content, emit),
            Event::Delta { block, delta, .. } => self.delta(*block, delta, emit),
            Event::Close { block, .. } => {
                if self.ours(*block).is_some() {
                    self.settle(emit);
                    self.close(emit);
                }
            }
            Event::Finish { .. } => {
                self.settle(emit);
                self.close(emit);
                self.spoilt = true;
                emit(event);
            }
            Event::Usage(usage) => emit(&Event::Usage(self.carried.plus(usage))),
            // The old text's scores are told, and these would be taken for those of a whole answer.
            Event::Logprobs { .. } => {}
            Event::End | Event::Fault(_) | Event::Ping | Event::Extra { .. } => emit(event),
        }
    }

    fn follow(&mut self, event: &Event<'_>) {
        match event {
            Event::Open { candidate: 0, block, content } => {
                self.next = self.next.max(block.saturating_add(1));
                self.open = Some(*block);
                self.in_text = false;
                match content {
                    Content::Text { text, .. } => {
                        self.in_text = true;
                        self.remember(text);
                    }
                    Content::Reasoning(_) if self.text.is_empty() => {}
                    _ => self.spoilt = true,
                }
            }
            Event::Delta { candidate: 0, delta: Delta::Text(text), .. } if self.in_text => self.remember(text),
            Event::Close { candidate: 0, .. } => self.open = None,
            Event::Open { .. } | Event::Delta { candidate: 1.., .. } | Event::Finish { .. } => self.spoilt = true,
            _ => {}
        }
    }

    fn remember(&mut self, text: &str) {
        if self.text.len().saturating_add(text.len()) > self.most {
            self.spoilt = true;
            self.text = String::new();
        } else if !self.spoilt {
            self.text.push_str(text);
        }
    }

    fn ours(&self, theirs: u32) -> Option<u32> {
        self.theirs.filter(|(block, _)| *block == theirs)?.1
    }

    fn open(&mut self, block: u32, content: &Content<'_>, emit: &mut dyn FnMut(&Event<'_>)) {
        match (content, &self.joint, self.open) {
            // What it thinks about going on is not what the caller asked for.
            (Content::Reasoning(_), ..) => self.theirs = Some((block, None)),
            (Content::Text { text, .. }, Some(_), Some(open)) => {
                self.theirs = Some((block, Some(open)));
                self.say(text, emit);
            }
            (Content::Text { text, .. }, Some(_), None) => {
                let number = self.begin(Content::Text { text: "".into(), citations: Vec::new() }, emit);
                self.theirs = Some((block, Some(number)));
                self.say(text, emit);
            }
            _ => {
                self.settle(emit);
                self.close(emit);
                self.in_text = matches!(content, Content::Text { .. });
                if let Content::Text { text, .. } = content {
                    self.remember(text);
                } else {
                    self.spoilt = true;
                }
                let number = self.begin(content.clone(), emit);
                self.theirs = Some((block, Some(number)));
            }
        }
    }

    fn begin(&mut self, content: Content<'_>, emit: &mut dyn FnMut(&Event<'_>)) -> u32 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.open = Some(number);
        emit(&Event::Open { candidate: 0, block: number, content });
        number
    }

    fn delta(&mut self, block: u32, delta: &Delta<'_>, emit: &mut dyn FnMut(&Event<'_>)) {
        let Some(ours) = self.ours(block) else { return };
        match delta {
            Delta::Text(text) if self.in_text => self.say(text, emit),
            other => emit(&Event::Delta { candidate: 0, block: ours, delta: other.clone() }),
        }
    }

    /// New text, once it is clear what of it is new.
    fn say(&mut self, text: &str, emit: &mut dyn FnMut(&Event<'_>)) {
        let Some(joint) = &mut self.joint else {
            self.remember(text);
            return self.tell(text, emit);
        };
        if let Some(new) = joint.take(&self.text, text) {
            self.joint = None;
            self.remember(&new);
            self.tell(&new, emit);
        }
    }

    fn tell(&self, text: &str, emit: &mut dyn FnMut(&Event<'_>)) {
        if let Some(block) = self.open.filter(|_| !text.is_empty()) {
            emit(&Event::Delta { candidate: 0, block, delta: Delta::Text(text.into()) });
        }
    }

    /// No more text comes that could tell what of it is new.
    fn settle(&mut self, emit: &mut dyn FnMut(&Event<'_>)) {
        if let Some(joint) = self.joint.take() {
            let new = joint.rest(&self.text);
            self.remember(&new);
            self.tell(&new, emit);
        }
    }

    fn close(&mut self, emit: &mut dyn FnMut(&Event<'_>)) {
        if let Some(block) = self.open.take() {
            emit(&Event::Close { candidate: 0, block });
        }
    }
}

/// Whether a call's answer is of a kind that can be gone on with: one answer in plain text.
pub fn may_go_on(inbound: &dyn Inbound, call: &Call) -> bool {
    inbound.decode(&call.body).is_ok_and(|request| {
        matches!(request.format, Format::Free | Format::Text) && request.sampling.candidates.unwrap_or(1) <= 1
    })
}

/// A chat request with its last message marked: the answer is to begin with it.
pub fn marked(body: Vec<u8>, member: &str, depth: usize) -> Vec<u8> {
    let Ok(members) = scan::scan(&body, depth) else { return body };
    let Some(messages) = members.get(&body, "messages") else { return body };
    // The array ends with the brace of its last message.
    let end = body.get(messages.value.clone()).and_then(|text| text.iter().rposition(|byte| *byte == b'}'));
    let Some(at) = end.map(|end| messages.value.start + end) else { return body };
    let mut patch = Patch::default();
    patch.replace(at..at, format!(",\"{member}\":true").as_bytes());
    patch.apply(&body)
}

#[cfg(test)]
mod tests;
