//! Calls that wait for room at a provider: in turn among keys, no longer than their callers, and told the truth.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::answers;
use super::client::{self, Connection};
use super::gateway::{Gateway, OTHER_SECRET, SECRET, ask, config, sha256};
use super::upstream::{Step, Upstream};

/// A gateway whose only target takes one call at a time, each of so many milliseconds.
fn narrow(millis: u64, queue: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start(move |attempt| {
        let mut reply = answers::good(&attempt.json(), "fine");
        reply.before_head.push(Step::Sleep(millis));
        reply
    });
    let keys = format!(
        "keys:\n  - {{ id: main, secret_sha256: \"{}\" }}\n  - {{ id: other, secret_sha256: \"{}\" }}\n",
        sha256(SECRET),
        sha256(OTHER_SECRET)
    );
    let text = config(&[("alias", &upstream.v1())], queue);
    let (before, after) = (text.find("keys:").unwrap(), text.find("queue:").unwrap());
    let text = format!("{}{keys}{}", &text[..before], &text[after..])
        .replace("model: alias-real }", "model: alias-real, limits: { concurrency: 1 } }");
    (Gateway::start(&text), upstream)
}

fn call(gateway: &Gateway, secret: &str, text: &str) -> client::Response {
    let bearer = format!("Bearer {secret}");
    let headers = [("authorization", bearer.as_str())];
    client::post(gateway.data, "/v1/chat/completions", &headers, ask("alias", text).to_string())
}

#[test]
fn calls_wait_for_room_and_are_all_served() {
    let (gateway, upstream) = narrow(50, "queue: { size: 20 }\n");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(call(&gateway, SECRET, "x").status, 200));
        }
    });
    let mut attempts = upstream.attempts();
    attempts.sort_by_key(|attempt| attempt.at);
    assert_eq!(attempts.len(), 8);
    let together = attempts.windows(2).filter(|pair| pair[1].at - pair[0].at < Duration::from_millis(45)).count();
    assert_eq!(together, 0, "never two at once");
}

#[test]
fn who_floods_waits_behind_itself() {
    let (gateway, upstream) = narrow(60, "queue: { size: 40 }\n");
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(call(&gateway, SECRET, "flood").status, 200));
        }
        thread::sleep(Duration::from_millis(150));
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(call(&gateway, OTHER_SECRET, "other").status, 200));
        }
    });
    let mut attempts = upstream.attempts();
    attempts.sort_by_key(|attempt| attempt.at);
    let others: Vec<_> = (0..attempts.len()).filter(|at| attempts[*at].text().contains("other")).collect();
    assert_eq!((attempts.len(), others.len()), (19, 3));
    assert!(others[2] <= 11, "in turn with the flood: {others:?}");
}

#[test]
fn what_cannot_be_in_time_is_refused_with_the_truth() {
    let (gateway, upstream) = narrow(1_500, "queue: { size: 1, wait: 400ms }\n");
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(call(&gateway, SECRET, "x").status, 200));
        thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        let waits = scope.spawn(|| call(&gateway, SECRET, "x"));
        thread::sleep(Duration::from_millis(100));
        // The line is full, and with this key's own calls.
        let got = call(&gateway, SECRET, "x");
        assert_eq!(got.refusal(429)["code"], "rate_limit_exceeded", "{got}");
        assert!(got.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)), "{got}");
        let got = waits.join().unwrap();
        got.refusal(429);
        let waited = begun.elapsed();
        assert!((Duration::from_millis(350)..Duration::from_millis(1_000)).contains(&waited), "{waited:?}");
    });
    assert_eq!(upstream.count(), 1);
    let (gateway, _upstream) = narrow(800, "queue: { size: 0 }\n");
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(call(&gateway, SECRET, "x").status, 200));
        thread::sleep(Duration::from_millis(200));
        call(&gateway, SECRET, "x").refusal(429);
    });
}

#[test]
fn a_call_leaves_the_line_with_its_client() {
    let (gateway, upstream) = narrow(600, "queue: { size: 10 }\n");
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(call(&gateway, SECRET, "first").status, 200));
        thread::sleep(Duration::from_millis(150));
        let mut gone = Connection::open(gateway.data);
        gone.send(&gateway.chat_request(&ask("alias", "gone"))).unwrap();
        thread::sleep(Duration::from_millis(100));
        drop(gone);
        assert_eq!(call(&gateway, SECRET, "last").status, 200);
    });
    let seen: Vec<_> = upstream.attempts().iter().map(|attempt| attempt.text().contains("gone")).collect();
    assert_eq!(seen, [false, false], "nobody waits for its answer");
    // And a call's deadline ends its wait.
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(call(&gateway, SECRET, "first").status, 200));
        thread::sleep(Duration::from_millis(150));
        let mut body = ask("alias", "late");
        body["timeout"] = json!(0.2);
        let got = gateway.chat(&body);
        assert!([429, 504].contains(&got.status), "{got}");
    });
}
