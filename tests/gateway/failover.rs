//! What fails before the first content goes to the next target; what cannot be helped is told as it is.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{Connection, Response};
use super::gateway::{Gateway, ask, ask_stream, config, free_port};
use super::upstream::{Framing, Reply, Step, Upstream};

/// Quick retries, and waiting times that a test can afford.
const QUICK: &str = "retry: { tries: 1, pause: 10ms, max_pause: 50ms }\n\
    timeouts: { connect: 1s, first_byte: 600ms, answer: 600ms, idle: 600ms, total: 15s }\n";

fn rescuer() -> Upstream {
    Upstream::start(|attempt| answers::good(&attempt.json(), "rescued it is"))
}

/// Gateway with `alias` at that address, and `backup` behind it by configuration.
fn with_backup(alias: &str, backup: &Upstream, more: &str) -> Gateway {
    let text = config(&[("alias", alias), ("backup", &backup.v1())], more);
    Gateway::start(&text.replacen("model: alias-real }] }", "model: alias-real }], fallback: [backup] }", 1))
}

#[track_caller]
fn assert_rescued(got: &Response, stream: bool, what: &str) {
    assert_eq!(got.status, 200, "{what}: {got}");
    assert!(got.whole, "{what}: {got}");
    if stream {
        assert_eq!(got.text(), answers::stream_frames(&["rescued ", "it ", "is"], false).concat(), "{what}");
    } else {
        assert_eq!(got.text(), answers::whole_text("rescued it is"), "{what}");
    }
    for (name, value) in [
        ("x-portolan-model", "backup"),
        ("x-portolan-provider", "backup-provider"),
        ("x-portolan-target", "backup-provider/backup-real"),
        ("x-portolan-attempts", "2"),
    ] {
        assert_eq!(got.header(name), Some(value), "{what}: {name}: {got}");
    }
}

/// Failures that the next target may make good, for calls that are streamed or not.
fn failures(stream: bool) -> Vec<(&'static str, Reply)> {
    let status = |status| answers::error(status, "no");
    let mut failures = vec![
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("529", status(529)),
        ("408", status(408)),
        ("409", status(409)),
        ("429", status(429)),
        ("429 for long", status(429).header("retry-after", "86400")),
        ("429 with nonsense", status(429).header("retry-after", "-1")),
        ("401", status(401)),
        ("403", status(403)),
        ("404", status(404)),
        ("500 in HTML", Reply::new(500, "text/html", "<h1>no</h1>")),
        ("500 without a body", Reply::new(500, "text/plain", "")),
        ("closed before the head", Reply::instead(Step::Close)),
        ("reset before the head", Reply::instead(Step::Reset)),
        ("silent before the head", Reply::instead(Step::Hang)),
        ("silent after the head", Reply { steps: vec![Step::Hang], framing: Framing::Chunked, ..answers::whole("") }),
        ("closed after the head", Reply { steps: vec![Step::Close], framing: Framing::Chunked, ..answers::whole("") }),
        ("200 with an error", Reply::json(200, r#"{"error":{"message":"no","type":"server_error","code":null}}"#)),
        ("200 with HTML", Reply::new(200, "text/html", "<!doctype html><p>Log in first")),
        ("200 with nothing", Reply::json(200, "")),
        ("200 with half an answer", Reply::json(200, &answers::whole_text("x").as_bytes()[..100])),
        (
            "200 cut short",
            Reply::json(200, &answers::whole_text("x").as_bytes()[..100])
                .framing(Framing::Length(Some(4_000)))
                .then(Step::Close),
        ),
    ];
    if stream {
        let frames = |frames: &[String], end: Vec<Step>| {
            let bytes = frames.iter().map(|frame| Step::Bytes(frame.clone().into_bytes()));
            Reply::stream(bytes.chain(end).collect())
        };
        let role = answers::role_frame();
        let comment = ": waiting\n\n".to_owned();
        failures.extend([
            ("an error as first event", frames(&[answers::error_frame()], vec![])),
            ("an error after the role", frames(&[comment.clone(), role.clone(), answers::error_frame()], vec![])),
            ("an empty stream", frames(&[], vec![])),
            ("an empty stream, closed", frames(&[], vec![Step::Close])),
            ("nothing but the role", frames(std::slice::from_ref(&role), vec![Step::Close])),
            ("nothing but comments", frames(&[comment.clone(), comment.clone()], vec![Step::Hang])),
            ("nothing but the role, then silence", frames(&[comment, role], vec![Step::Hang])),
            ("garbage as first event", frames(&["data: {\"choices\n\n".into()], vec![])),
            ("nothing but the end", frames(&[answers::done_frame()], vec![])),
        ]);
    }
    failures
}

#[test]
fn a_failure_goes_to_the_next_target() {
    for (what, reply) in failures(false) {
        let (one, two) = (Upstream::always(reply), rescuer());
        let gateway = with_backup(&one.v1(), &two, QUICK);
        assert_rescued(&gateway.chat(&ask("alias", "x")), false, what);
        assert_eq!((one.count(), two.count()), (1, 1), "{what}");
    }
}

#[test]
fn a_failing_stream_goes_to_the_next_target() {
    for (what, reply) in failures(true) {
        let (one, two) = (Upstream::always(reply), rescuer());
        let gateway = with_backup(&one.v1(), &two, QUICK);
        assert_rescued(&gateway.chat(&ask_stream("alias", "x")), true, what);
        assert_eq!((one.count(), two.count()), (1, 1), "{what}");
    }
}

#[test]
fn a_closed_port_costs_no_time() {
    let two = rescuer();
    let gateway = with_backup(&format!("http://127.0.0.1:{}/v1", free_port()), &two, QUICK);
    for stream in [false, true] {
        let begun = Instant::now();
        let got = gateway.chat(&if stream { ask_stream("alias", "x") } else { ask("alias", "x") });
        assert_rescued(&got, stream, "connection refused");
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
}

#[test]
fn the_next_target_gets_the_whole_body() {
    for size in [100, 200_000, 2_000_000] {
        let (one, two) = (Upstream::always(answers::error(500, "no")), rescuer());
        let gateway = with_backup(&one.v1(), &two, QUICK);
        let body = ask("alias", &"x".repeat(size));
        assert_rescued(&gateway.chat(&body), false, "large body");
        let text = body.to_string();
        assert!(one.only().text() == text.replacen("alias", "alias-real", 1), "{size}");
        assert!(two.only().text() == text.replacen("alias", "backup-real", 1), "{size}");
    }
}

#[test]
fn a_body_with_its_model_in_the_middle_arrives_whole() {
    let (before, after) = ("b".repeat(300_000), "a".repeat(90_000));
    let body = |model: &str| {
        let messages = format!(r#"[{{"role":"user","content":"{before}"}}]"#);
        format!(r#"{{"messages":{messages},"model":"{model}","stop":["{after}"]}}"#)
    };
    let (one, two) = (Upstream::always(answers::error(500, "no")), rescuer());
    let gateway = with_backup(&one.v1(), &two, QUICK);
    for _ in 0..3 {
        assert_rescued(&gateway.chat_with(&[], body("alias")), false, "a body in pieces");
    }
    assert!(one.attempts().iter().all(|seen| seen.text() == body("alias-real")));
    assert!(two.attempts().iter().all(|seen| seen.text() == body("backup-real")));
}

#[test]
fn a_request_at_fault_goes_nowhere_else() {
    for (status, code) in [(400, "unsupported_value"), (400, "content_policy_violation"), (413, "too_large")] {
        let body = json!({"error": {"message": "Your request is odd.", "type": "invalid_request_error",
            "param": "messages[0]", "code": code}});
        let (one, two) = (Upstream::always(Reply::json(status, body.to_string())), rescuer());
        let gateway = with_backup(&one.v1(), &two, "retry: { tries: 3, pause: 10ms }\n");
        let got = gateway.chat(&ask_stream("alias", "x"));
        let error = got.refusal(status);
        assert_eq!(error["message"], "Your request is odd.", "{got}");
        assert_eq!((one.count(), two.count()), (1, 0), "{code}");
    }
}

#[test]
fn a_target_is_tried_again_as_often_as_configured() {
    let more = "retry: { tries: 3, pause: 20ms, max_pause: 100ms }\n";
    let failing = answers::error(500, "no");
    let upstream = Upstream::each(vec![failing.clone(), failing.clone(), answers::whole("third time")]);
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.text(), answers::whole_text("third time"), "{got}");
    assert_eq!(got.header("x-portolan-attempts"), Some("3"));
    let attempts = upstream.attempts();
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body));

    let upstream = Upstream::always(failing);
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    let got = gateway.chat(&ask("alias", "x"));
    let error = got.refusal(500);
    assert!(error["message"].as_str().unwrap().contains("no"), "{error}");
    assert_eq!(upstream.count(), 3);
    // Credentials do not get better by trying.
    let upstream = Upstream::always(answers::error(401, "Incorrect API key provided"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    let got = gateway.chat(&ask("alias", "x"));
    let error = got.refusal(502);
    assert!(!error["message"].as_str().unwrap().contains("Incorrect"), "{error}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn retry_after_is_kept_to() {
    let bare = Reply::new(429, "text/plain", "");
    for limited in [answers::error(429, "slow down"), bare.clone()] {
        let upstream = Upstream::each(vec![limited.header("retry-after", "1"), answers::whole("patience")]);
        let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], "retry: { tries: 2, pause: 10ms }\n"));
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!(got.status, 200, "{got}");
        let attempts = upstream.attempts();
        let gap = attempts[1].at - attempts[0].at;
        assert!(gap >= Duration::from_millis(900), "asked to wait a second, waited {gap:?}");
    }
    // An error without a body is what its status says.
    let upstream = Upstream::always(bare);
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], "retry: { tries: 1 }\n"));
    gateway.chat(&ask("alias", "x")).refusal(429);

    // A time that is longer than anyone should wait is told instead.
    let upstream = Upstream::always(answers::error(429, "slow down").header("retry-after", "3600"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], "retry: { tries: 2, pause: 10ms }\n"));
    let begun = Instant::now();
    let got = gateway.chat(&ask("alias", "x"));
    got.refusal(429);
    assert_eq!(got.header("retry-after"), Some("3600"), "{got}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_failing_target_is_left_alone_for_a_while() {
    let one = Upstream::start(|attempt| match attempt.number {
        0..2 => answers::error(500, "no"),
        _ => answers::good(&attempt.json(), "well again"),
    });
    let two = rescuer();
    let more = "retry: { tries: 1, failures: 2, cooldown: 1s }\n";
    let gateway = with_backup(&one.v1(), &two, more);
    for _ in 0..5 {
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!(got.text(), answers::whole_text("rescued it is"), "{got}");
    }
    assert_eq!(one.count(), 2, "two failures bring the cooldown");
    std::thread::sleep(Duration::from_millis(1_200));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.text(), answers::whole_text("well again"), "{got}");
}

#[test]
fn targets_of_one_model_stand_in_for_each_other() {
    let (one, two) = (Upstream::always(answers::error(503, "no")), rescuer());
    let rows = "  mixed: { targets: [{ provider: a-provider, weight: 1000 }, { provider: b-provider }] }\n";
    let text =
        config(&[("a", &one.v1()), ("b", &two.v1())], QUICK).replacen("models:\n", &format!("models:\n{rows}"), 1);
    let gateway = Gateway::start(&text);
    let got = gateway.chat(&ask("mixed", "x"));
    assert_eq!(got.text(), answers::whole_text("rescued it is"), "{got}");
    assert_eq!(got.header("x-portolan-model"), Some("mixed"));
    assert_eq!(got.header("x-portolan-target"), Some("b-provider/mixed"));
    assert_eq!(two.only().json()["model"], "mixed");
}

#[test]
fn fallbacks_are_named_by_the_request() {
    let (one, two, three) = (Upstream::always(answers::error(500, "no")), rescuer(), rescuer());
    let models = [("alias", one.v1()), ("backup", two.v1()), ("third", three.v1())];
    let models: Vec<_> = models.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let gateway = Gateway::start(&config(&models, QUICK));
    let mut body = ask("alias", "x");
    body["fallback"] = json!(["backup", "third"]);
    assert_rescued(&gateway.chat(&body), false, "by a member");
    let body = ask("alias", "x").to_string();
    let got = gateway.chat_with(&[("x-portolan-fallback", "third, backup")], &body);
    assert_eq!(got.header("x-portolan-model"), Some("third"), "{got}");
    assert_eq!((two.count(), three.count()), (1, 1));
    for attempt in two.attempts().iter().chain(&three.attempts()) {
        assert!(attempt.json().get("fallback").is_none(), "{attempt:?}");
    }
    // The member wins over the header, and an empty list means no fallback.
    let mut body = ask("alias", "x");
    body["fallback"] = json!([]);
    gateway.chat_with(&[("x-portolan-fallback", "third")], body.to_string()).refusal(500);
    // A fallback that does not exist is told before anything is tried.
    let before = one.count();
    let mut body = ask("alias", "x");
    body["fallback"] = json!(["nonsense"]);
    let error = gateway.chat(&body).refusal(404);
    assert!(error["message"].as_str().unwrap().contains("nonsense"), "{error}");
    assert_eq!(one.count(), before);
}

#[test]
fn when_all_fail_the_last_failure_is_told() {
    let (one, two) =
        (Upstream::always(answers::error(429, "too fast")), Upstream::always(answers::error(503, "full up")));
    let gateway = with_backup(&one.v1(), &two, QUICK);
    for body in [ask("alias", "x"), ask_stream("alias", "x")] {
        let got = gateway.chat(&body);
        let error = got.refusal(503);
        assert!(error["message"].as_str().unwrap().contains("full up"), "{error}");
    }
    let gateway = with_backup(&format!("http://127.0.0.1:{}/v1", free_port()), &one, QUICK);
    let got = gateway.chat(&ask("alias", "x"));
    got.refusal(429);
    assert!(got.header("retry-after").is_some(), "{got}");
}

#[test]
fn a_calls_deadline_bounds_everything() {
    let (one, two) = (Upstream::always(Reply::instead(Step::Hang)), Upstream::always(Reply::instead(Step::Hang)));
    let more = "retry: { tries: 5, pause: 10ms }\ntimeouts: { first_byte: 300ms, answer: 300ms }\n";
    let gateway = with_backup(&one.v1(), &two, more);
    let mut body = ask_stream("alias", "x");
    body["timeout"] = json!(1.0);
    let begun = Instant::now();
    let got = gateway.chat(&body);
    got.refusal(504);
    let took = begun.elapsed();
    // The connection ends with a call that ran out of patience, and a client that would use it again is told so.
    assert_eq!(got.header("connection"), Some("close"), "{got}");
    assert!((Duration::from_millis(900)..Duration::from_millis(2_500)).contains(&took), "{took:?}");
    let begun = Instant::now();
    gateway.chat_with(&[("x-portolan-timeout", "0.5")], ask("alias", "x").to_string()).refusal(504);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for attempt in one.attempts() {
        assert!(attempt.json().get("timeout").is_none(), "{attempt:?}");
    }
}

#[test]
fn a_calls_deadline_ends_a_stream_too() {
    let frames = answers::stream_frames(&["on "; 1_000], false);
    let upstream = Upstream::always(answers::stream(&frames, 50));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let mut body = ask_stream("alias", "x");
    body["timeout"] = json!(1);
    let begun = Instant::now();
    let got = gateway.chat(&body);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(got.said().starts_with("on on "), "{got}");
    got.last_error();
    upstream.wait_gone(Duration::from_secs(3));
}

#[test]
fn a_slow_first_token_is_within_its_own_bound() {
    // Slower than the idle bound, but not than the bound for the first content.
    let frames = answers::stream_frames(&["late"], false);
    let mut reply = answers::stream(&frames, 0);
    reply.steps.insert(0, Step::Sleep(900));
    let upstream = Upstream::always(reply);
    let more = "timeouts: { first_byte: 5s, idle: 300ms }\nretry: { tries: 1 }\n";
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    assert_eq!(gateway.chat(&ask_stream("alias", "x")).said(), "late");
}

#[test]
fn one_connection_serves_calls_that_were_rescued() {
    let one = Upstream::start(|attempt| match attempt.number % 3 {
        0 => answers::error(500, "no"),
        1 => Reply::instead(Step::Reset),
        _ => answers::good(&attempt.json(), "fine"),
    });
    let two = rescuer();
    // The failing target is asked each time.
    let more = "retry: { tries: 1, failures: 1000 }\n";
    let gateway = with_backup(&one.v1(), &two, more);
    let mut connection = Connection::open(gateway.data);
    for n in 0..12 {
        let body: Value = if n % 2 == 0 { ask("alias", "x") } else { ask_stream("alias", "x") };
        let got = connection.exchange(&gateway.chat_request(&body));
        assert_eq!((got.status, got.whole), (200, true), "call {n}: {got}");
    }
    assert_eq!((one.count(), two.count()), (12, 8));
}
