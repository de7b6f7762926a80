//! Rows that have come to their age become sums of their day: retention, without a number that changes by it.
//!
//! What a row says that can be asked for later is in the sums: every count, amounts to the nano, the distributions that
//! percentiles are read from, and which requests have rows elsewhere too. What goes are the ids and the single amounts. A
//! slice of rows is added to its day and deleted in one transaction, so that each row is in the one or in the other. Days are
//! those of one time zone, and a rolled-up day counts at its first instant from then on.

use std::collections::{HashMap, HashSet};

use jiff::tz::TimeZone;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};

use crate::store::books::Error;
use crate::store::fold::{self, Known, ROWS, SUMS, UsageRow, counted, part, place};
use crate::store::query::Unit;
use crate::store::schema::{self, TIME_SHIFT, first_id};

/// Rows of one transaction.
const SLICE: usize = 10_000;
/// Rows with anything above that stay as they are: their sums might not fit. A thousand dollars, twelve days.
const ABSURD: &str = "
    max(cost, coalesce(input, 0), coalesce(output, 0), coalesce(latency_us, 0), coalesce(ttft_us, 0),
        coalesce(cached, 0), coalesce(cache_write, 0), coalesce(cache_write_1h, 0), coalesce(reasoning, 0), coalesce(charge, 0)) > 1099511627776";
const HOUR: u64 = 3_600_000;

/// How long rows are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// Rows of days that ended before that (Unix milliseconds) are rolled up.
    pub before: u64,
    pub zone: TimeZone,
}

/// What is known while a day is being rolled up.
#[derive(Default)]
pub(super) struct Roller {
    /// First and last millisecond of the day, and the requests that may have several rows.
    day: Option<(u64, u64, HashSet<[u8; 16]>)>,
}

/// What is added to one rollup.
#[derive(Default)]
struct Cell {
    sums: UsageRow,
    requests: HashSet<[u8; 16]>,
}

impl Roller {
    /// Rolls up a slice of what is old enough; how many rows that were.
    pub fn slice(&mut self, conn: &Connection, keep: &Keep) -> Result<usize, Error> {
        let before = i64::try_from(keep.before).unwrap_or(i64::MAX);
        let (end, _, _) = part(before, Unit::Day, &keep.zone);
        let end = u64::try_from(end).unwrap_or(0);
        let next =
            format!("SELECT id FROM entries e WHERE e.id < ?1 AND e.state <> 0 AND NOT {ABSURD} ORDER BY id LIMIT 1");
        let next = conn.prepare_cached(&next)?.query_row([first_id(end)], |row| row.get::<_, i64>(0)).optional()?;
        let Some(at) = next.map(|id| id >> TIME_SHIFT) else {
            self.day = None;
            return Ok(0);
        };
        let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
        let (first, last, _) = part(at, Unit::Day, &keep.zone);
        let (first, last) = (u64::try_from(first).unwrap_or(0), u64::try_from(last).unwrap_or(0));
        let known = match self.day.take() {
            Some((day, until, known)) if (day, until) == (first, last) => known,
            // Attempts of one request may lie on both sides of midnight.
            _ => {
                let ids = [first_id(first), first_id(last.saturating_add(24 * HOUR))].map(Value::Integer);
                let days = [first, last].map(|at| Value::Integer(i64::try_from(at).unwrap_or(i64::MAX)));
                fold::several(&tx, &ids, &days, "", &[])?
            }
        };
        let rolled = slice(&tx, first, last, &known)?;
        tx.commit()?;
        self.day = Some((first, last, known));
        Ok(rolled)
    }
}

fn slice(tx: &Transaction<'_>, first: u64, last: u64, several: &HashSet<[u8; 16]>) -> Result<usize, Error> {
    let mut cells: HashMap<(i64, String, String), Cell> = HashMap::new();
    let mut accounts: HashMap<i64, Known> = HashMap::new();
    let (mut rows, mut latest) = (0, 0i64);
    let mut select =
        tx.prepare_cached(&format!("{ROWS} AND e.state <> 0 AND NOT {ABSURD} ORDER BY e.id LIMIT {SLICE}"))?;
    let mut found = select.query([first_id(first), first_id(last)])?;
    while let Some(row) = found.next()? {
        let account: i64 = row.get(place::ACCOUNT)?;
        if let std::collections::hash_map::Entry::Vacant(place) = accounts.entry(account) {
            place.insert(Known::read(tx, account)?);
        }
        let price = accounts.get(&account).and_then(|known| known.price.as_ref());
        let text = |place| row.get::<_, Option<String>>(place).map(Option::unwrap_or_default);
        let cell = cells.entry((account, text(place::OUTCOME)?, text(place::TAGS)?)).or_default();
        let mut one = counted(row, price)?;
        let request = row.get(place::REQUEST)?;
        if several.contains(&request) {
            cell.requests.insert(request);
        } else {
            one.requests = 1;
        }
        cell.sums.count(&mut one);
        (rows, latest) = (rows + 1, row.get(place::ID)?);
    }
    drop(found);
    for ((account, outcome, tags), cell) in cells {
        post(tx, first, last, (account, &outcome, &tags), cell)?;
    }
    let delete = format!("DELETE FROM entries AS e WHERE id >= ?1 AND id <= ?2 AND state <> 0 AND NOT {ABSURD}");
    let deleted = tx.prepare_cached(&delete)?.execute(params![first_id(first), latest])?;
    if deleted != rows {
        // Dropping the transaction undoes it.
        return Err(Error::Miscounted);
    }
    let writable = "UPDATE meta SET value = max(value, ?1) WHERE name = 'writable_by'";
    tx.prepare_cached(writable)?.execute([schema::CHARGES])?;
    Ok(rows)
}

/// Adds to a rollup, which is made where there is none.
fn post(tx: &Transaction<'_>, first: u64, last: u64, place: (i64, &str, &str), cell: Cell) -> Result<(), Error> {
    let (account, outcome, tags) = place;
    let whole = |n: u64| i64::try_from(n).map_err(|_| Error::Miscounted);
    let mut sums = cell.sums;
    let mut select =
        tx.prepare_cached("SELECT * FROM rollups WHERE at = ?1 AND account = ?2 AND outcome = ?3 AND tags = ?4")?;
    let mut found = select.query(params![whole(first)?, account, outcome, tags])?;
    let mut id = None;
    if let Some(row) = found.next()? {
        id = Some(row.get::<_, i64>("id")?);
        sums.add(fold::rolled(row)?);
    }
    drop(found);
    let mut values = vec![
        id.map_or(Value::Null, Value::Integer),
        Value::Integer(whole(first)?),
        Value::Integer(whole(last)?),
        Value::Integer(account),
        Value::Text(outcome.to_owned()),
        Value::Text(tags.to_owned()),
        Value::Blob(sums.latencies.bytes()),
        Value::Blob(sums.ttfts.bytes()),
    ];
    for sum in sums.sums() {
        values.push(Value::Integer(whole(*sum)?));
    }
    let places = vec!["?"; values.len()].join(", ");
    let columns = SUMS.join(", ");
    tx.prepare_cached(&format!(
        "INSERT OR REPLACE INTO rollups (id, at, until, account, outcome, tags, latencies, ttfts, {columns}) VALUES ({places})"
    ))?
    .execute(params_from_iter(&values))?;
    let id = id.unwrap_or_else(|| tx.last_insert_rowid());
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO rollup_requests (rollup, request) VALUES (?1, ?2)")?;
    for request in &cell.requests {
        insert.execute(params![id, request])?;
    }
    Ok(())
}
