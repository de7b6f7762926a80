//! Running it: metrics, health, reload, drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::answers;
use super::client::{self, Connection};
use super::gateway::{Gateway, SECRET, ask, ask_stream, config};
use super::metering::priced;
use super::upstream::{Reply, Step, Upstream};

#[test]
fn metrics_tell_what_happened() {
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let gateway = Gateway::start(&priced(&config(&[("alias", &upstream.v1())], ""), "alias"));
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    gateway.chat(&ask("nonsense", "x")).refusal(404);
    gateway.settled(3);
    let text = gateway.metrics();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("portolan_") || line.starts_with("process_"), "{line}");
    }
    for subject in ["requests", "attempts", "tokens", "cost", "in_flight"] {
        let found = text.lines().any(|line| line.starts_with("portolan_") && line.contains(subject));
        assert!(found, "no metric of {subject}:\n{text}");
    }
    for histogram in ["time_to_first_token", "duration"] {
        let found = text.lines().any(|line| line.contains(histogram) && line.contains("_bucket{"));
        assert!(found, "no histogram of {histogram}:\n{text}");
    }
    assert_eq!(gateway.metric("portolan_requests_total", &["\"alias\""]), 3.0, "{text}");
    let tokens = 3 * (answers::PROMPT_TOKENS + answers::COMPLETION_TOKENS);
    assert!(gateway.metric("portolan_tokens_total", &[]) >= tokens as f64, "{text}");
    assert!(!text.contains("nonsense"), "a name that a caller made up became a label:\n{text}");
}

#[test]
fn failovers_are_seen_by_metrics() {
    let (one, two) = (Upstream::always(answers::error(503, "no")), Upstream::always(answers::whole("fine")));
    let gateway = Gateway::start(&config(&[("alias", &one.v1()), ("backup", &two.v1())], "retry: { tries: 1 }\n"));
    let got = gateway.chat_with(&[("x-portolan-fallback", "backup")], ask("alias", "x").to_string());
    assert_eq!(got.status, 200, "{got}");
    gateway.settled(2);
    assert_eq!(gateway.metric("portolan_attempts_total", &["alias-provider"]), 1.0, "{}", gateway.metrics());
    assert_eq!(gateway.metric("portolan_attempts_total", &["backup-provider"]), 1.0, "{}", gateway.metrics());
    assert_eq!(gateway.metric("portolan_fallbacks_total", &["backup"]), 1.0, "{}", gateway.metrics());
}

#[test]
fn health_is_told_on_both_ports_without_a_key() {
    let gateway = Gateway::start(&config(&[("alias", "http://127.0.0.1:9/v1")], ""));
    for addr in [gateway.data, gateway.admin] {
        for path in ["/health/live", "/health/ready"] {
            assert_eq!(client::get(addr, path, &[("connection", "close")]).status, 200, "{addr} {path}");
        }
    }
    assert_eq!(client::get(gateway.admin, "/v1/models", &[("connection", "close")]).status, 404);
}

#[test]
fn the_start_is_told_to_people() {
    let gateway = Gateway::start(&config(&[("alias", "http://127.0.0.1:9/v1")], ""));
    let logs = gateway.logs();
    for what in [gateway.data.to_string(), gateway.admin.to_string(), "alias-provider".into(), "ready".into()] {
        assert!(logs.contains(&what), "{what} is not told:\n{logs}");
    }
}

/// Asks until the model answers with that status.
#[track_caller]
fn wait_status(gateway: &Gateway, model: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let got = gateway.chat(&ask(model, "x"));
        if got.status == status {
            return;
        }
        assert!(Instant::now() < deadline, "{model} never gave {status}: {got}\n{}", gateway.logs());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_reload_takes_effect_and_drops_no_stream() {
    let frames = answers::stream_frames(&["word "; 40], false);
    let slow = Upstream::always(answers::stream(&frames, 50));
    let other = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &slow.v1())], ""));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(3).unwrap();
    // The model of the running stream goes, another one comes.
    gateway.reload(&config(&[("next", &other.v1())], ""));
    wait_status(&gateway, "next", 200);
    gateway.chat(&ask("alias", "x")).refusal(404);
    assert!(!reading.response.text().contains("[DONE]"), "the stream should have been running meanwhile");
    while reading.piece().unwrap() {}
    assert!(reading.response.whole);
    assert_eq!(reading.response.text(), frames.concat());
    // The connection itself goes on under the new configuration.
    assert_eq!(connection.exchange(&gateway.chat_request(&ask("next", "x"))).status, 200);
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    gateway.rewrite(&config(&[("next", &upstream.v1())], ""));
    wait_status(&gateway, "next", 200);
}

#[test]
fn a_bad_file_changes_nothing_and_is_told() {
    let upstream = Upstream::always(answers::whole("fine"));
    let mut gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let good = config(&[("alias", &upstream.v1())], "");
    for (bad, word) in [
        ("models: [\n".to_owned(), "portolan.yaml"),
        (good.replace("targets:", "tragets:"), "tragets"),
        (good.replace("alias-provider, model", "nobody, model"), "nobody"),
        (good.replace("secret_sha256: \"", "secret_sha256: \"zz"), "secret_sha256"),
        (String::new() + &good + "timeouts: { idle: never }\n", "idle"),
    ] {
        let before = gateway.logs().len();
        gateway.reload(&bad);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !gateway.logs()[before..].contains(word) {
            assert!(Instant::now() < deadline, "`{word}` was not told:\n{}", gateway.logs());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    assert!(gateway.is_running());
    let failed = gateway.metrics().lines().any(|line| line.starts_with("portolan_") && line.contains("reload"));
    assert!(failed, "{}", gateway.metrics());
}

#[test]
fn reloads_under_load_fail_no_call() {
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine and well"));
    let gateway = Arc::new(Gateway::start(&config(&[("alias", &upstream.v1())], "")));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (gateway, stop, calls) = (Arc::clone(&gateway), Arc::clone(&stop), Arc::clone(&calls));
            thread::spawn(move || {
                let mut connection = Connection::open(gateway.data);
                while !stop.load(Ordering::SeqCst) {
                    let body = if caller % 2 == 0 { ask("alias", "x") } else { ask_stream("alias", "x") };
                    let got = connection.exchange(&gateway.chat_request(&body));
                    assert!(got.status == 200 && got.whole, "{got}");
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for n in 0..20 {
        gateway.reload(&config(&[("alias", &upstream.v1())], &format!("retry: {{ failures: {} }}\n", n + 1)));
        thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.join().unwrap();
    }
    let calls = calls.load(Ordering::SeqCst);
    assert!(calls >= 50, "only {calls} calls were made");
    let total = gateway.settled(calls as u64);
    assert_eq!(total["requests"], calls, "{total}");
    assert_eq!(upstream.count(), calls);
}

#[test]
fn an_idle_gateway_stops_at_once() {
    let mut gateway = Gateway::start(&config(&[("alias", "http://127.0.0.1:9/v1")], "shutdown: { drain: 60s }\n"));
    // A kept connection without a call holds nothing up.
    let mut idle = Connection::open(gateway.data);
    let models = client::request("GET", "/v1/models", &[("x-api-key", SECRET)], b"");
    assert_eq!(idle.exchange(&models).status, 200);
    let begun = Instant::now();
    assert!(gateway.stop(Duration::from_secs(5)).success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(idle.closed_within(Duration::from_secs(1)));
}

#[test]
fn a_stop_waits_for_streams() {
    let frames = answers::stream_frames(&["word "; 20], false);
    let upstream = Upstream::always(answers::stream(&frames, 60));
    let mut gateway = Gateway::start(&config(&[("alias", &upstream.v1())], "shutdown: { drain: 30s }\n"));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(3).unwrap();
    gateway.signal(libc::SIGTERM);
    while reading.piece().unwrap() {}
    let ended = Instant::now();
    assert!(reading.response.whole);
    assert_eq!(reading.response.text(), frames.concat());
    assert!(gateway.wait_end(Duration::from_secs(5)).success());
    assert!(ended.elapsed() < Duration::from_secs(2), "it stayed {:?} after the last stream", ended.elapsed());
    gateway.start_again();
    assert_eq!(gateway.settled(1)["errors"], 0);
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let frames = answers::stream_frames(&["word "; 5_000], false);
    let upstream = Upstream::start(move |attempt| match attempt.json()["stream"].as_bool() {
        Some(true) => answers::stream(&frames, 50),
        _ => Reply::instead(Step::Hang),
    });
    let mut gateway = Gateway::start(&config(&[("alias", &upstream.v1())], "shutdown: { drain: 1s }\n"));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
    let mut waiting = Connection::open(gateway.data);
    waiting.send(&gateway.chat_request(&ask("alias", "x"))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(3).unwrap();
    upstream.wait("both calls", Duration::from_secs(5), |journal| journal.len() == 2);
    let begun = Instant::now();
    gateway.signal(libc::SIGTERM);
    while reading.piece().unwrap() {}
    let got = reading.response;
    got.last_error();
    waiting.response().unwrap().refusal(503);
    assert!(gateway.wait_end(Duration::from_secs(10)).success());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    gateway.start_again();
    let total = gateway.settled(2);
    assert!(total["output_tokens"].as_u64().unwrap() > 0, "what was generated is metered: {total}");
}

#[test]
fn check_tells_every_problem_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "listen: nowhere\nmodels:\n  a: { targets: [{ provider: b }] }\n  c: { tragets: [] }\n")
        .unwrap();
    let check = |file: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
        let output = command.arg("check").arg(file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (sound, text) = check(&file);
    assert!(!sound, "{text}");
    for place in ["bad.yaml:1:", "bad.yaml:3:", "bad.yaml:4:"] {
        assert!(text.contains(place), "{place}: {text}");
    }
    std::fs::write(&file, config(&[("alias", "http://127.0.0.1:9/v1")], "")).unwrap();
    let (sound, text) = check(&file);
    assert!(sound, "{text}");
}
