//! Streams: frames, each a whole `GenerateContentResponse`, to block events.
//!
//! Gemini has no block marks and no terminal mark: parts of one kind continue a block, and the stream ends with its
//! body. A `finishReason` is no end either: recorded streams go on with content after it, and older models say `STOP`
//! in every frame. So finishes are held back until the body ends, and the answer is whole if every candidate has one.

use super::partial::Pieces;
use super::response::{self, MOST_CANDIDATES, TRAFFIC};
use super::wire::{Answer, Call, Candidate, Part};
use super::{fault, response::seconds};
use crate::dialect::StreamDecoder;
use crate::ir::{Content, Delta, Event, Fault, FaultKind, Finish, Reasoning, Usage};
use crate::wire::json::{self, Extras, Text};
use crate::wire::sse::Frame;

/// One streamed answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    lanes: Vec<Lane>,
    /// The prompt was refused.
    blocked: Option<Finish<'static>>,
    usage: Option<Usage>,
    traffic: bool,
}

/// What is known of one candidate.
#[derive(Debug, Default)]
struct Lane {
    candidate: u32,
    /// The number of the next block.
    next: u32,
    open: Option<Open>,
    /// A call whose arguments come in pieces, and which is then the open block.
    pieces: Option<Pieces>,
    called: bool,
    finish: Option<Finish<'static>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thought,
    Call,
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if frame.data.is_empty() {
            emit(Event::Ping);
            return Ok(());
        }
        let answer: Answer<'_> = json::read(frame.data.as_bytes())
            .map_err(|invalid| Fault::new(FaultKind::Garbage, format!("an event of the stream: {invalid}")))?;
        self.answer(answer, emit)
    }

    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        for lane in &mut self.lanes {
            lane.close(emit);
        }
        if self.lanes.is_empty()
            && let Some(finish) = self.blocked.take()
        {
            emit(Event::Finish { candidate: 0, finish });
            emit(Event::End);
            return Ok(());
        }
        if self.lanes.is_empty() || self.lanes.iter().any(|lane| lane.finish.is_none()) {
            return Err(Fault::new(FaultKind::Truncated, "the stream ended before the answer was finished"));
        }
        for lane in &mut self.lanes {
            response::settle(&mut lane.finish, lane.called);
            if let Some(finish) = lane.finish.take() {
                emit(Event::Finish { candidate: lane.candidate, finish });
            }
        }
        emit(Event::End);
        Ok(())
    }
}

impl Decoder {
    fn answer(&mut self, answer: Answer<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let Answer { candidates, feedback, usage, model, id, created, error, extras } = answer;
        if let Some(error) = error {
            emit(Event::Fault(fault::frame(&error)));
            return Ok(());
        }
        if !self.started {
            self.started = true;
            emit(Event::Start {
                id: id.unwrap_or_default(),
                model: model.unwrap_or_default(),
                created: created.as_deref().and_then(seconds),
                service_tier: usage.as_ref().and_then(|usage| usage.tier.clone()),
                fingerprint: None,
                extras: Extras::default(),
            });
        }
        for candidate in candidates.unwrap_or_default() {
            self.candidate(candidate, emit)?;
        }
        if let Some(feedback) = feedback {
            self.blocked = response::blocked(&feedback).or(self.blocked.take());
            emit(Event::Extra { name: "promptFeedback".into(), json: feedback });
        }
        for (name, json) in extras.0 {
            emit(Event::Extra { name, json });
        }
        if let Some(counts) = usage {
            if let Some(usage) = counts.usage()
                && self.usage != Some(usage)
            {
                self.usage = Some(usage);
                emit(Event::Usage(usage));
            }
            if let Some(json) = counts.traffic
                && !std::mem::replace(&mut self.traffic, true)
            {
                emit(Event::Extra { name: TRAFFIC.into(), json });
            }
        }
        Ok(())
    }

    fn candidate(&mut self, read: Candidate<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let Candidate { index, content, finish, logprobs, extras } = read;
        let candidate = index.and_then(|n| n.as_u64()).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let at = match self.lanes.iter().position(|lane| lane.candidate == candidate) {
            Some(at) => at,
            None if self.lanes.len() < MOST_CANDIDATES => {
                self.lanes.push(Lane { candidate, ..Lane::default() });
                self.lanes.len().saturating_sub(1)
            }
            None => return Err(Fault::new(FaultKind::Garbage, "too many candidates in the stream")),
        };
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        let content = content.unwrap_or_default();
        for (name, json) in content.extras.0 {
            emit(Event::Extra { name: format!("content.{name}").into(), json });
        }
        for part in content.parts.unwrap_or_default() {
            lane.part(part, emit)?;
        }
        if let Some(logprobs) = logprobs {
            emit(Event::Logprobs { candidate, json: response::logprobs(&logprobs) });
        }
        for (name, json) in extras.0 {
            emit(Event::Extra { name, json });
        }
        if let Some(finish) = finish {
            lane.finish = Some(response::finish(finish.0.into_owned()));
        }
        Ok(())
    }
}

impl Lane {
    fn part(&mut self, mut part: Part<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if let Some(call) = part.call.take() {
            let begins = call.name.is_some();
            if self.pieces.is_some() && !begins {
                return self.piece(call, part.signature, emit);
            }
            self.close(emit);
            self.called = true;
            let whole = call.more != Some(true) && call.partial.is_none();
            part.call = Some(call);
            if !whole {
                return self.begin(part, emit);
            }
        }
        response::blocks(part, &mut |block| {
            self.block(block.content, emit);
            for (name, json) in block.extras.0 {
                emit(Event::Extra { name: format!("content.{name}").into(), json });
            }
        });
        Ok(())
    }

    /// Continues the open block, or opens one.
    fn block(&mut self, content: Content<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        let kind = match &content {
            Content::Text { .. } => Some(Open::Text),
            Content::Reasoning(Reasoning { text: Some(_), .. }) => Some(Open::Thought),
            _ => None,
        };
        if kind.is_some() && kind == self.open {
            let (candidate, block) = (self.candidate, self.next.saturating_sub(1));
            let mut delta = |delta| emit(Event::Delta { candidate, block, delta });
            match content {
                Content::Text { text, .. } => delta(Delta::Text(text)),
                Content::Reasoning(Reasoning { text, signature, .. }) => {
                    if let Some(text) = text {
                        delta(Delta::Text(text));
                    }
                    if let Some(signature) = signature {
                        delta(Delta::Signature(signature));
                    }
                }
                _ => {}
            }
            return;
        }
        self.open(content, emit);
        self.open = kind;
        if kind.is_none() {
            self.shut(emit);
        }
    }

    /// A call whose arguments come in pieces.
    fn begin(&mut self, mut part: Part<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let Some(mut call) = part.call.take() else { return Ok(()) };
        let pieces = call.partial.take();
        let more = call.more;
        let mut content = response::tool_call(call, part.signature.take());
        content.arguments = Text::default();
        self.open(Content::ToolCall(content), emit);
        self.open = Some(Open::Call);
        self.pieces = Some(Pieces::default());
        self.piece(Call { partial: pieces, more, ..Call::default() }, None, emit)
    }

    fn piece(
        &mut self,
        call: Call<'_>,
        signature: Option<Text<'_>>,
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        let (candidate, block) = (self.candidate, self.next.saturating_sub(1));
        if let Some(pieces) = &mut self.pieces {
            for piece in call.partial.iter().flatten() {
                pieces.put(piece).map_err(|_| {
                    Fault::new(FaultKind::Garbage, "a piece of a tool call's arguments has no place in them")
                })?;
            }
        }
        if let Some(signature) = signature {
            emit(Event::Delta { candidate, block, delta: Delta::Signature(signature) });
        }
        if call.more != Some(true) {
            self.close(emit);
        }
        Ok(())
    }

    fn open(&mut self, content: Content<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        self.close(emit);
        emit(Event::Open { candidate: self.candidate, block: self.next, content });
        self.next = self.next.saturating_add(1);
    }

    /// Closes the open block, if there is one, and tells the arguments that were gathered for it.
    fn close(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if self.open.is_none() {
            return;
        }
        if let Some(pieces) = self.pieces.take() {
            let json = String::from_utf8(pieces.json()).unwrap_or_default();
            let (candidate, block) = (self.candidate, self.next.saturating_sub(1));
            emit(Event::Delta { candidate, block, delta: Delta::Arguments(json.into()) });
        }
        self.shut(emit);
    }

    fn shut(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        self.open = None;
        emit(Event::Close { candidate: self.candidate, block: self.next.saturating_sub(1) });
    }
}
