//! What models cost: the catalogue's rows, the operator's own over them, and what a provider is paid of its list prices.
//!
//! The nearest word counts: a price at a target, one among a provider's `prices`, a row of the operator's catalogue, a row
//! of the built-in one. Only what comes from a catalogue is multiplied with `price_factor`: what somebody wrote down is
//! what was agreed on.

use std::collections::HashMap;
use std::path::Path;

use super::build::Build;
use super::file;
use super::problem::{Problems, Route};
use super::value::Decimal;
use super::{Listed, Texts};
use crate::dialect::Abilities;
use crate::policy::auth::fits;
use crate::policy::price::{self, Price, Rates};
use crate::provider::catalog::Catalog;
use crate::provider::{Provider, presets};
use crate::wire::yaml::Node;

/// Names the prices that nobody has told.
const ESTIMATED: &str = "estimate";
/// Of a model that is like none that is known: 15 and 75 dollars for a million, what the dearest of the large providers' models
/// cost.
const DEAR: Rates = Rates {
    input: 15_000_000_000,
    output: 75_000_000_000,
    cached: 15_000_000_000,
    cache_write: 18_750_000_000,
    cache_write_1h: 30_000_000_000,
    audio_input: 15_000_000_000,
    audio_output: 75_000_000_000,
    reasoning: 75_000_000_000,
    request: 0,
    search: 10_000_000,
};
/// Names the prices that come from the file.
const FROM_FILE: &str = "config";
/// Nano-units of one.
const ONE: u64 = 1_000_000_000;

/// What building knows of prices.
#[derive(Debug, Default)]
pub struct Pricing<'t> {
    /// The operator's catalogue.
    own: Option<Catalog<'t>>,
    /// By provider.
    terms: HashMap<String, Terms>,
    pub days: Days,
}

impl<'t> Pricing<'t> {
    pub fn with(own: Option<Catalog<'t>>) -> Pricing<'t> {
        Pricing { own, ..Pricing::default() }
    }
}

/// What a provider is paid.
#[derive(Debug, Default)]
struct Terms {
    /// Of its list prices, in billionths.
    factor: Option<u64>,
    /// By patterns of its names for models.
    prices: Vec<(String, Price)>,
}

/// Moments of prices that depend on the day.
#[derive(Clone, Copy, Debug, Default)]
pub struct Days {
    /// Unix seconds since when the youngest of them holds; 0: all hold from the beginning.
    pub since: u64,
    /// From when the next one holds.
    pub until: Option<u64>,
}

/// The text of the operator's catalogue, where there is one that can be read.
pub(super) fn text(
    name: Option<&str>,
    at: &Path,
    texts: &mut Texts<'_>,
    root: &Node,
    problems: &mut Problems,
) -> Option<String> {
    let route = Route::default().key("catalog");
    let path = super::beside(at, name?);
    let text = texts.plain(&path).and_then(|text| match Catalog::read(&text) {
        Ok(_) => Ok(text),
        Err(flaws) => {
            let lines = flaws.iter().map(|flaw| format!("line {}: {}", flaw.line, flaw.message));
            Err(lines.collect::<Vec<_>>().join("; "))
        }
    });
    text.map_err(|message| problems.on(root, &route, format!("{}: {message}", path.display()))).ok()
}

impl Build<'_> {
    /// Remembers what the file says of a provider's prices.
    pub(super) fn terms(&mut self, id: &str, written: &file::Provider) {
        let route = Route::default().key("providers").key(id);
        let mut prices = Vec::new();
        for (pattern, price) in &written.prices {
            let route = route.key("prices").key(pattern);
            self.patterns(std::slice::from_ref(pattern), &route);
            prices.push((pattern.clone(), self.price(price, &route)));
        }
        // Exact names before patterns, and longer patterns before shorter ones.
        prices.sort_by_key(|(pattern, _)| (pattern.contains('*'), std::cmp::Reverse(pattern.len())));
        let factor = written.price_factor.map(|Decimal(factor)| factor);
        if factor.is_some_and(|factor| factor > 1_000 * ONE) {
            self.wrong(&route.key("price_factor"), "write what part of the list price is paid: 0.85, 1, 1.2");
        }
        self.pricing.terms.insert(id.to_owned(), Terms { factor, prices });
    }

    /// What is known of a model at a provider, and what it costs there.
    pub(super) fn facts(&mut self, provider: &Provider, model: &str) -> (Abilities, Option<Price>) {
        let place = provider.preset.as_deref().unwrap_or(&provider.id);
        let own =
            self.pricing.own.as_ref().and_then(|own| own.lookup(place, model, self.catalogue.now)).map(Listed::of);
        let (abilities, listed) = match own.or_else(|| (self.catalogue.find)(place, model)) {
            Some(Listed { abilities, price, since, until }) => {
                self.pricing.days.since = self.pricing.days.since.max(since);
                self.pricing.days.until = self.pricing.days.until.into_iter().chain(until).min();
                (abilities, Some(price))
            }
            None => (Abilities::default(), None),
        };
        let Some(terms) = self.pricing.terms.get(&provider.id) else { return (abilities, listed) };
        let agreed = terms.prices.iter().find(|(pattern, _)| fits(pattern, model)).map(|(_, price)| price.clone());
        let listed = listed.map(|price| match terms.factor.filter(|factor| *factor != ONE) {
            Some(factor) => price.times(factor),
            None => price,
        });
        (abilities, agreed.or(listed))
    }

    /// A price for a model that has none: the dearest that the catalogue has for the name, or else for any of the provider's.
    pub(super) fn estimate(&self, provider: &Provider, model: &str) -> Price {
        let named = |preset: &str, model: &str| (self.catalogue.find)(preset, model).map(|listed| listed.price);
        // The sandbox has a price for any name.
        let known = presets::names().filter(|preset| !preset.starts_with("sandbox"));
        let alike: Vec<Price> = known.filter_map(|preset| named(preset, model)).collect();
        let own = || {
            let preset = provider.preset.as_deref()?;
            let all = (self.catalogue.models)(preset);
            price::dearest(all.iter().filter_map(|model| named(preset, model)))
        };
        let found = price::dearest(alike.into_iter()).or_else(own);
        Price { version: ESTIMATED.to_owned(), ..found.unwrap_or(Price { rates: DEAR, ..Price::default() }) }
    }

    /// The models that are known of a preset.
    pub(super) fn known_models(&self, preset: &str) -> Vec<String> {
        let mut models = (self.catalogue.models)(preset);
        for model in self.pricing.own.iter().flat_map(|own| own.models(preset)) {
            if !models.contains(&model) {
                models.push(model);
            }
        }
        models
    }

    pub(super) fn price(&mut self, written: &file::Price, route: &Route) -> Price {
        let value = |own: Option<Decimal>, other: u64| own.map_or(other, |own| own.0);
        let (input, output) = (written.input.0, written.output.0);
        let cache_write = value(written.cache_write, input);
        let rates = Rates {
            input,
            output,
            cached: value(written.cached, input),
            cache_write,
            cache_write_1h: value(written.cache_write_1h, cache_write),
            audio_input: value(written.audio_input, input),
            audio_output: value(written.audio_output, output),
            reasoning: value(written.reasoning, output),
            request: value(written.request, 0),
            search: value(written.search, 0),
        };
        let mut tiers: Vec<(u64, Rates)> = Vec::new();
        for (number, tier) in written.tiers.iter().enumerate() {
            if tiers.last().is_some_and(|(above, _)| *above >= tier.above) {
                self.wrong(
                    &route.key("tiers").index(number).key("above"),
                    "write the tiers in ascending order of `above`",
                );
            }
            let cache_write = value(tier.cache_write, tier.input.0);
            let rates = Rates {
                input: tier.input.0,
                output: tier.output.0,
                cached: value(tier.cached, tier.input.0),
                cache_write,
                cache_write_1h: value(tier.cache_write_1h, cache_write),
                audio_input: value(written.audio_input, tier.input.0),
                audio_output: value(written.audio_output, tier.output.0),
                reasoning: value(written.reasoning, tier.output.0),
                ..rates
            };
            tiers.push((tier.above, rates));
        }
        Price { rates, tiers, version: FROM_FILE.to_owned() }
    }
}
