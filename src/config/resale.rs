//! What customers are charged, made of what is written.

use std::sync::Arc;

use super::build::Build;
use super::file::{self, File};
use super::problem::{Route, did_you_mean};
use super::value::Decimal;
use crate::policy::price::{PriceGroup, Tariff};

/// Most price groups.
const MOST: usize = 64;
/// Nano-units of one.
const ONE: u64 = 1_000_000_000;

impl Build<'_> {
    /// The price groups, in the order of their names.
    pub(super) fn price_groups(&mut self, file: &File) -> Vec<Arc<PriceGroup>> {
        let route = Route::default().key("price_groups");
        if file.price_groups.len() > MOST {
            self.wrong(&route, format!("{MOST} groups at most"));
        }
        let all = file.price_groups.iter().take(MOST).enumerate();
        all.map(|(place, (name, written))| self.group(place, name, written, &route.key(name))).collect()
    }

    fn group(&mut self, place: usize, name: &str, written: &file::PriceGroup, route: &Route) -> Arc<PriceGroup> {
        let factor = written.factor.map_or(ONE, |factor| self.factor(factor, &route.key("factor")));
        let mut tariffs = Vec::new();
        for (pattern, written) in &written.models {
            let route = route.key("models").key(pattern);
            self.patterns(std::slice::from_ref(pattern), &route);
            let tariff = match (&written.factor, &written.price) {
                (Some(factor), None) => Tariff::Factor(self.factor(*factor, &route.key("factor"))),
                (None, Some(price)) => Tariff::Fixed(self.price(price, &route.key("price"))),
                _ => {
                    self.wrong(&route, "write either `factor` or `price`");
                    continue;
                }
            };
            tariffs.push((pattern.clone(), tariff));
        }
        tariffs.sort_by_key(|(pattern, _)| (pattern.contains('*'), std::cmp::Reverse(pattern.len())));
        Arc::new(PriceGroup { name: name.to_owned(), factor, tariffs, place })
    }

    fn factor(&mut self, Decimal(factor): Decimal, route: &Route) -> u64 {
        if factor > 1_000 * ONE {
            self.wrong(route, "write what of the cost is charged: 1.25, 1, 0.9");
        }
        factor
    }

    /// A reference to a price group.
    pub(super) fn price_group(&mut self, name: Option<&str>, route: &Route) {
        let Some(name) = name else { return };
        // A damaged one has been complained of.
        let written = self.root.member("price_groups").is_some_and(|written| written.member(name).is_some());
        if !written && self.ground.group(name).is_none() {
            let hint = did_you_mean(name, self.ground.groups.iter().map(|group| group.name.as_str()));
            self.wrong(route, format!("there is no `{name}` under `price_groups`: add it there.{hint}"));
        }
    }
}
