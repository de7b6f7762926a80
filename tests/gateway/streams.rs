//! Streams: unchanged, at once, and never whole unless they are.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::Connection;
use super::gateway::{Gateway, ask_stream, config};
use super::upstream::{Framing, Reply, Step, Upstream};

const WORDS: [&str; 4] = ["grüß ", "dich, ", "世界 ", "\u{1f30d}"];

fn in_pieces(text: &str, size: usize) -> Reply {
    Reply::stream(text.as_bytes().chunks(size).map(|piece| Step::Bytes(piece.to_vec())).collect())
}

#[test]
fn a_stream_is_unchanged_whatever_its_chunks() {
    // Comments, both kinds of line ends and several lines of data are allowed by the format.
    let text = format!(
        ": hello\n\n{}event: x\r\ndata: {{\"choices\":[],\r\ndata: \"vendor\":1.10}}\r\n\r\nid: 7\n{}",
        answers::role_frame(),
        answers::stream_frames(&WORDS, true).concat()
    );
    for size in [1, 2, 3, 7, 64, 1000, usize::MAX] {
        let upstream = Upstream::always(in_pieces(&text, size));
        let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
        let mut body = ask_stream("alias", "x");
        body["stream_options"] = json!({"include_usage": true});
        let got = gateway.chat(&body);
        assert_eq!(got.status, 200, "{got}");
        assert!(got.whole && got.header("content-type").unwrap().starts_with("text/event-stream"), "{got}");
        assert_eq!(got.text(), text, "in pieces of {size}");
        let total = gateway.settled(1);
        assert_eq!(total["output_tokens"], answers::COMPLETION_TOKENS, "in pieces of {size}");
    }
}

#[test]
fn a_stream_may_end_by_close() {
    let text = answers::stream_frames(&WORDS, true).concat();
    let upstream = Upstream::always(in_pieces(&text, 10).framing(Framing::Close));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let mut body = ask_stream("alias", "x");
    body["stream_options"] = json!({"include_usage": true});
    let got = gateway.chat(&body);
    assert_eq!((got.text(), got.whole), (text.as_str(), true));
}

#[test]
fn usage_is_always_metered_and_shown_only_if_asked_for() {
    for options in [None, Some(json!({"include_usage": false})), Some(json!({"x_other": 1.10})), Some(Value::Null)] {
        for size in [1, 50, usize::MAX] {
            let text = answers::stream_frames(&WORDS, true).concat();
            let upstream = Upstream::always(in_pieces(&text, size));
            let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
            let mut body = ask_stream("alias", "x");
            if let Some(options) = &options {
                body["stream_options"] = options.clone();
            }
            let got = gateway.chat(&body);
            assert!(got.whole, "{got}");
            assert_eq!(got.text(), answers::stream_frames(&WORDS, false).concat(), "{options:?} in pieces of {size}");
            let sent = upstream.only().json();
            assert_eq!(sent["stream_options"]["include_usage"], true, "{sent}");
            if options.as_ref().is_some_and(|options| options.get("x_other").is_some()) {
                assert!(upstream.only().text().contains("1.1"), "other options are kept: {sent}");
            }
            let total = gateway.settled(1);
            assert_eq!(total["input_tokens"], answers::PROMPT_TOKENS);
            assert_eq!(total["output_tokens"], answers::COMPLETION_TOKENS);
            assert_eq!(total["cached_tokens"], answers::CACHED_TOKENS);
            assert_eq!(total["reasoning_tokens"], answers::REASONING_TOKENS);
        }
    }
}

#[test]
fn events_are_handed_on_at_once() {
    let frames = answers::stream_frames(&["a ", "b ", "c ", "d "], true);
    let upstream = Upstream::always(answers::stream(&frames, 150));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let begun = Instant::now();
    let got = gateway.chat(&ask_stream("alias", "x"));
    let first = got.arrivals.first().unwrap().0 - begun;
    let last = got.arrivals.last().unwrap().0 - begun;
    // The first content leaves the provider after 300 ms, the end after 1.2 s.
    assert!(first < Duration::from_millis(600), "first content after {first:?}");
    assert!(last >= Duration::from_millis(1_000), "the end after {last:?}");
    assert!(got.arrivals.len() >= 4, "{:?}", got.arrivals);
}

#[test]
fn a_slow_reader_gets_everything() {
    let words = vec!["0123456789 "; 20_000];
    let frames = answers::stream_frames(&words, false);
    let text = frames.concat();
    let upstream = Upstream::always(in_pieces(&text, 8_192));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
    let mut reading = connection.head().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    while reading.piece().unwrap() {}
    assert!(reading.response.whole);
    assert!(reading.response.text() == text, "4 MiB differ");
}

/// Good frames, then this instead of an end, when the frames have surely been handed on.
fn broken(end: Vec<Step>) -> Reply {
    let mut frames = answers::stream_frames(&["one ", "two "], false);
    frames.truncate(3);
    let steps = frames.into_iter().map(|frame| Step::Bytes(frame.into_bytes()));
    Reply::stream(steps.chain([Step::Sleep(100)]).chain(end).collect())
}

#[test]
fn a_stream_that_breaks_after_content_ends_in_an_error_event() {
    let late_error = Step::Bytes(answers::error_frame().into_bytes());
    let garbage = Step::Bytes(b"data: {\"choices\":[{\"index\":0,\"del\n\n".to_vec());
    for (what, reply) in [
        ("closed", broken(vec![Step::Close])),
        ("closed by length", broken(vec![Step::Close]).framing(Framing::Length(Some(100_000)))),
        ("ended without [DONE]", broken(vec![])),
        ("ended by close without [DONE]", broken(vec![]).framing(Framing::Close)),
        ("reset", broken(vec![Step::Reset])),
        ("an error event", broken(vec![late_error])),
        ("silent", broken(vec![Step::Hang])),
        ("garbage", broken(vec![garbage])),
        ("half a frame", broken(vec![Step::Bytes(b"data: {\"choi".to_vec()), Step::Close])),
    ] {
        let (one, two) = (Upstream::always(reply), Upstream::start(|attempt| answers::good(&attempt.json(), "rescue")));
        let more = "timeouts: { idle: 400ms }\nretry: { tries: 2, pause: 10ms }\n";
        let gateway = Gateway::start(&config(&[("alias", &one.v1()), ("backup", &two.v1())], more));
        let mut body = ask_stream("alias", "x");
        body["fallback"] = json!(["backup"]);
        let got = gateway.chat(&body);
        assert_eq!(got.status, 200, "{what}: {got}");
        let before = answers::stream_frames(&["one ", "two "], false)[..3].concat();
        assert!(got.text().starts_with(&before), "{what}: {got}");
        assert!(!got.text().contains("rescue"), "{what}: two answers were mixed: {got}");
        got.last_error();
        assert_eq!(got.text().matches("\"error\"").count(), 1, "{what}: {got}");
        assert_eq!((one.count(), two.count()), (1, 0), "{what}");
        let total = gateway.settled(1);
        assert!(total["output_tokens"].as_u64().unwrap() > 0, "{what}: what was generated is metered: {total}");
        assert_eq!(total["errors"], 1, "{what}: {total}");
    }
}

#[test]
fn a_stream_that_breaks_together_with_its_first_content_is_rescued_or_told() {
    for framing in [Framing::Chunked, Framing::Length(Some(100_000)), Framing::Close] {
        for end in [Step::Close, Step::Reset] {
            let frames = answers::stream_frames(&["one ", "two "], false)[..3].concat();
            let reply = Reply::stream(vec![Step::Bytes(frames.into_bytes()), end]).framing(framing);
            let one = Upstream::always(reply);
            let two = Upstream::start(|attempt| answers::good(&attempt.json(), "rescue"));
            let gateway =
                Gateway::start(&config(&[("alias", &one.v1()), ("backup", &two.v1())], "retry: { tries: 1 }\n"));
            let mut body = ask_stream("alias", "x");
            body["fallback"] = json!(["backup"]);
            for _ in 0..20 {
                let got = gateway.chat(&body);
                assert_eq!(got.status, 200, "{framing:?}: {got}");
                match got.said().as_str() {
                    "rescue" => assert!(got.text().ends_with("data: [DONE]\n\n"), "{framing:?}: {got}"),
                    _ => drop(got.last_error()),
                }
            }
        }
    }
}

#[test]
fn what_follows_the_end_is_not_metered() {
    let mut frames = answers::stream_frames(&["one"], true);
    frames.push(answers::word_frame("more"));
    let upstream = Upstream::always(answers::stream(&frames, 0));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let got = gateway.chat(&ask_stream("alias", "x"));
    assert!(got.text().starts_with(&answers::stream_frames(&["one"], false).concat()), "{got}");
    let total = gateway.settled(1);
    assert_eq!((&total["attempts"], &total["output_tokens"]), (&json!(1), &json!(answers::COMPLETION_TOKENS)));
}

#[test]
fn a_provider_that_streams_no_usage_is_metered_by_estimate() {
    let upstream = Upstream::always(answers::stream(&answers::stream_frames(&["a "; 40], false), 0));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let got = gateway.chat(&ask_stream("alias", &"question ".repeat(100)));
    assert!(got.text().ends_with("data: [DONE]\n\n"), "{got}");
    let total = gateway.settled(1);
    assert!(total["output_tokens"].as_u64().unwrap() >= 20, "{total}");
    assert!(total["input_tokens"].as_u64().unwrap() >= 50, "{total}");
}
