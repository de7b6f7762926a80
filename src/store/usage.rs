//! Usage as JSON, for the caller's own endpoint and for the command line: folds over ledger rows, nothing else.

use super::ledger::UsageRow;
use crate::config::snapshot::Currency;
use crate::policy::price;
use crate::wire::json::Number;
use crate::wire::writer::{self, Object};

/// Rows of groups, and the sums over all of them: a fold of its own, since a request with attempts in two groups is one.
pub fn json(rows: &[UsageRow], total: &UsageRow, currencies: &[Currency]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + rows.len() * 256);
    writer::object(&mut out, |o| {
        o.string("object", "usage");
        o.object("total", |o| figures(total, currencies, o));
        o.array("data", |a| {
            for row in rows {
                a.object(|o| {
                    for (name, value) in &row.group {
                        o.string(name, value);
                    }
                    figures(row, currencies, o);
                });
            }
        });
    });
    out
}

fn figures(row: &UsageRow, currencies: &[Currency], o: &mut Object<'_>) {
    o.number("requests", row.requests);
    o.number("attempts", row.attempts);
    o.number("errors", row.errors);
    o.number("input_tokens", row.input);
    o.number("output_tokens", row.output);
    o.number("cached_tokens", row.cached);
    o.number("reasoning_tokens", row.reasoning);
    decimal(o, "cost_usd", row.cost);
    for currency in currencies {
        decimal(o, &format!("cost_{}", currency.code), price::convert(row.cost, currency.per_usd_micro));
    }
}

/// An amount as a JSON number with all its digits.
fn decimal(o: &mut Object<'_>, name: &str, nano: u64) {
    if let Ok(number) = serde_json::from_str::<Number<'_>>(&price::cost_decimal(nano)) {
        o.digits(name, &number);
    }
}
