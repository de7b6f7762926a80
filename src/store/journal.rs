//! The journal: one record appended before an attempt and one after it, with one `write` each.
//!
//! The page cache outlives the process, so a `kill -9` loses nothing that was appended; syncing in groups, off the path,
//! covers the machine. Each process writes segments of its own, held by a lock (`flock`) for as long as it lives: two
//! processes overlap in an upgrade without knowing each other, and a segment whose lock can be had belongs to the dead.
//! A record is its length, its CRC-32 and a JSON object; a reader skips members that it does not know.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::exchange::record::{Intent, Record, Settlement};

/// A segment this long is followed by a new one.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Longest record that is believed; a longer length is damage.
const MOST_RECORD: u32 = 1 << 20;
/// Length and checksum.
const HEAD: usize = 8;

/// This process's end of the journal.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// Names this process among all that ever wrote here: start time and process id.
    owner: String,
    open: Mutex<Open>,
    healthy: AtomicBool,
    appended: AtomicU64,
    dirty: AtomicBool,
}

#[derive(Debug)]
struct Open {
    current: Segment,
    /// Full, and perhaps not drained yet; kept open for their locks.
    full: Vec<Segment>,
    made: u32,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens a segment for this process in `state_dir`/journal.
    ///
    /// # Errors
    /// The directory or the file cannot be made or locked.
    pub fn open(state_dir: &Path) -> io::Result<Journal> {
        let dir = state_dir.join("journal");
        fs::create_dir_all(&dir)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let owner = format!("{since:020}-{}", std::process::id());
        let current = Segment::create(&dir, &owner, 0)?;
        Ok(Journal {
            dir,
            owner,
            open: Mutex::new(Open { current, full: Vec::new(), made: 1 }),
            healthy: AtomicBool::new(true),
            appended: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
        })
    }

    /// Appends an attempt's intent. Nothing may be sent to a provider before this returned well.
    ///
    /// # Errors
    /// The record is not in the journal.
    pub fn append_intent(&self, intent: &Intent) -> io::Result<()> {
        self.append(|out| intent.write(out))
    }

    /// Appends an attempt's settlement.
    ///
    /// # Errors
    /// The record is not in the journal: the attempt will count as orphaned, at its reserve.
    pub fn append_settlement(&self, settlement: &Settlement) -> io::Result<()> {
        self.append(|out| settlement.write(out))
    }

    /// Whether the last append worked.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// Records appended by this process.
    pub fn appended(&self) -> u64 {
        self.appended.load(Relaxed)
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// This process's segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let open = self.lock();
        open.full.iter().chain([&open.current]).map(|segment| segment.path.clone()).collect()
    }

    /// Forgets and removes a full segment that has been drained to its end.
    pub fn remove(&self, path: &Path) {
        let mut open = self.lock();
        if let Some(at) = open.full.iter().position(|segment| segment.path == path) {
            let segment = open.full.remove(at);
            let _ = fs::remove_file(&segment.path);
        }
    }

    /// Whether a segment is full: nothing will be appended to it any more.
    pub fn is_full(&self, path: &Path) -> bool {
        self.lock().full.iter().any(|segment| segment.path == path)
    }

    /// Syncs what was appended to the disk. Called in groups, off the path.
    ///
    /// # Errors
    /// The disk refused. The kernel may have dropped the pages, so a new segment is begun rather than trusting a later
    /// sync of the same file.
    pub fn sync(&self) -> io::Result<()> {
        if !self.dirty.swap(false, Relaxed) {
            return Ok(());
        }
        let file = self.lock().current.file.try_clone()?;
        let synced = file.sync_data();
        if synced.is_err() {
            self.healthy.store(false, Relaxed);
            let _ = self.rotate(&mut self.lock());
        }
        synced
    }

    fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            buffer.extend_from_slice(&[0; HEAD]);
            write(buffer);
            let (head, payload) = buffer.split_at_mut(HEAD);
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let (length_at, crc_at) = head.split_at_mut(4);
            length_at.copy_from_slice(&length.to_le_bytes());
            crc_at.copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
            let written = self.append_bytes(buffer);
            self.healthy.store(written.is_ok(), Relaxed);
            if written.is_ok() {
                self.appended.fetch_add(1, Relaxed);
                self.dirty.store(true, Relaxed);
            }
            // A record that was huge must not hold its memory for ever.
            if buffer.capacity() > 64 * 1024 {
                *buffer = Vec::new();
            }
            written
        })
    }

    fn append_bytes(&self, record: &[u8]) -> io::Result<()> {
        let mut open = self.lock();
        if open.current.bytes >= SEGMENT_BYTES {
            self.rotate(&mut open)?;
        }
        open.current.append(record)
    }

    fn rotate(&self, open: &mut Open) -> io::Result<()> {
        let next = Segment::create(&self.dir, &self.owner, open.made)?;
        open.made += 1;
        let full = std::mem::replace(&mut open.current, next);
        open.full.push(full);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segment {
    fn create(dir: &Path, owner: &str, number: u32) -> io::Result<Segment> {
        let path = dir.join(format!("{owner}.{number:06}.segment"));
        let file = OpenOptions::new().append(true).read(true).create_new(true).open(&path)?;
        if !lock(&file) {
            return Err(io::Error::other("a new segment of the journal is locked by somebody else"));
        }
        Ok(Segment { path, file, bytes: 0 })
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        // `write_all` is one `write` unless the disk is full, when what came through is taken back.
        match self.file.write_all(record) {
            Ok(()) => {
                self.bytes += record.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.bytes)?;
                Err(error)
            }
        }
    }
}

/// Takes the exclusive lock of a segment, if nobody has it. It goes with the last descriptor of the open file.
pub fn lock(file: &File) -> bool {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and touches no memory of ours.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    result == 0
}

/// What was read of a segment.
#[derive(Debug, Default)]
pub struct Reading {
    pub records: Vec<Record>,
    /// Offset up to which the segment has been read.
    pub offset: u64,
    /// Bytes passed over because their checksum or length was wrong.
    pub damaged: u64,
}

/// Reads the records from an offset on, as many as are whole. With `to_the_end` (of a dead process's segment) damage is
/// passed over to the next whole record; otherwise an unfinished tail is left for the next reading.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path, from: u64, to_the_end: bool) -> io::Result<Reading> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(SEGMENT_BYTES * 2).read_to_end(&mut bytes)?;
    let mut found = Reading { offset: from, ..Reading::default() };
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match record(rest) {
            Some((record, length)) => {
                found.records.push(record);
                at += length;
            }
            None if to_the_end => {
                // Damage: look for the next offset at which a whole record with a right checksum begins.
                at += 1;
                found.damaged += 1;
            }
            None => break,
        }
    }
    found.offset += at as u64;
    Ok(found)
}

fn record(bytes: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length == 0 || length > MOST_RECORD {
        return None;
    }
    let payload = rest.get(..length as usize)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((Record::read(payload)?, HEAD + payload.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::record::Id;

    fn intent(n: u128) -> Intent {
        Intent {
            attempt: Id(n),
            request: Id(n << 8),
            key: "k\"1".into(),
            tags: vec![("a".into(), "b".into())],
            ..Intent::default()
        }
    }

    fn settlement(n: u128) -> Settlement {
        Settlement {
            attempt: Id(n),
            outcome: "ok".into(),
            cost: 5,
            usage: Some(crate::ir::Usage { input: 1, output: 2, ..Default::default() }),
            ..Settlement::default()
        }
    }

    fn filled(dir: &Path) -> (Journal, Vec<Record>) {
        let journal = Journal::open(dir).unwrap();
        let mut wrote = Vec::new();
        for n in 1..=20 {
            journal.append_intent(&intent(n)).unwrap();
            wrote.push(Record::Intent(intent(n)));
            journal.append_settlement(&settlement(n)).unwrap();
            wrote.push(Record::Settlement(settlement(n)));
        }
        (journal, wrote)
    }

    #[test]
    fn what_is_appended_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, wrote) = filled(dir.path());
        let path = journal.segments().remove(0);
        let all = read(&path, 0, false).unwrap();
        assert_eq!(all.records, wrote);
        assert_eq!(all.offset, fs::metadata(&path).unwrap().len());
        assert!(read(&path, all.offset, false).unwrap().records.is_empty());
        assert_eq!(journal.appended(), 40);
    }

    #[test]
    fn every_torn_tail_leaves_the_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, wrote) = filled(dir.path());
        let bytes = fs::read(journal.segments().remove(0)).unwrap();
        let torn = dir.path().join("torn");
        let mut whole_before = 0;
        for length in 0..=bytes.len() {
            fs::write(&torn, &bytes[..length]).unwrap();
            let found = read(&torn, 0, false).unwrap();
            assert_eq!(found.records[..], wrote[..found.records.len()]);
            assert!(found.records.len() >= whole_before && found.offset <= length as u64);
            whole_before = found.records.len();
        }
        assert_eq!(whole_before, 40);
    }

    #[test]
    fn flipped_bits_are_found_and_the_rest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, wrote) = filled(dir.path());
        let bytes = fs::read(journal.segments().remove(0)).unwrap();
        let bad = dir.path().join("bad");
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let mut flipped = bytes.clone();
            let at = rng.usize(..flipped.len());
            flipped[at] ^= 1 << rng.u8(..8);
            fs::write(&bad, &flipped).unwrap();
            let found = read(&bad, 0, true).unwrap();
            assert_eq!(found.records.len(), 39, "one record is lost, and no other");
            assert!(found.damaged > 0);
            assert!(found.records.iter().all(|record| wrote.contains(record)));
        }
    }

    #[test]
    fn a_living_process_holds_its_segment() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = filled(dir.path());
        let path = journal.segments().remove(0);
        assert!(!lock(&File::open(&path).unwrap()));
        drop(journal);
        assert!(lock(&File::open(&path).unwrap()));
    }
}
