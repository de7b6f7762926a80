//! Whereto: which target a call goes to next, among those of the asked model and of its fallbacks.
//!
//! Nothing is put in order beforehand. Each choice is made when it is needed, among what can take the call then: first
//! those that are well and able, model by model; then those that are left alone, soonest back first, since a model whose
//! every target fails is still tried rather than refused by us; then those that are known to lack something. Only what a
//! provider has asked for itself, a time to be left alone, is kept to.

mod beside;
mod look;
mod onward;
mod reach;
mod why;

pub use look::{Look, Standing};
pub use why::Why;

use std::sync::Arc;
use std::time::Duration;

use super::held::{self, Cooled, Held, Ready};
use super::needs::Needs;
use super::refusal::Tried;
use super::{Call, Decision, Refusal, affinity};
use crate::config::Snapshot;
use crate::config::snapshot::{Key, Lacks, Model, PricedTarget, Retry};
use crate::ir::Fault;
use crate::policy::Moment;
use crate::policy::price::{Extent, Nano};
use crate::policy::queue::Urgency;
use crate::policy::retry::Budget;
use crate::policy::route::affinity::{By, draw};
use crate::policy::route::{self, Ask, Cooling, Entry, Rules, Strategy};

/// Output tokens that a call is counted with beforehand, where it says nothing, and at most.
const OUTPUT: (u64, u64) = (400, 4_096);
/// Choices of a target that another call then claims first.
const CLAIMS: u32 = 4;
/// Longest wait for a target that asked to be left alone, where nothing else is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// One target a call may go to, under the model that led to it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub model: Arc<Model>,
    pub target: Arc<PricedTarget>,
    pub why: Why,
}

impl Candidate {
    /// The arm of the model's split that its target is in.
    pub fn arm(&self) -> Option<&str> {
        let (name, _) = self.model.split.as_ref()?.arms.get(self.why.arm?)?;
        Some(name)
    }
}

/// The models in order, and how far the call has got.
#[derive(Clone, Debug)]
pub struct Plan {
    call: Arc<Call>,
    key: Arc<Key>,
    asked: Arc<Model>,
    fallback: Vec<Arc<Model>>,
    /// What rules chose.
    decision: Decision,
    /// For when nothing else can answer; its number follows the fallbacks'.
    last_resort: Option<Arc<Model>>,
    /// Nothing else is to be tried any more.
    only_last: bool,
    home: Option<usize>,
    /// Of the asked model.
    arm: Option<usize>,
    needs: Option<Needs>,
    /// Model and place of what is tried now.
    current: Option<(usize, usize)>,
    /// It is tried once more.
    again: bool,
    /// Those that are out of the question from now on.
    done: Vec<(usize, usize)>,
    /// Tries already spent on the current one.
    tries_here: u32,
    /// Tries of the whole call.
    pub tried: u32,
    /// Pause to take before the next try.
    wait: Duration,
    started: u64,
    /// When the whole call must be over, in monotonic microseconds.
    pub deadline: u64,
    /// The call's bound as it was given, for the message.
    pub total: Duration,
    retry: Retry,
    /// Further attempts of all models together.
    overall: Arc<Budget>,
    /// A further attempt was not made because the budget is spent.
    spent: bool,
    /// An attempt failed that may have had its effects at the provider all the same, and another one was made.
    repeated: bool,
    /// Attempts that failed, in order.
    failures: Vec<Tried>,
    last: Option<Fault>,
    /// Where they are to be told.
    looks: Option<Vec<Look>>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Pause, then try this candidate.
    Try { candidate: Candidate, held: Held, wait: Duration },
    /// Nothing has room: come back then (monotonic microseconds; `u64::MAX`: when a call is over).
    Wait { until: u64 },
    /// Nothing is left.
    Over(Refusal),
}

/// What a look for the next target found.
enum Found {
    Target(Candidate, Held),
    Full { until: u64 },
    Stated { until: u64, limited: bool },
    Nothing,
}

impl Plan {
    /// The models that the call may go to: the asked one, or the one that rules put in its place, and its fallbacks.
    ///
    /// # Errors
    /// The model, or a fallback the caller named, does not exist, is not allowed to this key, or no target is where, or
    /// has what, call and key demand.
    pub fn make(
        snapshot: &Snapshot,
        key: &Arc<Key>,
        call: &Arc<Call>,
        decision: Decision,
        now: Moment,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Plan, Refusal> {
        let asked = match &decision.model {
            Some(model) => model.clone(),
            None => find(snapshot, key, &call.model)?.clone(),
        };
        // The operator's own chains: what this key may not use is passed over, not an error of the caller's.
        let chain = |names: &[String]| -> Vec<Arc<Model>> {
            let found = names.iter().filter_map(|name| find(snapshot, key, name).ok());
            found.filter(|model| !Arc::ptr_eq(model, &asked)).cloned().collect()
        };
        let fallback = match (decision.fallback(), &call.controls.fallback, key.fallback.as_deref()) {
            (Some(names), _, _) | (None, None, Some(names)) => chain(names),
            (None, Some(names), _) => {
                names.iter().map(|name| find(snapshot, key, name).cloned()).collect::<Result<_, _>>()?
            }
            (None, None, None) => chain(&asked.fallback),
        };
        // Who asks for no other model gets none.
        let none = call.controls.fallback.as_ref().is_some_and(Vec::is_empty);
        let last_resort =
            asked.last_resort.as_ref().filter(|_| !none).and_then(|name| find(snapshot, key, name).ok()).cloned();
        let arm = asked.split.as_ref().map(|split| {
            let drawn = if split.by.is_empty() {
                random().checked_rem(split.sum).unwrap_or(0)
            } else {
                draw(affinity::of(call, key, &split.by).0, split.salt, split.sum)
            };
            split.arm(drawn)
        });
        let retry = asked.retry;
        let mut plan = Plan {
            call: call.clone(),
            key: key.clone(),
            asked,
            fallback,
            decision,
            last_resort,
            only_last: false,
            home: key.home.or(snapshot.home),
            arm,
            needs: None,
            current: None,
            again: false,
            done: Vec::new(),
            tries_here: 0,
            tried: 0,
            wait: Duration::ZERO,
            started: now.mono,
            deadline: 0,
            total: Duration::ZERO,
            retry,
            overall: snapshot.budget.clone(),
            spent: false,
            repeated: false,
            failures: Vec::new(),
            last: None,
            looks: None,
        };
        let first = plan.places().find(|(number, place)| plan.open(*number, *place).is_some());
        let Some((model, target)) = first.and_then(|(number, place)| {
            let model = plan.model(number)?.clone();
            let target = model.targets.get(place)?.clone();
            Some((model, target))
        }) else {
            return Err(plan.nowhere());
        };
        plan.bound(&model, &target);
        Ok(plan)
    }

    /// The next candidate, or why there is none.
    pub fn next(&mut self, now: Moment, random: &mut dyn FnMut() -> u64) -> Step {
        if self.wait > self.left(now) || self.left(now).is_zero() {
            return Step::Over(self.over_time());
        }
        if self.tried >= self.retry.total_tries && !self.only_last {
            return Step::Over(self.exhausted());
        }
        if self.looks.is_some() {
            self.survey(now.mono);
        }
        let found = self.same(now.mono, random).unwrap_or_else(|| self.look(now.mono, random));
        match found {
            Found::Target(candidate, held) => {
                if self.looks.is_some() {
                    self.surveyed(candidate.why);
                }
                if self.tried == 0 {
                    self.bound(&candidate.model, &candidate.target);
                    self.asked.budget.earn(&self.retry.budget, now.mono);
                    self.overall.earn(&self.retry.budget.overall(), now.mono);
                }
                self.tries_here += 1;
                self.tried += 1;
                Step::Try { candidate, held, wait: std::mem::take(&mut self.wait) }
            }
            Found::Full { until } if self.last.is_none() => Step::Wait { until },
            Found::Full { until } | Found::Stated { until, .. } if self.short(until, now) => Step::Wait { until },
            _ if self.last.is_some() => Step::Over(self.exhausted()),
            Found::Full { until } => Step::Over(self.resting(until, true, now)),
            Found::Stated { until, limited } => Step::Over(self.resting(until, limited, now)),
            Found::Nothing => Step::Over(self.exhausted()),
        }
    }

    /// The current candidate cannot take this request at all; it costs no try. `refusal` is told if no other can.
    pub fn unfit(&mut self) {
        self.tried = self.tried.saturating_sub(1);
        self.skip();
    }

    /// The name of the model that was asked for.
    pub fn asked(&self) -> &str {
        &self.asked.name
    }

    /// Time left of the whole call.
    pub fn left(&self, now: Moment) -> Duration {
        Duration::from_micros(self.deadline.saturating_sub(now.mono))
    }

    pub fn cooling(&self) -> Cooling {
        Cooling { failures: self.retry.failures, pause: self.retry.cooldown }
    }

    /// Sets the deadline by the target that the call begins with.
    fn bound(&mut self, model: &Model, target: &PricedTarget) {
        let configured = model.timeouts.unwrap_or(target.timeouts).total;
        self.total = self.call.controls.timeout.map_or(configured, |asked| asked.min(configured));
        self.deadline = self.started.saturating_add(micros(self.total));
    }

    /// The current target once more, where that was decided.
    fn same(&mut self, now: u64, random: &mut dyn FnMut() -> u64) -> Option<Found> {
        if !std::mem::take(&mut self.again) {
            return None;
        }
        let (number, place) = self.current?;
        let model = self.model(number)?.clone();
        let target = model.targets.get(place)?.clone();
        let held = Held::force(&target, now, self.tokens(), random);
        let why = Why { of: model.targets.len(), ..Why::default() };
        Some(Found::Target(Candidate { model, target, why }, held))
    }

    fn look(&mut self, now: u64, random: &mut dyn FnMut() -> u64) -> Found {
        let tokens = self.tokens();
        let several = self.know_needs();
        let mut stated: Option<(u64, bool)> = None;
        let last = self.fallback.len() + 1;
        for able in [true, false] {
            if let Some(found) = (0..last).find_map(|number| self.claim(number, able, now, tokens, random)) {
                return found;
            }
            // None is ready: which of them is soonest, and what keeps it?
            let (mut full, mut full_last) = (None::<u64>, None::<u64>);
            let mut resting: Option<(u64, usize, usize)> = None;
            for (number, place) in self.places() {
                let Some(target) = self.open(number, place).filter(|target| self.is_able(target) == able) else {
                    continue;
                };
                match held::ready(target, now, tokens) {
                    Ready::Now => {}
                    Ready::Full { until } if number == last => {
                        full_last = Some(full_last.map_or(until, |other: u64| other.min(until)))
                    }
                    Ready::Full { until } => full = Some(full.map_or(until, |other| other.min(until))),
                    Ready::Resting { until, stated: true, limited } => {
                        if stated.is_none_or(|(other, _)| until < other) {
                            stated = Some((until, limited));
                        }
                    }
                    Ready::Resting { until, .. } => {
                        if resting.is_none_or(|(other, ..)| until < other) {
                            resting = Some((until, number, place));
                        }
                    }
                }
            }
            if let Some(until) = full {
                return Found::Full { until };
            }
            if let Some(found) = self.claim(last, able, now, tokens, random) {
                return found;
            }
            if let Some((_, number, place)) = resting
                && let Some((model, target)) = self.at(number, place)
            {
                let held = Held::force(target, now, tokens, random);
                let strategy = self.rules(model).strategy;
                let last_resort = number == last;
                let why = Why { strategy, of: model.targets.len(), resting: true, last_resort, ..Why::default() };
                let candidate = Candidate { model: model.clone(), target: target.clone(), why };
                self.current = Some((number, place));
                return Found::Target(candidate, held);
            }
            if let Some(until) = full_last {
                return Found::Full { until };
            }
            if !several {
                break;
            }
        }
        match stated {
            Some((until, limited)) => Found::Stated { until, limited },
            None => Found::Nothing,
        }
    }

    /// Finds out what the call needs, where there is a choice. Says whether there is.
    fn know_needs(&mut self) -> bool {
        let several = !self.fallback.is_empty() || self.last_resort.is_some() || self.asked.targets.len() > 1;
        if several && self.needs.is_none() {
            let models = std::iter::once(&self.asked).chain(&self.fallback).chain(&self.last_resort);
            let lacks = models.fold(Lacks::default(), |lacks, model| lacks.or(model.lacks));
            self.needs = Some(Needs::of(&self.call, lacks));
        }
        several
    }

    /// What calls stick by, in `sticky`.
    fn affinity(&self, model: &Model) -> (u64, Option<By>) {
        match self.rules(model).strategy {
            Strategy::Sticky => {
                let (hash, by) = affinity::of(&self.call, &self.key, &model.sticky);
                (hash, Some(by))
            }
            _ => (0, None),
        }
    }

    /// The tier of a target, or its distance.
    fn tier(&self, rules: &Rules, target: &PricedTarget) -> u32 {
        match (rules.strategy, self.home) {
            (Strategy::Nearest, home) => home.and_then(|home| target.distances.get(home)).copied().unwrap_or(0),
            _ => target.tier,
        }
    }

    /// A target of that model which is ready, claimed.
    fn claim(
        &mut self,
        number: usize,
        able: bool,
        now: u64,
        tokens: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Found> {
        for _ in 0..CLAIMS {
            let (place, why) = self.choose(number, able, now, tokens, random)?;
            let (model, target) = self.at(number, place)?;
            if let Some(held) = Held::take(target, now, tokens, random) {
                let candidate = Candidate { model: model.clone(), target: target.clone(), why };
                self.current = Some((number, place));
                return Some(Found::Target(candidate, held));
            }
        }
        None
    }

    /// A choice among the targets of a model that are ready.
    fn choose(
        &self,
        number: usize,
        able: bool,
        now: u64,
        tokens: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<(usize, Why)> {
        let model = self.model(number)?;
        let rules = self.rules(model);
        let (affinity, by) = self.affinity(model);
        let usual = model.usual.get().unwrap_or(OUTPUT.0 as f32);
        let output = self.call.max_output.map_or(usual, |most| usual.min(most as f32));
        let ask = Ask { stream: self.call.stream, input: self.call.input_estimate, output, affinity, now };
        let entry = |place: usize, arm: Option<usize>| {
            let target = self.open(number, place)?;
            let fits = arm.is_none_or(|arm| target.arm == Some(arm)) && self.is_able(target) == able;
            if !fits || held::ready(target, now, tokens) != Ready::Now {
                return None;
            }
            let tier = self.tier(&rules, target);
            Some(Entry {
                vitals: &target.vitals,
                price: target.price.as_ref(),
                weight: target.target.weight,
                tier,
                salt: target.salt,
            })
        };
        let arm = self.arm.filter(|_| number == 0);
        let chosen = route::choose(&rules, &ask, &model.shares, |place| entry(place, arm), random).or_else(|| {
            // Where an arm has nothing left the others stand in: better than no answer.
            arm.and_then(|_| route::choose(&rules, &ask, &model.shares, |place| entry(place, None), random))
        })?;
        let arm = model.targets.get(chosen.place).and_then(|target| target.arm).filter(|_| model.split.is_some());
        let of = model.targets.len();
        let last_resort = number > self.fallback.len();
        let why = Why { strategy: rules.strategy, score: chosen.score, of, arm, by, resting: false, last_resort };
        Some((chosen.place, why))
    }

    /// What rules chose for the call.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Among the calls of its key, where they wait.
    pub fn urgency(&self) -> Urgency {
        self.decision.urgency().or(self.call.controls.urgency).or(self.key.urgency).unwrap_or_default()
    }

    fn rules(&self, model: &Model) -> Rules {
        let own = model.rules;
        let chosen = self.decision.strategy().or(self.call.controls.routing).or(self.key.strategy);
        Rules { strategy: chosen.unwrap_or(own.strategy), ..own }
    }

    fn model(&self, number: usize) -> Option<&Arc<Model>> {
        match number.checked_sub(1) {
            None => Some(&self.asked),
            Some(number) if number == self.fallback.len() => self.last_resort.as_ref(),
            Some(number) => self.fallback.get(number),
        }
    }

    fn at(&self, number: usize, place: usize) -> Option<(&Arc<Model>, &Arc<PricedTarget>)> {
        let model = self.model(number)?;
        Some((model, model.targets.get(place)?))
    }

    /// Tokens that the call is counted with until it is known.
    pub fn tokens(&self) -> u64 {
        let (usual, most) = OUTPUT;
        self.call.input_estimate.saturating_add(self.call.max_output.unwrap_or(usual).min(most))
    }

    /// Output tokens that the call is counted with for its key's limits, by the bound that it has (and `true`), or by what
    /// the model's answers usually have.
    pub fn output(&self, bound: Option<u64>) -> (u64, bool) {
        let able = self.open_targets().filter_map(|target| target.target.abilities.max_output).max();
        match bound {
            Some(most) => (able.map_or(most, |able| most.min(able)), true),
            None => (self.asked.usual.get().map_or(OUTPUT.0, |usual| usual.ceil() as u64), false),
        }
    }

    /// The most that a call with so many tokens can cost at a target of the asked model.
    pub fn worst_case(&self, input: u64, output: u64) -> Nano {
        let prices = self.open_targets().filter_map(|target| target.price.as_ref());
        prices.map(|price| price.worst_case(&Extent::any(input, output))).max().unwrap_or(0)
    }

    /// The targets of the asked model that the call may go to.
    fn open_targets(&self) -> impl Iterator<Item = &Arc<PricedTarget>> {
        (0..self.asked.targets.len()).filter_map(|place| self.open(0, place))
    }

    fn short(&self, until: u64, now: Moment) -> bool {
        let wait = Duration::from_micros(until.saturating_sub(now.mono));
        wait <= self.left(now).min(self.retry.max_pause.max(PATIENCE))
    }
}

/// A failed attempt, attributed: what is left alone from now on.
pub fn attribute(held: &mut Held, fault: &Fault, now: Moment, plan: &Plan) -> Option<Cooled> {
    held.failed(fault, now.mono, plan.cooling())
}

/// A model that a key may use.
pub(super) fn find<'s>(snapshot: &'s Snapshot, key: &Key, name: &str) -> Result<&'s Arc<Model>, Refusal> {
    let Some(model) = snapshot.model(name) else {
        let asleep = snapshot.model_asleep(name).map(|variables| variables.join(" or "));
        return Err(Refusal::UnknownModel { model: name.to_owned(), asleep });
    };
    if !key.may_use(&model.name) {
        return Err(Refusal::ModelForbidden { model: name.to_owned() });
    }
    Ok(model)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
