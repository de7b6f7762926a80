//! What callers of each dialect get wrong: a 4xx in their own shape that says where, and a connection that goes on.

use serde_json::{Value, json};

use super::callers::{CALLERS, Caller};
use super::client::{self, Connection};
use super::gateway::{Gateway, OTHER_SECRET, SECRET};
use super::upstream::{Reply, Upstream};
use super::voices::{self, Voice};

/// In front of each, a provider of another dialect: requests are read, not passed on.
fn other(caller: Caller) -> Voice {
    match caller {
        Caller::Messages => Voice::Chat,
        _ => Voice::Messages,
    }
}

fn fixture(voice: Voice) -> (Upstream, Gateway) {
    let upstream = voices::upstream(voice, "fine");
    let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
    (upstream, gateway)
}

/// Sends a body over a connection that is kept, and after the refusal a good one.
#[track_caller]
fn refused(caller: Caller, gateway: &Gateway, body: &[u8], names: &str) {
    let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let headers = caller.headers(SECRET);
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("content-type", "application/json"));
    let mut connection = Connection::open(gateway.data);
    let got = connection.exchange(&client::request("POST", &caller.path("alias", false), &headers, body));
    let message = caller.refusal(&got, 400);
    assert!(
        message.contains(names) || got.text().contains(names),
        "{caller:?}: {shown}: `{names}` is not named: {got}"
    );
    assert_ne!(got.header("connection"), Some("close"), "{caller:?}: {shown}: {got}");
    let got = connection.exchange(&caller.request("alias", "x", false));
    assert_eq!(caller.said(&got, false), "fine", "{caller:?}, after {shown}: {got}");
}

#[test]
fn bodies_that_are_no_json() {
    for caller in CALLERS {
        let (upstream, gateway) = fixture(other(caller));
        let good = caller.body("alias", "x", false).to_string();
        let deep = format!("{},\"x\":{}{}}}", &good[..good.len() - 1], "[".repeat(70), "]".repeat(70));
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"nonsense",
            b"\xff\xfe",
            &good.as_bytes()[..good.len() - 1],
            format!("{good}x").as_bytes(),
            deep.as_bytes(),
        ] {
            refused(caller, &gateway, body, "");
        }
        assert_eq!(upstream.count(), 9, "only the good ones came through");
    }
}

/// Bodies of a dialect that are wrong, each beside a word of the member at fault.
fn wrong(caller: Caller) -> Vec<(Value, &'static str)> {
    let chat = |messages: Value| json!({"model": "alias", "messages": messages});
    let user = json!({"role": "user", "content": "x"});
    let input = |input: Value| json!({"model": "alias", "input": input});
    let contents = |contents: Value| json!({"contents": contents});
    let claude = |messages: Value| json!({"model": "alias", "max_tokens": 10, "messages": messages});
    let part = |part: Value| json!({"contents": [{"role": "user", "parts": [part]}]});
    match caller {
        Caller::Chat => vec![
            (json!({"model": "alias"}), "messages"),
            (chat(json!([])), "messages"),
            (chat(json!("x")), "messages"),
            (chat(json!([5])), "messages"),
            (chat(json!([{"content": "x"}])), "role"),
            (chat(json!([{"role": "wizard", "content": "x"}])), "role"),
            (chat(json!([{"role": "user", "content": 5}])), "content"),
            (chat(json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}])), "image_url"),
            (chat(json!([{"role": "user", "content": []}])), "content"),
            (chat(json!([{"role": "user", "content": ""}])), "messages"),
            (chat(json!([user, {"role": "tool", "content": "x"}])), "tool_call_id"),
            (json!({"model": "alias", "messages": [user], "temperature": "warm"}), "temperature"),
            (json!({"model": "alias", "messages": [user], "tools": "x"}), "tools"),
            (json!({"model": "alias", "messages": [user], "max_tokens": -1}), "max_tokens"),
            (json!({"model": 5, "messages": [user]}), "model"),
            (json!({"messages": [user]}), "model"),
        ],
        Caller::Completions => vec![
            (json!({"model": "alias", "prompt": {"a": 1}}), "prompt"),
            (json!({"model": "alias", "prompt": ""}), "prompt"),
            (json!({"model": "alias", "prompt": "x", "temperature": []}), "temperature"),
            (json!({"model": "alias", "prompt": "x", "max_tokens": "x"}), "max_tokens"),
            (json!({"prompt": "x"}), "model"),
        ],
        Caller::Responses => vec![
            (input(json!(5)), "input"),
            (input(json!([5])), "input"),
            (input(json!([{"role": "wizard", "content": "x"}])), "role"),
            (input(json!([{"role": "user", "content": 5}])), "content"),
            (input(json!("")), "input"),
            (input(json!([])), "input"),
            (input(json!([{"role": "user", "content": []}])), "content"),
            (input(json!([{"role": "user", "content": " "}])), "input"),
            (input(json!([{"type": "function_call_output", "output": "x"}])), "call_id"),
            (json!({"model": "alias", "input": "x", "tools": 5}), "tools"),
            (json!({"model": "alias", "input": "x", "stream": "yes"}), "stream"),
            (json!({"model": "alias", "input": "x", "max_output_tokens": 1.5}), "max_output_tokens"),
            (json!({"input": "x"}), "model"),
        ],
        Caller::Messages => vec![
            (json!({"model": "alias", "max_tokens": 10}), "messages"),
            (claude(json!([])), "messages"),
            (claude(json!("x")), "messages"),
            (claude(json!([{"role": "wizard", "content": "x"}])), "role"),
            (claude(json!([{"role": "user", "content": 5}])), "content"),
            (claude(json!([{"role": "user", "content": ""}])), "content"),
            (claude(json!([{"role": "user", "content": []}])), "content"),
            (claude(json!([{"role": "user", "content": [{"type": "text", "text": ""}]}])), "messages"),
            (
                claude(
                    json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": 5, "data": "x"}}]}]),
                ),
                "media_type",
            ),
            (
                claude(json!([user, {"role": "user", "content": [{"type": "tool_result", "content": "x"}]}])),
                "tool_use_id",
            ),
            (
                claude(
                    json!([user, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}]}]),
                ),
                "toolu_9",
            ),
            (json!({"model": "alias", "messages": [user]}), "max_tokens"),
            (json!({"model": "alias", "max_tokens": "x", "messages": [user]}), "max_tokens"),
            (json!({"model": "alias", "max_tokens": 10, "messages": [user], "system": 5}), "system"),
            (json!({"max_tokens": 10, "messages": [user]}), "model"),
        ],
        Caller::Gemini | Caller::Array => vec![
            (json!({}), "contents"),
            (contents(json!([])), "contents"),
            (contents(json!("x")), "contents"),
            (contents(json!([{"role": "wizard", "parts": [{"text": "x"}]}])), "role"),
            (contents(json!([{"role": "user", "parts": []}])), "parts"),
            (part(json!({})), "parts[0]"),
            (part(json!({"text": ""})), "contents"),
            (part(json!({"text": 5})), "text"),
            (part(json!({"inlineData": {"mimeType": 5, "data": "x"}})), "mimeType"),
            (part(json!({"inlineData": {"mimeType": "image/png"}})), "data"),
            (part(json!({"functionResponse": {"response": {}}})), "name"),
            (
                json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"temperature": "warm"}}),
                "temperature",
            ),
            (
                json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": "many"}}),
                "maxOutputTokens",
            ),
            (json!({"contents": [{"parts": [{"text": "x"}]}], "tools": "x"}), "tools"),
        ],
    }
}

#[track_caller]
fn wrong_is_refused(caller: Caller) {
    let (_upstream, gateway) = fixture(other(caller));
    for (body, names) in wrong(caller) {
        refused(caller, &gateway, body.to_string().as_bytes(), names);
    }
}

#[test]
fn chat_is_told_what_is_wrong() {
    wrong_is_refused(Caller::Chat);
}

#[test]
fn completions_is_told_what_is_wrong() {
    wrong_is_refused(Caller::Completions);
}

#[test]
fn responses_is_told_what_is_wrong() {
    wrong_is_refused(Caller::Responses);
}

#[test]
fn messages_is_told_what_is_wrong() {
    wrong_is_refused(Caller::Messages);
}

#[test]
fn gemini_is_told_what_is_wrong() {
    wrong_is_refused(Caller::Gemini);
}

/// Requests with a result of `call_9`: after nothing, and after another call.
fn stray(caller: Caller) -> Vec<Value> {
    let user = json!({"role": "user", "content": "x"});
    match caller {
        Caller::Chat => {
            let tool = json!({"role": "tool", "tool_call_id": "call_9", "content": "x"});
            let call = json!({"id": "call_8", "type": "function", "function": {"name": "f", "arguments": "{}"}});
            let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
            vec![
                json!({"model": "alias", "messages": [user, tool]}),
                json!({"model": "alias", "messages": [user, called, tool]}),
            ]
        }
        Caller::Responses => {
            let output = json!({"type": "function_call_output", "call_id": "call_9", "output": "x"});
            let call = json!({"type": "function_call", "call_id": "call_8", "name": "f", "arguments": "{}"});
            vec![
                json!({"model": "alias", "input": [user, output]}),
                json!({"model": "alias", "input": [user, call, output]}),
            ]
        }
        Caller::Messages => {
            let result =
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_9", "content": "x"}]});
            let call = json!({"type": "tool_use", "id": "call_8", "name": "f", "input": {}});
            let called = json!({"role": "assistant", "content": [call]});
            vec![
                json!({"model": "alias", "max_tokens": 9, "messages": [user, result]}),
                json!({"model": "alias", "max_tokens": 9, "messages": [user, called, result]}),
            ]
        }
        _ => {
            let asked = json!({"role": "user", "parts": [{"text": "x"}]});
            let answer = json!({"functionResponse": {"id": "call_9", "name": "f", "response": {}}});
            let result = json!({"role": "user", "parts": [answer]});
            let call = json!({"functionCall": {"id": "call_8", "name": "f", "args": {}}});
            let called = json!({"role": "model", "parts": [call]});
            vec![json!({"contents": [asked, result]}), json!({"contents": [asked, called, result]})]
        }
    }
}

#[test]
fn results_without_their_call_are_named() {
    for caller in [Caller::Chat, Caller::Responses, Caller::Messages, Caller::Gemini] {
        let (_upstream, gateway) = fixture(other(caller));
        for body in stray(caller) {
            refused(caller, &gateway, body.to_string().as_bytes(), "call_9");
        }
    }
}

#[test]
fn of_results_without_their_call_a_provider_of_the_callers_dialect_judges() {
    for (caller, voice) in
        [(Caller::Chat, Voice::Chat), (Caller::Responses, Voice::Responses), (Caller::Messages, Voice::Messages)]
    {
        let (_upstream, gateway) = fixture(voice);
        for body in stray(caller) {
            let got = caller.send(&gateway, &caller.path("alias", false), body.to_string());
            assert_eq!(caller.said(&got, false), "fine", "{caller:?}: {body}: {got}");
        }
    }
}

#[test]
fn media_that_a_provider_cannot_take_is_named() {
    // Never sent on as something else, and never dropped in silence.
    let data = "AAAA";
    for (caller, body) in [
        (
            Caller::Responses,
            json!({"model": "alias", "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": format!("data:image/tiff;base64,{data}")}]}]}),
        ),
        (
            Caller::Chat,
            json!({"model": "alias", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "x"}, {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]}]}),
        ),
        (
            Caller::Messages,
            json!({"model": "alias", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "x"}, {"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": data}}]}]}),
        ),
        (
            Caller::Gemini,
            json!({"contents": [{"parts": [
            {"text": "x"}, {"inlineData": {"mimeType": "video/mp4", "data": data}}]}]}),
        ),
    ] {
        for voice in [Voice::Messages, Voice::Bedrock, Voice::Cohere] {
            if caller == Caller::Messages && voice == Voice::Messages {
                continue;
            }
            let (_upstream, gateway) = fixture(voice);
            let got = caller.send(&gateway, &caller.path("alias", false), body.to_string());
            if got.status == 200 {
                let loss = got.header("x-portolan-loss");
                assert!(loss.is_some(), "{caller:?} to {voice:?}: lost in silence: {got}");
            } else {
                let message = caller.refusal(&got, 400);
                let part = if caller == Caller::Gemini { "parts[1]" } else { "content[1]" };
                assert!(message.contains(part) || got.text().contains(part), "{caller:?}: {got}");
            }
        }
    }
}

#[test]
fn keys_that_are_over_are_refused_in_every_shape() {
    let upstream = voices::upstream(Voice::Chat, "fine");
    let text = voices::config(&[("alias", Voice::Chat, &upstream, "")], "");
    let gateway = Gateway::start(&text.replace("id: main,", "id: main, expires: \"2020-01-01T00:00:00Z\","));
    for caller in CALLERS {
        for stream in [false, true] {
            caller.refusal(&caller.ask(&gateway, "alias", "x", stream), 401);
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_expired_at_the_provider_is_no_fault_of_the_callers() {
    let aws = Reply::json(403, json!({"message": "The security token included in the request is expired"}).to_string())
        .header("x-amzn-errortype", "ExpiredTokenException:http://internal.amazon.com/coral/");
    let google = json!({"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "The access token expired."}});
    for (voice, reply) in [(Voice::Bedrock, aws), (Voice::Gemini, Reply::json(401, google.to_string()))] {
        let (one, two) = (Upstream::always(reply), voices::upstream(voice, "rescue"));
        let rows = [("alias", voice, &one, ""), ("backup", voice, &two, "")];
        let gateway = Gateway::start(&voices::config(&rows, "retry: { tries: 1, failures: 1000 }\n"));
        for caller in CALLERS {
            caller.refusal(&caller.ask(&gateway, "alias", "x", false), 502);
            let mut body = caller.body("alias", "x", true);
            body["fallback"] = json!(["backup"]);
            let got = caller.send(&gateway, &caller.path("alias", true), body.to_string());
            assert_eq!(caller.said(&got, true), "rescue", "{caller:?} to {voice:?}: {got}");
        }
    }
}

#[test]
fn models_and_paths_that_are_not_there() {
    let (upstream, gateway) = fixture(Voice::Chat);
    for caller in CALLERS {
        let message = caller.refusal(&caller.ask(&gateway, "no-such-model", "x", false), 404);
        assert!(message.contains("no-such-model"), "{caller:?}: {message}");
        caller.refusal(&caller.ask(&gateway, "no-such-model", "x", true), 404);
        let headers = caller.headers(SECRET);
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("connection", "close"));
        let got = client::get(gateway.data, &caller.path("alias", true), &headers);
        // `GET /v1beta/models/alias:generateContent` is a model of an odd name.
        if !matches!(caller, Caller::Gemini | Caller::Array) {
            caller.refusal(&got, 405);
            assert_eq!(got.header("allow"), Some("POST"), "{got}");
        }
    }
    for (caller, path) in [
        (Caller::Chat, "/v1/chat/nothing"),
        (Caller::Responses, "/v1/responses/a/b/c"),
        (Caller::Messages, "/v1/messages/batches"),
        (Caller::Messages, "/v1/nothing"),
        (Caller::Gemini, "/v1beta/models/alias:dance"),
        (Caller::Gemini, "/v1beta/nothing"),
    ] {
        let got = caller.send(&gateway, path, "{}");
        assert!(matches!(got.status, 404 | 405), "{path}: {got}");
        caller.refusal(&got, got.status);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn every_sdks_credential_is_known_and_a_bad_one_refused_in_its_shape() {
    let (upstream, gateway) = fixture(Voice::Chat);
    for caller in CALLERS {
        let path = caller.path("alias", false);
        let body = caller.body("alias", "x", false).to_string();
        let versioned = (caller == Caller::Messages).then_some(("anthropic-version", "2023-06-01"));
        let bearer = |secret: &str| format!("Bearer {secret}");
        for (secret, status) in [(SECRET, 200), (OTHER_SECRET, 403), ("pk-nonsense", 401), ("", 401)] {
            let bearer = bearer(secret);
            for header in [
                ("authorization", bearer.as_str()),
                ("x-api-key", secret),
                ("x-goog-api-key", secret),
                ("api-key", secret),
                ("?key=", secret),
            ] {
                let what = format!("{caller:?}, {header:?}");
                let (path, mut headers) = match header {
                    ("?key=", secret) => (format!("{path}?key={secret}"), vec![]),
                    header => (path.clone(), vec![header]),
                };
                headers.extend(versioned);
                let got = client::post(gateway.data, &path, &headers, &body);
                if status == 200 {
                    assert_eq!(caller.said(&got, false), "fine", "{what}: {got}");
                } else {
                    caller.refusal(&got, status);
                }
                assert!(secret.is_empty() || !got.text().contains(secret), "{what}: {got}");
            }
        }
        let headers: Vec<_> = versioned.into_iter().collect();
        caller.refusal(&client::post(gateway.data, &path, &headers, &body), 401);
    }
    let asked = upstream.attempts();
    assert_eq!(asked.len(), 5 * CALLERS.len());
    assert!(asked.iter().all(|attempt| !attempt.path.contains("key=")), "a caller's key went on");
    assert!(!gateway.logs().contains(SECRET), "a caller's key is in the log");
}

#[test]
fn a_gemini_error_has_one_status() {
    for status in [400, 404, 429, 500, 503] {
        let upstream = Upstream::start(move |_| {
            Reply::json(status, json!({"type": "error", "error": {"type": "api_error", "message": "no"}}).to_string())
        });
        let row = [("alias", Voice::Messages, &upstream, "")];
        let gateway = Gateway::start(&voices::config(&row, "retry: { tries: 1 }\n"));
        let got = Caller::Gemini.ask(&gateway, "alias", "x", false);
        assert!(got.status >= 400, "{got}");
        assert_eq!(got.json()["error"]["code"], got.status, "{got}");
    }
}
