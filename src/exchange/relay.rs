//! An answer on its way from provider to caller, chunk by chunk, without I/O.
//!
//! Passthrough and transcoding are two types behind one [`Relay::chunk`]. Either way the relay decides when the answer
//! is *good*: until its first content nothing is handed out, so that a failure before it can still go to the next
//! target. What comes before (role marks, pings) is held and handed out with the first content.

use std::sync::Arc;

use bytes::Bytes;

use super::{Call, Refusal};
use crate::config::Snapshot;
use crate::config::snapshot::{CostInBody, PricedTarget};
use crate::dialect::{Asked, Inbound, Outbound, Seen, Shown, Sniffer, StreamDecoder, StreamEncoder};
use crate::ir::{Event, Fault, FaultKind, Losses, Response, Usage};
use crate::policy::price::{self, Nano};
use crate::wire::sse::{self, SseError};

mod passthrough;
mod transcode;

use passthrough::{PassStream, PassWhole};
use transcode::{TransStream, TransWhole};

/// What one chunk became.
#[derive(Debug, Default)]
pub struct Out {
    /// Bytes for the caller, now.
    pub bytes: Option<Bytes>,
    /// The provider failed inside the answer. Before the first content nothing was handed out, and another target may
    /// try; after it, the error event is already part of `bytes`.
    pub fault: Option<Fault>,
}

/// One answer in progress.
pub struct Relay {
    mode: Mode,
    facts: Facts,
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
}

enum Mode {
    PassStream(PassStream),
    PassWhole(PassWhole),
    TransStream(TransStream),
    TransWhole(TransWhole),
}

/// What a relay needs besides the bytes.
pub struct Terms {
    pub snapshot: Arc<Snapshot>,
    pub target: Arc<PricedTarget>,
    pub inbound: &'static dyn Inbound,
    pub outbound: &'static dyn Outbound,
    pub same_dialect: bool,
    pub call: Arc<Call>,
    /// The call's id as text.
    pub request_id: String,
    /// Unix seconds.
    pub now: u64,
}

impl Terms {
    /// Cost of a usage, where the target has a price.
    pub fn cost(&self, usage: &Usage) -> Option<Nano> {
        self.target.price.as_ref().map(|price| price.cost(usage))
    }

    /// `cost_usd` and its kin, for bodies.
    fn costs(&self, usage: Option<&Usage>) -> Vec<(String, String)> {
        let Some(cost) = usage.and_then(|usage| self.cost(usage)) else { return Vec::new() };
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
        self.call.asked(&self.request_id)
    }

    fn error_event(&self, fault: Fault) -> Vec<u8> {
        Refusal::Failed { fault, tried: 1 }.event(self.inbound, &self.asked(), &self.request_id)
    }
}

impl Relay {
    /// A relay for a good answer. `is_stream` says what the provider sends (by its content type), which may differ from
    /// what was asked for.
    pub fn new(terms: &Terms, is_stream: bool) -> Relay {
        let limits = &terms.snapshot.limits;
        let mode = match (terms.same_dialect, is_stream) {
            (true, true) => Mode::PassStream(PassStream::new(
                terms.outbound.sniffer(),
                sse::Decoder::new(limits.event_bytes),
                !terms.call.include_usage,
                limits.event_bytes,
                limits.depth,
            )),
            (true, false) => Mode::PassWhole(PassWhole::new(terms.outbound.sniffer(), limits.answer_bytes)),
            (false, true) => Mode::TransStream(TransStream::new(
                sse::Decoder::new(limits.event_bytes),
                terms.outbound.stream(),
                terms.inbound.stream(&terms.asked()),
            )),
            (false, false) => Mode::TransWhole(TransWhole::new(limits.answer_bytes)),
        };
        Relay { mode, facts: Facts::default() }
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

    /// Takes the next chunk of the provider's body (`end`: it is the last one; it may be empty).
    ///
    /// # Errors
    /// The answer is bad and nothing of it has been handed out: another target may try.
    pub fn chunk(&mut self, chunk: Option<Bytes>, end: bool, terms: &Terms) -> Result<Out, Fault> {
        let facts = &mut self.facts;
        if facts.ended_in_error {
            return Ok(Out::default());
        }
        let chunk = chunk.unwrap_or_default();
        let outcome = match &mut self.mode {
            Mode::PassStream(pass) => pass.chunk(chunk, end, facts),
            Mode::PassWhole(pass) => pass.chunk(chunk, end, facts, terms),
            Mode::TransStream(trans) => trans.chunk(&chunk, end, facts, terms),
            Mode::TransWhole(trans) => trans.chunk(chunk, end, facts, terms),
        };
        match outcome {
            Ok(bytes) => Ok(Out { bytes, fault: None }),
            Err(broken) if !facts.committed => Err(broken.fault),
            Err(broken) => {
                let Broken { fault, before, told } = *broken;
                facts.ended_in_error = true;
                let mut bytes = before.unwrap_or_default();
                if !told {
                    let mut joined = bytes.to_vec();
                    joined.extend_from_slice(&terms.error_event(fault.clone()));
                    bytes = joined.into();
                }
                Ok(Out { bytes: (!bytes.is_empty()).then_some(bytes), fault: Some(fault) })
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

fn broken_frame(error: &SseError) -> Fault {
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
