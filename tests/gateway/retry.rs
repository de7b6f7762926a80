//! Which failures send a call on, how often, and what is said when nothing is left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{self, Response};
use super::gateway::{Gateway, SECRET, ask, ask_stream, config, free_port, keys, provider, sha256};
use super::upstream::{Reply, Step, Upstream};

const QUICK: &str = "retry: { tries: 1, pause: 10ms, max_pause: 50ms }\n\
    timeouts: { connect: 1s, first_byte: 600ms, answer: 600ms, idle: 600ms, total: 15s }\n";

fn rescuer() -> Upstream {
    Upstream::start(|attempt| answers::good(&attempt.json(), "rescued it is"))
}

/// A gateway with `alias` at the first, and what is written of that model beside its target.
fn gateway(models: &[(&str, &Upstream)], written: &str, more: &str) -> Gateway {
    let urls: Vec<_> = models.iter().map(|(name, upstream)| (*name, upstream.v1())).collect();
    let rows: Vec<_> = urls.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let text = config(&rows, more);
    Gateway::start(&text.replacen("model: alias-real }] }", &format!("model: alias-real }}], {written} }}"), 1))
}

fn metric(gateway: &Gateway, name: &str) -> f64 {
    let got = client::get(gateway.admin, "/metrics", &[("connection", "close")]);
    let lines = got.text().lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>();
    lines.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn finished(reason: &str, message: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "real",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}], "usage": answers::usage()})
}

fn chunk(delta: &Value, finish: &Value) -> String {
    answers::frame(
        &json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "real",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string(),
    )
}

fn said(got: &Response) -> String {
    let text = got.text();
    let frames = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let words = frames.filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str().map(str::to_owned));
    words.collect()
}

/// Ways to decline: the option that sends them on, whether the call streams, the answer.
fn declining() -> Vec<(&'static str, &'static str, bool, Reply)> {
    let filter = json!({"error": {"message": "Filtered.", "type": "invalid_request_error", "code": "content_filter"}});
    let stream = |frames: &[String]| answers::stream(frames, 0);
    let done = answers::done_frame();
    let half = json!({"role": "assistant", "content": "Half of"});
    let refused = json!({"role": "assistant", "content": null, "refusal": "I cannot help with that."});
    vec![
        ("an error", "content_filter", false, Reply::json(400, filter.to_string())),
        ("an error before a stream", "content_filter", true, Reply::json(400, filter.to_string())),
        ("a whole answer", "content_filter", false, Reply::json(200, finished("content_filter", half).to_string())),
        (
            "a stream that ends at once",
            "content_filter",
            true,
            stream(&[answers::role_frame(), chunk(&json!({}), &json!("content_filter")), done.clone()]),
        ),
        ("a refusal", "refusal", false, Reply::json(200, finished("stop", refused).to_string())),
        (
            "a streamed refusal",
            "refusal",
            true,
            stream(&[
                answers::role_frame(),
                chunk(&json!({"refusal": "I cannot"}), &Value::Null),
                chunk(&json!({"refusal": " help."}), &Value::Null),
                answers::finish_frame(),
                done,
            ]),
        ),
    ]
}

#[test]
fn a15_what_declines_goes_on_where_that_is_configured() {
    for (what, on, stream, reply) in declining() {
        let (one, two) = (Upstream::always(reply), rescuer());
        let written = format!("fallback: [backup], retry: {{ on: [{on}] }}");
        let gateway = gateway(&[("alias", &one), ("backup", &two)], &written, QUICK);
        let got = gateway.chat(&if stream { ask_stream("alias", "x") } else { ask("alias", "x") });
        assert_eq!(got.status, 200, "{what}: {got}");
        assert_eq!(got.header("x-portolan-model"), Some("backup"), "{what}: {got}");
        assert!(got.text().contains("rescued"), "{what}: {got}");
        assert_eq!((one.count(), two.count()), (1, 1), "{what}");
        let outcome = format!("outcome=\"{on}\"");
        let metrics = client::get(gateway.admin, "/metrics", &[("connection", "close")]);
        assert!(
            metrics.text().lines().any(|line| line.starts_with("portolan_attempts_total") && line.contains(&outcome)),
            "{what}"
        );
    }
}

#[test]
fn a15_what_declines_is_told_where_nothing_is_configured_or_left() {
    for (what, on, stream, reply) in declining() {
        let other = if on == "refusal" { "content_filter" } else { "refusal" };
        for written in [
            "fallback: [backup]".to_owned(),
            format!("fallback: [backup], retry: {{ on: [{other}] }}"),
            format!("retry: {{ on: [{on}] }}"),
        ] {
            let (one, two) = (Upstream::always(reply.clone()), rescuer());
            let gateway = gateway(&[("alias", &one), ("backup", &two)], &written, QUICK);
            let got = gateway.chat(&if stream { ask_stream("alias", "x") } else { ask("alias", "x") });
            assert_eq!(got.status, reply.status, "{what}, {written}: {got}");
            assert!(!got.text().contains("rescued"), "{what}, {written}: {got}");
            assert_eq!((one.count(), two.count()), (1, 0), "{what}, {written}");
        }
    }
}

#[test]
fn a_stream_that_has_begun_is_not_taken_back() {
    let frames = [
        answers::role_frame(),
        answers::word_frame("Half of"),
        chunk(&json!({}), &json!("content_filter")),
        answers::done_frame(),
    ];
    let (one, two) = (Upstream::always(answers::stream(&frames, 20)), rescuer());
    let written = "fallback: [backup], retry: { on: [refusal, content_filter] }";
    let gateway = gateway(&[("alias", &one), ("backup", &two)], written, QUICK);
    let got = gateway.chat(&ask_stream("alias", "x"));
    assert_eq!((said(&got).as_str(), two.count()), ("Half of", 0), "{got}");
}

#[test]
fn what_is_declined_is_metered() {
    let one = Upstream::always(Reply::json(200, finished("content_filter", json!({"role": "assistant"})).to_string()));
    let two = rescuer();
    let written = "fallback: [backup], retry: { on: [content_filter] }";
    let gateway = gateway(&[("alias", &one), ("backup", &two)], written, QUICK);
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let total = gateway.settled(2);
    assert_eq!(total["input_tokens"], 2 * answers::PROMPT_TOKENS, "{total}");
}

#[test]
fn a15_a_prompt_that_is_too_long_goes_to_a_longer_context_only() {
    let error = json!({"error": {"message": "This model's maximum context length is 100 tokens.",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}});
    for stream in [false, true] {
        let one = Upstream::always(Reply::json(400, error.to_string()));
        let (short, long) = (rescuer(), rescuer());
        let rows = format!(
            "providers:\n{}{}{}models:\n  alias:\n    targets: [{{ provider: one, abilities: {{ context: 8000 }} }}]\n    fallback: [short, same, long]\n\
             \x20 short: {{ targets: [{{ provider: short, abilities: {{ context: 8000 }} }}] }}\n\
             \x20 same: {{ targets: [{{ provider: short, model: alias }}] }}\n\
             \x20 long: {{ targets: [{{ provider: long, abilities: {{ context: 32000 }} }}] }}\n{}{QUICK}",
            provider("one", &one.v1()),
            provider("short", &short.v1()),
            provider("long", &long.v1()),
            keys()
        );
        let gateway = Gateway::start(&rows);
        let got = gateway.chat(&if stream { ask_stream("alias", "x") } else { ask("alias", "x") });
        assert_eq!((got.status, got.header("x-portolan-model")), (200, Some("long")), "{got}");
        assert_eq!((one.count(), short.count(), long.count()), (1, 0, 1));
    }
    // With none that is longer the provider's own words are told.
    let (one, two) = (Upstream::always(Reply::json(400, error.to_string())), rescuer());
    let gateway = gateway(&[("alias", &one), ("backup", &two)], "fallback: []", QUICK);
    let told = gateway.chat(&ask("alias", "x")).refusal(400);
    assert_eq!(told["code"], "context_length_exceeded", "{told}");
}

/// Calls one after the other, and the attempts that both upstreams saw.
fn storm(gateway: &Gateway, upstreams: &[&Upstream], calls: usize) -> (usize, Vec<Response>) {
    let before: usize = upstreams.iter().map(|upstream| upstream.count()).sum();
    let answers = (0..calls).map(|_| gateway.chat(&ask("alias", "x"))).collect();
    (upstreams.iter().map(|upstream| upstream.count()).sum::<usize>() - before, answers)
}

#[test]
fn a26_a_total_outage_costs_a_tenth_more_attempts() {
    let (one, two) = (Upstream::always(answers::error(500, "no one")), Upstream::always(answers::error(500, "no two")));
    let more = "retry: { tries: 2, pause: 1ms, max_pause: 2ms, cooldown: 1m }\n";
    let gateway = gateway(&[("alias", &one), ("backup", &two)], "fallback: [backup]", more);
    // What was saved up is spent first.
    storm(&gateway, &[&one, &two], 20);
    let (attempts, answers) = storm(&gateway, &[&one, &two], 200);
    assert!((200..=221).contains(&attempts), "{attempts} attempts of 200 calls");
    let withheld = answers.iter().filter(|got| {
        assert!(got.status == 500 && got.text().contains("no "), "the provider's own error: {got}");
        got.header("x-portolan-route").is_some_and(|route| route.ends_with(";retry_budget=spent"))
    });
    let withheld = withheld.count();
    assert!(withheld >= 150, "{withheld}: {}", answers[0]);
    assert!(metric(&gateway, "portolan_retries_withheld_total{model=\"alias\"}") >= withheld as f64);
}

#[test]
fn c14_a_target_that_fails_half_of_the_time_is_not_stormed() {
    let one = Upstream::start(|attempt| match attempt.number % 2 {
        0 => answers::error(503, "no"),
        _ => answers::good(&attempt.json(), "well"),
    });
    let gateway = gateway(&[("alias", &one)], "strict: false", "retry: { tries: 3, pause: 1ms, max_pause: 2ms }\n");
    storm(&gateway, &[&one], 30);
    let (attempts, _) = storm(&gateway, &[&one], 200);
    assert!(attempts <= 221, "{attempts} attempts of 200 calls");
}

#[test]
fn a_target_that_is_well_is_gone_on_to_whatever_is_spent() {
    let (one, two) = (Upstream::always(answers::error(500, "no")), rescuer());
    let more = "retry: { tries: 1, failures: 1000, budget: { ratio: 0, per_minute: 0, burst: 1 } }\n";
    let gateway = gateway(&[("alias", &one), ("backup", &two)], "fallback: [backup]", more);
    let (_, answers) = storm(&gateway, &[&one, &two], 30);
    assert!(answers.iter().all(|got| got.status == 200), "{}", answers[0]);
}

#[test]
fn all_that_was_tried_is_told_by_name_and_kind() {
    let one = Upstream::always(answers::error(429, "too fast").header("retry-after", "30"));
    let (two, three) =
        (Upstream::always(Reply::instead(Step::Close)), Upstream::always(answers::error(503, "full up")));
    let models = [("alias", &one), ("backup", &two), ("third", &three)];
    let gateway = gateway(&models, "fallback: [backup, third]", QUICK);
    let got = gateway.chat(&ask("alias", "x"));
    let want = "tried=alias-provider/alias-real:429:rate_limited,backup-provider/backup-real:connect,third-provider/third-real:503:overloaded";
    assert_eq!((got.status, got.header("x-portolan-route")), (503, Some(want)), "{got}");
    // Where the words are ours, the body tells it too.
    let bearer = format!("Bearer {SECRET}");
    let body = json!({"model": "alias", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let got = client::post(gateway.data, "/v1/messages", &[("authorization", &bearer)], body);
    let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        "full up (after 2 attempts: backup-provider/backup-real: connect, third-provider/third-real: 503 overloaded)"
    );
    assert!(!got.text().contains("127.0.0.1") && !got.text().contains("sk-provider"), "{got}");
}

#[test]
fn what_may_be_done_twice_is_said() {
    for (reply, repeated) in [
        (Reply::instead(Step::Hang), true),
        (answers::error(500, "no"), true),
        (answers::error(429, "no"), false),
        (answers::error(503, "no"), false),
    ] {
        let (one, two) = (Upstream::always(reply), rescuer());
        let gateway = gateway(&[("alias", &one), ("backup", &two)], "fallback: [backup]", QUICK);
        let got = gateway.chat(&ask("alias", "x"));
        let want = if repeated { "weighted;of=1;fallback;repeated" } else { "weighted;fallback" };
        let route = got.header("x-portolan-route").unwrap();
        assert_eq!(route.ends_with(";repeated"), repeated, "{want}: {got}");
        assert!(route.contains(";fallback"), "{got}");
    }
    // A connection that was refused has done nothing.
    let two = rescuer();
    let text = config(&[("alias", &format!("http://127.0.0.1:{}/v1", free_port())), ("backup", &two.v1())], QUICK);
    let gateway =
        Gateway::start(&text.replacen("model: alias-real }] }", "model: alias-real }], fallback: [backup] }", 1));
    assert_eq!(gateway.chat(&ask("alias", "x")).header("x-portolan-route"), Some("weighted;fallback"));
}

#[test]
fn a_pause_before_the_fallback_is_taken_where_there_is_time() {
    let (one, two) = (Upstream::always(answers::error(503, "no")), rescuer());
    let more = "retry: { tries: 1, fallback_pause: 500ms, failures: 1000 }\n";
    let gateway = gateway(&[("alias", &one), ("backup", &two)], "fallback: [backup]", more);
    let begun = Instant::now();
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let took = begun.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(2)).contains(&took), "{took:?}");
    let mut body = ask("alias", "x");
    body["timeout"] = json!(0.4);
    let begun = Instant::now();
    assert_eq!(gateway.chat(&body).status, 200, "what is left of the call is for the answer");
    assert!(begun.elapsed() < Duration::from_millis(400));
}

#[test]
fn a_key_has_fallbacks_of_its_own() {
    let (one, two, three) = (Upstream::always(answers::error(503, "no")), rescuer(), rescuer());
    let row = format!("  - {{ id: tier, secret_sha256: \"{}\", fallback: [third] }}\n", sha256("pk-tier"));
    let models = [("alias", &one), ("backup", &two), ("third", &three)];
    let gateway = gateway(&models, "fallback: [backup]", &format!("{row}{QUICK}"));
    assert_eq!(gateway.chat(&ask("alias", "x")).header("x-portolan-model"), Some("backup"));
    let ask = |body: &Value| {
        let headers = [("authorization", "Bearer pk-tier")];
        client::post(gateway.data, "/v1/chat/completions", &headers, body.to_string())
    };
    assert_eq!(ask(&super::gateway::ask("alias", "x")).header("x-portolan-model"), Some("third"));
    let mut body = super::gateway::ask("alias", "x");
    body["fallback"] = json!(["backup"]);
    assert_eq!(ask(&body).header("x-portolan-model"), Some("backup"), "a request's own come first");
}

#[test]
fn the_last_resort_answers_when_nothing_else_does() {
    let failing = || Upstream::always(answers::error(503, "no"));
    let (one, two, last) = (failing(), failing(), rescuer());
    let models = [("alias", &one), ("backup", &two), ("small", &last)];
    let more = "retry: { tries: 1, total_tries: 2, failures: 1, cooldown: 1m }\n";
    let gateway = gateway(&models, "fallback: [backup], last_resort: small", more);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!((got.status, got.header("x-portolan-model")), (200, Some("small")), "{got}");
    assert!(got.header("x-portolan-route").unwrap().contains(";last_resort;fallback"), "{got}");
    assert_eq!((one.count(), two.count(), last.count()), (1, 1, 1), "beyond the tries of a call");
    // Those that are known to fail are left alone.
    let mut body = ask_stream("alias", "x");
    body["fallback"] = json!(["backup"]);
    let got = gateway.chat(&body);
    assert_eq!((said(&got).as_str(), got.header("x-portolan-attempts")), ("rescued it is", Some("1")), "{got}");
    assert_eq!((one.count(), two.count(), last.count()), (1, 1, 2));
    // Who asks for no other model gets none.
    body["fallback"] = json!([]);
    gateway.chat(&body).refusal(503);
    assert_eq!(last.count(), 2);
    // Nor is it gone to out of the regions of a call.
    let got = gateway.chat_with(&[("x-portolan-region", "moon")], ask("alias", "x").to_string());
    assert_eq!(got.status, 400, "{got}");
}
