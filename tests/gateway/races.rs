//! Many callers at once against what bounds them: never more than the bound, nobody refused for nothing, nothing kept by
//! those who left.
//!
//! `make races` runs this at full length; the numbers are the environment's (`PORTOLAN_RACES_SECONDS`,
//! `PORTOLAN_RACES_EXITS`), small where nothing is said.

use std::collections::VecDeque;
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
    start_in(upstream, limits, &[])
}

fn start_in(upstream: &Upstream, limits: &str, env: &[(&str, &str)]) -> Gateway {
    let text = config(&[("alias", &upstream.v1())], "retry: { tries: 1 }\nlog: { level: warn }\n");
    Gateway::start_in(&text.replace("id: main,", &format!("id: main, limits: {limits},")), env)
}

/// Where calls panic, and each how manieth that comes by, in a binary that has places for that (feature `failpoints`).
const PANICS: [(&str, &str); 1] = [("PORTOLAN_PANICS", "admission:53,dispatch:47,relaying:211,settling:61")];

/// Holds what panicked to what this binary can: many times, or never. Nothing of it may be anything but planted.
fn panicked(gateway: &Gateway, exits: usize) -> usize {
    let count = gateway.metric("portolan_panics_total", &[]) as usize;
    let logs = gateway.logs();
    let ours = logs.matches("planted by a test").count();
    assert_eq!((ours, logs.matches("a panic: this is a bug of ours").count()), (count, count), "{logs}");
    if cfg!(feature = "failpoints") {
        assert!(count >= exits / 50, "{count} panics in {exits} exits");
    } else {
        assert_eq!(count, 0, "{logs}");
    }
    count
}

/// One call of a caller who presses, by the gateway's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    /// Unix milliseconds.
    at: u64,
    admitted: bool,
}

/// What callers offer that want ten times as much as they may have, in the order in which it came to the gateway.
fn offers(limits: &str, rate: usize, seconds: usize) -> Vec<Offer> {
    const CALLERS: usize = 64;
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let gateway = start(&upstream, limits);
    let (begun, offers) = (Instant::now(), Mutex::new(Vec::new()));
    // A second more than is looked at: it begins when the first one is refused.
    let time = Duration::from_secs(seconds as u64 + 1);
    let pause = Duration::from_secs_f64(CALLERS as f64 / (10 * rate) as f64);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (gateway, offers) = (&gateway, &offers);
            scope.spawn(move || {
                let mut connection = Connection::open(gateway.data);
                let request = gateway.chat_request(&ask("alias", "x"));
                let mut own = Vec::new();
                // One after the other, not all at once.
                let mut next = begun + pause.mul_f64(caller as f64 / CALLERS as f64);
                while begun.elapsed() < time {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    next = (next + pause).max(Instant::now());
                    let got = connection.exchange(&request);
                    assert!([200, 429].contains(&got.status), "{got}");
                    own.push(Offer { at: began(&got), admitted: got.status == 200 });
                }
                offers.lock().unwrap().extend(own);
            });
        }
    });
    let mut offers = offers.into_inner().unwrap();
    offers.sort_unstable();
    offers
}

/// How one way to count fares against callers that want ten times as much: calls admitted, and the fullest window.
pub fn pressed(limits: &str, rate: usize, seconds: usize) -> (usize, usize) {
    let offers = offers(limits, rate, seconds);
    let times: Vec<u64> = admitted(&offers);
    let in_time = times.iter().filter(|at| **at - times[0] < seconds as u64 * 1_000).count();
    assert!(offers.len() - times.len() > 2 * in_time, "the callers did not press");
    (in_time, fullest(&times, 900))
}

fn admitted(offers: &[Offer]) -> Vec<u64> {
    offers.iter().filter(|offer| offer.admitted).map(|offer| offer.at).collect()
}

/// Most of these moments in so many milliseconds.
fn fullest(times: &[u64], window: u64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in times.iter().enumerate() {
        while times[first] + window <= *at {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// When a call came to the gateway, in Unix milliseconds: its id begins with that (RFC 9562 section 5.7).
fn began(got: &Response) -> u64 {
    let id = got.header("x-portolan-request-id").unwrap().replace('-', "");
    u64::from_str_radix(&id[..12], 16).unwrap()
}

/// A way to count, written down once more, without any approximation.
enum Ideal {
    /// What flows in, in calls a millisecond, and what can be saved up.
    Bucket { rate: f64, burst: f64, saved: f64, last: u64 },
    /// Never more than that in so many milliseconds.
    Sliding { most: usize, window: u64, taken: VecDeque<u64> },
}

impl Ideal {
    /// Whether it lets a call through that comes at that moment.
    fn admits(&mut self, at: u64) -> bool {
        match self {
            Ideal::Bucket { rate, burst, saved, last } => {
                *saved = (*saved + (at - *last) as f64 * *rate).min(*burst);
                *last = at;
                let fits = *saved >= 1.0 - 1e-9;
                *saved -= f64::from(u8::from(fits));
                fits
            }
            Ideal::Sliding { most, window, taken } => {
                while taken.front().is_some_and(|first| first + *window <= at) {
                    taken.pop_front();
                }
                let fits = taken.len() < *most;
                if fits {
                    taken.push_back(at);
                }
                fits
            }
        }
    }
}

/// Each way lets through what the rule lets through, of what was offered: never more than the limit, and of what an exact count
/// would admit of the same calls at the same moments nearly all. So a machine that stands still for a while, and offers
/// nothing meanwhile, is not taken for a limit that refuses, nor the other way round.
#[test]
fn limits_hold_their_rate_under_pressure() {
    let seconds = number("PORTOLAN_RACES_SECONDS", 4);
    const RATE: usize = 50;
    let bucket = |burst: u64| format!("[{{ of: requests, most: 50, per: second, by: token_bucket, burst: {burst} }}]");
    let ways: [(&str, String, u64, u64); 4] = [
        ("sliding_window of a minute", "{ rpm: 3000 }".to_owned(), 0, 60_000),
        ("token_bucket with a burst of 5", bucket(5), 5, 0),
        ("token_bucket with a burst of 50", bucket(50), 50, 0),
        ("sliding_window of a second", "{ rps: 50 }".to_owned(), 0, 1_000),
    ];
    for (name, limits, burst, window) in ways {
        if window == 60_000 && seconds != 60 {
            continue;
        }
        let offers = offers(&limits, RATE, seconds);
        let times = admitted(&offers);
        // Each window of its length, wherever it begins; a tenth of a second is for what lies between a call's id and its
        // admission.
        let most = match window {
            0 => fullest(&times, 900),
            window => fullest(&times, window - 100),
        };
        let bound = match window {
            0 => RATE * 9 / 10 + burst as usize + 1,
            window => RATE * window as usize / 1_000,
        };
        let mut ideal = match window {
            0 => Ideal::Bucket {
                rate: RATE as f64 / 1_000.0,
                burst: burst as f64,
                saved: burst as f64,
                last: offers[0].at,
            },
            window => Ideal::Sliding { most: RATE * window as usize / 1_000, window, taken: VecDeque::new() },
        };
        // Within a part of the rate is who has given out as much in all of the time as the exact count in the rest of it.
        let part = if seconds >= 30 { 100 } else { 20 };
        let length = offers[offers.len() - 1].at - offers[0].at;
        let until = offers[0].at + length - length / part as u64;
        let exact = offers.iter().filter(|offer| ideal.admits(offer.at) && offer.at <= until).count();
        // What a window holds is there at once; what a bucket had saved up is no part of its rate.
        let refused = offers.iter().find(|offer| !offer.admitted).unwrap();
        let first = if window > 0 { offers[0].at } else { refused.at };
        let minute = first..first + seconds as u64 * 1_000;
        let in_minute = times.iter().filter(|at| minute.contains(at)).count();
        let pause = offers.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or(0);
        let configured = RATE * seconds;
        let off = |count: usize, of: usize| (count as f64 - of as f64) / of as f64 * 100.0;
        println!(
            "limits: {name}: {in_minute} of {configured} configured in {seconds} s ({:+.2} %); {} of {} offers, and {exact} of \
             those up to {} % of the time by an exact count; fullest window {most} of {bound}; longest time without an offer {pause} ms",
            off(in_minute, configured),
            times.len(),
            offers.len(),
            100 - 100 / part,
        );
        assert!(offers.len() > 2 * times.len(), "{name}: the callers did not press");
        assert!(most <= bound, "{name}: more than the limit");
        assert!(times.len() >= exact, "{name}: refused for nothing");
        assert!(in_minute * 100 <= configured * 101 + burst as usize, "{name}: above the rate");
        // What nobody asked for while it was there cannot have been given out.
        let lost = offers.windows(2).map(|pair| (pair[1].at - pair[0].at).saturating_sub(40)).sum::<u64>() as usize;
        let missing = configured.saturating_sub(in_minute);
        assert!(missing <= configured / part + 1 + RATE * lost / 1_000, "{name}: below the rate, by {missing}");
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
    let mut gateway = start_in(&upstream, &format!("{{ concurrency: {PLACES}, tpm: 1000000000 }}"), &PANICS);
    // Far fewer than there are places: nobody is ever refused.
    let refused = leave(&gateway, CALLERS, exits);
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.metric("portolan_requests_in_flight", &[]) != 0.0 {
        assert!(Instant::now() < deadline, "calls that do not end:\n{}", gateway.logs());
        thread::sleep(Duration::from_millis(50));
    }
    let panics = panicked(&gateway, exits);
    assert!(gateway.is_running(), "D-11: it died");
    // All places are free: that many calls at once, and not one more.
    let held = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..PLACES {
            scope.spawn(|| {
                // One that panics is no answer, and is asked again.
                let hold = gateway.chat_request(&ask("alias", "hold"));
                let held_one = || {
                    let mut connection = Connection::open(gateway.data);
                    connection.send(&hold).unwrap();
                    connection.response().ok()
                };
                if (0..3).find_map(|_| held_one()).is_some_and(|got| got.status == 200) {
                    held.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        thread::sleep(Duration::from_millis(700));
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 429, "one more than there is room for");
    });
    let kept = PLACES - held.load(Ordering::SeqCst);
    println!("limits: {exits} exits, {panics} of them panics, {kept} places kept, {refused} refused for nothing");
    assert_eq!((kept, refused), (0, 0));
    assert!(gateway.logs().find(SECRET).is_none());
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
    let mut gateway = Gateway::start_in(&text.replace("id: main,", &format!("id: main, {budget},")), &PANICS);
    let refused = leave(&gateway, 16, exits);
    gateway.settled(1);
    let panics = panicked(&gateway, exits);
    assert!(gateway.is_running(), "D-11: it died");
    let label = ["level=\"key\"", "budget=\"month\""];
    let leaked = (gateway.metric("portolan_budget_reserved_usd", &label) * 1e9) as i64;
    let spent = gateway.metric("portolan_budget_spent_usd", &label);
    let cost = gateway.usage(SECRET)["total"]["cost_usd"].as_f64().unwrap();
    let off = ((spent - cost) * 1e9).round() as i64;
    println!(
        "budgets: {exits} exits, {panics} of them panics, {leaked} nano leaked, {refused} refused for nothing, {off} nano beside the ledger"
    );
    assert_eq!((leaked, refused, off), (0, 0, 0), "{}", gateway.logs());
    let open = gateway.usage(SECRET)["total"]["open"].clone();
    assert_eq!(open, 0, "attempts that are never settled");
}

/// D-11: a call that panics fails, and no other.
#[cfg(feature = "failpoints")]
#[test]
fn d11_a_panic_is_one_calls_affair() {
    const CALLERS: usize = 16;
    let exits = number("PORTOLAN_RACES_EXITS", 400);
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let env = [("PORTOLAN_PANICS", "admission:3,dispatch:5,relaying:7,settling:11")];
    let mut gateway = start_in(&upstream, "{ concurrency: 64 }", &env);
    let pid = gateway.pid();
    let (next, good, cut) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::SeqCst) < exits {
                    let mut connection = Connection::open(gateway.data);
                    connection.send(&gateway.chat_request(&ask("alias", "x"))).unwrap();
                    match connection.response() {
                        Ok(got) if got.status == 200 && got.whole => good.fetch_add(1, Ordering::SeqCst),
                        Ok(got) => panic!("neither answered nor cut: {got}"),
                        Err(_) => cut.fetch_add(1, Ordering::SeqCst),
                    };
                }
            });
        }
    });
    let (good, cut) = (good.into_inner(), cut.into_inner());
    let panics = panicked(&gateway, exits);
    // Who panics after the answer was told has answered.
    let failed = cut.saturating_sub(panics);
    println!("limits: D-11: {exits} calls, {panics} panics, {cut} cut, {failed} others failed");
    assert!(failed == 0 && good + cut == exits && panics > exits / 3, "{panics} panics, {good} good, {cut} cut");
    assert!(gateway.is_running() && gateway.pid() == pid);
    gateway.settled(1);
}
