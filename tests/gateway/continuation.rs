//! A stream that breaks after content goes on at another target, where that is wanted: one stream for the caller, whatever
//! dialects are behind it, and one row in the ledger for each attempt.

use serde_json::{Value, json};

use super::answers::{self, frame, role_frame, word_frame};
use super::client::{self, Response};
use super::gateway::{Gateway, SECRET, ask, keys, provider};
use super::upstream::{Reply, Step, Upstream};

const MORE: &str = "retry: { tries: 1, pause: 10ms, max_pause: 50ms, failures: 1000 }\n\
    timeouts: { connect: 1s, first_byte: 900ms, idle: 500ms, total: 15s }\n";

/// A provider that says these words and then does that.
fn breaking(words: &[&str], end: Vec<Step>) -> Upstream {
    let frames = std::iter::once(role_frame()).chain(words.iter().map(|word| word_frame(word)));
    // What breaks at once has not left the gateway, and is begun anew.
    let steps = frames.map(|frame| Step::Bytes(frame.into_bytes())).chain([Step::Sleep(80)]);
    let steps: Vec<_> = steps.chain(end).collect();
    Upstream::always(Reply::stream(steps))
}

/// A provider that goes on with these words.
fn going_on(words: &'static [&'static str]) -> Upstream {
    Upstream::start(|attempt| {
        let frames = answers::stream_frames(words, attempt.json()["stream_options"]["include_usage"] == true);
        let frames: Vec<_> = frames.iter().map(|frame| frame.replace("chatcmpl-1", "chatcmpl-2")).collect();
        answers::stream(&frames, 0)
    })
}

/// `alias` at the first, and after it each of the others; what is written of the model beside.
fn gateway(upstreams: &[&Upstream], written: &str) -> Gateway {
    let rows: String = upstreams.iter().enumerate().map(|(n, up)| provider(&format!("p{n}"), &up.v1())).collect();
    let targets: Vec<_> = (0..upstreams.len()).map(|n| format!("{{ provider: p{n} }}")).collect();
    Gateway::start(&format!(
        "providers:\n{rows}models:\n  alias: {{ strategy: priority, targets: [{}]{written} }}\n{}{MORE}",
        targets.join(", "),
        keys()
    ))
}

const ON: &str = ", retry: { continuation: true }";

fn stream(more: &Value) -> Value {
    let mut body = ask("alias", "Say it.");
    body["stream"] = json!(true);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn events(got: &Response) -> Vec<Value> {
    let lines = got.text().lines().filter_map(|line| line.strip_prefix("data:"));
    lines.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
}

fn said(got: &Response) -> String {
    events(got).iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

fn post(gateway: &Gateway, path: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {SECRET}");
    client::post(gateway.data, path, &[("authorization", &bearer)], body.to_string())
}

#[track_caller]
fn counted(gateway: &Gateway, result: &str, count: f64) {
    let metrics = client::get(gateway.admin, "/metrics", &[("connection", "close")]);
    let name = format!("portolan_continuations_total{{model=\"alias\",result=\"{result}\"}}");
    let found = metrics.text().lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok());
    assert_eq!(found, Some(count), "{result}: {}", metrics.text());
}

/// The ways in which a stream breaks.
fn breaks() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("closed", vec![Step::Close]),
        ("reset", vec![Step::Sleep(30), Step::Reset]),
        ("silent", vec![Step::Hang]),
        ("ended without its mark", vec![]),
        ("an error event", vec![Step::Bytes(answers::error_frame().into_bytes())]),
        ("garbage", vec![Step::Bytes(b"data: {\"choices\n\n".to_vec())]),
        (
            "half an event",
            vec![Step::Bytes(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"con".to_vec()), Step::Close],
        ),
    ]
}

#[test]
fn a_broken_stream_goes_on_elsewhere_as_one() {
    for (what, end) in breaks() {
        let (one, two) = (breaking(&["The quick ", "bro"], end), going_on(&["wn", " fox", "."]));
        let gateway = gateway(&[&one, &two], ON);
        let got = gateway.chat(&stream(&json!({"stream_options": {"include_usage": true}})));
        assert_eq!((got.status, said(&got).as_str()), (200, "The quick brown fox."), "{what}: {got}");
        assert!(got.whole && got.text().ends_with("data: [DONE]\n\n"), "{what}: {got}");
        assert_eq!(got.text().matches("[DONE]").count(), 1, "{what}: {got}");
        assert_eq!(got.text().matches(": portolan continued at p1/alias\n\n").count(), 1, "{what}: {got}");
        let events = events(&got);
        assert!(events.iter().all(|event| event["id"] == "chatcmpl-1"), "{what}: {got}");
        let roles = events.iter().filter(|event| !event["choices"][0]["delta"]["role"].is_null()).count();
        let ends = events.iter().filter(|event| !event["choices"][0]["finish_reason"].is_null()).count();
        assert_eq!((roles, ends), (1, 1), "{what}: {got}");
        // The request that goes on has what was said, and is told what to do with it.
        let request = two.only().json();
        let messages = request["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 3, "{request}");
        assert_eq!((&messages[1]["role"], &messages[1]["content"]), (&json!("assistant"), &json!("The quick bro")));
        assert_eq!(messages[2]["role"], "user", "{request}");
        // Both attempts are metered, the first by estimate, and the caller sees the sum.
        let total = gateway.settled(2);
        let usage = events.iter().find(|event| event["usage"].is_object()).unwrap();
        assert_eq!(usage["usage"]["prompt_tokens"], total["input_tokens"], "{what}: {usage} {total}");
        assert_eq!(usage["usage"]["completion_tokens"], total["output_tokens"], "{what}: {usage} {total}");
        counted(&gateway, "ok", 1.0);
    }
}

#[test]
fn without_being_asked_for_it_the_break_is_told() {
    let (one, two) = (breaking(&["The quick "], vec![Step::Close]), going_on(&["brown"]));
    for (written, more) in [("", json!({})), (ON, json!({"continuation": false}))] {
        let gateway = gateway(&[&one, &two], written);
        let got = gateway.chat(&stream(&more));
        assert_eq!(said(&got), "The quick ", "{got}");
        assert!(events(&got).iter().any(|event| event["error"].is_object()), "{got}");
        assert!(!got.text().contains("[DONE]"), "{got}");
    }
    assert_eq!(two.count(), 0);
    let gateway = gateway(&[&one, &two], "");
    let got = gateway.chat(&stream(&json!({"continuation": true})));
    assert_eq!(said(&got), "The quick brown", "a request may ask for it: {got}");
    let body = stream(&json!({})).to_string();
    let got = gateway.chat_with(&[("x-portolan-continuation", "true")], body);
    assert_eq!(said(&got), "The quick brown", "{got}");
    assert!(two.attempts().iter().all(|attempt| attempt.json().get("continuation").is_none()));
}

#[test]
fn what_the_model_repeats_is_left_out() {
    let one = breaking(&["Grüße aus ", "Köln 🙂"], vec![Step::Close]);
    let two = going_on(&["Grüße", " aus Kö", "ln 🙂", " und Bonn"]);
    let gateway = gateway(&[&one, &two], ON);
    assert_eq!(said(&gateway.chat(&stream(&json!({})))), "Grüße aus Köln 🙂 und Bonn");
}

#[test]
fn a_continuation_that_fails_or_breaks_goes_on_too() {
    let one = breaking(&["One"], vec![Step::Close]);
    let two = Upstream::always(answers::error(503, "no"));
    let three = breaking(&[" two"], vec![Step::Hang]);
    let four = going_on(&[" three"]);
    let gateway = gateway(&[&one, &two, &three, &four], ON);
    let got = gateway.chat(&stream(&json!({})));
    assert_eq!(said(&got), "One two three", "{got}");
    assert!(got.text().ends_with("data: [DONE]\n\n"), "{got}");
    gateway.settled(4);
    counted(&gateway, "ok", 1.0);
}

#[test]
fn where_nothing_goes_on_the_break_is_told() {
    let failing: [fn() -> Upstream; 4] = [
        || Upstream::always(answers::error(503, "full up")),
        || Upstream::always(answers::error(400, "odd")),
        || Upstream::always(Reply::instead(Step::Close)),
        || Upstream::always(Reply::instead(Step::Hang)),
    ];
    for failing in failing {
        let (one, two) = (breaking(&["One"], vec![Step::Close]), failing());
        let gateway = gateway(&[&one, &two], ON);
        let got = gateway.chat(&stream(&json!({})));
        assert_eq!((got.status, said(&got).as_str(), two.count()), (200, "One", 1), "{got}");
        let errors = events(&got).iter().filter(|event| event["error"].is_object()).count();
        assert!(errors == 1 && !got.text().contains("[DONE]"), "{got}");
        counted(&gateway, "failed", 1.0);
    }
}

#[test]
fn what_is_no_plain_text_is_not_gone_on_with() {
    let call = json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a"}}]});
    let chunk = |delta: &Value| {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "real",
            "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
        Step::Bytes(frame(&chunk.to_string()).into_bytes())
    };
    let thought = json!({"reasoning_content": "Hm"});
    let format = json!({"response_format": {"type": "json_object"}});
    for (first, more) in [
        (vec![chunk(&call), Step::Sleep(80), Step::Close], json!({})),
        (vec![chunk(&thought), Step::Sleep(80), Step::Close], json!({})),
        (vec![Step::Bytes(word_frame("{\"a\"").into_bytes()), Step::Sleep(80), Step::Close], format),
    ] {
        let (one, two) = (Upstream::always(Reply::stream(first)), going_on(&["x"]));
        let gateway = gateway(&[&one, &two], ON);
        let got = gateway.chat(&stream(&more));
        assert_eq!(two.count(), 0, "{got}");
        assert!(events(&got).iter().any(|event| event["error"].is_object()), "{got}");
        counted(&gateway, "impossible", 1.0);
    }
}

#[test]
fn what_breaks_before_it_left_is_begun_anew() {
    let steps = [role_frame(), word_frame("The quick "), answers::error_frame()].concat();
    let (one, two) = (Upstream::always(Reply::stream(vec![Step::Bytes(steps.into_bytes())])), going_on(&["The brown"]));
    let gateway = gateway(&[&one, &two], ON);
    let got = gateway.chat(&stream(&json!({})));
    assert_eq!((said(&got).as_str(), got.header("x-portolan-attempts")), ("The brown", Some("2")), "{got}");
    assert!(!got.text().contains("continued") && got.text().ends_with("[DONE]\n\n"), "{got}");
    // And where there is nothing else, the failure is an error like any other.
    let gateway = gateway_of_one(&one);
    gateway.chat(&stream(&json!({}))).refusal(502);
}

fn gateway_of_one(upstream: &Upstream) -> Gateway {
    gateway(&[upstream], ON)
}

#[test]
fn a_continuation_stays_in_the_regions_of_its_call() {
    let (one, two) = (breaking(&["One"], vec![Step::Close]), going_on(&[" two"]));
    let rows = format!("{}{}", provider("p0", &one.v1()), provider("p1", &two.v1()));
    let rows = rows.replace("p0: {", "p0: { region: eu,").replace("p1: {", "p1: { region: us,");
    let gateway = Gateway::start(&format!(
        "providers:\n{rows}models:\n  alias: {{ strategy: priority, targets: [{{ provider: p0 }}, {{ provider: p1 }}]{ON} }}\n{}{MORE}",
        keys()
    ));
    let got = gateway.chat(&stream(&json!({"region": ["eu"]})));
    assert_eq!((said(&got).as_str(), two.count()), ("One", 0), "{got}");
}

#[test]
fn callers_of_other_dialects_get_one_stream_too() {
    let (one, two) = (breaking(&["The quick ", "bro"], vec![Step::Close]), going_on(&["wn", " fox"]));
    let gateway = gateway(&[&one, &two], ON);
    let text = |got: &Response, pointer: &str| -> String {
        events(got).iter().filter_map(|event| event.pointer(pointer)?.as_str().map(str::to_owned)).collect()
    };

    let body =
        json!({"model": "alias", "max_tokens": 99, "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let got = post(&gateway, "/v1/messages", &body);
    assert_eq!(text(&got, "/delta/text"), "The quick brown fox", "{got}");
    let kinds: Vec<_> =
        events(&got).iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect();
    for kind in ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"] {
        assert_eq!(kinds.iter().filter(|other| *other == kind).count(), 1, "{kind}: {got}");
    }

    let body = json!({"model": "alias", "stream": true, "input": "x"});
    let got = post(&gateway, "/v1/responses", &body);
    assert_eq!(events(&got).last().unwrap()["type"], "response.completed", "{got}");
    let whole = events(&got).last().unwrap().pointer("/response/output/0/content/0/text").cloned();
    assert_eq!(whole, Some(json!("The quick brown fox")), "{got}");
    let numbers: Vec<_> = events(&got).iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");

    let body = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    let got = post(&gateway, "/v1beta/models/alias:streamGenerateContent?alt=sse", &body);
    assert_eq!(text(&got, "/candidates/0/content/parts/0/text"), "The quick brown fox", "{got}");
    let got = post(&gateway, "/v1beta/models/alias:streamGenerateContent", &body);
    let list: Vec<Value> = serde_json::from_str(got.text()).unwrap();
    let all: String =
        list.iter().filter_map(|chunk| chunk.pointer("/candidates/0/content/parts/0/text")?.as_str()).collect();
    assert_eq!(all, "The quick brown fox", "{got}");

    let got = post(&gateway, "/v1/completions", &json!({"model": "alias", "stream": true, "prompt": "x"}));
    assert_eq!(text(&got, "/choices/0/text"), "The quick brown fox", "{got}");
}

/// Frames of Anthropic's dialect.
fn anthropic(events: &[Value]) -> Vec<u8> {
    let frames = events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    frames.collect::<String>().into_bytes()
}

#[test]
fn a_passed_through_stream_goes_on_translated() {
    let begun = anthropic(&[
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "c",
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 9, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The quick "}}),
    ]);
    let rest = anthropic(&[
        json!({"type": "message_start", "message": {"id": "msg_2", "type": "message", "role": "assistant", "model": "c",
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 12, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " brown"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]);
    let one = Upstream::always(Reply::stream(vec![Step::Bytes(begun), Step::Sleep(80), Step::Reset]));
    let two = Upstream::always(Reply::stream(vec![Step::Bytes(rest)]));
    let row = |name: &str, upstream: &Upstream| {
        format!("  {name}: {{ dialect: anthropic, base_url: \"http://{}\", api_key: k }}\n", upstream.addr)
    };
    for (model, prefilled) in [("claude-3-5-haiku-latest", true), ("claude-opus-4-7", false)] {
        let gateway = Gateway::start(&format!(
            "providers:\n{}{}models:\n  alias: {{ strategy: priority, targets: [{{ provider: a, model: {model} }}, {{ provider: b, model: {model} }}]{ON} }}\n{}{MORE}",
            row("a", &one),
            row("b", &two),
            keys()
        ));
        let body =
            json!({"model": "alias", "max_tokens": 99, "stream": true, "messages": [{"role": "user", "content": "x"}]});
        let got = post(&gateway, "/v1/messages", &body);
        let events = events(&got);
        let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        assert_eq!(text, "The quick brown", "the white space comes once: {got}");
        assert_eq!(events.iter().filter(|event| event["type"] == "message_start").count(), 1, "{got}");
        assert!(events.iter().all(|event| event.get("index").is_none_or(|index| index == 0)), "{got}");
        assert_eq!(events.last().unwrap()["type"], "message_stop", "{got}");
        let end = events.iter().find(|event| event["type"] == "message_delta").unwrap();
        assert_eq!(end["usage"]["output_tokens"], 6, "{got}");
        // The model is given the beginning of its answer where it takes that, without the white space that it refuses.
        let request = two.attempts().last().unwrap().json();
        let last = request["messages"].as_array().unwrap().last().unwrap();
        assert_eq!(last["role"] == "assistant", prefilled, "{request}");
        if prefilled {
            assert!(last.to_string().contains("The quick\""), "{request}");
        }
    }
}

#[test]
fn a_marked_beginning_is_said_again_by_the_provider_and_told_once() {
    let (one, two) = (breaking(&["The quick "], vec![Step::Close]), going_on(&["The quick ", "brown"]));
    let rows = format!("{}{}", provider("p0", &one.v1()), provider("p1", &two.v1()));
    let rows = rows.replace("p1: {", "p1: { quirks: { prefill: prefix },");
    let gateway = Gateway::start(&format!(
        "providers:\n{rows}models:\n  alias: {{ strategy: priority, targets: [{{ provider: p0 }}, {{ provider: p1 }}]{ON} }}\n{}{MORE}",
        keys()
    ));
    let got = gateway.chat(&stream(&json!({})));
    assert_eq!(said(&got), "The quick brown", "{got}");
    let request = two.only().json();
    let last = request["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(last, &json!({"role": "assistant", "content": "The quick ", "prefix": true}), "{request}");
}
