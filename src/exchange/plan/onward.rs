//! What becomes of a call whose try has failed: the same target once more, another one, or an end that says what was tried.

use std::time::Duration;

use super::{PATIENCE, Plan};
use crate::config::snapshot::{On, PricedTarget};
use crate::exchange::Refusal;
use crate::exchange::held::{self, Ready};
use crate::exchange::refusal::{MOST_TOLD, Tried};
use crate::ir::{Fault, FaultKind};
use crate::policy::Moment;
use crate::policy::route::{self, Gate};

/// The part of its attempts that come through at a target that is well.
const WELL: f32 = 0.8;

impl Plan {
    /// The current try failed. Whether there is another one to make.
    pub fn failed(&mut self, fault: Fault, now: Moment, random: u64) -> bool {
        self.note(&fault);
        if fault.kind == FaultKind::ContextLength {
            self.pass_over_short();
        }
        let mut more = self.tried < self.retry.total_tries;
        if !more && !self.only_last && self.last_resort.is_some() {
            self.only_last = true;
            more = true;
        }
        let others = self.others(now.mono);
        let retry_same = !self.only_last && fault.kind.may_retry_same() && self.tries_here < self.retry.tries;
        let go_on = if !more {
            false
        } else if !self.only_last && held::blames_credential(fault.kind) && self.has_another_credential(now.mono) {
            self.again = true;
            self.afford(true)
        } else if retry_same && !(others && fault.retry_after.is_some()) && self.wait_for_same(&fault, now, random) {
            self.again = true;
            // Another target that is well is better than the same once more, where there is not budget for both.
            self.afford(false) || (others && self.go_elsewhere(now, random))
        } else if others && self.sends_elsewhere(fault.kind) {
            self.go_elsewhere(now, random)
        } else {
            false
        };
        self.last = Some(fault);
        go_on && !self.left(now).is_zero()
    }

    /// The current try failed, and the call with it.
    pub fn ends_in(&mut self, fault: Fault) -> bool {
        self.note(&fault);
        self.last = Some(fault);
        false
    }

    /// The attempt may have had its effects at the provider though it failed, and another one repeats them.
    pub fn repeats(&mut self) {
        self.repeated = true;
    }

    /// What the answer of the current try is to be taken for, beyond what is a failure anyway: nothing where no other
    /// target is left, so that the caller is given the answer then.
    pub fn declines(&self, now: Moment) -> On {
        let left = self.retry.on.any() && self.tried < self.retry.total_tries && self.others(now.mono);
        if left && (self.budget_left() || self.others_well(now.mono)) { self.retry.on } else { On::default() }
    }

    /// What was tried so far, and what was not for want of budget, as in `x-portolan-route`.
    pub fn story(&self) -> Option<String> {
        if self.failures.is_empty() {
            return None;
        }
        let mut text = String::from("tried=");
        for (place, tried) in self.failures.iter().take(MOST_TOLD).enumerate() {
            if place > 0 {
                text.push(',');
            }
            text.push_str(&tried.target);
            if let Some(status) = tried.status {
                text.push_str(&format!(":{status}"));
            }
            text.push(':');
            text.push_str(tried.kind.name());
        }
        if self.spent {
            text.push_str(";retry_budget=spent");
        }
        Some(text)
    }

    /// Whether a further attempt was not made because the budget is spent.
    pub fn budget_spent(&self) -> bool {
        self.spent
    }

    /// Whether effects of an earlier attempt may have been repeated.
    pub fn repeated(&self) -> bool {
        self.repeated
    }

    /// The refusal that tells why nothing is left.
    pub fn exhausted(&self) -> Refusal {
        let none = || Fault::new(FaultKind::Connect, "No target could be tried.");
        Refusal::Failed { fault: self.last.clone().unwrap_or_else(none), tried: self.failures.clone() }
    }

    pub fn over_time(&self) -> Refusal {
        Refusal::Deadline { seconds: self.total.as_secs_f64(), last: self.last.clone() }
    }

    /// The refusal of a call that no target has room for before that moment.
    pub fn resting(&self, until: u64, limited: bool, now: Moment) -> Refusal {
        let wait = if until == u64::MAX { 1_000_000 } else { until.saturating_sub(now.mono) };
        Refusal::Resting { retry_after: Duration::from_micros(wait), limited }
    }

    fn note(&mut self, fault: &Fault) {
        let current = self.current.and_then(|(number, place)| self.at(number, place));
        if let Some((_, target)) = current {
            let target = target.target.id.clone();
            self.failures.push(Tried { target, kind: fault.kind, status: fault.status });
        }
    }

    /// The pause before the same target is tried again; `false` where the call has not that long.
    fn wait_for_same(&mut self, fault: &Fault, now: Moment, random: u64) -> bool {
        let pause = route::pause(self.tries_here, self.retry.pause, self.retry.max_pause, random);
        // A stated time is waited out if the call has that long; otherwise trying sooner would be hammering.
        let wait = fault.retry_after.map_or(pause, |stated| pause.max(stated));
        let short = wait <= self.left(now).min(self.retry.max_pause.max(PATIENCE));
        if short {
            self.wait = wait;
        }
        short
    }

    fn go_elsewhere(&mut self, now: Moment, random: u64) -> bool {
        if !self.afford(self.others_well(now.mono)) {
            return false;
        }
        self.skip();
        self.spent = false;
        let pause = route::pause(1, self.retry.fallback_pause, self.retry.fallback_pause, random);
        // A pause that takes half of what is left of the call would rather cost the answer.
        if pause < self.left(now) / 2 {
            self.wait = pause;
        }
        true
    }

    fn sends_elsewhere(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::ContentFilter => self.retry.on.content_filter,
            FaultKind::Refusal => self.retry.on.refusal,
            kind => kind.may_try_another(),
        }
    }

    /// Takes a further attempt out of the budget. One to a target that is well is made in any case: it adds nothing to what
    /// is in trouble.
    fn afford(&mut self, well: bool) -> bool {
        let (own, overall) = (self.retry.budget, self.retry.budget.overall());
        if well {
            self.asked.budget.charge(&own);
            self.overall.charge(&overall);
            return true;
        }
        let taken = self.asked.budget.spend(&own);
        if taken && self.overall.spend(&overall) {
            return true;
        }
        if taken {
            self.asked.budget.give_back();
        }
        self.spent = true;
        false
    }

    fn budget_left(&self) -> bool {
        self.asked.budget.has_one(&self.retry.budget) && self.overall.has_one(&self.retry.budget.overall())
    }

    /// Whether one of the other targets is ready, and nearly all that it was sent of late came through.
    fn others_well(&self, now: u64) -> bool {
        let tokens = self.tokens();
        self.places().filter(|at| Some(*at) != self.current).any(|(number, place)| {
            self.open(number, place).is_some_and(|target| {
                target.vitals.breaker.gate(now) == Gate::Closed
                    && target.vitals.success(now) >= WELL
                    && held::ready(target, now, tokens) == Ready::Now
            })
        })
    }

    /// The prompt is too long for the current target: so it is for those that are known to take no more.
    fn pass_over_short(&mut self) {
        let Some((_, failed)) = self.current.and_then(|(number, place)| self.at(number, place)) else { return };
        let least = failed.target.abilities.context.unwrap_or(self.call.input_estimate);
        let model = failed.target.model.clone();
        let short = |target: &PricedTarget| match target.target.abilities.context {
            Some(most) => most <= least,
            // Of another model it is not known.
            None => target.target.model == model,
        };
        let places: Vec<_> = self.places().filter(|at| Some(*at) != self.current).collect();
        for (number, place) in places {
            if self.open(number, place).is_some_and(|target| short(target)) {
                self.done.push((number, place));
            }
        }
    }

    /// Whether another target than the current one may be tried: one that has not asked to be left alone, and has room.
    fn others(&self, now: u64) -> bool {
        let tokens = self.tokens();
        self.places().filter(|at| Some(*at) != self.current).any(|(number, place)| {
            self.open(number, place).is_some_and(|target| {
                !matches!(held::ready(target, now, tokens), Ready::Full { .. } | Ready::Resting { stated: true, .. })
            })
        })
    }

    fn has_another_credential(&self, now: u64) -> bool {
        let current = self.current.and_then(|(number, place)| self.at(number, place));
        current
            .is_some_and(|(_, target)| target.seats.len() > 1 && held::ready(target, now, self.tokens()) == Ready::Now)
    }

    pub(super) fn skip(&mut self) {
        if let Some(current) = self.current.take() {
            self.done.push(current);
        }
        self.again = false;
        self.tries_here = 0;
        self.wait = Duration::ZERO;
    }
}
