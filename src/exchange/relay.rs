//! An answer on its way from provider to caller, chunk by chunk, without I/O.
//!
//! Passthrough and transcoding, whole answers and streams and the one made of the other, are types behind one
//! [`Relay::chunk`]. Either way the relay decides when the answer
//! is *good*: until its first content nothing is handed out, so that a failure before it can still go to the next
//! target. What comes before (role marks, pings) is held and handed out with the first content.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::resume::{Resume, Seam};
use super::{Call, Refusal};
use crate::config::Snapshot;
use crate::config::snapshot::{CostInBody, On, PricedTarget};
use crate::dialect::{Asked, Inbound, Outbound, Seen, Shown, Sniffer, StreamDecoder, StreamEncoder};
use crate::ir::{Collector, Event, Fault, FaultKind, Losses, Origin, Response, Usage};
use crate::policy::price::{self, Amount, Charge, Nano, Price};
use crate::wire::frames::{self, FrameError, Framing};
use crate::wire::sse;

mod count;
mod declined;
mod follower;
mod passthrough;
mod restated;
mod transcode;

use declined::Declining;
use follower::Follower;
use passthrough::{PassStream, PassWhole};
use transcode::{TransGather, TransStream, TransWhole};

/// What one chunk became.
#[derive(Debug, Default)]
pub struct Out {
    /// Bytes for the caller, now.
    pub bytes: Option<Bytes>,
    /// The provider failed inside the answer. Before the first content nothing was handed out, and another target may
    /// try; after it, the error event is already part of `bytes`.
    pub fault: Option<Fault>,
    /// The error event is not: what comes after `bytes` can be told by another attempt ([`Relay::break_off`]).
    pub broken_off: bool,
}

/// One answer in progress.
pub struct Relay {
    mode: Mode,
    facts: Facts,
    resumed: bool,
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub struct Facts {
    /// Content has been handed out: there is no way back.
    pub committed: bool,
    /// Content was seen (it may still be held, in an answer that is read whole).
    pub content: bool,
    /// The answer is complete.
    pub whole: bool,
    /// As the provider last reported it.
    pub usage: Option<Usage>,
    /// Pieces of content seen: the estimate of output tokens where no usage is reported.
    pub pieces: u64,
    pub losses: Losses,
    /// The error event has been handed out.
    pub ended_in_error: bool,
    /// It broke, and another attempt may go on with it.
    pub broken_off: bool,
    /// The answer is none, as its operator sees it.
    pub declined: bool,
    declining: Declining,
}

enum Mode {
    PassStream(PassStream),
    PassWhole(PassWhole),
    TransStream(TransStream),
    /// Boxed: rare, and large.
    TransGather(Box<TransGather>),
    TransWhole(TransWhole),
    Count(count::Counted),
    /// Another attempt goes on with the stream.
    Over,
}

/// What a provider sends, by its answer's content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Whole,
    Stream(Framing),
}

impl Sent {
    /// `text/event-stream` (WHATWG HTML), `application/vnd.amazon.eventstream` (Bedrock), `application/x-ndjson`
    /// (Ollama); anything else is a whole answer.
    pub fn by(content_type: Option<&str>) -> Sent {
        let kind = content_type.unwrap_or_default();
        let is = |name: &str| kind.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        if is("text/event-stream") {
            Sent::Stream(Framing::Sse)
        } else if is("application/vnd.amazon.eventstream") {
            Sent::Stream(Framing::EventStream)
        } else if is("application/x-ndjson") {
            Sent::Stream(Framing::Lines)
        } else {
            Sent::Whole
        }
    }
}

/// What a caller's answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The provider's body, whole and unchanged.
    AsItCame,
    /// Server-sent events.
    Events,
    /// A growing JSON array.
    Array,
    /// JSON written by us, of another length than the provider's.
    Json,
}

/// What a relay needs besides the bytes.
pub struct Terms {
    pub snapshot: Arc<Snapshot>,
    pub target: Arc<PricedTarget>,
    /// Where the caller has a price group: what it is charged, or nothing where nobody knows that.
    pub charge: Option<Option<Arc<Charge>>>,
    pub inbound: &'static dyn Inbound,
    pub outbound: &'static dyn Outbound,
    /// Name of the provider's dialect.
    pub origin: Origin,
    pub same_dialect: bool,
    /// The provider was sent another request than the caller's own, beyond the edits of a passthrough.
    pub rewritten: bool,
    /// A stream that breaks is to be gone on with.
    pub continues: bool,
    pub call: Arc<Call>,
    /// The call's id as text.
    pub request_id: Arc<str>,
    /// See [`Terms::answer_id`].
    pub answer_id: OnceLock<String>,
    /// Unix seconds.
    pub now: u64,
}

impl Terms {
    /// Cost of a usage, where the target has a price.
    pub fn cost(&self, usage: &Usage) -> Option<Nano> {
        self.target.price.as_ref().map(|price| price.cost(usage))
    }

    /// What the caller is charged for a usage, which is what it is told that a call costs.
    pub fn charge(&self, usage: &Usage) -> Option<Nano> {
        match &self.charge {
            None => self.cost(usage),
            Some(charge) => charge.as_ref().map(|charge| charge.price.cost(usage)),
        }
    }

    /// Cost and charge, each worked out from its own price; 0 where that is not known.
    pub fn amount(&self, of: &mut dyn FnMut(&Price) -> Nano) -> Amount {
        let cost = self.target.price.as_ref().map_or(0, &mut *of);
        let charge = match &self.charge {
            None => cost,
            Some(charge) => charge.as_ref().map_or(0, |charge| of(&charge.price)),
        };
        Amount { cost, charge }
    }

    /// Whether nobody knows what it costs, or what is charged for it.
    pub fn unpriced(&self) -> bool {
        self.target.price.is_none() || matches!(self.charge, Some(None))
    }

    /// `cost_usd` and its kin, for bodies.
    fn costs(&self, usage: Option<&Usage>) -> Vec<(String, String)> {
        self.costs_after(usage, 0)
    }

    /// The same, with what attempts before have cost.
    fn costs_after(&self, usage: Option<&Usage>, before: Nano) -> Vec<(String, String)> {
        let Some(cost) = usage.and_then(|usage| self.charge(usage)) else { return Vec::new() };
        let cost = cost.saturating_add(before);
        let mut costs = Vec::with_capacity(1 + self.snapshot.currencies.len());
        costs.push(("cost_usd".to_owned(), price::cost_decimal(cost)));
        for currency in &self.snapshot.currencies {
            let amount = price::convert(cost, currency.per_usd_micro);
            costs.push((format!("cost_{}", currency.code), price::cost_decimal(amount)));
        }
        costs
    }

    /// What the answer depends on of the request.
    pub fn asked(&self) -> Asked<'_> {
        self.call.asked(self.answer_id())
    }

    /// The call's id without its dashes: what ids that the provider does not give are made from. Few need it.
    pub fn answer_id(&self) -> &str {
        self.answer_id.get_or_init(|| self.request_id.replace('-', ""))
    }
}

impl Relay {
    /// A relay for a good answer. What the provider sends may differ from what it was asked for.
    pub fn new(terms: &Terms, sent: Sent) -> Relay {
        let limits = &terms.snapshot.limits;
        let mode = match (terms.same_dialect, sent, terms.call.stream) {
            _ if terms.call.count => Mode::Count(count::Counted::new(limits.answer_bytes)),
            (true, Sent::Stream(Framing::Sse), true) => Mode::PassStream(PassStream::new(
                terms.outbound.sniffer(),
                sse::Decoder::new(limits.event_bytes),
                !terms.call.include_usage,
                limits.event_bytes,
                limits.depth,
            )),
            (true, Sent::Whole, false) => {
                Mode::PassWhole(PassWhole::new(terms.outbound.sniffer(), limits.answer_bytes))
            }
            (_, Sent::Stream(framing), true) => Mode::TransStream(TransStream::new(
                frames::Decoder::new(framing, limits.event_bytes),
                terms.outbound.stream(),
                terms.inbound.stream(&terms.asked()),
            )),
            (_, Sent::Stream(framing), false) => Mode::TransGather(Box::new(TransGather::new(
                frames::Decoder::new(framing, limits.event_bytes),
                terms.outbound.stream(),
                terms.origin,
                limits.answer_bytes,
            ))),
            (_, Sent::Whole, _) => Mode::TransWhole(TransWhole::new(limits.answer_bytes)),
        };
        let mut relay = Relay { mode, facts: Facts::default(), resumed: false };
        if terms.continues {
            relay.follow(terms);
        }
        relay
    }

    /// A relay that goes on with a stream that broke: what comes is written behind what was said.
    pub fn resumed(terms: &Terms, sent: Sent, resume: Resume) -> Relay {
        let limits = &terms.snapshot.limits;
        let mut resume = Box::new(resume);
        resume.seam.go_on();
        let mode = match sent {
            Sent::Stream(framing) => Mode::TransStream(TransStream::going_on(
                frames::Decoder::new(framing, limits.event_bytes),
                terms.outbound.stream(),
                *resume,
                terms,
            )),
            Sent::Whole => Mode::TransWhole(TransWhole::going_on(limits.answer_bytes, resume)),
        };
        Relay { mode, facts: Facts::default(), resumed: true }
    }

    /// Whether it goes on with a stream that broke.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Remembers what is said.
    fn follow(&mut self, terms: &Terms) {
        let seam = Box::new(Seam::new(terms.snapshot.limits.continuation_bytes));
        match &mut self.mode {
            Mode::TransStream(trans) => trans.follow(seam),
            Mode::PassStream(pass) => pass.follow(Follower::new(
                terms.outbound.stream(),
                Resume { encoder: terms.inbound.stream(&terms.asked()), seam },
            )),
            _ => {}
        }
    }

    /// What another attempt needs to go on with the stream; nothing where it cannot be gone on with. Nothing more is handed out.
    pub fn break_off(&mut self) -> Option<Resume> {
        if self.facts.whole || self.facts.ended_in_error || !self.is_good() {
            return None;
        }
        match std::mem::replace(&mut self.mode, Mode::Over) {
            Mode::TransStream(trans) => trans.into_resume(),
            Mode::PassStream(pass) => pass.into_resume(),
            Mode::TransWhole(trans) => trans.into_resume(),
            _ => None,
        }
    }

    fn is_good(&self) -> bool {
        match &self.mode {
            Mode::TransStream(trans) => trans.is_good(),
            Mode::PassStream(pass) => pass.is_good(),
            Mode::TransWhole(_) => self.resumed,
            _ => false,
        }
    }

    /// Takes an answer that declines for a failure, as far as the operator wants it.
    pub fn heed(&mut self, on: On, terms: &Terms) {
        if !on.any() {
            return;
        }
        self.facts.declining = Declining::new(on);
        if let Mode::PassStream(pass) = &mut self.mode {
            pass.heed(terms.outbound.stream(), on);
        }
    }

    /// What the caller's answer is made of.
    pub fn form(&self, terms: &Terms) -> Form {
        let cost_added = terms.snapshot.cost_in_body == CostInBody::Always;
        match &self.mode {
            Mode::PassWhole(_) if !cost_added && !terms.rewritten => Form::AsItCame,
            Mode::PassWhole(_) | Mode::TransGather(_) | Mode::Count(_) => Form::Json,
            Mode::PassStream(_) | Mode::Over => Form::Events,
            Mode::TransStream(_) | Mode::TransWhole(_) => match (terms.call.stream, terms.call.array) {
                (false, _) => Form::Json,
                (true, false) => Form::Events,
                (true, true) => Form::Array,
            },
        }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn into_facts(self) -> Facts {
        self.facts
    }

    /// What was handed out last did not leave this process: another target may still try.
    pub fn take_back(&mut self) {
        self.facts.committed = false;
    }

    /// The last event of a stream that has begun and cannot go on, in the caller's dialect.
    pub fn last_words(&mut self, refusal: &Refusal, terms: &Terms) -> Vec<u8> {
        self.facts.ended_in_error = true;
        match &mut self.mode {
            Mode::TransStream(trans) => trans.last_words(refusal, terms),
            _ => refusal.event(terms.inbound, &terms.asked(), &terms.request_id),
        }
    }

    /// Takes the next chunk of the provider's body (`end`: it is the last one; it may be empty).
    ///
    /// # Errors
    /// The answer is bad and nothing of it has been handed out: another target may try.
    pub fn chunk(&mut self, chunk: Option<Bytes>, end: bool, terms: &Terms) -> Result<Out, Fault> {
        let mut out = self.relayed(chunk, end, terms)?;
        if terms.rewritten && matches!(self.mode, Mode::PassStream(_) | Mode::PassWhole(_)) {
            out.bytes = out.bytes.map(|bytes| restated::restated(bytes, terms.call.stream, terms));
        }
        Ok(out)
    }

    fn relayed(&mut self, chunk: Option<Bytes>, end: bool, terms: &Terms) -> Result<Out, Fault> {
        let facts = &mut self.facts;
        if facts.ended_in_error || facts.broken_off {
            return Ok(Out::default());
        }
        let chunk = chunk.unwrap_or_default();
        let outcome = match &mut self.mode {
            Mode::PassStream(pass) => pass.chunk(chunk, end, facts, terms),
            Mode::PassWhole(pass) => pass.chunk(chunk, end, facts, terms),
            Mode::TransStream(trans) => trans.chunk(&chunk, end, facts, terms),
            Mode::TransGather(trans) => trans.chunk(&chunk, end, facts, terms),
            Mode::TransWhole(trans) => trans.chunk(chunk, end, facts, terms),
            Mode::Count(count) => count.chunk(chunk, end, facts, terms),
            Mode::Over => Ok(None),
        };
        match outcome {
            Ok(bytes) => Ok(Out { bytes, ..Out::default() }),
            Err(broken) if !facts.committed => Err(broken.fault),
            Err(broken) => {
                let Broken { fault, before, told } = *broken;
                if terms.continues && !told && self.is_good() {
                    self.facts.broken_off = true;
                    return Ok(Out { bytes: before, fault: Some(fault), broken_off: true });
                }
                self.facts.ended_in_error = true;
                let mut bytes = before.unwrap_or_default();
                if !told {
                    let mut joined = bytes.to_vec();
                    let refusal = Refusal::Failed { fault: fault.clone(), tried: Vec::new() };
                    joined.extend_from_slice(&self.last_words(&refusal, terms));
                    bytes = joined.into();
                }
                Ok(Out { bytes: (!bytes.is_empty()).then_some(bytes), fault: Some(fault), broken_off: false })
            }
        }
    }
}

/// The answer broke: the fault, the good bytes before it, and whether the caller has been told already (a provider's
/// own error event, passed through).
struct Broken {
    fault: Fault,
    before: Option<Bytes>,
    told: bool,
}

impl Broken {
    /// Boxed: the way of a good answer should not carry the size of a bad one.
    fn after(fault: Fault, before: Option<Bytes>) -> Box<Broken> {
        Box::new(Broken { fault, before, told: false })
    }
}

impl From<Fault> for Box<Broken> {
    fn from(fault: Fault) -> Self {
        Broken::after(fault, None)
    }
}

impl Facts {
    fn see(&mut self, seen: &Seen) {
        if seen.content {
            self.content = true;
            self.pieces += 1;
        }
        if seen.usage.is_some() {
            self.usage = seen.usage;
        }
    }
}

fn broken_frame(error: FrameError) -> Fault {
    if error == FrameError::Truncated {
        return truncated();
    }
    Fault::new(FaultKind::Garbage, format!("The provider's stream is not valid: {error}"))
}

fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "The provider's answer ended before it was complete.")
}

fn too_large(limit: usize) -> Fault {
    Fault::new(FaultKind::Garbage, format!("The provider's answer is larger than {limit} bytes."))
}

/// The parts of a body, in one piece: without a copy where there is only one.
fn join(parts: &mut Vec<Bytes>) -> Bytes {
    match parts.len() {
        0 | 1 => parts.pop().unwrap_or_default(),
        _ => {
            let mut whole = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
            for part in parts.drain(..) {
                whole.extend_from_slice(&part);
            }
            whole.into()
        }
    }
}
