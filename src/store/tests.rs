//! Journal, drain and ledger together: every way to die, and what must be in the rows afterwards.

mod versions;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::books::{self, Books, Error};
use super::drain::Shared;
use super::journal::{Journal, Os};
use super::ledger::{Ledger, Query, State};
use super::query::{Attempt, Reader};
use super::worker::Worker;
use crate::exchange::record::{Id, Intent, Settlement};
use crate::ir::Usage;

const RESERVE: u64 = 1_000;

fn intent(n: u128) -> Intent<'static> {
    Intent {
        attempt: Id(n),
        request: Id(n / 2),
        at: 1_700_000_000_000 + n as u64,
        key: "k".into(),
        model: "m".into(),
        reserve: RESERVE,
        price_version: "p".into(),
        input_estimate: 3,
        tags: r#"{"team":"a"}"#.into(),
        ..Intent::default()
    }
}

fn settlement(n: u128, cost: u64) -> Settlement<'static> {
    let usage = Usage { input: 10, output: 5, cached: 3, tool_prompt: 1, stated_total: Some(15), ..Usage::default() };
    Settlement {
        attempt: Id(n),
        begun: intent(n).at,
        at: 1_700_000_000_500,
        outcome: "ok".into(),
        status: 200,
        cost,
        usage: Some(usage),
        latency_us: 70,
        served: true,
        ..Settlement::default()
    }
}

fn worker(dir: &Path, journal: &Arc<Journal>) -> Worker {
    Worker::new(Arc::clone(journal), dir, Arc::new(Shared::default()))
}

fn small(dir: &Path, rotate: u64) -> Arc<Journal> {
    Arc::new(Journal::with(dir, Box::new(Os), rotate, Duration::ZERO).unwrap())
}

fn rows(dir: &Path) -> BTreeMap<u128, Attempt> {
    let all = Reader::new(dir).recent(10_000).unwrap();
    let count = all.len();
    let rows: BTreeMap<_, _> = all.into_iter().map(|row| (row.intent.attempt.0, row)).collect();
    assert_eq!(rows.len(), count, "an attempt has one row");
    rows
}

/// State and cost of each row.
fn costs(dir: &Path) -> Vec<(u128, State, u64)> {
    let cost = |row: &Attempt| row.settlement.as_ref().map_or(0, |settlement| settlement.cost);
    rows(dir).into_iter().map(|(n, row)| (n, row.state, cost(&row))).collect()
}

/// Starts anew after a crash and takes over what is left; nothing but the new process's own segment may remain.
fn restart(dir: &Path) {
    let journal = Arc::new(Journal::open(dir).unwrap());
    take_over(dir, &journal, 1);
}

/// Takes over what the dead left, until so many segments remain. Another test may start a process just now, whose
/// child has all our locks until it becomes another program: hence the patience.
fn take_over(dir: &Path, journal: &Arc<Journal>, remain: usize) {
    let by = Instant::now() + Duration::from_secs(5);
    loop {
        worker(dir, journal).recover().unwrap();
        let left = segments(dir);
        if left.len() == remain {
            return;
        }
        assert!(Instant::now() < by, "left: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "records"))
        .collect();
    found.sort();
    found
}

fn bad(dir: &Path) -> usize {
    fs::read_dir(dir.join("journal"))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().to_string_lossy().ends_with(".bad"))
        .count()
}

#[test]
fn a_row_has_all_that_the_records_said() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    let first = Intent {
        team: "t".into(),
        organisation: "o".into(),
        user: "u".into(),
        region: "eu".into(),
        dialect: "gemini".into(),
        route: "weighted;resting".into(),
        rates: r#"{"input":1,"output":2}"#.into(),
        ..intent(1)
    };
    let end = Settlement { share: "split 3".into(), ..settlement(1, 7) };
    journal.append_intent(&first).unwrap();
    journal.append_intent(&intent(2)).unwrap();
    journal.append_settlement(&end).unwrap();
    worker(dir.path(), &journal).pass().unwrap();
    let segment = &journal.segments()[0];
    let (mut books, _) = Books::open(dir.path(), None, 0).unwrap();
    assert_eq!(books.drained(&segment.name).unwrap(), segment.written(), "nothing will be read again");
    let rows = rows(dir.path());
    assert_eq!(rows[&1], Attempt { intent: first, state: State::Settled, settlement: Some(end) });
    assert_eq!(rows[&2], Attempt { intent: intent(2), state: State::Open, settlement: None });
}

#[test]
fn d_1_what_a_dead_process_left_open_counts_at_its_reserve_and_the_living_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dead = small(dir.path(), 1 << 20);
    dead.append_intent(&intent(1)).unwrap();
    dead.append_settlement(&settlement(1, 7)).unwrap();
    worker(dir.path(), &dead).pass().unwrap();
    dead.append_intent(&intent(2)).unwrap();
    drop(dead);
    let living = small(dir.path(), 1 << 20);
    living.append_intent(&intent(3)).unwrap();
    worker(dir.path(), &living).pass().unwrap();
    let third = small(dir.path(), 1 << 20);
    take_over(dir.path(), &third, 2);
    let expected = [(1, State::Settled, 7), (2, State::Orphaned, RESERVE), (3, State::Open, 0)];
    assert_eq!(costs(dir.path()), expected);
    let orphan = rows(dir.path())[&2].settlement.clone().unwrap();
    assert!(orphan.estimated && orphan.outcome == "orphaned");
    assert_eq!(orphan.usage, Some(Usage { input: 3, ..Usage::default() }));
    living.append_settlement(&settlement(3, 9)).unwrap();
    worker(dir.path(), &living).pass().unwrap();
    assert_eq!(costs(dir.path())[2], (3, State::Settled, 9));
}

#[test]
fn e_6_every_torn_tail_keeps_what_was_whole() {
    let source = tempfile::tempdir().unwrap();
    let journal = small(source.path(), 1 << 20);
    for n in 1..=3 {
        journal.append_intent(&intent(n)).unwrap();
        journal.append_settlement(&settlement(n, n as u64)).unwrap();
    }
    let bytes = fs::read(&segments(source.path())[0]).unwrap();
    let mut seen = 0;
    for length in (0..=bytes.len()).step_by(31).chain([bytes.len()]) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("journal")).unwrap();
        fs::write(dir.path().join("journal/0-1-x.000000.records"), &bytes[..length]).unwrap();
        restart(dir.path());
        let found = costs(dir.path());
        for (n, state, cost) in &found {
            let expected = if *state == State::Settled { *n as u64 } else { RESERVE };
            assert_eq!(*cost, expected, "cut at {length}");
        }
        assert!(found.len() >= seen && found.iter().all(|row| row.1 != State::Open), "cut at {length}");
        seen = found.len();
        assert_eq!(bad(dir.path()), 0, "a torn tail is what a crash leaves, and no damage");
    }
    assert_eq!(seen, 3);
}

#[test]
fn e_6_flipped_bits_cost_one_record_and_are_set_aside() {
    let source = tempfile::tempdir().unwrap();
    let journal = small(source.path(), 1 << 20);
    for n in 1..=4 {
        journal.append_intent(&intent(n)).unwrap();
    }
    let bytes = fs::read(&segments(source.path())[0]).unwrap();
    for at in (0..bytes.len() * 3 / 4).step_by(103) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("journal")).unwrap();
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(dir.path().join("journal/0-1-x.000000.records"), &bytes).unwrap();
        restart(dir.path());
        assert_eq!(costs(dir.path()).len(), 3, "flipped at {at}");
        assert_eq!(bad(dir.path()), 1, "flipped at {at}");
    }
}

#[test]
fn damage_in_the_own_segment_does_not_hold_up_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    for n in 1..=3 {
        journal.append_intent(&intent(n)).unwrap();
    }
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut worker = worker(dir.path(), &journal);
    worker.pass().unwrap();
    journal.append_intent(&intent(4)).unwrap();
    worker.pass().unwrap();
    assert_eq!(rows(dir.path()).into_keys().collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(bad(dir.path()), 1);
}

#[test]
fn a_record_of_an_unknown_kind_is_set_aside_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    journal.append_intent(&intent(1)).unwrap();
    drop(journal);
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    super::segment::record(&mut bytes, |out| out.extend_from_slice(b"\xffportolanx of tomorrow"));
    super::segment::record(&mut bytes, |out| intent(2).write(out));
    fs::write(&path, &bytes).unwrap();
    restart(dir.path());
    assert_eq!(costs(dir.path()).len(), 2);
    assert_eq!(bad(dir.path()), 1);
}

#[test]
fn full_segments_go_when_they_are_drained_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 800);
    let mut worker = worker(dir.path(), &journal);
    for n in 0..20 {
        journal.append_intent(&intent(n)).unwrap();
        journal.append_settlement(&settlement(n, 1)).unwrap();
    }
    let before = segments(dir.path()).len();
    assert!(before > 3);
    worker.pass().unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(costs(dir.path()), (0..20).map(|n| (n, State::Settled, 1)).collect::<Vec<_>>());
    let known = Books::open(dir.path(), None, 0).unwrap().0.segments().unwrap();
    assert!(known.len() <= 1, "the ledger forgets segments that are gone: {known:?}");
}

#[test]
fn d_2_a_crash_at_every_durable_step_counts_each_record_once() {
    // What a process does until the fuse blows, then its death; then what the next two make of it.
    let mut crashes = 0;
    for fuse in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let dead = small(dir.path(), 1 << 20);
        dead.append_intent(&intent(100)).unwrap();
        dead.append_intent(&intent(101)).unwrap();
        dead.append_settlement(&settlement(101, 4)).unwrap();
        drop(dead);

        let journal = small(dir.path(), 500);
        let mut dying = worker(dir.path(), &journal);
        dying.fuse = Some(fuse);
        let mut blown = dying.recover().is_err();
        for n in 0..12 {
            journal.append_intent(&intent(n)).unwrap();
            if n % 3 != 0 {
                journal.append_settlement(&settlement(n, n as u64)).unwrap();
            }
            blown = blown || (n % 4 == 3 && dying.pass().is_err());
        }
        blown = blown || dying.finish().is_err();
        drop((journal, dying));
        if blown {
            restart(dir.path());
        }
        restart(dir.path());
        let mut expected: Vec<_> = (0..12)
            .map(
                |n: u128| {
                    if n.is_multiple_of(3) { (n, State::Orphaned, RESERVE) } else { (n, State::Settled, n as u64) }
                },
            )
            .collect();
        expected.extend([(100, State::Orphaned, RESERVE), (101, State::Settled, 4)]);
        assert_eq!(costs(dir.path()), expected, "crash at step {fuse}");
        if !blown {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 10, "{crashes} steps");
}

#[test]
fn a_provisional_settlement_never_undoes_a_final_one() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    let draining = Settlement { outcome: "draining".into(), ..settlement(1, 3) };
    journal.append_intent(&intent(1)).unwrap();
    journal.append_settlement(&draining).unwrap();
    journal.append_settlement(&settlement(1, 7)).unwrap();
    journal.append_settlement(&draining).unwrap();
    worker(dir.path(), &journal).pass().unwrap();
    assert_eq!(costs(dir.path()), [(1, State::Settled, 7)]);
}

#[test]
fn e_7_a_corrupt_ledger_is_moved_aside_and_rebuilt_from_the_journal() {
    for damage in ["garbage", "header", "gone", "page"] {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path(), 1 << 20);
        for n in 0..200 {
            journal.append_intent(&intent(n)).unwrap();
        }
        let mut worker = worker(dir.path(), &journal);
        worker.pass().unwrap();
        let ledger = books::path(dir.path());
        if damage != "gone" {
            // Everything is in the database file itself, and the connection is gone.
            Books::open(dir.path(), None, 0).unwrap().0.checkpoint().unwrap();
        }
        drop(worker);
        match damage {
            "garbage" => fs::write(&ledger, vec![b'x'; 9_000]).unwrap(),
            "gone" => fs::remove_file(&ledger).unwrap(),
            _ => {
                let mut bytes = fs::read(&ledger).unwrap();
                let at = if damage == "header" { 0 } else { bytes.len() / 4096 / 2 * 4096 };
                bytes[at..at + 64].fill(0xa5);
                fs::write(&ledger, bytes).unwrap();
            }
        }
        let mut worker = self::worker(dir.path(), &journal);
        worker.pass().unwrap();
        assert_eq!(rows(dir.path()).len(), 200, "{damage}");
        let aside = fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().to_string_lossy().contains("corrupt"))
            .count();
        assert_eq!(aside > 0, damage != "gone", "{damage}");
    }
}

#[test]
fn a_ledger_replaced_under_a_running_process_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path()).unwrap());
    let ledger = Ledger::open(dir.path(), Arc::clone(&journal)).unwrap();
    journal.append_intent(&intent(1)).unwrap();
    assert!(ledger.flush(Duration::from_secs(10)));
    assert_eq!(ledger.recent(9).unwrap().len(), 1);
    for part in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("ledger.sqlite{part}")));
    }
    journal.append_intent(&intent(2)).unwrap();
    assert!(ledger.flush(Duration::from_secs(10)));
    assert_eq!(ledger.recent(9).unwrap().len(), 2, "what the journal still has comes back");
}

#[test]
fn e_7_a_locked_ledger_never_holds_up_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path()).unwrap());
    let ledger = Ledger::open(dir.path(), Arc::clone(&journal)).unwrap();
    journal.append_intent(&intent(1)).unwrap();
    assert!(ledger.flush(Duration::from_secs(10)));
    let other = rusqlite::Connection::open(books::path(dir.path())).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    for n in 2..100 {
        journal.append_intent(&intent(n)).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(!ledger.flush(Duration::from_millis(300)), "and says so");
    assert_eq!(ledger.lag(), 98);
    assert_eq!(ledger.usage(&Query::default()).unwrap()[0].attempts, 1, "questions are answered meanwhile");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(ledger.flush(Duration::from_secs(10)));
    assert_eq!(ledger.lag(), 0);
}

#[test]
fn attempts_of_one_millisecond_with_the_same_last_bits_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    let mut worker = worker(dir.path(), &journal);
    let ids = [1 << 64 | 0xfffff, 2 << 64 | 0xfffff, 3 << 64 | 0xfffff];
    let intent = |n| Intent { at: 5, ..intent(n) };
    let settlement = |n, cost| Settlement { begun: 5, ..settlement(n, cost) };
    for cost in [1, 2] {
        journal.append_intent(&intent(ids[0])).unwrap();
        journal.append_intent(&intent(ids[1])).unwrap();
        journal.append_settlement(&settlement(ids[1], cost)).unwrap();
        worker.pass().unwrap();
        journal.append_intent(&intent(ids[2])).unwrap();
        worker.pass().unwrap();
        journal.append_settlement(&settlement(ids[2], cost)).unwrap();
        journal.append_settlement(&settlement(ids[0], cost)).unwrap();
        worker.pass().unwrap();
        assert_eq!(costs(dir.path()), ids.map(|n| (n, State::Settled, cost)), "once more: the same rows");
        assert!(rows(dir.path()).values().all(|row| row.intent.at == 5));
    }
}

#[test]
fn an_intent_that_comes_after_its_settlement_completes_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    let mut worker = worker(dir.path(), &journal);
    journal.append_settlement(&settlement(1, 7)).unwrap();
    worker.pass().unwrap();
    assert_eq!(rows(dir.path())[&1].intent.key, "");
    journal.append_intent(&intent(1)).unwrap();
    worker.pass().unwrap();
    let row = Attempt { intent: intent(1), state: State::Settled, settlement: Some(settlement(1, 7)) };
    assert_eq!(rows(dir.path()), BTreeMap::from([(1, row)]));
}

#[test]
fn stopping_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path()).unwrap());
    let ledger = Ledger::open(dir.path(), Arc::clone(&journal)).unwrap();
    journal.append_intent(&intent(1)).unwrap();
    journal.append_intent(&intent(2)).unwrap();
    journal.append_settlement(&settlement(1, 7)).unwrap();
    ledger.stop();
    assert!(segments(dir.path()).is_empty());
    assert_eq!(costs(dir.path()), [(1, State::Settled, 7), (2, State::Orphaned, RESERVE)]);
    assert!(journal.append_intent(&intent(3)).is_err(), "nobody would ever read it");
}

#[test]
fn files_that_somebody_deleted_leave_no_attempt_open_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let gone = small(dir.path(), 1 << 20);
    gone.append_intent(&intent(1)).unwrap();
    worker(dir.path(), &gone).pass().unwrap();
    drop(gone);
    fs::remove_file(&segments(dir.path())[0]).unwrap();
    let journal = small(dir.path(), 1 << 20);
    let mut worker = worker(dir.path(), &journal);
    worker.recover().unwrap();
    assert_eq!(costs(dir.path())[0].1, State::Open, "one look may have missed its file");
    worker.recover().unwrap();
    assert_eq!(costs(dir.path())[0].1, State::Orphaned);
}

#[test]
fn unfinished_segments_of_the_living_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    let (young, old) = (dir.path().join("journal/a.segment.new"), dir.path().join("journal/b.segment.new"));
    File::create(&young).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(600);
    File::create(&old).unwrap().set_modified(long_ago).unwrap();
    worker(dir.path(), &journal).recover().unwrap();
    assert!(young.exists() && !old.exists());
}

/// Not a test of its own: what [`d_1_killed_processes_lose_nothing_they_were_promised`] starts and kills.
#[test]
#[ignore = "runs as the child of another test"]
fn child() {
    let Ok(dir) = std::env::var("PORTOLAN_TEST_STATE") else { return };
    let journal = Arc::new(Journal::with(Path::new(&dir), Box::new(Os), 8_000, Duration::ZERO).unwrap());
    let _ledger = Ledger::open(Path::new(&dir), Arc::clone(&journal)).unwrap();
    let start: u128 = std::env::var("PORTOLAN_TEST_START").unwrap().parse().unwrap();
    for n in start.. {
        journal.append_intent(&intent(n)).unwrap();
        println!("\n+ {n}");
        if n % 5 != 0 {
            journal.append_settlement(&settlement(n, 7)).unwrap();
            println!("\n- {n}");
        }
    }
}

#[test]
fn d_1_killed_processes_lose_nothing_they_were_promised() {
    let dir = tempfile::tempdir().unwrap();
    let mut promised = BTreeMap::new();
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env("PORTOLAN_TEST_STATE", dir.path())
            .env("PORTOLAN_TEST_START", (u128::from(round) * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).split(b'\n').map_while(Result::ok);
        let mut lines: Vec<_> = out.by_ref().take(700 * (1 + usize::try_from(round).unwrap())).collect();
        child.kill().unwrap();
        lines.extend(out);
        child.wait().unwrap();
        // The last line may be cut off by the kill.
        lines.pop();
        for line in lines.iter().filter_map(|line| std::str::from_utf8(line).ok()) {
            match line.split_once(' ') {
                Some(("+", n)) => promised.insert(n.parse::<u128>().unwrap(), false),
                Some(("-", n)) => promised.insert(n.parse::<u128>().unwrap(), true),
                _ => None,
            };
        }
    }
    restart(dir.path());
    let reader = Reader::new(dir.path());
    let found: BTreeMap<u128, (String, i64)> = reader
        .with(|conn| {
            let mut select = conn.prepare("SELECT attempt, state, cost FROM attempts")?;
            let rows =
                select.query_map([], |row| Ok((u128::from_be_bytes(row.get(0)?), (row.get(1)?, row.get(2)?))))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .unwrap()
        .into_iter()
        .collect();
    assert!(promised.len() > 1_000, "{} attempts", promised.len());
    for (n, settled) in &promised {
        let (state, cost) = found.get(n).unwrap_or_else(|| panic!("attempt {n} is missing"));
        assert!(!settled || state == "settled", "attempt {n} was settled, and is {state}");
        assert_eq!(*cost, if state == "settled" { 7 } else { RESERVE as i64 }, "attempt {n}");
    }
    assert!(found.values().all(|(state, _)| state != "open"));
    // A kill may fall between a record and the line that promises it, and the last line of each round is not counted.
    assert!(found.len() <= promised.len() + 16, "{} rows of {} attempts", found.len(), promised.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Two processes at once, drains, looks around, crashes and restarts in any order: each attempt is one row, and
    /// the sum is the settlements' plus the reserves of what died.
    #[test]
    fn each_attempt_is_one_row(steps in proptest::collection::vec((0u8..8, 0usize..2, 0u64..100), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let start = || { let journal = small(dir.path(), 500); (worker(dir.path(), &journal), journal, Vec::<u128>::new()) };
        let mut processes = [start(), start()];
        // What each attempt must come to in the end; until settled, its reserve.
        let mut expected = BTreeMap::new();
        for (step, who, cost) in steps {
            let (worker, journal, open) = &mut processes[who];
            match step {
                0..=2 => {
                    let n = expected.len() as u128;
                    journal.append_intent(&intent(n)).unwrap();
                    expected.insert(n, (n, State::Orphaned, RESERVE));
                    open.push(n);
                }
                3 | 4 => if let Some(n) = open.pop() {
                    journal.append_settlement(&settlement(n, cost)).unwrap();
                    expected.insert(n, (n, State::Settled, cost));
                },
                5 => worker.pass().unwrap(),
                6 => worker.recover().unwrap(),
                _ => {
                    worker.fuse = Some(u32::try_from(cost % 7).unwrap());
                    let _ = worker.recover().and_then(|()| worker.pass());
                    // The dead one's lock must be gone before the next one is there.
                    let (other, _, _) = &mut processes[1 - who];
                    let _ = other.pass();
                    processes[who] = start();
                }
            }
        }
        drop(processes);
        restart(dir.path());
        prop_assert_eq!(costs(dir.path()), expected.into_values().collect::<Vec<_>>());
    }
}
