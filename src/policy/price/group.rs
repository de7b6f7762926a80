//! What customers are charged: a mark-up over what calls cost, or prices of one's own, by names of models.
//!
//! A charge is worked out like a cost, from rates and usage, and the rates that made it are kept beside it: so whoever has a
//! row can recompute both, and no rounding but that of a price is ever added.

use std::sync::{Arc, OnceLock};

use super::Price;
use crate::policy::auth::fits;

/// Nano-units of one.
const ONE: u64 = 1_000_000_000;

/// What those are charged who belong to it.
#[derive(Debug, PartialEq, Eq)]
pub struct PriceGroup {
    pub name: String,
    /// Of what a call costs, in billionths, where no tariff fits.
    pub factor: u64,
    /// By patterns of models' names; the first that fits counts.
    pub tariffs: Vec<(String, Tariff)>,
    /// Its place among the groups of its snapshot.
    pub place: usize,
}

/// What is charged for some models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tariff {
    /// So much of what they cost, in billionths.
    Factor(u64),
    /// This, whatever they cost.
    Fixed(Price),
}

/// What is charged for one model at one target.
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    /// Its version names the group, and what it is made of.
    pub price: Price,
    /// As the ledger keeps it ([`Price::stated`]).
    pub rates: Box<str>,
}

impl PriceGroup {
    /// What is charged for a model: by the name that served, or that of the target (`provider/model`), so that no other
    /// name of the same thing is cheaper. `None`: nobody knows what it costs, and it has no price of its own.
    pub fn charge(&self, model: &str, target: &str, cost: Option<&Price>) -> Option<Charge> {
        let tariff = self.tariffs.iter().find(|(pattern, _)| fits(pattern, model) || fits(pattern, target));
        let price = match tariff.map(|(_, tariff)| tariff) {
            Some(Tariff::Fixed(price)) => price.clone(),
            Some(Tariff::Factor(factor)) => marked(cost?, *factor),
            None => marked(cost?, self.factor),
        };
        let price = Price { version: format!("{}: {}", self.name, price.version), ..price };
        Some(Charge { rates: price.stated().into(), price })
    }
}

impl Charge {
    /// Version and rates, as the ledger has them.
    pub fn said(&self) -> (&str, &str) {
        (&self.price.version, &self.rates)
    }
}

fn marked(cost: &Price, factor: u64) -> Price {
    if factor == ONE { cost.clone() } else { cost.times(factor) }
}

/// What each group of a snapshot is charged for one model at one target, found out when it is asked for first.
#[derive(Debug, Default)]
pub struct Charges(Box<[OnceLock<Option<Arc<Charge>>>]>);

impl Charges {
    /// For so many groups.
    pub fn of(groups: usize) -> Charges {
        Charges((0..groups).map(|_| OnceLock::new()).collect())
    }

    /// What a group is charged; `make` works it out. A group of another snapshot must not be asked for here.
    pub fn get(&self, group: &PriceGroup, make: impl FnOnce() -> Option<Charge>) -> Option<Arc<Charge>> {
        match self.0.get(group.place) {
            Some(slot) => slot.get_or_init(|| make().map(Arc::new)).clone(),
            None => make().map(Arc::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rates, cost_decimal};
    use super::*;
    use crate::ir::Usage;

    fn price(input: u64, output: u64) -> Price {
        Price { rates: Rates { input, output, ..Rates::default() }, tiers: Vec::new(), version: "2026-11".into() }
    }

    fn group() -> PriceGroup {
        let fixed = Tariff::Fixed(Price { version: "config".into(), ..price(5 * ONE, 25 * ONE) });
        let tariffs = vec![
            ("claude-*".into(), fixed),
            ("openai/*".into(), Tariff::Factor(2 * ONE)),
            ("free".into(), Tariff::Factor(0)),
        ];
        PriceGroup { name: "retail".into(), factor: 1_250_000_000, tariffs, place: 0 }
    }

    #[test]
    fn the_first_tariff_that_fits_counts_by_either_name() {
        let (cost, usage) = (price(ONE, 2 * ONE), Usage { input: 1_000, output: 10, ..Usage::default() });
        for (model, target, version, charged) in [
            ("gpt", "azure/gpt", "retail: 2026-11 x 1.25", "0.001275"),
            ("gpt", "openai/gpt", "retail: 2026-11 x 2", "0.00204"),
            ("claude-5", "openai/x", "retail: config", "0.00525"),
            ("free", "azure/gpt", "retail: 2026-11 x 0", "0"),
        ] {
            let charge = group().charge(model, target, Some(&cost)).unwrap();
            assert_eq!(charge.price.version, version);
            assert_eq!(cost_decimal(charge.price.cost(&usage)), charged, "{model}");
            assert_eq!(Price::read(&charge.rates).unwrap().rates, charge.price.rates);
        }
        let plain = PriceGroup { factor: ONE, ..group() }.charge("gpt", "azure/gpt", Some(&cost)).unwrap();
        assert_eq!((plain.price.rates, plain.price.version.as_str()), (cost.rates, "retail: 2026-11"));
    }

    #[test]
    fn what_nobody_knows_the_cost_of_is_charged_only_at_a_price_of_its_own() {
        assert_eq!(group().charge("gpt", "azure/gpt", None), None);
        assert!(group().charge("claude-5", "x/y", None).is_some());
    }

    #[test]
    fn a_charge_is_made_once() {
        let charges = Charges::of(1);
        let one = charges.get(&group(), || group().charge("claude-5", "x/y", None)).unwrap();
        let two = charges.get(&group(), || None).unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        let strange = PriceGroup { place: 7, ..group() };
        assert_eq!(charges.get(&strange, || None), None);
    }
}
