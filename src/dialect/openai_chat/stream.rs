//! Streamed answers, read: deltas into block events.
//!
//! A chat stream has no block marks, so the decoder opens a block when a delta of another kind comes and closes it at
//! the next change. Finishes are held until the stream's end: several providers repeat them, some send more after
//! them, and [`Event`] promises that nothing follows.

use crate::dialect::StreamDecoder;
use crate::ir::{Content, Delta, Event, Fault, FaultKind, Finish, FinishReason, Reasoning, ToolCall, ToolKind};
use crate::wire::json::{self, Extras, Raw, Text, TextOr, clip};
use crate::wire::sse::Frame;

use super::wire::{
    Answer, Call, CallFunction, Choice, Detail, Message, arguments, finish, google_signature, some, whole,
};
use super::{fault, reasoning, response, usage};

/// OpenAI's largest `n`. A provider that counts further is broken.
const CANDIDATES: usize = 128;
/// Names of unknown members that are remembered, so that each is told once.
const TOLD: usize = 64;
/// Tool calls of one candidate.
const CALLS: usize = 1_024;

type Emit<'e> = dyn FnMut(Event<'_>) + 'e;

#[derive(Default)]
pub struct Decoder {
    started: bool,
    done: bool,
    /// The provider's own failure: nothing is owed after it.
    failed: Option<Fault>,
    candidates: Vec<Candidate>,
    told: Vec<String>,
}

#[derive(Default)]
struct Candidate {
    index: u32,
    /// Number of the next block.
    next: u32,
    open: Open,
    /// The thought that is open has its signature: more text is another thought.
    sealed: bool,
    calls: Vec<Tool>,
    finish: Option<Finish<'static>>,
}

/// The block that is open.
#[derive(Default, PartialEq)]
enum Open {
    #[default]
    Nothing,
    Text,
    Refusal,
    Reasoning(Key),
    /// The last of `calls`.
    Call,
}

/// Tells one thought from the next: index, type and id of `reasoning_details`; all empty for plain text.
#[derive(Default, PartialEq)]
struct Key {
    index: Option<u64>,
    kind: Option<String>,
    id: Option<String>,
}

#[derive(Default)]
struct Tool {
    index: Option<u64>,
    id: String,
    /// The name has come, and with it the block was opened.
    opened: bool,
    kind: ToolKind,
    /// Arguments that came before the name.
    held: String,
    /// The first piece was whole arguments: another piece is another call.
    whole: bool,
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if frame.comment {
            emit(Event::Ping);
            return Ok(());
        }
        let data = frame.data.trim();
        if data.is_empty() || self.done || self.failed.is_some() {
            return Ok(());
        }
        if data == "[DONE]" {
            return self.finish(emit);
        }
        if frame.event == "error" {
            return self.fail(&Raw::parse(data).map_err(|e| garbage(&e.to_string()))?, emit);
        }
        let chunk: Answer<'_> = json::read(data.as_bytes()).map_err(|e| garbage(&e.to_string()))?;
        self.chunk(chunk, data, emit)
    }

    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        if self.candidates.is_empty() || self.candidates.iter().any(|candidate| candidate.finish.is_none()) {
            return Err(Fault::new(FaultKind::Truncated, "the stream ended before the answer did"));
        }
        self.finish(emit)
    }
}

fn garbage(message: &str) -> Fault {
    Fault::new(FaultKind::Garbage, format!("not a chat completion chunk: {}", clip(message, 300)))
}

impl Decoder {
    fn chunk(&mut self, chunk: Answer<'_>, data: &str, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let mut extras = chunk.extras;
        let error = chunk.error.filter(|error| !error.is_null());
        let refused = chunk.choices.is_none() && chunk.object.as_ref().is_some_and(|raw| raw.get() == r#""error""#);
        let groq = extras.get("x_groq").and_then(|raw| raw.read::<Groq<'_>>().ok()?.usage.map(Raw::into_owned));
        let counted = usage::read(chunk.usage.as_ref()).or_else(|| usage::read(groq.as_ref()));
        let choices = chunk.choices.unwrap_or_default();

        if !self.started && (!choices.is_empty() || counted.is_some() || some(chunk.id.clone()).is_some()) {
            self.started = true;
            emit(Event::Start {
                id: chunk.id.unwrap_or_default(),
                model: chunk.model.unwrap_or_default(),
                created: whole(chunk.created.as_ref()),
                service_tier: some(chunk.service_tier),
                fingerprint: some(chunk.fingerprint),
                extras: Extras::default(),
            });
        }
        if refused {
            return self.fail(&Raw::parse(data).map_err(|e| garbage(&e.to_string()))?, emit);
        }
        extras.0.retain(|(name, json)| response::says(json) && !is_padding(name));
        for (name, json) in extras.0 {
            self.tell("", name, json, emit);
        }
        let mut in_choice = None;
        for choice in choices {
            in_choice = in_choice.or_else(|| usage::read(choice.usage.as_ref()));
            self.choice(choice, emit)?;
        }
        if let Some(counted) = counted.or(in_choice) {
            emit(Event::Usage(counted));
        }
        match error {
            Some(error) => self.fail(&error, emit),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: &Raw<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let fault = fault::in_stream(error);
        self.failed = Some(fault.clone());
        emit(Event::Fault(fault));
        Ok(())
    }

    /// Emits what is owed and the end.
    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Fault> {
        self.done = true;
        for candidate in &mut self.candidates {
            candidate.close(emit);
            let finish = candidate.finish.take().unwrap_or_else(|| {
                // Snowflake sends the mark of the end and no reason.
                let reason = if candidate.calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
                Finish { reason, sequence: None, native: None }
            });
            emit(Event::Finish { candidate: candidate.index, finish });
        }
        emit(Event::End);
        Ok(())
    }

    /// Emits a member that we do not know, once for a stream.
    fn tell(&mut self, prefix: &str, name: Text<'_>, json: Raw<'_>, emit: &mut Emit<'_>) {
        let name = if prefix.is_empty() { name } else { Text::from(format!("{prefix}.{name}")) };
        if self.told.len() < TOLD && !self.told.iter().any(|told| name == told.as_str()) {
            self.told.push(name.to_string());
            emit(Event::Extra { name, json });
        }
    }

    fn choice(&mut self, choice: Choice<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let index = whole(choice.index.as_ref()).unwrap_or(0);
        let index = u32::try_from(index).map_err(|_| garbage("choice index out of range"))?;
        let mut extras = choice.extras;
        // Perplexity repeats the message so far beside each delta, Together the text.
        extras.0.retain(|(name, json)| response::says(json) && name != "text" && !is_padding(name));
        for (name, json) in extras.0 {
            self.tell("choices", name, json, emit);
        }
        let at = match self.candidates.iter().position(|candidate| candidate.index == index) {
            Some(at) => at,
            None if self.candidates.len() >= CANDIDATES => return Err(garbage("too many choices")),
            None => {
                self.candidates.push(Candidate { index, ..Candidate::default() });
                self.candidates.len() - 1
            }
        };
        if let Some(mut delta) = choice.delta.or(choice.message) {
            let mut extras = std::mem::take(&mut delta.extras);
            let annotations = extras.take("annotations");
            extras.0.retain(|(name, json)| response::says(json) && !is_padding(name));
            let audio = delta.audio.take().filter(|audio| some(audio.id.clone()).or(audio.data.clone()).is_some());
            for (name, json) in extras.0 {
                self.tell("delta", name, json, emit);
            }
            if audio.is_some() {
                // Pieces of sound have no block to be pieces of.
                self.tell("delta", Text::from("audio"), Raw::literal("{}"), emit);
            }
            if let Some(candidate) = self.candidates.get_mut(at) {
                candidate.delta(delta, annotations, emit)?;
            }
        }
        if let Some(candidate) = self.candidates.get_mut(at) {
            if let Some(json) = choice.logprobs.filter(response::says) {
                emit(Event::Logprobs { candidate: index, json });
            }
            if let (None, Some(finish)) = (&candidate.finish, choice.finish.and_then(finish)) {
                candidate.finish =
                    Some(Finish { reason: finish.reason, sequence: None, native: finish.native.map(Text::into_owned) });
            }
        }
        Ok(())
    }
}

crate::shape! {
    /// Groq's own member: usage where it was not asked for.
    struct Groq { usage "usage": Raw<'a> }
}

/// Noise against traffic analysis (OpenAI, Mistral, Copilot), and what says where a piece stands.
fn is_padding(name: &str) -> bool {
    matches!(name, "obfuscation" | "p" | "padding" | "index" | "token_id")
}

impl Candidate {
    fn delta(
        &mut self,
        mut delta: Message<'_>,
        annotations: Option<Raw<'_>>,
        emit: &mut Emit<'_>,
    ) -> Result<(), Fault> {
        self.thoughts(&mut delta, emit);
        match delta.content {
            Some(TextOr::Text(text)) => self.text(text, emit),
            Some(TextOr::Full(parts)) => {
                for block in parts.into_iter().filter_map(response::part) {
                    match block.content {
                        Content::Text { text, .. } => self.text(text, emit),
                        Content::Reasoning(Reasoning { text: Some(text), .. }) => self.thought(text, emit),
                        content => self.whole(content, emit),
                    }
                }
            }
            None => {}
        }
        let annotations = annotations.and_then(|raw| raw.open::<Vec<Raw<'_>>>().ok()).unwrap_or_default();
        for json in annotations {
            self.turn(Open::Text, emit, |_| Content::Text { text: Text::default(), citations: Vec::new() });
            self.emit(Delta::Citation(json), emit);
        }
        if let Some(text) = some(delta.refusal) {
            if self.open == Open::Refusal {
                self.emit(Delta::Text(text), emit);
            } else {
                self.turn(Open::Refusal, emit, |_| Content::Refusal(text));
            }
        }
        for block in delta.images.unwrap_or_default().into_iter().filter_map(response::part) {
            self.whole(block.content, emit);
        }
        for mut call in delta.tool_calls.unwrap_or_default() {
            let inner = call.function.as_mut().map(|function| std::mem::take(&mut function.extras));
            for (name, json) in std::mem::take(&mut call.extras).0.into_iter().chain(inner.unwrap_or_default().0) {
                if response::says(&json) && !is_padding(&name) {
                    emit(Event::Extra { name: format!("content.{name}").into(), json });
                }
            }
            self.call(call, emit)?;
        }
        if let Some(function) = delta.function_call.filter(|f| f.name.is_some() || f.arguments.is_some()) {
            self.call(Call { function: Some(function), ..Call::default() }, emit)?;
        }
        Ok(())
    }

    fn thoughts(&mut self, delta: &mut Message<'_>, emit: &mut Emit<'_>) {
        let details = delta.reasoning_details.take().unwrap_or_default();
        let told = details
            .iter()
            .any(|detail| [&detail.text, &detail.summary].into_iter().flatten().any(|text| !text.is_empty()));
        let plain = some(delta.reasoning_content.take()).or(some(delta.reasoning.take()));
        if let (false, Some(text)) = (told, plain) {
            self.thought(text, emit);
        }
        for detail in details {
            self.detail(detail, emit);
        }
        if let Some(signature) = google_signature(delta.extra_content.as_ref()) {
            let issuer = Some(Text::from(reasoning::GEMINI));
            let thought = Reasoning { signature: Some(signature), issuer, ..Reasoning::default() };
            self.whole(Content::Reasoning(thought), emit);
        }
    }

    fn thought(&mut self, text: Text<'_>, emit: &mut Emit<'_>) {
        if matches!(self.open, Open::Reasoning(_)) && !self.sealed {
            self.emit(Delta::Text(text), emit);
        } else {
            self.close(emit);
            self.turn(Open::Reasoning(Key::default()), emit, |_| {
                Content::Reasoning(Reasoning { text: Some(text), ..Reasoning::default() })
            });
        }
    }

    fn detail(&mut self, detail: Detail<'_>, emit: &mut Emit<'_>) {
        let key = Key {
            index: whole(detail.index.as_ref()),
            kind: detail.kind.as_ref().map(|kind| kind.to_string()),
            id: some(detail.id.clone()).map(|id| id.to_string()),
        };
        let Some(thought) = reasoning::detail(detail) else { return };
        let same = match &self.open {
            // OpenAI's items: summary, then encryption, under one id.
            Open::Reasoning(open) if open.id.is_some() && open.id == key.id && thought.text.is_none() => true,
            Open::Reasoning(_) if self.sealed => false,
            // A signature alone, for text that came by another carrier.
            Open::Reasoning(open) if *open == Key::default() => thought.text.is_none() && thought.encrypted.is_none(),
            Open::Reasoning(open) => open.index == key.index && open.kind == key.kind,
            _ => false,
        };
        let seals = thought.signature.is_some() || thought.encrypted.is_some();
        if !same {
            self.close(emit);
            self.turn(Open::Reasoning(key), emit, |_| Content::Reasoning(thought));
            self.sealed = seals;
            return;
        }
        self.sealed |= seals;
        if let Some(text) = thought.text {
            self.emit(Delta::Text(text), emit);
        }
        if let Some(signature) = thought.signature {
            self.emit(Delta::Signature(signature), emit);
        }
        if let Some(data) = thought.encrypted {
            self.emit(Delta::Encrypted(data), emit);
        }
    }

    fn text(&mut self, text: Text<'_>, emit: &mut Emit<'_>) {
        if text.is_empty() {
            return;
        }
        if self.open == Open::Text {
            self.emit(Delta::Text(text), emit);
        } else {
            self.turn(Open::Text, emit, |_| Content::Text { text, citations: Vec::new() });
        }
    }

    /// A block that comes in one piece.
    fn whole(&mut self, content: Content<'_>, emit: &mut Emit<'_>) {
        self.close(emit);
        emit(Event::Open { candidate: self.index, block: self.next, content });
        emit(Event::Close { candidate: self.index, block: self.next });
        self.next += 1;
    }

    fn call(&mut self, call: Call<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let index = whole(call.index.as_ref());
        let signature = google_signature(call.extra_content.as_ref());
        let custom = call.function.is_none() && call.custom.is_some();
        let (name, piece) = match (call.function, call.custom) {
            (None, Some(custom)) => (some(custom.name), custom.input.unwrap_or_default()),
            (function, _) => {
                let CallFunction { name, arguments: raw, .. } = function.unwrap_or_default();
                (some(name), arguments(raw))
            }
        };
        let id = some(call.id);
        if let Some(at) = self.place(index, id.as_deref(), name.as_deref(), &piece) {
            // A call that was left cannot be taken up again: blocks do not overlap.
            let current = self.open == Open::Call && at + 1 == self.calls.len();
            if !current {
                return if piece.is_empty() {
                    Ok(())
                } else {
                    Err(garbage("pieces of parallel tool calls are interleaved"))
                };
            }
        } else {
            if self.calls.len() >= CALLS {
                return Err(garbage("too many tool calls"));
            }
            self.close(emit);
            self.open = Open::Call;
            self.calls.push(Tool {
                index,
                id: id.as_ref().map(|id| id.to_string()).unwrap_or_default(),
                kind: if custom { ToolKind::Custom } else { ToolKind::Function },
                whole: is_whole(&piece),
                ..Tool::default()
            });
        }
        let (candidate, block) = (self.index, self.next);
        let Some(tool) = self.calls.last_mut() else { return Ok(()) };
        if tool.opened {
            if !piece.is_empty() {
                self.emit(Delta::Arguments(piece), emit);
            }
            if let Some(signature) = signature {
                self.emit(Delta::Signature(signature), emit);
            }
            return Ok(());
        }
        if let (true, Some(id)) = (tool.id.is_empty(), id) {
            tool.id = id.to_string();
        }
        tool.held.push_str(&piece);
        if let Some(name) = name {
            tool.opened = true;
            let arguments = std::mem::take(&mut tool.held);
            let content = Content::ToolCall(ToolCall {
                id: Text::from(tool.id.as_str()),
                name,
                arguments: Text::from(arguments),
                kind: tool.kind,
                signature,
            });
            emit(Event::Open { candidate, block, content });
        }
        Ok(())
    }

    /// Which call a piece belongs to; `None` is a new one. Some providers give every call index 0, or no index at
    /// all, and others repeat id and name with every piece.
    fn place(&self, index: Option<u64>, id: Option<&str>, name: Option<&str>, piece: &str) -> Option<usize> {
        let last = self.calls.len().checked_sub(1)?;
        let at = match (index, id) {
            (Some(_), _) => self.calls.iter().rposition(|tool| tool.index == index)?,
            (None, Some(id)) => self.calls.iter().rposition(|tool| tool.id == id)?,
            (None, None) => last,
        };
        let tool = self.calls.get(at)?;
        let other_id = id.is_some_and(|id| !tool.id.is_empty() && tool.id != id);
        let another = name.is_some() && tool.whole && !piece.is_empty() && id.is_none_or(|id| tool.id != id);
        (!other_id && !another).then_some(at)
    }

    /// Closes what is open and opens a block, unless the wanted one is open already.
    fn turn<'c>(&mut self, to: Open, emit: &mut Emit<'_>, content: impl FnOnce(()) -> Content<'c>) {
        if self.open == to {
            return;
        }
        self.close(emit);
        self.open = to;
        emit(Event::Open { candidate: self.index, block: self.next, content: content(()) });
    }

    fn emit(&self, delta: Delta<'_>, emit: &mut Emit<'_>) {
        emit(Event::Delta { candidate: self.index, block: self.next, delta });
    }

    fn close(&mut self, emit: &mut Emit<'_>) {
        if self.open == Open::Nothing {
            return;
        }
        let call = (self.open == Open::Call).then(|| self.calls.last_mut()).flatten();
        if let Some(tool) = call.filter(|tool| !tool.opened) {
            // The name never came; what came is shown as it is.
            tool.opened = true;
            let content = Content::ToolCall(ToolCall {
                id: Text::from(tool.id.as_str()),
                arguments: Text::from(std::mem::take(&mut tool.held)),
                kind: tool.kind,
                ..ToolCall::default()
            });
            emit(Event::Open { candidate: self.index, block: self.next, content });
        }
        emit(Event::Close { candidate: self.index, block: self.next });
        self.next += 1;
        self.open = Open::Nothing;
        self.sealed = false;
    }
}

/// Whether a piece of arguments is an object by itself.
fn is_whole(piece: &str) -> bool {
    piece.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(piece).is_ok()
}
