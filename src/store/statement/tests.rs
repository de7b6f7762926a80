use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::exchange::record::{Charged, Id, Intent, Settlement};
use crate::ir::Usage;
use crate::store::drain::Shared;
use crate::store::journal::Journal;
use crate::store::worker::Worker;

const HOUR: u64 = 3_600_000;
/// 2026-11-01 in UTC.
const NOVEMBER: u64 = 1_793_491_200_000;
const DOLLAR: i64 = 1_000_000_000;

fn call(journal: &Journal, n: u128, at: u64, project: &'static str, model: &'static str, charge: Option<u64>) {
    let attempt = Id((u128::from(at) << 80) | n);
    let charged = charge
        .map(|charge| Box::new(Charged { reserve: 2 * charge, version: "retail: v x 2".into(), ..Charged::default() }));
    let intent = Intent {
        attempt,
        request: Id(n),
        at,
        number: 1,
        project: Some(project.into()),
        model: model.into(),
        charge: charged,
        ..Intent::default()
    };
    journal.append_intent(&intent).unwrap();
    let usage = Usage { input: 10, output: 5, ..Usage::default() };
    let end = Settlement {
        attempt,
        begun: at,
        at: at + 1,
        outcome: "ok".into(),
        usage: Some(usage),
        ..Settlement::default()
    };
    journal.append_settlement(&Settlement { cost: 3, charge, served: true, ..end }).unwrap();
}

fn ledger(dir: &Path) -> Ledger {
    let journal = Arc::new(Journal::open(dir).unwrap());
    call(&journal, 1, NOVEMBER - 2 * HOUR, "shop", "a", Some(1_000_000_007));
    call(&journal, 2, NOVEMBER + HOUR, "shop", "<b>&\"", Some(500));
    call(&journal, 3, NOVEMBER + 2 * HOUR, "shop", "a", Some(1));
    call(&journal, 4, NOVEMBER + 30 * HOUR, "shop", "a", None);
    call(&journal, 5, NOVEMBER + HOUR, "other", "a", Some(77));
    Worker::new(journal, dir, Arc::new(Shared::default())).pass().unwrap();
    Ledger::read_only(dir).unwrap()
}

fn payment(id: &str, at: u64, amount: i64, note: &str) -> Payment {
    Payment {
        number: at,
        id: id.to_owned(),
        cause: if amount < 0 { Cause::Correction } else { Cause::TopUp },
        amount,
        written: "x".into(),
        note: note.to_owned(),
        at,
        actor: "ann".into(),
    }
}

fn asked(zone: &str) -> Asked {
    Asked::read((Kind::Project, "shop"), Some("2026-11"), (None, None), Some(zone), 0).unwrap()
}

fn drawn(zone: &str, payments: Vec<Payment>) -> Statement {
    let dir = tempfile::tempdir().unwrap();
    let heading = Heading { issuer: vec!["We & Co".into()], ..Heading::default() };
    draw(&ledger(dir.path()), payments, asked(zone), heading, NOVEMBER).unwrap()
}

#[test]
fn balances_add_up_to_the_last_nano() {
    let payments = vec![
        payment("p1", NOVEMBER - 5 * HOUR, 5 * DOLLAR, ""),
        payment("p2", NOVEMBER + 3 * HOUR, DOLLAR / 2, "=1+1, \"x\""),
        payment("p3", NOVEMBER + 40 * HOUR, -1, ""),
        payment("p4", NOVEMBER + 2_000 * HOUR, DOLLAR, "next year"),
    ];
    let statement = drawn("UTC", payments);
    assert_eq!(statement.balance, Some((3_999_999_993, 3_999_999_993 + 499_999_999 - 504)));
    assert_eq!((statement.total.charge, statement.total.cost, statement.total.requests), (504, 9, 3));
    let mut out = Vec::new();
    statement.csv(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(
        lines[1..],
        [
            "opening_balance,2026-11-01,shop,,,,,,,,3.999999993,,",
            "top_up,2026-11-01,shop,,,,,,,0.5,,p2,\"x: =1+1, \"\"x\"\"\"",
            "charge,2026-11-01,shop,\"<b>&\"\"\",1,10,5,0,0,-0.0000005,,,",
            "charge,2026-11-01,shop,a,1,10,5,0,0,-0.000000001,,,",
            "correction,2026-11-02,shop,,,,,,,-0.000000001,,p3,x",
            "charge,2026-11-02,shop,a,1,10,5,0,0,-0.000000003,,,",
            "closing_balance,2026-12-01,shop,,,,,,,,4.499999488,,",
        ]
    );
    let columns = lines[0].split(',').count();
    assert_eq!((columns, lines[0].split(',').nth(9)), (13, Some("amount_usd")));
}

#[test]
fn a_day_is_that_of_the_zone_and_who_pays_later_has_a_total() {
    let statement = drawn("Europe/Berlin", Vec::new());
    assert_eq!(statement.balance, None);
    assert_eq!(statement.asked.from, NOVEMBER - HOUR);
    let mut out = Vec::new();
    statement.csv(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("total,2026-12-01,shop,,,,,,,-0.000000504,,,\r\n"), "{text}");
    let west = drawn("America/New_York", Vec::new());
    assert_eq!(west.total.charge, 3, "the first three were in October there");
}

#[test]
fn a_page_says_the_same_and_cannot_be_broken_out_of() {
    let statement = drawn("UTC", vec![payment("p", NOVEMBER, DOLLAR, "<script>alert('x')</script>")]);
    let mut out = Vec::new();
    statement.html(&mut out).unwrap();
    let page = String::from_utf8(out).unwrap();
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") && !page.contains("<script"), "{page}");
    for told in ["We &amp; Co", "<td>&lt;b&gt;&amp;&quot;</td>", "-0.000000504", "Closing balance"] {
        assert!(page.contains(told), "{told}: {page}");
    }
    for outer in ["http:", "https:", "url(", "src=", "href="] {
        assert!(!page.contains(outer), "{outer}");
    }
    let told: serde_json::Value = serde_json::from_slice(&statement.json()).unwrap();
    assert_eq!((&told["charged"]["charge"], &told["opening_balance"]), (&"0.000000504".into(), &"-1.000000007".into()));
    assert_eq!(told["models"].as_array().unwrap().len(), 2);
}

#[test]
fn a_time_is_read_or_refused() {
    let read = |month, from, to, zone| Asked::read((Kind::Team, "t"), month, (from, to), zone, NOVEMBER + HOUR);
    assert_eq!(read(None, None, None, None).unwrap().from, NOVEMBER, "this month");
    let days = read(None, Some("2026-11-02"), Some("2026-11-03"), None).unwrap();
    assert_eq!((days.from, days.to), (NOVEMBER + 24 * HOUR, NOVEMBER + 48 * HOUR));
    for (month, from, to, zone) in [
        (Some("2026-13"), None, None, None),
        (Some("2026-11-01"), None, None, None),
        (Some("2026-11"), Some("2026-11-02"), None, None),
        (None, Some("2026-11-02"), None, None),
        (None, Some("2026-11-03"), Some("2026-11-02"), None),
        (None, None, None, Some("Mars/Base")),
    ] {
        assert!(read(month, from, to, zone).is_err(), "{month:?} {from:?} {to:?} {zone:?}");
    }
}

#[test]
fn cells_are_no_formulas() {
    for (text, cell) in [("=1+1", "'=1+1"), ("-x", "'-x"), ("a,\"b", "\"a,\"\"b\""), ("plain", "plain"), ("", "")] {
        assert_eq!(super::cell(text), cell);
    }
    assert_eq!((signed(-1), signed(0), signed(2_500_000_000)), ("-0.000000001".into(), "0".into(), "2.5".into()));
}
