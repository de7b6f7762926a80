//! Whereto: the ordered candidates of one call, and which of them comes next.

use std::sync::Arc;
use std::time::Duration;

use super::needs::Needs;
use super::{Call, Refusal};
use crate::config::Snapshot;
use crate::config::snapshot::{Key, Model, PricedTarget, Retry};
use crate::ir::{Fault, FaultKind};
use crate::policy::route::{self, Choice, Cooling, Health};
use crate::policy::{Live, Moment};

/// One target a call may go to, under the model that led to it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub model: Arc<Model>,
    pub target: Arc<PricedTarget>,
    pub health: Arc<Health>,
}

/// The candidates in order, and how far the call has got.
#[derive(Debug)]
pub struct Plan {
    candidates: Vec<Candidate>,
    /// Index of the candidate to try next.
    next: usize,
    /// Tries already spent on it.
    tries_here: u32,
    /// Tries of the whole call.
    pub tried: u32,
    /// Pause to take before the next try.
    wait: Duration,
    /// When the whole call must be over, in monotonic microseconds.
    pub deadline: u64,
    /// The call's bound as it was given, for the message.
    pub total: Duration,
    retry: Retry,
    last: Option<Fault>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Pause, then try this candidate.
    Try { candidate: Candidate, wait: Duration },
    /// Nothing is left.
    Over(Refusal),
}

impl Plan {
    /// Orders the targets of the asked model and of its fallbacks.
    ///
    /// # Errors
    /// The model, or a fallback the caller named, does not exist, is not allowed to this key, or has no target in the
    /// regions asked for.
    pub fn make(
        snapshot: &Snapshot,
        live: &Live,
        key: &Key,
        call: &Call,
        now: Moment,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Plan, Refusal> {
        let asked = find(snapshot, key, &call.model)?;
        let mut candidates = Vec::with_capacity(asked.targets.len());
        add(&mut candidates, &asked, live, call, now, random);
        match &call.controls.fallback {
            Some(names) => {
                for name in names {
                    add(&mut candidates, &find(snapshot, key, name)?, live, call, now, random);
                }
            }
            None => {
                for name in &asked.fallback {
                    // The operator's own chain: what this key may not use is passed over, not an error of the caller's.
                    if let Ok(model) = find(snapshot, key, name) {
                        add(&mut candidates, &model, live, call, now, random);
                    }
                }
            }
        }
        // Whatever is cooling comes after everything that is not, fallbacks included, and what is known to lack something
        // that the request needs after all else; sorting keeps the order otherwise.
        if candidates.len() > 1 {
            let needs = Needs::of(call);
            candidates.sort_by_key(|candidate| {
                let able = needs.met_by(&candidate.target.target.abilities);
                (!able, candidate.health.cooling_until(now.mono).is_some())
            });
        }
        let Some(first) = candidates.first() else {
            return Err(Refusal::NoRegion { regions: call.controls.region.join(", ") });
        };
        let configured = first.model.timeouts.unwrap_or(first.target.timeouts).total;
        let total = call.controls.timeout.map_or(configured, |asked| asked.min(configured));
        Ok(Plan {
            next: 0,
            tries_here: 0,
            tried: 0,
            wait: Duration::ZERO,
            deadline: now.mono.saturating_add(micros(total)),
            total,
            retry: snapshot.retry,
            last: None,
            candidates,
        })
    }

    /// The next candidate, or why there is none.
    pub fn next(&mut self, now: Moment) -> Step {
        if self.wait > self.left(now) || self.left(now).is_zero() {
            return Step::Over(self.over_time());
        }
        if self.tried >= self.retry.total_tries {
            return Step::Over(self.exhausted());
        }
        let Some(candidate) = self.candidates.get(self.next).cloned() else { return Step::Over(self.exhausted()) };
        self.tries_here += 1;
        self.tried += 1;
        Step::Try { candidate, wait: std::mem::take(&mut self.wait) }
    }

    /// The current candidate cannot take this request at all; it costs no try. `refusal` is told if no other can.
    pub fn unfit(&mut self) {
        self.tried = self.tried.saturating_sub(1);
        self.skip();
    }

    /// The current try failed. Whether there is another one to make.
    pub fn failed(&mut self, fault: Fault, now: Moment, random: u64) -> bool {
        let retry_same = fault.kind.may_retry_same() && self.tries_here < self.retry.tries;
        let others = self.next + 1 < self.candidates.len();
        let more = self.tried < self.retry.total_tries;
        let go_on = if retry_same && more && !(others && fault.retry_after.is_some()) {
            let pause = route::pause(self.tries_here, self.retry.pause, self.retry.max_pause, random);
            // A stated time is waited out if the call has that long; otherwise trying sooner would be hammering.
            let wait = fault.retry_after.map_or(pause, |stated| pause.max(stated));
            if wait <= self.left(now).min(self.retry.max_pause.max(Duration::from_secs(5))) {
                self.wait = wait;
                true
            } else {
                self.skip();
                others
            }
        } else if others && more && fault.kind.may_try_another() {
            self.skip();
            true
        } else {
            false
        };
        self.last = Some(fault);
        go_on && !self.left(now).is_zero()
    }

    /// A repetition at the same candidate at once, that does not count against it: a pooled connection was stale.
    pub fn again(&mut self) {
        self.tries_here = self.tries_here.saturating_sub(1);
        self.tried = self.tried.saturating_sub(1);
    }

    /// Time left of the whole call.
    pub fn left(&self, now: Moment) -> Duration {
        Duration::from_micros(self.deadline.saturating_sub(now.mono))
    }

    pub fn cooling(&self) -> Cooling {
        Cooling { failures: self.retry.failures, pause: self.retry.cooldown }
    }

    /// The refusal that tells why nothing is left.
    pub fn exhausted(&self) -> Refusal {
        match self.last.clone() {
            Some(fault) => Refusal::Failed { fault, tried: self.tried },
            None => Refusal::Failed {
                fault: Fault::new(FaultKind::Connect, "No target could be tried."),
                tried: self.tried,
            },
        }
    }

    pub fn over_time(&self) -> Refusal {
        Refusal::Deadline { seconds: self.total.as_secs_f64(), last: self.last.clone() }
    }

    fn skip(&mut self) {
        self.next += 1;
        self.tries_here = 0;
        self.wait = Duration::ZERO;
    }
}

fn find(snapshot: &Snapshot, key: &Key, name: &str) -> Result<Arc<Model>, Refusal> {
    let Some(model) = snapshot.model(name) else {
        let asleep = snapshot.model_asleep(name).map(|variables| variables.join(" or "));
        return Err(Refusal::UnknownModel { model: name.to_owned(), asleep });
    };
    if !key.may_use(&model.name) {
        return Err(Refusal::ModelForbidden { model: name.to_owned() });
    }
    Ok(model.clone())
}

fn add(
    candidates: &mut Vec<Candidate>,
    model: &Arc<Model>,
    live: &Live,
    call: &Call,
    now: Moment,
    random: &mut dyn FnMut() -> u64,
) {
    let regions = &call.controls.region;
    let allowed = |target: &PricedTarget| {
        regions.is_empty() || target.target.provider.region.as_ref().is_some_and(|region| regions.contains(region))
    };
    let targets: Vec<_> = model.targets.iter().filter(|t| allowed(t)).map(|t| (t, live.health(&t.target.id))).collect();
    let choices: Vec<_> =
        targets.iter().map(|(t, health)| Choice { weight: t.target.weight, health: health.as_ref() }).collect();
    for index in route::weighted_order(&choices, now.mono, random) {
        let Some((target, health)) = targets.get(index) else { continue };
        candidates.push(Candidate { model: model.clone(), target: (*target).clone(), health: health.clone() });
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
