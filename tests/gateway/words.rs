//! Losses and refusals name what the caller wrote, in the caller's own words.

use serde_json::{Value, json};

use super::callers::Caller;
use super::client::{self, Response};
use super::gateway::Gateway;
use super::upstream::{Reply, Upstream};
use super::voices::{self, Voice};

#[track_caller]
fn send(gateway: &Gateway, caller: Caller, body: &Value) -> Response {
    caller.send(gateway, &caller.path("alias", false), body.to_string())
}

#[test]
fn losses_are_told_in_the_callers_words() {
    let upstream = voices::upstream(Voice::Cohere, "fine");
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Cohere, &upstream, "")], ""));
    for (caller, mut body, lost) in [
        (
            Caller::Messages,
            json!({"model": "alias", "max_tokens": 9,
                "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
                "messages": [{"role": "user", "content": [
                    {"type": "text", "text": "x"}, {"type": "text", "text": "y", "cache_control": {"type": "ephemeral"}}]}]}),
            "dropped:system[0].cache_control, dropped:messages[0].content[1].cache_control",
        ),
        (
            Caller::Gemini,
            json!({"systemInstruction": {"parts": [{"text": "a"}]},
                "contents": [{"role": "user", "parts": [{"text": "x"}]}, {"role": "model", "parts": [
                    {"text": "o", "thought": true, "thoughtSignature": "AAAA"}, {"text": "k"}]},
                    {"role": "user", "parts": [{"text": "y"}]}],
                "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "seed": -1}}),
            "dropped:contents[1].parts[0], dropped:generationConfig.seed, dropped:generationConfig.responseModalities",
        ),
        (
            Caller::Responses,
            json!({"model": "alias", "truncation": "auto", "parallel_tool_calls": false,
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"},
                    {"role": "assistant", "content": "k"}, {"role": "user", "content": "y"}]}),
            "dropped:input[1], dropped:parallel_tool_calls, dropped:truncation",
        ),
    ] {
        let got = send(&gateway, caller, &body);
        assert_eq!((got.status, got.header("x-portolan-loss")), (200, Some(lost)), "{caller:?}: {got}");
        body["strict"] = true.into();
        let message = caller.refusal(&send(&gateway, caller, &body), 400);
        assert!(message.contains(lost), "{caller:?}: {message}");
    }
    let metrics = client::get(gateway.admin, "/metrics", &[("connection", "close")]);
    let metrics = metrics.text();
    for (client, field) in [
        ("anthropic", "messages[].content[].cache_control"),
        ("gemini", "contents[].parts[]"),
        ("openai_responses", "truncation"),
    ] {
        let line = format!(
            r#"portolan_losses_total{{client="{client}",field="{field}",kind="dropped",provider_dialect="cohere"}} 1"#
        );
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[test]
fn what_cannot_be_said_is_named_as_it_was_written() {
    let upstream = voices::upstream(Voice::Bedrock, "fine");
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Bedrock, &upstream, "")], ""));
    let got = send(
        &gateway,
        Caller::Responses,
        &json!({"model": "alias", "instructions": "a", "input": [
        {"role": "user", "content": "x"}, {"role": "user", "content": [
        {"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "https://example.com/a.png"}]}]}),
    );
    assert_eq!(got.refusal(400)["param"], "input[1].content[1]", "{got}");
    let got = send(
        &gateway,
        Caller::Chat,
        &json!({"model": "alias", "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [
        {"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]}),
    );
    assert_eq!(got.refusal(400)["param"], "messages[1].content[1]", "{got}");
    assert_eq!(upstream.count(), 0);
}

/// Names that no header could hold do not make the others disappear, nor do many of them make it too long for clients.
#[test]
fn odd_names_are_told_too() {
    let upstream = voices::upstream(Voice::Gemini, "fine");
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Gemini, &upstream, "")], ""));
    let mut body = Caller::Chat.body("alias", "x", false);
    body["\u{f6}"] = 1.into();
    let got = send(&gateway, Caller::Chat, &body);
    assert_eq!(got.header("x-portolan-loss"), Some(r"dropped:\u00f6"), "{got}");
    (0..1_000).for_each(|name| body[format!("{name:x<300}")] = 1.into());
    let got = send(&gateway, Caller::Chat, &body);
    let loss = got.header("x-portolan-loss").unwrap_or_default();
    assert!(got.status == 200 && loss.ends_with(" more") && loss.len() < 5_000, "{got}");
}

/// What the gateway put before a call's input has no place in the body that the caller sent.
#[test]
fn an_earlier_conversation_does_not_count() {
    let upstream = voices::upstream(Voice::Messages, "fine");
    let gateway = Gateway::start(&voices::config(&[("alias", Voice::Messages, &upstream, "")], ""));
    let detail = json!({"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"});
    let first = json!([{"role": "user", "content": [detail]}]);
    let body = json!({"model": "alias", "input": first});
    let got = send(&gateway, Caller::Responses, &body);
    assert_eq!(got.header("x-portolan-loss"), Some("dropped:input[0].content[0].detail"), "{got}");
    let id = got.json()["id"].clone();
    let more = json!([{"role": "user", "content": "and"}, {"role": "user", "content": [detail]}]);
    let got = send(&gateway, Caller::Responses, &json!({"model": "alias", "previous_response_id": id, "input": more}));
    let lost = "dropped:previous_response_id, dropped:input[1].content[0].detail";
    assert_eq!(got.header("x-portolan-loss"), Some(lost), "{got}");
    let bad = json!([{"role": "user", "content": "x"}, {"role": "bard", "content": "y"}]);
    let got = send(&gateway, Caller::Responses, &json!({"model": "alias", "previous_response_id": id, "input": bad}));
    assert_eq!(got.refusal(400)["param"], "input[1].role", "{got}");
}

/// SDKs show the id of a failed call: the provider's where it gave one, else ours.
#[test]
fn passed_on_errors_have_an_id() {
    for (caller, voice, header) in [
        (Caller::Chat, Voice::Chat, "x-request-id"),
        (Caller::Responses, Voice::Responses, "x-request-id"),
        (Caller::Messages, Voice::Messages, "request-id"),
    ] {
        let body = match voice {
            Voice::Messages => json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no"},
                "request_id": "req_theirs"}),
            _ => json!({"error": {"message": "no", "type": "invalid_request_error", "param": null, "code": null}}),
        };
        for theirs in [None, Some("req_theirs")] {
            for status in [400, 404, 429, 500] {
                let text = body.to_string();
                let upstream = Upstream::start(move |_| {
                    let reply = Reply::json(status, text.clone());
                    theirs.map_or(reply.clone(), |id| reply.header(header, id))
                });
                let config = voices::config(&[("alias", voice, &upstream, "")], "retry: { tries: 1 }\n");
                let gateway = Gateway::start(&config);
                for stream in [false, true] {
                    let got = caller.ask(&gateway, "alias", "x", stream);
                    assert_eq!((got.status, got.json()), (status, body.clone()), "{caller:?}: {got}");
                    let ours = got.header("x-portolan-request-id").unwrap();
                    assert_eq!(got.header(header), theirs.or(Some(ours)), "{caller:?}, {status}: {got}");
                }
            }
        }
    }
}
