//! Whether the ledger is right: each cost worked out once more, from the row's own usage and rates, and what must hold
//! between rows.
//!
//! Nothing here uses the arithmetic that made the costs ([`policy::price`](crate::policy::price)): the rates are read as JSON,
//! and the sum is written down as the documentation of providers has it. Two mistakes that are alike are less likely than one.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use crate::store::books::{self, Error};
use crate::store::fold::SUMS;
use crate::store::query;

/// Most findings that are told one by one.
const TOLD: usize = 20;
/// Costs in the ledger are whole numbers of SQLite's: nothing real is above that.
const MOST: u128 = i64::MAX as u128;

/// What was looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rows of attempts.
    pub rows: u64,
    /// Attempts in rollups.
    pub rolled_up: u64,
    /// Costs that were worked out once more and are the same.
    pub recomputed: u64,
    /// Costs that cannot be: rows of versions that did not keep the rates.
    pub without_rates: u64,
    /// Served by a target without a price.
    pub unpriced: u64,
    pub open: u64,
    pub orphaned: u64,
    /// Sum of all costs, in nano-dollars.
    pub cost: u128,
    /// Sum of all charges, those that are the cost among them, and how many of them were worked out once more from rates of
    /// their own.
    pub charge: u128,
    pub charges: u64,
    /// Sum of all differences to what costs and charges should be.
    pub off: u128,
    /// Settlements of attempts of which there is no intent: it was lost to damage.
    pub without_intent: u64,
    /// Segments of the journal that are not yet in the ledger.
    pub undrained: u64,
    /// What is wrong.
    pub wrong: u64,
    /// The first of it.
    pub told: Vec<String>,
}

impl Verdict {
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.told.len() < TOLD {
            self.told.push(what());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            rows, rolled_up, recomputed, charges, without_rates, unpriced, open, orphaned, off, wrong, ..
        } = self;
        write!(
            f,
            "ledger: {rows} attempts, {rolled_up} rolled up, {recomputed} costs recomputed, {charges} charges, {without_rates} without rates, \
             {unpriced} unpriced, {open} open, {orphaned} orphaned, {off} nano off, {wrong} wrong"
        )?;
        for (count, what) in [(self.without_intent, "without an intent"), (self.undrained, "segments not yet drained")]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Looks at every row. Reads beside whoever writes.
///
/// # Errors
/// The ledger cannot be read.
pub fn verify(state_dir: &Path) -> Result<Verdict, Error> {
    let conn = query::opened(&books::path(state_dir))?;
    let mut verdict = Verdict::default();
    let tx = conn.unchecked_transaction()?;
    let verdict_of_file: String = tx.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict_of_file != "ok" {
        verdict.wrong(|| format!("the database itself: {verdict_of_file}"));
    }
    rows(&tx, &mut verdict)?;
    twice(&tx, &mut verdict)?;
    rollups(&tx, &mut verdict)?;
    totals(&tx, &mut verdict)?;
    drop(tx);
    // After the rows: what is drained meanwhile is no finding.
    segments(&conn, state_dir, &mut verdict)?;
    Ok(verdict)
}

fn rows(conn: &Connection, verdict: &mut Verdict) -> Result<(), Error> {
    let mut prices: HashMap<i64, [Option<Value>; 2]> = HashMap::new();
    let mut select = conn.prepare(
        "SELECT e.*, a.rates, a.price_version, a.target, a.charge_rates, a.charge_version FROM entries e LEFT JOIN accounts a ON a.id = e.account ORDER BY e.id",
    )?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        verdict.rows += 1;
        let number = |name: &str| row.get::<_, Option<i64>>(name).map(|n| n.and_then(|n| u64::try_from(n).ok()));
        let text = |name: &str| row.get::<_, Option<String>>(name).map(Option::unwrap_or_default);
        let id = || {
            row.get::<_, [u8; 16]>("attempt")
                .map_or_else(|_| "?".into(), |id| crate::exchange::record::Id(u128::from_be_bytes(id)).to_string())
        };
        let account: i64 = row.get("account")?;
        let Some(rates) = row.get::<_, Option<String>>("rates")? else {
            verdict.wrong(|| format!("{}: its account is missing", id()));
            continue;
        };
        let charge_rates = text("charge_rates")?;
        let read = || [&rates, &charge_rates].map(|rates| serde_json::from_str(rates).ok());
        let [price, charge_price] = prices.entry(account).or_insert_with(read);
        let (state, outcome) = (number("state")?.unwrap_or(9), text("outcome")?);
        let Some(cost) = number("cost")? else {
            verdict.wrong(|| format!("{}: its cost is less than nothing", id()));
            continue;
        };
        verdict.cost += u128::from(cost);
        let charge = number("charge")?;
        verdict.charge += u128::from(charge.unwrap_or(cost));
        if row.get::<_, bool>("unpriced")? {
            verdict.unpriced += 1;
        }
        // Only the row of a settlement that came alone has no number.
        let alone = number("number")? == Some(0);
        verdict.without_intent += u64::from(alone);
        // Of the cost, and of the charge where it has rates of its own.
        let expected = match state {
            0 => {
                verdict.open += 1;
                [Some(0), Some(0)]
            }
            2 => {
                verdict.orphaned += 1;
                if outcome != "orphaned" {
                    verdict.wrong(|| format!("{}: orphaned, and its end is `{outcome}`", id()));
                }
                [number("reserve")?.map(u128::from), number("charge_reserve")?.map(u128::from)]
            }
            1 if row.get::<_, Option<i64>>("settled_at")?.is_none() => {
                verdict.wrong(|| format!("{}: settled, and nobody knows when", id()));
                continue;
            }
            // Its rates went with its intent.
            1 if alone => [None, None],
            1 => {
                let other: Value = serde_json::from_str(&text("other_usage")?).unwrap_or_default();
                let share = text("share")?;
                let part = |name: &str| match name {
                    "input" | "output" | "cached" | "cache_write" | "cache_write_1h" | "reasoning" => {
                        u128::from(row.get::<_, Option<i64>>(name).ok().flatten().map_or(0, i64::unsigned_abs))
                    }
                    rare => other.get(rare).and_then(Value::as_u64).map_or(0, u128::from),
                };
                let used = row.get::<_, Option<i64>>("input")?.is_some();
                let own = [text("price_version")?.is_empty(), text("charge_version")?.is_empty()];
                let [unpriced, uncharged] = own;
                [
                    expected(price.as_ref(), used, &part, &share, (unpriced, 3)),
                    expected(charge_price.as_ref(), used, &part, &share, (uncharged, 4)),
                ]
            }
            _ => {
                verdict.wrong(|| format!("{}: state {state}", id()));
                continue;
            }
        };
        let [cost_expected, charge_expected] = expected;
        match cost_expected {
            None => verdict.without_rates += 1,
            Some(expected) if expected.min(MOST) == u128::from(cost) => verdict.recomputed += 1,
            Some(expected) => {
                verdict.off += expected.abs_diff(u128::from(cost));
                verdict.wrong(|| format!("{}: it cost {cost} nano-dollars, and should have cost {expected}", id()));
            }
        }
        match (charge, charge_expected) {
            (None, _) if state == 0 || number("charge_reserve")?.is_none() => {}
            (Some(_), None) => verdict.without_rates += 1,
            (Some(charge), Some(expected)) if expected.min(MOST) == u128::from(charge) => verdict.charges += 1,
            (charge, expected) => {
                let (charge, expected) = (charge.unwrap_or(cost), expected.unwrap_or(0));
                verdict.off += expected.abs_diff(u128::from(charge));
                verdict.wrong(|| format!("{}: {charge} nano-dollars are charged, and should be {expected}", id()));
            }
        }
    }
    Ok(())
}

/// What an attempt that was settled costs, or what is charged for it; nothing where that cannot be said. `place` is that of the
/// whole amount in the share of one who was told another's answer.
fn expected(
    price: Option<&Value>,
    used: bool,
    part: &dyn Fn(&str) -> u128,
    share: &str,
    (unpriced, place): (bool, usize),
) -> Option<u128> {
    let words: Vec<&str> = share.split(' ').collect();
    if let ["part", callers, "of", ..] = words.as_slice() {
        let cost = words.get(place)?;
        return Some(cost.parse::<u128>().ok()? / callers.parse::<u128>().ok()?.max(1));
    }
    if !used || unpriced {
        return Some(0);
    }
    let cost = formula(price?, part);
    match share.strip_prefix("split ") {
        None => Some(cost),
        Some(callers) => {
            let callers = callers.parse::<u128>().ok()?.max(1);
            Some(cost - cost / callers * (callers - 1))
        }
    }
}

/// Input is billed by what it is: read from a cache, written to one, heard, plain; output by what it is: spoken, thought,
/// plain. Longer prompts have the rates of the highest tier that they are above. Each part ends where its whole does.
fn formula(price: &Value, part: &dyn Fn(&str) -> u128) -> u128 {
    let (input, output) = (part("input"), part("output"));
    let mut rates = price;
    for tier in price.get("tiers").and_then(Value::as_array).into_iter().flatten() {
        if input > tier.get("above").and_then(Value::as_u64).map_or(u128::MAX, u128::from) {
            rates = tier;
        }
    }
    let rate = |name: &str| rates.get(name).and_then(Value::as_u64).map(u128::from);
    let (plain_in, plain_out) = (rate("input").unwrap_or(0), rate("output").unwrap_or(0));
    let mut millionths: u128 = 0;
    let mut rest = input;
    for name in ["cached", "cache_write_1h", "cache_write", "audio_input"] {
        let tokens = part(name).min(rest);
        rest -= tokens;
        millionths = millionths.saturating_add(tokens.saturating_mul(rate(name).unwrap_or(plain_in)));
    }
    millionths = millionths.saturating_add(rest.saturating_mul(plain_in));
    let mut rest = output;
    for name in ["audio_output", "reasoning"] {
        let tokens = part(name).min(rest);
        rest -= tokens;
        millionths = millionths.saturating_add(tokens.saturating_mul(rate(name).unwrap_or(plain_out)));
    }
    millionths = millionths.saturating_add(rest.saturating_mul(plain_out));
    let fees = rate("request").unwrap_or(0) + part("searches").saturating_mul(rate("search").unwrap_or(0));
    // Half a nano-dollar and more is a whole one.
    (millionths.saturating_add(500_000) / 1_000_000).saturating_add(fees).min(u128::from(u64::MAX))
}

/// An attempt has one row.
fn twice(conn: &Connection, verdict: &mut Verdict) -> Result<(), Error> {
    let mut select = conn.prepare("SELECT hex(attempt), count(*) FROM entries GROUP BY attempt HAVING count(*) > 1")?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let (attempt, rows): (String, i64) = (row.get(0)?, row.get(1)?);
        verdict.wrong(|| format!("{attempt}: {rows} rows"));
    }
    Ok(())
}

fn rollups(conn: &Connection, verdict: &mut Verdict) -> Result<(), Error> {
    let counted: Option<i64> = conn.query_row("SELECT sum(attempts) FROM rollups", [], |row| row.get(0))?;
    verdict.rolled_up = u64::try_from(counted.unwrap_or(0)).unwrap_or(0);
    let cost: Option<i64> = conn.query_row("SELECT sum(cost) FROM rollups", [], |row| row.get(0))?;
    verdict.cost += u128::try_from(cost.unwrap_or(0)).unwrap_or(0);
    let charge: Option<i64> =
        conn.query_row("SELECT sum(coalesce(charge, cost)) FROM rollups", [], |row| row.get(0))?;
    verdict.charge += u128::try_from(charge.unwrap_or(0)).unwrap_or(0);
    let least = SUMS.map(|name| format!("{name} < 0")).join(" OR ");
    for (what, broken) in [
        ("a sum is less than nothing", least.as_str()),
        ("attempts are not those that were settled and orphaned", "attempts <> settled + orphaned"),
        ("there are more requests than attempts", "requests > attempts"),
        ("something in it is still open", "open <> 0"),
        ("its account is missing", "account NOT IN (SELECT id FROM accounts)"),
    ] {
        let count: i64 =
            conn.query_row(&format!("SELECT count(*) FROM rollups WHERE {broken}"), [], |row| row.get(0))?;
        if count > 0 {
            verdict.wrong(|| format!("{count} rollups: {what}"));
        }
    }
    Ok(())
}

/// What is told of usage is the sum of what was looked at.
fn totals(conn: &Connection, verdict: &mut Verdict) -> Result<(), Error> {
    let told = crate::store::fold::within(conn, &query::Query::default())?.total;
    let counted = u128::from(verdict.rows) + u128::from(verdict.rolled_up);
    if u128::from(told.attempts) != counted || (u128::from(told.cost) != verdict.cost && verdict.cost < MOST) {
        let (attempts, cost, sum) = (told.attempts, told.cost, verdict.cost);
        verdict.wrong(|| {
            format!("usage tells of {attempts} attempts for {cost} nano-dollars: there are {counted} for {sum}")
        });
    }
    if u128::from(told.charge) != verdict.charge && verdict.charge < MOST {
        let (charge, sum) = (told.charge, verdict.charge);
        verdict.wrong(|| format!("usage tells of {charge} nano-dollars that are charged: there are {sum}"));
    }
    Ok(())
}

/// Where the journal goes on beyond what is drained, for longer than draining takes: nobody serves.
fn segments(conn: &Connection, state_dir: &Path, verdict: &mut Verdict) -> Result<(), Error> {
    let Ok(files) = std::fs::read_dir(crate::store::journal::directory(state_dir)) else { return Ok(()) };
    for file in files.flatten() {
        let Ok(name) = file.file_name().into_string() else { continue };
        if crate::store::segment::Form::of(&name).is_none() {
            continue;
        }
        let drained: Option<i64> =
            conn.query_row("SELECT max(offset) FROM segments WHERE name = ?1", [&name], |row| row.get(0))?;
        let written = file.metadata().map_or(0, |metadata| metadata.len());
        verdict.undrained += u64::from(u64::try_from(drained.unwrap_or(0)).unwrap_or(0) < written);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::Usage;
    use crate::policy::price::{Price, Rates};

    proptest! {
        /// Two ways to the same number.
        #[test]
        fn the_two_formulas_agree(
            counts in any::<[u32; 9]>(), rates in any::<[[u32; 10]; 2]>(), above in any::<u32>(), tiered in any::<bool>(),
        ) {
            let of = |r: [u32; 10]| { let [a, b, c, d, e, f, g, h, i, j] = r.map(u64::from); Rates {
                input: a, output: b, cached: c, cache_write: d, cache_write_1h: e, audio_input: f, audio_output: g,
                reasoning: h, request: i, search: j,
            } };
            let tiers = if tiered { vec![(u64::from(above), of(rates[1]))] } else { Vec::new() };
            let price = Price { rates: of(rates[0]), tiers, version: String::new() };
            let [input, output, cached, cache_write, cache_write_1h, audio_input, audio_output, reasoning, searches] = counts.map(u64::from);
            let usage = Usage { input, output, cached, cache_write, cache_write_1h, audio_input, audio_output, reasoning, searches, ..Usage::default() };
            let stated: Value = serde_json::from_str(&price.stated()).unwrap();
            let part = |name: &str| {
                let part = usage.parts().into_iter().find(|(own, _)| *own == name);
                u128::from(part.unwrap().1)
            };
            prop_assert_eq!(formula(&stated, &part), u128::from(price.cost(&usage)));
        }
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let price: Value = serde_json::from_str(r#"{"input":1000000,"output":0}"#).unwrap();
        let used = |name: &str| if name == "input" { 100 } else { 0 };
        let none = |_: &str| 0;
        let leader = expected(Some(&price), true, &used, "split 3", (false, 3)).unwrap();
        let other = expected(Some(&price), false, &none, "part 3 of 100 900", (false, 3)).unwrap();
        assert_eq!((leader, other, leader + 2 * other), (34, 33, 100));
        assert_eq!(expected(None, false, &none, "part 3 of 100 900", (false, 4)), Some(300), "of what is charged");
        assert_eq!(expected(None, true, &used, "", (false, 3)), None, "rates were not kept");
        assert_eq!(expected(None, true, &used, "", (true, 3)), Some(0), "there were none");
    }
}
