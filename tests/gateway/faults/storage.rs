//! E: what disks, databases and clocks do. No attempt is lost or invented, callers are told, and all heals by itself.
//!
//! The disk's faults are those of a library of a few lines, loaded before the system's own; a full disk is a
//! small file system in a mount namespace of the gateway's own, where the machine allows one.

mod rig;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use self::rig::{
    CLOCK, FAILING_SYNCS, FAILING_WRITE, INTERRUPTED, READ_ONLY, Rig, SHORT, SLOW_SYNC, numbered, on_small_disk, run,
};
use super::case::figure;
use super::scaled;
use crate::answers;
use crate::gateway::{Gateway, SECRET, ask, ask_stream, config};
use crate::kill9::{self, Audit, Load};
use crate::upstream::{Step, Upstream};

#[test]
fn e_1_a_full_disk_refuses_billable_work_and_heals() {
    let Some((mut gateway, upstream, seen)) = on_small_disk("6m") else { return };
    let disk = gateway.disk();
    for number in 0..5 {
        assert_eq!(numbered(&gateway, number).status, 200);
    }
    let fill = disk.join("fill");
    let full = File::create(&fill).unwrap();
    let block = [7; 4096];
    let mut at = 0;
    while full.write_all_at(&block, at).is_ok() {
        at += 4096;
    }
    // What is left of the journal's last page still takes some.
    let mut number = 5;
    let refused = loop {
        let got = numbered(&gateway, number);
        number += 1;
        if got.status != 200 {
            break got;
        }
        assert!(number < 200, "a full disk takes for ever");
    };
    let code = refused.refusal(503)["code"].clone();
    assert_eq!(code, "ledger_unavailable", "{refused}");
    let before = upstream.count();
    for _ in 0..20 {
        assert_eq!(numbered(&gateway, number).status, 503);
        number += 1;
    }
    assert_eq!(upstream.count(), before, "what cannot be metered is not sent");
    assert_eq!(crate::client::get(gateway.data, "/health/ready", &[("connection", "close")]).status, 503);
    drop(full);
    fs::remove_file(&fill).unwrap();
    let freed = Instant::now();
    while numbered(&gateway, number).status != 200 {
        number += 1;
        assert!(freed.elapsed() < Duration::from_secs(5), "it does not heal:\n{}", gateway.logs());
        thread::sleep(Duration::from_millis(20));
    }
    let healed = freed.elapsed();
    for more in 1..20 {
        assert_eq!(numbered(&gateway, number + more).status, 200);
    }
    gateway.usage(SECRET);
    // SQLite would look for it in this process's own file system.
    let copy = tempfile::tempdir().unwrap();
    for part in ["ledger.sqlite", "ledger.sqlite-wal"] {
        fs::copy(disk.join(part), copy.path().join(part)).unwrap();
    }
    let audit = Audit::of(copy.path(), &seen.lock().unwrap());
    audit.holds();
    assert!(gateway.logs().contains("takes no records"), "{}", gateway.logs());
    figure(
        "E-1",
        &format!("full disk: 20 of 20 refused, unbilled attempts 0 of {}, healed after {healed:?}", audit.attempts),
    );
    assert!(gateway.stop(Duration::from_secs(10)).success());
}

#[test]
fn e_2_a_failed_sync_loses_nothing_once_or_for_ever() {
    for (failures, name) in [(1, "once"), (-1, "for ever")] {
        let mut rig = Rig::start("");
        let load = rig.load();
        thread::sleep(Duration::from_millis(300));
        rig.set(FAILING_SYNCS, failures);
        run(load, &rig, 150);
        assert!(rig.met() > 0, "no sync failed");
        // A process that is killed while its disk cannot sync has its records in the page cache.
        rig.gateway.kill9();
        rig.set(FAILING_SYNCS, 0);
        rig.gateway.start_again();
        let healed = rig.heals();
        assert!(healed < Duration::from_secs(5), "{healed:?}");
        assert!(rig.gateway.logs().contains("fsync failed"), "{}", rig.gateway.logs());
        let met = rig.met();
        let audit = rig.close();
        figure("E-2", &format!("EIO of fsync {name}: {met} met, 0 of {} attempts lost", audit.attempts));
    }
}

#[test]
fn e_3_any_write_may_fail() {
    let rig = Rig::start("");
    let mut refused = 0;
    let most = scaled(5);
    for nth in 1..=most {
        rig.set(FAILING_WRITE, nth as i64);
        for _ in 0..nth {
            let got = rig.call();
            // The caller's answer, or a refusal: a settlement that fails is kept.
            assert!(got.status == 200 || got.refusal(503)["code"] == "ledger_unavailable", "{got}");
            refused += usize::from(got.status != 200);
        }
        let healed = rig.heals();
        assert!(healed < Duration::from_secs(5), "{healed:?}");
    }
    let met = rig.met();
    assert!(met >= most as i64 / 2, "{met} writes failed");
    let audit = rig.close();
    figure("E-3", &format!("{met} writes failed, {refused} calls refused, 0 of {} attempts lost", audit.attempts));
}

#[test]
fn e_4_short_and_interrupted_writes_are_completed() {
    let rig = Rig::start("");
    for (place, number) in [(SHORT, 3), (SHORT, 100), (INTERRUPTED, 400)] {
        rig.set(place, number);
        run(rig.load(), &rig, 60);
        rig.set(place, 0);
    }
    let met = rig.met();
    assert!(met > 100, "{met}");
    let audit = rig.close();
    figure("E-4", &format!("{met} short or interrupted writes, 0 of {} attempts lost", audit.attempts));
}

/// What a power cut leaves: each block of what was not synced is there, or not, or zeros.
#[test]
fn e_5_crash_images_open_and_lose_at_most_the_unsynced_tail() {
    use portolan::store::journal::Journal;
    use portolan::store::ledger::{Ledger, Query};
    let (upstream, seen) = kill9::provider();
    let mut gateway = Gateway::start(&kill9::settings(&upstream));
    let load = Load::start(gateway.data, &Arc::default());
    upstream.wait("calls", Duration::from_secs(20), |journal| journal.len() >= 120);
    gateway.kill9();
    drop(load);
    let dispatched = seen.lock().unwrap().values().map(Vec::len).sum::<usize>() as u64;
    let segments: Vec<PathBuf> = fs::read_dir(gateway.state().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "records"))
        .collect();
    let whole = fs::read(&segments[0]).unwrap();
    let images = scaled(60);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) as usize % below.max(1)
    };
    for image in 0..images {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("journal")).unwrap();
        let synced = random(whole.len());
        let mut left = whole.clone();
        for block in (synced..whole.len()).step_by(512) {
            let end = (block + 512).min(whole.len());
            match random(3) {
                0 => left[block..end].fill(0),
                1 => left[block..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(random(3) as u8)),
                _ => {}
            }
        }
        left.truncate(synced + random(whole.len() - synced + 1));
        fs::write(dir.path().join("journal").join(segments[0].file_name().unwrap()), &left).unwrap();
        let records = |bytes: &[u8]| memchr::memmem::find_iter(bytes, b"\xffportolani").count() as u64;
        let journal = Arc::new(Journal::open(dir.path()).unwrap());
        let ledger = Ledger::open(dir.path(), journal).unwrap();
        // Taken over at the first look.
        let by = Instant::now() + Duration::from_secs(10);
        let total = loop {
            assert!(ledger.flush(Duration::from_secs(10)));
            let total = ledger.total(&Query::default()).unwrap();
            let own = fs::read_dir(dir.path().join("journal"))
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "records"));
            if own.count() == 1 || Instant::now() > by {
                break total;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let sure = records(&whole[..synced]).saturating_sub(1);
        assert!(total.attempts >= sure, "image {image}: {} of {sure} synced attempts", total.attempts);
        assert!(total.attempts <= records(&whole).max(dispatched) + 1, "image {image} invents: {}", total.attempts);
        assert_eq!(total.open, 0, "image {image}");
        ledger.stop();
        let verdict = portolan::store::verify::verify(dir.path()).unwrap();
        assert_eq!((verdict.wrong, verdict.off), (0, 0), "image {image}: {:?}", verdict.told);
    }
    figure(
        "E-5",
        &format!("{images} crash images of {} bytes: 0 failed to open, 0 lost a synced attempt", whole.len()),
    );
}

#[test]
fn e_6_damage_is_set_aside_and_the_rest_is_served() {
    let (upstream, seen) = kill9::provider();
    let mut gateway = Gateway::start(&kill9::settings(&upstream));
    let load = Load::start(gateway.data, &Arc::default());
    upstream.wait("calls", Duration::from_secs(20), |journal| journal.len() >= 60);
    gateway.kill9();
    drop(load);
    // Behind what is drained already, a zeroed page in the middle and a torn end.
    let state = gateway.state();
    let ledger = Connection::open(state.join("ledger.sqlite")).unwrap();
    let (name, drained): (String, i64) =
        ledger.query_row("SELECT name, offset FROM segments", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    drop(ledger);
    let path = state.join("journal").join(name);
    let length = fs::metadata(&path).unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(length - 5).unwrap();
    let tail = length - drained as u64;
    let zeroed = tail > 1_000;
    if zeroed {
        file.write_all_at(&[0; 200], drained as u64 + 300).unwrap();
    }
    gateway.start_again();
    gateway.settled(1);
    let rows = gateway.usage(SECRET)["total"].clone();
    let seen = seen.lock().unwrap().values().map(Vec::len).sum::<usize>() as u64;
    // A record of two hundred bytes or less is hit, on both sides of it too.
    assert!(rows["attempts"].as_u64().unwrap() + 4 >= seen, "{rows} of {seen}");
    assert_eq!(rows["open"], 0, "{rows}");
    if zeroed {
        assert!(gateway.logs().contains("damaged bytes in the journal"), "{}", gateway.logs());
    }
    assert_eq!(gateway.chat(&ask("alias", "call 999999")).status, 200, "the rest is served");
    figure(
        "E-6",
        &format!(
            "a torn end{}: {} of {seen} attempts have rows",
            if zeroed { " and a zeroed page" } else { "" },
            rows["attempts"]
        ),
    );
}

#[test]
fn e_7_a_locked_database_keeps_nobody_waiting() {
    let rig = Rig::start("");
    run(rig.load(), &rig, 20);
    let ledger = Connection::open(rig.gateway.state().join("ledger.sqlite")).unwrap();
    ledger.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (mut longest, locked) = (Duration::ZERO, Instant::now());
    let mut calls = 0;
    while locked.elapsed() < Duration::from_secs(4) {
        let started = Instant::now();
        assert_eq!(rig.call().status, 200);
        longest = longest.max(started.elapsed());
        calls += 1;
    }
    ledger.execute_batch("COMMIT").unwrap();
    assert!(longest < Duration::from_secs(1), "a call waited for the database: {longest:?}");
    assert!(rig.gateway.logs().contains("the ledger cannot be written"), "{}", rig.gateway.logs());
    let audit = rig.close();
    figure(
        "E-7",
        &format!("locked for 4 s: 0 of {calls} calls failed, the longest {longest:?}; 0 of {} lost", audit.attempts),
    );
}

#[test]
fn e_7_a_write_ahead_log_deleted_under_it_costs_no_attempt() {
    let mut rig = Rig::start("");
    run(rig.load(), &rig, 60);
    for part in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        fs::remove_file(rig.gateway.state().join(part)).unwrap();
    }
    run(rig.load(), &rig, 60);
    rig.gateway.kill9();
    rig.gateway.start_again();
    rig.heals();
    rig.gateway.usage(SECRET);
    let audit = rig.close();
    figure("E-7", &format!("write-ahead log deleted: 0 of {} attempts lost", audit.attempts));
}

#[test]
fn e_7_a_corrupt_database_is_set_aside_with_a_word() {
    let mut rig = Rig::start("");
    run(rig.load(), &rig, 60);
    rig.gateway.kill9();
    // A page that is still in the write-ahead log would be read from there.
    for part in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(rig.gateway.state().join(part));
    }
    let path = rig.gateway.state().join("ledger.sqlite");
    File::options().write(true).open(&path).unwrap().write_all_at(&[0x55; 100], 0).unwrap();
    rig.gateway.start_again();
    assert!(rig.heals() < Duration::from_secs(5));
    let logs = rig.gateway.logs();
    assert!(logs.contains("the ledger was corrupt: it was moved aside and is rebuilt from the journal"), "{logs}");
    let aside = fs::read_dir(rig.gateway.state())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("ledger.sqlite.corrupt-"));
    assert!(aside, "it is kept for people to look at");
    // All of it was still in the journal's last segment.
    let audit = rig.close();
    figure("E-7", &format!("corrupt header: set aside, rebuilt with all of {} attempts", audit.attempts));
}

#[test]
fn e_7_a_disk_that_turns_read_only_refuses_and_heals() {
    let rig = Rig::start("");
    for _ in 0..5 {
        assert_eq!(rig.call().status, 200);
    }
    rig.set(READ_ONLY, 1);
    let before = rig.count();
    for _ in 0..20 {
        assert_eq!(rig.call().refusal(503)["code"], "ledger_unavailable");
    }
    assert_eq!(rig.count(), before, "what cannot be metered is not sent");
    rig.set(READ_ONLY, 0);
    let healed = rig.heals();
    assert!(healed < Duration::from_secs(5), "{healed:?}");
    let audit = rig.close();
    figure("E-7", &format!("read-only disk: 20 of 20 refused, healed after {healed:?}, 0 of {} lost", audit.attempts));
}

#[test]
fn e_8_a_slow_sync_is_nobodys_wait() {
    const BOUND: Duration = Duration::from_millis(5);
    let rig = Rig::start("");
    // Long enough that some syncs are under way in it.
    let block = |took: &mut Vec<Duration>| {
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            let started = Instant::now();
            assert_eq!(rig.call().status, 200);
            took.push(started.elapsed());
            thread::sleep(Duration::from_millis(3));
        }
    };
    let p99 = |took: &mut Vec<Duration>| {
        took.sort_unstable();
        took[took.len() * 99 / 100]
    };
    block(&mut Vec::new());
    // With and without by turns, so that whatever else the machine does meets both. It may stall all the same; a call that
    // waited for syncs would do so in every round.
    let mut best: Option<(Duration, Duration, usize)> = None;
    for _ in 0..8 {
        let (mut usual, mut slow) = (Vec::new(), Vec::new());
        for _ in 0..scaled(4) {
            block(&mut usual);
            rig.set(SLOW_SYNC, 200);
            block(&mut slow);
            rig.set(SLOW_SYNC, 0);
        }
        let round = (p99(&mut slow), p99(&mut usual), slow.len());
        if best.is_none_or(|best| round.0.saturating_sub(round.1) < best.0.saturating_sub(best.1)) {
            best = Some(round);
        }
        if round.0 <= round.1 + BOUND {
            break;
        }
    }
    let (slow, usual, calls) = best.unwrap();
    figure("E-8", &format!("sync of 200 ms: p99 {slow:?} of {calls} calls, {usual:?} without, by turns"));
    assert!(slow <= usual + BOUND, "calls wait for syncs: p99 {slow:?}, {usual:?} without");
    rig.close();
}

#[test]
fn e_9_old_rows_become_sums_while_it_serves_and_no_number_changes() {
    let mut rig = Rig::start("ledger: { keep: 2d }\n");
    rig.set(CLOCK, -100 * 86_400);
    run(rig.load(), &rig, 100);
    let asked = |rig: &Rig| rig.gateway.command(&["usage", "--json", "--by", "day,key,model,outcome"]);
    rig.gateway.usage(SECRET);
    assert!(rig.gateway.stop(Duration::from_secs(10)).success());
    let told: Value = serde_json::from_str(&asked(&rig)).unwrap();
    rig.set(CLOCK, 0);
    rig.gateway.start_again();
    let by = Instant::now() + Duration::from_secs(20);
    let after = loop {
        let after: Value = serde_json::from_str(&asked(&rig)).unwrap();
        let left = rig.gateway.command(&["ledger", "export", "--format", "jsonl"]).lines().count();
        if left == 0 {
            break after;
        }
        assert!(Instant::now() < by, "{left} rows are left:\n{}", rig.gateway.logs());
        thread::sleep(Duration::from_millis(100));
    };
    assert!(after["rolled_up_until"].is_string(), "{after}");
    assert_eq!((&after["total"], &after["data"]), (&told["total"], &told["data"]));
    assert!(told["total"]["attempts"].as_u64().unwrap() >= 100, "{told}");
    // The rows of today stay.
    rig.heals();
    rig.gateway.usage(SECRET);
    assert_eq!(rig.gateway.command(&["ledger", "export", "--format", "jsonl"]).lines().count(), 1);
    let verdict = rig.gateway.command(&["ledger", "verify"]);
    assert!(verdict.contains(" 0 wrong"), "{verdict}");
    figure(
        "E-9",
        &format!("{} attempts rolled up while it served: difference 0; {}", told["total"]["attempts"], verdict.trim()),
    );
}

#[test]
fn e_10_a_clock_that_jumps_bills_every_attempt_once() {
    let rig = Rig::start("");
    let hour = 3_600;
    // Back an hour, forward 45 days, over the end of a month, into a leap day, and back to now.
    for jump in [0, -hour, 45 * 24 * hour, 10 * 24 * hour + 17, 464 * 24 * hour, 0] {
        let load = rig.load();
        rig.set(CLOCK, jump);
        run(load, &rig, 40);
        assert!(rig.heals() < Duration::from_secs(5));
    }
    let usage = rig.gateway.usage(SECRET)["total"].clone();
    assert_eq!((&usage["open"], &usage["orphaned"]), (&Value::from(0), &Value::from(0)), "{usage}");
    let state = rig.gateway.state();
    let audit = rig.close();
    let _ = state;
    figure("E-10", &format!("six jumps of the clock: 0 of {} attempts lost, 0 twice", audit.attempts));
}

#[test]
fn e_11_exports_and_copies_while_it_writes_are_of_one_moment() {
    let rig = Rig::start("");
    let load = rig.load();
    upstream_has(&rig, 60);
    let copies = tempfile::tempdir().unwrap();
    let mut exported = 0;
    for copy in 0..3 {
        let text = rig.gateway.command(&["ledger", "export", "--format", "jsonl"]);
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(rows.len() >= exported, "rows are only ever added");
        exported = rows.len();
        // A copy that SQLite makes of a database in use, restored under another gateway.
        let path = copies.path().join(format!("{copy}")).join("ledger.sqlite");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let ledger = Connection::open(rig.gateway.state().join("ledger.sqlite")).unwrap();
        ledger.execute("VACUUM INTO ?1", [path.display().to_string()]).unwrap();
        let verdict = portolan::store::verify::verify(path.parent().unwrap()).unwrap();
        assert_eq!((verdict.wrong, verdict.off), (0, 0), "{:?}", verdict.told);
        thread::sleep(Duration::from_millis(100));
    }
    drop(load);
    let usage = rig.gateway.usage(SECRET)["total"].clone();
    let text = rig.gateway.command(&["ledger", "export", "--format", "csv"]);
    let mut lines = text.split_terminator("\r\n");
    let place = lines.next().unwrap().split(',').position(|name| name == "cost").unwrap();
    assert!(place > 0);
    let jsonl = rig.gateway.command(&["ledger", "export", "--format", "jsonl"]);
    let cost: u64 =
        jsonl.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["cost"].as_u64().unwrap()).sum();
    let rows = jsonl.lines().count();
    assert_eq!((rows as u64, lines.count()), (usage["attempts"].as_u64().unwrap(), rows));
    let told = portolan::policy::price::cost_decimal(cost);
    assert_eq!(usage["cost_usd"].to_string(), told, "the export's sum is the usage's, to the nano");
    let audit = rig.close();
    figure("E-11", &format!("3 exports and 3 copies under load, difference 0 of {} attempts", audit.attempts));
}

fn upstream_has(rig: &Rig, calls: usize) {
    rig.upstream.wait("calls", Duration::from_secs(20), |journal| journal.len() >= calls);
}

/// Reloads that succeeded.
fn reloads(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics();
    let line = metrics.lines().find(|line| line.starts_with("portolan_config_reloads_total{") && line.contains("ok"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn e_13_a_price_that_changes_under_a_stream_is_that_of_its_beginning() {
    let upstream = Upstream::start(|attempt| {
        let body = attempt.json();
        if body["stream"] != true {
            return answers::good(&body, "fine");
        }
        let mut reply = answers::stream(&answers::stream_frames(&["a ", "b ", "c"], true), 0);
        reply.steps.insert(2, Step::Sleep(1_500));
        reply
    });
    let bare = config(&[("alias", &upstream.v1())], "");
    let cheap = crate::metering::priced(&bare, "alias");
    let dear = cheap.replace("input: 10, output: 100", "input: 20, output: 200");
    let gateway = Gateway::start(&cheap);
    thread::scope(|scope| {
        let streaming = scope.spawn(|| gateway.chat(&ask_stream("alias", "x")));
        upstream.wait("the stream", Duration::from_secs(5), |journal| journal.len() == 1);
        gateway.reload(&dear);
        let by = Instant::now() + Duration::from_secs(5);
        while reloads(&gateway) < 1 {
            assert!(Instant::now() < by, "{}", gateway.logs());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(gateway.chat(&ask("alias", "y")).status, 200);
        assert_eq!(streaming.join().unwrap().status, 200);
    });
    // And one for which there is no price: told as such, not as free of charge.
    gateway.reload(&bare);
    let by = Instant::now() + Duration::from_secs(5);
    while reloads(&gateway) < 2 {
        assert!(Instant::now() < by, "{}", gateway.logs());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(gateway.chat(&ask("alias", "z")).status, 200);
    let total = gateway.settled(3);
    assert_eq!(total["unpriced"], 1, "{total}");
    let rows: Vec<Value> = gateway
        .command(&["ledger", "export", "--format", "jsonl"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // 7 fresh tokens at 10 (20), 4 cached at 1, 7 generated at 100 (200).
    let costs: Vec<_> = rows.iter().map(|row| row["cost"].as_u64().unwrap()).collect();
    assert_eq!(costs, [774_000, 1_544_000, 0], "{rows:#?}");
    assert!(gateway.command(&["ledger", "verify"]).contains(" 0 wrong"));
    figure("E-13", "a price changed under a stream: 0 of 3 rows at the wrong price, 0 silently at no cost");
}
