//! Answers that are kept for their callers to go on from, with any provider.

use std::time::Duration;

use serde_json::{Value, json};

use super::callers::Caller;
use super::client::{self, Connection, Response};
use super::gateway::{Gateway, OTHER_SECRET, SECRET};
use super::upstream::{Reply, Step, Upstream};
use super::voices::{self, VOICES, Voice};

/// Asks for a response as the caller `main`.
#[track_caller]
fn ask(gateway: &Gateway, body: &Value) -> Response {
    Caller::Responses.send(gateway, "/v1/responses", body.to_string())
}

#[track_caller]
fn call(gateway: &Gateway, method: &str, path: &str, secret: &str) -> Response {
    let bearer = format!("Bearer {secret}");
    let headers = [("authorization", bearer.as_str()), ("connection", "close")];
    Connection::open(gateway.data).exchange(&client::request(method, path, &headers, b""))
}

#[track_caller]
fn id_of(got: &Response) -> String {
    assert_eq!(got.status, 200, "{got}");
    let id = got.json()["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("resp_"), "{got}");
    id
}

fn fixture(more: &str) -> (Upstream, Gateway) {
    let upstream = voices::upstream(Voice::Messages, "fine");
    let rows = [("open-alias", Voice::Messages, &upstream, "")];
    let gateway = Gateway::start(&voices::config(&rows, more));
    (upstream, gateway)
}

#[test]
fn a_conversation_goes_on_with_any_provider() {
    let upstreams: Vec<_> = VOICES.map(|voice| (voice, voices::upstream(voice, "the answer"))).into();
    let rows: Vec<_> = upstreams.iter().map(|(voice, upstream)| (voice.name(), *voice, upstream, "")).collect();
    let gateway = Gateway::start(&voices::config(&rows, ""));
    for (from, _) in &upstreams {
        for stream in [false, true] {
            let body = json!({"model": from.name(), "input": "my first question", "stream": stream});
            let got = ask(&gateway, &body);
            assert_eq!(Caller::Responses.said(&got, stream), "the answer", "{got}");
            let first =
                if stream { Caller::Responses.events(&got).pop().unwrap()["response"].clone() } else { got.json() };
            for (to, upstream) in &upstreams {
                let what = format!("from {from:?} to {to:?}, stream: {stream}");
                let input = json!([{"role": "user", "content": [{"type": "input_text", "text": "and then?"}]}]);
                let body =
                    json!({"model": to.name(), "previous_response_id": first["id"], "input": input, "stream": stream});
                let got = ask(&gateway, &body);
                assert_eq!(Caller::Responses.said(&got, stream), "the answer", "{what}: {got}");
                let asked = upstream.attempts().pop().unwrap();
                let places: Vec<_> = ["my first question", "the answer", "and then?"]
                    .map(|text| asked.text().find(text).unwrap_or_else(|| panic!("{what}: {}", asked.text())))
                    .into();
                assert!(places.is_sorted(), "{what}: {}", asked.text());
                assert!(!asked.text().contains("previous_response_id"), "{what}: {}", asked.text());
                let told = match stream {
                    false => vec![got.json()],
                    true => Caller::Responses.events(&got).iter().map(|event| event["response"].clone()).collect(),
                };
                for told in told.iter().filter(|told| told.is_object()) {
                    let (previous, store) = (&told["previous_response_id"], &told["store"]);
                    assert_eq!((previous, store), (&first["id"], &json!(true)), "{what}: {got}");
                }
            }
        }
    }
}

#[test]
fn three_turns_are_said_in_order() {
    let (upstream, gateway) = fixture("");
    let mut previous = Value::Null;
    for turn in ["first", "second", "third"] {
        let got = ask(&gateway, &json!({"model": "open-alias", "input": turn, "previous_response_id": previous}));
        previous = id_of(&got).into();
    }
    let body = upstream.attempts()[2].json();
    let said: Vec<_> = body["messages"].as_array().unwrap().iter().map(|message| message.to_string()).collect();
    assert_eq!(said.len(), 5, "{body}");
    for (message, text) in said.iter().zip(["first", "fine", "second", "fine", "third"]) {
        assert!(message.contains(text), "{body}");
    }
}

#[test]
fn a_result_finds_its_call_in_what_is_kept() {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let mut answer = Voice::Chat.answer("");
    answer["choices"][0]["message"] = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    answer["choices"][0]["finish_reason"] = "tool_calls".into();
    let upstream = Upstream::always(Reply::json(200, answer.to_string()));
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Chat, &upstream, "")], ""));
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]);
    let first = ask(&gateway, &json!({"model": "alias", "input": "x", "tools": tools}));
    let next = |id: &str| {
        let output = json!([{"type": "function_call_output", "call_id": id, "output": "y"}]);
        ask(
            &gateway,
            &json!({"model": "alias", "previous_response_id": id_of(&first), "input": output, "tools": tools}),
        )
    };
    id_of(&next("call_1"));
    let asked = upstream.attempts()[1].json();
    assert_eq!(asked["messages"][2]["tool_call_id"], "call_1", "{asked}");
    let message = Caller::Responses.refusal(&next("call_2"), 400);
    assert!(message.contains("call_2"), "{message}");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn what_is_kept_can_be_seen_and_deleted() {
    let (_upstream, gateway) = fixture("");
    let made = ask(
        &gateway,
        &json!({"model": "open-alias", "input": [
        {"role": "user", "content": "one"}, {"type": "message", "role": "user", "content": "two"}]}),
    );
    let path = format!("/v1/responses/{}", id_of(&made));
    let shown = call(&gateway, "GET", &path, SECRET);
    assert_eq!((shown.status, shown.json()), (200, made.json()), "{shown}");

    let items = call(&gateway, "GET", &format!("{path}/input_items"), SECRET).json();
    assert_eq!((&items["object"], &items["has_more"]), (&json!("list"), &json!(false)), "{items}");
    let texts: Vec<_> =
        items["data"].as_array().unwrap().iter().map(|item| item["content"][0]["text"].clone()).collect();
    assert_eq!(texts, ["two", "one"], "newest first: {items}");
    assert!(items["data"].as_array().unwrap().iter().all(|item| item["id"].is_string()), "{items}");
    assert_eq!(items["first_id"], items["data"][0]["id"]);

    let message = Caller::Responses.refusal(&call(&gateway, "POST", &format!("{path}/cancel"), SECRET), 400);
    assert!(message.contains("background"), "{message}");

    let gone = call(&gateway, "DELETE", &path, SECRET).json();
    assert_eq!(gone, json!({"id": made.json()["id"], "object": "response", "deleted": true}));
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("GET", format!("{path}/input_items")),
        ("POST", format!("{path}/cancel")),
    ] {
        Caller::Responses.refusal(&call(&gateway, method, &path, SECRET), 404);
    }
    let got = ask(&gateway, &json!({"model": "open-alias", "input": "x", "previous_response_id": made.json()["id"]}));
    let error = got.refusal(400);
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("previous_response_id"), &json!("previous_response_not_found"))
    );
}

#[test]
fn another_keys_answers_are_not_there() {
    let (upstream, gateway) = fixture("");
    let id = id_of(&ask(&gateway, &json!({"model": "open-alias", "input": "a secret"})));
    for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")] {
        let got = call(&gateway, method, &format!("/v1/responses/{id}{path}"), OTHER_SECRET);
        Caller::Responses.refusal(&got, 404);
        assert!(!got.text().contains("a secret"), "{got}");
    }
    let body = json!({"model": "open-alias", "input": "x", "previous_response_id": id}).to_string();
    let bearer = format!("Bearer {OTHER_SECRET}");
    let got = client::post(gateway.data, "/v1/responses", &[("authorization", &bearer)], &body);
    assert_eq!(got.refusal(400)["code"], "previous_response_not_found", "{got}");
    assert_eq!(upstream.count(), 1);
    // Its owner has it still.
    assert_eq!(call(&gateway, "GET", &format!("/v1/responses/{id}"), SECRET).status, 200);
    // Nobody has it without a key.
    assert_eq!(client::get(gateway.data, &format!("/v1/responses/{id}"), &[("connection", "close")]).status, 401);
}

#[test]
fn what_is_not_to_be_kept_is_not() {
    for (more, store) in [("", json!(false)), ("response: { keep_responses: 0s }\n", json!(true))] {
        let (_upstream, gateway) = fixture(more);
        for stream in [false, true] {
            let body = json!({"model": "open-alias", "input": "x", "store": store, "stream": stream});
            let got = ask(&gateway, &body);
            let whole =
                if stream { Caller::Responses.events(&got).pop().unwrap()["response"].clone() } else { got.json() };
            let id = whole["id"].as_str().unwrap();
            Caller::Responses.refusal(&call(&gateway, "GET", &format!("/v1/responses/{id}"), SECRET), 404);
        }
    }
}

#[test]
fn a_failed_or_broken_answer_is_not_kept() {
    let voice = Voice::Messages;
    let upstream = Upstream::start(move |_| {
        let (before, words, _) = voice.frames(&["half "]);
        let pieces = before.into_iter().chain(words).map(Step::Bytes);
        voice.steps(pieces.chain([Step::Sleep(50), Step::Close]).collect())
    });
    let gateway = Gateway::start(&voices::config(&[("alias", voice, &upstream, "")], ""));
    let got = ask(&gateway, &json!({"model": "alias", "input": "x", "stream": true}));
    Caller::Responses.last_error(&got);
    let id = Caller::Responses.events(&got)[0]["response"]["id"].as_str().unwrap().to_owned();
    Caller::Responses.refusal(&call(&gateway, "GET", &format!("/v1/responses/{id}"), SECRET), 404);
}

#[test]
fn what_is_kept_outlives_the_process() {
    let (upstream, mut gateway) = fixture("");
    let orderly = id_of(&ask(&gateway, &json!({"model": "open-alias", "input": "before the stop"})));
    assert!(gateway.stop(Duration::from_secs(5)).success());
    gateway.start_again();
    let got = ask(&gateway, &json!({"model": "open-alias", "input": "x", "previous_response_id": orderly}));
    let second = id_of(&got);
    assert!(upstream.attempts()[1].text().contains("before the stop"));
    // Told to the caller, and so kept: a moment is needed to write it, none to answer from it.
    assert_eq!(call(&gateway, "GET", &format!("/v1/responses/{second}"), SECRET).json(), got.json());
    std::thread::sleep(Duration::from_secs(1));
    gateway.kill9();
    gateway.start_again();
    for id in [orderly, second] {
        assert_eq!(call(&gateway, "GET", &format!("/v1/responses/{id}"), SECRET).status, 200, "{id}");
    }
}

#[test]
fn an_answer_can_be_gone_on_from_at_once() {
    let (_upstream, gateway) = fixture("");
    for n in 0..30 {
        let stream = n % 2 == 1;
        let got = ask(&gateway, &json!({"model": "open-alias", "input": "x", "stream": stream}));
        let whole = if stream { Caller::Responses.events(&got).pop().unwrap()["response"].clone() } else { got.json() };
        let next = ask(&gateway, &json!({"model": "open-alias", "input": "y", "previous_response_id": whole["id"]}));
        assert_eq!(next.status, 200, "{n}: {next}");
    }
}

#[test]
fn what_is_not_offered_is_refused_by_name() {
    let (upstream, gateway) = fixture("");
    for (member, value) in [
        ("background", json!(true)),
        ("conversation", json!("conv_1")),
        ("conversation", json!({"id": "conv_1"})),
        ("background", json!("yes")),
        ("store", json!(1)),
        ("previous_response_id", json!(5)),
        ("previous_response_id", json!("resp_nonsense")),
        ("previous_response_id", json!("")),
        ("previous_response_id", json!("../../etc/passwd")),
        ("previous_response_id", json!("x".repeat(100_000))),
    ] {
        let mut body = json!({"model": "open-alias", "input": "x"});
        body[member] = value.clone();
        let got = ask(&gateway, &body);
        let error = got.refusal(400);
        assert_eq!(error["param"], member, "{got}");
        assert!(got.body.len() < 2_000, "{got}");
    }
    assert_eq!(upstream.count(), 0);
    let got = ask(&gateway, &json!({"model": "open-alias", "input": "x", "background": false, "conversation": null}));
    assert_eq!(got.status, 200, "{got}");
}

#[test]
fn a_conversation_may_be_too_long() {
    let (upstream, gateway) = fixture("limits: { body_bytes: 40KiB }\n");
    let mut previous = Value::Null;
    let mut refused = None;
    for _ in 0..4 {
        let body = json!({"model": "open-alias", "input": "x".repeat(15_000), "previous_response_id": previous});
        let got = ask(&gateway, &body);
        if got.status != 200 {
            refused = Some(got);
            break;
        }
        previous = id_of(&got).into();
    }
    let got = refused.expect("60 KB of conversation in a body of 40 KiB");
    Caller::Responses.refusal(&got, 413);
    assert_eq!(upstream.count(), 2);
}
