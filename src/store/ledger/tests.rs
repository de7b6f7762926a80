use super::*;
use crate::exchange::record::{Id, Intent, Settlement};
use crate::ir::Usage;
use crate::policy::budget::Span;

fn intent(n: u128, key: &str) -> Intent<'_> {
    Intent {
        attempt: Id(n),
        request: Id(n / 2),
        at: 1_700_000_000_000,
        key: key.into(),
        model: "m".into(),
        reserve: 1_000,
        tags: r#"{"te\"a.m":"a\"b"}"#.into(),
        ..Intent::default()
    }
}

fn settlement(n: u128, cost: u64) -> Settlement<'static> {
    let usage =
        Usage { input: 10, output: 5, cached: 3, cache_write: 1, cache_write_1h: 1, reasoning: 2, ..Usage::default() };
    Settlement {
        attempt: Id(n),
        begun: 1_700_000_000_000,
        at: 1_700_000_000_001,
        outcome: "ok".into(),
        cost,
        usage: Some(usage),
        latency_us: 100 * n as u64,
        ttft_us: if n.is_multiple_of(2) { 50 } else { 0 },
        served: true,
        ..Settlement::default()
    }
}

fn opened(dir: &Path) -> (Arc<Journal>, Ledger) {
    let journal = Arc::new(Journal::open(dir).unwrap());
    let ledger = Ledger::open(dir, journal.clone()).unwrap();
    (journal, ledger)
}

fn total(ledger: &Ledger) -> UsageRow {
    ledger.usage(&Query::default()).unwrap().pop().unwrap_or_default()
}

#[test]
fn rows_are_folded_by_key_day_and_tag() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ledger) = opened(dir.path());
    for n in 2..12 {
        journal.append_intent(&intent(n, if n % 3 == 0 { "a" } else { "b" })).unwrap();
        journal.append_settlement(&settlement(n, 7)).unwrap();
    }
    let failed = Settlement { attempt: Id(12), outcome: "timeout".into(), estimated: true, ..Settlement::default() };
    journal.append_intent(&intent(12, "a")).unwrap();
    journal.append_settlement(&failed).unwrap();
    journal.append_intent(&intent(13, "c")).unwrap();
    assert!(ledger.flush(Duration::from_secs(10)));
    assert_eq!(ledger.lag(), 0);
    let expected = UsageRow {
        requests: 6,
        attempts: 12,
        errors: 1,
        open: 1,
        served: 10,
        input: 100,
        output: 50,
        cached: 30,
        cache_write: 20,
        cache_write_1h: 10,
        reasoning: 20,
        cost: 70,
        charge: 70,
        estimated: 1,
        settled: 11,
        latency_us: 6_500,
        answered: 5,
        ttft_us: 250,
        ..UsageRow::default()
    };
    let found = total(&ledger);
    assert_eq!((found.latencies.quantile(500), found.ttfts.quantile(990)), (Some(592), Some(51)), "near 600 and 50");
    assert_eq!(UsageRow { latencies: Sketch::default(), ttfts: Sketch::default(), ..found }, expected);
    assert_eq!(expected.first_token(), Duration::from_micros(50));
    let tag = GroupBy::Tag("te\"a.m".into());
    let query = Query { group_by: vec![GroupBy::Key, GroupBy::Time(Unit::Day), tag.clone()], ..Query::default() }
        .within(GroupBy::Key, "a");
    let rows = ledger.usage(&query).unwrap();
    assert_eq!(rows.len(), 1);
    let group = [("key", "a"), ("day", "2023-11-14"), ("tag.te\"a.m", "a\"b")];
    assert_eq!(rows[0].group, group.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(rows[0].attempts, 4);
    let none = Query { from: Some(1_700_000_000_001), ..Query::default() };
    assert!(ledger.usage(&none).unwrap().is_empty());
    let all = Query { to: Some(1_700_000_000_001), group_by: vec![GroupBy::Key, GroupBy::Outcome], ..Query::default() };
    let rows = ledger.usage(&all).unwrap();
    assert_eq!(rows.iter().map(|row| row.attempts).sum::<u64>(), 12);
    assert_eq!(rows[0].group[0].1, "b", "the dearest comes first");
    assert_eq!(ledger.total(&all).unwrap(), total(&ledger), "a request in two groups is one");
    assert_eq!(GroupBy::parse(&tag.name()), Some(tag));
    assert_eq!(GroupBy::parse("tags"), None);
}

#[test]
fn absurd_rows_do_not_break_the_sums() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ledger) = opened(dir.path());
    for n in 1..=3 {
        journal.append_intent(&intent(n, "k")).unwrap();
        let usage = Usage { input: u64::MAX, output: 4, ..Usage::default() };
        journal.append_settlement(&Settlement { cost: u64::MAX, usage: Some(usage), ..settlement(n, 0) }).unwrap();
    }
    assert!(ledger.flush(Duration::from_secs(10)));
    let rows = ledger.usage(&Query { group_by: vec![GroupBy::Key], ..Query::default() }).unwrap();
    assert_eq!((rows[0].cost, rows[0].input, rows[0].output), (u64::MAX, u64::MAX, 12));
}

#[test]
fn foreign_text_is_a_value_and_never_a_statement() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ledger) = opened(dir.path());
    let evil = "k' OR '1'='1";
    journal.append_intent(&intent(1, evil)).unwrap();
    journal.append_intent(&intent(2, "other")).unwrap();
    assert!(ledger.flush(Duration::from_secs(10)));
    let of = |key: &str, by: &str| {
        let query = Query { group_by: vec![GroupBy::Tag(by.into())], ..Query::default() }.within(GroupBy::Key, key);
        ledger.usage(&query).unwrap().iter().map(|row| row.attempts).sum::<u64>()
    };
    assert_eq!(of(evil, "'); DROP TABLE attempts; --"), 1);
    assert_eq!(of("other", "$.x\""), 1);
}

#[test]
fn reading_alone_sees_what_another_process_drained() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Ledger::read_only(dir.path()).is_err(), "there is none");
    let (journal, ledger) = opened(dir.path());
    let reader = Ledger::read_only(dir.path()).unwrap();
    for n in 1..=3 {
        journal.append_intent(&intent(n, "k")).unwrap();
        assert!(ledger.flush(Duration::from_secs(10)));
        assert_eq!(total(&reader).attempts, n as u64);
    }
    assert!(reader.flush(Duration::ZERO));
    let newest: Vec<_> = reader.recent(2).unwrap().iter().map(|row| row.intent.attempt.0).collect();
    assert_eq!(newest, [3, 2]);
}

#[test]
fn what_a_level_spent_is_a_fold_over_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ledger) = opened(dir.path());
    let at = 1_700_000_000_000;
    let row = |n: u128, key: &'static str, team: &'static str, reserve| Intent {
        team: team.into(),
        reserve,
        ..intent(n, key)
    };
    for (n, key, team, reserve, cost) in [
        (1, "a", "t", 50, Some(7)),
        (2, "a", "t", 50, None),
        (3, "b", "t", 50, Some(u64::MAX / 2)),
        (4, "b", "", 9, Some(1)),
    ] {
        journal.append_intent(&row(n, key, team, reserve)).unwrap();
        if let Some(cost) = cost {
            journal.append_settlement(&settlement(n, cost)).unwrap();
        }
    }
    assert!(ledger.flush(Duration::from_secs(10)));
    let span = Span { from: at, to: at + 1_000 };
    let asked = Asked { kind: "key", charges: false, span, since: 0, born: u64::MAX };
    let of = |kind, since| ledger.spent(&Asked { kind, since, ..asked }).unwrap();
    let keys = of("key", 0);
    assert_eq!(keys["a"], Spent { all: 57, others: 0 }, "what is open counts at its reserve");
    assert_eq!(keys["b"], Spent { all: u128::from(u64::MAX / 2) + 1, others: 0 });
    let teams = of("team", u64::MAX);
    assert_eq!(teams.len(), 1, "no team is none");
    assert_eq!(teams["t"], Spent { all: u128::from(u64::MAX / 2) + 57, others: u128::from(u64::MAX / 2) + 57 });
    assert!(of("nonsense", 0).is_empty());
    assert!(
        ledger.spent(&Asked { span: Span { from: at + 1_000, to: u64::MAX }, born: 0, ..asked }).unwrap().is_empty()
    );
    assert_eq!(ledger.foreign().unwrap(), Foreign::default());
    ledger.stop();
    drop((journal, ledger));

    let (_journal, ledger) = opened(dir.path());
    assert!(ledger.flush(Duration::from_secs(10)));
    let keys = ledger.spent(&Asked { born: 0, ..asked }).unwrap();
    assert_eq!(keys["a"], Spent { all: 57, others: 57 }, "another process's");
}
