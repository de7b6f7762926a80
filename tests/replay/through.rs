//! A provider's answer through our dialects, as the relay does it, with an eye on the events in between.

use std::collections::BTreeMap;

use portolan::dialect::{Asked, Dialect, Shown, named};
use portolan::exchange::Refusal;
use portolan::ir::{Collector, Content, Event, Fault, Losses, Origin, Response, Usage};
use portolan::wire::{frames, sse};

/// Bytes of one event of a stream, at most.
const EVENT: usize = 32 << 20;

/// What an answer became.
#[derive(Default)]
pub struct Passed {
    pub out: Vec<u8>,
    pub losses: Losses,
    pub usage: Option<Usage>,
    /// Kinds that only their own dialect knows, by name.
    pub kinds: BTreeMap<String, usize>,
    /// The failure that the provider told of.
    pub fault: Option<Fault>,
    /// How the caller's stream ends where it broke off.
    pub last_words: Vec<u8>,
    /// The stream cannot be read, or broke off.
    pub broken: Option<Fault>,
    /// What is wrong with the order of the events.
    pub disorder: Option<String>,
}

impl Passed {
    fn of(response: &Response<'_>) -> Passed {
        let mut passed = Passed { usage: response.usage, ..Passed::default() };
        for (name, _) in response.extras.iter() {
            passed.kind(name);
        }
        for candidate in &response.candidates {
            candidate.extras.iter().for_each(|(name, _)| passed.kind(format_args!("choices.{name}")));
            for block in &candidate.blocks {
                if let Content::Other { kind, .. } = &block.content {
                    passed.kind(format_args!("content.{kind}"));
                }
            }
        }
        passed
    }

    fn kind(&mut self, name: impl std::fmt::Display) {
        *self.kinds.entry(name.to_string()).or_default() += 1;
    }
}

/// What the callers of a replay ask, beside their dialect.
pub const ASKED: Asked<'static> = Asked {
    body: b"{}",
    members: None,
    model: "asked",
    include_usage: true,
    array: false,
    silent: false,
    id: "0123456789abcdef0123456789abcdef",
};

/// What a provider that names no model is called.
pub const MODEL: &str = "the-target";

fn shown() -> Shown<'static> {
    Shown { now: 1_800_000_000, asked: ASKED, ..Shown::default() }
}

/// From a provider's dialect to a caller's.
#[derive(Clone, Copy)]
pub struct Way {
    pub from: Dialect,
    pub to: Dialect,
}

impl Way {
    /// To a caller of Chat Completions.
    pub fn to_chat(from: Dialect) -> Way {
        Way { from, to: named("openai_chat").unwrap() }
    }

    /// Decodes a whole answer and encodes it for the caller.
    ///
    /// # Errors
    /// The dialect does not take it for an answer.
    pub fn whole(self, body: &str) -> Result<Passed, String> {
        let response = self.read(body)?;
        let mut passed = Passed::of(&response);
        self.to.inbound.unwrap().encode(&response, &shown(), &mut passed.out, &mut passed.losses);
        Ok(passed)
    }

    /// Decodes a whole answer and tells it as a stream.
    ///
    /// # Errors
    /// As [`Way::whole`].
    pub fn told_as_stream(self, body: &str) -> Result<Passed, String> {
        let response = self.read(body)?;
        let mut passed = Passed::of(&response);
        let mut encoder = self.to.inbound.unwrap().stream(&ASKED);
        let mut order = Order::default();
        response.events(&mut |event| {
            order.see(&event);
            encoder.event(&event, &shown(), &mut passed.out, &mut passed.losses);
        });
        passed.disorder = order.wrong;
        Ok(passed)
    }

    fn read<'b>(self, body: &'b str) -> Result<Response<'b>, String> {
        let mut response = self.from.outbound.unwrap().decode(body.as_bytes()).map_err(|error| error.to_string())?;
        name(&mut response);
        Ok(response)
    }

    /// Decodes a stream, cut into pieces at these offsets, and encodes it for a caller who wants to see usage.
    pub fn stream(self, bytes: &[u8], cuts: &[usize]) -> Passed {
        let mut encoder = self.to.inbound.unwrap().stream(&ASKED);
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        let mut passed = self.events(bytes, cuts, &mut |event| {
            encoder.event(event, &shown(), &mut out, &mut losses);
        });
        if let Some(fault) = passed.fault.clone().or_else(|| passed.broken.clone()) {
            let refusal = Refusal::Failed { fault, tried: Vec::new() };
            let told = refusal.shaped("id", |shape| encoder.error(shape, &shown(), &mut passed.last_words));
            if !told {
                passed.last_words = refusal.event(self.to.inbound.unwrap(), &ASKED, "id");
            }
        }
        (passed.out, passed.losses) = (out, losses);
        passed
    }

    /// Decodes a stream, gathers it, and encodes it whole. Nothing comes out of one that broke off.
    pub fn gathered(self, bytes: &[u8]) -> Passed {
        let mut collector = Collector::new(Origin(self.from.name));
        let mut passed = self.events(bytes, &[], &mut |event| collector.event(event));
        if passed.fault.is_none() && passed.broken.is_none() {
            let mut response = collector.into_response();
            name(&mut response);
            self.to.inbound.unwrap().encode(&response, &shown(), &mut passed.out, &mut passed.losses);
        }
        passed
    }

    fn events(self, bytes: &[u8], cuts: &[usize], each: &mut dyn FnMut(&Event<'_>)) -> Passed {
        let outbound = self.from.outbound.unwrap();
        let mut frames = frames::Decoder::new(outbound.framing(), EVENT);
        let mut decoder = outbound.stream();
        let mut passed = Passed::default();
        let mut order = Order::default();
        let mut show = |passed: &mut Passed, event: Event<'_>| {
            if passed.fault.is_some() {
                return;
            }
            order.see(&event);
            match &event {
                Event::Extra { name, .. } => passed.kind(name),
                Event::Open { content: Content::Other { kind, .. }, .. } => passed.kind(format_args!("content.{kind}")),
                Event::Usage(usage) => passed.usage = Some(*usage),
                Event::Fault(fault) => passed.fault = Some(fault.clone()),
                _ => {}
            }
            match event {
                // As the relay does where a provider names neither the answer nor the model.
                Event::Start { id, model, created, service_tier, fingerprint, extras } => {
                    let id = if id.is_empty() { ASKED.id.into() } else { id };
                    let model = if model.is_empty() { MODEL.into() } else { model };
                    each(&Event::Start { id, model, created, service_tier, fingerprint, extras });
                }
                event => each(&event),
            }
        };
        let mut read = |frame: sse::Frame<'_>| {
            if passed.broken.is_none()
                && let Err(fault) = decoder.frame(&frame, &mut |event| show(&mut passed, event))
            {
                passed.broken = Some(fault);
            }
        };
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            frames.push(&bytes[from..to], &mut read).unwrap();
            from = to;
        }
        frames.end(&mut read).unwrap();
        if passed.broken.is_none() {
            passed.broken = decoder.end(&mut |event| show(&mut passed, event)).err();
        }
        passed.disorder = order.wrong;
        passed
    }
}

/// As the relay does where a provider names neither the answer nor the model.
fn name(response: &mut Response<'_>) {
    if response.id.is_empty() {
        response.id = ASKED.id.into();
    }
    if response.model.is_empty() {
        response.model = MODEL.into();
    }
}

/// Holds events to the order that [`Event`] promises.
#[derive(Default)]
struct Order {
    started: bool,
    ended: bool,
    /// By candidate: the block that is open, how many there were, whether it is finished.
    candidates: BTreeMap<u32, (Option<u32>, u32, bool)>,
    wrong: Option<String>,
}

impl Order {
    fn see(&mut self, event: &Event<'_>) {
        let holds = match event {
            Event::Start { .. } => !std::mem::replace(&mut self.started, true),
            Event::Open { candidate, block, .. } => {
                let (open, count, finished) = self.candidates.entry(*candidate).or_default();
                let holds = self.started && !*finished && open.is_none() && block == count;
                (*open, *count) = (Some(*block), *count + 1);
                holds
            }
            Event::Delta { candidate, block, .. } => {
                self.candidates.get(candidate).is_some_and(|c| c.0 == Some(*block))
            }
            Event::Close { candidate, block } => {
                self.candidates.get_mut(candidate).is_some_and(|c| c.0.take() == Some(*block))
            }
            Event::Logprobs { candidate, .. } => self.started && !self.candidates.entry(*candidate).or_default().2,
            Event::Finish { candidate, .. } => {
                let (open, _, finished) = self.candidates.entry(*candidate).or_default();
                self.started && open.is_none() && !std::mem::replace(finished, true)
            }
            Event::Usage(_) => self.started,
            Event::End => {
                !std::mem::replace(&mut self.ended, true) && self.candidates.values().all(|(_, _, finished)| *finished)
            }
            Event::Fault(_) | Event::Ping | Event::Extra { .. } => true,
        };
        if !holds || self.ended && !matches!(event, Event::End | Event::Ping) {
            self.wrong.get_or_insert_with(|| format!("out of order: {event:?}"));
        }
    }
}
