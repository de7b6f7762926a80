//! Every total is a fold over the ledger's rows, and over the rollups of those that are gone: this is the fold.
//!
//! It runs beside the drain, row by row, in one read transaction, so that no row is seen twice or missed while rows become
//! rollups. What it holds in memory are the groups, the accounts, and the ids of requests with more than one attempt (few):
//! a request counts once in each group that has an attempt of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::ir::Usage;
use crate::policy::price::{Nano, Price};
use crate::store::books::Error;
use crate::store::query::{GroupBy, MOST_GROUPS, MOST_ROWS, Query, Unit};
use crate::store::schema::{TIME_SHIFT, first_id};
use crate::store::sketch::Sketch;

/// Most groups that are held.
const MOST_HELD: usize = 200_000;
/// Ends of attempts that are no fault of a provider's.
const FINE: [&str; 5] = ["ok", "client_gone", "draining", "outpaced", "cancelled"];

/// Places of columns in [`ROWS`].
pub(super) mod place {
    pub const ID: usize = 0;
    pub const REQUEST: usize = 1;
    pub const STATE: usize = 2;
    pub const ACCOUNT: usize = 3;
    pub const OUTCOME: usize = 5;
    pub const TAGS: usize = 6;
    pub const INPUT: usize = 7;
    pub const OUTPUT: usize = 8;
    pub const CACHED: usize = 9;
    pub const CACHE_WRITE: usize = 10;
    pub const CACHE_WRITE_1H: usize = 11;
    pub const REASONING: usize = 12;
    pub const OTHER_USAGE: usize = 13;
    pub const ESTIMATED: usize = 14;
    pub const COST: usize = 15;
    pub const UNPRICED: usize = 16;
    pub const LATENCY: usize = 17;
    pub const TTFT: usize = 18;
    pub const SERVED: usize = 19;
    pub const CHARGE: usize = 20;
}

pub(super) const ROWS: &str = "
    SELECT e.id, e.request, e.state, e.account, e.number, e.outcome, e.tags, e.input, e.output, e.cached, e.cache_write,
        e.cache_write_1h, e.reasoning, e.other_usage, e.estimated, e.cost, e.unpriced, e.latency_us, e.ttft_us, e.served,
        coalesce(e.charge, e.cost)
    FROM entries e WHERE e.id >= ? AND e.id < ?";
/// The same of a ledger that an earlier version made: what is charged is what it costs.
const ROWS_BEFORE: &str = "
    SELECT e.id, e.request, e.state, e.account, e.number, e.outcome, e.tags, e.input, e.output, e.cached, e.cache_write,
        e.cache_write_1h, e.reasoning, e.other_usage, e.estimated, e.cost, e.unpriced, e.latency_us, e.ttft_us, e.served,
        e.cost
    FROM entries e WHERE e.id >= ? AND e.id < ?";
const ROLLUPS: &str = "SELECT * FROM rollups e WHERE e.at >= ? AND e.at < ?";

/// What a question is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By group: in the order of time, if time is asked for first, then the dearest first.
    pub rows: Vec<UsageRow>,
    /// A fold of its own: a request with attempts in two groups is one.
    pub total: UsageRow,
    /// Groups that there are, told or not.
    pub groups: usize,
    /// Until when some of the attempts were rolled up (Unix milliseconds): they count at the beginning of their day.
    pub rolled_up: Option<u64>,
}

/// Sums over the rows of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// Name and value of each grouping; the value is empty where an attempt has none.
    pub group: Vec<(String, String)>,
    /// Different requests. One that was tried at two targets counts in both targets' groups.
    pub requests: u64,
    pub attempts: u64,
    /// Attempts that ended in a fault of the provider's.
    pub errors: u64,
    /// Still running: they have cost nothing yet.
    pub open: u64,
    /// Cut off by the death of their process: counted at their reserve.
    pub orphaned: u64,
    /// Attempts whose answer a caller got.
    pub served: u64,
    pub input: u64,
    pub output: u64,
    pub cached: u64,
    /// Of both times to live.
    pub cache_write: u64,
    pub cache_write_1h: u64,
    pub reasoning: u64,
    pub audio_input: u64,
    pub audio_output: u64,
    pub searches: u64,
    /// Nano-dollars.
    pub cost: Nano,
    /// What callers were charged; the same, where they have no price group.
    pub charge: Nano,
    /// What input that was read from caches would have cost more, had it not been.
    pub saved: Nano,
    /// Attempts without a known price: their cost counts as 0 here and is not 0.
    pub unpriced: u64,
    /// Attempts whose usage is our estimate, orphans included.
    pub estimated: u64,
    /// Attempts that were settled, and the sum of their times in microseconds.
    pub settled: u64,
    pub latency_us: u64,
    pub latencies: Sketch,
    /// Attempts that had content, and the sum of their times to the first of it.
    pub answered: u64,
    pub ttft_us: u64,
    pub ttfts: Sketch,
}

impl UsageRow {
    /// Mean time of a settled attempt.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.checked_div(self.settled).unwrap_or(0))
    }

    /// Mean time to the first content.
    pub fn first_token(&self) -> Duration {
        Duration::from_micros(self.ttft_us.checked_div(self.answered).unwrap_or(0))
    }

    /// The sums that add up; requests do not.
    pub(super) fn sums(&mut self) -> [&mut u64; 24] {
        let UsageRow {
            attempts,
            errors,
            open,
            orphaned,
            served,
            input,
            output,
            cached,
            cache_write,
            cache_write_1h,
            reasoning,
            audio_input,
            audio_output,
            searches,
            cost,
            charge,
            saved,
            unpriced,
            estimated,
            settled,
            latency_us,
            answered,
            ttft_us,
            requests,
            group: _,
            latencies: _,
            ttfts: _,
        } = self;
        [
            requests,
            attempts,
            errors,
            open,
            orphaned,
            served,
            input,
            output,
            cached,
            cache_write,
            cache_write_1h,
            reasoning,
            audio_input,
            audio_output,
            searches,
            cost,
            charge,
            saved,
            unpriced,
            estimated,
            settled,
            latency_us,
            answered,
            ttft_us,
        ]
    }

    /// Adds a row that was [`counted`].
    pub(super) fn count(&mut self, counted: &mut UsageRow) {
        for (sum, more) in self.sums().into_iter().zip(counted.sums()) {
            *sum = sum.saturating_add(*more);
        }
        if counted.settled == 1 {
            self.latencies.add(counted.latency_us);
        }
        if counted.answered == 1 {
            self.ttfts.add(counted.ttft_us);
        }
    }

    /// Adds another's sums, requests too.
    pub(super) fn add(&mut self, mut other: UsageRow) {
        for (sum, more) in self.sums().into_iter().zip(other.sums()) {
            *sum = sum.saturating_add(*more);
        }
        self.latencies.merge(&other.latencies);
        self.ttfts.merge(&other.ttfts);
    }
}

/// Names of the columns of a rollup that are sums, in the order of [`UsageRow::sums`].
pub(super) const SUMS: [&str; 24] = [
    "requests",
    "attempts",
    "errors",
    "open",
    "orphaned",
    "served",
    "input",
    "output",
    "cached",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "searches",
    "cost",
    "charge",
    "saved",
    "unpriced",
    "estimated",
    "settled",
    "latency_us",
    "answered",
    "ttft_us",
];

/// Answers a question.
pub(super) fn report(conn: &Connection, query: &Query) -> Result<Report, Error> {
    within(&*conn.unchecked_transaction()?, query)
}

/// Answers it within a transaction.
pub(super) fn within(tx: &Connection, query: &Query) -> Result<Report, Error> {
    // A ledger that an earlier version made, and that this one has not opened to write.
    let rollups = tx.prepare("SELECT 1 FROM rollups LIMIT 0").is_ok();
    let (from, to) = (query.from.unwrap_or(0), query.to.unwrap_or(u64::MAX));
    let ids = [Value::Integer(first_id(from)), Value::Integer(query.to.map_or(i64::MAX, first_id))];
    let days = [from, to].map(|at| Value::Integer(i64::try_from(at).unwrap_or(i64::MAX)));
    let (among, values) = accounts_among(&query.only);
    let mut fold = Fold::new(tx, query);
    if rollups {
        fold.several = several(tx, &ids, &days, &among, &values)?;
    }
    let rows = if tx.prepare("SELECT charge FROM entries LIMIT 0").is_ok() { ROWS } else { ROWS_BEFORE };
    let mut select = tx.prepare_cached(&format!("{rows}{among}"))?;
    let mut rows = select.query(params_from_iter(ids.iter().chain(&values)))?;
    while let Some(row) = rows.next()? {
        fold.row(row)?;
    }
    let mut rolled_up = None;
    if rollups {
        let mut select = tx.prepare_cached(&format!("{ROLLUPS}{among}"))?;
        let mut rows = select.query(params_from_iter(days.iter().chain(&values)))?;
        while let Some(row) = rows.next()? {
            let until = count(row, "until")?;
            if fold.rollup(row)? {
                rolled_up = rolled_up.max(Some(until));
            }
        }
    }
    Ok(fold.report(rolled_up))
}

/// Ids of requests that may have several rows in a range of ids and of days, among those accounts.
pub(super) fn several(
    conn: &Connection,
    ids: &[Value; 2],
    days: &[Value; 2],
    among: &str,
    values: &[Value],
) -> Result<HashSet<[u8; 16]>, Error> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT request FROM entries e WHERE e.id >= ? AND e.id < ?{among}
            AND (e.number <> 1 OR e.account IN (SELECT id FROM accounts WHERE key LIKE '@%'))
        UNION SELECT request FROM rollup_requests WHERE rollup IN (
            SELECT id FROM rollups e WHERE e.at >= ? AND e.at < ?{among})"
    ))?;
    let values = ids.iter().chain(values).chain(days).chain(values);
    let found = select.query_map(params_from_iter(values), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found)
}

/// What narrows rows down to the accounts that are asked for.
fn accounts_among(only: &[(GroupBy, String)]) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut done: Vec<&str> = Vec::new();
    for column in only.iter().filter_map(|(what, _)| what.column()) {
        if done.contains(&column) {
            continue;
        }
        done.push(column);
        let wanted: Vec<_> =
            only.iter().filter(|(what, _)| what.column() == Some(column)).map(|(_, value)| value.clone()).collect();
        let places = vec!["?"; wanted.len()].join(", ");
        conditions.push(format!("coalesce({column}, '') IN ({places})"));
        values.extend(wanted.into_iter().map(Value::Text));
    }
    if conditions.is_empty() {
        return (String::new(), values);
    }
    (format!(" AND e.account IN (SELECT id FROM accounts WHERE {})", conditions.join(" AND ")), values)
}

/// What the rows of an account have in common.
pub(super) struct Known {
    /// In the order of [`COLUMNS`].
    values: [String; COLUMNS.len()],
    pub price: Option<Price>,
}

const COLUMNS: [&str; 13] = [
    "key",
    "user",
    "project",
    "team",
    "organisation",
    "asked",
    "model",
    "provider",
    "target",
    "region",
    "dialect",
    "route",
    "price_version",
];

impl Known {
    /// Reads an account.
    pub fn read(conn: &Connection, id: i64) -> Result<Known, Error> {
        // A ledger of an earlier version has fewer columns.
        let mut select = conn.prepare_cached("SELECT * FROM accounts WHERE id = ?1")?;
        let known = select.query_row([id], |row| {
            let text = |name: &str| row.get::<_, Option<String>>(name).ok().flatten().unwrap_or_default();
            Ok(Known { values: COLUMNS.map(text), price: Price::read(&text("rates")) })
        })?;
        Ok(known)
    }

    fn value(&self, column: &str) -> &str {
        let place = COLUMNS.iter().position(|own| *own == column);
        place.and_then(|place| self.values.get(place)).map_or("", String::as_str)
    }
}

/// What one row adds to the sums, but for its request and the distributions.
pub(super) fn counted(row: &Row<'_>, price: Option<&Price>) -> Result<UsageRow, Error> {
    let n = |place: usize| row.get::<_, Option<i64>>(place).map(|n| u64::try_from(n.unwrap_or(0)).unwrap_or(0));
    let state = n(place::STATE)?;
    let settled = state == 1;
    let outcome = row.get_ref(place::OUTCOME)?.as_str_or_null().ok().flatten();
    let other = row.get_ref(place::OTHER_USAGE)?.as_str_or_null().ok().flatten();
    let rare: Usage = other.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let usage = Usage {
        input: n(place::INPUT)?,
        output: n(place::OUTPUT)?,
        cached: n(place::CACHED)?,
        cache_write: n(place::CACHE_WRITE)?,
        cache_write_1h: n(place::CACHE_WRITE_1H)?,
        reasoning: n(place::REASONING)?,
        stated_total: None,
        ..rare
    };
    let saved = match price {
        Some(price) if usage.cached != 0 => {
            price.cost(&Usage { cached: 0, ..usage }).saturating_sub(price.cost(&usage))
        }
        _ => 0,
    };
    let mut counted = UsageRow {
        attempts: 1,
        errors: u64::from(settled && outcome.is_some_and(|outcome| !FINE.contains(&outcome))),
        open: u64::from(state == 0),
        orphaned: u64::from(state == 2),
        served: n(place::SERVED)?,
        input: usage.input,
        output: usage.output,
        cached: usage.cached,
        cache_write: usage.cache_write.saturating_add(usage.cache_write_1h),
        cache_write_1h: usage.cache_write_1h,
        reasoning: usage.reasoning,
        audio_input: usage.audio_input,
        audio_output: usage.audio_output,
        searches: usage.searches,
        cost: n(place::COST)?,
        charge: n(place::CHARGE)?,
        saved,
        unpriced: n(place::UNPRICED)?,
        estimated: n(place::ESTIMATED)?,
        settled: u64::from(settled),
        latency_us: n(place::LATENCY)?,
        ttft_us: n(place::TTFT)?,
        ..UsageRow::default()
    };
    counted.answered = u64::from(counted.ttft_us > 0);
    Ok(counted)
}

/// A rollup's sums.
pub(super) fn rolled(row: &Row<'_>) -> Result<UsageRow, Error> {
    let mut found = UsageRow::default();
    for (sum, name) in found.sums().into_iter().zip(SUMS) {
        *sum = match name {
            "charge" => charged(row)?,
            _ => count(row, name)?,
        };
    }
    found.latencies = Sketch::read(row.get_ref("latencies")?.as_blob_or_null().ok().flatten().unwrap_or_default());
    found.ttfts = Sketch::read(row.get_ref("ttfts")?.as_blob_or_null().ok().flatten().unwrap_or_default());
    Ok(found)
}

fn count(row: &Row<'_>, name: &str) -> Result<u64, Error> {
    Ok(u64::try_from(row.get::<_, i64>(name)?).unwrap_or(0))
}

/// What is charged in a rollup: what it costs, where an earlier version made it.
fn charged(row: &Row<'_>) -> Result<u64, Error> {
    let charge = row.get::<_, Option<i64>>("charge").ok().flatten();
    charge.map_or_else(|| count(row, "cost"), |charge| Ok(u64::try_from(charge).unwrap_or(0)))
}

/// A group as it grows.
#[derive(Default)]
struct Group {
    sums: UsageRow,
    /// Requests with several attempts that were counted.
    seen: HashSet<[u8; 16]>,
    /// Beginning of its time.
    at: i64,
}

impl Group {
    /// Adds a row that was [`counted`].
    fn add(&mut self, counted: &mut UsageRow, request: [u8; 16], several: bool) {
        counted.requests = u64::from(!several || self.seen.insert(request));
        self.sums.count(counted);
    }
}

struct Fold<'q> {
    conn: &'q Connection,
    query: &'q Query,
    by: &'q [GroupBy],
    several: HashSet<[u8; 16]>,
    accounts: HashMap<i64, Rc<Known>>,
    groups: HashMap<Box<[u8]>, Group>,
    total: Group,
    /// The last calendar part that was looked up for each grouping: its first and last millisecond, and its name.
    calendar: Vec<Option<(i64, i64, String)>>,
    scratch: Vec<u8>,
}

impl<'q> Fold<'q> {
    fn new(conn: &'q Connection, query: &'q Query) -> Fold<'q> {
        let by = query.group_by.get(..MOST_GROUPS).unwrap_or(&query.group_by);
        Fold {
            conn,
            query,
            by,
            several: HashSet::new(),
            accounts: HashMap::new(),
            groups: HashMap::new(),
            total: Group::default(),
            calendar: vec![None; by.len()],
            scratch: Vec::new(),
        }
    }

    fn known(&mut self, id: i64) -> Result<Rc<Known>, Error> {
        Ok(match self.accounts.entry(id) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => place.insert(Rc::new(Known::read(self.conn, id)?)).clone(),
        })
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), Error> {
        let known = self.known(row.get(place::ACCOUNT)?)?;
        let at = row.get::<_, i64>(place::ID)? >> TIME_SHIFT;
        let outcome = row.get_ref(place::OUTCOME)?.as_str_or_null().ok().flatten().unwrap_or("open");
        let tags = row.get_ref(place::TAGS)?.as_str_or_null().ok().flatten();
        if !self.is_asked_for(outcome, tags) {
            return Ok(());
        }
        let mut counted = counted(row, known.price.as_ref())?;
        let request = row.get::<_, [u8; 16]>(place::REQUEST)?;
        let several = self.several.contains(&request);
        self.total.add(&mut counted, request, several);
        if !self.by.is_empty() {
            self.group(&known, at, outcome, tags)?.add(&mut counted, request, several);
        }
        Ok(())
    }

    /// Whether it was asked for.
    fn rollup(&mut self, row: &Row<'_>) -> Result<bool, Error> {
        let known = self.known(row.get("account")?)?;
        let at = row.get::<_, i64>("at")?;
        let outcome = row.get_ref("outcome")?.as_str_or_null().ok().flatten().unwrap_or("open");
        let tags = row.get_ref("tags")?.as_str_or_null().ok().flatten().filter(|tags| !tags.is_empty());
        if !self.is_asked_for(outcome, tags) {
            return Ok(false);
        }
        let rolled = rolled(row)?;
        let mut select = self.conn.prepare_cached("SELECT request FROM rollup_requests WHERE rollup = ?1")?;
        let requests: Vec<[u8; 16]> =
            select.query_map([row.get::<_, i64>("id")?], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let add = |group: &mut Group| {
            group.sums.add(rolled.clone());
            for request in &requests {
                group.sums.requests += u64::from(group.seen.insert(*request));
            }
        };
        add(&mut self.total);
        if !self.by.is_empty() {
            add(self.group(&known, at, outcome, tags)?);
        }
        Ok(true)
    }

    /// What accounts do not say.
    fn is_asked_for(&self, outcome: &str, tags: Option<&str>) -> bool {
        let mut rest = self.query.only.iter().filter(|(what, _)| what.column().is_none());
        rest.all(|(what, _)| {
            let any = |is: &dyn Fn(&str) -> bool| {
                self.query.only.iter().filter(|(other, _)| other == what).any(|(_, value)| is(value))
            };
            match what {
                GroupBy::Outcome => any(&|value| value == outcome),
                GroupBy::Arm => any(&|value| value == tag(tags, "arm")),
                GroupBy::Tag(name) => any(&|value| value == tag(tags, name)),
                _ => true,
            }
        })
    }

    fn group(&mut self, known: &Known, at: i64, outcome: &str, tags: Option<&str>) -> Result<&mut Group, Error> {
        // No text has such a byte.
        const END: u8 = 0xff;
        self.scratch.clear();
        let mut begins = 0;
        for (place, by) in self.by.iter().enumerate() {
            match by {
                GroupBy::Outcome => self.scratch.extend_from_slice(outcome.as_bytes()),
                GroupBy::Arm => self.scratch.extend_from_slice(tag(tags, "arm").as_bytes()),
                GroupBy::Tag(name) => self.scratch.extend_from_slice(tag(tags, name).as_bytes()),
                GroupBy::Time(unit) => {
                    let Some(last) = self.calendar.get_mut(place) else { continue };
                    if !last.as_ref().is_some_and(|(first, end, _)| (*first..*end).contains(&at)) {
                        *last = Some(part(at, *unit, &self.query.zone));
                    }
                    if let Some((first, _, name)) = last {
                        self.scratch.extend_from_slice(name.as_bytes());
                        begins = if place == 0 { *first } else { begins };
                    }
                }
                _ => self.scratch.extend_from_slice(known.value(by.column().unwrap_or_default()).as_bytes()),
            }
            self.scratch.push(END);
        }
        if !self.groups.contains_key(&*self.scratch) {
            if self.groups.len() >= MOST_HELD {
                return Err(Error::TooWide);
            }
            let mut values = self.scratch.split(|byte| *byte == END);
            let group = self.by.iter().map(|by| {
                (by.name().into_owned(), String::from_utf8_lossy(values.next().unwrap_or_default()).into_owned())
            });
            let sums = UsageRow { group: group.collect(), ..UsageRow::default() };
            let new = Group { sums, at: begins, ..Group::default() };
            self.groups.insert(self.scratch.as_slice().into(), new);
        }
        // It was put there just now, where it was not there.
        self.groups.get_mut(&*self.scratch).ok_or(Error::TooWide)
    }

    fn report(self, rolled_up: Option<u64>) -> Report {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        let count = groups.len();
        groups.sort_by(|a, b| {
            let dearer = b.sums.cost.cmp(&a.sums.cost);
            a.at.cmp(&b.at).then(dearer).then_with(|| a.sums.group.cmp(&b.sums.group))
        });
        let limit = self.query.limit.min(MOST_ROWS);
        let rows = groups.into_iter().skip(self.query.skip).take(limit).map(|group| group.sums).collect();
        Report { rows, total: self.total.sums, groups: count, rolled_up }
    }
}

/// The value of a tag; empty where there is none.
fn tag(tags: Option<&str>, name: &str) -> String {
    let Some(tags) = tags else { return String::new() };
    let found: Option<HashMap<String, String>> = serde_json::from_str(tags).ok();
    found.and_then(|mut tags| tags.remove(name)).unwrap_or_default()
}

/// The part of the calendar that a moment is in (Unix milliseconds): its first millisecond, that of the next one, and its
/// name.
pub(super) fn part(at: i64, unit: Unit, zone: &TimeZone) -> (i64, i64, String) {
    let known = || -> Option<(i64, i64, String)> {
        let moment = Timestamp::from_millisecond(at).ok()?.to_zoned(zone.clone());
        let (first, next) = match unit {
            Unit::Hour => {
                // Hours of the clock, also where it is put forward or back by less than one.
                let past = i64::from(moment.minute()) * 60_000
                    + i64::from(moment.second()) * 1_000
                    + i64::from(moment.millisecond());
                let first = Timestamp::from_millisecond(at - past).ok()?.to_zoned(zone.clone());
                let next = first.checked_add(jiff::Span::new().hours(1)).ok()?;
                (first, next)
            }
            Unit::Day => {
                let first = moment.start_of_day().ok()?;
                (first.clone(), first.tomorrow().ok()?.start_of_day().ok()?)
            }
            Unit::Week => {
                let past = moment.weekday().since(Weekday::Monday);
                let monday = moment.date().checked_sub(jiff::Span::new().days(i64::from(past))).ok()?;
                let next = monday.checked_add(jiff::Span::new().weeks(1)).ok()?;
                (monday.to_zoned(zone.clone()).ok()?, next.to_zoned(zone.clone()).ok()?)
            }
            Unit::Month => {
                let first = moment.date().first_of_month();
                let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
                (first.to_zoned(zone.clone()).ok()?, next.to_zoned(zone.clone()).ok()?)
            }
        };
        let name = match unit {
            Unit::Hour => first.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Unit::Day | Unit::Week => first.strftime("%Y-%m-%d").to_string(),
            Unit::Month => first.strftime("%Y-%m").to_string(),
        };
        Some((first.timestamp().as_millisecond(), next.timestamp().as_millisecond(), name))
    };
    // A time that no calendar has.
    known().unwrap_or((at, at.saturating_add(1), String::new()))
}

#[cfg(test)]
mod tests;
