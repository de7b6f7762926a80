//! A provider's answer through our dialects, as the relay does it, with an eye on the events in between.

use std::collections::BTreeMap;

use portolan::dialect::{Asked, Dialect, Shown, named};
use portolan::ir::{Content, Event, Fault, Losses, Usage};
use portolan::wire::sse;

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
    /// The stream cannot be read, or broke off.
    pub broken: Option<Fault>,
    /// What is wrong with the order of the events.
    pub disorder: Option<String>,
}

impl Passed {
    fn kind(&mut self, name: impl std::fmt::Display) {
        *self.kinds.entry(name.to_string()).or_default() += 1;
    }
}

fn chat() -> Dialect {
    named("openai_chat").unwrap()
}

/// Decodes a whole answer and encodes it for a caller of Chat Completions.
///
/// # Errors
/// The dialect does not take it for an answer.
pub fn whole(dialect: Dialect, body: &str) -> Result<Passed, String> {
    let response = dialect.outbound.unwrap().decode(body.as_bytes()).map_err(|error| error.to_string())?;
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
    let shown = Shown { now: 1_800_000_000, ..Shown::default() };
    let mut losses = Losses::default();
    chat().inbound.unwrap().encode(&response, &shown, &mut passed.out, &mut losses);
    passed.losses = losses;
    Ok(passed)
}

/// Decodes a stream, cut into pieces at these offsets, and encodes it for a caller of Chat Completions who wants to see
/// usage.
pub fn stream(dialect: Dialect, text: &[u8], cuts: &[usize]) -> Passed {
    let mut frames = sse::Decoder::new(EVENT);
    let mut decoder = dialect.outbound.unwrap().stream();
    let mut encoder = chat().inbound.unwrap().stream(&Asked { include_usage: true, ..Asked::default() });
    let shown = Shown { now: 1_800_000_000, ..Shown::default() };
    let mut passed = Passed::default();
    let mut order = Order::default();
    let mut show = |passed: &mut Passed, event: Event<'_>| {
        order.see(&event);
        match &event {
            Event::Extra { name, .. } => passed.kind(name),
            Event::Open { content: Content::Other { kind, .. }, .. } => passed.kind(format_args!("content.{kind}")),
            Event::Usage(usage) => passed.usage = Some(*usage),
            Event::Fault(fault) => passed.fault = Some(fault.clone()),
            _ => {}
        }
        encoder.event(&event, &shown, &mut passed.out, &mut passed.losses);
    };
    let mut each = |frame: sse::Frame<'_>| {
        if passed.broken.is_none()
            && let Err(fault) = decoder.frame(&frame, &mut |event| show(&mut passed, event))
        {
            passed.broken = Some(fault);
        }
    };
    let mut from = 0;
    for to in cuts.iter().copied().chain([text.len()]) {
        frames.push(&text[from..to], &mut each).unwrap();
        from = to;
    }
    frames.end(&mut each).unwrap();
    if passed.broken.is_none() {
        passed.broken = decoder.end(&mut |event| show(&mut passed, event)).err();
    }
    passed.disorder = order.wrong;
    passed
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
