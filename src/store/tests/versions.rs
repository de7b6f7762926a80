//! What other versions wrote.

use super::*;
use crate::store::{schema, segment};

#[test]
fn d_10_a_ledger_of_a_newer_version_is_written_only_if_it_allows_that() {
    let dir = tempfile::tempdir().unwrap();
    let journal = small(dir.path(), 1 << 20);
    drop(Books::open(dir.path(), None, 0).unwrap());
    let conn = rusqlite::Connection::open(books::path(dir.path())).unwrap();
    conn.execute_batch("PRAGMA user_version = 99; ALTER TABLE entries ADD COLUMN region TEXT NOT NULL DEFAULT ''")
        .unwrap();
    journal.append_intent(&intent(1)).unwrap();
    worker(dir.path(), &journal).pass().unwrap();
    assert_eq!(costs(dir.path()).len(), 1);
    conn.execute_batch("UPDATE meta SET value = 50 WHERE name = 'writable_by'").unwrap();
    assert!(matches!(Books::open(dir.path(), None, 0), Err(Error::TooNew { schema: 99 })));
    assert!(Ledger::open(dir.path(), journal).is_err());
    assert_eq!(costs(dir.path()).len(), 1, "reading it is harmless");
}

#[test]
fn rows_of_earlier_schemas_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(books::path(dir.path())).unwrap();
    let [first, second, ..] = schema::MIGRATIONS else { panic!("two and more") };
    conn.execute_batch(first).unwrap();
    conn.execute_batch(second).unwrap();
    conn.execute_batch("PRAGMA user_version = 2").unwrap();
    // Three of one millisecond, two of them with the same last bits.
    let ids = [0x1_00005, 0x2_00005, 0x3_fffff, 7];
    let usage = r#"{"input":10,"output":5,"cached":3,"tool_prompt":1,"stated_total":15}"#;
    for (n, (state, project)) in
        ids.iter().zip([("settled", None), ("settled", Some("p")), ("open", None), ("orphaned", None)])
    {
        let done = (state != "open").then_some(());
        conn.execute(
            "INSERT INTO attempts VALUES (?1, ?2, 'owner', ?3, ?4, 1, 'k', ?5, 'a', 'm', 'pr', 't', 1, 'v', 1000, 3, 'c',
                '{\"team\":\"a\"}', ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?12, ?13, 0, ?14, 0, ?8, ?12, 1, '')",
            rusqlite::params![
                u128::to_be_bytes(*n),
                u128::to_be_bytes(9),
                state,
                if *n == 7 { 8_i64 } else { 1_700_000_000_000 },
                project,
                done.map(|()| 1_700_000_000_500_i64),
                done.map(|()| "ok"),
                done.map(|()| 200),
                done.map(|()| 10),
                done.map(|()| 5),
                done.map(|()| 3),
                done.map(|()| 0),
                done.map(|()| usage),
                if done.is_some() { 7 } else { 0 },
            ],
        )
        .unwrap();
    }
    drop(conn);
    // An open one is settled by what is still in a segment of the earlier version.
    fs::create_dir(dir.path().join("journal")).unwrap();
    let mut bytes = Vec::new();
    let end = br#"{"record":"settlement","attempt":"000000000000000000000000003fffff","at":1700000000900,"outcome":"ok","cost":8}"#;
    segment::record(&mut bytes, |out| out.extend_from_slice(end));
    segment::record(&mut bytes, |out| out.extend_from_slice(br#"{"record":"note"}"#));
    fs::write(dir.path().join("journal/owner.000000.segment"), bytes).unwrap();
    restart(dir.path());
    let expected = [
        (7, State::Orphaned, 7),
        (ids[0], State::Settled, 7),
        (ids[1], State::Settled, 7),
        (ids[2], State::Settled, 8),
    ];
    assert_eq!(costs(dir.path()), expected);
    let row = rows(dir.path())[&ids[1]].clone();
    let expected = Intent {
        attempt: Id(ids[1]),
        request: Id(9),
        at: 1_700_000_000_000,
        number: 1,
        project: Some("p".into()),
        asked: "a".into(),
        provider: "pr".into(),
        target: "t".into(),
        stream: true,
        price_version: "v".into(),
        config_version: "c".into(),
        ..intent(ids[1])
    };
    assert_eq!(row.intent, expected);
    assert_eq!(row.settlement, Some(Settlement { begun: expected.at, latency_us: 200, ..settlement(ids[1], 7) }));
    let accounts: u32 = Reader::new(dir.path())
        .with(|conn| Ok(conn.query_row("SELECT count(*) FROM accounts", [], |row| row.get(0))?))
        .unwrap();
    assert_eq!(accounts, 2);
}

#[test]
fn segments_of_earlier_versions_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let json = |n: u128| {
        format!(r#"{{"record":"intent","attempt":"{n:032x}","at":5,"key":"{{\"record\":\"","reserve":1000}}"#)
    };
    let end = |n: u128, cost| {
        format!(r#"{{"record":"settlement","attempt":"{n:032x}","at":9,"outcome":"ok","cost":{cost}}}"#)
    };
    let mut bytes = Vec::new();
    for text in [json(1), json(2), end(2, 7), json(3), end(4, 6), end(2, 9)] {
        segment::record(&mut bytes, |out| out.extend_from_slice(text.as_bytes()));
    }
    // Damage in the third intent, and a torn tail.
    let hurt = memchr::memmem::find(&bytes, json(3).as_bytes()).unwrap();
    bytes[hurt + 20] ^= 1;
    bytes.extend_from_slice(&[9, 0, 0, 0, 1]);
    fs::create_dir(dir.path().join("journal")).unwrap();
    fs::write(dir.path().join("journal/0-1-x.000000.segment"), &bytes).unwrap();
    restart(dir.path());
    let expected = [(1, State::Orphaned, RESERVE), (2, State::Settled, 9), (4, State::Settled, 6)];
    assert_eq!(costs(dir.path()), expected);
    assert_eq!(bad(dir.path()), 1);
}
