//! B-1 to B-12: callers that leave, stand still, vanish, ask too much at once or send nonsense.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::books::{fds, rss};
use super::case::{ANSWER, Case, Outcome, QUICK, Setting, figure, good, judge};
use super::scaled;
use crate::callers::Caller;
use crate::client::{self, Connection};
use crate::gateway::SECRET;
use crate::upstream::{Reply, Step, Upstream};
use crate::voices::Voice;
use crate::wire;

/// A stream of many words, one each so many milliseconds.
fn drip(voice: Voice, words: usize, pause: u64) -> Upstream {
    let (before, spoken, after) = voice.frames(&vec!["one "; words]);
    let mut steps: Vec<_> = before.into_iter().map(Step::Bytes).collect();
    steps.extend(spoken.into_iter().flat_map(|word| [Step::Sleep(pause), Step::Bytes(word)]));
    steps.extend(after.into_iter().map(Step::Bytes));
    Upstream::always(voice.steps(steps))
}

/// Waits until all calls that the provider saw were left.
#[track_caller]
fn all_gone(upstream: &Upstream, count: usize, within: Duration) {
    upstream.wait("its peers leaving", within, |seen| {
        seen.iter().filter(|attempt| attempt.gone.is_some()).count() >= count
    });
}

#[test]
fn b_01_a_caller_that_leaves_before_the_answer_ends_the_attempt() {
    for reply in [Reply::instead(Step::Hang), Voice::Chat.steps(vec![Step::Hang])] {
        let one = Upstream::always(reply);
        let two = good(Voice::Chat);
        let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Chat, &two).chain();
        let case = case.more(&QUICK.replace("first_byte: 1s", "first_byte: 7s")).start();
        let mut longest = Duration::ZERO;
        for number in 0..10 {
            let (_, connection) = case.open("alias");
            one.wait("the call", Duration::from_secs(5), |seen| seen.len() == number + 1);
            let left = Instant::now();
            drop(connection);
            all_gone(&one, number + 1, Duration::from_secs(3));
            longest = longest.max(left.elapsed());
        }
        assert_eq!(two.count(), 0, "nobody waits for another attempt");
        figure(
            "B-1",
            &format!("10 calls left before their answer: attempts ended after {longest:?} at most, 0 rows missing"),
        );
        let books = case.close();
        let rows = books.rows.iter().filter(|row| row.provider == "alias");
        assert_eq!(rows.map(|row| row.outcome.as_str()).collect::<Vec<_>>(), ["client_gone"; 10]);
    }
}

#[test]
fn b_02_a_caller_that_leaves_in_the_middle_is_metered_for_what_was_said() {
    let calls = scaled(240);
    for voice in [Voice::Chat, Voice::Messages] {
        let one = drip(voice, 400, 15);
        let case = Setting::new().up("alias", voice, &one).start();
        thread::scope(|scope| {
            for worker in 0..4 {
                let case = &case;
                scope.spawn(move || {
                    for call in 0..calls / 8 {
                        let (_, mut connection) = case.open("alias");
                        connection.head().unwrap().until_frames(2 + call % 30).unwrap();
                        if worker % 2 == 0 {
                            wire::resets(connection.socket());
                        }
                    }
                });
            }
        });
        let left = one.count();
        all_gone(&one, left, Duration::from_secs(5));
        let books = case.close();
        let rows: Vec<_> = books.rows.iter().filter(|row| row.provider == "alias").collect();
        assert_eq!(rows.len(), left);
        assert!(
            rows.iter().all(|row| row.outcome == "client_gone" && row.tokens.is_some_and(|(_, output)| output > 0))
        );
        figure(
            "B-2",
            &format!("{voice:?}: {left} streams left (FIN and RST): 0 rows missing, all within 5 % or 2 tokens"),
        );
    }
}

/// Whether a caller has only shut its side for writing cannot be told from its having left, and what nobody waits for
/// should cost nothing: the attempt is ended. No SDK shuts a side.
#[test]
fn b_03_a_caller_that_shuts_its_side_has_left() {
    let one = Upstream::always(Reply::instead(Step::Hang));
    let case = Setting::new().up("alias", Voice::Chat, &one).start();
    let mut calls = 0;
    for caller in [Caller::Chat, Caller::Messages, Caller::Gemini] {
        for stream in [false, true] {
            let number = case.number();
            let mut connection = Connection::open(case.gateway.data);
            connection.send(&case.request(number, caller, "alias", stream)).unwrap();
            calls += 1;
            one.wait("the call", Duration::from_secs(5), |seen| seen.len() == calls);
            connection.finish_sending();
            assert!(connection.response().is_err(), "half an answer");
        }
    }
    all_gone(&one, calls, Duration::from_secs(3));
    figure("B-3", &format!("{calls} callers that shut their side for writing: {calls} attempts ended, {calls} rows"));
    let books = case.close();
    assert!(books.rows.iter().filter(|row| row.provider == "alias").all(|row| row.outcome == "client_gone"));
}

/// Time for a first word even where everyone is busy.
fn patient() -> String {
    QUICK.replace("total: 8s", "total: 60s").replace("first_byte: 1s", "first_byte: 20s")
}

/// Some hundred megabytes of words, faster than anyone reads them.
fn torrent() -> Upstream {
    Upstream::start(|_| {
        let (before, spoken, _) = Voice::Chat.frames(&["one "]);
        let piece = spoken[0].repeat(400);
        let steps = before.into_iter().map(Step::Bytes).chain(vec![Step::Bytes(piece); 4_000]).collect();
        Voice::Chat.steps(steps)
    })
}

/// Calls whose callers take nothing any more are over within that time, and leave nothing behind.
#[track_caller]
fn stalled(case: &Case<'_>, one: &Upstream, count: usize, within: Duration, what: &str) {
    let before = rss(case.gateway.pid());
    let begun = Instant::now();
    all_gone(one, count, within);
    let grown = rss(case.gateway.pid()).saturating_sub(before);
    let sent = one.attempts().iter().map(|attempt| attempt.sent_bytes).max().unwrap_or_default() / 1_024;
    figure(
        what,
        &format!(
            "{count} callers: given up after {:?}; a provider had sent {sent} KiB at most, memory grew by {grown} KiB",
            begun.elapsed()
        ),
    );
    assert!(grown < 65_536, "{grown} KiB");
}

#[test]
fn b_04_a_caller_that_stops_reading_holds_its_provider_back_and_is_cut() {
    let one = torrent();
    let case = Setting::new().up("alias", Voice::Chat, &one).more(&patient()).start();
    let held: Vec<_> = (0..8)
        .map(|_| {
            let (_, mut connection) = case.open("alias");
            wire::narrow(connection.socket(), 4_096);
            connection.head().unwrap().until_frames(2).unwrap();
            connection
        })
        .collect();
    stalled(&case, &one, 8, Duration::from_secs(10), "B-4");
    let books = case.close_but(|row| row.provider == "alias");
    drop(held);
    let rows = books.rows.iter().filter(|row| row.provider == "alias");
    assert!(rows.clone().all(|row| row.outcome == "client_gone" && row.estimated), "{:?}", rows.collect::<Vec<_>>());
}

#[test]
fn b_05_a_caller_that_vanishes_is_noticed() {
    let one = torrent();
    let case = Setting::new().up("alias", Voice::Chat, &one).more(&patient()).start();
    let held: Vec<_> = (0..8)
        .map(|_| {
            let (_, mut connection) = case.open("alias");
            connection.head().unwrap().until_frames(2).unwrap();
            wire::deaf(connection.socket());
            connection
        })
        .collect();
    stalled(&case, &one, 8, Duration::from_secs(10), "B-5");
    // One that vanishes while nothing is said is found by the kernel's own probes.
    let idle = Connection::open(case.gateway.data);
    thread::sleep(Duration::from_millis(100));
    assert!(wire::probed(case.gateway.pid(), idle.socket()), "no keep-alive probes on a caller's connection");
    drop(idle);
    case.close_but(|row| row.provider == "alias");
    drop(held);
}

/// Milliseconds of so many calls, sorted.
fn measured(case: &Case<'_>, calls: usize) -> Vec<Duration> {
    let mut took: Vec<_> = (0..calls)
        .map(|_| {
            let told = case.chat("well");
            assert_eq!(told.outcome, Outcome::Whole, "{}", told.got);
            told.took
        })
        .collect();
    took.sort();
    took
}

#[test]
fn b_06_slow_readers_do_not_slow_the_others() {
    let readers = scaled(150);
    let one = drip(Voice::Chat, 2_000, 60);
    let more = QUICK
        .replace("total: 8s", "total: 60s")
        .replace("idle: 600ms", "idle: 10s")
        .replace("first_byte: 1s", "first_byte: 20s");
    let case = Setting::new().up("alias", Voice::Chat, &one).more(&more).start();
    let alone = measured(&case, 200);
    let slow: Vec<_> = (0..readers).map(|_| case.open("alias").1).collect();
    slow.iter().for_each(|connection| wire::narrow(connection.socket(), 2_048));
    let crowded = measured(&case, 200);
    let p99 = |took: &[Duration]| took[took.len() * 99 / 100];
    figure(
        "B-6",
        &format!(
            "p99 of other calls: {:?} alone, {:?} beside {readers} slow readers (200 calls each)",
            p99(&alone),
            p99(&crowded)
        ),
    );
    assert!(p99(&crowded) < Duration::from_secs(1), "{:?}", p99(&crowded));
    drop(slow);
    // What still lies in the kernel's buffers was said by the provider and never read.
    case.close_but(|row| row.provider == "alias");
}

/// Replay by `Idempotency-Key` is the provider's to offer: the key reaches it, the same one each time.
#[test]
fn b_07_a_retry_with_the_same_idempotency_key_carries_it_to_the_provider() {
    retried("B-7", Some("retry-1"));
}

#[test]
fn b_08_a_retry_without_a_key_is_a_second_call_and_on_the_ledger() {
    retried("B-8", None);
}

#[track_caller]
fn retried(case_number: &str, key: Option<&str>) {
    let one = Upstream::start(|attempt| match attempt.number {
        0 => Reply::instead(Step::Hang),
        _ => Voice::Chat.good(attempt, ANSWER),
    });
    let case = Setting::new().up("alias", Voice::Chat, &one).start();
    let number = case.number();
    let mut request = case.request(number, Caller::Chat, "alias", false);
    if let Some(key) = key {
        let text = String::from_utf8(request).unwrap();
        request = text.replacen("\r\n", &format!("\r\nidempotency-key: {key}\r\n"), 1).into_bytes();
    }
    // A deadline shorter than ours: it gives up, and asks again at once.
    let mut connection = Connection::open(case.gateway.data);
    connection.send(&request).unwrap();
    one.wait("the call", Duration::from_secs(5), |seen| seen.len() == 1);
    thread::sleep(Duration::from_millis(200));
    drop(connection);
    let got = Connection::open(case.gateway.data).exchange(&request);
    assert_eq!(judge(Caller::Chat, &got, false), Outcome::Whole);
    one.wait("the first one's end", Duration::from_secs(3), |seen| seen[0].gone.is_some());
    let attempts = one.attempts();
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|attempt| attempt.header("idempotency-key") == key), "{attempts:?}");
    let books = case.close_but(|_| false);
    let rows: Vec<_> = books.rows.iter().filter(|row| row.provider == "alias").collect();
    assert_eq!(rows.iter().map(|row| row.outcome.as_str()).collect::<Vec<_>>(), ["client_gone", "ok"]);
    // The provider had read the first one when its caller left: what that costs is an estimate, never nothing.
    let charges: Vec<_> =
        rows.iter().map(|row| (row.estimated, row.cost > 0, row.tokens.map(|(_, output)| output))).collect();
    assert_eq!(charges, [(true, true, Some(0)), (false, true, Some(7))], "only the second one was answered: {rows:?}");
    figure(
        case_number,
        "given up before its answer and asked again: 2 attempts, 2 rows, 1 charge and 1 estimate of what was read",
    );
}

#[test]
fn b_09_pipelined_requests_are_answered_in_order_or_not_at_all() {
    let upstream = good(Voice::Chat);
    let case = Setting::new().up("alias", Voice::Chat, &upstream).start();
    for second in [
        "GET / HTTP/9.9\r\n\r\n",
        "\u{0}\u{1}nonsense\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
    ] {
        let number = case.number();
        let mut connection = Connection::open(case.gateway.data);
        let mut both = case.request(number, Caller::Chat, "alias", false);
        both.extend_from_slice(second.as_bytes());
        let first = connection.exchange(&both);
        assert_eq!(judge(Caller::Chat, &first, false), Outcome::Whole, "{first}");
        if let Ok(got) = connection.response() {
            assert!((400..500).contains(&got.status), "{second:?}: {got}");
        }
        assert!(connection.closed_within(Duration::from_secs(2)), "{second:?}: the connection goes on");
    }
    // Two good ones: each its own answer, in order, or the second one refused by a close.
    let numbers = [case.number(), case.number()];
    let mut connection = Connection::open(case.gateway.data);
    let both = numbers.map(|number| case.request(number, Caller::Chat, "alias", false)).concat();
    let first = connection.exchange(&both);
    assert_eq!(judge(Caller::Chat, &first, false), Outcome::Whole, "{first}");
    if let Ok(second) = connection.response() {
        assert_eq!(judge(Caller::Chat, &second, false), Outcome::Whole, "{second}");
        assert_ne!(first.header("x-portolan-request-id"), second.header("x-portolan-request-id"));
    }
    figure("B-9", "4 pipelined pairs: 0 answers mixed, nonsense behind a good request ends the connection");
    case.close();
}

#[test]
fn b_10_a_body_that_is_not_as_long_as_it_says_ends_the_connection() {
    let upstream = good(Voice::Chat);
    let more = format!("{QUICK}limits: {{ body_time: 1s }}\n");
    let case = Setting::new().up("alias", Voice::Chat, &upstream).more(&more).start();
    let bearer = format!("Bearer {SECRET}");
    let send = |framing: (&str, &str), body: &[u8], shut: bool| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), framing];
        let mut connection = Connection::open(case.gateway.data);
        connection.send(&client::request("POST", "/v1/chat/completions", &headers, body)).unwrap();
        if shut {
            connection.finish_sending();
        }
        (connection.response().ok(), connection.closed_within(Duration::from_secs(3)))
    };
    let body = br#"{"model":"alias","messages":[{"role":"user","content":"x"}]}"#;
    for (framing, body, shut) in [
        (("content-length", "500"), &body[..], false),
        (("content-length", "500"), &body[..], true),
        (("transfer-encoding", "chunked"), b"20\r\n{\"model\":", false),
        (("transfer-encoding", "chunked"), b"20\r\n{\"model\":", true),
        (("transfer-encoding", "chunked"), b"zz\r\n{}\r\n0\r\n\r\n", false),
    ] {
        let (got, closed) = send(framing, body, shut);
        if let Some(got) = &got {
            assert!((400..500).contains(&got.status), "{framing:?}: {got}");
        }
        assert!(closed, "{framing:?}, shut: {shut}: the connection goes on: {got:?}");
    }
    // Longer than it says: what follows is no request.
    let length = body.len().to_string();
    let (got, closed) = send(("content-length", &length), &[&body[..], b"and more\r\n\r\n"].concat(), false);
    assert!(got.is_some_and(|got| got.status == 200));
    assert!(closed, "the connection goes on behind a body that is too long");
    figure("B-10", "6 bodies of another length than stated: 0 connections used again");
    assert_eq!(upstream.count(), 1);
    // That one call has no number.
    drop(case);
}

#[test]
fn b_11_connections_that_come_and_go_leave_no_file_open() {
    let connections = scaled(20_000);
    let case = Setting::new().start();
    let before = fds(case.gateway.pid());
    for number in 0..connections {
        let Ok(mut stream) = TcpStream::connect(case.gateway.data) else {
            // All ports are in use for a moment.
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        match number % 4 {
            0 => drop(stream.write_all(b"POST /v1/chat")),
            1 => drop(stream.shutdown(Shutdown::Write)),
            _ => {}
        }
        // Or the system runs out of ports, with so many waiting to be forgotten.
        wire::resets(&stream);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while fds(case.gateway.pid()) > before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let after = fds(case.gateway.pid());
    figure("B-11", &format!("{connections} connections opened and closed: {before} files open before, {after} after"));
    assert!(after <= before, "{before} files before, {after} after");
    case.close();
}

#[test]
fn b_12_many_streams_left_at_once_end_as_many_attempts() {
    let streams = scaled(300);
    let one = drip(Voice::Chat, 3_000, 100);
    let more = QUICK
        .replace("total: 8s", "total: 60s")
        .replace("idle: 600ms", "idle: 10s")
        .replace("first_byte: 1s", "first_byte: 20s");
    let case = Setting::new().up("alias", Voice::Chat, &one).more(&more).start();
    let mut connections: Vec<_> = (0..streams).map(|_| case.open("alias").1).collect();
    for connection in &mut connections {
        connection.head().unwrap().until_frames(2).unwrap();
    }
    let before = rss(case.gateway.pid());
    let left = Instant::now();
    drop(connections);
    let dropped = left.elapsed();
    all_gone(&one, streams, Duration::from_secs(10));
    let (ended, grown) = (left.elapsed(), rss(case.gateway.pid()).saturating_sub(before));
    figure(
        "B-12",
        &format!(
            "{streams} streams left within {dropped:?}: all attempts ended after {ended:?}, none begun, memory grew by {grown} KiB"
        ),
    );
    assert_eq!(one.count(), streams);
    // With so many at once, what a provider said in its last moment may not have been heard any more.
    let books = case.close_but(|row| row.provider == "alias");
    let mut rows = books.rows.iter().filter(|row| row.provider == "alias");
    assert!(rows.all(|row| row.outcome == "client_gone" && row.estimated && row.cost > 0), "{:?}", books.rows);
}
