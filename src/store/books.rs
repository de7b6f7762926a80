//! The ledger as it is written: one row for each attempt, in an embedded SQLite.
//!
//! Records and the place they were read up to are committed in one transaction, and rows are written by attempt id:
//! so a record counts once, wherever a crash falls and however often a segment is read again. Several processes may
//! write at once (SQLite's own locks order them), each from its own segments. What a row holds is what the records
//! said; every total is computed from rows ([`query`](crate::store::query)).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, named_params, params};

use crate::exchange::record::{Id, Intent, Record, Settlement};
use crate::ir::Usage;
use crate::wire::writer;

/// How long SQLite waits for another process before it says "busy". Nobody's call waits here, only the drain.
const BUSY: Duration = Duration::from_secs(2);
/// Up to this size a database is checked whole when it is opened.
const CHECK: u64 = 16 << 20;

/// What leads from each schema to the next; `user_version` counts them. Append only. An older binary reads and writes
/// a newer schema as long as the ledger's `writable_by` allows it, so additions come with defaults and nothing is
/// renamed.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE attempts (
        attempt BLOB PRIMARY KEY, request BLOB NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,
        at INTEGER NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, project TEXT, asked TEXT NOT NULL,
        model TEXT NOT NULL, provider TEXT NOT NULL, target TEXT NOT NULL, stream INTEGER NOT NULL,
        price_version TEXT NOT NULL, reserve INTEGER NOT NULL, input_estimate INTEGER NOT NULL,
        config_version TEXT NOT NULL, tags TEXT NOT NULL,
        settled_at INTEGER, outcome TEXT, status INTEGER, input INTEGER, output INTEGER, cached INTEGER,
        cache_write INTEGER, cache_write_1h INTEGER, reasoning INTEGER, usage TEXT,
        estimated INTEGER NOT NULL DEFAULT 0, cost INTEGER NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
        latency_us INTEGER, ttft_us INTEGER, served INTEGER NOT NULL DEFAULT 0, losses TEXT
    ) WITHOUT ROWID;
    CREATE INDEX attempts_key_at ON attempts (key, at);
    CREATE INDEX attempts_at ON attempts (at);
    CREATE INDEX attempts_open ON attempts (owner) WHERE state = 'open';
    CREATE TABLE segments (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
    INSERT INTO meta (name, value) VALUES ('writable_by', 1);
",
];

const INTENT: &str = "
    INSERT INTO attempts (attempt, request, owner, state, at, number, key, project, asked, model, provider, target,
        stream, price_version, reserve, input_estimate, config_version, tags)
    VALUES (:attempt, :request, :owner, 'open', :at, :number, :key, :project, :asked, :model, :provider, :target,
        :stream, :price_version, :reserve, :input_estimate, :config_version, :tags)
    ON CONFLICT (attempt) DO UPDATE SET request = excluded.request, at = excluded.at, number = excluded.number,
        key = excluded.key, project = excluded.project, asked = excluded.asked, model = excluded.model,
        provider = excluded.provider, target = excluded.target, stream = excluded.stream,
        price_version = excluded.price_version, reserve = excluded.reserve,
        input_estimate = excluded.input_estimate, config_version = excluded.config_version, tags = excluded.tags";

/// Intent and settlement at once.
const WHOLE: &str = "
    INSERT INTO attempts (attempt, request, owner, state, at, number, key, project, asked, model, provider, target,
        stream, price_version, reserve, input_estimate, config_version, tags, settled_at, outcome, status, input,
        output, cached, cache_write, cache_write_1h, reasoning, usage, estimated, cost, unpriced, latency_us, ttft_us,
        served, losses)
    VALUES (?1, ?2, ?3, 'settled', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
        ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34)
    ON CONFLICT (attempt) DO NOTHING";

/// Makes a row where the intent was lost to damage: what was spent is never dropped. The last settlement counts, but
/// one that only says that the answer is still being drained never undoes a final one.
const SETTLEMENT: &str = "
    INSERT INTO attempts (attempt, request, owner, state, at, number, key, asked, model, provider, target, stream,
        price_version, reserve, input_estimate, config_version, tags, settled_at, outcome, status, input, output,
        cached, cache_write, cache_write_1h, reasoning, usage, estimated, cost, unpriced, latency_us, ttft_us, served,
        losses)
    VALUES (:attempt, :attempt, :owner, 'settled', :at, 0, '', '', '', '', '', 0,
        '', 0, 0, '', '{}', :at, :outcome, :status, :input, :output,
        :cached, :cache_write, :cache_write_1h, :reasoning, :usage, :estimated, :cost, :unpriced, :latency_us,
        :ttft_us, :served, :losses)
    ON CONFLICT (attempt) DO UPDATE SET state = 'settled', settled_at = excluded.settled_at,
        outcome = excluded.outcome, status = excluded.status, input = excluded.input, output = excluded.output,
        cached = excluded.cached, cache_write = excluded.cache_write, cache_write_1h = excluded.cache_write_1h,
        reasoning = excluded.reasoning, usage = excluded.usage, estimated = excluded.estimated, cost = excluded.cost,
        unpriced = excluded.unpriced, latency_us = excluded.latency_us, ttft_us = excluded.ttft_us,
        served = excluded.served, losses = excluded.losses
    WHERE state <> 'settled' OR outcome = 'draining' OR excluded.outcome <> 'draining'";

const ORPHAN: &str = "
    UPDATE attempts SET state = 'orphaned', settled_at = :at, outcome = 'orphaned', estimated = 1, cost = reserve,
        unpriced = price_version = '', input = input_estimate, output = 0
    WHERE state = 'open' AND owner = :owner";

/// Why the ledger could not be read or written.
#[derive(Debug)]
pub enum Error {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    /// Written by a version whose ledger this one must not write to.
    TooNew {
        schema: u32,
    },
    /// A crash planted by a test.
    #[cfg(test)]
    Fuse,
}

impl Error {
    /// The file is not a database, or no longer one.
    pub fn is_corrupt(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// Another process holds the database.
    pub fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Sqlite(error) => write!(f, "{error}"),
            Error::Io(error) => write!(f, "{error}"),
            Error::TooNew { schema } => {
                write!(f, "schema {schema} is newer than this version may write to ({})", MIGRATIONS.len())
            }
            #[cfg(test)]
            Error::Fuse => f.write_str("fuse"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::Sqlite(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

/// Where the database lies.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.sqlite")
}

/// The database, opened to write. Used by the drain alone.
pub(super) struct Books {
    conn: Connection,
    path: PathBuf,
    /// Which file was opened; a corrupt one may have been moved away by another process since.
    inode: u64,
    /// How far each segment is drained, as far as it was asked for.
    drained: HashMap<String, u64>,
}

impl Books {
    /// Opens the ledger, making or migrating it where needed. A corrupt file, or the one `condemned` as such by its
    /// inode, is moved aside, and its new name told.
    pub fn open(state_dir: &Path, condemned: Option<u64>, now: u64) -> Result<(Books, Option<PathBuf>), Error> {
        let path = path(state_dir);
        // Two processes that find the same file corrupt must not move each other's new one.
        let lock = File::create(state_dir.join("ledger.lock"))?;
        lock.lock()?;
        let opened = match (condemned, fs::metadata(&path)) {
            (Some(inode), Ok(metadata)) if metadata.ino() == inode => Err(corrupt(None)),
            _ => Books::open_file(&path),
        };
        match opened {
            Ok(books) => Ok((books, None)),
            Err(error) if error.is_corrupt() => {
                let aside = state_dir.join(format!("ledger.sqlite.corrupt-{now}"));
                fs::rename(&path, &aside)?;
                for part in ["-wal", "-shm"] {
                    let with = |path: &Path| PathBuf::from(format!("{}{part}", path.display()));
                    match fs::rename(with(&path), with(&aside)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                        _ => {}
                    }
                }
                Ok((Books::open_file(&path)?, Some(aside)))
            }
            Err(error) => Err(error),
        }
    }

    fn open_file(path: &Path) -> Result<Books, Error> {
        let mut conn = Connection::open(path)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "normal")?;
        let metadata = fs::metadata(path)?;
        if metadata.len() <= CHECK {
            let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(corrupt(Some(verdict)));
            }
        }
        migrate(&mut conn)?;
        conn.query_row("SELECT count(*) FROM segments", [], |row| row.get::<_, i64>(0))?;
        conn.query_row("SELECT key FROM attempts ORDER BY at DESC LIMIT 1", [], |row| row.get::<_, String>(0))
            .optional()?;
        Ok(Books { conn, path: path.to_owned(), inode: metadata.ino(), drained: HashMap::new() })
    }

    /// The file is still the one at its path.
    pub fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }

    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// How many bytes of a segment are in the ledger.
    pub fn drained(&mut self, segment: &str) -> Result<u64, Error> {
        if let Some(drained) = self.drained.get(segment) {
            return Ok(*drained);
        }
        let drained = self
            .conn
            .query_row("SELECT offset FROM segments WHERE name = ?1", [segment], |row| row.get::<_, i64>(0))
            .optional()?;
        let drained = drained.map_or(0, |n| u64::try_from(n).unwrap_or(0));
        self.drained.insert(segment.to_owned(), drained);
        Ok(drained)
    }

    /// Applies records of a segment, and notes that it is drained up to `drained`: all or nothing.
    pub fn apply(&mut self, segment: &str, owner: &str, records: &[Record], drained: u64) -> Result<(), Error> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Most attempts begin and end between two drains: their rows are written once, not opened and then settled.
        // One that was settled twice is left to the plain way, which knows which settlement counts.
        let mut settled: HashMap<Id, Option<&Settlement>> = HashMap::new();
        for record in records {
            if let Record::Settlement(settlement) = record {
                settled.entry(settlement.attempt).and_modify(|one| *one = None).or_insert(Some(settlement));
            }
        }
        let mut written: HashSet<Id> = HashSet::new();
        for record in records {
            match record {
                Record::Intent(intent) => match settled.get(&intent.attempt).copied().flatten() {
                    Some(end) if whole_row(&tx, owner, intent, end)? => {
                        written.insert(intent.attempt);
                    }
                    _ => open_row(&tx, owner, intent)?,
                },
                Record::Settlement(settlement) if written.contains(&settlement.attempt) => {}
                Record::Settlement(settlement) => settle_row(&tx, owner, settlement)?,
            }
        }
        tx.prepare_cached("INSERT OR REPLACE INTO segments (name, offset) VALUES (?1, ?2)")?
            .execute(params![segment, whole(drained)])?;
        tx.commit()?;
        self.drained.insert(segment.to_owned(), drained);
        Ok(())
    }

    /// Counts what a dead process left open for its reserve; returns how many attempts that were.
    pub fn orphan(&mut self, owner: &str, now: u64) -> Result<usize, Error> {
        Ok(self.conn.execute(ORPHAN, named_params! { ":owner": owner, ":at": whole(now) })?)
    }

    /// Brings everything committed so far to the disk and into the database file itself. `false`: a reader is in the
    /// way for now. What `synchronous = NORMAL` leaves to later must not be left when a segment's file goes.
    pub fn checkpoint(&self) -> Result<bool, Error> {
        Ok(self.conn.query_row("PRAGMA wal_checkpoint(full)", [], |row| row.get::<_, i64>(0))? == 0)
    }

    /// Forgets a segment whose file is gone.
    pub fn forget(&mut self, segment: &str) -> Result<(), Error> {
        self.conn.execute("DELETE FROM segments WHERE name = ?1", [segment])?;
        self.drained.remove(segment);
        Ok(())
    }

    /// Every segment the ledger knows.
    pub fn segments(&self) -> Result<Vec<String>, Error> {
        let mut select = self.conn.prepare_cached("SELECT name FROM segments")?;
        let names = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }

    /// Processes that have open attempts.
    pub fn open_owners(&self) -> Result<Vec<String>, Error> {
        let mut select = self.conn.prepare_cached("SELECT DISTINCT owner FROM attempts WHERE state = 'open'")?;
        let owners = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(owners)
    }
}

fn corrupt(verdict: Option<String>) -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Error::Sqlite(rusqlite::Error::SqliteFailure(code, verdict))
}

/// Brings the schema to this version, or refuses a ledger that this version must not write to.
fn migrate(conn: &mut Connection) -> Result<(), Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let schema: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let ours = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if schema > ours {
        let oldest: u32 = tx.query_row("SELECT value FROM meta WHERE name = 'writable_by'", [], |row| row.get(0))?;
        return if oldest > ours { Err(Error::TooNew { schema }) } else { Ok(()) };
    }
    for (number, migration) in (1u32..).zip(MIGRATIONS) {
        if number > schema {
            tx.execute_batch(migration)?;
            tx.pragma_update(None, "user_version", number)?;
        }
    }
    tx.commit()?;
    Ok(())
}

/// Writes a new row whole. `false`: there is one of this attempt already.
fn whole_row(tx: &Transaction<'_>, owner: &str, intent: &Intent, end: &Settlement) -> Result<bool, Error> {
    let usage = end.usage.as_ref();
    let count = |field: fn(&Usage) -> u64| usage.map(|usage| whole(field(usage)));
    let rows = tx.prepare_cached(WHOLE)?.execute(params![
        intent.attempt.0.to_be_bytes(),
        intent.request.0.to_be_bytes(),
        owner,
        whole(intent.at),
        intent.number,
        intent.key,
        intent.project,
        intent.asked,
        intent.model,
        intent.provider,
        intent.target,
        intent.stream,
        intent.price_version,
        whole(intent.reserve),
        whole(intent.input_estimate),
        intent.config_version,
        tags(&intent.tags),
        whole(end.at),
        end.outcome,
        end.status,
        count(|usage| usage.input),
        count(|usage| usage.output),
        count(|usage| usage.cached),
        count(|usage| usage.cache_write),
        count(|usage| usage.cache_write_1h),
        count(|usage| usage.reasoning),
        json(usage),
        end.estimated,
        whole(end.cost),
        end.unpriced,
        whole(end.latency_us),
        whole(end.ttft_us),
        end.served,
        end.losses,
    ])?;
    Ok(rows == 1)
}

/// Usage as it stands in a row.
fn json(usage: Option<&Usage>) -> Option<String> {
    usage.map(|usage| {
        let mut out = Vec::new();
        writer::object(&mut out, |o| usage.write(o));
        String::from_utf8(out).unwrap_or_default()
    })
}

fn open_row(tx: &Transaction<'_>, owner: &str, intent: &Intent) -> Result<(), Error> {
    tx.prepare_cached(INTENT)?.execute(named_params! {
        ":attempt": intent.attempt.0.to_be_bytes(),
        ":request": intent.request.0.to_be_bytes(),
        ":owner": owner,
        ":at": whole(intent.at),
        ":number": intent.number,
        ":key": intent.key,
        ":project": intent.project,
        ":asked": intent.asked,
        ":model": intent.model,
        ":provider": intent.provider,
        ":target": intent.target,
        ":stream": intent.stream,
        ":price_version": intent.price_version,
        ":reserve": whole(intent.reserve),
        ":input_estimate": whole(intent.input_estimate),
        ":config_version": intent.config_version,
        ":tags": tags(&intent.tags),
    })?;
    Ok(())
}

fn settle_row(tx: &Transaction<'_>, owner: &str, settlement: &Settlement) -> Result<(), Error> {
    let usage = settlement.usage.as_ref();
    let count = |field: fn(&Usage) -> u64| usage.map(|usage| whole(field(usage)));
    tx.prepare_cached(SETTLEMENT)?.execute(named_params! {
        ":attempt": settlement.attempt.0.to_be_bytes(),
        ":owner": owner,
        ":at": whole(settlement.at),
        ":outcome": settlement.outcome,
        ":status": settlement.status,
        ":input": count(|usage| usage.input),
        ":output": count(|usage| usage.output),
        ":cached": count(|usage| usage.cached),
        ":cache_write": count(|usage| usage.cache_write),
        ":cache_write_1h": count(|usage| usage.cache_write_1h),
        ":reasoning": count(|usage| usage.reasoning),
        ":usage": json(usage),
        ":estimated": settlement.estimated,
        ":cost": whole(settlement.cost),
        ":unpriced": settlement.unpriced,
        ":latency_us": whole(settlement.latency_us),
        ":ttft_us": whole(settlement.ttft_us),
        ":served": settlement.served,
        ":losses": settlement.losses,
    })?;
    Ok(())
}

/// SQLite's integers are signed. Nothing real reaches 2^63 (9.2 thousand million dollars); what does is kept as the
/// largest number rather than as a negative one.
fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// An object of strings, which SQLite's own JSON functions read.
fn tags(tags: &[(String, String)]) -> String {
    let mut out = Vec::new();
    writer::object(&mut out, |o| {
        for (i, (name, value)) in tags.iter().enumerate() {
            if !tags.iter().take(i).any(|(earlier, _)| earlier == name) {
                o.string(name, value);
            }
        }
    });
    String::from_utf8(out).unwrap_or_default()
}
