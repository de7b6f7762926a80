//! Answers that callers of the Responses API may come back to, by id: in a SQLite of their own.
//!
//! They are prompts and answers in plain text, unlike the ledger, so they lie in a file of their own that can be left out
//! of backups, have a time to live, and belong to the key that made them: no other key finds them. A call hands an answer
//! over and goes on; a thread writes it. Until it is written it is found in memory, so that a caller that goes on at once
//! finds what it was just told.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dashmap::DashMap;
use rusqlite::{Connection, OptionalExtension, params};

use crate::exchange::conversation::{Kept, Turn};
use crate::store::books::Error;

/// Answers that wait for the disk; more are not kept.
const WAITING: usize = 1_024;
/// Longest conversation that is put together.
const MOST_TURNS: usize = 1_000;
const BUSY: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS responses (
        key TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, previous TEXT, input TEXT NOT NULL,
        response TEXT NOT NULL, PRIMARY KEY (key, id)
    );
    CREATE INDEX IF NOT EXISTS responses_at ON responses (at);";

/// The kept answers of one state directory.
pub struct Responses {
    waiting: Arc<Waiting>,
    conn: Mutex<Connection>,
    writer: SyncSender<Name>,
    dropped: AtomicU64,
}

/// Key and id.
type Name = (String, String);
type Waiting = DashMap<Name, (u64, Kept)>;

impl Responses {
    /// Opens the store and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened as a database, or the thread not be started.
    pub fn open(state_dir: &Path) -> Result<Responses, Error> {
        let path = state_dir.join("responses.sqlite");
        let conn = connect(&path)?;
        conn.execute_batch(SCHEMA)?;
        let waiting = Arc::new(Waiting::new());
        let (writer, names) = sync_channel(WAITING);
        let (theirs, own) = (Arc::clone(&waiting), connect(&path)?);
        thread::Builder::new().name("responses".into()).spawn(move || write(&own, &names, &theirs))?;
        Ok(Responses { waiting, conn: Mutex::new(conn), writer, dropped: AtomicU64::new(0) })
    }

    /// Keeps an answer (`now`: Unix seconds). Never waits: where the disk does not keep up, it is not kept.
    pub fn keep(&self, key: &str, kept: Kept, now: u64) {
        let name = (key.to_owned(), kept.id.clone());
        self.waiting.insert(name.clone(), (now, kept));
        if self.writer.try_send(name.clone()).is_err() {
            self.waiting.remove(&name);
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!("answers are not kept: the disk of the state directory does not keep up");
            }
        }
    }

    /// Answers that were not kept since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The conversation up to an answer, oldest turn first; `None` where a part of it is not there (any more), or it is
    /// longer than can be put together. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn conversation(&self, key: &str, id: &str) -> Result<Option<Vec<Turn>>, Error> {
        let mut turns = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            if turns.len() == MOST_TURNS {
                return Ok(None);
            }
            let Some(kept) = self.get(key, &id)? else { return Ok(None) };
            turns.push(kept.turn);
            next = kept.previous;
        }
        turns.reverse();
        Ok(Some(turns))
    }

    /// One answer. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn get(&self, key: &str, id: &str) -> Result<Option<Kept>, Error> {
        if let Some(waiting) = self.waiting.get(&(key.to_owned(), id.to_owned())) {
            return Ok(Some(waiting.1.clone()));
        }
        let conn = self.lock();
        let mut select =
            conn.prepare_cached("SELECT input, response, previous FROM responses WHERE key = ?1 AND id = ?2")?;
        let found = select.query_row(params![key, id], |row| {
            let turn = Turn { input: row.get(0)?, response: row.get(1)? };
            Ok(Kept { id: id.to_owned(), turn, previous: row.get(2)? })
        });
        Ok(found.optional()?)
    }

    /// Deletes an answer; whether it was there. Blocks.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn delete(&self, key: &str, id: &str) -> Result<bool, Error> {
        let waiting = self.waiting.remove(&(key.to_owned(), id.to_owned())).is_some();
        let conn = self.lock();
        let deleted = conn.execute("DELETE FROM responses WHERE key = ?1 AND id = ?2", params![key, id])?;
        Ok(waiting || deleted > 0)
    }

    /// Deletes what is older (Unix seconds). Blocks.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn expire(&self, before: u64) -> Result<usize, Error> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        Ok(self.lock().execute("DELETE FROM responses WHERE at < ?1", params![before])?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "normal")?;
    // What is deleted is prompts: it is to be gone from the file too.
    conn.pragma_update(None, "secure_delete", true)?;
    Ok(conn)
}

/// Writes what waits, until the store is dropped.
fn write(conn: &Connection, names: &Receiver<Name>, waiting: &Waiting) {
    for name in names {
        let Some(kept) = waiting.get(&name).map(|entry| entry.value().clone()) else { continue };
        let (at, Kept { id, turn, previous }) = kept;
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let inserted = conn.prepare_cached(
            "INSERT OR REPLACE INTO responses (key, id, at, previous, input, response) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        );
        let written = inserted
            .and_then(|mut insert| insert.execute(params![name.0, id, at, previous, turn.input, turn.response]));
        if let Err(error) = written {
            tracing::error!(%error, "an answer could not be kept");
        }
        // Removed between the reading and the writing: it was deleted by its caller.
        if waiting.remove(&name).is_none() {
            let _ = conn.execute("DELETE FROM responses WHERE key = ?1 AND id = ?2", params![name.0, id]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: &str, previous: Option<&str>) -> Kept {
        let turn = Turn { input: format!("[\"{id}\"]"), response: format!("{{\"id\":\"{id}\"}}") };
        Kept { id: id.into(), turn, previous: previous.map(str::to_owned) }
    }

    fn settled(store: &Responses) {
        let begun = std::time::Instant::now();
        while !store.waiting.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the writer stands still");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_conversation_is_found_at_once_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Responses::open(dir.path()).unwrap();
        store.keep("k", kept("a", None), 100);
        store.keep("k", kept("b", Some("a")), 200);
        let inputs = |store: &Responses, key: &str| {
            let turns = store.conversation(key, "b").unwrap()?;
            Some(turns.into_iter().map(|turn| turn.input).collect::<Vec<_>>())
        };
        let both = Some(vec!["[\"a\"]".to_owned(), "[\"b\"]".to_owned()]);
        assert_eq!(inputs(&store, "k"), both);
        assert_eq!(inputs(&store, "other"), None, "another key's");
        settled(&store);
        let again = Responses::open(dir.path()).unwrap();
        assert_eq!(inputs(&again, "k"), both);
        assert_eq!(again.expire(150).unwrap(), 1);
        assert_eq!(inputs(&again, "k"), None, "its beginning is gone");
        assert!(again.delete("k", "b").unwrap());
        assert!(!again.delete("k", "b").unwrap());
    }
}
