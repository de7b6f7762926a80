//! How many tokens a request has: asked of the provider where it can tell, else estimated; never metered.

use serde_json::{Value, json};

use super::callers::Caller;
use super::client::Response;
use super::gateway::{Gateway, PROVIDER_KEY};
use super::upstream::{Reply, Upstream};
use super::voices::{self, VOICES, Voice};

/// What a provider that counts says, in its dialect.
fn count(voice: Voice) -> Reply {
    let body = match voice {
        Voice::Messages => json!({"input_tokens": 1234}),
        Voice::Gemini => {
            json!({"totalTokens": 1234, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1234}]})
        }
        Voice::Bedrock => json!({"inputTokens": 1234}),
        _ => return Reply::json(404, "{}"),
    };
    Reply::json(200, body.to_string())
}

const CALLERS: [(Caller, &str, &str); 2] = [
    (Caller::Messages, "/v1/messages/count_tokens", "/input_tokens"),
    (Caller::Gemini, "/v1beta/models/alias:countTokens", "/totalTokens"),
];

fn question(caller: Caller, text: &str) -> Value {
    let mut body = caller.body("alias", text, false);
    if let Some(body) = body.as_object_mut() {
        body.remove("max_tokens");
    }
    body
}

#[track_caller]
fn counted(got: &Response, place: &str) -> u64 {
    assert_eq!(got.status, 200, "{got}");
    assert!(got.header("x-portolan-request-id").is_some(), "{got}");
    got.json().pointer(place).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {place}: {got}"))
}

#[test]
fn a_provider_that_counts_is_asked() {
    for (voice, path) in [
        (Voice::Messages, "/messages/count_tokens"),
        (Voice::Gemini, ":countTokens"),
        (Voice::Bedrock, "/count-tokens"),
    ] {
        let upstream = Upstream::start(move |_| count(voice));
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
        for (n, (caller, ask, place)) in CALLERS.into_iter().enumerate() {
            let got = caller.send(&gateway, ask, question(caller, "how long am I").to_string());
            assert_eq!(counted(&got, place), 1234, "{caller:?} to {voice:?}: {got}");
            let attempts = upstream.attempts();
            assert_eq!(attempts.len(), n + 1);
            let attempt = &attempts[n];
            assert!(attempt.path.ends_with(path), "{}", attempt.path);
            assert!(attempt.text().contains("how long am I"), "{}", attempt.text());
            assert!(!attempt.text().contains("max_tokens"), "{}", attempt.text());
            assert!(attempt.headers.iter().any(|(_, value)| value.contains(PROVIDER_KEY)), "{:?}", attempt.headers);
        }
        unmetered(&gateway);
    }
}

/// Nothing was generated, so nothing costs.
#[track_caller]
fn unmetered(gateway: &Gateway) {
    let total = gateway.settled(0);
    for figure in ["attempts", "input_tokens", "output_tokens", "cost_usd"] {
        assert_eq!(total[figure].as_f64(), Some(0.0), "{figure}: {total}");
    }
}

#[test]
fn others_are_estimated() {
    for voice in VOICES.into_iter().filter(|voice| !matches!(voice, Voice::Messages | Voice::Gemini | Voice::Bedrock)) {
        let upstream = Upstream::start(move |_| count(voice));
        let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
        for (caller, ask, place) in CALLERS {
            let short = counted(&caller.send(&gateway, ask, question(caller, "short").to_string()), place);
            let long =
                counted(&caller.send(&gateway, ask, question(caller, &"word ".repeat(1_000)).to_string()), place);
            assert!((1..30).contains(&short), "{caller:?} to {voice:?}: {short}");
            assert!((800..2_000).contains(&long), "{caller:?} to {voice:?}: {long}");
        }
        assert_eq!(upstream.count(), 0, "{voice:?} has no such question");
        unmetered(&gateway);
    }
}

#[test]
fn a_failed_count_goes_to_the_next_that_counts() {
    let one = Upstream::start(|_| Reply::json(500, "{\"error\":{\"message\":\"no\"}}"));
    let two = Upstream::start(|_| count(Voice::Gemini));
    let rows = [("alias", Voice::Messages, &one, ""), ("backup", Voice::Gemini, &two, "")];
    let text = voices::config(&rows, "retry: { tries: 1 }\n").replacen(
        "  alias: { targets",
        "  alias: { fallback: [backup], targets",
        1,
    );
    let gateway = Gateway::start(&text);
    for (caller, ask, place) in CALLERS {
        let got = caller.send(&gateway, ask, question(caller, "x").to_string());
        assert_eq!(counted(&got, place), 1234, "{got}");
    }
    assert!(two.count() >= 2);
    unmetered(&gateway);
}

#[test]
fn a_bad_question_is_refused() {
    let upstream = Upstream::start(|_| count(Voice::Messages));
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Messages, &upstream, "")], ""));
    for (caller, ask, _) in CALLERS {
        for body in ["", "{", "[]", "{\"model\":\"alias\",\"messages\":5,\"contents\":5}"] {
            let message = caller.refusal(&caller.send(&gateway, ask, body), 400);
            assert!(!message.is_empty(), "{caller:?}: {body}");
        }
    }
    let (caller, ask, _) = CALLERS[0];
    caller.refusal(&caller.send(&gateway, ask, "{\"model\":\"nonsense\",\"messages\":[]}"), 404);
    let (caller, ..) = CALLERS[1];
    caller.refusal(&caller.send(&gateway, "/v1beta/models/nonsense:countTokens", "{\"contents\":[]}"), 404);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_answer_that_is_no_count_is_an_error() {
    for body in ["{}", "[]", "<html>", "{\"input_tokens\":\"many\"}", "{\"input_tokens\":-1}", ""] {
        let upstream = Upstream::start(move |_| Reply::json(200, body));
        let row = [("alias", Voice::Messages, &upstream, "")];
        let gateway = Gateway::start(&voices::config(&row, "retry: { tries: 1, failures: 1000 }\n"));
        for (caller, ask, _) in CALLERS {
            let got = caller.send(&gateway, ask, question(caller, "x").to_string());
            assert!(got.status >= 500, "{body}: {got}");
            caller.refusal(&got, got.status);
        }
    }
}
