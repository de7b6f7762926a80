//! The ledger: one row an attempt, in an embedded SQLite. Totals are folds over its rows, never kept beside them.
//!
//! A thread drains the journal: the records of a segment and the offset they were read up to are written in one
//! transaction, so a record counts exactly once whatever dies when. Rows are keyed by the attempt's id, which makes
//! reading a record twice harmless as well. Segments of processes that died are drained to their end; what they had
//! begun and not settled becomes `orphaned`, at its reserve: visible, and never free.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params, params_from_iter};

use super::journal::{self, Journal};
use crate::exchange::record::{Id, Intent, Record, Settlement};
use crate::ir::Usage;
use crate::policy::price::Nano;

/// Longest time between two drains.
const EVERY: Duration = Duration::from_millis(200);
/// How often segments of dead processes are looked for.
const ADOPT_EVERY: Duration = Duration::from_secs(5);
/// How long a locked database is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The schema, a step for each version; a database is brought from its version to the last.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE attempts (
        attempt BLOB PRIMARY KEY, request BLOB NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,
        at INTEGER NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, project TEXT, asked TEXT NOT NULL, model TEXT NOT NULL,
        provider TEXT NOT NULL, target TEXT NOT NULL, stream INTEGER NOT NULL, price_version TEXT NOT NULL, reserve INTEGER NOT NULL,
        input_estimate INTEGER NOT NULL, config_version TEXT NOT NULL, tags TEXT NOT NULL,
        settled_at INTEGER, outcome TEXT, status INTEGER, input INTEGER, output INTEGER, cached INTEGER, cache_write INTEGER,
        cache_write_1h INTEGER, reasoning INTEGER, usage TEXT, estimated INTEGER NOT NULL DEFAULT 0, cost INTEGER NOT NULL DEFAULT 0,
        unpriced INTEGER NOT NULL DEFAULT 0, latency_us INTEGER, ttft_us INTEGER, served INTEGER NOT NULL DEFAULT 0, losses TEXT
    ) WITHOUT ROWID;
    CREATE INDEX attempts_key_at ON attempts (key, at);
    CREATE INDEX attempts_at ON attempts (at);
    CREATE INDEX attempts_open ON attempts (owner) WHERE state = 'open';
    CREATE TABLE segments (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
"];

/// The ledger of one state directory.
pub struct Ledger {
    path: PathBuf,
    drained: Arc<Drained>,
    reader: Mutex<Option<Connection>>,
    journal: Option<Arc<Journal>>,
}

#[derive(Default)]
struct Drained {
    /// Records of this process that are in the database.
    records: AtomicU64,
    /// Failures to drain, by now.
    failures: AtomicU64,
    nudge: Mutex<bool>,
    woken: Condvar,
}

/// What to ask of the ledger.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub key: Option<String>,
    /// Unix milliseconds, the first included, the last not.
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub group_by: Vec<GroupBy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Key,
    Project,
    Model,
    Provider,
    Target,
    Outcome,
    /// Day in UTC.
    Day,
    /// A tag of the calls.
    Tag(String),
}

/// Sums over the rows of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// Name and value of each grouping.
    pub group: Vec<(String, String)>,
    pub requests: u64,
    pub attempts: u64,
    /// Attempts that did not end well.
    pub errors: u64,
    pub input: u64,
    pub output: u64,
    pub cached: u64,
    pub reasoning: u64,
    pub cost: Nano,
    pub unpriced: u64,
    pub estimated: u64,
}

impl Ledger {
    /// Opens the ledger of a state directory and begins to drain the journal into it.
    ///
    /// # Errors
    /// The database can neither be opened nor made anew.
    pub fn open(state_dir: &Path, journal: Arc<Journal>) -> rusqlite::Result<Ledger> {
        let path = state_dir.join("ledger.sqlite");
        let connection = writable(&path)?;
        let drained = Arc::new(Drained::default());
        let drain = Drain { connection, journal: journal.clone(), drained: drained.clone(), adopted: None };
        let started = std::thread::Builder::new().name("ledger".into()).spawn(move || drain.run());
        started.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(Ledger { path, drained, reader: Mutex::new(None), journal: Some(journal) })
    }

    /// Opens the ledger for reading alone, beside a process that may be serving.
    ///
    /// # Errors
    /// There is none.
    pub fn read_only(state_dir: &Path) -> rusqlite::Result<Ledger> {
        let path = state_dir.join("ledger.sqlite");
        let reader = readable(&path)?;
        Ok(Ledger { path, drained: Arc::default(), reader: Mutex::new(Some(reader)), journal: None })
    }

    /// Waits until all that has been appended to the journal is in the ledger, or the time is over. Whether it is.
    pub fn flush(&self, most: Duration) -> bool {
        let Some(journal) = &self.journal else { return true };
        let wanted = journal.appended();
        let by = Instant::now() + most;
        while self.drained.records.load(Relaxed) < wanted {
            if Instant::now() >= by {
                return false;
            }
            self.drained.nudge();
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Records that are in the journal and not yet in the ledger.
    pub fn lag(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.appended().saturating_sub(self.drained.records.load(Relaxed)))
    }

    /// Drains that failed (a locked or broken database); they are tried again.
    pub fn failures(&self) -> u64 {
        self.drained.failures.load(Relaxed)
    }

    /// Sums over all that a query asks for, whatever its grouping.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn total(&self, query: &Query) -> rusqlite::Result<UsageRow> {
        let whole = Query { group_by: Vec::new(), ..query.clone() };
        Ok(self.usage(&whole)?.pop().unwrap_or_default())
    }

    /// Sums by group, the dearest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn usage(&self, query: &Query) -> rusqlite::Result<Vec<UsageRow>> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *reader {
            Some(connection) => connection,
            none => none.insert(readable(&self.path)?),
        };
        let mut values: Vec<rusqlite::types::Value> = Vec::new();
        let mut columns = Vec::new();
        for group in &query.group_by {
            columns.push(match group {
                GroupBy::Key => "key",
                GroupBy::Project => "coalesce(project, '')",
                GroupBy::Model => "model",
                GroupBy::Provider => "provider",
                GroupBy::Target => "target",
                GroupBy::Outcome => "coalesce(outcome, state)",
                GroupBy::Day => "date(at / 1000, 'unixepoch')",
                GroupBy::Tag(name) => {
                    values.push(format!("$.\"{}\"", name.replace('"', "")).into());
                    "coalesce(json_extract(tags, ?), '')"
                }
            });
        }
        let mut wheres = vec!["1"];
        if let Some(key) = &query.key {
            wheres.push("key = ?");
            values.push(key.clone().into());
        }
        for (bound, sql) in [(query.from, "at >= ?"), (query.to, "at < ?")] {
            if let Some(bound) = bound {
                wheres.push(sql);
                values.push(i64::try_from(bound).unwrap_or(i64::MAX).into());
            }
        }
        let groups: Vec<String> = (1..=columns.len()).map(|n| n.to_string()).collect();
        let selected: String = columns.iter().map(|column| format!("{column}, ")).collect();
        let grouped = if groups.is_empty() { String::new() } else { format!("GROUP BY {}", groups.join(", ")) };
        let sql = format!(
            "SELECT {selected} count(DISTINCT request), count(*), sum(coalesce(outcome, state) NOT IN ('ok', 'open')), \
             sum(coalesce(input, 0)), sum(coalesce(output, 0)), sum(coalesce(cached, 0)), sum(coalesce(reasoning, 0)), \
             sum(cost), sum(unpriced), sum(estimated) FROM attempts WHERE {} {grouped} ORDER BY sum(cost) DESC, 1",
            wheres.join(" AND "),
        );
        let names: Vec<String> = query.group_by.iter().map(GroupBy::name).collect();
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| {
            let mut group = Vec::with_capacity(names.len());
            for (at, name) in names.iter().enumerate() {
                let value: rusqlite::types::Value = row.get(at)?;
                group.push((name.clone(), text(value)));
            }
            let at = names.len();
            let sum = |n: usize| -> rusqlite::Result<u64> {
                Ok(row.get::<_, Option<i64>>(at + n)?.and_then(|sum| u64::try_from(sum).ok()).unwrap_or(0))
            };
            Ok(UsageRow {
                group,
                requests: sum(0)?,
                attempts: sum(1)?,
                errors: sum(2)?,
                input: sum(3)?,
                output: sum(4)?,
                cached: sum(5)?,
                reasoning: sum(6)?,
                cost: sum(7)?,
                unpriced: sum(8)?,
                estimated: sum(9)?,
            })
        })?;
        // Without a grouping and without rows SQLite still gives one row of nothing.
        rows.filter(|row| !matches!(row, Ok(row) if row.attempts == 0)).collect()
    }
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
        let plain = [
            GroupBy::Key,
            GroupBy::Project,
            GroupBy::Model,
            GroupBy::Provider,
            GroupBy::Target,
            GroupBy::Outcome,
            GroupBy::Day,
        ];
        plain
            .into_iter()
            .find(|group| group.name() == name)
            .or_else(|| name.strip_prefix("tag.").map(|tag| GroupBy::Tag(tag.to_owned())))
    }
}

impl Drained {
    fn nudge(&self) {
        *self.nudge.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_one();
    }

    fn sleep(&self) {
        let nudged = self.nudge.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(nudged, EVERY, |nudged| !*nudged);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// The draining thread.
struct Drain {
    connection: Connection,
    journal: Arc<Journal>,
    drained: Arc<Drained>,
    /// When segments of the dead were last looked for.
    adopted: Option<Instant>,
}

impl Drain {
    fn run(mut self) {
        // The thread ends with the ledger and the process: nobody else holds the counters then.
        while Arc::strong_count(&self.drained) > 1 {
            let done = self.drain();
            if done.is_err() {
                self.drained.failures.fetch_add(1, Relaxed);
            }
            if self.adopted.is_none_or(|at| at.elapsed() >= ADOPT_EVERY) {
                self.adopted = Some(Instant::now());
                if self.adopt().is_err() {
                    self.drained.failures.fetch_add(1, Relaxed);
                }
            }
            self.drained.sleep();
        }
    }

    /// Brings this process's own segments up to date.
    fn drain(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let synced = self.journal.sync();
        for path in self.journal.segments() {
            let full = self.journal.is_full(&path);
            let count = apply(&mut self.connection, &path, self.journal.owner(), false)?;
            self.drained.records.fetch_add(count, Relaxed);
            if full && count == 0 {
                self.connection.execute("DELETE FROM segments WHERE name = ?", [name(&path)])?;
                self.journal.remove(&path);
            }
        }
        Ok(synced?)
    }

    /// Drains the segments of processes that died, and orphans what they left open.
    fn adopt(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let own = self.journal.segments();
        let mut dead: HashMap<String, Vec<(PathBuf, File)>> = HashMap::new();
        let mut paths: Vec<_> =
            fs::read_dir(self.journal.dir())?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths.into_iter().filter(|path| !own.contains(path)) {
            let named = name(&path);
            let Some((owner, _)) = named.split_once('.') else { continue };
            let Ok(file) = File::open(&path) else { continue };
            if path.extension().is_some_and(|extension| extension == "segment") && journal::lock(&file) {
                dead.entry(owner.to_owned()).or_default().push((path, file));
            }
        }
        for (owner, segments) in dead {
            for (path, _) in &segments {
                apply(&mut self.connection, path, &owner, true)?;
            }
            let transaction = self.connection.transaction()?;
            transaction.execute(
                "UPDATE attempts SET state = 'orphaned', outcome = 'orphaned', cost = reserve, estimated = 1 WHERE owner = ? AND state = 'open'",
                [&owner],
            )?;
            for (path, _) in &segments {
                transaction.execute("DELETE FROM segments WHERE name = ?", [name(path)])?;
            }
            transaction.commit()?;
            // Only now: had we died before, the next process would have read them again, to the same rows.
            for (path, _) in &segments {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Writes what is new in a segment into the database, with the offset, in one transaction. How many records that were.
fn apply(
    connection: &mut Connection,
    path: &Path,
    owner: &str,
    to_the_end: bool,
) -> Result<u64, Box<dyn std::error::Error>> {
    let name = name(path);
    let offset: Option<i64> =
        connection.query_row("SELECT offset FROM segments WHERE name = ?", [&name], |row| row.get(0)).optional()?;
    let from = offset.and_then(|offset| u64::try_from(offset).ok()).unwrap_or(0);
    let found = journal::read(path, from, to_the_end)?;
    if found.offset == from {
        return Ok(0);
    }
    let transaction = connection.transaction()?;
    for record in &found.records {
        match record {
            Record::Intent(intent) => open(&transaction, intent, owner)?,
            Record::Settlement(settlement) => settle(&transaction, settlement, owner)?,
        }
    }
    transaction.execute(
        "INSERT INTO segments (name, offset) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET offset = excluded.offset",
        params![name, i64::try_from(found.offset)?],
    )?;
    transaction.commit()?;
    Ok(found.records.len() as u64)
}

fn open(transaction: &Transaction<'_>, intent: &Intent, owner: &str) -> rusqlite::Result<()> {
    let tags: serde_json::Map<String, serde_json::Value> =
        intent.tags.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    transaction
        .prepare_cached(
            "INSERT INTO attempts (attempt, request, owner, state, at, number, key, project, asked, model, provider, target, stream, \
             price_version, reserve, input_estimate, config_version, tags) \
             VALUES (?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (attempt) DO NOTHING",
        )?
        .execute(params![
            blob(intent.attempt),
            blob(intent.request),
            owner,
            integer(intent.at),
            intent.number,
            intent.key,
            intent.project,
            intent.asked,
            intent.model,
            intent.provider,
            intent.target,
            intent.stream,
            intent.price_version,
            integer(intent.reserve),
            integer(intent.input_estimate),
            intent.config_version,
            serde_json::Value::Object(tags).to_string(),
        ])?;
    Ok(())
}

fn settle(transaction: &Transaction<'_>, settlement: &Settlement, owner: &str) -> rusqlite::Result<()> {
    let usage = settlement.usage.map(|usage| {
        let mut json = Vec::new();
        crate::wire::writer::object(&mut json, |o| usage.write(o));
        String::from_utf8_lossy(&json).into_owned()
    });
    let part = |part: fn(&Usage) -> u64| settlement.usage.as_ref().map(|usage| integer(part(usage)));
    // A settlement whose intent was lost to damage still makes a row: what was spent is never dropped.
    transaction
        .prepare_cached(
            "INSERT INTO attempts (attempt, request, owner, state, at, number, key, asked, model, provider, target, stream, price_version, \
             reserve, input_estimate, config_version, tags) VALUES (?1, ?1, ?2, 'open', ?3, 0, '', '', '', '', '', 0, '', 0, 0, '', '{}') \
             ON CONFLICT (attempt) DO NOTHING",
        )?
        .execute(params![blob(settlement.attempt), owner, integer(settlement.at)])?;
    transaction
        .prepare_cached(
            "UPDATE attempts SET state = 'settled', settled_at = ?, outcome = ?, status = ?, input = ?, output = ?, cached = ?, cache_write = ?, \
             cache_write_1h = ?, reasoning = ?, usage = ?, estimated = ?, cost = ?, unpriced = ?, latency_us = ?, ttft_us = ?, served = ?, losses = ? \
             WHERE attempt = ? AND state != 'settled'",
        )?
        .execute(params![
            integer(settlement.at),
            settlement.outcome,
            settlement.status,
            part(|usage| usage.input),
            part(|usage| usage.output),
            part(|usage| usage.cached),
            part(|usage| usage.cache_write),
            part(|usage| usage.cache_write_1h),
            part(|usage| usage.reasoning),
            usage,
            settlement.estimated,
            integer(settlement.cost),
            settlement.unpriced,
            integer(settlement.latency_us),
            integer(settlement.ttft_us),
            settlement.served,
            settlement.losses,
            blob(settlement.attempt),
        ])?;
    Ok(())
}

/// Opens the database for writing and brings its schema up to date. A corrupt one is put aside: the journal has what
/// was not drained, and the file can be looked at.
fn writable(path: &Path) -> rusqlite::Result<Connection> {
    match prepared(path) {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if matches!(error.code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) =>
        {
            let seconds =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let aside = path.with_file_name(format!("ledger.sqlite.corrupt-{seconds}"));
            tracing::error!(aside = %aside.display(), "the ledger is corrupt: it was put aside, and a new one begun");
            let _ = fs::rename(path, &aside);
            for side in ["-wal", "-shm"] {
                let _ = fs::remove_file(path.with_file_name(format!("ledger.sqlite{side}")));
            }
            prepared(path)
        }
        other => other,
    }
}

fn prepared(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for (number, step) in (1u32..).zip(MIGRATIONS).skip(version as usize) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
    }
    transaction.commit()?;
    Ok(connection)
}

fn readable(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn blob(id: Id) -> [u8; 16] {
    id.0.to_be_bytes()
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn text(value: rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Text(text) => text,
        Value::Integer(n) => n.to_string(),
        Value::Real(n) => n.to_string(),
        Value::Null | Value::Blob(_) => String::new(),
    }
}

#[cfg(test)]
mod tests;
