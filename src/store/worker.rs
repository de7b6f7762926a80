//! The way of the records: from this process's segments, and from those of the dead, into the ledger.
//!
//! What dead processes left is drained to the end, and what they left open is counted as orphaned; the segments of
//! living processes are left alone. A segment's file goes only after its records are in the database file itself and
//! synced there. So a ledger that is lost or corrupt is rebuilt from the segments that are still there, and the only
//! copy of a record is never deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::exchange::record::Record;
use crate::store::batch::Batch;
use crate::store::books::{Books, Error};
use crate::store::drain::Shared;
use crate::store::failpoint;
use crate::store::journal::{Journal, UNFINISHED};
use crate::store::rollup::{Keep, Roller};
use crate::store::segment::{self, Form, Step};

/// Bytes read, and so applied in one transaction, at a time.
const WINDOW: usize = 4 << 20;
/// Most files of damaged bytes that are kept, and most bytes of each.
const KEPT_FILES: usize = 64;
const KEPT_BYTES: usize = 1 << 20;
/// How often it is looked for rows that have come to their age, where the last look found none.
const ROLL_UP: Duration = Duration::from_secs(60);
/// An unfinished segment of this age has no maker any more.
const STALE: Duration = Duration::from_secs(60);

/// What the draining thread can do. Every call may be repeated after an error.
pub(super) struct Worker {
    journal: Arc<Journal>,
    state_dir: PathBuf,
    shared: Arc<Shared>,
    books: Option<Books>,
    /// The file that was found corrupt while in use.
    condemned: Option<u64>,
    /// Processes with open attempts and no file, as the last look found them.
    vanished: BTreeSet<String>,
    buffer: Vec<u8>,
    roller: Roller,
    /// Rows that were rolled up since it last rested, and when that was.
    rolled: u64,
    rested: Option<Instant>,
    /// Durable steps until the crash that a test planted.
    #[cfg(test)]
    pub fuse: Option<u32>,
}

/// A segment of a dead process, held by its lock.
struct Left {
    name: String,
    path: PathBuf,
    file: File,
}

/// What dead processes left, by their names.
type Dead = BTreeMap<String, Vec<Left>>;

impl Worker {
    pub fn new(journal: Arc<Journal>, state_dir: &Path, shared: Arc<Shared>) -> Worker {
        Worker {
            journal,
            state_dir: state_dir.to_owned(),
            shared,
            books: None,
            condemned: None,
            vanished: BTreeSet::new(),
            buffer: Vec::new(),
            roller: Roller::default(),
            rolled: 0,
            rested: None,
            #[cfg(test)]
            fuse: None,
        }
    }

    /// Closes the database after an error, unless it was only busy; a corrupt one is not opened again.
    pub fn distrust(&mut self, error: &Error) {
        if let Some(books) = self.books.take_if(|_| !error.is_busy()) {
            self.condemned = error.is_corrupt().then(|| books.inode());
        }
    }

    pub fn close(&mut self) {
        self.books = None;
    }

    /// Opens the database, or the one that has taken its place.
    pub fn open(&mut self) -> Result<(), Error> {
        if self.books.as_ref().is_some_and(Books::is_current) {
            return Ok(());
        }
        self.books = None;
        let (books, aside) = Books::open(&self.state_dir, self.condemned, now())?;
        if let Some(aside) = aside {
            self.shared.counters.rebuilt.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                aside = %aside.display(),
                "the ledger was corrupt: it was moved aside and is rebuilt from the journal"
            );
        }
        self.condemned = None;
        self.books = Some(books);
        Ok(())
    }

    fn books(&mut self) -> Result<&mut Books, Error> {
        self.books.as_mut().ok_or_else(|| Error::Io(ErrorKind::NotConnected.into()))
    }

    /// Brings to the ledger what this process has appended, and removes segments that are done with.
    pub fn pass(&mut self) -> Result<(), Error> {
        self.open()?;
        let journal = Arc::clone(&self.journal);
        let segments = journal.segments();
        for segment in &segments {
            self.pump(&segment.name, journal.owner(), &segment.file, segment.written(), true)?;
        }
        let Some((_, sealed)) = segments.split_last() else { return Ok(()) };
        if sealed.is_empty() || !self.books()?.checkpoint()? {
            return Ok(());
        }
        for segment in sealed {
            self.remove(&segment.name, &segment.path)?;
            journal.forget(&segment.name);
        }
        Ok(())
    }

    /// Takes over what dead processes left.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.open()?;
        // One process at a time: two would wait for each other's segments.
        let lock = File::create(self.journal.dir().join("recover.lock"))?;
        if !locked(&lock)? {
            return Ok(());
        }
        // Asked before the files are listed: whatever is known here had a file then, unless that file is gone.
        let known = self.books()?.segments()?;
        let open = self.books()?.open_owners()?;
        let (dead, all) = self.left()?;
        for (owner, segments) in dead {
            for left in &segments {
                self.pump(&left.name, &owner, &left.file, left.file.metadata()?.len(), false)?;
            }
            self.orphan(&owner)?;
            if !self.books()?.checkpoint()? {
                continue;
            }
            for left in &segments {
                self.remove(&left.name, &left.path)?;
            }
        }
        for name in known {
            if !self.journal.dir().join(&name).exists() {
                self.books()?.forget(&name)?;
            }
        }
        // One whose files somebody else deleted. Listing a directory while it changes may miss a file, so it takes
        // two looks; and should the process live after all, its settlements will replace what is written here.
        let vanished: BTreeSet<String> = open.into_iter().filter(|owner| !all.contains(owner)).collect();
        for owner in vanished.intersection(&self.vanished.clone()) {
            self.orphan(owner)?;
        }
        self.vanished = vanished;
        Ok(())
    }

    /// Rolls up a slice of rows that have come to their age. One process at a time does.
    pub fn roll_up(&mut self, keep: &Keep) -> Result<(), Error> {
        if self.rested.is_some_and(|rested| rested.elapsed() < ROLL_UP) {
            return Ok(());
        }
        self.open()?;
        let lock = File::create(self.journal.dir().join("recover.lock"))?;
        if !locked(&lock)? {
            return Ok(());
        }
        let mut roller = std::mem::take(&mut self.roller);
        let rolled = roller.slice(self.books()?.connection(), keep)?;
        self.roller = roller;
        self.rolled += rolled as u64;
        self.rested = (rolled == 0).then(Instant::now);
        if rolled == 0 && self.rolled > 0 {
            tracing::info!(rows = self.rolled, "rows of the ledger have become sums of their days");
            self.rolled = 0;
        }
        Ok(())
    }

    /// Closes the journal and leaves nothing of it.
    pub fn finish(&mut self) -> Result<(), Error> {
        let journal = Arc::clone(&self.journal);
        journal.close();
        journal.sync();
        self.pass()?;
        self.orphan(journal.owner())?;
        if self.books()?.checkpoint()? {
            for segment in journal.segments() {
                self.remove(&segment.name, &segment.path)?;
            }
        }
        Ok(())
    }

    /// Drains a segment up to `end`, in transactions of a window each.
    fn pump(&mut self, name: &str, owner: &str, file: &File, end: u64, own: bool) -> Result<(), Error> {
        let mut books = self.books.take().ok_or_else(|| Error::Io(ErrorKind::NotConnected.into()))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut drain = || {
            loop {
                let at = books.drained(name)?;
                if at >= end {
                    return Ok(());
                }
                let wanted = usize::try_from(end - at).unwrap_or(WINDOW).min(WINDOW);
                if buffer.len() < wanted {
                    buffer.resize(wanted, 0);
                }
                let room = buffer.get_mut(..wanted).unwrap_or_default();
                let read = read_at(file, room, at)?;
                let last = at + read as u64 == end || read < wanted;
                let mut batch = books.begin(owner)?;
                let window = Window { name, bytes: room.get(..read).unwrap_or_default(), at, last, own };
                let found = self.walk(&window, &mut batch)?;
                // Bytes that a file should have and has not are past help.
                let drained = if last { end } else { at + found.used };
                batch.commit(name, drained)?;
                books.advanced(name, drained);
                if own {
                    self.shared.counters.drained.fetch_add(found.records, Ordering::Relaxed);
                }
                self.step()?;
            }
        };
        let drained = drain();
        self.books = Some(books);
        self.buffer = buffer;
        drained
    }

    /// Posts the records of a window.
    fn walk<'w>(&self, window: &Window<'w>, batch: &mut Batch<'_, 'w>) -> Result<Found, Error> {
        let Window { name, bytes, at, last, own } = *window;
        let form = Form::of(name).map_or(Form::Terse, |(_, form)| form);
        let mut found = Found::default();
        let mut damage = 0..0;
        let mut rest = bytes;
        loop {
            let used = bytes.len() - rest.len();
            let size = match segment::step(rest, form, last) {
                Step::Record { payload, size } => {
                    match Record::read(payload) {
                        Some(Record::Note) => {}
                        Some(record) => {
                            found.records += 1;
                            batch.post(record)?;
                        }
                        None => self.set_aside(name, at + used as u64, payload, "a record of an unknown kind"),
                    }
                    size
                }
                Step::Damage { size } => {
                    if damage.end != used {
                        self.damaged(window, &damage);
                        damage.start = used;
                    }
                    damage.end = used + size;
                    size
                }
                Step::Unfinished => {
                    self.damaged(window, &damage);
                    if last && !rest.is_empty() {
                        // Of our own segment only whole records are ever asked for.
                        if own {
                            self.damaged(window, &(used..bytes.len()));
                        } else {
                            self.shared.counters.torn.fetch_add(1, Ordering::Relaxed);
                            tracing::warn!(segment = name, bytes = rest.len(), "the segment ends within a record");
                        }
                    }
                    found.used = used as u64;
                    return Ok(found);
                }
            };
            rest = rest.get(size..).unwrap_or_default();
        }
    }

    fn damaged(&self, window: &Window<'_>, range: &std::ops::Range<usize>) {
        if let Some(bad) = window.bytes.get(range.clone())
            && !bad.is_empty()
        {
            self.set_aside(window.name, window.at + range.start as u64, bad, "damaged bytes");
        }
    }

    /// Keeps what could not be read, for people to look at, and says so.
    fn set_aside(&self, name: &str, at: u64, bytes: &[u8], what: &str) {
        self.shared.counters.damaged.fetch_add(1, Ordering::Relaxed);
        let dir = self.journal.dir();
        let kept = names(dir).map_or(KEPT_FILES, |names| names.iter().filter(|name| name.ends_with(".bad")).count());
        let aside = dir.join(format!("{name}.{at}.bad"));
        let written = if kept < KEPT_FILES {
            fs::write(&aside, bytes.get(..KEPT_BYTES).unwrap_or(bytes))
        } else {
            Err(io::Error::other("too many such files are kept already"))
        };
        match written {
            Ok(()) => {
                tracing::error!(segment = name, at, bytes = bytes.len(), aside = %aside.display(), "{what} in the journal");
            }
            Err(error) => {
                tracing::error!(segment = name, at, bytes = bytes.len(), %error, "{what} in the journal, not kept");
            }
        }
    }

    /// Dead processes with all their segments, oldest first, each held by its lock; and all that have a file.
    fn left(&self) -> Result<(Dead, BTreeSet<String>), Error> {
        let dir = self.journal.dir();
        let (mut dead, mut living, mut all) = (Dead::new(), BTreeSet::new(), BTreeSet::new());
        for name in names(dir)? {
            let path = dir.join(&name);
            if name.ends_with(UNFINISHED) {
                sweep(&path);
                continue;
            }
            let Some((owner, _)) = Form::of(&name).and_then(|(stem, _)| stem.rsplit_once('.')) else { continue };
            all.insert(owner.to_owned());
            if owner == self.journal.owner() {
                continue;
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            // Its owner may have removed it since it was listed.
            if !locked(&file)? || file.metadata()?.nlink() == 0 {
                living.insert(owner.to_owned());
            } else {
                dead.entry(owner.to_owned()).or_default().push(Left { name, path, file });
            }
        }
        // A process that died between two of its locks is taken at the next look.
        dead.retain(|owner, _| !living.contains(owner));
        for segments in dead.values_mut() {
            segments.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok((dead, all))
    }

    fn orphan(&mut self, owner: &str) -> Result<(), Error> {
        let orphaned = self.books()?.orphan(owner, now())?;
        if orphaned > 0 {
            self.shared.counters.orphaned.fetch_add(orphaned as u64, Ordering::Relaxed);
            tracing::warn!(owner, orphaned, "attempts of a process that died are counted at their reserve");
        }
        self.step()
    }

    fn remove(&mut self, name: &str, path: &Path) -> Result<(), Error> {
        self.step()?;
        failpoint::reach("remove.before");
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        failpoint::reach("remove.after");
        self.step()?;
        let forgotten = self.books()?.forget(name);
        failpoint::reach("forget.after");
        forgotten
    }

    /// Something became durable; tests plant crashes here.
    #[cfg(not(test))]
    fn step(&mut self) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&mut self) -> Result<(), Error> {
        match &mut self.fuse {
            Some(0) => Err(Error::Fuse),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Bytes of a segment, and where in it they stand.
struct Window<'w> {
    name: &'w str,
    bytes: &'w [u8],
    at: u64,
    /// No bytes will ever follow.
    last: bool,
    /// The segment is this process's.
    own: bool,
}

#[derive(Default)]
struct Found {
    records: u64,
    /// Bytes that are done with.
    used: u64,
}

/// Whether the lock was obtained.
fn locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes an unfinished segment whose maker is gone.
fn sweep(path: &Path) {
    let stale = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= STALE));
    if stale && File::open(path).and_then(|file| locked(&file)).is_ok_and(|locked| locked) {
        let _ = fs::remove_file(path);
    }
}

/// Reads as much as there is.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Unix milliseconds.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
