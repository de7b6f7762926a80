//! Where a call may go at all: by region, attributes, rules and abilities, and what it is told where that is nowhere.

use std::sync::Arc;

use super::Plan;
use crate::config::snapshot::PricedTarget;
use crate::exchange::Refusal;
use crate::policy::route::affinity::Hash;

impl Plan {
    /// All targets by model and place.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<'_> {
        let count = |number| self.model(number).map_or(0, |model| model.targets.len());
        (0..=self.fallback.len() + 1).flat_map(move |number| (0..count(number)).map(move |place| (number, place)))
    }

    /// The target of a place, if the call may go there and has not been there.
    pub(super) fn open(&self, number: usize, place: usize) -> Option<&Arc<PricedTarget>> {
        let (_, target) = self.at(number, place)?;
        let barred = self.done.contains(&(number, place)) || (self.only_last && number <= self.fallback.len());
        let open = !barred && self.in_region(target) && self.has_attributes(target) && self.decision.allows(target);
        open.then_some(target)
    }

    pub(super) fn in_region(&self, target: &PricedTarget) -> bool {
        let (region, wished) = (target.region.as_ref(), &self.call.controls.region);
        let wanted = wished.is_empty() || region.is_some_and(|region| wished.contains(region));
        wanted && self.key.serves_in(region.map(String::as_str))
    }

    pub(super) fn has_attributes(&self, target: &PricedTarget) -> bool {
        let mut wanted = self.call.controls.attributes.iter().chain(&self.key.attributes);
        wanted.all(|attribute| target.attributes.contains(attribute))
    }

    pub(super) fn is_able(&self, target: &PricedTarget) -> bool {
        self.needs.is_none_or(|needs| needs.met_by(&target.target.abilities))
    }

    /// Why no target may serve the call at all.
    pub(super) fn nowhere(&self) -> Refusal {
        let allowed = |target: &Arc<PricedTarget>| self.in_region(target) && self.has_attributes(target);
        let mut all = self.places().filter_map(|(number, place)| self.at(number, place));
        let barring = all.find_map(|(_, target)| self.decision.barring(target).filter(|_| allowed(target)));
        if let Some(rule) = barring {
            return Refusal::RuledOut { rule: rule.name.clone() };
        }
        let mut regions: Vec<_> = self.call.controls.region.iter().map(String::as_str).collect();
        if regions.is_empty() {
            let own = self.key.levels.iter().map(|level| &level.regions).chain([&self.key.regions]);
            regions.extend(own.flatten().map(String::as_str));
        }
        let mut somewhere = self.places().filter_map(|(number, place)| self.at(number, place));
        if somewhere.all(|(_, target)| !self.in_region(target)) {
            return Refusal::NoRegion { regions: regions.join(", ") };
        }
        let wanted = self.call.controls.attributes.iter().chain(&self.key.attributes);
        Refusal::NoAttributes { attributes: wanted.map(String::as_str).collect::<Vec<_>>().join(", ") }
    }

    /// Which line it waits in where nothing has room: the model, and the targets of it that it may go to, where not all.
    pub fn line(&self) -> (String, u64) {
        let bound = |names: &[String]| !names.is_empty();
        let controls = &self.call.controls;
        let bounds = [&controls.region, &controls.attributes, &self.key.attributes];
        let mut targets = 0;
        if self.decision.narrows() || self.key.bound || bounds.into_iter().any(|names| bound(names)) {
            let open = self.places().filter(|(number, place)| self.open(*number, *place).is_some());
            let hash = open.fold(Hash::default(), |hash, (number, place)| {
                hash.with(&number.to_le_bytes()).with(&place.to_le_bytes())
            });
            targets = hash.finish();
        }
        (self.asked.name.clone(), targets)
    }

    /// All that the call may go to, in one number: rules may lead two calls apart that look the same.
    pub fn whereto(&self) -> u64 {
        let names = std::iter::once(&self.asked).chain(&self.fallback);
        let hash = names.fold(Hash::default(), |hash, model| hash.with(model.name.as_bytes()));
        let open = self.places().filter(|(number, place)| self.open(*number, *place).is_some());
        let hash = open.fold(hash, |hash, (number, place)| hash.with(&number.to_le_bytes()).with(&place.to_le_bytes()));
        hash.finish()
    }
}
