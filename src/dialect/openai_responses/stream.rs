//! Streamed answers, read: the events of items and their parts into block events.
//!
//! Blocks of the IR do not overlap, items here may: one item at a time is told as it comes, and of the others the whole
//! that ends each is told when its turn has come. Every end repeats all that came before it, so an end also makes up for
//! deltas that a provider never sent. Events are told apart by the kind in their data, items by their index: some
//! providers leave the `event:` line out, and GitHub's gives an item another id with every event.

use crate::dialect::StreamDecoder;
use crate::dialect::openai_chat::fault;
use crate::dialect::openai_chat::wire::some;
use crate::ir::{Block, Content, Delta, Event, Fault, FaultKind, Reasoning, ToolCall, ToolKind, Usage};
use crate::wire::json::{self, Kind as Json, Raw, Text, clip};
use crate::wire::sse::Frame;

use super::active::{Active, Begun, Emit, Kind, PartKind, Place};
use super::items::{self, number};
use super::response::{ended, joined, said};
use super::usage;
use super::wire::{Answer, CallItem, Event as Shape, ITEM, Kind as KindShape, NAME, Part};

/// Names of unknown events and members that are remembered, so that each is told once.
const TOLD: usize = 64;
/// Items begun and not ended.
const ITEMS: usize = 4_096;
/// Bytes of items that wait for their turn.
const HELD: usize = 32 << 20;

#[derive(Default)]
pub struct Decoder {
    started: bool,
    done: bool,
    /// The provider's own failure: nothing is owed after it.
    failed: Option<Fault>,
    /// Number of the next block, while no item is told as it comes.
    next: u32,
    called: bool,
    active: Option<Active>,
    /// Items begun that are not told as they come.
    begun: Vec<Begun>,
    /// Whole items whose turn has not come.
    waiting: Vec<String>,
    held: usize,
    told: Vec<String>,
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.done || self.failed.is_some() {
            return Ok(());
        }
        if frame.comment {
            emit(Event::Ping);
            return Ok(());
        }
        let data = frame.data.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(());
        }
        let event: Shape<'_> = json::read(data.as_bytes()).map_err(|e| garbage(&e.to_string()))?;
        let kind = event.kind.clone().unwrap_or_else(|| frame.event.into());
        self.event(&kind, event, data, emit)
    }

    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        if let Some(active) = &mut self.active {
            active.close(emit);
        }
        Err(Fault::new(FaultKind::Truncated, "the stream ended before the answer did"))
    }
}

fn garbage(message: &str) -> Fault {
    Fault::new(FaultKind::Garbage, format!("not an event of a response: {}", clip(message, 300)))
}

impl Decoder {
    fn event(&mut self, kind: &str, event: Shape<'_>, data: &str, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let place = |kind: PartKind| Place { kind, index: number(event.part_index.as_ref()).unwrap_or(0) };
        let index = number(event.index.as_ref()).unwrap_or(0);
        let part = match kind {
            "response.output_text.delta" | "response.output_text.done" | "response.output_text.annotation.added" => {
                Some(place(PartKind::Text))
            }
            "response.refusal.delta" | "response.refusal.done" => Some(place(PartKind::Refusal)),
            "response.reasoning_summary_text.delta" | "response.reasoning_summary_text.done" => {
                Some(place(PartKind::Summary))
            }
            "response.reasoning_text.delta" | "response.reasoning_text.done" => Some(place(PartKind::Thought)),
            _ => None,
        };
        if let Some(part) = part {
            let Some(active) = self.turn_to(index, part.kind, emit) else { return Ok(()) };
            let text = event.delta.as_ref().filter(|_| kind.ends_with(".delta")).map(string);
            let whole = event.whole.as_ref().filter(|_| kind.ends_with(".done")).map(string);
            active.turn(part, emit);
            match (text, whole, event.annotation) {
                (Some(text), ..) => active.text(text, emit),
                (None, Some(text), _) if !active.sent => active.text(text, emit),
                (None, None, Some(json)) => active.cite(json, emit),
                _ => {}
            }
            if let Some(json) = event.logprobs {
                active.score(&json, kind.ends_with(".done"), emit);
            }
            return Ok(());
        }
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(&answer(event.response)?, emit);
            }
            "response.output_item.added" => {
                let raw = event.item.ok_or_else(|| garbage("an item begins without saying what it is"))?;
                self.added(index, raw, emit)?;
            }
            "response.output_item.done" => {
                let raw = event.item.ok_or_else(|| garbage("an item ends without saying what it was"))?;
                self.item_done(index, raw, emit)?;
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                let part = opened(event.part);
                // An empty part is opened when something is put into it.
                if let (Some(kind), Some(text)) = (part_kind(&part), some(part.text.or(part.refusal))) {
                    let place = place(kind);
                    if let Some(active) = self.turn_to(index, kind, emit) {
                        active.turn(place, emit);
                        active.text(text, emit);
                    }
                }
            }
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                self.part_done(index, place(PartKind::Text).index, opened(event.part), emit);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                if let (Some(active), Some(raw)) = (self.active_call(index), &event.delta) {
                    let piece = string(raw);
                    active.argue(piece, emit);
                }
            }
            "response.function_call_arguments.done" | "response.custom_tool_call_input.done" => {
                if let (Some(active), Some(raw)) = (self.active_call(index).filter(|active| !active.sent), &event.whole)
                {
                    active.argue(string(raw), emit);
                }
            }
            "response.completed" | "response.incomplete" | "response.cancelled" | "response.failed" => {
                let mut answer = answer(event.response)?;
                if let (Some(counted), "response.failed") = (counted(&answer), kind) {
                    emit(Event::Usage(counted));
                }
                if let Some(error) = answer.error.take().filter(|error| !error.is_null()) {
                    return self.fail(&error, emit);
                }
                if kind == "response.failed" {
                    return self.fail(&Raw::literal(r#""the provider failed and did not say why""#), emit);
                }
                self.finish(answer, emit)?;
            }
            "error" => {
                let bare = Raw::parse(data).map_err(|e| garbage(&e.to_string()))?;
                let error = event.error.filter(|error| !error.is_null()).unwrap_or(bare);
                return self.fail(&error, emit);
            }
            "keepalive" | "ping" | "" if event.error.is_none() => emit(Event::Ping),
            "" => {
                let error = event.error.unwrap_or(Raw::literal("null"));
                return self.fail(&error, emit);
            }
            // What tells of the inside of an item is told again at its end.
            _ => {
                let json = Raw::parse(data).unwrap_or(Raw::literal("null"));
                self.tell(kind, json, emit);
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &Raw<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let fault = fault::in_stream(error);
        self.failed = Some(fault.clone());
        emit(Event::Fault(fault));
        Ok(())
    }

    /// Emits an event or member that we do not know, once for a stream.
    fn tell(&mut self, name: &str, json: Raw<'_>, emit: &mut Emit<'_>) {
        if self.told.len() < TOLD && !self.told.iter().any(|told| told == name) {
            self.told.push(name.to_owned());
            emit(Event::Extra { name: name.into(), json });
        }
    }

    fn start(&mut self, answer: &Answer<'_>, emit: &mut Emit<'_>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        emit(Event::Start {
            id: answer.id.clone().unwrap_or_default(),
            model: answer.model.clone().unwrap_or_default(),
            created: number(answer.created.as_ref()),
            service_tier: some(answer.service_tier.clone()),
            fingerprint: None,
            extras: json::Extras::default(),
        });
    }

    fn added(&mut self, index: u64, raw: Raw<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        self.start(&Answer::default(), emit);
        if self.begun.len() >= ITEMS {
            return Err(garbage("too many items"));
        }
        let shape: KindShape<'_> = raw.open().map_err(|e| garbage(&e.to_string()))?;
        let id = shape.id.as_ref().map(string).unwrap_or_default().into_owned();
        let kind = match shape.kind.as_ref().map(string).as_deref() {
            Some("message") => Kind::Message,
            Some("reasoning") => Kind::Reasoning,
            Some(kind @ ("function_call" | "custom_tool_call")) => {
                let kind = if kind == "function_call" { ToolKind::Function } else { ToolKind::Custom };
                let item: CallItem<'_> = raw.open().map_err(|e| garbage(&e.to_string()))?;
                match (some(item.call_id), some(item.name)) {
                    (Some(call), Some(name)) => Kind::Call { kind, call: call.to_string(), name: name.to_string() },
                    _ => Kind::Other,
                }
            }
            _ => Kind::Other,
        };
        let begun = Begun { index, id: id.to_string(), kind, missed: false, left: false };
        if self.active.is_some() || matches!(begun.kind, Kind::Other) {
            self.begun.push(begun);
        } else {
            self.activate(begun, emit);
        }
        Ok(())
    }

    fn activate(&mut self, begun: Begun, emit: &mut Emit<'_>) {
        let mut active = Active::new(begun, self.next);
        if let Kind::Call { kind, call, name } = &active.begun.kind {
            self.called = true;
            let (id, name) = (Text::from(call.as_str()), Text::from(name.as_str()));
            let call = ToolCall { id, name, kind: *kind, ..ToolCall::default() };
            active.open = true;
            active.any = true;
            emit(Event::Open { candidate: 0, block: self.next, content: Content::ToolCall(call) });
        }
        self.active = Some(active);
    }

    /// The item of an event about a part, if it is told as it comes. Thoughts that are open give way: some providers
    /// end them only after the words that follow.
    fn turn_to(&mut self, index: u64, kind: PartKind, emit: &mut Emit<'_>) -> Option<&mut Active> {
        let wanted = matches!(kind, PartKind::Summary | PartKind::Thought);
        if self.active.as_ref().is_some_and(|active| active.begun.index == index) {
            let right = |active: &&mut Active| match active.begun.kind {
                Kind::Message => !wanted,
                Kind::Reasoning => wanted,
                _ => false,
            };
            return self.active.as_mut().filter(right);
        }
        let at = self.begun.iter().position(|begun| begun.index == index);
        if self.active.as_ref().is_some_and(|active| !matches!(active.begun.kind, Kind::Reasoning))
            || at.and_then(|at| self.begun.get(at)).is_some_and(|begun| begun.missed || begun.left)
        {
            if let Some(begun) = at.and_then(|at| self.begun.get_mut(at)) {
                begun.missed = true;
            }
            return None;
        }
        // Who forgets to begin an item says with its first part what it is.
        let kind = if wanted { Kind::Reasoning } else { Kind::Message };
        let begun = match at {
            Some(at) => self.begun.remove(at),
            None => Begun { index, id: String::new(), kind, missed: false, left: false },
        };
        if let Some(mut active) = self.active.take() {
            active.close(emit);
            self.next = active.next;
            active.begun.left = active.any;
            self.begun.push(active.begun);
        }
        self.start(&Answer::default(), emit);
        self.activate(begun, emit);
        self.active.as_mut()
    }

    fn active_call(&mut self, index: u64) -> Option<&mut Active> {
        if let Some(begun) = self.begun.iter_mut().find(|begun| begun.index == index) {
            begun.missed = true;
        }
        let call = |active: &&mut Active| active.begun.index == index && matches!(active.begun.kind, Kind::Call { .. });
        self.active.as_mut().filter(call)
    }

    fn part_done(&mut self, index: u64, number: u64, part: Part<'_>, emit: &mut Emit<'_>) {
        let Some(kind) = part_kind(&part) else { return };
        let Some(active) = self.turn_to(index, kind, emit) else { return };
        active.turn(Place { kind, index: number }, emit);
        if let (false, Some(text)) = (active.sent, some(part.text.or(part.refusal))) {
            active.text(text, emit);
        }
        let cited = active.cited;
        for json in part.annotations.unwrap_or_default().into_iter().skip(cited) {
            active.cite(json, emit);
        }
        if let Some(json) = part.logprobs {
            active.score(&json, true, emit);
        }
        // Thoughts stay open: the proof comes with the end of the item.
        if matches!(kind, PartKind::Text | PartKind::Refusal) {
            active.close(emit);
        }
    }

    fn item_done(&mut self, index: u64, raw: Raw<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        self.start(&Answer::default(), emit);
        if let Some(active) = self.active.take_if(|active| active.begun.index == index) {
            self.complete(active, Some(raw), emit);
            self.flush(emit);
            return Ok(());
        }
        let at = self.begun.iter().position(|begun| begun.index == index);
        let left = at.is_some_and(|at| self.begun.remove(at).left);
        if left {
            // The thoughts were told; what is left of them is their proof.
            let mut out = Vec::new();
            let proof = items::output(raw, &mut out).pop().filter(|block| has_proof(&block.content));
            if let Some(Block { content: Content::Reasoning(thought), .. }) = proof {
                let bare = Reasoning { text: None, ..thought };
                if self.active.is_none() {
                    self.whole(Content::Reasoning(bare), emit);
                } else {
                    self.tell("reasoning.encrypted_content", Raw::literal("null"), emit);
                }
            }
            return Ok(());
        }
        if self.active.is_none() {
            self.tell_item(raw, emit);
            return Ok(());
        }
        self.held = self.held.saturating_add(raw.get().len());
        if self.held > HELD {
            return Err(garbage("too much that waits for an item to end"));
        }
        self.waiting.push(raw.get().to_owned());
        Ok(())
    }

    fn flush(&mut self, emit: &mut Emit<'_>) {
        self.held = 0;
        for item in std::mem::take(&mut self.waiting) {
            if let Ok(raw) = Raw::parse(&item) {
                self.tell_item(raw, emit);
            }
        }
    }

    /// Tells a whole item.
    fn tell_item(&mut self, raw: Raw<'_>, emit: &mut Emit<'_>) {
        let mut logprobs = Vec::new();
        for block in items::output(raw, &mut logprobs) {
            for (name, json) in block.extras.iter() {
                self.tell(&member(name), json.reborrow(), emit);
            }
            self.whole(block.content, emit);
        }
        if let Some(json) = joined(&logprobs) {
            emit(Event::Logprobs { candidate: 0, json });
        }
    }

    fn whole(&mut self, content: Content<'_>, emit: &mut Emit<'_>) {
        self.called |= matches!(content, Content::ToolCall(_));
        emit(Event::Open { candidate: 0, block: self.next, content });
        emit(Event::Close { candidate: 0, block: self.next });
        self.next = self.next.saturating_add(1);
    }

    /// Ends the item that was told as it came; `raw` is all of it, where the provider has said it.
    fn complete(&mut self, mut active: Active, raw: Option<Raw<'_>>, emit: &mut Emit<'_>) {
        self.next = active.next;
        let raw = match raw {
            Some(raw) if active.any => raw,
            Some(raw) => return self.tell_item(raw, emit),
            None => {
                active.close(emit);
                self.next = active.next;
                return;
            }
        };
        let mut blocks = items::output(raw, &mut Vec::new());
        for (name, json) in blocks.iter().flat_map(|block| block.extras.iter()) {
            self.tell(&member(name), json.reborrow(), emit);
        }
        match (blocks.pop().map(|block| block.content), &active.begun.kind) {
            (Some(Content::ToolCall(call)), Kind::Call { .. }) if !active.sent => {
                active.argue(call.arguments, emit);
            }
            (Some(content @ Content::Reasoning(_)), Kind::Reasoning) if has_proof(&content) => {
                let Content::Reasoning(thought) = content else { return };
                let ours = active.open && thought.issuer.as_deref().is_none_or(|issuer| issuer == NAME);
                if !ours {
                    active.close(emit);
                    self.next = active.next;
                    return self.whole(Content::Reasoning(Reasoning { text: None, ..thought }), emit);
                }
                let signature = thought.signature.map(Delta::Signature);
                for delta in signature.into_iter().chain(thought.encrypted.map(Delta::Encrypted)) {
                    emit(Event::Delta { candidate: 0, block: active.next, delta });
                }
            }
            _ => {}
        }
        active.close(emit);
        self.next = active.next;
    }

    /// Emits what is owed and the end.
    fn finish(&mut self, answer: Answer<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        self.start(&answer, emit);
        self.done = true;
        let counted = counted(&answer);
        let output = answer.output.unwrap_or_default();
        let id =
            |raw: &Raw<'_>| raw.read::<KindShape<'_>>().ok().and_then(|shape| Some(string(&shape.id?).into_owned()));
        if let Some(active) = self.active.take() {
            let own =
                output.iter().find(|raw| id(raw).is_some_and(|id| !id.is_empty() && id == active.begun.id.as_str()));
            self.complete(active, own.cloned(), emit);
        }
        self.flush(emit);
        // Items that never ended, or were never told of at all.
        let nothing = self.next == 0;
        let begun = std::mem::take(&mut self.begun);
        for raw in output {
            let owed = |begun: &Begun| !begun.left && !begun.id.is_empty() && Some(&*begun.id) == id(&raw).as_deref();
            if nothing || begun.iter().any(owed) {
                self.tell_item(raw, emit);
            }
        }
        for (name, json) in said(answer.extras).0 {
            self.tell(&name, json, emit);
        }
        if let Some(counted) = counted {
            emit(Event::Usage(counted));
        }
        let finish = ended(answer.status, answer.incomplete.and_then(|details| details.reason), self.called);
        emit(Event::Finish { candidate: 0, finish });
        emit(Event::End);
        Ok(())
    }
}

/// The response in an event about the whole of it.
fn answer(raw: Option<Raw<'_>>) -> Result<Answer<'_>, Fault> {
    let raw = raw.ok_or_else(|| garbage("an event of a response without the response"))?;
    raw.open().map_err(|e| garbage(&format!("response.{e}")))
}

fn counted(answer: &Answer<'_>) -> Option<Usage> {
    usage::read(answer.usage.as_ref(), answer.tool_usage.as_ref())
}

/// A part; one that cannot be read is one of no kind.
fn opened(raw: Option<Raw<'_>>) -> Part<'_> {
    raw.and_then(|raw| raw.open().ok()).unwrap_or_default()
}

fn part_kind(part: &Part<'_>) -> Option<PartKind> {
    match part.kind.as_deref()? {
        "output_text" => Some(PartKind::Text),
        "refusal" => Some(PartKind::Refusal),
        "summary_text" => Some(PartKind::Summary),
        "reasoning_text" => Some(PartKind::Thought),
        _ => None,
    }
}

/// A string, and nothing where the value is none.
fn string<'a>(raw: &Raw<'a>) -> Text<'a> {
    if raw.kind() == Json::String { raw.open().unwrap_or_default() } else { Text::default() }
}

fn has_proof(content: &Content<'_>) -> bool {
    matches!(content, Content::Reasoning(thought) if thought.signature.is_some() || thought.encrypted.is_some())
}

/// The name of a member of an item, for a loss.
fn member(name: &str) -> String {
    format!("output.{}", name.strip_prefix(ITEM).unwrap_or(name))
}
