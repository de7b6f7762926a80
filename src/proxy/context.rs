//! One call as the hooks carry it from one to the next.
//!
//! The values are those of the exchange; what is here is only which of them exist yet. Whatever way a call ends, an
//! attempt whose intent is in the journal is settled: by the hooks, or, after a panic or a runtime that is torn down,
//! by the drop of the context.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use super::cork::Cork;
use super::flight::{Bill, Flight, Lead};
use super::gate::Gate;
use super::hedge::Begun;
use super::intake::Share;
use super::peer::Place;
use super::settling::{self, Cause};
use super::shadow::Listener;
use super::state::{InFlight, Served, Shared, Way};
use crate::config::snapshot::Key;
use crate::dialect::{Dialect, openai_chat};
use crate::exchange::conversation::Keeper;
use crate::exchange::explain::Explanation;
use crate::exchange::paths::Operation;
use crate::exchange::record::Id;
use crate::exchange::resume::may_go_on;
use crate::exchange::{Allotment, Attempt, Call, Plan, Refusal, Relay, Resume, Sent};
use crate::ir::Fault;
use crate::policy::Moment;
use crate::provider::Grant;
use crate::telemetry::{Series, events};
use crate::wire::frames::Framing;

pub struct Ctx {
    pub shared: Arc<Shared>,
    pub served: Arc<Served>,
    pub id: Id,
    /// `id` as text.
    pub request_id: Arc<str>,
    pub started: Moment,
    /// The caller's dialect.
    pub dialect: Dialect,
    pub operation: Option<Operation>,
    pub key: Option<Arc<Key>>,
    /// Who brings a token instead of a key, or why he is not let in.
    pub bearer: Option<Result<Arc<Key>, Refusal>>,
    pub call: Option<Arc<Call>>,
    pub plan: Option<Plan>,
    /// Where explanations are kept.
    pub explanation: Option<Arc<Explanation>>,
    pub gate: Option<Arc<Gate>>,
    /// Until the body is on its way too.
    pub cork: Option<Cork>,
    /// Watches an answer that is to be kept.
    pub keeping: Option<Box<Keeping>>,
    /// Prepared and not yet dispatched.
    pub prepared: Option<Box<Attempt>>,
    /// Dispatched.
    pub current: Option<Dispatched>,
    /// Settled, after its stream had begun: what its end looks like depends on what was written.
    pub broken: Option<Box<Attempt>>,
    /// Where a stream broke, until another attempt goes on with it.
    pub resume: Option<Resume>,
    /// Why the call is refused, once it is.
    pub refusal: Option<Refusal>,
    /// An attempt was settled already when its error reaches `error_while_proxy`: whether another is to be made.
    pub decided: Option<bool>,
    /// Where another attempt may be under way beside the current one.
    pub hedge: Option<Arc<Begun>>,
    /// Passes its answer on to identical calls; the stand-in has it while there is one.
    pub lead: Option<Lead>,
    /// Those that follow it.
    pub flight: Option<Arc<Flight>>,
    /// Hears the answer for the call's shadow.
    pub shadow: Option<Listener>,
    /// The last failure left something to try, beside what is under way.
    pub more: bool,
    /// The client left while an answer was given to it after the proxy loop.
    pub gone: bool,
    /// A stream was handed out to its end, though its provider's connection did not end with it.
    pub complete: bool,
    /// Attempts dispatched.
    pub attempts: u32,
    pub outcome: Outcome,
    /// Memory held for the body.
    pub share: Option<Share>,
    pub in_flight: Option<InFlight>,
    /// What it has taken of its key's limits.
    pub allotment: Option<Arc<Allotment>>,
}

/// An answer of the Responses API on its way into the store.
pub struct Keeping {
    pub keeper: Keeper,
    /// What the caller sent, as a list of items.
    pub input: String,
    pub previous: Option<String>,
}

/// Length from which a header that the operator adds for a provider is taken for a credential.
const LONG: usize = 16;

/// An attempt under way.
pub struct Dispatched {
    pub attempt: Box<Attempt>,
    /// Whereto; `None` for one that could not even begin.
    pub to: Option<(Arc<Way>, Arc<Place>)>,
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// A credential that holds for a while.
    pub grant: Option<Arc<Grant>>,
    /// A pooled connection turned out stale and was replaced once.
    pub renewed: bool,
    /// The body of an error answer, being collected.
    pub error: Option<ErrorBody>,
    /// Its request was, or is about to be, written to the provider.
    pub sent: bool,
    /// Pieces of its body that were given to Pingora.
    pub written: usize,
}

impl Dispatched {
    /// An attempt that is about to begin.
    pub fn new(attempt: Box<Attempt>, renewed: bool) -> Dispatched {
        Dispatched { attempt, to: None, credential: None, grant: None, renewed, error: None, sent: false, written: 0 }
    }

    /// What must not stand in any text that others read.
    pub fn secrets(&self) -> impl Iterator<Item = &str> + Clone {
        let provider = &self.attempt.candidate.target.target.provider;
        let keys = provider.credentials.iter().map(|key| key.secret.expose());
        let granted = self.grant.iter().flat_map(|grant| grant.secrets());
        // What the operator has sent along may be one too, where it is no mere word.
        let sent = provider.headers.iter().filter_map(|(_, value)| value.to_str().ok());
        keys.chain(granted).chain(sent.filter(|value| value.len() >= LONG))
    }
}

/// An error answer of a provider.
#[derive(Debug, Default)]
pub struct ErrorBody {
    pub head: Option<Box<ResponseHeader>>,
    pub parts: Vec<Bytes>,
    pub size: usize,
}

/// What became of the call, for metrics and log.
#[derive(Clone, Default)]
pub struct Outcome {
    pub status: u16,
    pub usage: Option<crate::ir::Usage>,
    pub cost: u64,
    pub unpriced: bool,
    pub ttft_us: u64,
    /// Of the target tried last, and when that was over.
    pub series: Option<Arc<Series>>,
    pub settled: Option<Moment>,
    pub name: &'static str,
}

impl Ctx {
    pub fn new(shared: Arc<Shared>) -> Ctx {
        let started = shared.now();
        let id = shared.new_id(started);
        Ctx {
            served: shared.served(),
            id,
            request_id: text(id),
            started,
            dialect: openai_chat::DIALECT,
            operation: None,
            key: None,
            bearer: None,
            call: None,
            plan: None,
            explanation: None,
            gate: None,
            cork: None,
            keeping: None,
            prepared: None,
            current: None,
            broken: None,
            resume: None,
            refusal: None,
            decided: None,
            hedge: None,
            lead: None,
            flight: None,
            shadow: None,
            more: false,
            gone: false,
            complete: false,
            attempts: 0,
            outcome: Outcome::default(),
            share: None,
            in_flight: None,
            allotment: None,
            shared,
        }
    }

    /// The current attempt has failed: settles it and says whether another try is to be made.
    pub fn attempt_failed(&mut self, fault: Fault) -> bool {
        let now = self.shared.now();
        let Some(mut current) = self.current.take() else { return false };
        if let Some(plan) = &self.plan {
            settling::blame(&self.shared, &mut current.attempt, &fault, plan.cooling(), now);
        }
        let committed = current.attempt.committed();
        let resume = self.broken_off(&mut current.attempt);
        self.settle(&mut current.attempt, fault.kind.name(), committed, now);
        self.count_hedge();
        let hopeless = committed || !fault.kind.may_try_another();
        let Some(plan) = &mut self.plan else { return false };
        let repeats = current.sent && resume.is_none() && may_have_worked(&fault);
        let ends = committed && resume.is_none();
        let go_on = if ends { plan.ends_in(fault) } else { plan.failed(fault, now, fastrand::u64(..)) };
        if go_on && repeats {
            plan.repeats();
        }
        if !go_on && plan.budget_spent() {
            events::RetryBudgetSpent { request: &self.request_id, model: plan.asked() }.emit(&self.shared.metrics);
        }
        self.more = go_on;
        match resume {
            Some(resume) if go_on => self.resume = Some(resume),
            resume => self.keep_last_words(current.attempt, resume, committed),
        }
        // What was begun beside it may still answer; what was not is armed anew with the next attempt.
        let racing = self.gate.as_ref().is_some_and(|gate| gate.keep_race(!hopeless));
        self.more || racing
    }

    /// What another attempt needs to go on with a stream that has begun; what this one has used goes with it.
    fn broken_off(&mut self, attempt: &mut Attempt) -> Option<Resume> {
        let call = self.call.as_ref()?;
        let begun = attempt.committed() || attempt.relay.as_ref().is_some_and(Relay::is_resumed);
        let (usage, cost) = match attempt.usage(call) {
            Some((usage, _)) => (Some(usage), attempt.terms.charge(&usage).unwrap_or(0)),
            None => (None, 0),
        };
        let mut resume = self.resume.take();
        // Those who follow a call have their part of one attempt's cost.
        if resume.is_none() && begun && attempt.terms.continues && self.flight.is_none() {
            resume = attempt.relay.as_mut().and_then(Relay::break_off);
            if resume.as_ref().is_none_or(|resume| resume.seam.times == 0 && !may_go_on(attempt.terms.inbound, call)) {
                if let Some(resume) = resume.take() {
                    attempt.relay = Some(Relay::resumed(&attempt.terms, Sent::Stream(Framing::Sse), resume));
                }
                self.continued("impossible");
                return None;
            }
        }
        if let Some(resume) = &mut resume {
            resume.seam.carry(usage, cost);
        }
        resume
    }

    /// Keeps what the end of a stream that has begun is to be written with.
    fn keep_last_words(&mut self, mut attempt: Box<Attempt>, resume: Option<Resume>, committed: bool) {
        if let Some(resume) = resume {
            attempt.relay = Some(Relay::resumed(&attempt.terms, Sent::Stream(Framing::Sse), resume));
            self.continued("failed");
            self.broken = Some(attempt);
        } else {
            self.broken = committed.then_some(attempt);
        }
    }

    /// Counts what came of going on with a stream.
    pub fn continued(&self, result: &str) {
        let model = self.plan.as_ref().map_or("", Plan::asked);
        events::Continued { request: &self.request_id, model, result }.emit(&self.shared.metrics);
    }

    /// Takes into account an attempt that was begun beside the current one.
    pub fn count_hedge(&mut self) {
        if let Some((place, number)) = self.hedge.as_ref().and_then(|begun| begun.get()) {
            self.attempts = self.attempts.max(number);
            if let Some(plan) = &mut self.plan {
                plan.passed(place);
            }
        }
    }

    /// The current attempt is over: well, or because nobody waits for it any more.
    pub fn attempt_over(&mut self, outcome: &'static str, served: bool) {
        let Some(mut current) = self.current.take() else { return };
        let now = self.shared.now();
        if served && let Some(call) = &self.call {
            let cause = Cause {
                shared: &self.shared,
                request: &self.request_id,
                dialect: self.dialect,
                call,
                explanation: self.explanation.as_deref(),
                allotment: self.allotment.as_deref(),
            };
            settling::praise(&cause, &mut current.attempt, outcome == "ok", now);
        }
        self.settle(&mut current.attempt, outcome, served, now);
        let resumed = current.attempt.relay.as_ref().is_some_and(Relay::is_resumed);
        let resume = self.resume.take();
        if resumed && resume.is_none() && outcome != "ok" {
            self.continued("failed");
        }
        self.keep_last_words(current.attempt, resume, served || resumed);
    }

    fn settle(&mut self, attempt: &mut Attempt, outcome: &str, served: bool, now: Moment) {
        let Some(call) = &self.call else { return };
        let cause = Cause {
            shared: &self.shared,
            request: &self.request_id,
            dialect: self.dialect,
            call,
            explanation: self.explanation.as_deref(),
            allotment: self.allotment.as_deref(),
        };
        let flight = self.flight.as_ref().filter(|_| served);
        let shares = flight.map_or(1, |flight| flight.close());
        attempt.shares = flight.map(|flight| (flight.rules.cost, shares));
        let settled = settling::settle(&cause, attempt, outcome, served, now);
        if let Some(flight) = flight {
            flight.settle(Bill::of(attempt, call, shares));
        }
        self.outcome.usage = settled.usage;
        self.outcome.cost = self.outcome.cost.saturating_add(settled.cost);
        self.outcome.unpriced |= settled.unpriced;
        self.outcome.series = Some(settled.series);
        self.outcome.settled = Some(now);
        if served && settled.spoke {
            self.outcome.ttft_us = attempt.first.map_or(0, |first| first.since(self.started));
        }
    }
}

/// Whether the provider may have done what it was asked though the attempt failed: it did not say that it has not.
fn may_have_worked(fault: &Fault) -> bool {
    match fault.status {
        None => true,
        Some(status) => status >= 500 && !matches!(status, 503 | 529),
    }
}

/// An id as [`Id`] writes itself, without the machinery of formatting: every call's is written.
fn text(id: Id) -> Arc<str> {
    let mut bytes = id.0.to_be_bytes().into_iter();
    let mut text = [b'-'; 36];
    for group in [0..8, 9..13, 14..18, 19..23, 24..36] {
        let places = text.get_mut(group).unwrap_or_default().as_chunks_mut::<2>().0;
        for (place, byte) in places.iter_mut().zip(&mut bytes) {
            let digit = |digit: u8| digit + if digit < 10 { b'0' } else { b'a' - 10 };
            *place = [digit(byte >> 4), digit(byte & 15)];
        }
    }
    str::from_utf8(&text).unwrap_or_default().into()
}

impl Drop for Ctx {
    fn drop(&mut self) {
        // Reached with an attempt under way only when `logging` was not: a panic, or the runtime's end.
        if let Some(current) = &self.current {
            let committed = current.attempt.committed();
            self.attempt_over("aborted", committed);
        }
        if let Some(allotment) = self.allotment.take() {
            allotment.over(self.shared.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_they_write_themselves() {
        for id in [Id(0), Id(u128::MAX), Id(0x0123_4567_89ab_cdef_0011_2233_4455_6677)] {
            assert_eq!(*text(id), *id.to_string());
        }
    }
}
