//! Identical calls that are under way at once: one goes to the provider, and all are told its answer.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{self, Connection, Response};
use super::gateway::{Gateway, OTHER_SECRET, SECRET, ask, ask_stream, config};
use super::upstream::{Attempt, Reply, Step, Upstream};

fn gateway(upstream: &Upstream, dedup: &str) -> Gateway {
    let text = config(&[("open", &upstream.v1())], "retry: { tries: 1, failures: 100 }\n");
    let price = "price: { input: 10, output: 100 }";
    let text =
        text.replace("model: open-real }] }", &format!("model: open-real, {price} }}], dedup: {{ {dedup} }} }}"));
    assert!(text.contains(dedup), "{text}");
    Gateway::start(&text)
}

/// Its name and the number of the call, some time after it was asked.
fn slow(millis: u64) -> Upstream {
    Upstream::start(move |attempt| {
        let mut reply = answers::good(&attempt.json(), "the same words");
        reply.before_head.push(Step::Sleep(millis));
        reply
    })
}

fn settled(mut body: Value) -> Value {
    body["temperature"] = json!(0);
    body
}

fn both() -> [Value; 2] {
    [settled(ask("open", "x")), settled(ask_stream("open", "x"))]
}

#[track_caller]
fn said(got: &Response) -> String {
    assert!(got.status == 200 && got.whole, "{got}");
    if got.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return got.said();
    }
    got.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn role(got: &Response) -> &str {
    got.header("x-portolan-dedup").unwrap_or("none")
}

fn asked(upstream: &Upstream, count: usize) -> Vec<Attempt> {
    upstream.wait("so many calls", Duration::from_secs(10), |journal| journal.len() >= count)
}

/// Sends one call, waits until it is at the provider, sends so many more, and gives all answers, the first one's first.
fn together(gateway: &Gateway, upstream: &Upstream, body: &Value, more: usize) -> Vec<Response> {
    let before = upstream.count();
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.chat(body));
        asked(upstream, before + 1);
        let others: Vec<_> = (0..more).map(|_| scope.spawn(|| gateway.chat(body))).collect();
        let mut all = vec![first.join().unwrap()];
        all.extend(others.into_iter().map(|other| other.join().unwrap()));
        all
    })
}

/// Costs in the ledger, in millionths of a dollar, by these columns.
fn costs(gateway: &Gateway, rows: u64, by: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.usage(SECRET)["total"]["attempts"].as_u64() < Some(rows) {
        assert!(Instant::now() < deadline, "never {rows} rows");
        thread::sleep(Duration::from_millis(20));
    }
    let table: Value = serde_json::from_str(&gateway.command(&["usage", "--json", "--by", by])).unwrap();
    let rows = table["data"].as_array().unwrap().iter().map(|row| {
        let values: Vec<_> = by.split(',').map(|name| row[name].as_str().unwrap_or("-").to_owned()).collect();
        let cost = (row["cost_usd"].as_f64().unwrap() * 1e6).round();
        format!("{} {} {cost}", values.join(" "), row["attempts"])
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

#[test]
fn identical_calls_become_one() {
    for body in both() {
        let upstream = slow(600);
        let gateway = gateway(&upstream, "");
        let got = together(&gateway, &upstream, &body, 5);
        assert_eq!(upstream.count(), 1);
        let mut ids = Vec::new();
        for (number, one) in got.iter().enumerate() {
            assert_eq!(said(one), "the same words");
            assert_eq!(role(one), if number == 0 { "leader" } else { "follower" }, "{one}");
            assert_eq!(one.body, got[0].body);
            assert_eq!(one.header("x-portolan-target"), Some("open-provider/open-real"), "{one}");
            ids.push(one.header("x-portolan-request-id").unwrap().to_owned());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6, "each call has its own id");
        // 11 tokens at 10, 7 at 100: the provider has charged for them once.
        assert_eq!(costs(&gateway, 6, "provider,tag.side"), ["open-provider  1 810", "open-provider dedup 5 0"]);
        let total = gateway.settled(6);
        assert_eq!(
            (&total["requests"], &total["input_tokens"]),
            (&json!(6), &json!(answers::PROMPT_TOKENS)),
            "{total}"
        );
        assert_eq!(gateway.metric("portolan_dedup_total", &["role=\"follower\""]), 5.0);
        // And what is over is over.
        assert_eq!(role(&gateway.chat(&body)), "leader");
        assert_eq!(upstream.count(), 2);
    }
}

#[test]
fn a_connection_is_kept_after_following() {
    let upstream = slow(500);
    let gateway = gateway(&upstream, "");
    let body = settled(ask("open", "x"));
    thread::scope(|scope| {
        scope.spawn(|| gateway.chat(&body));
        asked(&upstream, 1);
        let mut connection = Connection::open(gateway.data);
        assert_eq!(role(&connection.exchange(&gateway.chat_request(&body))), "follower");
        assert_eq!(role(&connection.exchange(&gateway.chat_request(&body))), "leader");
    });
}

#[test]
fn who_comes_late_is_told_from_the_beginning() {
    let words = ["a ", "b ", "c ", "d ", "e ", "f ", "g ", "h "];
    let upstream = Upstream::start(move |_| answers::stream(&answers::stream_frames(&words, false), 100));
    let gateway = gateway(&upstream, "");
    let body = settled(ask_stream("open", "x"));
    let begun = Instant::now();
    let [first, late] = thread::scope(|scope| {
        let first = scope.spawn(|| gateway.chat(&body));
        asked(&upstream, 1);
        thread::sleep(Duration::from_millis(500));
        let late = scope.spawn(|| gateway.chat(&body));
        [first.join().unwrap(), late.join().unwrap()]
    });
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((said(&first), said(&late)), (words.concat(), words.concat()));
    assert_eq!((role(&late), upstream.count()), ("follower", 1));
    assert!(late.arrivals.len() > 3, "the rest as it comes: {:?}", late.arrivals);
}

#[test]
fn what_is_not_the_same_call_goes_its_own_way() {
    let upstream = slow(700);
    let gateway = gateway(&upstream, "");
    let body = settled(ask("open", "x"));
    let mut cooler = body.clone();
    cooler["seed"] = json!(1);
    let chance = ask("open", "x");
    let bearer = format!("Bearer {OTHER_SECRET}");
    let got: Vec<Response> = thread::scope(|scope| {
        let first = scope.spawn(|| gateway.chat(&body));
        asked(&upstream, 1);
        let calls = [
            scope.spawn(|| {
                let headers = [("authorization", bearer.as_str())];
                client::post(gateway.data, "/v1/chat/completions", &headers, body.to_string())
            }),
            scope.spawn(|| gateway.chat(&cooler)),
            scope.spawn(|| gateway.chat(&settled(ask_stream("open", "x")))),
            scope.spawn(|| gateway.chat_with(&[("x-portolan-dedup", "off")], body.to_string())),
            scope.spawn(|| gateway.chat_with(&[("x-portolan-tags", "a=b")], body.to_string())),
            scope.spawn(|| gateway.chat(&chance)),
        ];
        first.join().unwrap();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(upstream.count(), 7);
    let roles: Vec<_> = got.iter().map(role).collect();
    assert_eq!(roles, ["leader", "leader", "leader", "none", "leader", "none"]);
}

#[test]
fn chance_is_shared_by_those_who_say_so() {
    let upstream = slow(500);
    let own = gateway(&upstream, "");
    let chance = ask("open", "x").to_string();
    thread::scope(|scope| {
        scope.spawn(|| own.chat_with(&[("x-portolan-dedup", "on")], &chance));
        asked(&upstream, 1);
        assert_eq!(role(&own.chat_with(&[("x-portolan-dedup", "on")], &chance)), "follower");
    });
    assert_eq!(upstream.count(), 1);
    let any = gateway(&upstream, "any: true");
    let got = together(&any, &upstream, &ask("open", "x"), 1);
    assert_eq!((role(&got[1]), upstream.count()), ("follower", 2));
}

#[test]
fn a_leader_may_leave_and_the_last_one_takes_the_call_with_it() {
    let frames = answers::stream_frames(&["word "; 30], true);
    let upstream = Upstream::start(move |attempt| {
        if attempt.json()["stream"] == true {
            return answers::stream(&frames, 50);
        }
        let mut reply = answers::whole("late");
        reply.before_head.push(Step::Sleep(1_200));
        reply
    });
    let gateway = gateway(&upstream, "");
    for (number, body) in both().iter().enumerate() {
        let mut leader = Connection::open(gateway.data);
        leader.send(&gateway.chat_request(body)).unwrap();
        asked(&upstream, number + 1);
        let follower = thread::scope(|scope| {
            let follower = scope.spawn(|| gateway.chat(body));
            thread::sleep(Duration::from_millis(400));
            drop(leader);
            follower.join().unwrap()
        });
        assert_eq!(role(&follower), "follower");
        assert!(["late".to_owned(), "word ".repeat(30)].contains(&said(&follower)), "{follower}");
        assert_eq!(upstream.count(), number + 1);
        assert!(upstream.attempts()[number].gone.is_none(), "the provider noticed nothing");
    }
    assert_eq!(costs(&gateway, 4, "outcome,tag.side"), ["ok  2 1620", "ok dedup 2 0"]);

    // With nobody left, the call is left too.
    let body = settled(ask_stream("open", "y"));
    let (mut leader, mut follower) = (Connection::open(gateway.data), Connection::open(gateway.data));
    leader.send(&gateway.chat_request(&body)).unwrap();
    asked(&upstream, 3);
    follower.send(&gateway.chat_request(&body)).unwrap();
    let mut reading = follower.head().unwrap();
    reading.until_frames(3).unwrap();
    drop(leader);
    reading.until_frames(8).unwrap();
    drop(follower);
    upstream.wait("its peer leaving", Duration::from_secs(5), |journal| journal[2].gone.is_some());
}

#[test]
fn where_the_leader_fails_another_leads() {
    for body in both() {
        let upstream = Upstream::start(|attempt| {
            let mut reply = if attempt.number == 0 {
                answers::error(400, "no such luck")
            } else {
                answers::good(&attempt.json(), "fine")
            };
            reply.before_head.push(Step::Sleep(500));
            reply
        });
        let gateway = gateway(&upstream, "");
        let got = together(&gateway, &upstream, &body, 3);
        assert_eq!(got[0].status, 400, "{}", got[0]);
        let mut roles: Vec<_> = got[1..].iter().map(role).collect();
        roles.sort_unstable();
        assert_eq!(roles, ["follower", "follower", "leader"]);
        assert!(got[1..].iter().all(|one| said(one) == "fine"));
        assert_eq!(upstream.count(), 2);
    }
    // Where that fails too, each goes for itself: nobody waits for a third.
    let upstream = Upstream::start(|_| {
        let mut reply = answers::error(400, "no such luck");
        reply.before_head.push(Step::Sleep(300));
        reply
    });
    let gateway = gateway(&upstream, "");
    let got = together(&gateway, &upstream, &settled(ask("open", "x")), 3);
    assert!(got.iter().all(|one| one.status == 400), "{got:?}");
    assert_eq!(upstream.count(), 4);
}

#[test]
fn a_stream_that_breaks_breaks_for_all() {
    let frames = answers::stream_frames(&["a ", "b ", "c "], false);
    let mut steps: Vec<Step> = Vec::new();
    for frame in &frames[..3] {
        steps.extend([Step::Bytes(frame.clone().into_bytes()), Step::Sleep(200)]);
    }
    steps.push(Step::Reset);
    let upstream = Upstream::always(Reply::stream(steps));
    let gateway = gateway(&upstream, "");
    let got = together(&gateway, &upstream, &settled(ask_stream("open", "x")), 2);
    for one in &got {
        one.last_error();
        assert!(one.text().contains("a ") && one.text().contains("b "), "{one}");
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_answer_too_long_or_too_old_is_joined_by_nobody() {
    let frames = answers::stream_frames(&["some words and more "; 12], false);
    for dedup in ["buffer: 1KiB", "window: 300ms"] {
        let frames = frames.clone();
        let upstream = Upstream::start(move |_| answers::stream(&frames, 80));
        let gateway = gateway(&upstream, dedup);
        let body = settled(ask_stream("open", "x"));
        let [first, early, late] = thread::scope(|scope| {
            let first = scope.spawn(|| gateway.chat(&body));
            asked(&upstream, 1);
            let early = scope.spawn(|| gateway.chat(&body));
            thread::sleep(Duration::from_millis(800));
            let late = scope.spawn(|| gateway.chat(&body));
            [first.join().unwrap(), early.join().unwrap(), late.join().unwrap()]
        });
        assert_eq!([role(&first), role(&early), role(&late)], ["leader", "follower", "none"], "{dedup}");
        assert_eq!((said(&early), said(&late)), (said(&first), said(&first)), "{dedup}");
        assert_eq!(upstream.count(), 2, "{dedup}");
    }
}

#[test]
fn costs_are_the_first_ones_or_shared_or_everybodys() {
    for (policy, rows) in [
        ("leader", ["open-provider  1 810", "open-provider dedup 2 0"]),
        ("split", ["open-provider  1 270", "open-provider dedup 2 540"]),
        ("each", ["@dedup dedup 2 1620", "open-provider  1 810"]),
    ] {
        let upstream = slow(500);
        let gateway = gateway(&upstream, &format!("cost: {policy}"));
        let got = together(&gateway, &upstream, &settled(ask("open", "x")), 2);
        assert!(got.iter().all(|one| said(one) == "the same words"));
        assert_eq!(costs(&gateway, 3, "provider,tag.side"), rows, "{policy}");
        let told: Vec<_> = got.iter().map(|one| one.header("x-portolan-cost-usd").unwrap_or("none")).collect();
        let follower = match policy {
            "leader" => "0",
            "split" => "none",
            _ => "0.00081",
        };
        assert_eq!(told, ["0.00081", follower, follower], "{policy}");
    }
}
