//! The ledger as it is written: one row for each attempt, in an embedded SQLite.
//!
//! Records and the place they were read up to are committed in one transaction, and rows are written by attempt id:
//! so a record counts once, wherever a crash falls and however often a segment is read again. Several processes may
//! write at once (SQLite's own locks order them), each from its own segments. What a row holds is what the records
//! said; every total is computed from rows ([`query`](crate::store::query)).

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::store::batch::{Accounts, Batch};
use crate::store::failpoint;
use crate::store::schema::{MIGRATIONS, migrate};

/// How long SQLite waits for another process before it says "busy". Nobody's call waits here, only the drain.
const BUSY: Duration = Duration::from_secs(2);
/// Up to this size a database is checked whole when it is opened.
const CHECK: u64 = 16 << 20;

const ORPHAN: &str = "
    UPDATE entries SET state = 2, settled_at = ?1, outcome = 'orphaned', estimated = 1, cost = reserve,
        charge = charge_reserve,
        unpriced = (SELECT price_version = '' FROM accounts WHERE accounts.id = account),
        input = input_estimate, output = 0
    WHERE state = 0 AND process = (SELECT id FROM processes WHERE name = ?2)";

/// Why the ledger could not be read or written.
#[derive(Debug)]
pub enum Error {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    /// Written by a version whose ledger this one must not write to.
    TooNew {
        schema: u32,
    },
    /// More groups than can be held.
    TooWide,
    /// Sums do not fit, or rows changed while they were added up: nothing was done.
    Miscounted,
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
            Error::Miscounted => f.write_str("rows could not be rolled up, and stay as they are"),
            Error::TooWide => f.write_str("there are too many groups: ask for less time or for fewer groupings"),
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
    accounts: Accounts,
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
        conn.query_row("SELECT account FROM entries ORDER BY id DESC LIMIT 1", [], |row| row.get::<_, i64>(0))
            .optional()?;
        let inode = metadata.ino();
        Ok(Books { conn, path: path.to_owned(), inode, drained: HashMap::new(), accounts: Accounts::new() })
    }

    /// The file is still the one at its path.
    pub fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }

    pub fn inode(&self) -> u64 {
        self.inode
    }

    pub fn connection(&self) -> &Connection {
        &self.conn
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

    /// Begins to write records of a process.
    pub fn begin<'r>(&mut self, owner: &str) -> Result<Batch<'_, 'r>, Error> {
        Batch::begin(&self.conn, &mut self.accounts, owner)
    }

    /// Notes that a segment was drained up to there, as a committed [`Batch`] has written.
    pub fn advanced(&mut self, segment: &str, drained: u64) {
        self.drained.insert(segment.to_owned(), drained);
    }

    /// Counts what a dead process left open for its reserve; returns how many attempts that were.
    pub fn orphan(&mut self, owner: &str, now: u64) -> Result<usize, Error> {
        failpoint::reach("orphan.before");
        let orphaned = self.conn.execute(ORPHAN, params![whole(now), owner])?;
        failpoint::reach("orphan.after");
        Ok(orphaned)
    }

    /// Brings everything committed so far to the disk and into the database file itself. `false`: a reader is in the
    /// way for now. What `synchronous = NORMAL` leaves to later must not be left when a segment's file goes.
    pub fn checkpoint(&self) -> Result<bool, Error> {
        failpoint::reach("checkpoint.before");
        let busy = self.conn.query_row("PRAGMA wal_checkpoint(full)", [], |row| row.get::<_, i64>(0))?;
        failpoint::reach("checkpoint.after");
        Ok(busy == 0)
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
        let open = "SELECT name FROM processes WHERE id IN (SELECT process FROM entries WHERE state = 0)";
        let mut select = self.conn.prepare_cached(open)?;
        let owners = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(owners)
    }
}

fn corrupt(verdict: Option<String>) -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Error::Sqlite(rusqlite::Error::SqliteFailure(code, verdict))
}

/// SQLite's integers are signed. Nothing real reaches 2^63 (9.2 thousand million dollars); what does is kept as the
/// largest number rather than as a negative one.
pub(super) fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
