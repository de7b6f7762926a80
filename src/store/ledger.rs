//! The ledger: what every attempt used and cost, kept up to date behind the calls' backs.
//!
//! A call appends to the [`journal`](crate::store::journal) and to nothing else. Behind it threads bring the records
//! into an embedded SQLite, one row an attempt, and questions are answered from the rows: no total is kept beside them.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::store::books;
use crate::store::drain::Drain;
use crate::store::journal::Journal;
use crate::store::query::Reader;
use crate::store::spent;

pub use crate::store::books::Error;
pub use crate::store::drain::Figures;
pub use crate::store::fold::{Report, UsageRow};
pub use crate::store::query::{Attempt, GroupBy, MOST_ROWS, Query, State, Unit};
pub use crate::store::rollup::Keep;
pub use crate::store::sketch::Sketch;
pub use crate::store::spent::{Asked, Foreign, Spent};

/// The ledger of one state directory.
pub struct Ledger {
    reader: Reader,
    filled: Option<(Arc<Journal>, Drain)>,
}

impl Ledger {
    /// Opens the ledger of a state directory and begins to drain the journal into it, first of all what processes that
    /// died have left there.
    ///
    /// # Errors
    /// The ledger belongs to a newer version that this one must not write to, or the threads cannot be started. Any
    /// other trouble with the database is logged and retried: the journal keeps the records meanwhile.
    pub fn open(state_dir: &Path, journal: Arc<Journal>) -> Result<Ledger, Error> {
        let drain = Drain::start(Arc::clone(&journal), state_dir)?;
        Ok(Ledger { reader: Reader::new(state_dir), filled: Some((journal, drain)) })
    }

    /// Opens the ledger for reading alone, beside a process that may be serving.
    ///
    /// # Errors
    /// There is none.
    pub fn read_only(state_dir: &Path) -> Result<Ledger, Error> {
        if !books::path(state_dir).is_file() {
            return Err(io::Error::new(ErrorKind::NotFound, "there is none yet").into());
        }
        Ok(Ledger { reader: Reader::new(state_dir), filled: None })
    }

    /// Waits until all that was appended to the journal before is in the ledger, or the time is over. Whether it is.
    pub fn flush(&self, most: Duration) -> bool {
        self.filled.as_ref().is_none_or(|(_, drain)| drain.flush(most))
    }

    /// Records that are in the journal and not yet in the ledger.
    pub fn lag(&self) -> u64 {
        self.filled.as_ref().map_or(0, |(journal, drain)| journal.appended().saturating_sub(drain.figures().drained))
    }

    /// Drains that failed (a locked or broken database); they are tried again.
    pub fn failures(&self) -> u64 {
        self.figures().errors
    }

    /// What the drain has done and met.
    pub fn figures(&self) -> Figures {
        self.filled.as_ref().map(|(_, drain)| drain.figures()).unwrap_or_default()
    }

    /// From now on, rolls up rows of attempts that are older than that, little by little; nothing for none.
    pub fn keep(&self, keep: Option<Keep>) {
        if let Some((_, drain)) = &self.filled {
            drain.keep(keep);
        }
    }

    /// Closes the journal, drains it to the end and removes its files; what is still open then counts as orphaned.
    /// Where the database cannot be written the files stay, and the next start goes on from there. To be called when
    /// no call is being served any more: further records are refused.
    pub fn stop(&self) {
        if let Some((_, drain)) = &self.filled {
            drain.stop();
        }
    }

    /// Sums by group, and over all of them. Blocks: not for the data path.
    ///
    /// # Errors
    /// The database cannot be read, or there are more groups than can be held.
    pub fn report(&self, query: &Query) -> Result<Report, Error> {
        self.reader.report(query)
    }

    /// Answers to several questions, of one moment of the ledger. Blocks.
    ///
    /// # Errors
    /// As [`Ledger::report`].
    pub fn reports<const N: usize>(&self, queries: [&Query; N]) -> Result<[Report; N], Error> {
        self.reader.reports(queries)
    }

    /// Sums by group alone: all in one, where nothing is grouped by. Blocks.
    ///
    /// # Errors
    /// As [`Ledger::report`].
    pub fn usage(&self, query: &Query) -> Result<Vec<UsageRow>, Error> {
        let Report { mut rows, total, .. } = self.reader.report(query)?;
        if query.group_by.is_empty() && total.attempts > 0 {
            rows.push(total);
        }
        Ok(rows)
    }

    /// Sums over all that a query asks for, whatever its grouping. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn total(&self, query: &Query) -> Result<UsageRow, Error> {
        let whole = Query { group_by: Vec::new(), ..query.clone() };
        Ok(self.reader.report(&whole)?.total)
    }

    /// What each level of a kind has spent in a window, by its id. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn spent(&self, asked: &Asked) -> Result<HashMap<String, Spent>, Error> {
        spent::spent(&self.reader, self.owner(), asked)
    }

    /// Changes with whatever other processes write. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn foreign(&self) -> Result<Foreign, Error> {
        spent::foreign(&self.reader, self.owner())
    }

    /// The name of this process among those that wrote.
    fn owner(&self) -> &str {
        self.filled.as_ref().map_or("", |(journal, _)| journal.owner())
    }

    /// The attempts that were dispatched last, newest first. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn recent(&self, limit: usize) -> Result<Vec<Attempt>, Error> {
        self.reader.recent(limit)
    }
}

#[cfg(test)]
mod tests;
