//! A look at the targets of a call, for people: how each of them stood when one was chosen.

use std::sync::Arc;

use super::{OUTPUT, Plan, Why};
use crate::config::snapshot::{Model, PricedTarget};
use crate::exchange::held::{self, Ready};
use crate::policy::route::{self, Ask, Entry, Strategy};

/// Most targets that are told of one look.
const MOST: usize = 64;
/// Most looks that are told of one call.
const MOST_LOOKS: usize = 32;

/// How the targets stood when one was chosen, or none.
#[derive(Clone, Debug)]
pub struct Look {
    /// Monotonic microseconds.
    pub at: u64,
    /// Of the first model that the call may go to.
    pub strategy: Strategy,
    /// Who said so: `rule`, `request`, `key` or `model`.
    pub strategy_from: &'static str,
    pub candidates: Vec<Looked>,
    /// Targets that are left out.
    pub more: usize,
}

/// One target in a look.
#[derive(Clone, Debug)]
pub struct Looked {
    pub model: Arc<Model>,
    pub target: Arc<PricedTarget>,
    pub standing: Standing,
    /// The strategy's figure for it, lowest first; `None` where it has none.
    pub score: Option<f32>,
    /// Dollars, near enough; `None`: unpriced.
    pub expected_usd: Option<f32>,
    /// Seconds to the first token of streams, to the end of whole answers.
    pub latency: f32,
    /// 0 to 1.
    pub success: f32,
    pub in_flight: u32,
    pub chosen: Option<Why>,
    /// Model and place.
    at: (usize, usize),
}

/// Whether a target could be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As far as that goes, which is all there is to say where it is not ready.
    Is(Ready),
    /// The call has been there.
    Tried,
    OutOfRegion,
    LacksAttributes,
    /// Not in the set of a rule.
    Barred {
        rule: String,
    },
    /// It is known to lack something that the request needs.
    Unable,
    /// Another arm of the split than the call's.
    OtherArm,
}

impl Standing {
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Is(Ready::Now) => "ready",
            Standing::Is(Ready::Full { .. }) => "full",
            Standing::Is(Ready::Resting { .. }) => "resting",
            Standing::Tried => "tried",
            Standing::OutOfRegion => "out_of_region",
            Standing::LacksAttributes => "lacks_attributes",
            Standing::Barred { .. } => "barred_by_rule",
            Standing::Unable => "unable",
            Standing::OtherArm => "other_arm",
        }
    }
}

impl Plan {
    /// From now on each look at the targets is kept, to be told.
    pub fn watch(&mut self) {
        if self.looks.is_none() {
            self.looks = Some(Vec::new());
        }
    }

    /// The looks that were kept.
    pub fn looks(&self) -> &[Look] {
        self.looks.as_deref().unwrap_or_default()
    }

    /// How all targets stand, before one is chosen.
    pub(super) fn survey(&mut self, now: u64) {
        if self.looks.as_ref().is_none_or(|looks| looks.len() >= MOST_LOOKS) {
            return;
        }
        self.know_needs();
        let mut candidates = Vec::new();
        let mut more = 0;
        for (number, place) in self.places() {
            if candidates.len() >= MOST {
                more += 1;
            } else if let Some((model, target)) = self.at(number, place) {
                candidates.push(self.looked(number, place, model, target, now));
            }
        }
        let strategy = self.rules(&self.asked).strategy;
        let look = Look { at: now, strategy, strategy_from: self.strategy_from(), candidates, more };
        if let Some(looks) = &mut self.looks {
            looks.push(look);
        }
    }

    /// The one that was chosen after the last survey.
    pub(super) fn surveyed(&mut self, why: Why) {
        let current = self.current;
        let last = self.looks.as_mut().and_then(|looks| looks.last_mut());
        let one = last.and_then(|look| look.candidates.iter_mut().find(|one| Some(one.at) == current));
        if let Some(one) = one {
            one.chosen = Some(why);
        }
    }

    fn looked(&self, number: usize, place: usize, model: &Arc<Model>, target: &Arc<PricedTarget>, now: u64) -> Looked {
        let vitals = &target.vitals;
        let usual = model.usual.get().unwrap_or(OUTPUT.0 as f32);
        let output = self.call.max_output.map_or(usual, |most| usual.min(most as f32));
        let (affinity, _) = self.affinity(model);
        let ask = Ask { stream: self.call.stream, input: self.call.input_estimate, output, affinity, now };
        let rules = self.rules(model);
        let entry = Entry {
            vitals,
            price: target.price.as_ref(),
            weight: target.target.weight,
            tier: self.tier(&rules, target),
            salt: target.salt,
        };
        let expected =
            target.price.as_ref().map(|price| price.expected(ask.input as f32, vitals.cached(), output) / 1e9);
        Looked {
            model: model.clone(),
            target: target.clone(),
            standing: self.standing(number, place, target, now),
            score: route::figure(&rules, &ask, &entry),
            expected_usd: expected,
            latency: vitals.latency(ask.stream, now),
            success: vitals.success(now),
            in_flight: vitals.in_flight(),
            chosen: None,
            at: (number, place),
        }
    }

    fn standing(&self, number: usize, place: usize, target: &Arc<PricedTarget>, now: u64) -> Standing {
        if self.done.contains(&(number, place)) {
            return Standing::Tried;
        }
        if !self.in_region(target) {
            return Standing::OutOfRegion;
        }
        if !self.has_attributes(target) {
            return Standing::LacksAttributes;
        }
        if let Some(rule) = self.decision.barring(target) {
            return Standing::Barred { rule: rule.name.clone() };
        }
        match held::ready(target, now, self.tokens()) {
            Ready::Now if !self.is_able(target) => Standing::Unable,
            Ready::Now if number == 0 && self.arm.is_some() && target.arm != self.arm => Standing::OtherArm,
            ready => Standing::Is(ready),
        }
    }

    fn strategy_from(&self) -> &'static str {
        let said =
            [("rule", self.decision.strategy()), ("request", self.call.controls.routing), ("key", self.key.strategy)];
        said.iter().find(|(_, strategy)| strategy.is_some()).map_or("model", |(who, _)| who)
    }
}
