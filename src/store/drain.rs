//! The threads that bring the journal into the ledger, behind the calls' backs.
//!
//! They are two, so that a locked or slow database never keeps the journal from being synced: one syncs the journal
//! every 100 ms, the other does what [`Worker`] can do, now and then or when asked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::store::books::Error;
use crate::store::journal::Journal;
use crate::store::rollup::Keep;
use crate::store::worker::Worker;

/// How often the journal is synced: what a power cut can take.
const SYNC: Duration = Duration::from_millis(100);
/// How often new records go to the ledger.
const PASS: Duration = Duration::from_millis(200);
/// How often dead processes are looked for.
const RECOVER: Duration = Duration::from_secs(5);
/// How long after an error the database is left alone, and how often such trouble is logged.
const PAUSE: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_secs(10);

/// The running drain. Dropped without [`Drain::stop`] it ends at once, and the next start goes on from there.
pub(super) struct Drain {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drain {
    /// Starts draining `journal` into the ledger below `state_dir`, first of all what dead processes left.
    ///
    /// # Errors
    /// The ledger belongs to a newer version that this one must not write to, or the threads cannot be started. Any
    /// other trouble with the database is logged and retried: the journal keeps the records meanwhile.
    pub fn start(journal: Arc<Journal>, state_dir: &Path) -> Result<Drain, Error> {
        let shared = Arc::new(Shared::default());
        let worker = Worker::new(Arc::clone(&journal), state_dir, Arc::clone(&shared));
        let mut thread = Thread { worker, shared: Arc::clone(&shared), again: None, logged: None };
        match thread.worker.open() {
            Err(error @ Error::TooNew { .. }) => return Err(error),
            Err(error) => thread.trouble(&error),
            Ok(()) => {}
        }
        let drain = Drain { shared: Arc::clone(&shared), threads: Mutex::default() };
        let syncing = shared;
        let sync = move || {
            while !syncing.lock().stopped {
                guarded(&syncing, || {
                    journal.sync();
                    journal.heal();
                });
                drop(syncing.wait(SYNC, |turn| turn.stopped));
            }
        };
        drain.threads().push(thread::Builder::new().name("journal".into()).spawn(sync)?);
        drain.threads().push(thread::Builder::new().name("ledger".into()).spawn(move || thread.work())?);
        Ok(drain)
    }

    /// Waits until everything appended before the call is in the ledger. `false`: it is not, within that time.
    pub fn flush(&self, within: Duration) -> bool {
        let mine = {
            let mut turn = self.shared.lock();
            turn.asked += 1;
            self.shared.changed.notify_all();
            turn.asked
        };
        self.shared.wait(within, |turn| turn.done >= mine || turn.stopped).done >= mine
    }

    /// Closes the journal, drains it to the end and removes its files. What is still open then is orphaned. Where the
    /// ledger cannot be written the files stay, and the next start goes on from there.
    pub fn stop(&self) {
        self.shared.lock().finish = true;
        self.end();
    }

    pub fn keep(&self, keep: Option<Keep>) {
        self.shared.lock().keep = keep;
    }

    pub fn figures(&self) -> Figures {
        self.shared.counters.read()
    }

    fn end(&self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads().drain(..) {
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.end();
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records of this process that are in the ledger; what it has appended beyond that is the lag.
    pub drained: u64,
    /// Attempts of dead processes that were counted at their reserve.
    pub orphaned: u64,
    /// Runs of bytes in the middle of segments that were no records, set aside where possible; and records of a kind
    /// that this version does not know.
    pub damaged: u64,
    /// Segments of dead processes that ended within a record.
    pub torn: u64,
    /// Ledgers found corrupt and begun anew.
    pub rebuilt: u64,
    /// Times the ledger could not be written (busy ones too).
    pub errors: u64,
}

#[derive(Default)]
pub(super) struct Shared {
    turn: Mutex<Turn>,
    changed: Condvar,
    pub counters: Counters,
}

/// Who waits for what.
#[derive(Default)]
struct Turn {
    /// Flushes asked for, and the last one that is done.
    asked: u64,
    done: u64,
    stop: bool,
    /// When stopping: leave nothing behind.
    finish: bool,
    stopped: bool,
    /// How long rows are kept.
    keep: Option<Keep>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, within: Duration, until: impl Fn(&Turn) -> bool) -> MutexGuard<'_, Turn> {
        let (turn, _) = self
            .changed
            .wait_timeout_while(self.lock(), within, |turn| !until(turn))
            .unwrap_or_else(PoisonError::into_inner);
        turn
    }
}

/// [`Figures`] as they grow.
#[derive(Default)]
pub(super) struct Counters {
    pub drained: AtomicU64,
    pub orphaned: AtomicU64,
    pub damaged: AtomicU64,
    pub torn: AtomicU64,
    pub rebuilt: AtomicU64,
    pub errors: AtomicU64,
}

impl Counters {
    fn read(&self) -> Figures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            drained: of(&self.drained),
            orphaned: of(&self.orphaned),
            damaged: of(&self.damaged),
            torn: of(&self.torn),
            rebuilt: of(&self.rebuilt),
            errors: of(&self.errors),
        }
    }
}

/// The draining thread.
struct Thread {
    worker: Worker,
    shared: Arc<Shared>,
    /// After an error: when to try again.
    again: Option<Instant>,
    logged: Option<Instant>,
}

impl Thread {
    fn work(mut self) {
        let (mut passed, mut recovered) = (None::<Instant>, None::<Instant>);
        loop {
            let (asked, stop, finish) = {
                let turn = self.shared.lock();
                (turn.asked, turn.stop, turn.finish)
            };
            let due = |last: Option<Instant>, every: Duration| last.is_none_or(|last| last.elapsed() >= every);
            if stop {
                self.again = None;
                if finish {
                    self.attempt(Worker::finish);
                }
                self.shared.lock().stopped = true;
                self.shared.changed.notify_all();
                return;
            }
            if due(recovered, RECOVER) {
                recovered = Some(Instant::now());
                self.attempt(Worker::recover);
            }
            if due(passed, PASS) || asked > self.shared.lock().done {
                passed = Some(Instant::now());
                if self.attempt(Worker::pass) {
                    self.shared.lock().done = asked;
                    self.shared.changed.notify_all();
                }
            }
            let keep = self.shared.lock().keep.clone();
            if let Some(keep) = keep {
                self.attempt(|worker| worker.roll_up(&keep));
            }
            let wait = self.again.map_or(PASS, |again| again.saturating_duration_since(Instant::now()));
            let failing = self.again.is_some();
            drop(self.shared.wait(wait, |turn| turn.stop || (turn.asked > turn.done && !failing)));
        }
    }

    /// Does one thing with an open ledger; whether it was done.
    fn attempt(&mut self, what: impl FnOnce(&mut Worker) -> Result<(), Error>) -> bool {
        if self.again.is_some_and(|again| again > Instant::now()) {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        match guarded(&shared, || what(&mut self.worker)) {
            Some(Ok(())) => {
                self.again = None;
                true
            }
            Some(Err(error)) => {
                self.trouble(&error);
                false
            }
            None => {
                self.worker.close();
                self.again = Some(Instant::now() + PAUSE);
                false
            }
        }
    }

    fn trouble(&mut self, error: &Error) {
        self.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.again = Some(Instant::now() + PAUSE);
        if self.logged.is_none_or(|logged| logged.elapsed() >= QUIET) {
            self.logged = Some(Instant::now());
            tracing::error!(%error, "the ledger cannot be written; the journal keeps the records");
        }
        self.worker.distrust(error);
    }
}

/// Runs a piece of the threads' work; a panic in it must not end the thread.
fn guarded<T>(shared: &Shared, work: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    if result.is_err() {
        shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a panic while draining the journal");
    }
    result.ok()
}
