//! The list of models, limited to what the key may use, in the caller's dialect.

use std::sync::Arc;

use crate::config::Snapshot;
use crate::config::snapshot::{Key, Model, PricedTarget};
use crate::dialect::{Abilities, Inbound, ListedModel};
use crate::policy::price::{Rates, cost_decimal};

/// The list, in order of names.
pub fn list(snapshot: &Snapshot, key: &Key, inbound: &dyn Inbound, out: &mut Vec<u8>) {
    let mut models: Vec<_> = snapshot.models.values().filter(|model| key.may_use(&model.name)).collect();
    models.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    models.dedup_by(|a, b| a.name == b.name);
    let told: Vec<_> = models.iter().map(|model| Told::of(snapshot, key, model)).collect();
    let listed: Vec<_> = models.iter().zip(&told).map(|(model, told)| told.listed(model)).collect();
    inbound.models(&listed, false, out);
}

/// One model.
pub fn show(snapshot: &Snapshot, key: &Key, model: &Model, inbound: &dyn Inbound, out: &mut Vec<u8>) {
    inbound.model(&Told::of(snapshot, key, model).listed(model), out);
}

/// What is told of a model beside its name.
struct Told {
    owner: String,
    abilities: Vec<&'static str>,
    prices: Vec<(&'static str, String)>,
}

impl Told {
    fn of(snapshot: &Snapshot, key: &Key, model: &Model) -> Told {
        Told { owner: owner(model), abilities: abilities(model), prices: prices(snapshot, key, model) }
    }

    fn listed<'m>(&'m self, model: &'m Model) -> ListedModel<'m> {
        let abilities = || model.targets.iter().map(|target| &target.target.abilities);
        ListedModel {
            name: &model.name,
            owner: &self.owner,
            context: abilities().filter_map(|abilities| abilities.context).min(),
            max_output: abilities().filter_map(|abilities| abilities.max_output).min(),
            abilities: &self.abilities,
            prices: &self.prices,
        }
    }
}

fn owner(model: &Model) -> String {
    let mut providers: Vec<_> = model.targets.iter().map(|target| target.target.provider.id.as_str()).collect();
    providers.dedup();
    if providers.is_empty() {
        // Rules lead from it to others.
        return "portolan".to_owned();
    }
    providers.join(",")
}

fn abilities(model: &Model) -> Vec<&'static str> {
    type Has = fn(&Abilities) -> Option<bool>;
    const ALL: [(&str, Has); 4] = [
        ("tools", |abilities| abilities.tools),
        ("vision", |abilities| abilities.vision),
        ("reasoning", |abilities| abilities.reasoning),
        ("structured_output", |abilities| abilities.structured_output),
    ];
    let can = |has: &Has| model.targets.iter().all(|target| has(&target.target.abilities) == Some(true));
    let named = ALL.iter().filter(|(_, has)| !model.targets.is_empty() && can(has));
    named.map(|(name, _)| *name).collect()
}

/// The most that the key is charged for each part, whichever target serves it; nothing where one of them has no known price.
fn prices(snapshot: &Snapshot, key: &Key, model: &Model) -> Vec<(&'static str, String)> {
    let rates = |target: &Arc<PricedTarget>| match &key.group {
        None => target.price.as_ref().map(|price| price.rates),
        Some(group) => model.charge(snapshot, group, target).map(|charge| charge.price.rates),
    };
    let Some(all) = model.targets.iter().map(rates).collect::<Option<Vec<Rates>>>() else { return Vec::new() };
    type Rate = fn(&Rates) -> u64;
    const PARTS: [(&str, Rate); 7] = [
        ("input", |rates| rates.input),
        ("output", |rates| rates.output),
        ("cached", |rates| rates.cached),
        ("cache_write", |rates| rates.cache_write),
        ("cache_write_1h", |rates| rates.cache_write_1h),
        ("reasoning", |rates| rates.reasoning),
        ("each_call", |rates| rates.request),
    ];
    let parts = PARTS.iter().filter_map(|(name, rate)| Some((*name, all.iter().map(rate).max()?)));
    parts
        .filter(|(name, rate)| *name != "each_call" || *rate != 0)
        .map(|(name, rate)| (name, cost_decimal(rate)))
        .collect()
}
