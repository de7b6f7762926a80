//! Key tiers: what several keys have in common is written into each of them when the configuration is loaded, so that no
//! call has to look it up.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::build::Build;
use super::file::{File, KeyTier};
use super::problem::{Route, did_you_mean};
use super::providers::{Account, is_id};
use super::snapshot::Index;

/// Of a key that has none.
static NONE: LazyLock<KeyTier> = LazyLock::new(KeyTier::default);

impl Build<'_> {
    /// The tier of a key; one that says nothing where there is none.
    pub(super) fn tier<'t>(
        &mut self,
        tiers: &'t BTreeMap<String, KeyTier>,
        name: Option<&str>,
        route: &Route,
    ) -> &'t KeyTier {
        let Some(name) = name else { return &NONE };
        if let Some(tier) = tiers.get(name) {
            return tier;
        }
        // A damaged one has been complained of.
        if self.root.member("tiers").is_none_or(|written| written.member(name).is_none()) {
            let hint = did_you_mean(name, tiers.keys().map(String::as_str));
            self.wrong(route, format!("no tier is called `{name}`: add it under `tiers`.{hint}"));
        }
        &NONE
    }

    /// Rules, tiers and keys lead to models that exist.
    pub(super) fn led_to(&mut self, file: &File, accounts: &BTreeMap<String, Account>, index: &Index) {
        let root = Route::default();
        let mut named: Vec<(Route, &String, bool)> = Vec::new();
        let chain = |route: Route, models: &Option<Vec<String>>| -> Vec<(Route, String)> {
            let models = models.iter().flatten().enumerate();
            models.map(|(number, model)| (route.key("fallback").index(number), model.clone())).collect()
        };
        let mut chains = Vec::new();
        let of_models =
            file.models.iter().map(|(name, model)| (root.key("models").key(name).key("rules"), &model.rules));
        for (route, rules) in std::iter::once((root.key("rules"), &file.rules)).chain(of_models) {
            for (number, rule) in rules.iter().enumerate() {
                let route = route.index(number);
                named.extend(rule.model.as_ref().map(|model| (route.key("model"), model, true)));
                chains.extend(chain(route, &rule.fallback));
            }
        }
        for (name, model) in &file.models {
            let shadow = model.shadow.as_ref().and_then(|shadow| file.models.get(&shadow.to));
            if shadow.is_some_and(|other| other.targets.is_empty()) {
                let route = root.key("models").key(name).key("shadow").key("to");
                self.wrong(&route, "rules lead from this model to others: name one that has targets");
            }
        }
        for (name, tier) in &file.tiers {
            let route = root.key("tiers").key(name);
            if !is_id(name) {
                self.wrong(&route, "a tier's name is 1 to 64 letters, digits, dots, hyphens and underscores");
            }
            self.attributes(&tier.attributes, &route.key("attributes"));
            chains.extend(chain(route, &tier.fallback));
        }
        for (number, key) in self.key_numbers.clone().into_iter().zip(&file.keys) {
            chains.extend(chain(root.key("keys").index(number), &key.fallback));
        }
        named.extend(chains.iter().map(|(route, model)| (route.clone(), model, false)));
        for (route, model, leads) in named {
            if !self.known.model(model) && !self.implicit(model, accounts, index) {
                let hint = did_you_mean(model, self.known.models.iter().map(String::as_str));
                self.wrong(&route, format!("no model is called `{model}`: add it under `models`.{hint}"));
            } else if !leads && file.models.get(model).is_some_and(|model| model.targets.is_empty()) {
                self.wrong(&route, "rules lead from this model to others: name those that have targets");
            }
        }
    }
}
