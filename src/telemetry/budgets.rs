//! Gauges of budgets, set when metrics are asked for.

use prometheus::{GaugeVec, Registry};

use super::metrics::{opts, registered};
use crate::policy::budget::Spending;

/// Most budgets that are shown, those that are nearest to their end; callers' keys may be many.
const MOST: usize = 1_000;
/// Nano-units of a dollar.
const DOLLAR: f64 = 1e9;

pub(super) struct BudgetGauges {
    ratio: GaugeVec,
    spent: GaugeVec,
    reserved: GaugeVec,
    limit: GaugeVec,
}

impl BudgetGauges {
    pub fn new(registry: &Registry) -> BudgetGauges {
        let gauge =
            |name: &str, help: &str| registered(registry, GaugeVec::new(opts(name, help), &["level", "id", "budget"]));
        BudgetGauges {
            ratio: gauge("budget_used_ratio", "Spent and reserved of a budget's window; 1 is all of it."),
            spent: gauge("budget_spent_usd", "Spent in a budget's window."),
            reserved: gauge("budget_reserved_usd", "Reserved of a budget for attempts under way."),
            limit: gauge("budget_limit_usd", "What may be spent in a budget's window."),
        }
    }

    pub fn set<'s>(&self, spendings: impl Iterator<Item = &'s Spending>, unix_ms: u64) {
        let mut all: Vec<_> = spendings
            .filter_map(|spending| {
                let limit = spending.rule()?.limit() as f64 / DOLLAR;
                let figures = spending.figures(unix_ms);
                let (spent, held) = (figures.spent() as f64 / DOLLAR, figures.held as f64 / DOLLAR);
                let ratio = if limit > 0.0 { (spent + held) / limit } else { 1.0 };
                Some((ratio, spent, held, limit, spending))
            })
            .collect();
        all.sort_by(|one, other| other.0.total_cmp(&one.0));
        // Those that are gone go.
        [&self.ratio, &self.spent, &self.reserved, &self.limit].into_iter().for_each(GaugeVec::reset);
        for (ratio, spent, held, limit, spending) in all.into_iter().take(MOST) {
            let (level, window) = (spending.level(), spending.window().name());
            let labels = [level.kind, &level.id, &window];
            self.ratio.with_label_values(&labels).set(ratio);
            self.spent.with_label_values(&labels).set(spent);
            self.reserved.with_label_values(&labels).set(held);
            self.limit.with_label_values(&labels).set(limit);
        }
    }
}
