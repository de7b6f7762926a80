//! Keeps a directory in memory as the register is, in this process and in every other that has the register open.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Changed, Error, Head, Register};
use crate::config::directory::{Administrator, Directory};

/// What was seen of a register.
pub struct Follower {
    pub register: Arc<dyn Register>,
    pub directory: Arc<Directory>,
    seen: Mutex<Option<Head>>,
}

impl Follower {
    pub fn new(register: Arc<dyn Register>, directory: Arc<Directory>) -> Follower {
        Follower { register, directory, seen: Mutex::new(None) }
    }

    /// Brings the directory up to the register; whether there was anything new. `now` is Unix seconds. Blocks. What the
    /// directory has stays as it is where the register cannot be read.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn catch_up(&self, now: u64) -> Result<bool, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.register.head()?;
        let before = seen.filter(|seen| seen.epoch == head.epoch && seen.number <= head.number);
        if before == Some(head) {
            return Ok(false);
        }
        let mut edit = self.directory.edit(before.is_none());
        let head = self.register.since(before.map_or(0, |seen| seen.number), now, &mut |changed| match changed {
            Changed::Level { kind, id, document } => edit.level(kind, id, document),
            Changed::Secret { digest, until, document } => edit.secret(digest, until, document),
            Changed::Paid { kind, id, balance } => edit.paid(kind, id, balance),
            Changed::Token { digest, token } => {
                let who =
                    token.map(|token| Administrator { id: token.id, rights: token.rights, expires: token.expires });
                edit.administrator(digest, who);
            }
        })?;
        edit.finish();
        *seen = Some(head);
        Ok(true)
    }
}
