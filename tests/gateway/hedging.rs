//! Calls that are made a second time where the first target is late: who answers, who pays, and how often at most.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{Connection, Response};
use super::gateway::{Gateway, SECRET, ask, ask_stream, keys, provider};
use super::upstream::{Attempt, Reply, Step, Upstream};

/// A provider that answers with its name, so many milliseconds late.
fn late(name: &'static str, millis: u64) -> Upstream {
    Upstream::start(move |attempt| after(millis, answers::good(&attempt.json(), name)))
}

fn after(millis: u64, mut reply: Reply) -> Reply {
    reply.before_head.push(Step::Sleep(millis));
    reply
}

/// The model `alias` at these providers, the first of them first, with this hedge.
fn hedged(upstreams: &[(&str, &Upstream)], hedge: &str, more: &str) -> String {
    let providers: String = upstreams.iter().map(|(name, upstream)| provider(name, &upstream.v1())).collect();
    let target = |name: &str| format!("{{ provider: {name}, model: real, price: {{ input: 10, output: 100 }} }}");
    let targets: Vec<_> = upstreams.iter().map(|(name, _)| target(name)).collect();
    format!(
        "providers:\n{providers}models:\n  alias: {{ strategy: priority, targets: [{}], hedge: {{ {hedge} }} }}\n\
         retry: {{ tries: 1, pause: 10ms }}\n{}{more}",
        targets.join(", "),
        keys()
    )
}

fn both(text: &str) -> [Value; 2] {
    [ask("alias", text), ask_stream("alias", text)]
}

#[track_caller]
fn said(got: &Response) -> String {
    assert!(got.status == 200 && got.whole, "{got}");
    if got.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return got.said();
    }
    got.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn left(upstream: &Upstream) -> Attempt {
    upstream
        .wait("its peer leaving", Duration::from_secs(5), |journal| journal.iter().any(|a| a.gone.is_some()))
        .remove(0)
}

#[test]
fn the_second_answers_where_the_first_is_late() {
    for body in both("x") {
        let (one, two) = (late("one", 8_000), late("two", 0));
        let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 150ms", ""));
        let begun = Instant::now();
        let got = gateway.chat(&body);
        assert_eq!(said(&got), "two");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(got.header("x-portolan-target"), Some("two/real"), "{got}");
        assert_eq!(got.header("x-portolan-attempts"), Some("2"), "{got}");
        assert_eq!(got.header("x-portolan-route"), Some("priority;tier=2;of=2;hedge"), "{got}");
        left(&one);
        // The first one's prompt was read, as far as we know: it is not free.
        let total = gateway.settled(2);
        assert!(total["input_tokens"].as_u64() > Some(answers::PROMPT_TOKENS), "{total}");
        assert_eq!(
            gateway.ledger("key,target,outcome,tag.side"),
            ["main one/real outpaced - 1", "main two/real ok hedge 1"]
        );
        assert_eq!(gateway.metric("portolan_hedges_total", &["result=\"won\"", "model=\"alias\""]), 1.0);
        assert_eq!(gateway.metric("portolan_hedges_total", &[]), 1.0);
        if body["stream"] != true {
            let cost: f64 = got.header("x-portolan-cost-usd").unwrap().parse().unwrap();
            assert!((cost - 0.000_81).abs() < 1e-9, "the answer's own: {cost}");
        }
    }
}

#[test]
fn who_is_in_time_is_not_hedged() {
    for body in both("x") {
        let (one, two) = (late("one", 100), late("two", 0));
        let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 3s", ""));
        let mut connection = Connection::open(gateway.data);
        for _ in 0..3 {
            assert_eq!(said(&connection.exchange(&gateway.chat_request(&body))), "one", "and the connection is kept");
        }
        assert_eq!((one.count(), two.count()), (3, 0));
        assert!(!gateway.metrics().contains("portolan_hedges_total{"), "{}", gateway.metrics());
    }
}

#[test]
fn of_two_that_are_late_the_first_to_speak_answers() {
    for body in both("x") {
        let (one, two) = (late("one", 900), late("two", 8_000));
        let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 100ms", ""));
        let got = gateway.chat(&body);
        assert_eq!(said(&got), "one");
        assert_eq!(got.header("x-portolan-route"), Some("priority;tier=1;of=2"), "{got}");
        assert_eq!(got.header("x-portolan-attempts"), Some("2"), "{got}");
        left(&two);
        gateway.settled(2);
        assert_eq!(
            gateway.ledger("target,outcome,tag.side"),
            ["one/real ok - 1", "two/real cancelled hedge 1"],
            "{}",
            gateway.logs()
        );
        assert_eq!(gateway.metric("portolan_hedges_total", &["result=\"lost\""]), 1.0);
    }
}

#[test]
fn a_head_without_content_is_no_answer_yet() {
    let one = Upstream::start(|_| {
        let mut reply = answers::stream(&answers::stream_frames(&["one"], false), 0).header("x-request-id", "one");
        reply.steps.insert(1, Step::Sleep(8_000));
        reply
    });
    let two = late("two", 0);
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 150ms", ""));
    let got = gateway.chat(&ask_stream("alias", "x"));
    assert_eq!(said(&got), "two");
    assert_ne!(got.header("x-request-id"), Some("one"), "{got}");
    left(&one);
}

#[test]
fn a_second_that_fails_harms_nobody() {
    let one = late("one", 800);
    let two = Upstream::always(answers::error(500, "no"));
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 100ms", ""));
    for body in both("x") {
        assert_eq!(said(&gateway.chat(&body)), "one");
    }
    gateway.settled(3);
    let rows = gateway.ledger("target,outcome");
    assert!(rows.contains(&"one/real ok 2".to_owned()), "{rows:?}");
    assert!(gateway.metric("portolan_hedges_total", &["result=\"failed\""]) >= 1.0);
}

#[test]
fn a_first_that_fails_leaves_the_call_to_the_second() {
    for body in both("x") {
        let one = Upstream::always(after(400, answers::error(500, "no")));
        let (two, three) = (late("two", 900), late("three", 0));
        let rows = [("one", &one), ("two", &two), ("three", &three)];
        let gateway = Gateway::start(&hedged(&rows, "delay: 100ms", ""));
        let got = gateway.chat(&body);
        assert_eq!(said(&got), "two", "no third is asked while the second is at work");
        assert_eq!(got.header("x-portolan-attempts"), Some("2"), "{got}");
        gateway.settled(2);
        assert_eq!(gateway.ledger("target,outcome"), ["one/real server 1", "two/real ok 1"]);
        assert_eq!(three.count(), 0);
    }
}

#[test]
fn where_both_fail_the_next_is_tried_and_else_the_caller_is_told() {
    let one = Upstream::always(after(300, answers::error(500, "one's words")));
    let two = Upstream::always(after(500, answers::error(503, "two's words")));
    let three = late("three", 0);
    let rows = [("one", &one), ("two", &two), ("three", &three)];
    let gateway = Gateway::start(&hedged(&rows, "delay: 100ms", ""));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(said(&got), "three");
    assert_eq!(got.header("x-portolan-attempts"), Some("3"), "{got}");
    assert_eq!((one.count(), two.count()), (1, 1), "neither is asked twice");

    let gateway = Gateway::start(&hedged(&rows[..2], "delay: 100ms", ""));
    let got = gateway.chat(&ask("alias", "x"));
    assert!(got.status >= 500 && got.whole, "{got}");
    assert_eq!((one.count(), two.count()), (2, 2));
}

#[test]
fn extra_calls_and_extra_money_have_a_bound() {
    let (one, two) = (late("one", 400), late("two", 8_000));
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 100ms, percent: 1", ""));
    for _ in 0..3 {
        assert_eq!(said(&gateway.chat(&ask("alias", "x"))), "one");
    }
    assert_eq!(two.count(), 1, "the first one, and then one in a hundred");
    assert_eq!(gateway.metric("portolan_hedges_total", &["result=\"capped\""]), 2.0);

    let (one, two) = (late("one", 400), late("two", 0));
    let hedge = "delay: 100ms, percent: 100, usd_per_hour: 0.001";
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], hedge, ""));
    let mut body = ask("alias", "x");
    body["max_tokens"] = json!(9);
    // The first takes 0.0009 dollars at most, and 0.00081 in truth: there is no room for another.
    assert_eq!(said(&gateway.chat(&body)), "two");
    assert_eq!(said(&gateway.chat(&body)), "one");
    assert_eq!(two.count(), 1);
}

#[test]
fn nobody_is_asked_whom_the_call_may_not_go_to() {
    let (one, two) = (late("one", 500), late("two", 0));
    let text = hedged(&[("one", &one), ("two", &two)], "delay: 100ms, percent: 100", "")
        .replace("one: {", "one: { region: eu,")
        .replace("two: {", "two: { region: us,");
    let gateway = Gateway::start(&text);
    let mut body = ask("alias", "x");
    body["region"] = json!(["eu"]);
    assert_eq!(said(&gateway.chat(&body)), "one");
    assert_eq!(two.count(), 0);
    assert_eq!(gateway.metric("portolan_hedges_total", &["result=\"nowhere\""]), 1.0);
    assert_eq!(said(&gateway.chat(&ask("alias", "x"))), "two", "and without a wish it may");
}

#[test]
fn a_client_that_leaves_takes_both_attempts_with_it() {
    for body in both("x") {
        let (one, two) = (late("one", 20_000), late("two", 20_000));
        let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 100ms", ""));
        let mut connection = Connection::open(gateway.data);
        connection.send(&gateway.chat_request(&body)).unwrap();
        two.wait("a request", Duration::from_secs(5), |journal| journal.len() == 1);
        drop(connection);
        left(&one);
        left(&two);
        gateway.settled(2);
        assert_eq!(gateway.ledger("target,outcome"), ["one/real client_gone 1", "two/real cancelled 1"]);
    }
    // While the second one's answer is on its way, too.
    let one = late("one", 20_000);
    let two = Upstream::start(|_| answers::stream(&answers::stream_frames(&["word "; 400], false), 25));
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "delay: 100ms", ""));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(3).unwrap();
    drop(connection);
    left(&two);
    gateway.settled(2);
    assert_eq!(gateway.ledger("target,outcome"), ["one/real outpaced 1", "two/real client_gone 1"]);
}

#[test]
fn a_second_ones_stream_comes_piece_by_piece_and_breaks_as_any_other() {
    let one = late("one", 20_000);
    let two = Upstream::start(|attempt| {
        let frames = answers::stream_frames(&["a ", "b ", "c ", "d "], true);
        let mut reply = answers::stream(&frames[..if attempt.number == 0 { frames.len() } else { 3 }], 60);
        if attempt.number != 0 {
            reply.steps.push(Step::Reset);
        }
        reply
    });
    let hedge = "delay: 100ms, percent: 100";
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], hedge, "response: { keep_alive: 100ms }\n"));
    let got = gateway.chat(&ask_stream("alias", "x"));
    assert_eq!(said(&got), "a b c d ");
    assert!(got.arrivals.len() >= 4, "{:?}", got.arrivals);
    gateway.settled(2);
    assert_eq!(gateway.ledger("target,outcome"), ["one/real outpaced 1", "two/real ok 1"]);
    let got = gateway.chat(&ask_stream("alias", "x"));
    got.last_error();
    gateway.settled(4);
    assert!(gateway.ledger("target,outcome").contains(&"two/real truncated 1".to_owned()));
}

#[test]
fn late_is_later_than_the_target_usually_is() {
    let one = Upstream::start(|attempt| {
        let reply = answers::good(&attempt.json(), "one");
        if attempt.text().contains("slowly") { after(6_000, reply) } else { reply }
    });
    let two = late("two", 0);
    let gateway = Gateway::start(&hedged(&[("one", &one), ("two", &two)], "floor: 300ms", ""));
    for body in both("slowly").into_iter().zip(both("x")) {
        let (slow, quick) = body;
        for _ in 0..25 {
            assert_eq!(said(&gateway.chat(&quick)), "one");
        }
        assert_eq!(said(&gateway.chat(&slow)), "two");
    }
    thread::sleep(Duration::from_millis(50));
    assert_eq!(two.count(), 2);
    assert!(gateway.usage(SECRET)["total"]["attempts"].as_u64() >= Some(54));
}
