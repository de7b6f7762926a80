use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::exchange::record::{Id, Intent, Settlement};
use crate::store::drain::Shared;
use crate::store::journal::Journal;
use crate::store::query::Reader;
use crate::store::rollup::{Keep, Roller};
use crate::store::worker::Worker;

const DAY: u64 = 86_400_000;
/// A midnight in UTC.
const MIDNIGHT: u64 = 1_795_046_400_000;

fn id(at: u64, n: u128) -> Id {
    Id((u128::from(at) << 80) | n)
}

/// Forty attempts over four days: several models, keys and ends; every fifth request has two attempts, some of them on both
/// sides of midnight.
fn written(dir: &Path) {
    let journal = Arc::new(Journal::open(dir).unwrap());
    for n in 0..40u64 {
        let second = n % 5 == 4;
        let at = MIDNIGHT + (n / 10) * DAY + if second { DAY - 1 + n % 2 } else { n * 1_000 };
        let request = if second { n - 1 } else { n };
        let attempt = id(at, u128::from(n));
        let intent = Intent {
            attempt,
            request: Id(u128::from(request)),
            at,
            number: if second { 2 } else { 1 },
            key: if n % 3 == 0 { "a".into() } else { "b".into() },
            team: if n % 3 == 0 { "red".into() } else { "".into() },
            model: ["small", "large"][(n % 2) as usize].into(),
            target: "p/m".into(),
            tags: if n % 4 == 0 { r#"{"arm":"new","of":"x"}"#.into() } else { "".into() },
            rates: r#"{"input":1000001,"output":3000000,"cached":100000}"#.into(),
            price_version: "v".into(),
            reserve: 5_000 + n,
            input_estimate: 10,
            ..Intent::default()
        };
        journal.append_intent(&intent).unwrap();
        if n == 13 {
            continue;
        }
        let usage = Usage { input: 100 + n, output: 7, cached: n, audio_input: n % 2, ..Usage::default() };
        let settlement = Settlement {
            attempt,
            begun: at,
            at: at + 5,
            outcome: if n % 7 == 0 { "timeout".into() } else { "ok".into() },
            usage: Some(usage),
            cost: 1_000_003 + n,
            latency_us: 10_000 * (n + 1),
            ttft_us: n * 100,
            served: true,
            ..Settlement::default()
        };
        journal.append_settlement(&settlement).unwrap();
    }
    Worker::new(journal, dir, Arc::new(Shared::default())).pass().unwrap();
}

fn questions() -> Vec<Query> {
    let mut all = vec![Query::default()];
    for by in [
        vec![GroupBy::Time(Unit::Day)],
        vec![GroupBy::Key, GroupBy::Model],
        vec![GroupBy::Time(Unit::Month), GroupBy::Arm],
        vec![GroupBy::Outcome, GroupBy::Tag("of".into()), GroupBy::Team],
    ] {
        all.push(Query { group_by: by.clone(), ..Query::default() });
        let day = Query { from: Some(MIDNIGHT + DAY), to: Some(MIDNIGHT + 3 * DAY), ..Query::default() };
        all.push(Query { group_by: by.clone(), ..day.clone() });
        let narrow = [(GroupBy::Key, "a"), (GroupBy::Arm, "new"), (GroupBy::Outcome, "ok"), (GroupBy::Team, "")];
        for (what, value) in narrow {
            all.push(Query { group_by: by.clone(), ..day.clone() }.within(what, value));
        }
    }
    all
}

#[test]
fn rolling_up_changes_no_number() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let reader = Reader::new(dir.path());
    let before: Vec<_> = questions().iter().map(|query| reader.report(query).unwrap()).collect();
    assert_eq!((before[0].total.attempts, before[0].total.requests, before[0].total.open), (40, 32, 1));
    let conn = Connection::open(crate::store::books::path(dir.path())).unwrap();
    let count = |table: &str| -> i64 {
        conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    // Day by day, and a day that has not ended stays.
    for (days, left) in [(1, 30), (2, 21), (3, 11), (4, 1)] {
        let keep = Keep { before: MIDNIGHT + days * DAY + 5_000, zone: TimeZone::UTC };
        let mut roller = Roller::default();
        while roller.slice(&conn, &keep).unwrap() > 0 {}
        // One of the second day is open, and one of a day's attempts began on the next.
        assert!((count("entries") - left).abs() <= 1, "{} after {days}", count("entries"));
        for (query, before) in questions().iter().zip(&before) {
            let after = reader.report(query).unwrap();
            assert_eq!(after.rows, before.rows, "{query:?} after {days} days");
            assert_eq!(after.total, before.total, "{query:?} after {days} days");
        }
    }
    let report = reader.report(&Query::default()).unwrap();
    assert!(report.rolled_up.is_some_and(|until| until >= MIDNIGHT + 4 * DAY), "{report:?}");
    let writable: u32 =
        conn.query_row("SELECT value FROM meta WHERE name = 'writable_by'", [], |row| row.get(0)).unwrap();
    assert_eq!(writable, crate::store::schema::CHARGES, "who does not know of rollups must not write");
}

#[test]
fn savings_are_what_cached_input_would_have_cost_more() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let total = Reader::new(dir.path()).report(&Query::default()).unwrap().total;
    // Input at 1.000001 nano-dollars a token, cached input at 0.1, output at 3, each row rounded half up.
    let row =
        |n: u64, cached: u64| ((100 + n - cached) * 1_000_001 + cached * 100_000 + 7 * 3_000_000 + 500_000) / 1_000_000;
    let saved: u64 = (0..40).filter(|n| *n != 13).map(|n| row(n, 0) - row(n, n)).sum();
    assert_eq!(total.saved, saved);
    assert_eq!(total.audio_input, 19);
}

#[test]
fn the_calendar_is_that_of_the_zone() {
    // Berlin's rules, whatever this machine knows of zones.
    let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let of = |text: &str, unit| {
        let at = text.parse::<Timestamp>().unwrap().as_millisecond();
        let (first, next, name) = part(at, unit, &berlin);
        assert!((first..next).contains(&at), "{text}");
        (name, (next - first) / 3_600_000)
    };
    assert_eq!(of("2026-11-21T23:30:00Z", Unit::Day), ("2026-11-22".into(), 24));
    assert_eq!(of("2026-03-29T12:00:00Z", Unit::Day), ("2026-03-29".into(), 23), "put forward");
    assert_eq!(of("2026-10-25T12:00:00Z", Unit::Day), ("2026-10-25".into(), 25), "put back");
    assert_eq!(of("2026-10-25T00:59:59Z", Unit::Hour), ("2026-10-25T02:00:00+02:00".into(), 1));
    assert_eq!(of("2026-10-25T01:00:00Z", Unit::Hour), ("2026-10-25T02:00:00+01:00".into(), 1));
    assert_eq!(of("2026-11-22T22:00:00Z", Unit::Week), ("2026-11-16".into(), 168), "a Sunday");
    assert_eq!(of("2028-02-29T12:00:00Z", Unit::Month), ("2028-02".into(), 29 * 24));
}

#[test]
fn pages_are_parts_of_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let reader = Reader::new(dir.path());
    let by = vec![GroupBy::Time(Unit::Day), GroupBy::Key, GroupBy::Outcome];
    let whole = reader.report(&Query { group_by: by.clone(), ..Query::default() }).unwrap();
    assert!(whole.rows.is_sorted_by_key(|row| row.group[0].1.clone()), "in the order of time");
    let mut rows = Vec::new();
    for skip in (0..whole.groups).step_by(3) {
        let page = reader.report(&Query { group_by: by.clone(), limit: 3, skip, ..Query::default() }).unwrap();
        assert_eq!((page.groups, &page.total), (whole.groups, &whole.total));
        rows.extend(page.rows);
    }
    assert_eq!(rows, whole.rows);
}
