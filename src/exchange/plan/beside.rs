//! Attempts and answers beside a call's own way: a second target for it, a copy to another model, one answer for several.

use std::sync::Arc;

use super::{CLAIMS, Candidate, Plan};
use crate::config::snapshot::Model;
use crate::exchange::needs::Needs;
use crate::exchange::{Held, affinity};
use crate::policy::Moment;
use crate::policy::coalesce::Coalesce;
use crate::policy::route::affinity::draw;
use crate::policy::route::hedge::{Hedge, Hedges};
use crate::policy::route::shadow::{self, Shadow};

impl Plan {
    /// How the call is hedged, where the current target is one of the model that was asked for.
    pub fn hedge(&self) -> Option<&(Arc<Hedge>, Arc<Hedges>)> {
        self.asked.hedge.as_ref().filter(|_| self.current.is_some_and(|(number, _)| number == 0))
    }

    /// A target for the same call beside the current one, if one is well, able and has room; and its place.
    pub fn beside(
        &self,
        now: Moment,
        fallback: bool,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<(Candidate, Held, (usize, usize))> {
        if self.tried >= self.retry.total_tries || self.left(now).is_zero() {
            return None;
        }
        let mut others = self.clone();
        others.skip();
        let last = if fallback { self.fallback.len() } else { 0 };
        for number in 0..=last {
            for _ in 0..CLAIMS {
                let Some((place, why)) = others.choose(number, true, now.mono, self.tokens(), random) else { break };
                let Some((model, target)) = self.at(number, place) else { break };
                if let Some(held) = Held::take(target, now.mono, self.tokens(), random) {
                    let candidate = Candidate { model: model.clone(), target: target.clone(), why };
                    return Some((candidate, held, (number, place)));
                }
            }
        }
        None
    }

    /// How identical calls of the model that was asked for become one.
    pub fn dedup(&self) -> Option<&Arc<Coalesce>> {
        self.asked.dedup.as_ref()
    }

    /// Whether and whereto calls of the model that was asked for are copied.
    pub fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.asked.shadow.as_ref()
    }

    /// Whether this call is one of those that are copied.
    pub fn is_shadowed(&self, shadow: &Shadow, random: &mut dyn FnMut() -> u64) -> bool {
        let drawn = match &*shadow.by {
            [] => random() % shadow::WHOLE,
            by => draw(affinity::of(&self.call, &self.key, by).0, shadow.salt, shadow::WHOLE),
        };
        drawn < shadow.share
    }

    /// A target of another model for a copy of the call, if one is where the call may go, well, able and has room.
    pub fn shade(&self, model: Arc<Model>, now: Moment, random: &mut dyn FnMut() -> u64) -> Option<(Candidate, Held)> {
        let mut copy = self.clone();
        copy.needs = Some(Needs::of(&self.call, model.lacks));
        (copy.fallback, copy.done) = (Vec::new(), Vec::new());
        (copy.current, copy.arm) = (None, None);
        copy.asked = model;
        for _ in 0..CLAIMS {
            let (place, why) = copy.choose(0, true, now.mono, self.tokens(), random)?;
            let (model, target) = copy.at(0, place)?;
            if let Some(held) = Held::take(target, now.mono, self.tokens(), random) {
                return Some((Candidate { model: model.clone(), target: target.clone(), why }, held));
            }
        }
        None
    }

    /// A target was tried beside the current one, and is out of the question from now on.
    pub fn passed(&mut self, place: (usize, usize)) {
        if Some(place) != self.current && !self.done.contains(&place) {
            self.done.push(place);
            self.tried += 1;
        }
    }
}
