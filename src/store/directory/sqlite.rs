//! The register in a SQLite file of its own, readable by nobody else.
//!
//! Several processes may have it open: SQLite's locks order their changes, and each change takes the next number. What
//! is written is on the disk when it is acknowledged (`synchronous = FULL`): changes are few, and a revoked key must not
//! come back with the power.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::audit::{Chain, Entry, Verdict};
use super::{By, Cause, Change, Changed, Error, Head, Payment, Query, Register, Secret, Stored, Token};
use crate::policy::budget::Balance;
use crate::policy::role::{Rights, Role};
use crate::policy::tenancy::Kind;
use crate::store::books;

mod apply;
mod verify;

/// How long SQLite waits for another process before it says "busy".
const BUSY: Duration = Duration::from_secs(2);
/// Up to this size a database is checked whole when it is opened.
const CHECK: u64 = 64 << 20;
/// What a state directory calls it.
const NAME: &str = "directory.sqlite";

const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
    INSERT INTO meta (name, value) VALUES ('epoch', abs(random())), ('last', 0);

    -- `change` is the number of the last change of any kind, `logged` that of the log's last word on the document.
    CREATE TABLE entities (
        kind TEXT NOT NULL, id TEXT NOT NULL, parent TEXT, user TEXT, document TEXT NOT NULL,
        created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0,
        change INTEGER NOT NULL, logged INTEGER NOT NULL, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE INDEX entities_change ON entities (change);
    CREATE INDEX entities_parent ON entities (kind, parent, id);
    CREATE INDEX entities_user ON entities (user) WHERE user IS NOT NULL;

    CREATE TABLE secrets (
        digest BLOB PRIMARY KEY NOT NULL, key TEXT NOT NULL, prefix TEXT NOT NULL, created_at INTEGER NOT NULL,
        until INTEGER, gone INTEGER NOT NULL DEFAULT 0, change INTEGER NOT NULL, made INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX secrets_change ON secrets (change);
    CREATE INDEX secrets_key ON secrets (key);
    CREATE INDEX secrets_prefix ON secrets (prefix);

    CREATE TABLE tokens (
        id TEXT PRIMARY KEY NOT NULL, digest BLOB NOT NULL UNIQUE, prefix TEXT NOT NULL, role TEXT NOT NULL, team TEXT,
        created_at INTEGER NOT NULL, expires INTEGER, gone INTEGER NOT NULL DEFAULT 0, change INTEGER NOT NULL,
        made INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, request TEXT NOT NULL,
        action TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, before TEXT, after TEXT, detail TEXT,
        hash BLOB NOT NULL
    );
    CREATE INDEX audit_what ON audit (kind, id, number);
    CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the log is only added to'); END;
    CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the log is only added to'); END;
",
    // What was paid in for levels. Each is a change of its own; a balance is their sum, and nothing else says it.
    "
    CREATE TABLE payments (
        change INTEGER PRIMARY KEY, kind TEXT NOT NULL, level TEXT NOT NULL, id TEXT NOT NULL, cause TEXT NOT NULL,
        amount INTEGER NOT NULL, written TEXT NOT NULL, note TEXT NOT NULL, at INTEGER NOT NULL, actor TEXT NOT NULL,
        UNIQUE (kind, level, id)
    );
    CREATE TRIGGER payments_stay BEFORE UPDATE ON payments BEGIN SELECT raise(ABORT, 'payments are only added'); END;
    CREATE TRIGGER payments_keep BEFORE DELETE ON payments BEGIN SELECT raise(ABORT, 'payments are only added'); END;
",
];

/// The register of a state directory.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// Reads do not wait for a change that waits for another process.
    reads: Mutex<Opened>,
    writes: Mutex<Opened>,
}

#[derive(Debug)]
struct Opened {
    conn: Connection,
    inode: u64,
}

impl Sqlite {
    /// Opens the register, making it where there is none. A corrupt one is moved aside, and its new name told: its keys are
    /// refused until it is put back, for an older copy put in its place unasked could let revoked ones in again.
    ///
    /// # Errors
    /// It cannot be opened or made.
    pub fn open(state_dir: &Path, now: u64) -> Result<(Sqlite, Option<PathBuf>), Error> {
        let path = state_dir.join(NAME);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(state_dir.join("directory.lock"))?;
        lock.lock()?;
        let (writes, aside) = match Opened::new(&path, true) {
            Ok(opened) => (opened, None),
            Err(Error::Store(error)) if error.is_corrupt() => {
                let aside = state_dir.join(format!("{NAME}.corrupt-{now}"));
                for part in ["", "-wal", "-shm"] {
                    let with = |path: &Path| PathBuf::from(format!("{}{part}", path.display()));
                    match fs::rename(with(&path), with(&aside)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                        _ => {}
                    }
                }
                (Opened::new(&path, true)?, Some(aside))
            }
            Err(error) => return Err(error),
        };
        let reads = Opened::new(&path, false)?;
        Ok((Sqlite { path, reads: Mutex::new(reads), writes: Mutex::new(writes) }, aside))
    }

    /// Opens the register of a state directory to look at it, beside a process that may be serving. `None`: there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn read_only(state_dir: &Path) -> Result<Option<Sqlite>, Error> {
        let path = state_dir.join(NAME);
        if !path.try_exists()? {
            return Ok(None);
        }
        let open = || -> Result<Opened, Error> {
            let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            conn.busy_timeout(BUSY)?;
            Ok(Opened { conn, inode: fs::metadata(&path)?.ino() })
        };
        let (reads, writes) = (Mutex::new(open()?), Mutex::new(open()?));
        Ok(Some(Sqlite { path, reads, writes }))
    }

    fn reads(&self) -> Result<MutexGuard<'_, Opened>, Error> {
        self.current(&self.reads)
    }

    /// A connection to the file that lies at the path now.
    fn current<'o>(&self, opened: &'o Mutex<Opened>) -> Result<MutexGuard<'o, Opened>, Error> {
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.ino() == opened.inode => {}
            Ok(_) => *opened = Opened::new(&self.path, false)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Gone),
            Err(error) => return Err(error.into()),
        }
        Ok(opened)
    }
}

impl Opened {
    fn new(path: &Path, check: bool) -> Result<Opened, Error> {
        // SQLite gives its other files the rights of this one.
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        let mut conn = Connection::open(path)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "full")?;
        if check && metadata.len() <= CHECK {
            let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
                return Err(rusqlite::Error::SqliteFailure(code, Some(verdict)).into());
            }
        }
        migrate(&mut conn)?;
        Ok(Opened { conn, inode: metadata.ino() })
    }
}

fn migrate(conn: &mut Connection) -> Result<(), Error> {
    // Who has the lock may hold it long; what needs no migration need not wait for it.
    let schema: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if usize::try_from(schema).is_ok_and(|schema| schema == MIGRATIONS.len()) {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let schema: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if schema > u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX) {
        return Err(books::Error::TooNew { schema }.into());
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

impl Register for Sqlite {
    fn head(&self) -> Result<Head, Error> {
        let opened = self.reads()?;
        head(&opened.conn, opened.inode)
    }

    fn since(&self, number: u64, now: u64, each: &mut dyn FnMut(Changed<'_>)) -> Result<Head, Error> {
        let mut opened = self.reads()?;
        let inode = opened.inode;
        // One transaction: the number fits what is read.
        let tx = opened.conn.transaction()?;
        let head = head(&tx, inode)?;
        let (after, now) = (whole(number), whole(now));
        {
            let mut select = tx.prepare_cached(
                "SELECT kind, id, document, gone FROM entities WHERE change > ?1 AND kind <> 'key' AND (?1 > 0 OR NOT gone)",
            )?;
            let mut rows = select.query([after])?;
            while let Some(row) = rows.next()? {
                let Some(kind) = kind(row, 0)? else { continue };
                let document = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
                let gone: bool = row.get(3)?;
                let id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                each(Changed::Level { kind, id, document: (!gone).then_some(document) });
            }
        }
        {
            let mut select = tx.prepare_cached(
                "SELECT kind, level, sum(amount), count(*) FROM payments
                 WHERE ?1 = 0 OR (kind, level) IN (SELECT kind, level FROM payments WHERE change > ?1) GROUP BY kind, level",
            )?;
            let mut rows = select.query([after])?;
            while let Some(row) = rows.next()? {
                let Some(kind) = kind(row, 0)? else { continue };
                let id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                let balance = Balance { sum: row.get(2)?, entries: positive(row.get(3)?) };
                each(Changed::Paid { kind, id, balance });
            }
        }
        {
            let mut select = tx.prepare_cached(
                "SELECT s.digest, s.until, s.gone, e.document FROM secrets s JOIN entities e ON e.kind = 'key' AND e.id = s.key
                 WHERE s.change > ?1 AND (?1 > 0 OR (NOT s.gone AND (s.until IS NULL OR s.until > ?2)))",
            )?;
            let mut rows = select.query([after, now])?;
            while let Some(row) = rows.next()? {
                let gone: bool = row.get(2)?;
                let document = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
                let (digest, until) = (row.get(0)?, natural(row.get(1)?));
                each(Changed::Secret { digest, until, document: (!gone).then_some(document) });
            }
        }
        {
            let mut select = tx.prepare_cached(
                "SELECT digest, id, prefix, role, team, created_at, expires, gone FROM tokens WHERE change > ?1",
            )?;
            let mut rows = select.query([after])?;
            while let Some(row) = rows.next()? {
                let token = token(row, 1)?.filter(|token| !token.gone);
                each(Changed::Token { digest: row.get(0)?, token });
            }
        }
        tx.commit()?;
        Ok(head)
    }

    fn one(&self, kind: Kind, id: &str) -> Result<Option<Stored>, Error> {
        let opened = self.reads()?;
        let mut select = opened.conn.prepare_cached(
            "SELECT kind, id, document, change, created_at, changed_at, gone FROM entities WHERE kind = ?1 AND id = ?2",
        )?;
        let found = select.query_row([kind.name(), id], stored).optional()?.flatten();
        Ok(found.filter(|found| !found.gone || kind == Kind::Key))
    }

    fn list(&self, query: &Query<'_>) -> Result<Vec<Stored>, Error> {
        let opened = self.reads()?;
        let json = |names: Option<&[String]>| names.map(|names| serde_json::Value::from(names.to_vec()).to_string());
        let gone = query.gone && query.kind == Kind::Key;
        let mut select = opened.conn.prepare_cached(
            "SELECT kind, id, document, change, created_at, changed_at, gone FROM entities
             WHERE kind = ?1 AND id > ?2 AND (?3 OR NOT gone)
               AND (?4 IS NULL OR parent IN (SELECT value FROM json_each(?4))
                    OR (parent IS NULL AND user IN (SELECT value FROM json_each(coalesce(?5, '[]')))))
               AND (?6 IS NULL OR user = ?6)
               AND (?7 IS NULL OR EXISTS (SELECT 1 FROM secrets s WHERE s.prefix = ?7 AND s.key = entities.id))
             ORDER BY id LIMIT ?8",
        )?;
        let rows = select.query_map(
            params![
                query.kind.name(),
                query.after,
                gone,
                json(query.parents),
                json(query.users),
                query.user,
                query.prefix,
                i64::try_from(query.limit).unwrap_or(i64::MAX)
            ],
            stored,
        )?;
        let rows: Vec<Option<Stored>> = rows.collect::<Result<_, _>>()?;
        Ok(rows.into_iter().flatten().collect())
    }

    fn secrets(&self, key: &str) -> Result<Vec<Secret>, Error> {
        let opened = self.reads()?;
        let mut select = opened.conn.prepare_cached(
            "SELECT prefix, created_at, until, gone FROM secrets WHERE key = ?1 ORDER BY made DESC LIMIT 100",
        )?;
        let rows = select.query_map([key], |row| {
            Ok(Secret {
                prefix: row.get(0)?,
                created_at: positive(row.get(1)?),
                until: natural(row.get(2)?),
                gone: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn tokens(&self) -> Result<Vec<Token>, Error> {
        let opened = self.reads()?;
        let mut select = opened.conn.prepare_cached(
            "SELECT id, prefix, role, team, created_at, expires, gone FROM tokens ORDER BY id LIMIT 10000",
        )?;
        let rows: Vec<Option<Token>> = select.query_map([], |row| token(row, 0))?.collect::<Result<_, _>>()?;
        Ok(rows.into_iter().flatten().collect())
    }

    fn payments(&self, kind: Kind, id: &str) -> Result<Vec<Payment>, Error> {
        let opened = self.reads()?;
        // A register of an earlier version, which nobody has opened to write.
        if opened.conn.prepare("SELECT 1 FROM payments LIMIT 0").is_err() {
            return Ok(Vec::new());
        }
        let mut select = opened.conn.prepare_cached(
            "SELECT change, id, cause, amount, written, note, at, actor FROM payments WHERE kind = ?1 AND level = ?2
             ORDER BY change",
        )?;
        let rows = select.query_map([kind.name(), id], |row| {
            let cause: String = row.get(2)?;
            Ok(Payment {
                number: positive(row.get(0)?),
                id: row.get(1)?,
                cause: Cause::ALL.into_iter().find(|own| own.name() == cause).unwrap_or(Cause::Correction),
                amount: row.get(3)?,
                written: row.get(4)?,
                note: row.get(5)?,
                at: positive(row.get(6)?),
                actor: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn write(&self, change: &Change<'_>, by: &By<'_>) -> Result<u64, Error> {
        let mut opened = self.current(&self.writes)?;
        let tx = opened.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = tx
            .prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?
            .query_row([], |row| Ok((positive(row.get(0)?), row.get::<_, [u8; 32]>(1)?)))
            .optional()?;
        let (last, previous) = last.unwrap_or((0, [0; 32]));
        let number = last + 1;
        let said = apply::apply(&tx, change, number, by)?;
        let mut entry = Entry {
            number,
            at: by.at,
            actor: by.actor.to_owned(),
            request: by.request.to_owned(),
            action: said.action.to_owned(),
            kind: said.kind.to_owned(),
            id: said.id.into_owned(),
            before: said.before,
            after: said.after,
            detail: said.detail,
            hash: [0; 32],
        };
        entry.hash = entry.expected(&previous);
        insert(&tx, &entry)?;
        tx.execute("UPDATE meta SET value = ?1 WHERE name = 'last'", [whole(number)])?;
        tx.commit()?;
        tracing::info!(
            number,
            actor = entry.actor,
            action = entry.action,
            kind = entry.kind,
            id = entry.id,
            hash = crate::config::hex(&entry.hash),
            "the register was changed"
        );
        Ok(number)
    }

    fn audit(&self, below: u64, limit: usize) -> Result<Vec<Entry>, Error> {
        let opened = self.reads()?;
        let below = if below == 0 { i64::MAX } else { whole(below) };
        let mut select = opened.conn.prepare_cached(
            "SELECT number, at, actor, request, action, kind, id, before, after, detail, hash FROM audit
             WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
        )?;
        let rows = select.query_map(params![below, i64::try_from(limit).unwrap_or(i64::MAX)], entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn verify(&self) -> Result<Verdict, Error> {
        let mut opened = self.reads()?;
        let tx = opened.conn.transaction()?;
        let mut chain = Chain::new();
        {
            let mut select = tx.prepare(
                "SELECT number, at, actor, request, action, kind, id, before, after, detail, hash FROM audit ORDER BY number",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                chain.see(&entry(row)?);
            }
        }
        let last = verify::stored(&tx, &mut chain)?;
        Ok(chain.end(last))
    }
}

fn head(conn: &Connection, inode: u64) -> Result<Head, Error> {
    let mut select =
        conn.prepare_cached("SELECT (SELECT value FROM meta WHERE name = 'epoch'), (SELECT max(number) FROM audit)")?;
    let (made, number) = select.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let mut epoch = DefaultHasher::new();
    (made, inode).hash(&mut epoch);
    Ok(Head { epoch: epoch.finish(), number: number.map_or(0, positive) })
}

fn insert(tx: &Transaction<'_>, entry: &Entry) -> Result<(), Error> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO audit (number, at, actor, request, action, kind, id, before, after, detail, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    insert.execute(params![
        whole(entry.number),
        whole(entry.at),
        entry.actor,
        entry.request,
        entry.action,
        entry.kind,
        entry.id,
        entry.before,
        entry.after,
        entry.detail,
        entry.hash
    ])?;
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        number: positive(row.get(0)?),
        at: positive(row.get(1)?),
        actor: row.get(2)?,
        request: row.get(3)?,
        action: row.get(4)?,
        kind: row.get(5)?,
        id: row.get(6)?,
        before: row.get(7)?,
        after: row.get(8)?,
        detail: row.get(9)?,
        hash: row.get(10)?,
    })
}

fn kind(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Kind>> {
    let name = row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?;
    Ok(Kind::ALL.into_iter().find(|kind| kind.name() == name))
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Option<Stored>> {
    let Some(kind) = kind(row, 0)? else { return Ok(None) };
    Ok(Some(Stored {
        kind,
        id: row.get(1)?,
        document: row.get(2)?,
        version: positive(row.get(3)?),
        created_at: positive(row.get(4)?),
        changed_at: positive(row.get(5)?),
        gone: row.get(6)?,
    }))
}

/// One whose role this version does not know is nobody's.
fn token(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Token>> {
    let Some(role) = Role::parse(row.get_ref(at + 2)?.as_str().map_err(rusqlite::Error::from)?) else {
        return Ok(None);
    };
    Ok(Some(Token {
        id: row.get(at)?,
        prefix: row.get(at + 1)?,
        rights: Rights { role, team: row.get(at + 3)? },
        created_at: positive(row.get(at + 4)?),
        expires: natural(row.get(at + 5)?),
        gone: row.get(at + 6)?,
    }))
}

/// SQLite's integers are signed; nothing real reaches 2^63.
fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn positive(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn natural(n: Option<i64>) -> Option<u64> {
    n.map(positive)
}
