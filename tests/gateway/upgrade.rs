//! Hot reloads and binary upgrades under load: nobody is refused, no stream is cut, and the ledger has each call once.
//!
//! `make upgrade` runs it long (`UPGRADE_RELOADS`, `UPGRADE_UPGRADES`, `UPGRADE_LOOPS`, `UPGRADE_STREAM` in seconds); the suite
//! runs it short.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection as Ledger, OpenFlags};

use super::answers;
use super::client::{self, Connection};
use super::gateway::{SECRET, ask, ask_stream, config};
use super::lineage::Lineage;
use super::upstream::{Reply, Step, Upstream};

fn setting(name: &str, short: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    calls: AtomicUsize,
    streams: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

/// A call as callers make it: on a connection that is kept for a while, or on one of its own.
fn call(at: SocketAddr, line: &mut Option<Connection>, number: usize) -> Result<(), String> {
    // As HTTP clients do: a connection that was closed meanwhile is not used again.
    if line.as_mut().is_some_and(|line| is_closed(line.socket())) {
        *line = None;
    }
    let kept = line.is_some();
    let mut connection = match line.take() {
        Some(line) => line,
        None => Connection::open(at),
    };
    let bearer = format!("Bearer {SECRET}");
    let tag = format!("call={number}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-portolan-tags", &tag)];
    let body = ask("alias", &format!("call {number}")).to_string();
    let request = client::request("POST", "/v1/chat/completions", &headers, body.as_bytes());
    connection.send(&request).map_err(|error| format!("sending on a {} connection: {error}", name(kept)))?;
    let got = connection.response().map_err(|error| format!("no answer on a {} connection: {error}", name(kept)))?;
    if got.status != 200 || !got.whole {
        return Err(got.to_string());
    }
    if got.header("connection") != Some("close") && !number.is_multiple_of(5) {
        *line = Some(connection);
    }
    Ok(())
}

fn name(kept: bool) -> &'static str {
    if kept { "kept" } else { "new" }
}

fn is_closed(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let seen = socket.peek(&mut [0; 1]);
    socket.set_nonblocking(false).unwrap();
    !matches!(seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A stream to its end.
fn stream(at: SocketAddr, number: usize, wanted: &str) -> Result<(), String> {
    let bearer = format!("Bearer {SECRET}");
    let tag = format!("call={number}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-portolan-tags", &tag)];
    let body = ask_stream("alias", &format!("call {number}")).to_string();
    let mut connection = Connection::open(at);
    connection
        .send(&client::request("POST", "/v1/chat/completions", &headers, body.as_bytes()))
        .map_err(|error| error.to_string())?;
    let got = connection.response().map_err(|error| error.to_string())?;
    let whole = got.whole && got.status == 200 && got.text().contains("[DONE]") && got.said() == wanted;
    if whole { Ok(()) } else { Err(format!("cut: {} {}", got.status, got.text().len())) }
}

#[test]
fn reloads_and_upgrades_under_load_fail_nobody() {
    let (reloads, upgrades) = (setting("UPGRADE_RELOADS", 6), setting("UPGRADE_UPGRADES", 2));
    let (loops, seconds) = (setting("UPGRADE_LOOPS", 12), setting("UPGRADE_STREAM", 3));
    let streams = (loops / 10).max(2);
    let words: Vec<String> = (0..seconds * 10).map(|n| format!("w{n} ")).collect();
    let wanted = words.concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let frames = answers::stream_frames(&words, true);
    let upstream = Upstream::start(move |attempt| match attempt.json()["stream"].as_bool() {
        Some(true) => answers::stream(&frames, 100),
        _ => Reply { before_head: vec![Step::Sleep(2)], ..answers::whole("fine") },
    });
    // Each version of the configuration has a price of its own.
    let text = |version: usize| {
        let price = format!("model: alias-real, price: {{ input: {}, output: 100, cached: 1 }}", 10 + version);
        let more = "shutdown: { drain: 90s }\nresponse: { keep_alive: 1s }\n";
        config(&[("alias", &upstream.v1())], more).replacen("model: alias-real", &price, 1)
    };
    let mut lineage = Lineage::start(&text(0));
    let at = lineage.gateway.data;
    let (seen, next, stop) = (Seen::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        for worker in 0..loops {
            let (seen, next, stop, wanted) = (&seen, &next, &stop, &wanted);
            scope.spawn(move || {
                let mut line = None;
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let (count, done) = match worker < streams {
                        true => (&seen.streams, stream(at, number, wanted)),
                        false => (&seen.calls, call(at, &mut line, number)),
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Err(told) = done {
                        seen.wrong.lock().unwrap().push(format!("{:?} call {number}: {told}", begun.elapsed()));
                    }
                    // A hundred loops are many callers, not a load test.
                    thread::sleep(Duration::from_millis(40 + (number as u64 * 7) % 60));
                }
            });
        }
        thread::sleep(Duration::from_millis(500));
        for upgrade in 1..=upgrades {
            for reload in 0..reloads / upgrades {
                let version = (upgrade - 1) * (reloads / upgrades) + reload + 1;
                lineage.gateway.rewrite(&text(version));
                let before = lineage.told().iter().filter(|told| told.starts_with("RELOADING=1")).count();
                lineage.signal(libc::SIGHUP);
                lineage.wait_told("RELOADING=1", before + 1);
                thread::sleep(Duration::from_millis(150));
            }
            let asked = Instant::now();
            lineage.upgrade();
            slowest = slowest.max(asked.elapsed());
            thread::sleep(Duration::from_millis(500));
        }
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
    });
    // Those before the last one had streams: they have gone with the last of them.
    let last = lineage.pid();
    for pid in lineage.processes() {
        if pid != last {
            lineage.wait_gone(pid, Duration::from_secs(10));
        }
    }
    assert_eq!(lineage.processes(), [last]);
    let (calls, streams) = (seen.calls.into_inner(), seen.streams.into_inner());
    let wrong = seen.wrong.into_inner().unwrap();
    let cut = wrong.iter().filter(|told| told.contains("cut:")).count();
    let (rows, off) = books(&lineage, &upstream, calls + streams);
    println!(
        "upgrade: {reloads} reloads, {upgrades} upgrades, {loops} loops, {calls} calls and {streams} streams of {seconds} s: {} failed, {cut} cut, \
         {rows} rows, {off} off, slowest hand-over {:.1} s",
        wrong.len() - cut,
        slowest.as_secs_f64()
    );
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", lineage.gateway.logs());
    assert_eq!((rows, off), (calls + streams, 0));
    lineage.gateway.command(&["ledger", "verify"]);
}

/// Tags, state, outcome, and tokens in and out.
type Row = (String, String, Option<String>, (Option<i64>, Option<i64>));

/// Rows of the ledger, and how many of them are not as the provider's journal says.
fn books(lineage: &Lineage, upstream: &Upstream, wanted: usize) -> (usize, usize) {
    let mut seen: HashMap<usize, usize> = HashMap::new();
    for attempt in upstream.attempts() {
        let text = attempt.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        *seen.entry(text.strip_prefix("call ").unwrap().parse().unwrap()).or_default() += 1;
    }
    lineage.gateway.usage(SECRET);
    let path = lineage.gateway.state().join("ledger.sqlite");
    let begun = Instant::now();
    loop {
        let ledger = Ledger::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        ledger.busy_timeout(Duration::from_secs(5)).unwrap();
        let mut select = ledger.prepare("SELECT tags, state, outcome, input, output FROM attempts").unwrap();
        let rows: Vec<Row> = select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, (row.get(3)?, row.get(4)?))))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        if (rows.len() < wanted || rows.iter().any(|row| row.1 == "open")) && begun.elapsed() < Duration::from_secs(10)
        {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        let mut told: HashMap<usize, usize> = HashMap::new();
        let mut off = 0;
        for (tags, state, outcome, tokens) in &rows {
            let tags: serde_json::Value = serde_json::from_str(tags).unwrap();
            *told.entry(tags["call"].as_str().unwrap().parse().unwrap()).or_default() += 1;
            let reported = (Some(answers::PROMPT_TOKENS as i64), Some(answers::COMPLETION_TOKENS as i64));
            off += usize::from(state != "settled" || outcome.as_deref() != Some("ok") || *tokens != reported);
        }
        let differ = seen.iter().filter(|(call, times)| told.get(call) != Some(times)).count();
        let made_up = told.keys().filter(|call| !seen.contains_key(call)).count();
        return (rows.len(), off + differ + made_up);
    }
}
