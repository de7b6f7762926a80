//! Every attempt counts, once, whatever becomes of it.

use std::time::Duration;

use serde_json::json;

use super::answers;
use super::client::{self, Connection};
use super::gateway::{Gateway, OTHER_SECRET, SECRET, ask, ask_stream, config};
use super::upstream::{Reply, Step, Upstream};

/// Prices for the model `NAME-real`: dollars for a million tokens.
pub fn priced(text: &str, name: &str) -> String {
    let row = format!("model: {name}-real");
    text.replacen(&row, &format!("{row}, price: {{ input: 10, output: 100, cached: 1 }}"), 1)
}

#[test]
fn usage_and_cost_are_what_the_provider_reported() {
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let text = config(&[("open-one", &upstream.v1()), ("two", &upstream.v1())], "currencies: { cny: 7.2 }\n");
    let gateway = Gateway::start(&priced(&priced(&text, "open-one"), "two"));
    for body in [ask("open-one", "x"), ask_stream("open-one", "x"), ask("two", "x")] {
        assert_eq!(gateway.chat(&body).status, 200);
    }
    let other = [("x-api-key", OTHER_SECRET)];
    let got = client::post(gateway.data, "/v1/chat/completions", &other, ask("open-one", "x").to_string());
    assert_eq!(got.status, 200, "{got}");

    let total = gateway.settled(3);
    for (figure, value) in [
        ("requests", 3),
        ("attempts", 3),
        ("errors", 0),
        ("input_tokens", 3 * answers::PROMPT_TOKENS),
        ("output_tokens", 3 * answers::COMPLETION_TOKENS),
        ("cached_tokens", 3 * answers::CACHED_TOKENS),
        ("reasoning_tokens", 3 * answers::REASONING_TOKENS),
    ] {
        assert_eq!(total[figure], value, "{figure}: {total}");
    }
    // 7 fresh tokens at 10, 4 cached at 1, 7 generated at 100: 774 millionths of a dollar a call.
    let close = |cost: &serde_json::Value, want: f64| cost.as_f64().is_some_and(|cost| (cost - want).abs() < 1e-9);
    assert!(close(&total["cost_usd"], 3.0 * 0.000_774), "{total}");
    assert!(close(&total["cost_cny"], 3.0 * 0.000_774 * 7.2), "{total}");

    let usage = gateway.usage(SECRET);
    let rows = usage["data"].as_array().unwrap();
    let of = |model: &str| rows.iter().find(|row| row["model"] == model).unwrap_or_else(|| panic!("{model}: {usage}"));
    assert_eq!((&of("open-one")["requests"], &of("two")["requests"]), (&json!(2), &json!(1)), "{usage}");
    // Another key sees its own calls and no others.
    let others = gateway.usage(OTHER_SECRET);
    assert_eq!(others["total"]["requests"], 1, "{others}");
}

#[test]
fn failed_attempts_are_rows_too() {
    let one = Upstream::always(answers::error(500, "no"));
    let two = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &one.v1()), ("backup", &two.v1())], "retry: { tries: 2, pause: 10ms }\n");
    let gateway = Gateway::start(&text);
    let mut body = ask("alias", "x");
    body["fallback"] = json!(["backup"]);
    assert_eq!(gateway.chat(&body).status, 200);
    let total = gateway.settled(3);
    assert_eq!((&total["requests"], &total["attempts"]), (&json!(1), &json!(3)), "{total}");
    assert_eq!(total["input_tokens"], answers::PROMPT_TOKENS, "a failed attempt used nothing: {total}");
}

#[test]
fn refused_calls_use_nothing() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    gateway.chat(&ask("nonsense", "x")).refusal(404);
    gateway.chat_with(&[], "{").refusal(400);
    let total = gateway.usage(SECRET)["total"].clone();
    assert_eq!((&total["requests"], &total["attempts"]), (&json!(0), &json!(0)), "{total}");
}

#[test]
fn a_client_that_leaves_a_stream_is_metered() {
    let frames = answers::stream_frames(&["word "; 2_000], true);
    let upstream = Upstream::always(answers::stream(&frames, 20));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", &"question ".repeat(50)))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(10).unwrap();
    drop(connection);
    upstream.wait_gone(Duration::from_secs(5));
    let total = gateway.settled(1);
    let output = total["output_tokens"].as_u64().unwrap();
    assert!((5..200).contains(&output), "about ten words were generated: {total}");
    assert!(total["input_tokens"].as_u64().unwrap() > 0, "{total}");
}

/// Leaves a stream of so many words, one each 20 ms, after ten of them.
fn left(more: &str, words: usize) -> (Gateway, Upstream, std::time::Instant) {
    let frames = answers::stream_frames(&vec!["word "; words], true);
    let upstream = Upstream::always(answers::stream(&frames, 20));
    let gateway = Gateway::start(&priced(&config(&[("alias", &upstream.v1())], more), "alias"));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(10).unwrap();
    drop(connection);
    (gateway, upstream, std::time::Instant::now())
}

/// Outcome, and whether usage is an estimate.
fn only_row(gateway: &Gateway) -> serde_json::Value {
    gateway.settled(1);
    let rows = gateway.command(&["ledger", "export", "--format", "jsonl"]);
    assert_eq!(rows.lines().count(), 1, "{rows}");
    serde_json::from_str(&rows).unwrap()
}

#[test]
fn an_answer_is_read_on_for_the_truth_within_a_bound_of_time() {
    // A second and a half are left of it.
    let (gateway, upstream, _) = left("response: { read_on: { for: 10s } }\n", 80);
    let row = only_row(&gateway);
    assert_eq!((&row["outcome"], &row["estimated"]), (&json!("client_gone"), &json!(false)), "{row}");
    assert_eq!((&row["output"], &row["cost"]), (&json!(answers::COMPLETION_TOKENS), &json!(774_000)), "{row}");
    assert!(upstream.only().gone.is_none(), "it was heard to its end");
    assert_eq!(gateway.chat(&ask_stream("alias", "x")).status, 200);

    // Of this one more is left than will be waited for.
    let (gateway, upstream, at) = left("response: { read_on: { for: 1s } }\n", 2_000);
    let gone = upstream.wait_gone(Duration::from_secs(8)).gone.unwrap();
    let read = gone - at;
    assert!((Duration::from_millis(600)..Duration::from_secs(4)).contains(&read), "{read:?}");
    let row = only_row(&gateway);
    assert_eq!((&row["outcome"], &row["estimated"]), (&json!("client_gone"), &json!(true)), "{row}");
    assert!(row["output"].as_u64().unwrap() > 30, "what was generated is estimated: {row}");
}

#[test]
fn an_answer_is_read_on_within_a_bound_of_bytes_and_of_number() {
    let (gateway, upstream, at) = left("response: { read_on: { for: 20s, bytes: 2KiB } }\n", 2_000);
    let gone = upstream.wait_gone(Duration::from_secs(8)).gone.unwrap();
    assert!(gone - at < Duration::from_secs(5), "{:?}", gone - at);
    assert_eq!(only_row(&gateway)["estimated"], json!(true));

    let frames = answers::stream_frames(&["word "; 2_000], true);
    let upstream = Upstream::always(answers::stream(&frames, 20));
    let more = "response: { read_on: { for: 20s, calls: 2 } }\n";
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    for _ in 0..5 {
        let mut connection = Connection::open(gateway.data);
        connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
        connection.head().unwrap().until_frames(3).unwrap();
    }
    let left = |journal: &[super::upstream::Attempt]| journal.iter().filter(|attempt| attempt.gone.is_some()).count();
    let journal = upstream.wait("three of five going away", Duration::from_secs(5), |journal| left(journal) == 3);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((left(&journal), left(&upstream.attempts())), (3, 3), "two are read on");
}

#[test]
fn nothing_is_tried_again_for_a_client_that_has_left() {
    let upstream = Upstream::start(|attempt| match attempt.number {
        0 => Reply { before_head: vec![Step::Sleep(700)], ..answers::error(500, "no") },
        _ => answers::whole("late"),
    });
    let more = "response: { read_on: { for: 10s } }\nretry: { tries: 3, pause: 10ms }\n";
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask("alias", "x"))).unwrap();
    upstream.wait("the call", Duration::from_secs(5), |journal| journal.len() == 1);
    drop(connection);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(upstream.count(), 1);
    assert_eq!(gateway.settled(1)["attempts"], 1);
}

#[test]
fn a_client_that_leaves_before_the_answer_is_metered() {
    for reply in [
        Reply::instead(Step::Hang),
        Reply { steps: vec![Step::Hang], framing: super::upstream::Framing::Chunked, ..answers::whole("") },
        Reply::stream(vec![Step::Bytes(answers::role_frame().into_bytes()), Step::Hang]),
    ] {
        let upstream = Upstream::always(reply);
        let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
        let mut connection = Connection::open(gateway.data);
        connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
        upstream.wait("the call", Duration::from_secs(5), |journal| journal.len() == 1);
        drop(connection);
        upstream.wait_gone(Duration::from_secs(5));
        let total = gateway.settled(1);
        assert_eq!(total["attempts"], 1, "{total}");
        assert_eq!(upstream.count(), 1, "nobody waits for a second try");
    }
}

#[test]
fn clients_that_leave_while_a_retry_is_waited_for() {
    let upstream = Upstream::always(answers::error(500, "no"));
    let more = "retry: { tries: 5, pause: 2s, max_pause: 2s, failures: 100 }\n";
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    for _ in 0..5 {
        let mut connection = Connection::open(gateway.data);
        let before = upstream.count();
        connection.send(&gateway.chat_request(&ask("alias", "x"))).unwrap();
        upstream.wait("the call", Duration::from_secs(5), |journal| journal.len() > before);
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = upstream.count();
    std::thread::sleep(Duration::from_secs(3));
    // A pause is drawn at random up to its bound, so a try or two may have begun before the client was missed.
    assert!(upstream.count() <= after + 3, "{} tries went on for nobody", upstream.count() - after);
}

#[test]
fn what_was_dispatched_survives_kill_9() {
    let upstream = Upstream::start(|attempt| {
        let body = attempt.json();
        match body["messages"][0]["content"].as_str() {
            Some("hang") => Reply::instead(Step::Hang),
            Some("drip") => answers::stream(&answers::stream_frames(&["word "; 2_000], true), 20),
            _ => answers::good(&body, "fine"),
        }
    });
    let mut gateway = Gateway::start(&priced(&config(&[("alias", &upstream.v1())], ""), "alias"));
    for n in 0..20 {
        let body = if n % 2 == 0 { ask("alias", "x") } else { ask_stream("alias", "x") };
        assert_eq!(gateway.chat(&body).status, 200);
    }
    let mut hanging = Connection::open(gateway.data);
    hanging.send(&gateway.chat_request(&ask("alias", "hang"))).unwrap();
    let mut dripping = Connection::open(gateway.data);
    dripping.send(&gateway.chat_request(&ask_stream("alias", "drip"))).unwrap();
    let mut reading = dripping.head().unwrap();
    reading.until_frames(5).unwrap();
    upstream.wait("all calls", Duration::from_secs(5), |journal| journal.len() == 22);
    gateway.kill9();
    gateway.start_again();
    let total = gateway.settled(22);
    assert_eq!(total["attempts"], 22, "one row for each attempt that the provider saw: {total}");
    assert_eq!(total["requests"], 22, "{total}");
    assert!(
        total["cost_usd"].as_f64().unwrap() > 20.0 * 0.000_774,
        "the two that were cut count at their reserve: {total}"
    );
    // Counted once, however often it starts.
    gateway.kill9();
    gateway.start_again();
    let again = gateway.settled(22);
    assert_eq!(again, total);
}

#[test]
fn an_orderly_stop_loses_nothing() {
    let upstream = Upstream::always(answers::whole("fine"));
    let mut gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    for _ in 0..10 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    assert!(gateway.stop(Duration::from_secs(5)).success());
    // All of it is in the ledger already: what comes next has nothing to make up for.
    let rows = rusqlite::Connection::open(gateway.state().join("ledger.sqlite")).and_then(|ledger| {
        ledger.query_row("SELECT count(*) FROM attempts WHERE state = 'settled'", [], |row| row.get(0))
    });
    assert_eq!(rows, Ok(10_i64));
    gateway.start_again();
    let total = gateway.usage(SECRET)["total"].clone();
    assert_eq!((&total["attempts"], &total["output_tokens"]), (&json!(10), &json!(10 * answers::COMPLETION_TOKENS)));
    assert_eq!(total["errors"], 0, "{total}");
}

#[test]
fn a_call_whose_price_is_unknown_is_flagged() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    gateway.settled(1);
    let unpriced =
        gateway.metrics().lines().filter(|line| !line.starts_with('#')).any(|line| line.contains("unpriced"));
    assert!(unpriced, "no metric tells of unpriced calls:\n{}", gateway.metrics());
}
