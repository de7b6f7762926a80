//! Calls that are sent to another model too, whose answer nobody gets: what they cost whom, and what is learnt.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{Connection, Response};
use super::gateway::{Gateway, ask, ask_stream, keys, provider};
use super::upstream::{Reply, Step, Upstream};

/// The model `alias` at `main`, with a shadow at `other/real`.
fn shadowed(main: &Upstream, other: &Upstream, shadow: &str) -> String {
    format!(
        "providers:\n{}{}models:\n  alias:\n    targets: [{{ provider: main, model: real, price: {{ input: 10, output: 100 }} }}]\n    \
         shadow: {{ to: next, {shadow} }}\n  next: {{ targets: [{{ provider: other, model: real, price: {{ input: 1, output: 1 }} }}] }}\n\
         retry: {{ tries: 1, failures: 1 }}\n{}",
        provider("main", &main.v1()),
        provider("other", &other.v1()),
        keys()
    )
}

fn saying(text: &'static str) -> Upstream {
    Upstream::start(move |attempt| answers::good(&attempt.json(), text))
}

#[track_caller]
fn served(got: &Response) {
    assert!(got.status == 200 && got.whole, "{got}");
    assert_eq!(got.header("x-portolan-target"), Some("main/real"), "{got}");
    assert_eq!(got.header("x-portolan-attempts"), Some("1"), "{got}");
}

/// Waits until a metric is there and has at least that value.
#[track_caller]
fn counted(gateway: &Gateway, metric: &str, labels: &[&str], least: f64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = gateway.metrics();
        if text.contains(&format!("{metric}{{")) && gateway.metric(metric, labels) >= least {
            return;
        }
        assert!(Instant::now() < deadline, "never {least} of {metric} {labels:?}:\n{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_copy_is_compared_and_metered_apart() {
    for body in [ask("alias", "x"), ask_stream("alias", "x")] {
        let (main, other) = (saying("one answer"), saying("One  answer!"));
        let gateway = Gateway::start(&shadowed(&main, &other, "percent: 100"));
        let mut tagged = body.clone();
        tagged["tags"] = json!({"team": "red"});
        let got = gateway.chat(&tagged);
        served(&got);
        if body["stream"] != true {
            let cost: f64 = got.header("x-portolan-cost-usd").unwrap().parse().unwrap();
            assert!((cost - 0.000_81).abs() < 1e-9, "the answer's own: {cost}");
        }
        counted(&gateway, "portolan_shadow_answers_total", &["likeness=\"alike\"", "to=\"next\""], 1.0);
        let copy = other.only().json();
        assert_eq!((&copy["messages"], &copy["tags"]), (&body["messages"], &Value::Null));
        assert_eq!(
            gateway.ledger("key,model,tag.side,tag.for,tag.team"),
            ["@shadow next shadow main - 1", "main alias - - red 1"]
        );
        assert_eq!(gateway.settled(1)["attempts"], 1, "the caller's own usage knows nothing of it");
        counted(&gateway, "portolan_shadow_finishes_total", &["main=\"stop\"", "shadow=\"stop\""], 1.0);
        counted(&gateway, "portolan_shadow_outcomes_total", &["main=\"ok\"", "shadow=\"ok\""], 1.0);
        let tokens = answers::COMPLETION_TOKENS as f64;
        for side in ["side=\"main\"", "side=\"shadow\""] {
            counted(&gateway, "portolan_shadow_tokens_total", &[side, "kind=\"output\""], tokens);
        }
        let cost = gateway.metric("portolan_shadow_cost_usd_total", &[]);
        assert!((cost - 0.000_018).abs() < 1e-9, "{cost}");
    }
}

#[test]
fn tools_and_words_are_told_apart() {
    let call = r#"{"id":"1","object":"chat.completion","model":"r","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let (main, other) = (saying("words"), Upstream::always(Reply::json(200, call)));
    let gateway = Gateway::start(&shadowed(&main, &other, "percent: 100"));
    served(&gateway.chat(&ask("alias", "x")));
    counted(&gateway, "portolan_shadow_answers_total", &["likeness=\"calls\""], 1.0);
    counted(&gateway, "portolan_shadow_finishes_total", &["main=\"stop\"", "shadow=\"tool_calls\""], 1.0);
}

#[test]
fn a_copy_neither_slows_nor_fails_its_call() {
    let main = saying("fine");
    let other = Upstream::start(|attempt| {
        let mut reply = answers::error(500, "no");
        if attempt.number == 0 {
            reply.before_head.push(Step::Sleep(1_500));
        }
        reply
    });
    let gateway = Gateway::start(&shadowed(&main, &other, "percent: 100, in_flight: 1"));
    let begun = Instant::now();
    let mut connection = Connection::open(gateway.data);
    for _ in 0..3 {
        served(&connection.exchange(&gateway.chat_request(&ask("alias", "x"))));
    }
    assert!(begun.elapsed() < Duration::from_millis(1_400), "{:?}", begun.elapsed());
    counted(&gateway, "portolan_shadows_total", &["result=\"dropped\""], 2.0);
    counted(&gateway, "portolan_shadows_total", &["result=\"failed\""], 1.0);
    counted(&gateway, "portolan_shadow_outcomes_total", &["main=\"ok\"", "shadow=\"server\""], 1.0);
    assert_eq!(other.count(), 1);
    // Its model rests now: that is where copies learn of it, and not from callers.
    served(&gateway.chat(&ask("alias", "x")));
    counted(&gateway, "portolan_shadows_total", &["result=\"nowhere\""], 1.0);
}

#[test]
fn copies_go_where_their_calls_may_go_and_nowhere_else() {
    let (main, other) = (saying("fine"), saying("fine"));
    let text = shadowed(&main, &other, "percent: 100")
        .replace("main: {", "main: { region: eu,")
        .replace("other: {", "other: { region: us,");
    let gateway = Gateway::start(&text);
    let mut body = ask("alias", "x");
    body["region"] = json!(["eu"]);
    served(&gateway.chat(&body));
    counted(&gateway, "portolan_shadows_total", &["result=\"nowhere\""], 1.0);
    assert_eq!(other.count(), 0);
    body["region"] = json!(["eu", "us"]);
    served(&gateway.chat(&body));
    other.wait("a copy", Duration::from_secs(5), |journal| journal.len() == 1);
}

#[test]
fn a_share_is_a_share_and_a_caller_is_in_it_or_not() {
    let (main, other) = (saying("fine"), saying("fine"));
    let gateway = Gateway::start(&shadowed(&main, &other, "percent: 50, by: [user], in_flight: 1000"));
    let users = 40;
    for round in 0..2 {
        for user in 0..users {
            let mut body = ask("alias", "x");
            body["user"] = format!("user-{user}").into();
            served(&gateway.chat(&body));
        }
        counted(&gateway, "portolan_shadows_total", &["result=\"ok\""], f64::from(round));
    }
    gateway.settled(2 * users);
    std::thread::sleep(Duration::from_millis(300));
    let mut seen: Vec<String> = other.attempts().iter().map(|a| a.json()["user"].to_string()).collect();
    let all = seen.len();
    assert!((20..=60).contains(&all), "{all} of 80");
    seen.sort_unstable();
    assert!(seen.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]), "each user always or never: {seen:?}");
}
