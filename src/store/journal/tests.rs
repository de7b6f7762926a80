//! The journal on disks that fail.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::exchange::record::{Id, Record};
use crate::store::segment::{Form, Step};

/// A disk whose calls do what a test says: each call takes the next fault of its list, if there is one.
#[derive(Default)]
struct Faulty {
    writes: Mutex<VecDeque<Fault>>,
    truncates: AtomicU32,
    syncs: AtomicU32,
    creates: AtomicU32,
    /// Bytes that may still be written; then the disk is full.
    space: Mutex<Option<usize>>,
    /// The `n`th write of all fails.
    nth: AtomicU32,
}

#[derive(Clone, Copy)]
enum Fault {
    Fine,
    Error(i32),
    Short(usize),
}

impl Disk for Arc<Faulty> {
    fn create(&self, path: &Path) -> io::Result<File> {
        spend(&self.creates)?;
        Os.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        if self.nth.load(Ordering::Relaxed) > 0 && self.nth.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let fault = self.writes.lock().unwrap().pop_front().unwrap_or(Fault::Fine);
        let mut length = match fault {
            Fault::Fine => bytes.len(),
            Fault::Error(code) => return Err(io::Error::from_raw_os_error(code)),
            Fault::Short(length) => length.min(bytes.len()),
        };
        if let Some(space) = &mut *self.space.lock().unwrap() {
            if *space == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            length = length.min(*space);
            *space -= length;
        }
        Os.write(file, &bytes[..length])
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        spend(&self.truncates)?;
        if let Some(space) = &mut *self.space.lock().unwrap() {
            *space += usize::try_from(file.metadata()?.len() - length).unwrap();
        }
        Os.truncate(file, length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.is_dir() {
            return Os.sync(file);
        }
        spend(&self.syncs)?;
        Os.sync(file)
    }
}

/// Fails as often as the counter says.
fn spend(failures: &AtomicU32) -> io::Result<()> {
    match failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        Err(_) => Ok(()),
    }
}

fn intent(n: u128) -> Intent<'static> {
    Intent { attempt: Id(n), key: "k".into(), ..Intent::default() }
}

fn settlement(n: u128) -> Settlement<'static> {
    Settlement { attempt: Id(n), outcome: "ok".into(), cost: 5, ..Settlement::default() }
}

fn faulty(dir: &Path) -> (Arc<Faulty>, Journal) {
    let disk = Arc::new(Faulty::default());
    let journal = Journal::with(dir, Box::new(Arc::clone(&disk)), ROTATE, Duration::from_millis(20)).unwrap();
    (disk, journal)
}

/// All records of all segments in order, as `(attempt, is settlement)`. Whatever a segment's file has beyond its whole
/// records is not looked at, as the drain does not.
fn written(journal: &Journal) -> Vec<(u128, bool)> {
    let mut found = Vec::new();
    for segment in journal.segments() {
        let bytes = fs::read(&segment.path).unwrap();
        let mut rest = &bytes[..usize::try_from(segment.written()).unwrap()];
        while !rest.is_empty() {
            let Step::Record { payload, size } = segment::step(rest, Form::Terse, true) else {
                panic!("not whole: {rest:?}")
            };
            match Record::read(payload) {
                Some(Record::Intent(intent)) => found.push((intent.attempt.0, false)),
                Some(Record::Settlement(settlement)) => found.push((settlement.attempt.0, true)),
                found => assert_eq!(found, Some(Record::Note)),
            }
            rest = &rest[size..];
        }
    }
    found
}

fn pause() {
    std::thread::sleep(Duration::from_millis(25));
}

#[test]
fn e_4_interrupted_and_short_writes_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, journal) = faulty(dir.path());
    disk.writes.lock().unwrap().extend([Fault::Error(libc::EINTR), Fault::Short(3), Fault::Short(1), Fault::Fine]);
    journal.append_intent(&intent(1)).unwrap();
    journal.append_settlement(&settlement(1)).unwrap();
    assert_eq!(written(&journal), [(1, false), (1, true)]);
    assert!(journal.healthy());
    assert_eq!(journal.figures(), Figures { appended: 2, ..Figures::default() });
}

#[test]
fn e_3_any_nth_write_may_fail() {
    for nth in 1..=8 {
        let dir = tempfile::tempdir().unwrap();
        let (disk, journal) = faulty(dir.path());
        disk.nth.store(nth, Ordering::Relaxed);
        let mut taken = Vec::new();
        for n in 1..=4 {
            if journal.append_intent(&intent(n)).is_ok() {
                taken.push((n, false));
                journal.append_settlement(&settlement(n)).unwrap();
                taken.push((n, true));
            }
            pause();
        }
        journal.heal();
        assert_eq!(written(&journal), taken, "what was answered with Ok is there, in order (write {nth} failed)");
        assert!(taken.len() >= 6, "one failure costs at most the one call that met it");
        assert!(journal.healthy());
    }
}

#[test]
fn e_1_a_full_disk_refuses_intents_keeps_settlements_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, journal) = faulty(dir.path());
    for n in 1..=3 {
        journal.append_intent(&intent(n)).unwrap();
    }
    *disk.space.lock().unwrap() = Some(10);
    journal.append_settlement(&settlement(1)).unwrap();
    assert!(!journal.healthy());
    assert!(journal.append_intent(&intent(4)).is_err());
    pause();
    journal.append_settlement(&settlement(2)).unwrap();
    assert!(journal.append_intent(&intent(5)).is_err());
    assert_eq!(journal.figures().kept, 2);
    assert_eq!(journal.figures().lost, 0);
    assert_eq!(written(&journal), [(1, false), (2, false), (3, false)]);

    *disk.space.lock().unwrap() = None;
    pause();
    journal.heal();
    assert!(journal.healthy(), "healed without a call that tries");
    journal.append_settlement(&settlement(3)).unwrap();
    let all = [(1, false), (2, false), (3, false), (1, true), (2, true), (3, true)];
    assert_eq!(written(&journal), all);
    assert_eq!(journal.segments().len(), 1, "a full disk needs no new segment");
    assert_eq!(journal.figures().kept, 0);
    let file = fs::metadata(&journal.segments()[0].path).unwrap();
    assert_eq!(file.len(), journal.segments()[0].written(), "no piece of a record is left");
}

#[test]
fn what_cannot_be_cut_off_is_left_behind_in_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, journal) = faulty(dir.path());
    journal.append_intent(&intent(1)).unwrap();
    disk.writes.lock().unwrap().extend([Fault::Short(9), Fault::Error(libc::ENOSPC)]);
    disk.truncates.store(1, Ordering::Relaxed);
    assert!(journal.append_intent(&intent(2)).is_err());
    pause();
    journal.append_intent(&intent(3)).unwrap();
    assert_eq!(journal.segments().len(), 2);
    assert_eq!(written(&journal), [(1, false), (3, false)]);
}

#[test]
fn a_failed_disk_is_not_tried_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Faulty::default());
    let journal = Journal::with(dir.path(), Box::new(Arc::clone(&disk)), ROTATE, Duration::from_secs(60)).unwrap();
    disk.writes.lock().unwrap().push_back(Fault::Error(libc::EIO));
    for n in 0..100 {
        assert!(journal.append_intent(&intent(n)).is_err(), "only the first try reaches the disk");
    }
    journal.heal();
    assert!(!journal.healthy());
    assert!(written(&journal).is_empty());
}

#[test]
fn e_2_after_a_failed_sync_the_file_is_never_trusted_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, journal) = faulty(dir.path());
    journal.append_intent(&intent(1)).unwrap();
    journal.sync();
    journal.append_intent(&intent(2)).unwrap();
    journal.append_settlement(&settlement(2)).unwrap();
    disk.syncs.store(1, Ordering::Relaxed);
    journal.sync();
    assert!(!journal.healthy(), "the alarm stands until a sync went well");
    assert_eq!(journal.segments().len(), 2);
    assert_eq!(
        written(&journal),
        [(1, false), (2, false), (2, true), (2, false), (2, true)],
        "what was not synced stands in the new segment once more"
    );
    journal.append_intent(&intent(3)).unwrap();
    journal.sync();
    assert!(journal.healthy());
    // And for ever: every sync fails, and a new segment cannot be made either.
    disk.syncs.store(u32::MAX, Ordering::Relaxed);
    disk.creates.store(u32::MAX, Ordering::Relaxed);
    journal.append_intent(&intent(4)).unwrap();
    journal.sync();
    assert!(!journal.healthy());
    assert!(journal.append_intent(&intent(5)).is_err(), "no record goes to a file whose sync failed");
    journal.sync();
    disk.syncs.store(0, Ordering::Relaxed);
    disk.creates.store(0, Ordering::Relaxed);
    pause();
    journal.heal();
    journal.sync();
    journal.sync();
    assert!(journal.healthy());
    journal.append_intent(&intent(6)).unwrap();
    let found = written(&journal);
    assert_eq!(found.iter().filter(|record| **record == (4, false)).count(), 2, "{found:?}");
    assert_eq!(found.last(), Some(&(6, false)));
}

#[test]
fn segments_rotate_and_stay_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::with(dir.path(), Box::new(Os), 400, PAUSE).unwrap();
    for n in 0..30 {
        journal.append_intent(&intent(n)).unwrap();
    }
    assert!(journal.segments().len() > 3);
    assert_eq!(written(&journal), (0..30).map(|n| (n, false)).collect::<Vec<_>>());
}

#[test]
fn oversized_records_are_refused_and_hurt_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let huge = Intent { key: "k".repeat(segment::MOST).into(), ..intent(1) };
    assert_eq!(journal.append_intent(&huge).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(journal.healthy());
    journal.append_intent(&intent(2)).unwrap();
    assert_eq!(written(&journal), [(2, false)]);
}

#[test]
fn threads_append_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::with(dir.path(), Box::new(Os), 8_000, PAUSE).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..200 {
                    journal.append_intent(&intent(thread * 1_000 + n)).unwrap();
                    journal.append_settlement(&settlement(thread * 1_000 + n)).unwrap();
                }
            });
        }
    });
    let mut found = written(&journal);
    assert_eq!(found.len(), 1_600);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1_600);
    assert_eq!(journal.appended(), 1_600);
}

#[test]
fn a_living_process_holds_its_segments() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let path = journal.segments()[0].path.clone();
    let other = File::open(&path).unwrap();
    assert!(other.try_lock().is_err());
    drop(journal);
    // A process that another test starts just now has all our locks until it becomes another program.
    let free = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        other.try_lock().is_ok()
    });
    assert!(free);
}
