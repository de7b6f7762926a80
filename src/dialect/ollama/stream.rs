//! Streams: lines to block events.
//!
//! Lines carry pieces of thought and text without marks, so a block is opened where another kind of piece comes and closed
//! at the next change; calls come whole. The last line says so, counts, and tells why the model stopped. A failure is a
//! line with `error`.

use super::fault;
use super::response::contents;
use super::wire::{self, Answer, adopt, says};
use crate::dialect::StreamDecoder;
use crate::ir::{Content, Delta, Event, Fault, FaultKind, Reasoning};
use crate::wire::json::{self, Extras, clip};
use crate::wire::sse::Frame;

type Emit<'e> = dyn FnMut(Event<'_>) + 'e;

/// One streamed answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// Blocks begun.
    blocks: u32,
    open: Option<Open>,
    called: bool,
    ended: bool,
    failed: bool,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Open {
    Text,
    Thought,
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let data = frame.data.trim();
        if self.ended || self.failed {
            return Ok(());
        }
        if data.is_empty() {
            emit(Event::Ping);
            return Ok(());
        }
        let line: Answer<'_> = json::read(data.as_bytes()).map_err(|e| garbage(&e.to_string()))?;
        if let Some(error) = line.error.filter(says) {
            self.failed = true;
            emit(Event::Fault(fault::line(&error)));
            return Ok(());
        }
        let mut extras = Extras::default();
        if !self.started {
            self.started = true;
            emit(Event::Start {
                id: wire::id(line.created.as_ref()).into(),
                model: line.model.unwrap_or_default(),
                created: wire::seconds(line.created.as_ref()),
                service_tier: None,
                fingerprint: None,
                extras: Extras::default(),
            });
            adopt(&mut extras, "", line.extras);
        } else if line.done == Some(true) || line.message.is_none() {
            // Lines of an answer repeat what they say of themselves; the first and the last are enough.
            adopt(&mut extras, "", line.extras);
        }
        for content in contents(line.message.unwrap_or_default(), &mut extras) {
            self.say(content, emit);
        }
        if let Some(json) = wire::logprobs(line.logprobs) {
            emit(Event::Logprobs { candidate: 0, json });
        }
        for (name, json) in extras.0 {
            emit(Event::Extra { name, json });
        }
        if line.done == Some(true) {
            self.close(emit);
            emit(Event::Finish { candidate: 0, finish: wire::finish(line.reason, self.called) });
            if let Some(usage) = wire::usage(line.prompt.as_ref(), line.answer.as_ref()) {
                emit(Event::Usage(usage));
            }
            self.ended = true;
            emit(Event::End);
        }
        Ok(())
    }

    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.ended || self.failed {
            return Ok(());
        }
        self.close(emit);
        Err(Fault::new(FaultKind::Truncated, "the stream ended before the answer was finished"))
    }
}

impl Decoder {
    fn say(&mut self, content: Content<'_>, emit: &mut Emit<'_>) {
        let kind = match &content {
            Content::Text { .. } => Some(Open::Text),
            Content::Reasoning(_) => Some(Open::Thought),
            _ => None,
        };
        if kind.is_some() && self.open == kind {
            let (Content::Text { text, .. } | Content::Reasoning(Reasoning { text: Some(text), .. })) = content else {
                return;
            };
            emit(Event::Delta { candidate: 0, block: self.blocks.saturating_sub(1), delta: Delta::Text(text) });
            return;
        }
        self.close(emit);
        self.called |= matches!(content, Content::ToolCall(_));
        emit(Event::Open { candidate: 0, block: self.blocks, content });
        self.blocks = self.blocks.saturating_add(1);
        match kind {
            Some(kind) => self.open = Some(kind),
            None => emit(Event::Close { candidate: 0, block: self.blocks.saturating_sub(1) }),
        }
    }

    fn close(&mut self, emit: &mut Emit<'_>) {
        if self.open.take().is_some() {
            emit(Event::Close { candidate: 0, block: self.blocks.saturating_sub(1) });
        }
    }
}

fn garbage(message: &str) -> Fault {
    Fault::new(FaultKind::Garbage, format!("not a line of a chat: {}", clip(message, 300)))
}
