//! Every caller's dialect in front of every provider's, whole and streamed.

use serde_json::{Value, json};

use super::callers::{CALLERS, Caller};
use super::gateway::Gateway;
use super::upstream::{Attempt, Framing, Reply, Step, Upstream};
use super::voices::{self, COST, INPUT_TOKENS, OUTPUT_TOKENS, VOICES, Voice};

const TEXT: &str = "grüß dich, 世界 \u{1f30d}";

/// Each caller asks a provider of this dialect, whole and streamed.
#[track_caller]
fn every_caller_reaches(voice: Voice) {
    let upstream = voices::upstream(voice, TEXT);
    let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
    let mut calls = 0;
    for caller in CALLERS {
        for stream in [false, true] {
            let what = format!("{caller:?} to {voice:?}, stream: {stream}");
            let got = caller.ask(&gateway, "alias", "Hello", stream);
            assert_eq!(caller.said(&got, stream), TEXT, "{what}: {got}");
            assert_eq!(caller.usage(&got, stream), (INPUT_TOKENS, OUTPUT_TOKENS), "{what}: {got}");
            let header = |name: &str| got.header(name).unwrap_or_else(|| panic!("{what}: no {name}: {got}"));
            for (name, value) in
                [("x-portolan-model", "alias"), ("x-portolan-provider", "alias"), ("x-portolan-attempts", "1")]
            {
                assert_eq!(header(name), value, "{what}: {got}");
            }
            header("x-portolan-request-id");
            assert_eq!(got.header("x-portolan-cost-usd"), (!stream).then_some(COST), "{what}: {got}");
            let attempt = upstream.attempts().pop().unwrap();
            asked_well(voice, &attempt, stream);
            calls += 1;
        }
    }
    let total = gateway.settled(calls);
    assert_eq!((&total["attempts"], &total["errors"]), (&json!(calls), &json!(0)), "{total}");
    assert_eq!(total["input_tokens"], calls * INPUT_TOKENS, "{total}");
    assert_eq!(total["output_tokens"], calls * OUTPUT_TOKENS, "{total}");
    let cost = calls as f64 * COST.parse::<f64>().unwrap();
    assert!((total["cost_usd"].as_f64().unwrap() - cost).abs() < 1e-9, "{total}");
}

/// The request is one of the provider's dialect, and says what the caller said.
#[track_caller]
fn asked_well(voice: Voice, attempt: &Attempt, stream: bool) {
    let path = attempt.path.split('?').next().unwrap();
    assert!(path.ends_with(&voice.path(stream)), "{path} for {voice:?}");
    assert_eq!(voice.streams(attempt), stream);
    assert!(attempt.text().contains("Hello"), "{}", attempt.text());
    if !matches!(voice, Voice::Gemini | Voice::Bedrock) {
        assert_eq!(attempt.json()["model"], voice.model());
    }
    let key = super::gateway::PROVIDER_KEY;
    assert!(attempt.headers.iter().any(|(_, value)| value.contains(key)), "{:?}", attempt.headers);
    assert!(!attempt.headers.iter().any(|(_, value)| value.contains(super::gateway::SECRET)));
}

#[test]
fn chat_is_reached() {
    every_caller_reaches(Voice::Chat);
}

#[test]
fn responses_is_reached() {
    every_caller_reaches(Voice::Responses);
}

#[test]
fn messages_is_reached() {
    every_caller_reaches(Voice::Messages);
}

#[test]
fn gemini_is_reached() {
    every_caller_reaches(Voice::Gemini);
}

#[test]
fn bedrock_is_reached() {
    every_caller_reaches(Voice::Bedrock);
}

#[test]
fn cohere_is_reached() {
    every_caller_reaches(Voice::Cohere);
}

#[test]
fn ollama_is_reached() {
    every_caller_reaches(Voice::Ollama);
}

/// Callers and providers of one dialect, beside Chat.
const SAME: [(Caller, Voice); 3] =
    [(Caller::Messages, Voice::Messages), (Caller::Gemini, Voice::Gemini), (Caller::Responses, Voice::Responses)];

/// A JSON object in a spelling that any rewriting would change, with a member that nobody knows.
fn odd(value: &Value) -> String {
    let text = value.to_string();
    format!("{{ \"x_unknown\" : {{\"b\":2e5,\"a\":[1.10,-0, []]}},\n\t{}", text.strip_prefix('{').unwrap())
}

#[test]
fn within_a_dialect_every_byte_stays() {
    for (caller, voice) in SAME {
        let answer = format!("{}\r\n", odd(&voice.answer(TEXT)));
        let told = answer.clone();
        let upstream = Upstream::start(move |_| Reply::json(200, told.clone()));
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
        let body = odd(&caller.body("alias", "caf\u{e9} alias", false));
        let got = caller.send(&gateway, &caller.path("alias", false), &body);
        assert_eq!(got.status, 200, "{got}");
        assert_eq!(got.text(), answer, "{caller:?}");
        let model = format!("\"model\":\"{}\"", voice.model());
        assert_eq!(upstream.only().text(), body.replacen("\"model\":\"alias\"", &model, 1), "{caller:?}");
        assert_eq!(got.header("x-portolan-loss"), None, "{got}");
        assert_eq!(gateway.settled(1)["output_tokens"], OUTPUT_TOKENS);
    }
}

#[test]
fn within_a_dialect_every_byte_of_a_stream_stays() {
    for (caller, voice) in SAME {
        let mut frames = voice.streamed(&["grüß ", "dich, ", "世界 ", "\u{1f30d}"]);
        let unknown = voice.frame(json!({"type": "x_vendor.news", "b": 1.5}));
        if caller != Caller::Gemini {
            frames.insert(1, unknown);
        }
        frames.insert(1, b": a comment\n\n".to_vec());
        let text = frames.concat();
        for size in [1, 3, 7, 64, usize::MAX] {
            let pieces: Vec<_> = text.chunks(size).map(<[u8]>::to_vec).collect();
            let upstream = Upstream::always(voice.stream(pieces));
            let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
            let got = caller.ask(&gateway, "alias", "x", true);
            assert_eq!((got.status, got.whole), (200, true), "{got}");
            assert_eq!(got.text(), std::str::from_utf8(&text).unwrap(), "{caller:?} in pieces of {size}");
            let total = gateway.settled(1);
            let tokens = (&total["input_tokens"], &total["output_tokens"]);
            assert_eq!(tokens, (&json!(INPUT_TOKENS), &json!(OUTPUT_TOKENS)), "{caller:?} in pieces of {size}");
        }
    }
}

#[test]
fn pieces_of_any_size_say_the_same() {
    for voice in VOICES {
        let text = voice.streamed(&["grüß ", "dich, ", "世界 ", "\u{1f30d}"]).concat();
        for size in [1, 5, 1000] {
            let pieces: Vec<_> = text.chunks(size).map(<[u8]>::to_vec).collect();
            let upstream = Upstream::always(voice.stream(pieces));
            let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
            for caller in CALLERS {
                let got = caller.ask(&gateway, "alias", "x", true);
                assert_eq!(caller.said(&got, true), TEXT, "{caller:?} to {voice:?} in pieces of {size}: {got}");
            }
        }
    }
}

/// A stream that arrives word by word is handed on word by word.
#[test]
fn words_arrive_as_they_are_said() {
    for voice in VOICES {
        let upstream = Upstream::start(move |_| {
            let steps = voice.streamed(&["one ", "two ", "three "]).into_iter();
            voice.steps(steps.flat_map(|piece| [Step::Bytes(piece), Step::Sleep(80)]).collect())
        });
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
        for caller in CALLERS {
            let got = caller.ask(&gateway, "alias", "x", true);
            assert_eq!(caller.said(&got, true), "one two three ", "{caller:?} to {voice:?}: {got}");
            let times: Vec<_> = got.arrivals.iter().map(|(at, _)| *at).collect();
            let span = *times.last().unwrap() - *times.first().unwrap();
            assert!(span.as_millis() >= 200, "{caller:?} to {voice:?}: all at once, within {span:?}");
        }
    }
}

#[test]
fn an_array_parses_even_if_it_ends_in_an_error() {
    for voice in VOICES {
        let broken = move |end: Vec<Step>| {
            let (before, words, _) = voice.frames(&["one ", "two "]);
            let pieces = before.into_iter().chain(words).map(Step::Bytes);
            voice.steps(pieces.chain([Step::Sleep(50)]).chain(end).collect())
        };
        let ends = [vec![Step::Bytes(voice.failure())], vec![Step::Close], vec![Step::Reset], vec![]];
        for end in ends {
            let upstream = Upstream::always(broken(end.clone()));
            let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
            let got = Caller::Array.ask(&gateway, "alias", "x", true);
            Caller::Array.last_error(&got);
            let events = Caller::Array.events(&got);
            assert!(events.len() >= 2, "{voice:?}, {end:?}: {got}");
            assert_eq!(events[0]["candidates"][0]["content"]["parts"][0]["text"], "one ", "{voice:?}: {got}");
        }
    }
}

#[test]
fn an_array_loses_nothing_in_silence() {
    let voice = Voice::Gemini;
    let upstream = Upstream::start(move |_| {
        let mut first = voice.answer("one");
        first["candidates"][0].as_object_mut().unwrap().remove("finishReason");
        first["x_unknown"] = json!({"a": [1, 2]});
        let reply = voice.stream([voice.frame(first), voice.frame(voice.answer(" two"))]);
        reply.framing(Framing::Chunked)
    });
    let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
    let got = Caller::Array.ask(&gateway, "alias", "x", true);
    assert_eq!(Caller::Array.said(&got, true), "one two", "{got}");
    let kept = Caller::Array.events(&got).iter().any(|event| event["x_unknown"] == json!({"a": [1, 2]}));
    let named = got.header("x-portolan-loss").is_some_and(|losses| losses.contains("x_unknown"));
    assert!(kept || named, "it is lost in silence: {got}");
}
