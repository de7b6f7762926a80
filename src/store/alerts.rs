//! Which alerts were told: in a SQLite of their own, so that none is told again after a restart.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::books::{Error, whole};

const BUSY: Duration = Duration::from_secs(2);
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS told (event TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;";

/// The alerts that were told, of one state directory. Several processes may share it.
pub struct Alerts(Mutex<Connection>);

impl Alerts {
    /// # Errors
    /// The file cannot be opened as a database.
    pub fn open(state_dir: &Path) -> Result<Alerts, Error> {
        let conn = Connection::open(state_dir.join("alerts.sqlite"))?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.execute_batch(SCHEMA)?;
        Ok(Alerts(Mutex::new(conn)))
    }

    /// Whether an event was told. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn is_told(&self, event: &str) -> Result<bool, Error> {
        let conn = self.lock();
        let mut select = conn.prepare_cached("SELECT 1 FROM told WHERE event = ?1")?;
        Ok(select.query_row([event], |_| Ok(())).optional()?.is_some())
    }

    /// Notes that an event was told (`now`: Unix seconds), and forgets those older than `before`. Blocks.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn told(&self, event: &str, now: u64, before: u64) -> Result<(), Error> {
        let conn = self.lock();
        conn.execute("INSERT OR IGNORE INTO told (event, at) VALUES (?1, ?2)", params![event, whole(now)])?;
        conn.execute("DELETE FROM told WHERE at < ?1", [whole(before)])?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_after_a_restart_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let alerts = Alerts::open(dir.path()).unwrap();
        assert!(!alerts.is_told("a").unwrap());
        alerts.told("a", 10, 0).unwrap();
        drop(alerts);
        let alerts = Alerts::open(dir.path()).unwrap();
        alerts.told("a", 11, 0).unwrap();
        assert!(alerts.is_told("a").unwrap());
        alerts.told("b", 12, 11).unwrap();
        assert!(!alerts.is_told("a").unwrap() && alerts.is_told("b").unwrap());
    }
}
