use super::*;
use proptest::prelude::*;

fn intent(n: u128, key: &str) -> Intent {
    Intent {
        attempt: Id(n),
        request: Id(n / 2),
        at: 1_700_000_000_000,
        key: key.into(),
        model: "m".into(),
        reserve: 1_000,
        tags: vec![("team".into(), "a\"b".into())],
        ..Intent::default()
    }
}

fn settlement(n: u128, cost: u64) -> Settlement {
    let usage = Usage { input: 10, output: 5, cached: 3, reasoning: 2, ..Usage::default() };
    Settlement {
        attempt: Id(n),
        at: 1_700_000_000_001,
        outcome: "ok".into(),
        cost,
        usage: Some(usage),
        ..Settlement::default()
    }
}

fn total(ledger: &Ledger) -> UsageRow {
    ledger.usage(&Query::default()).unwrap().pop().unwrap_or_default()
}

fn opened(dir: &Path) -> (Arc<Journal>, Ledger) {
    let journal = Arc::new(Journal::open(dir).unwrap());
    let ledger = Ledger::open(dir, journal.clone()).unwrap();
    (journal, ledger)
}

#[test]
fn rows_are_folded_by_key_day_and_tag() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ledger) = opened(dir.path());
    for n in 2..12 {
        journal.append_intent(&intent(n, if n % 3 == 0 { "a" } else { "b" })).unwrap();
        journal.append_settlement(&settlement(n, 7)).unwrap();
    }
    assert!(ledger.flush(Duration::from_secs(5)));
    assert_eq!(ledger.lag(), 0);
    let total = total(&ledger);
    assert_eq!((total.attempts, total.requests, total.cost, total.input, total.cached), (10, 5, 70, 100, 30));
    let query = Query {
        key: Some("a".into()),
        group_by: vec![GroupBy::Key, GroupBy::Day, GroupBy::Tag("team".into())],
        ..Query::default()
    };
    let rows = ledger.usage(&query).unwrap();
    assert_eq!(rows.len(), 1);
    let group = [("key", "a"), ("day", "2023-11-14"), ("tag.team", "a\"b")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!((rows[0].attempts, rows[0].group.as_slice()), (3, group.as_slice()));
    let none = Query { from: Some(1_700_000_000_001), ..Query::default() };
    assert!(ledger.usage(&none).unwrap().is_empty());
    assert_eq!(GroupBy::parse("tag.x"), Some(GroupBy::Tag("x".into())));
}

#[test]
fn what_a_dead_process_left_open_is_orphaned_at_its_reserve() {
    let dir = tempfile::tempdir().unwrap();
    {
        // A process that dies before its ledger saw anything.
        let journal = Journal::open(dir.path()).unwrap();
        journal.append_intent(&intent(2, "k")).unwrap();
        journal.append_settlement(&settlement(2, 7)).unwrap();
        journal.append_intent(&intent(4, "k")).unwrap();
    }
    let alive = Journal::open(dir.path()).unwrap();
    alive.append_intent(&intent(6, "k")).unwrap();
    let (_journal, ledger) = opened(dir.path());
    let by = Instant::now() + Duration::from_secs(5);
    while total(&ledger).attempts < 2 && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(10));
    }
    let total = total(&ledger);
    assert_eq!(
        (total.attempts, total.cost, total.estimated),
        (2, 1_007, 1),
        "the living process's attempt is left alone"
    );
    let left: Vec<_> = fs::read_dir(dir.path().join("journal")).unwrap().collect();
    assert_eq!(left.len(), 2, "the dead segment is gone");
}

#[test]
fn a_corrupt_database_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ledger.sqlite"), "this is no database at all, and long enough to be looked at").unwrap();
    let (journal, ledger) = opened(dir.path());
    journal.append_intent(&intent(2, "k")).unwrap();
    assert!(ledger.flush(Duration::from_secs(5)));
    assert_eq!(total(&ledger).attempts, 1);
    let aside =
        fs::read_dir(dir.path()).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains("corrupt"));
    assert!(aside);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever the order of drains, deaths and repeated readings: each attempt is one row, and sums are right.
    #[test]
    fn each_attempt_is_one_row(steps in proptest::collection::vec((0u8..4, 1u128..30), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let mut connection = writable(&path).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let segment = journal.segments().remove(0);
        let (mut begun, mut settled) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for (step, n) in steps {
            match step {
                0 => { begun.insert(n); journal.append_intent(&intent(n, "k")).unwrap(); }
                1 => { begun.insert(n); settled.insert(n); journal.append_settlement(&settlement(n, 7)).unwrap(); }
                2 => { apply(&mut connection, &segment, journal.owner(), false).unwrap(); }
                // A crash that lost the offset: everything is read again.
                _ => { connection.execute("DELETE FROM segments", []).unwrap(); }
            }
        }
        apply(&mut connection, &segment, journal.owner(), false).unwrap();
        let (rows, cost): (i64, Option<i64>) = connection
            .query_row("SELECT count(*), sum(cost) FROM attempts", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        prop_assert_eq!(rows, i64::try_from(begun.len()).unwrap());
        prop_assert_eq!(cost.unwrap_or(0), i64::try_from(settled.len()).unwrap() * 7);
    }
}
