//! Signs of life while a provider is silent, and what may still happen after them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::callers::{CALLERS, Caller};
use super::client::{Connection, Response};
use super::gateway::{Gateway, SECRET};
use super::upstream::{Reply, Step, Upstream};
use super::voices::{self, VOICES, Voice};

const SIGNS: &str = "response: { keep_alive: 300ms }\n";

/// What a caller is given while nothing happens.
fn sign(caller: Caller) -> &'static str {
    match caller {
        Caller::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Caller::Gemini | Caller::Array => "\r\n",
        _ => ": keep-alive\n\n",
    }
}

/// A stream that is silent at first and between its words.
fn hesitant(voice: Voice) -> Upstream {
    Upstream::start(move |_| {
        let (before, words, after) = voice.frames(&["one ", "two"]);
        let mut steps = vec![Step::Sleep(1000)];
        steps.extend(before.into_iter().map(Step::Bytes));
        for word in words {
            steps.extend([Step::Bytes(word), Step::Sleep(1000)]);
        }
        steps.extend(after.into_iter().map(Step::Bytes));
        voice.steps(steps)
    })
}

/// The same for each of them, side by side: these tests wait more than they work.
fn at_once(voices: &[Voice], test: impl Fn(Voice) + Sync) {
    std::thread::scope(|scope| {
        for voice in voices {
            scope.spawn(|| test(*voice));
        }
    });
}

/// When the first byte of the body came, after that instant.
fn first(got: &Response, asked: Instant) -> Duration {
    got.arrivals.first().unwrap().0 - asked
}

#[track_caller]
fn alive(voice: Voice) {
    let upstream = hesitant(voice);
    let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], SIGNS));
    for caller in CALLERS {
        let what = format!("{caller:?} to {voice:?}");
        let asked = Instant::now();
        let got = caller.ask(&gateway, "alias", "x", true);
        assert_eq!(caller.said(&got, true), "one two", "{what}: {got}");
        assert!(first(&got, asked) < Duration::from_millis(800), "{what}: {got}");
        let text = got.text();
        assert!(text.starts_with(sign(caller)), "{what}: {got}");
        assert!(text.matches(sign(caller)).count() >= 5, "{what}: {got}");
        let longest = got.arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
        assert!(longest < Duration::from_millis(800), "{what}: silent for {longest:?}");
        assert!(got.header("x-portolan-request-id").is_some(), "{what}: {got}");
    }
    assert_eq!(gateway.settled(6)["errors"], 0);
}

#[test]
fn signs_come_before_and_between_the_words() {
    at_once(&[Voice::Chat, Voice::Messages, Voice::Gemini], |voice| {
        alive(voice);
    });
}

#[test]
fn signs_come_from_binary_and_line_streams_too() {
    at_once(&[Voice::Responses, Voice::Bedrock, Voice::Ollama], |voice| {
        alive(voice);
    });
}

#[test]
fn a_sign_never_falls_into_an_event() {
    for (caller, voice) in [
        (Caller::Chat, Voice::Chat),
        (Caller::Messages, Voice::Messages),
        (Caller::Gemini, Voice::Gemini),
        (Caller::Responses, Voice::Responses),
        (Caller::Array, Voice::Gemini),
        (Caller::Chat, Voice::Bedrock),
    ] {
        let upstream = Upstream::start(move |_| {
            let bytes = voice.streamed(&["one ", "two"]).concat();
            // Silent in the middle of the first word, and again within the second.
            let find = |word: &[u8]| bytes.windows(word.len()).position(|window| window == word).unwrap() + 1;
            let (a, b) = (find(b"one "), find(b"two"));
            let piece = |from: usize, to: usize| Step::Bytes(bytes[from..to].to_vec());
            voice.steps(vec![piece(0, a), Step::Sleep(900), piece(a, b), Step::Sleep(900), piece(b, bytes.len())])
        });
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], SIGNS));
        let asks = |body: &mut serde_json::Value, usage: bool| {
            if caller == Caller::Chat {
                body["stream_options"] = json!({"include_usage": usage});
            }
        };
        for usage in [true, false] {
            let mut body = caller.body("alias", "x", true);
            asks(&mut body, usage);
            let got = caller.send(&gateway, &caller.path("alias", true), body.to_string());
            assert_eq!(caller.said(&got, true), "one two", "{caller:?} to {voice:?}: {got}");
        }
    }
}

#[test]
fn failover_goes_on_after_a_sign() {
    at_once(&[Voice::Chat, Voice::Messages, Voice::Gemini, Voice::Bedrock], |voice| {
        let one = Upstream::start(move |attempt| match attempt.number % 3 {
            0 => Reply { before_head: vec![Step::Sleep(800)], ..Reply::json(500, "{}") },
            1 => Reply { before_head: vec![Step::Sleep(800), Step::Close], ..Reply::json(500, "{}") },
            _ => voice.steps(vec![Step::Bytes(voice.frames(&[]).0.concat()), Step::Sleep(800), Step::Close]),
        });
        let two = voices::upstream(voice, "rescue");
        let rows = [("alias", voice, &one, ""), ("backup", voice, &two, "")];
        let more = format!("{SIGNS}retry: {{ tries: 1, failures: 1000 }}\n");
        let gateway = Gateway::start(&voices::config(&rows, &more));
        for caller in CALLERS {
            for _ in 0..3 {
                let mut body = caller.body("alias", "x", true);
                body["fallback"] = json!(["backup"]);
                let got = caller.send(&gateway, &caller.path("alias", true), body.to_string());
                assert!(got.text().starts_with(sign(caller)), "{caller:?} to {voice:?}: {got}");
                assert_eq!(caller.said(&got, true), "rescue", "{caller:?} to {voice:?}: {got}");
            }
        }
    });
}

#[test]
fn a_failure_after_a_sign_is_told_as_an_event() {
    at_once(&[Voice::Chat, Voice::Messages, Voice::Gemini, Voice::Responses, Voice::Bedrock], |voice| {
        let upstream = Upstream::start(move |attempt| match attempt.number % 3 {
            0 => Reply { before_head: vec![Step::Sleep(800)], ..Reply::json(500, "{\"message\":\"no\"}") },
            1 => Reply { before_head: vec![Step::Sleep(800), Step::Close], ..Reply::json(500, "{}") },
            _ => voice.steps(vec![Step::Bytes(voice.frames(&[]).0.concat()), Step::Sleep(800), Step::Close]),
        });
        let more = format!("{SIGNS}retry: {{ tries: 1, failures: 1000 }}\n");
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], &more));
        for caller in CALLERS {
            for kind in 0..3 {
                let got = caller.ask(&gateway, "alias", "x", true);
                assert!(got.text().starts_with(sign(caller)), "{caller:?} to {voice:?}, {kind}: {got}");
                caller.last_error(&got);
            }
        }
    });
}

#[test]
fn a_provider_that_hangs_in_mid_stream_is_given_up_in_spite_of_signs() {
    at_once(&[Voice::Chat, Voice::Messages, Voice::Bedrock], |voice| {
        let upstream = Upstream::start(move |_| {
            let (before, words, _) = voice.frames(&["one "]);
            let pieces = before.into_iter().chain(words).map(Step::Bytes);
            voice.steps(pieces.chain([Step::Hang]).collect())
        });
        let more = format!("{SIGNS}timeouts: {{ idle: 1200ms }}\nretry: {{ tries: 1, failures: 1000 }}\n");
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], &more));
        for caller in [Caller::Chat, Caller::Messages, Caller::Array] {
            let asked = Instant::now();
            let mut body = caller.body("alias", "x", true);
            // Should it never be given up, the test must end all the same.
            body["timeout"] = json!(8);
            let got = caller.send(&gateway, &caller.path("alias", true), body.to_string());
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(4), "{caller:?} to {voice:?}: given up after {took:?}: {got}");
            caller.last_error(&got);
        }
    });
}

#[test]
fn a_slow_whole_answer_gets_no_signs() {
    for voice in VOICES {
        let upstream = Upstream::start(move |_| Reply { before_head: vec![Step::Sleep(900)], ..voice.whole("fine") });
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], SIGNS));
        for caller in [Caller::Chat, Caller::Messages] {
            let got = caller.ask(&gateway, "alias", "x", false);
            assert_eq!(caller.said(&got, false), "fine", "{got}");
            assert!(got.text().starts_with('{'), "{got}");
            assert!(got.header("x-portolan-cost-usd").is_some(), "{got}");
        }
    }
}

#[test]
fn a_caller_that_streams_from_one_that_cannot_gets_signs() {
    let voice = Voice::Messages;
    let upstream = Upstream::start(move |_| Reply { before_head: vec![Step::Sleep(1000)], ..voice.whole("fine") });
    let row = [("alias", voice, &upstream, ", quirks: { streams: never }")];
    let gateway = Gateway::start(&voices::config(&row, SIGNS));
    for caller in CALLERS {
        let got = caller.ask(&gateway, "alias", "x", true);
        assert!(got.text().matches(sign(caller)).count() >= 2, "{caller:?}: {got}");
        assert_eq!(caller.said(&got, true), "fine", "{caller:?}: {got}");
    }
}

#[test]
fn callers_that_leave_between_signs_are_noticed() {
    for reply in [
        Reply::instead(Step::Hang),
        Voice::Messages.steps(
            Voice::Messages.streamed(&["one "]).into_iter().take(3).map(Step::Bytes).chain([Step::Hang]).collect(),
        ),
    ] {
        for caller in [Caller::Chat, Caller::Messages, Caller::Array] {
            let upstream = Upstream::always(reply.clone());
            let gateway = Gateway::start(&voices::config(&[("alias", Voice::Messages, &upstream, "")], SIGNS));
            let mut connection = Connection::open(gateway.data);
            connection.send(&caller.request("alias", "x", true)).unwrap();
            let mut reading = connection.head().unwrap();
            while reading.response.text().matches(sign(caller)).count() < 2 {
                assert!(reading.piece().unwrap(), "{caller:?}");
            }
            drop(connection);
            upstream.wait_gone(Duration::from_secs(3));
            assert_eq!(gateway.settled(1)["attempts"], 1);
        }
    }
}

#[test]
fn a_connection_is_usable_after_signs() {
    let upstream = hesitant(Voice::Bedrock);
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Bedrock, &upstream, "")], SIGNS));
    let mut connection = Connection::open(gateway.data);
    for caller in [Caller::Chat, Caller::Array] {
        let got = connection.exchange(&caller.request("alias", "x", true));
        assert_eq!(caller.said(&got, true), "one two", "{got}");
    }
    assert!(!gateway.logs().contains(SECRET));
}
