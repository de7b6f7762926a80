//! The journal: every attempt's intent before dispatch and its settlement after, appended with one `write(2)`.
//!
//! What `write` has taken lives in the page cache and outlives `kill -9`, so no `fsync` stands in a call's way; the
//! [drain](crate::store::drain) syncs in groups every 100 ms, which bounds what a power cut can take. Each process
//! appends to segment files of its own and holds them with an exclusive `flock` for as long as it lives: whoever
//! obtains that lock knows that the writer is dead. A segment is made under another name and renamed when locked, so
//! nobody ever sees an unlocked segment of a living process.
//!
//! A disk that fails is met in three ways. An intent that cannot be written is an error, and its caller must not
//! dispatch. A settlement that cannot be written is kept in memory (bounded) until the disk takes it, because its
//! attempt has been paid for. After a failed `fsync` the kernel may have dropped the dirty pages and will report the
//! next one as a success (<https://wiki.postgresql.org/wiki/Fsync_Errors>, seen 2026-11-21), so the file is never
//! trusted again: what was not yet synced is written anew to a fresh segment.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::exchange::record::{Intent, NOTE, Settlement};
use crate::store::failpoint;
use crate::store::segment::{self, SUFFIX};

/// A segment that reached this size is followed by a new one.
const ROTATE: u64 = 64 << 20;
/// How long after a failure the disk is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of settlements kept in memory while the disk does not take them: some twenty thousand.
const SPILL: usize = 8 << 20;
/// A thread's buffer that grew larger than this is not kept.
const KEEP: usize = 64 << 10;
/// What the name of a segment ends in that is not yet one.
pub(super) const UNFINISHED: &str = ".new";

/// The journal of this process. Shared by all threads.
pub struct Journal {
    dir: PathBuf,
    /// Names this process among all that ever wrote here: start, process id, chance. Its segments begin with it.
    owner: String,
    disk: Box<dyn Disk>,
    rotate: u64,
    pause: Duration,
    open: Mutex<Open>,
    appended: AtomicU64,
    errors: AtomicU64,
    lost: AtomicU64,
    healthy: AtomicBool,
    /// A segment was made and its directory entry not yet synced.
    renamed: AtomicBool,
}

impl Journal {
    /// Opens the journal below `state_dir` with a first segment of its own, making the directories where needed.
    ///
    /// # Errors
    /// The directory or the segment cannot be made: without a journal nothing may be dispatched.
    pub fn open(state_dir: &Path) -> io::Result<Journal> {
        Journal::with(state_dir, Box::new(Os), failpoint::rotate(ROTATE), PAUSE)
    }

    pub(super) fn with(state_dir: &Path, disk: Box<dyn Disk>, rotate: u64, pause: Duration) -> io::Result<Journal> {
        let dir = directory(state_dir);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let owner = format!("{started:013}-{}-{:08x}", std::process::id(), u32::from_le_bytes(random));
        let first = Segment::create(&*disk, &dir, &owner, 0)?;
        let open = Open {
            current: Arc::new(first),
            sealed: Vec::new(),
            next: 1,
            broken: None,
            spill: VecDeque::new(),
            spilled: 0,
            closed: false,
        };
        Ok(Journal {
            dir,
            owner,
            disk,
            rotate,
            pause,
            open: Mutex::new(open),
            appended: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            renamed: AtomicBool::new(true),
        })
    }

    /// Writes an intent. Only when this returned `Ok` may the attempt be dispatched.
    ///
    /// # Errors
    /// The disk does not take it. For a second after a failure the answer is the same error without another try.
    pub fn append_intent(&self, intent: &Intent<'_>) -> io::Result<()> {
        failpoint::reach("intent.before");
        let written = encoded(|out| intent.write(out), |record| self.append(record, false));
        failpoint::reach("intent.after");
        written
    }

    /// Writes a settlement, or keeps it until the disk takes it.
    ///
    /// # Errors
    /// It is neither written nor kept. The attempt will then count as orphaned, at its reserve.
    pub fn append_settlement(&self, settlement: &Settlement<'_>) -> io::Result<()> {
        failpoint::reach("settlement.before");
        let written = encoded(|out| settlement.write(out), |record| self.append(record, true));
        failpoint::reach("settlement.after");
        written
    }

    /// Whether the disk took the last record and the last sync. While `false`, expect intents to be refused.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Records that this process has written.
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    pub fn figures(&self) -> Figures {
        Figures {
            appended: self.appended(),
            errors: self.errors.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            kept: self.lock().spill.len() as u64,
        }
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// This process's segments that are not yet forgotten, oldest first; the last one is still written to.
    pub(super) fn segments(&self) -> Vec<Arc<Segment>> {
        let open = self.lock();
        open.sealed.iter().chain([&open.current]).cloned().collect()
    }

    /// Lets go of a sealed segment, whose file is gone.
    pub(super) fn forget(&self, name: &str) {
        self.lock().sealed.retain(|segment| segment.name != name);
    }

    /// Refuses every record from now on.
    pub(super) fn close(&self) {
        let mut open = self.lock();
        if self.mend(&mut open).is_err() {
            let left = open.spill.len();
            self.lost.fetch_add(left as u64, Ordering::Relaxed);
            tracing::error!(left, "the journal closes with settlements that its disk did not take");
        }
        open.closed = true;
    }

    /// Makes what was appended so far outlive a power cut.
    pub(super) fn sync(&self) {
        if self.renamed.swap(false, Ordering::AcqRel)
            && let Err(error) = File::open(&self.dir).and_then(|dir| self.disk.sync(&dir))
        {
            self.errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the journal's directory cannot be synced");
        }
        let mut failed = false;
        for segment in self.segments() {
            let written = segment.written();
            if segment.synced.load(Ordering::Acquire) >= written {
                continue;
            }
            if segment.suspect.load(Ordering::Acquire) {
                failed |= !self.repeat(&segment);
                continue;
            }
            failpoint::reach("sync.before");
            let synced = self.disk.sync(&segment.file);
            failpoint::reach("sync.after");
            match synced {
                Ok(()) => segment.synced.store(written, Ordering::Release),
                Err(error) => {
                    failed = true;
                    segment.suspect.store(true, Ordering::Release);
                    self.errors.fetch_add(1, Ordering::Relaxed);
                    self.healthy.store(false, Ordering::Relaxed);
                    tracing::error!(%error, segment = segment.name, "fsync failed: the journal goes on in a new segment");
                    self.repeat(&segment);
                }
            }
        }
        if !failed {
            let open = self.lock();
            if open.broken.is_none() {
                self.healthy.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Tries a disk that failed once more, also when no call comes to try it.
    pub(super) fn heal(&self) {
        let mut open = self.lock();
        if open.broken.as_ref().is_some_and(|broken| broken.again <= Instant::now()) && !open.closed {
            let mut probe = Vec::new();
            segment::record(&mut probe, |out| out.extend_from_slice(NOTE));
            if self.mend(&mut open).and_then(|()| self.put(&mut open, &probe)).is_ok() {
                self.recovered(&mut open);
            }
        }
    }

    fn append(&self, record: &[u8], keep: bool) -> io::Result<()> {
        if record.len() > segment::HEADER + segment::MOST {
            self.errors.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::new(ErrorKind::InvalidInput, "record is too large for the journal"));
        }
        let mut open = self.lock();
        match self.write(&mut open, record) {
            Ok(()) => {
                self.appended.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(_) if keep && !open.closed && open.spilled + record.len() <= SPILL => {
                open.spilled += record.len();
                open.spill.push_back(record.into());
                Ok(())
            }
            Err(error) => {
                let counter = if keep { &self.lost } else { &self.errors };
                counter.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn write(&self, open: &mut Open, record: &[u8]) -> io::Result<()> {
        if open.closed {
            return Err(io::Error::other("the journal is closed"));
        }
        if let Some(broken) = &open.broken {
            if Instant::now() < broken.again {
                return Err(io::Error::new(broken.kind, "the journal's disk failed less than a second ago"));
            }
            self.mend(open)?;
            self.put(open, record)?;
            self.recovered(open);
            return Ok(());
        }
        if open.current.written() >= self.rotate
            && let Err(error) = self.advance(open)
        {
            return Err(self.failed(open, error, true));
        }
        self.put(open, record)
    }

    /// Writes whole records to the current segment, or leaves it as it was.
    fn put(&self, open: &mut Open, records: &[u8]) -> io::Result<()> {
        let segment = Arc::clone(&open.current);
        let mut rest = records;
        let error = loop {
            match self.disk.write(&segment.file, rest) {
                Ok(0) => break io::Error::from(ErrorKind::WriteZero),
                Ok(n) => match rest.get(n..) {
                    Some([]) | None => {
                        segment.written.fetch_add(records.len() as u64, Ordering::AcqRel);
                        return Ok(());
                    }
                    Some(more) => rest = more,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        // Where a piece of a record cannot be cut off again, nothing may follow it.
        let cut = self.disk.truncate(&segment.file, segment.written());
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        Err(self.failed(open, error, cut.is_err() || !full))
    }

    fn failed(&self, open: &mut Open, error: io::Error, fresh: bool) -> io::Error {
        if open.broken.is_none() {
            tracing::error!(%error, "the journal's disk takes no records: billable work is refused");
        }
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.healthy.store(false, Ordering::Relaxed);
        open.broken = Some(Broken { again: Instant::now() + self.pause, kind: error.kind(), fresh });
        error
    }

    /// Brings a failed journal to where the next record may be written: a new segment if the old one is spoilt, and
    /// the kept settlements before anything newer.
    fn mend(&self, open: &mut Open) -> io::Result<()> {
        let Some(fresh) = open.broken.as_ref().map(|broken| broken.fresh) else { return Ok(()) };
        if (fresh || open.current.suspect.load(Ordering::Acquire))
            && let Err(error) = self.advance(open)
        {
            return Err(self.failed(open, error, true));
        }
        if let Some(broken) = &mut open.broken {
            broken.fresh = false;
        }
        while let Some(record) = open.spill.pop_front() {
            if let Err(error) = self.put(open, &record) {
                open.spill.push_front(record);
                return Err(error);
            }
            open.spilled = open.spilled.saturating_sub(record.len());
            self.appended.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn recovered(&self, open: &mut Open) {
        open.broken = None;
        self.healthy.store(true, Ordering::Relaxed);
        tracing::info!("the journal's disk takes records again");
    }

    fn advance(&self, open: &mut Open) -> io::Result<()> {
        failpoint::reach("rotate.before");
        let next = Arc::new(Segment::create(&*self.disk, &self.dir, &self.owner, open.next)?);
        failpoint::reach("rotate.renamed");
        open.next += 1;
        let old = std::mem::replace(&mut open.current, next);
        if old.written() == 0 {
            let _ = fs::remove_file(&old.path);
        } else {
            open.sealed.push(old);
        }
        self.renamed.store(true, Ordering::Release);
        failpoint::reach("rotate.after");
        Ok(())
    }

    /// Repeats in the current segment what a suspect one may have lost. The ledger takes a record twice without harm.
    /// `false`: not yet done.
    fn repeat(&self, suspect: &Arc<Segment>) -> bool {
        let mut open = self.lock();
        if open.broken.is_some() {
            return false;
        }
        if Arc::ptr_eq(suspect, &open.current)
            && let Err(error) = self.advance(&mut open)
        {
            self.failed(&mut open, error, true);
            return false;
        }
        let (synced, written) = (suspect.synced.load(Ordering::Acquire), suspect.written());
        let mut unsynced = vec![0; usize::try_from(written.saturating_sub(synced)).unwrap_or(0)];
        match suspect.file.read_exact_at(&mut unsynced, synced) {
            Ok(()) if self.put(&mut open, &unsynced).is_err() => return false,
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, segment = suspect.name, "records not yet on disk cannot be read back");
            }
        }
        suspect.synced.store(u64::MAX, Ordering::Release);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records written.
    pub appended: u64,
    /// Failed writes and syncs, refused intents.
    pub errors: u64,
    /// Settlements neither written nor kept.
    pub lost: u64,
    /// Settlements waiting in memory for the disk.
    pub kept: u64,
}

/// Where the segments lie.
pub(super) fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("journal")
}

/// One file of records, locked for as long as this value lives.
pub(super) struct Segment {
    /// File name.
    pub name: String,
    pub path: PathBuf,
    pub file: File,
    /// Bytes of whole records; where the file is longer, the rest is a piece that could not be cut off.
    written: AtomicU64,
    synced: AtomicU64,
    /// A sync failed: the file is neither written to nor synced again.
    suspect: AtomicBool,
}

impl Segment {
    fn create(disk: &dyn Disk, dir: &Path, owner: &str, number: u32) -> io::Result<Segment> {
        let name = format!("{owner}.{number:06}{SUFFIX}");
        let path = dir.join(&name);
        let unfinished = dir.join(format!("{name}{UNFINISHED}"));
        let made = disk.create(&unfinished).and_then(|file| {
            file.try_lock().map_err(|error| match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => io::Error::from(ErrorKind::WouldBlock),
            })?;
            fs::rename(&unfinished, &path)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Segment {
                name,
                path,
                file,
                written: AtomicU64::new(0),
                synced: AtomicU64::new(0),
                suspect: AtomicBool::new(false),
            }),
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

/// The calls that may fail, apart so that tests can make them fail.
pub(super) trait Disk: Send + Sync {
    fn create(&self, path: &Path) -> io::Result<File>;
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize>;
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's.
pub(super) struct Os;

impl Disk for Os {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

struct Open {
    current: Arc<Segment>,
    sealed: Vec<Arc<Segment>>,
    /// Number of the next segment.
    next: u32,
    broken: Option<Broken>,
    /// Settlements that the disk did not take, and their bytes.
    spill: VecDeque<Box<[u8]>>,
    spilled: usize,
    closed: bool,
}

/// The disk failed.
struct Broken {
    again: Instant,
    kind: ErrorKind,
    /// The current segment is not to be written to any more.
    fresh: bool,
}

/// Encodes into the thread's own buffer, so that a record costs no allocation.
fn encoded<T>(payload: impl FnOnce(&mut Vec<u8>), then: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // A settlement may come from a guard that is dropped while its thread ends, when thread-locals are gone.
    let mut out = BUFFER.try_with(RefCell::take).unwrap_or_default();
    out.clear();
    segment::record(&mut out, payload);
    let result = then(&out);
    if out.capacity() <= KEEP {
        let _ = BUFFER.try_with(|buffer| buffer.replace(out));
    }
    result
}

#[cfg(test)]
mod tests;
