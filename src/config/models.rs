//! From models as written to models that can be called: targets with prices, fallbacks, and the names that exist
//! without being written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use http::HeaderValue;

use crate::dialect::Abilities;
use crate::policy::price::{Charges, Price};
use crate::policy::route::{Rules, Shares};
use crate::provider::{Provider, Target, Timeouts};
use crate::wire::yaml::{Node, Value};

use super::build::Build;
use super::file::{self, File};
use super::problem::{Route, did_you_mean};
use super::providers::Account;
use super::routing::Place;
use super::snapshot::{Index, LONGEST_NAME, Lacks, Model, PricedTarget, fold};
use super::value::Span;

impl Build<'_> {
    /// All configured models that serve; the names of everything else go to `index`.
    pub fn models(
        &mut self,
        file: &File,
        accounts: &BTreeMap<String, Account>,
        timeouts: Timeouts,
        index: &mut Index,
    ) -> HashMap<String, Arc<Model>> {
        let mut served = Vec::new();
        for name in self.known.models.clone() {
            let Some((name, written)) = file.models.get_key_value(&name) else { continue };
            let (targets, unset) = self.targets(name, written, accounts);
            let own = &written.timeouts;
            let route = Route::default().key("models").key(name);
            let (rules, sticky) = self.rules(written, &route);
            let split = self.split(name, written, &route);
            let hedge = self.hedge(name, written, &route);
            let shadow = self.shadow(name, written, &route);
            let rulebook = self.rulebook(&written.rules, Some(name), &route.key("rules"));
            let dedup = self.dedup(written, &route);
            let any = own.connect.or(own.first_byte).or(own.answer).or(own.idle).or(own.total).is_some();
            let timeouts = self.timeouts(own, timeouts, &route.key("timeouts"));
            let retry = self.retry(&written.retry, self.routing.retry, &route.key("retry"));
            if !targets.is_empty() || written.targets.is_empty() {
                let shares = Shares::new(targets.iter().map(|target| target.target.weight));
                let lacks = targets.iter().fold(Lacks::default(), |all, one| all.or(Lacks::of(&one.target.abilities)));
                let model = Model {
                    charges: targets.iter().map(|_| Charges::of(self.ground.groups.len())).collect(),
                    said: HeaderValue::from_str(name).ok(),
                    name: name.clone(),
                    targets,
                    shares,
                    lacks,
                    rules,
                    rulebook,
                    sticky,
                    split,
                    hedge,
                    dedup,
                    shadow,
                    usual: self.live.model(name),
                    fallback: Vec::new(),
                    last_resort: None,
                    retry,
                    budget: self.live.budget(name),
                    strict: written.strict,
                    timeouts: any.then_some(timeouts),
                };
                served.push((model, written));
            } else if !unset.is_empty() {
                index.models_asleep.insert(name.clone(), unset);
            }
        }
        for (model, _) in &served {
            for target in &model.targets {
                let id = target.target.id.clone();
                index.implicit.entry(id).or_insert_with_key(|id| Arc::new(self.alone(id, target)));
            }
        }
        for account in accounts.values() {
            if let Account::Live(provider) = account {
                self.catalogued(provider, index);
            }
        }
        self.references(file, accounts, index);

        let mut models = HashMap::new();
        for (mut model, written) in served {
            let live = |other: &&String| {
                !index.models_asleep.contains_key(*other)
                    && (file.models.contains_key(*other) || index.implicit.contains_key(*other))
            };
            model.fallback = written.fallback.iter().filter(live).cloned().collect();
            model.last_resort = written.last_resort.iter().find(live).cloned();
            index.names.push(model.name.clone());
            models.insert(model.name.clone(), Arc::new(model));
        }
        for name in &index.names {
            if let Some(model) = models.get(name) {
                remember(&mut index.folded, name, model);
            }
        }
        // Sorted, so that of two names that fold alike always the same one is found.
        let implicit: BTreeMap<_, _> = index.implicit.iter().collect();
        for (name, model) in implicit {
            remember(&mut index.folded, name, model);
        }
        models
    }

    /// The targets of a model that are awake, and the variables that the others wait for.
    fn targets(
        &mut self,
        name: &str,
        written: &file::Model,
        accounts: &BTreeMap<String, Account>,
    ) -> (Vec<Arc<PricedTarget>>, Vec<String>) {
        let route = Route::default().key("models").key(name);
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            self.wrong(&route, "a model's name is 1 to 256 bytes without spaces");
        }
        let leads_on = |rule: &file::Rule| rule.when.is_none() && rule.model.is_some() && !rule.go_on;
        if written.targets.is_empty() && written.rules.is_empty() {
            self.wrong(&route.key("targets"), "a model needs a target: add `{provider: NAME}`");
        } else if written.targets.is_empty() && !written.rules.last().is_some_and(leads_on) {
            let message = "without targets the last rule must be for every call: `{model: NAME}`, with no `when`";
            self.wrong(&route.key("rules"), message);
        }
        let (mut targets, mut unset) = (Vec::new(), Vec::new());
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        for (number, target) in written.targets.iter().enumerate() {
            let route = route.key("targets").index(number);
            let model = target.model.as_deref().unwrap_or(name);
            if model.is_empty() || model.len() > LONGEST_NAME || model.contains(char::is_control) {
                self.wrong(&route.key("model"), "the provider's name for a model is 1 to 256 bytes");
            }
            if !seen.insert((&target.provider, model)) {
                self.wrong(&route, "this target is already in the list: raise its weight instead");
            }
            let price = target.price.as_ref().map(|price| self.price(price, &route.key("price")));
            match accounts.get(&target.provider) {
                Some(Account::Live(provider)) => {
                    let timeouts = overridden(&written.timeouts, provider.timeouts);
                    let place = self.place(written, number, target, model, provider, &route);
                    targets.push(Arc::new(self.target(provider, model, target, price, timeouts, place)));
                }
                Some(Account::Asleep(variables)) => {
                    let new =
                        variables.iter().filter(|variable| !unset.contains(*variable)).cloned().collect::<Vec<_>>();
                    unset.extend(new);
                }
                // Broken, damaged or unknown, and noted as such.
                Some(Account::Broken) | None => {}
            }
        }
        (targets, unset)
    }

    fn target(
        &mut self,
        provider: &Arc<Provider>,
        model: &str,
        written: &file::Target,
        price: Option<Price>,
        timeouts: Timeouts,
        place: Place,
    ) -> PricedTarget {
        let (known, listed) = self.facts(provider, model);
        let abilities = written.abilities.as_ref().map_or(known.clone(), |own| Abilities {
            context: own.context.or(known.context),
            max_output: own.max_output.or(known.max_output),
            tools: own.tools.or(known.tools),
            vision: own.vision.or(known.vision),
            reasoning: own.reasoning.or(known.reasoning),
            adaptive_thinking: own.adaptive_thinking.or(known.adaptive_thinking),
            structured_output: own.structured_output.or(known.structured_output),
        });
        let id = format!("{}/{model}", provider.id);
        let target =
            Target { id, provider: Arc::clone(provider), model: model.to_owned(), weight: written.weight, abilities };
        let price = price.or(listed).or_else(|| self.estimates.then(|| self.estimate(provider, model)));
        self.priced(target, price, timeouts, place)
    }

    /// Every model that the catalogue knows of a provider's preset, as `provider/model`.
    fn catalogued(&mut self, provider: &Arc<Provider>, index: &mut Index) {
        let Some(preset) = provider.preset.as_deref() else { return };
        for model in self.known_models(preset) {
            let id = format!("{}/{model}", provider.id);
            if index.implicit.contains_key(&id) {
                continue;
            }
            let (abilities, price) = self.facts(provider, &model);
            let target = Target { id: id.clone(), provider: Arc::clone(provider), model, weight: 1, abilities };
            let target = self.plain(target, price);
            index.implicit.insert(id.clone(), Arc::new(self.alone(&id, &target)));
        }
    }

    /// A model with one target, as it exists without being configured.
    fn alone(&self, name: &str, target: &Arc<PricedTarget>) -> Model {
        Model {
            name: name.to_owned(),
            said: HeaderValue::from_str(name).ok(),
            targets: vec![Arc::clone(target)],
            charges: [Charges::of(self.ground.groups.len())].into(),
            shares: Shares::new([1].into_iter()),
            lacks: Lacks::of(&target.target.abilities),
            rules: Rules::default(),
            rulebook: Vec::new(),
            sticky: Vec::new(),
            split: None,
            hedge: None,
            dedup: None,
            shadow: None,
            usual: self.live.model(name),
            fallback: Vec::new(),
            last_resort: None,
            retry: self.routing.retry,
            budget: self.live.budget(name),
            strict: false,
            timeouts: None,
        }
    }

    /// Whether a name is, or may be once its provider is awake or put right, a model as `provider/model`.
    pub(super) fn implicit(&self, name: &str, accounts: &BTreeMap<String, Account>, index: &Index) -> bool {
        let waiting = |provider| !matches!(accounts.get(provider), Some(Account::Live(_)));
        index.implicit.contains_key(name)
            || name.split_once('/').is_some_and(|(provider, _)| self.known.provider(provider) && waiting(provider))
    }

    /// Targets name providers that exist, fallbacks models; and fallbacks lead nowhere in a circle. References are read
    /// from the tree, so that a model with another mistake in it has them checked too.
    fn references(&mut self, file: &File, accounts: &BTreeMap<String, Account>, index: &Index) {
        let root = self.root;
        for (name, model) in root.member("models").into_iter().flat_map(members) {
            let route = Route::default().key("models").key(name);
            for (number, target) in model.member("targets").into_iter().flat_map(items).enumerate() {
                let Some(Value::Text(provider)) = target.member("provider").map(|node| &node.value) else { continue };
                if !self.known.provider(provider) {
                    let hint = did_you_mean(provider, self.known.providers.iter().map(String::as_str));
                    let message = format!("no provider is called `{provider}`: add it under `providers`.{hint}");
                    self.wrong(&route.key("targets").index(number).key("provider"), message);
                }
            }
            if let Some(Value::Text(to)) =
                model.member("shadow").and_then(|shadow| shadow.member("to")).map(|to| &to.value)
            {
                let route = route.key("shadow").key("to");
                if to == name {
                    self.wrong(&route, "a model is no shadow of its own: name another, or `provider/model`");
                } else if !self.known.model(to) && !self.implicit(to, accounts, index) {
                    let hint = did_you_mean(to, self.known.models.iter().map(String::as_str));
                    self.wrong(&route, format!("no model is called `{to}`: add it under `models`.{hint}"));
                }
            }
            let mut seen = HashSet::new();
            for (number, other) in model.member("fallback").into_iter().flat_map(items).enumerate() {
                let Value::Text(other) = &other.value else { continue };
                let route = route.key("fallback").index(number);
                if !self.known.model(other) && !self.implicit(other, accounts, index) {
                    let hint = did_you_mean(other, self.known.models.iter().map(String::as_str));
                    self.wrong(&route, format!("no model is called `{other}`: add it under `models`.{hint}"));
                } else if !seen.insert(other) {
                    self.wrong(&route, "this model is already in the list: keep one");
                } else if file.models.get(other).is_some_and(|model| model.targets.is_empty()) {
                    self.wrong(&route, "rules lead from this model to others: name those that have targets");
                }
            }
        }
        for (name, model) in &file.models {
            let Some(other) = &model.last_resort else { continue };
            let route = Route::default().key("models").key(name).key("last_resort");
            if other == name {
                self.wrong(&route, "a model cannot be its own last resort: name another");
            } else if !self.known.model(other) && !self.implicit(other, accounts, index) {
                let hint = did_you_mean(other, self.known.models.iter().map(String::as_str));
                self.wrong(&route, format!("no model is called `{other}`: add it under `models`.{hint}"));
            }
        }
        for circle in circles(&file.models) {
            let Some(first) = circle.first() else { continue };
            let route = Route::default().key("models").key(first).key("fallback");
            let way = circle.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
            self.wrong(&route, format!("fallbacks go in a circle: {way} -> `{first}`. Take one of them out"));
        }
    }
}

/// The named values of a map.
fn members(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = if let Value::Map(entries) = &node.value { entries.as_slice() } else { &[] };
    entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
}

/// The values of a list.
fn items(node: &Node) -> impl Iterator<Item = &Node> {
    if let Value::List(items) = &node.value { items.iter() } else { [].iter() }
}

fn remember(folded: &mut HashMap<String, Arc<Model>>, name: &str, model: &Arc<Model>) {
    let mut buffer = [0; LONGEST_NAME];
    if let Some(name) = fold(name, &mut buffer) {
        folded.entry(name.to_owned()).or_insert_with(|| Arc::clone(model));
    }
}

/// Timeouts where some are written anew.
pub fn overridden(written: &file::Timeouts, base: Timeouts) -> Timeouts {
    let of = |own: Option<Span>, other| own.map_or(other, |span| span.0);
    Timeouts {
        connect: of(written.connect, base.connect),
        first_byte: of(written.first_byte, base.first_byte),
        answer: of(written.answer, base.answer),
        idle: of(written.idle, base.idle),
        total: of(written.total, base.total),
    }
}

/// Ways that come back to where they began, each once. Without recursion: a chain may be as long as the file.
fn circles(models: &BTreeMap<String, file::Model>) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let mut done: HashSet<&str> = HashSet::new();
    for start in models.keys() {
        if done.contains(start.as_str()) {
            continue;
        }
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        let mut on_way: HashSet<&str> = HashSet::from([start.as_str()]);
        while let Some((name, next)) = way.last_mut() {
            let other = models.get(*name).and_then(|model| model.fallback.get(*next));
            *next += 1;
            match other {
                None => {
                    let name = *name;
                    done.insert(name);
                    on_way.remove(name);
                    way.pop();
                }
                Some(other) if on_way.contains(other.as_str()) => {
                    found.push(way.iter().map(|(name, _)| *name).skip_while(|name| name != other).collect());
                }
                Some(other) if !done.contains(other.as_str()) && models.contains_key(other) => {
                    on_way.insert(other);
                    way.push((other, 0));
                }
                Some(_) => {}
            }
        }
    }
    found
}
