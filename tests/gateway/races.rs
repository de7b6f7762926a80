//! Many callers at once against what bounds them: never more than the bound, nobody refused for nothing, nothing kept by
//! those who left.
//!
//! `make races` runs this at full length; the numbers are the environment's (`PORTOLAN_RACES_SECONDS`,
//! `PORTOLAN_RACES_EXITS`), small where nothing is said.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::answers;
use super::client::{Connection, Response};
use super::gateway::{Gateway, SECRET, ask, ask_stream, config};
use super::upstream::{Step, Upstream};

/// A number of the environment's.
pub fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn start(upstream: &Upstream, limits: &str) -> Gateway {
    let text = config(&[("alias", &upstream.v1())], "retry: { tries: 1 }\nlog: { level: warn }\n");
    Gateway::start(&text.replace("id: main,", &format!("id: main, limits: {limits},")))
}

/// How one way to count fares against callers that want ten times as much: calls admitted, and the fullest window.
pub fn pressed(limits: &str, rate: usize, seconds: usize) -> (usize, usize) {
    const CALLERS: usize = 64;
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let gateway = start(&upstream, limits);
    let (begun, refused, admitted) = (Instant::now(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let time = Duration::from_secs(seconds as u64);
    let pause = Duration::from_secs_f64(CALLERS as f64 / (10 * rate) as f64);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut connection = Connection::open(gateway.data);
                let request = gateway.chat_request(&ask("alias", "x"));
                while begun.elapsed() < time {
                    let next = Instant::now() + pause;
                    let got = connection.exchange(&request);
                    match got.status {
                        200 => admitted.lock().unwrap().push(began(&got)),
                        429 => drop(refused.fetch_add(1, Ordering::SeqCst)),
                        _ => panic!("{got}"),
                    }
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
    });
    let mut times = admitted.into_inner().unwrap();
    times.sort_unstable();
    let in_time = times.iter().filter(|at| **at - times[0] < seconds as u64 * 1_000).count();
    assert!(refused.load(Ordering::SeqCst) > 2 * in_time, "the callers did not press");
    // A tenth of a second is for the time between a call's head and its admission.
    let fullest =
        (0..times.len()).map(|first| times[first..].iter().take_while(|at| **at - times[first] < 900).count());
    (in_time, fullest.max().unwrap_or(0))
}

/// When a call came to the gateway, in Unix milliseconds: its id begins with that (RFC 9562 section 5.7).
fn began(got: &Response) -> u64 {
    let id = got.header("x-portolan-request-id").unwrap().replace('-', "");
    u64::from_str_radix(&id[..12], 16).unwrap()
}

#[test]
fn limits_hold_their_rate_under_pressure() {
    let seconds = number("PORTOLAN_RACES_SECONDS", 4);
    const RATE: usize = 50;
    // How much may be missing, in percent. A window of a second is filled anew sixty times a minute, and each time the
    // callers come a little late; in a few seconds, beside other tests, they may not press well at all.
    let ways = [
        ("sliding_window of a minute", "{ rpm: 3000 }", 0, 1),
        ("token_bucket", "[{ of: requests, most: 50, per: second, by: token_bucket, burst: 5 }]", 5, 1),
        ("sliding_window of a second", "{ rps: 50 }", 0, 3),
    ];
    for (name, limits, saved, missing) in ways {
        if name.ends_with("minute") && seconds != 60 {
            continue;
        }
        let (admitted, fullest) = pressed(limits, RATE, seconds);
        let configured = RATE * seconds;
        let off = (admitted as f64 - configured as f64) / configured as f64 * 100.0;
        println!(
            "limits: {name}: {admitted} admitted of {configured} configured ({off:+.2} %), fullest second {fullest}"
        );
        assert!(admitted <= configured + saved, "{name}: more than the limit");
        assert!(name.ends_with("minute") || fullest <= RATE + saved, "{name}: {fullest} in less than a second");
        let missing = configured * if seconds < 30 { 12 } else { missing } / 100;
        assert!(admitted + missing >= configured, "{name}: {admitted} of {configured}: refused for nothing");
    }
}

/// A provider that fails, cuts, drips and holds as it is told.
fn trouble() -> Upstream {
    Upstream::start(|attempt| {
        let body = attempt.json();
        match attempt.text() {
            text if text.contains("fail") => answers::error(500, "no"),
            text if text.contains("cut") => {
                let frames = answers::stream_frames(&["a ", "b "], false);
                let mut reply = answers::stream(&frames[..2], 0);
                reply.steps.push(Step::Reset);
                reply
            }
            text if text.contains("hold") => {
                let mut reply = answers::good(&body, "held");
                reply.before_head.push(Step::Sleep(1_500));
                reply
            }
            text if text.contains("slow") => answers::stream(&answers::stream_frames(&["a "; 20], false), 5),
            _ => answers::good(&body, "fine"),
        }
    })
}

/// That many callers, never more than one call each at once, whose calls end in all ways there are; how many were refused.
fn leave(gateway: &Gateway, callers: usize, exits: usize) -> usize {
    let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..callers {
            let (next, refused) = (&next, &refused);
            scope.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed as u64);
                while next.fetch_add(1, Ordering::SeqCst) < exits {
                    let body = match dice.u8(..8) {
                        0 => ask("alias", "fail"),
                        1 | 2 => ask_stream("alias", "slow"),
                        3 => ask_stream("alias", "cut"),
                        4 => json!({"model": "alias", "messages": 7}),
                        5 => ask("nothing", "x"),
                        6 => ask_stream("alias", "x"),
                        _ => ask("alias", "x"),
                    };
                    let mut connection = Connection::open(gateway.data);
                    connection.send(&gateway.chat_request(&body)).unwrap();
                    if dice.u8(..4) == 0 {
                        // Leaves at any point.
                        thread::sleep(Duration::from_millis(dice.u64(..30)));
                        drop(connection);
                        thread::sleep(Duration::from_millis(30));
                    } else if let Ok(got) = connection.response()
                        && got.status == 429
                    {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    refused.load(Ordering::SeqCst)
}

#[test]
fn whoever_leaves_however_keeps_no_place() {
    const CALLERS: usize = 16;
    // Who has left has its place until the gateway has seen that.
    const PLACES: usize = 3 * CALLERS;
    let exits = number("PORTOLAN_RACES_EXITS", 400);
    let upstream = trouble();
    let gateway = start(&upstream, &format!("{{ concurrency: {PLACES}, tpm: 1000000000 }}"));
    // Far fewer than there are places: nobody is ever refused.
    let refused = leave(&gateway, CALLERS, exits);
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.metric("portolan_requests_in_flight", &[]) != 0.0 {
        assert!(Instant::now() < deadline, "calls that do not end:\n{}", gateway.logs());
        thread::sleep(Duration::from_millis(50));
    }
    // All places are free: that many calls at once, and not one more.
    let held = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..PLACES {
            scope.spawn(|| {
                if gateway.chat(&ask("alias", "hold")).status == 200 {
                    held.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        thread::sleep(Duration::from_millis(700));
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 429, "one more than there is room for");
    });
    let kept = PLACES - held.load(Ordering::SeqCst);
    println!("limits: {exits} exits, {kept} places kept, {refused} refused for nothing");
    assert_eq!((kept, refused), (0, 0));
    assert!(!gateway.logs().contains("panicked") && gateway.logs().find(SECRET).is_none());
}

#[test]
fn budgets_leak_nothing_and_refuse_nobody_for_nothing() {
    let exits = number("PORTOLAN_RACES_EXITS", 400);
    let upstream = trouble();
    let text = config(&[("alias", &upstream.v1())], "retry: { tries: 1 }\nlog: { level: warn }\n");
    let text =
        text.replacen("model: alias-real", "model: alias-real, price: { input: 0, output: 0, request: 0.001 }", 1);
    // Room for each call, and not for one more.
    let budget =
        format!("budgets: [{{ usd: {}.{:03} }}, {{ usd: 1000000, per: total }}]", exits / 1_000, exits % 1_000);
    let gateway = Gateway::start(&text.replace("id: main,", &format!("id: main, {budget},")));
    let refused = leave(&gateway, 16, exits);
    gateway.settled(1);
    let label = ["level=\"key\"", "budget=\"month\""];
    let leaked = (gateway.metric("portolan_budget_reserved_usd", &label) * 1e9) as i64;
    let spent = gateway.metric("portolan_budget_spent_usd", &label);
    let cost = gateway.usage(SECRET)["total"]["cost_usd"].as_f64().unwrap();
    let off = ((spent - cost) * 1e9).round() as i64;
    println!(
        "budgets: {exits} exits, {leaked} nano leaked, {refused} refused for nothing, {off} nano beside the ledger"
    );
    assert_eq!((leaked, refused, off), (0, 0, 0));
    assert!(!gateway.logs().contains("panicked"), "{}", gateway.logs());
}
