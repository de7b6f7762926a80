//! Questions to the ledger: every total is a fold over its rows, read through a connection of its own.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use crate::exchange::record::{Id, Intent, Settlement};
use crate::ir::Usage;
use crate::policy::price::Nano;
use crate::store::books::{self, Error};
use crate::store::schema::{TIME_SHIFT, first_id};

/// Most rows of one answer: the dearest groups, the newest attempts.
pub const MOST_ROWS: usize = 10_000;
/// Most groupings of one question.
const MOST_GROUPS: usize = 8;
const BUSY: Duration = Duration::from_secs(2);
/// Through the view all rows would have to be sorted.
const RECENT: &str = "
    SELECT * FROM attempts WHERE id IN (SELECT id FROM entries ORDER BY id DESC LIMIT ?1) ORDER BY id DESC";

/// What to ask of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub key: Option<String>,
    /// Of the dispatch, in Unix milliseconds; the first included, the last not.
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// No more than eight are used.
    pub group_by: Vec<GroupBy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Key,
    Project,
    /// The model that was tried.
    Model,
    Provider,
    Target,
    Outcome,
    /// Day in UTC: `2026-11-21`.
    Day,
    /// A tag of the calls.
    Tag(String),
}

impl GroupBy {
    pub fn name(&self) -> String {
        match self {
            GroupBy::Key => "key".into(),
            GroupBy::Project => "project".into(),
            GroupBy::Model => "model".into(),
            GroupBy::Provider => "provider".into(),
            GroupBy::Target => "target".into(),
            GroupBy::Outcome => "outcome".into(),
            GroupBy::Day => "day".into(),
            GroupBy::Tag(name) => format!("tag.{name}"),
        }
    }

    /// Reads a grouping by its name.
    pub fn parse(name: &str) -> Option<GroupBy> {
        Some(match name {
            "key" => GroupBy::Key,
            "project" => GroupBy::Project,
            "model" => GroupBy::Model,
            "provider" => GroupBy::Provider,
            "target" => GroupBy::Target,
            "outcome" => GroupBy::Outcome,
            "day" => GroupBy::Day,
            _ => GroupBy::Tag(name.strip_prefix("tag.")?.to_owned()),
        })
    }
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
    pub reasoning: u64,
    /// Nano-dollars.
    pub cost: Nano,
    /// Attempts without a known price: their cost counts as 0 here and is not 0.
    pub unpriced: u64,
    /// Attempts whose usage is our estimate, orphans included.
    pub estimated: u64,
    /// Attempts that were settled, and the sum of their times in microseconds.
    pub settled: u64,
    pub latency_us: u64,
    /// Attempts that had content, and the sum of their times to the first of it.
    pub answered: u64,
    pub ttft_us: u64,
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
}

/// One attempt as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub intent: Intent<'static>,
    pub state: State,
    /// Of an orphan: what it counts for.
    pub settlement: Option<Settlement<'static>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Settled,
    Orphaned,
}

/// The database, opened to read. Its calls block: not for the data path.
pub(super) struct Reader {
    path: PathBuf,
    conn: Mutex<Option<(u64, Connection)>>,
}

impl Reader {
    /// The file is opened at the first question.
    pub fn new(state_dir: &Path) -> Reader {
        Reader { path: books::path(state_dir), conn: Mutex::new(None) }
    }

    pub fn usage(&self, query: &Query) -> Result<Vec<UsageRow>, Error> {
        let (sql, values) = statement(query);
        let names: Vec<String> = query.group_by.iter().take(MOST_GROUPS).map(GroupBy::name).collect();
        self.with(|conn| {
            let mut select = conn.prepare_cached(&sql)?;
            let mut rows = Vec::new();
            let mut found = select.query(params_from_iter(&values))?;
            while let Some(row) = found.next()? {
                rows.push(sums(row, &names)?);
            }
            // Without a grouping and without rows SQLite still gives one row of nothing.
            rows.retain(|row| row.attempts > 0);
            Ok(rows)
        })
    }

    pub fn recent(&self, limit: usize) -> Result<Vec<Attempt>, Error> {
        let limit = i64::try_from(limit.min(MOST_ROWS)).unwrap_or(i64::MAX);
        self.with(|conn| {
            let mut select = conn.prepare_cached(RECENT)?;
            let mut rows = Vec::new();
            let mut found = select.query([limit])?;
            while let Some(row) = found.next()? {
                rows.push(attempt(row)?);
            }
            Ok(rows)
        })
    }

    /// Asks the file that is at the path now: a corrupt ledger may have been moved aside since the last question.
    pub fn with<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut slot = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = fs::metadata(&self.path)?.ino();
        let conn = match slot.take() {
            Some((opened, conn)) if opened == inode => conn,
            _ => {
                let conn = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                conn.busy_timeout(BUSY)?;
                conn
            }
        };
        let answer = ask(&conn)?;
        *slot = Some((inode, conn));
        Ok(answer)
    }
}

/// Sums over halves: SQLite's `sum` fails for a whole table when it passes 2^63, and one absurd row must not do that.
fn sum(expression: &str) -> String {
    format!("coalesce(sum(({expression}) >> 32), 0), coalesce(sum(({expression}) & 4294967295), 0)")
}

fn statement(query: &Query) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut columns = Vec::new();
    for by in query.group_by.iter().take(MOST_GROUPS) {
        columns.push(match by {
            GroupBy::Key => "key".to_owned(),
            GroupBy::Project => "coalesce(project, '')".to_owned(),
            GroupBy::Model => "model".to_owned(),
            GroupBy::Provider => "provider".to_owned(),
            GroupBy::Target => "target".to_owned(),
            GroupBy::Outcome => "coalesce(outcome, 'open')".to_owned(),
            GroupBy::Day => format!("strftime('%Y-%m-%d', (e.id >> {TIME_SHIFT}) / 1000, 'unixepoch')"),
            GroupBy::Tag(name) => {
                values.push(Value::Text(name.clone()));
                "coalesce((SELECT t.value FROM json_each(e.tags) t WHERE t.key = ?), '')".to_owned()
            }
        });
    }
    let groups = columns.len();
    columns.extend(
        [
            "count(DISTINCT request)",
            "count(*)",
            "coalesce(sum(served), 0)",
            "coalesce(sum(state = 0), 0)",
            "coalesce(sum(state = 2), 0)",
            "coalesce(sum(state = 1 AND outcome NOT IN ('ok', 'client_gone', 'draining', 'outpaced', 'cancelled')), 0)",
            "coalesce(sum(estimated), 0)",
            "coalesce(sum(unpriced), 0)",
            "coalesce(sum(state = 1), 0)",
            "coalesce(sum(ttft_us > 0), 0)",
        ]
        .map(str::to_owned),
    );
    columns.extend(
        ["input", "output", "cached", "cache_write", "cache_write_1h", "reasoning", "cost", "latency_us", "ttft_us"]
            .map(sum),
    );
    let mut sql = format!(
        "SELECT {} FROM entries e JOIN accounts a ON a.id = e.account WHERE e.id >= ? AND e.id < ?",
        columns.join(", ")
    );
    values.push(Value::Integer(first_id(query.from.unwrap_or(0))));
    values.push(Value::Integer(query.to.map_or(i64::MAX, first_id)));
    if let Some(key) = &query.key {
        sql.push_str(" AND e.account IN (SELECT id FROM accounts WHERE key = ?)");
        values.push(Value::Text(key.clone()));
    }
    if groups > 0 {
        let places = (1..=groups).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        sql.push_str(&format!(
            " GROUP BY {places} ORDER BY sum(cost >> 32) DESC, sum(cost & 4294967295) DESC, {places}"
        ));
    }
    sql.push_str(&format!(" LIMIT {MOST_ROWS}"));
    (sql, values)
}

fn sums(row: &Row<'_>, names: &[String]) -> Result<UsageRow, Error> {
    let mut at = 0;
    let mut group = Vec::with_capacity(names.len());
    for name in names {
        group.push((name.clone(), row.get(at)?));
        at += 1;
    }
    let mut count = || -> Result<u64, Error> {
        at += 1;
        Ok(u64::try_from(row.get::<_, i64>(at - 1)?).unwrap_or(0))
    };
    let mut found = UsageRow { group, ..UsageRow::default() };
    found.requests = count()?;
    found.attempts = count()?;
    found.served = count()?;
    found.open = count()?;
    found.orphaned = count()?;
    found.errors = count()?;
    found.estimated = count()?;
    found.unpriced = count()?;
    found.settled = count()?;
    found.answered = count()?;
    let mut sum = || -> Result<u64, Error> {
        let (high, low) = (u128::from(count()?), u128::from(count()?));
        Ok(u64::try_from((high << 32) + low).unwrap_or(u64::MAX))
    };
    found.input = sum()?;
    found.output = sum()?;
    found.cached = sum()?;
    found.cache_write = sum()?.saturating_add(sum()?);
    found.reasoning = sum()?;
    found.cost = sum()?;
    found.latency_us = sum()?;
    found.ttft_us = sum()?;
    Ok(found)
}

fn attempt(row: &Row<'_>) -> Result<Attempt, Error> {
    let id = |name: &str| row.get::<_, [u8; 16]>(name).map(|bytes| Id(u128::from_be_bytes(bytes)));
    let text = |name: &str| row.get::<_, String>(name);
    let number = |name: &str| row.get::<_, i64>(name).map(|n| u64::try_from(n).unwrap_or(0));
    let optional = |name: &str| row.get::<_, Option<i64>>(name).map(|n| n.map(|n| u64::try_from(n).unwrap_or(0)));
    let attempt = id("attempt")?;
    let state = match text("state")?.as_str() {
        "open" => State::Open,
        "orphaned" => State::Orphaned,
        _ => State::Settled,
    };
    let intent = Intent {
        attempt,
        request: id("request")?,
        at: number("at")?,
        number: row.get("number")?,
        key: text("key")?.into(),
        project: row.get::<_, Option<String>>("project")?.map(Cow::Owned),
        asked: text("asked")?.into(),
        model: text("model")?.into(),
        provider: text("provider")?.into(),
        target: text("target")?.into(),
        stream: row.get("stream")?,
        price_version: text("price_version")?.into(),
        reserve: number("reserve")?,
        input_estimate: number("input_estimate")?,
        config_version: text("config_version")?.into(),
        tags: row.get::<_, Option<String>>("tags")?.unwrap_or_default().into(),
        team: text("team")?.into(),
        organisation: text("organisation")?.into(),
        user: text("user")?.into(),
        region: text("region")?.into(),
        dialect: text("dialect")?.into(),
        route: text("route")?.into(),
        rates: text("rates")?.into(),
    };
    let other = row.get::<_, Option<String>>("other_usage")?;
    let mut usage = None;
    if let Some(input) = optional("input")? {
        usage = Some(Usage {
            input,
            output: optional("output")?.unwrap_or_default(),
            cached: optional("cached")?.unwrap_or_default(),
            cache_write: optional("cache_write")?.unwrap_or_default(),
            cache_write_1h: optional("cache_write_1h")?.unwrap_or_default(),
            reasoning: optional("reasoning")?.unwrap_or_default(),
            stated_total: optional("stated_total")?,
            ..other.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
        });
    }
    let mut settlement = None;
    if let Some(at) = optional("settled_at")? {
        settlement = Some(Settlement {
            attempt,
            begun: intent.at,
            at,
            outcome: row.get::<_, Option<String>>("outcome")?.unwrap_or_default().into(),
            status: row.get::<_, Option<u16>>("status")?.unwrap_or_default(),
            usage,
            estimated: row.get("estimated")?,
            cost: number("cost")?,
            unpriced: row.get("unpriced")?,
            latency_us: optional("latency_us")?.unwrap_or_default(),
            ttft_us: optional("ttft_us")?.unwrap_or_default(),
            served: row.get("served")?,
            losses: row.get::<_, Option<String>>("losses")?.unwrap_or_default().into(),
            share: row.get::<_, Option<String>>("share")?.unwrap_or_default().into(),
        });
    }
    Ok(Attempt { intent, state, settlement })
}
