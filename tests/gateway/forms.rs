//! Whole answers made of streams, and streams made of whole answers.

use serde_json::json;

use super::callers::{CALLERS, Caller};
use super::gateway::Gateway;
use super::upstream::{Step, Upstream};
use super::voices::{self, COST, INPUT_TOKENS, OUTPUT_TOKENS, VOICES, Voice};

const TEXT: &str = "one two three";

/// Every caller in front of a provider that answers in one form only; it is asked for that form.
#[track_caller]
fn one_form_serves_all(voice: Voice, quirk: &str, form: bool) {
    let upstream = voices::upstream(voice, TEXT);
    let quirks = format!(", quirks: {{ streams: {quirk} }}");
    let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, &quirks)], ""));
    let mut calls = 0;
    for caller in CALLERS {
        for stream in [false, true] {
            let what = format!("{caller:?} to {voice:?}, stream: {stream}, provider: {form}");
            let got = caller.ask(&gateway, "alias", "x", stream);
            assert_eq!(caller.said(&got, stream), TEXT, "{what}: {got}");
            assert_eq!(caller.usage(&got, stream), (INPUT_TOKENS, OUTPUT_TOKENS), "{what}: {got}");
            assert_eq!(got.header("x-portolan-cost-usd"), (!stream).then_some(COST), "{what}: {got}");
            calls += 1;
            let attempts = upstream.attempts();
            assert_eq!(attempts.len() as u64, calls, "{what}");
            let attempt = attempts.last().unwrap();
            assert_eq!(voice.streams(attempt), form, "{what}: {}", attempt.text());
            let path = attempt.path.split('?').next().unwrap();
            assert!(path.ends_with(&voice.path(form)), "{what}: {path}");
        }
    }
    let total = gateway.settled(calls);
    let tokens = (&total["input_tokens"], &total["output_tokens"]);
    assert_eq!(tokens, (&json!(calls * INPUT_TOKENS), &json!(calls * OUTPUT_TOKENS)), "{voice:?}: {total}");
}

#[test]
fn a_provider_that_cannot_stream_serves_those_who_want_a_stream() {
    for voice in VOICES {
        one_form_serves_all(voice, "never", false);
    }
}

#[test]
fn a_provider_that_only_streams_serves_those_who_do_not() {
    for voice in VOICES {
        one_form_serves_all(voice, "always", true);
    }
}

#[test]
fn a_stream_that_breaks_is_no_whole_answer() {
    for voice in VOICES {
        for end in [vec![Step::Bytes(voice.failure())], vec![Step::Close], vec![]] {
            let steps = end.clone();
            let one = Upstream::start(move |_| {
                let (before, words, _) = voice.frames(&["half "]);
                let pieces = before.into_iter().chain(words).map(Step::Bytes);
                voice.steps(pieces.chain([Step::Sleep(30)]).chain(steps.clone()).collect())
            });
            let two = voices::upstream(voice, "rescue");
            let always = ", quirks: { streams: always }";
            let rows = [("alias", voice, &one, always), ("backup", voice, &two, always)];
            let gateway = Gateway::start(&voices::config(&rows, "retry: { tries: 1, failures: 1000 }\n"));
            for caller in [Caller::Chat, Caller::Messages, Caller::Gemini, Caller::Responses] {
                let got = caller.ask(&gateway, "alias", "x", false);
                assert!(got.status >= 500, "{caller:?} to {voice:?}, {end:?}: {got}");
                caller.refusal(&got, got.status);
                assert!(!got.text().contains("half"), "{got}");
                let mut body = caller.body("alias", "x", false);
                body["fallback"] = json!(["backup"]);
                let got = caller.send(&gateway, &caller.path("alias", false), body.to_string());
                assert_eq!(caller.said(&got, false), "rescue", "{caller:?} to {voice:?}, {end:?}: {got}");
            }
        }
    }
}
