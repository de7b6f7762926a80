//! The end of an attempt, whoever made it: what is charged to whom, what the journal, metrics and log are told.

use std::sync::Arc;

use super::state::Shared;
use crate::dialect::Dialect;
use crate::exchange::explain::Explanation;
use crate::exchange::{Allotment, Attempt, Call};
use crate::ir::{Fault, Usage};
use crate::policy::Moment;
use crate::policy::price::Nano;
use crate::policy::route::Cooling;
use crate::telemetry::{Series, events};

/// The call that an attempt was made for.
#[derive(Clone, Copy)]
pub struct Cause<'a> {
    pub shared: &'a Shared,
    pub request: &'a str,
    /// The caller's dialect.
    pub dialect: Dialect,
    pub call: &'a Call,
    /// What is told of the call, where that is kept.
    pub explanation: Option<&'a Explanation>,
    /// What the call has taken of its key's limits.
    pub allotment: Option<&'a Allotment>,
}

/// What an attempt came to.
pub struct Settled {
    pub usage: Option<Usage>,
    pub cost: Nano,
    pub unpriced: bool,
    /// There was content.
    pub spoke: bool,
    pub series: Arc<Series>,
}

/// Charges a failure to what is at fault, and notes it. The attempt is still to be settled.
pub fn blame(shared: &Shared, attempt: &mut Attempt, fault: &Fault, rule: Cooling, now: Moment) {
    if let Some(held) = &mut attempt.held
        && let Some(cooled) = held.failed(fault, now.mono, rule)
    {
        let target = &attempt.candidate.target.target;
        let credential = cooled.credential.and_then(|place| target.provider.credentials.get(place));
        let credential = credential.map(|credential| credential.name.as_str());
        let (target, pause) = (target.id.as_str(), cooled.pause);
        events::TargetCooled { target, credential, kind: fault.kind, pause }.emit(&shared.metrics);
    }
    attempt.fault = Some(fault.clone());
}

/// Remembers that a target worked; `whole`: the answer came to its end.
pub fn praise(cause: &Cause<'_>, attempt: &mut Attempt, whole: bool, now: Moment) {
    if attempt.worked(cause.call, whole, now) {
        events::TargetRecovered { target: &attempt.candidate.target.target.id }.emit(&cause.shared.metrics);
    }
}

/// Tells everybody that the attempt is over, and gives back what it held.
pub fn settle(cause: &Cause<'_>, attempt: &mut Attempt, outcome: &str, served: bool, now: Moment) -> Settled {
    let Cause { shared, call, .. } = *cause;
    let settlement = attempt.settlement(outcome, served, call, now);
    // A count of tokens is free, and was not dispatched as billable.
    if !call.count
        && let Err(error) = shared.journal.append_settlement(&settlement)
    {
        events::JournalFailed { what: "settlement", error: &error }.emit(&shared.metrics);
    }
    if let Some(explanation) = cause.explanation {
        explanation.tried(attempt, &settlement);
    }
    let target = &attempt.candidate.target.target;
    let series = shared.metrics.series(&target.provider.id, &attempt.candidate.model.name, &target.id);
    events::AttemptFinished {
        request: cause.request,
        number: attempt.number,
        series: &series,
        settlement: &settlement,
        message: attempt.fault.as_ref().map(|fault| fault.message.as_str()),
    }
    .emit(&shared.metrics);
    if !settlement.losses.is_empty() {
        let (client, provider) = (cause.dialect.name, target.provider.dialect.name);
        for loss in attempt.losses() {
            shared.metrics.losses_by_field.count(client, provider, loss);
        }
    }
    if let Some(allotment) = cause.allotment {
        allotment.used(settlement.usage.as_ref(), settlement.cost, attempt.abandoned, now);
    }
    if let (Some(mut held), Some(usage)) = (attempt.held.take(), settlement.usage) {
        held.used(usage.total());
    }
    if let Some(taken) = attempt.taken.take() {
        taken.settle(settlement.cost);
    }
    if let Some(reservation) = attempt.reservation.take() {
        reservation.settle(settlement.amount());
    }
    shared.lines.wake();
    if let Some(arm) = attempt.candidate.arm() {
        let labels = [attempt.candidate.model.name.as_str(), arm, outcome];
        shared.metrics.arm_attempts.with_label_values(&labels).inc();
    }
    Settled {
        usage: settlement.usage,
        cost: settlement.cost,
        unpriced: settlement.unpriced,
        spoke: settlement.ttft_us != 0,
        series,
    }
}
