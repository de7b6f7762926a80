//! Targets that are asked whether they are well: what is asked, what it teaches, and what it may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::answers;
use super::client;
use super::gateway::{Gateway, PROVIDER_KEY, SECRET, ask, config};
use super::upstream::{Attempt, Reply, Upstream};

/// An upstream that answers with this status until it is told another.
fn moody(status: u16) -> (Upstream, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(status));
    let shown = Arc::clone(&mood);
    let upstream = Upstream::start(move |attempt| match (shown.load(Ordering::SeqCst), attempt.method.as_str()) {
        (200, "GET") => Reply::json(200, r#"{"object":"list","data":[]}"#),
        (200, _) => answers::good(&attempt.json(), "pong"),
        (status, _) => answers::error(status, "out of order"),
    });
    (upstream, mood)
}

/// A gateway with one target and this heartbeat, and a rest of a minute after the first failure.
fn watched(upstream: &Upstream, heartbeat: &str) -> String {
    config(&[("alias", &upstream.v1())], "retry: { tries: 1, failures: 1, cooldown: 1m }\n")
        .replace("openai_chat,", &format!("openai_chat, heartbeat: {{ {heartbeat} }},"))
        .replace("model: alias-real", "model: alias-real, price: { input: 10, output: 100 }")
}

fn state(gateway: &Gateway) -> Value {
    let got = client::get(gateway.admin, "/admin/targets", &[("connection", "close")]);
    got.json()["targets"][0].clone()
}

#[track_caller]
fn wait(gateway: &Gateway, what: &str, wish: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let now = state(gateway);
        if wish(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "never {what}: {now}\n{}", gateway.logs());
        thread::sleep(Duration::from_millis(20));
    }
}

fn posts(attempts: &[Attempt]) -> usize {
    attempts.iter().filter(|attempt| attempt.method == "POST").count()
}

#[test]
fn nobody_is_asked_who_does_not_want_it() {
    let (upstream, _) = moody(200);
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    thread::sleep(Duration::from_millis(600));
    assert_eq!(upstream.count(), 0);
    assert!(state(&gateway)["heartbeat"].is_null());
}

#[test]
fn a_list_of_models_tells_of_the_provider() {
    let (upstream, mood) = moody(200);
    let gateway = Gateway::start(&watched(&upstream, "ask: models, interval: 100ms"));
    let beats = upstream.wait("two questions", Duration::from_secs(10), |journal| journal.len() >= 2);
    assert_eq!((beats[0].method.as_str(), beats[0].path.as_str()), ("GET", "/v1/models"));
    assert_eq!(beats[0].header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    let seen = wait(&gateway, "well", |seen| seen["heartbeat"]["last"] == "ok");
    assert_eq!((&seen["heartbeat"]["ask"], &seen["heartbeat"]["of"]), (&"models".into(), &"provider".into()), "{seen}");

    mood.store(500, Ordering::SeqCst);
    let seen = wait(&gateway, "left alone", |seen| seen["state"] == "cooling");
    assert_eq!(seen["heartbeat"]["last"], "server", "{seen}");
    assert_eq!(posts(&upstream.attempts()), 0, "no call was spent on it");
    assert!(gateway.metric("portolan_probes_total", &["result=\"failed\"", "ask=\"models\""]) >= 1.0);
    assert_eq!(gateway.metric("portolan_probe_ok", &[]), 0.0);

    // Well again: half a minute before its rest is over.
    mood.store(200, Ordering::SeqCst);
    wait(&gateway, "well again", |seen| seen["state"] == "ok");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    assert_eq!(gateway.settled(1)["attempts"], 1, "questions for a list are not metered");
}

#[test]
fn a_completion_is_an_attempt_like_any_other() {
    let (upstream, mood) = moody(200);
    let gateway = Gateway::start(&watched(&upstream, "ask: completion, interval: 100ms, tokens: 3"));
    let seen = wait(&gateway, "well", |seen| seen["heartbeat"]["good"].as_u64() >= Some(2));
    let beats = upstream.attempts();
    assert_eq!(beats[0].path, "/v1/chat/completions");
    assert_eq!(
        (&beats[0].json()["model"], &beats[0].json()["max_completion_tokens"]),
        (&"alias-real".into(), &3.into())
    );
    let today = seen["heartbeat"]["today_usd"].as_str().unwrap();
    assert!(today.parse::<f64>().unwrap() > 0.0, "all its digits, as text: {seen}");
    assert_eq!(gateway.usage(SECRET)["total"]["attempts"], 0, "no caller's");
    mood.store(500, Ordering::SeqCst);
    wait(&gateway, "left alone", |seen| seen["state"] == "cooling");
    mood.store(200, Ordering::SeqCst);
    wait(&gateway, "well again", |seen| seen["state"] == "ok");

    let rows = gateway.ledger("key,tag.side,outcome");
    let has = |row: &str| rows.iter().any(|other| other.starts_with(row));
    assert!(has("@probe probe ok ") && has("@probe probe server "), "{rows:?}");
    let shown = gateway.command(&["targets"]);
    assert!(shown.contains("alias-provider/alias-real") && shown.contains("completion ok"), "{shown}");
}

#[test]
fn a_day_has_its_ration() {
    let spent = |gateway: &Gateway| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let unspent = "result=\"unspent\"";
        while !gateway.metrics().contains(unspent) || gateway.metric("portolan_probes_total", &[unspent]) < 2.0 {
            assert!(Instant::now() < deadline, "never out of rations");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let beat = "ask: completion, interval: 50ms, when: always";
    let (upstream, _) = moody(200);
    let gateway = Gateway::start(&watched(&upstream, &format!("{beat}, calls_per_day: 2")));
    wait(&gateway, "two", |seen| seen["heartbeat"]["today"] == 2);
    spent(&gateway);
    assert_eq!(upstream.count(), 2);
    // Its one token costs that much alone, and its prompt comes on top.
    let (upstream, _) = moody(200);
    let gateway = Gateway::start(&watched(&upstream, &format!("{beat}, usd_per_day: 0.0001")));
    spent(&gateway);
    assert_eq!(upstream.count(), 0, "not one could be paid");
}

#[test]
fn who_is_called_needs_no_question() {
    let (upstream, _) = moody(200);
    let gateway = Gateway::start(&watched(&upstream, "ask: models, interval: 2s"));
    for _ in 0..30 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
        thread::sleep(Duration::from_millis(100));
    }
    let asked = upstream.attempts().iter().filter(|attempt| attempt.method == "GET").count();
    assert!(asked <= 1, "{asked}: once, perhaps, before the first call");
}

#[test]
fn a_reload_stops_what_is_not_wanted_and_leaves_the_rest() {
    let (upstream, _) = moody(200);
    let text = watched(&upstream, "ask: models, interval: 100ms");
    let gateway = Gateway::start(&text);
    upstream.wait("a question", Duration::from_secs(10), |journal| !journal.is_empty());
    // What has nothing to do with it changes.
    gateway.reload(&format!("{text}routing: {{ strategy: least_busy }}\n"));
    let before = upstream.count();
    upstream.wait("more", Duration::from_secs(10), |journal| journal.len() >= before + 3);
    gateway.reload(&config(&[("alias", &upstream.v1())], ""));
    wait(&gateway, "without a heartbeat", |seen| seen["heartbeat"].is_null());
    thread::sleep(Duration::from_millis(150));
    let before = upstream.count();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(upstream.count(), before);
}
