//! Exactly once: two gateways on one ledger under load, killed again and again, against their provider's own journal.
//!
//! `make kill9` runs it long; the suite runs it short. What must hold: each attempt that the provider saw has one row; a row
//! that is settled says what the provider reported, to the nano; what was cut off counts at its reserve; and nothing is billed
//! as settled that the provider never saw.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::answers;
use super::gateway::{Gateway, SECRET, config};
use super::upstream::{Reply, Upstream};

/// What a provider saw: of each call its attempts, and whether they were answered well.
pub type Seen = Arc<Mutex<HashMap<usize, Vec<bool>>>>;

/// Callers of each gateway.
const CALLERS: usize = 4;

/// Calls that go on for as long as the value lives, and fail when their gateway is gone.
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Callers of one address; each call has a number of its own in its text and its tag.
    pub fn start(at: SocketAddr, next: &Arc<AtomicUsize>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..CALLERS).map(|_| {
            let (stop, next) = (stop.clone(), next.clone());
            thread::spawn(move || {
                let mut line = None;
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if call(at, &mut line, number).is_none() {
                        line = None;
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            })
        });
        let callers = callers.collect();
        Load { stop, callers }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            let _ = caller.join();
        }
    }
}

/// One call on a connection that is kept; nothing when it broke.
fn call(at: SocketAddr, line: &mut Option<TcpStream>, number: usize) -> Option<()> {
    if line.is_none() {
        let stream = TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let _ = stream.set_nodelay(true);
        *line = Some(stream);
    }
    let stream = line.as_mut()?;
    let body = json!({
        "model": "alias", "stream": number.is_multiple_of(3), "max_tokens": 20, "messages": [{"role": "user", "content": format!("call {number}")}],
    });
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: kill9.test\r\nauthorization: Bearer {SECRET}\r\nx-portolan-tags: call={number}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut got = Vec::new();
    let mut piece = [0; 16384];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return None,
            Ok(n) => got.extend_from_slice(piece.get(..n)?),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        if over(&got)? {
            return Some(());
        }
    }
}

/// Whether an answer is all there; nothing for one that ends its connection.
fn over(got: &[u8]) -> Option<bool> {
    let Some(head) = memchr::memmem::find(got, b"\r\n\r\n") else { return Some(false) };
    let (head, body) = (String::from_utf8_lossy(&got[..head]).to_ascii_lowercase(), &got[head + 4..]);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|text| text.parse().ok());
    if head.contains("connection: close") {
        return None;
    }
    Some(match length {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n"),
    })
}

/// The call that a request to the provider belongs to.
fn number(body: &Value) -> usize {
    body["messages"][0]["content"].as_str().and_then(|text| text.strip_prefix("call ")).unwrap().parse().unwrap()
}

/// What the provider reports of a call: input, cached input and output.
fn used(call: usize) -> (u64, u64, u64) {
    let call = call as u64;
    (10 + call % 50, call % 5, 1 + call % 7)
}

/// Nano-dollars, at 10, 1 and 100 dollars for a million tokens.
fn cost(call: usize) -> u64 {
    let (input, cached, output) = used(call);
    (input - cached) * 10_000 + cached * 1_000 + output * 100_000
}

/// A provider that counts each call's tokens in a way of its own, and fails a tenth of them at first.
pub fn provider() -> (Upstream, Seen) {
    let seen: Seen = Arc::default();
    let journal = seen.clone();
    let upstream = Upstream::start(move |attempt| {
        let body = attempt.json();
        let call = number(&body);
        let good = {
            let mut seen = journal.lock().unwrap();
            let attempts = seen.entry(call).or_default();
            let good = call % 10 != 7 || !attempts.is_empty();
            attempts.push(good);
            good
        };
        if !good {
            return answers::error(500, "not this time");
        }
        let (input, cached, output) = used(call);
        let usage = json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        });
        if body["stream"] != true {
            let choice =
                json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}});
            let answer = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage});
            return Reply::json(200, answer.to_string());
        }
        let mut frames = answers::stream_frames(&["fi", "ne"], false);
        let last = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage});
        frames.insert(frames.len() - 1, answers::frame(&last.to_string()));
        answers::stream(&frames, 0)
    });
    (upstream, seen)
}

/// The configuration of the gateways.
pub fn settings(upstream: &Upstream) -> String {
    let text = config(
        &[("alias", &upstream.v1())],
        "retry: { tries: 2, pause: 1ms, max_pause: 5ms, failures: 1000, budget: { ratio: 1, per_minute: 10000, burst: 1000 } }\n",
    );
    super::metering::priced(&text, "alias")
}

/// What the ledger and the provider's journal say of one another.
#[derive(Debug, Default)]
pub struct Audit {
    pub attempts: usize,
    pub missing: usize,
    pub duplicate: usize,
    pub off: u64,
    /// Rows that are settled with a cost, of attempts that the provider never saw.
    pub invented: usize,
    pub open: usize,
    pub orphaned: usize,
    pub told: Vec<String>,
}

impl Audit {
    /// Joins them. The gateways are stopped, or have nothing to do.
    pub fn of(state: &std::path::Path, seen: &HashMap<usize, Vec<bool>>) -> Audit {
        struct Row {
            number: u32,
            state: String,
            outcome: String,
            cost: u64,
            reserve: u64,
            usage: Option<(u64, u64, u64)>,
        }
        let ledger =
            Connection::open_with_flags(state.join("ledger.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut select = ledger
            .prepare("SELECT tags ->> '$.call', number, state, outcome, cost, reserve, input, cached, output FROM attempts ORDER BY id")
            .unwrap();
        let mut rows: HashMap<usize, Vec<Row>> = HashMap::new();
        let found = select.query_map([], |row| {
            let whole = |at| row.get::<_, Option<i64>>(at).map(|n| n.map(|n| n as u64));
            let usage =
                whole(6)?.zip(whole(7)?).zip(whole(8)?).map(|((input, cached), output)| (input, cached, output));
            let (cost, reserve) = (whole(4)?.unwrap(), whole(5)?.unwrap());
            let outcome: Option<String> = row.get(3)?;
            let call: Option<String> = row.get(0)?;
            Ok((
                call,
                Row {
                    number: row.get(1)?,
                    state: row.get(2)?,
                    outcome: outcome.unwrap_or_default(),
                    cost,
                    reserve,
                    usage,
                },
            ))
        });
        let mut audit = Audit::default();
        for found in found.unwrap() {
            let (call, row) = found.unwrap();
            match call {
                Some(call) => rows.entry(call.parse().unwrap()).or_default().push(row),
                // Its intent was lost: nothing here may lose one.
                None => audit.told.push(format!("a row without an intent: {} {}", row.state, row.cost)),
            }
        }
        audit.missing += audit.told.len();
        for (call, attempts) in seen {
            audit.attempts += attempts.len();
            let own = rows.get(call).map_or(&[][..], Vec::as_slice);
            for (place, good) in attempts.iter().enumerate() {
                let mut row = own.iter().filter(|row| row.number as usize == place + 1);
                let Some(first) = row.next() else {
                    audit.missing += 1;
                    audit.told.push(format!("call {call}, attempt {}: no row", place + 1));
                    continue;
                };
                audit.duplicate += row.count();
                let expected = match first.state.as_str() {
                    "orphaned" => first.reserve,
                    "settled" if *good && first.outcome == "ok" => {
                        if first.usage != Some(used(*call)) {
                            audit.told.push(format!("call {call}: {:?} is not {:?}", first.usage, used(*call)));
                            audit.off += 1;
                        }
                        cost(*call)
                    }
                    // An error answer costs nothing.
                    "settled" if !*good => 0,
                    // Its caller was gone before the end was there: an estimate, which says so.
                    "settled" => first.cost,
                    _ => {
                        audit.open += 1;
                        continue;
                    }
                };
                if first.cost != expected {
                    audit.off += first.cost.abs_diff(expected);
                    audit.told.push(format!(
                        "call {call}: {} {} cost {}, not {expected}",
                        first.state, first.outcome, first.cost
                    ));
                }
            }
        }
        for (call, own) in &rows {
            let attempts = seen.get(call).map_or(0, Vec::len);
            for row in own.iter().filter(|row| row.number as usize > attempts) {
                if row.state == "settled" && row.cost > 0 {
                    audit.invented += 1;
                    audit.told.push(format!("call {call}: {} for {} was never seen", row.outcome, row.cost));
                }
            }
            audit.orphaned += own.iter().filter(|row| row.state == "orphaned").count();
        }
        audit
    }

    #[track_caller]
    pub fn holds(&self) {
        let Audit { missing, duplicate, off, invented, open, told, .. } = self;
        let told = &told[..told.len().min(20)];
        assert_eq!((*missing, *duplicate, *off, *invented, *open), (0, 0, 0, 0, 0), "{told:#?}");
    }
}

fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn killed_gateways_on_one_ledger_lose_and_invent_nothing() {
    let kills = setting("KILLS", 4);
    let each = setting("ATTEMPTS", if kills >= 100 { 510 } else { 150 });
    let (upstream, seen) = provider();
    let text = settings(&upstream);
    let mut one = Gateway::start(&text);
    let mut two = one.beside(&text);
    let next = Arc::new(AtomicUsize::new(0));
    let loads = [Load::start(one.data, &next), Load::start(two.data, &next)];
    let count = || seen.lock().unwrap().values().map(Vec::len).sum::<usize>();
    let started = Instant::now();
    for kill in 0..kills {
        let wanted = count() + each;
        let by = Instant::now() + Duration::from_secs(60);
        while count() < wanted {
            assert!(Instant::now() < by, "the load has stopped after {kill} kills:\n{}", one.logs());
            thread::sleep(Duration::from_millis(1));
        }
        // Anywhere within a call.
        thread::sleep(Duration::from_micros((kill as u64 * 7_919) % 20_000));
        let gateway = if kill % 2 == 0 { &mut one } else { &mut two };
        gateway.kill9();
        gateway.start_again();
    }
    drop(loads);
    for gateway in [&mut one, &mut two] {
        assert!(gateway.stop(Duration::from_secs(30)).success());
    }
    // The last one to stop may have left the other's segments: a start takes them over.
    one.start_again();
    let by = Instant::now() + Duration::from_secs(20);
    let audit = loop {
        one.usage(SECRET);
        let audit = Audit::of(&one.state(), &seen.lock().unwrap());
        if (audit.missing, audit.open) == (0, 0) || Instant::now() > by {
            break audit;
        }
        thread::sleep(Duration::from_millis(200));
    };
    assert!(one.stop(Duration::from_secs(30)).success());
    let told = one.command(&["ledger", "verify"]);
    println!("{} orphaned at their reserve, {:.0} s; {}", audit.orphaned, started.elapsed().as_secs_f64(), told.trim());
    println!(
        "kill9: {kills} kills, {} attempts, {} missing, {} duplicate, {} nano off",
        audit.attempts, audit.missing, audit.duplicate, audit.off
    );
    audit.holds();
    assert!(audit.attempts >= kills * each);
    assert!(told.contains(" 0 wrong"), "{told}");
}

#[cfg(feature = "failpoints")]
#[test]
fn each_durable_step_may_be_the_last() {
    let (upstream, seen) = provider();
    let text = settings(&upstream);
    let mut gateway = Gateway::start(&text);
    let next = Arc::new(AtomicUsize::new(0));
    let load = Load::start(gateway.data, &next);
    let points = portolan::store::failpoint::ALL;
    let mut survived = 0;
    for (place, point) in points.iter().enumerate() {
        // What a killed process leaves is there to be taken over, where that is what dies.
        let wanted = seen.lock().unwrap().len() + 20;
        let by = Instant::now() + Duration::from_secs(30);
        while seen.lock().unwrap().len() < wanted {
            assert!(Instant::now() < by, "the load has stopped before {point}");
            thread::sleep(Duration::from_millis(1));
        }
        gateway.kill9();
        let times = if point.starts_with("intent") || point.starts_with("settle") { 1 + place * 3 } else { 1 };
        gateway.start_doomed(&[("PORTOLAN_FAILPOINT", &format!("{point}:{times}")), ("PORTOLAN_ROTATE", "8192")]);
        let status = gateway.wait_end(Duration::from_secs(20));
        assert!(!status.success(), "{point}: {status}");
        gateway.start_again();
        survived += 1;
    }
    drop(load);
    assert!(gateway.stop(Duration::from_secs(30)).success());
    gateway.start_again();
    gateway.usage(SECRET);
    let audit = Audit::of(&gateway.state(), &seen.lock().unwrap());
    println!(
        "kill9: {survived} of {} fail points survived, {} attempts, {} missing, {} duplicate, {} nano off",
        points.len(),
        audit.attempts,
        audit.missing,
        audit.duplicate,
        audit.off
    );
    audit.holds();
    assert!(gateway.stop(Duration::from_secs(30)).success());
    assert!(gateway.command(&["ledger", "verify"]).contains(" 0 wrong"));
}
