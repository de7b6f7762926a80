//! Callers of each dialect: how they ask, and what they make of an answer.

use serde_json::{Value, json};

use super::client::{self, Response};
use super::gateway::{Gateway, SECRET};

/// A dialect of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Chat,
    Completions,
    Responses,
    Messages,
    Gemini,
    /// Gemini without `alt=sse`: its stream is one JSON array.
    Array,
}

pub const CALLERS: [Caller; 6] =
    [Caller::Chat, Caller::Completions, Caller::Responses, Caller::Messages, Caller::Gemini, Caller::Array];

use Caller::{Array, Chat, Completions, Gemini, Messages, Responses};

impl Caller {
    pub fn path(self, model: &str, stream: bool) -> String {
        match self {
            Chat => "/v1/chat/completions".into(),
            Completions => "/v1/completions".into(),
            Responses => "/v1/responses".into(),
            Messages => "/v1/messages".into(),
            Gemini | Array if !stream => format!("/v1beta/models/{model}:generateContent"),
            Gemini => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            Array => format!("/v1beta/models/{model}:streamGenerateContent"),
        }
    }

    pub fn body(self, model: &str, text: &str, stream: bool) -> Value {
        let mut body = match self {
            Chat => json!({"model": model, "messages": [{"role": "user", "content": text}]}),
            Completions => json!({"model": model, "prompt": text}),
            Responses => json!({"model": model, "input": text}),
            Messages => json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}),
            Gemini | Array => return json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        };
        if stream {
            body["stream"] = true.into();
            if matches!(self, Chat | Completions) {
                body["stream_options"] = json!({"include_usage": true});
            }
        }
        body
    }

    /// The headers that the SDKs of this dialect send, with that credential.
    pub fn headers(self, secret: &str) -> Vec<(&'static str, String)> {
        match self {
            Chat | Responses => vec![("authorization", format!("Bearer {secret}"))],
            Completions => vec![("api-key", secret.to_owned())],
            Messages => vec![("x-api-key", secret.to_owned()), ("anthropic-version", "2023-06-01".to_owned())],
            Gemini | Array => vec![("x-goog-api-key", secret.to_owned())],
        }
    }

    #[track_caller]
    pub fn ask(self, gateway: &Gateway, model: &str, text: &str, stream: bool) -> Response {
        self.send(gateway, &self.path(model, stream), self.body(model, text, stream).to_string())
    }

    #[track_caller]
    pub fn send(self, gateway: &Gateway, path: &str, body: impl AsRef<[u8]>) -> Response {
        let headers = self.headers(SECRET);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client::post(gateway.data, path, &headers, body)
    }

    /// A request as bytes, for a connection that is kept.
    pub fn request(self, model: &str, text: &str, stream: bool) -> Vec<u8> {
        let headers = self.headers(SECRET);
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("content-type", "application/json"));
        let body = self.body(model, text, stream).to_string();
        client::request("POST", &self.path(model, stream), &headers, body.as_bytes())
    }

    /// The events of a stream, which must be framed as this dialect frames them.
    #[track_caller]
    pub fn events(self, got: &Response) -> Vec<Value> {
        if self == Array {
            assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{got}");
            let Value::Array(events) = got.json() else { panic!("no array: {got}") };
            return events;
        }
        assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{got}");
        let mut events = Vec::new();
        for frame in client::frames(&got.text().replace("\r\n", "\n")) {
            let of = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let Some(data) = of("data: ").filter(|data| data != "[DONE]") else { continue };
            let event: Value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {frame}: {got}"));
            if matches!(self, Responses | Messages) {
                assert_eq!(of("event: ").as_deref(), event["type"].as_str(), "{got}");
            }
            if event["type"] != "ping" {
                events.push(event);
            }
        }
        events
    }

    /// What a good answer says; what marks it as whole must be there.
    #[track_caller]
    pub fn said(self, got: &Response, stream: bool) -> String {
        assert_eq!(got.status, 200, "{self:?}: {got}");
        assert!(got.whole, "{self:?}: {got}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !stream {
            assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{got}");
            let body = got.json();
            return match self {
                Chat => text(&body["choices"][0]["message"]["content"]),
                Completions => text(&body["choices"][0]["text"]),
                Responses => text(&body["output"][0]["content"][0]["text"]),
                Messages => text(&body["content"][0]["text"]),
                Gemini | Array => parts(&body),
            };
        }
        let events = self.events(got);
        let last = events.last().unwrap_or_else(|| panic!("{self:?}: nothing: {got}"));
        match self {
            Chat | Completions => {
                assert!(got.text().ends_with("data: [DONE]\n\n"), "{self:?}: {got}");
                let place = if self == Chat { "/choices/0/delta/content" } else { "/choices/0/text" };
                events.iter().filter_map(|event| event.pointer(place)?.as_str()).collect()
            }
            Responses => {
                assert_eq!(last["type"], "response.completed", "{got}");
                for (number, event) in events.iter().enumerate() {
                    // A provider's own stream may not number its events; ours does.
                    assert_eq!(event.get("sequence_number").unwrap_or(&json!(number)), number, "{got}");
                }
                let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
                deltas.map(|event| text(&event["delta"])).collect()
            }
            Messages => {
                assert_eq!(events[0]["type"], "message_start", "{got}");
                assert_eq!(last["type"], "message_stop", "{got}");
                events.iter().map(|event| text(&event["delta"]["text"])).collect()
            }
            Gemini | Array => {
                let finished = |event: &&Value| !event["candidates"][0]["finishReason"].is_null();
                assert_eq!(events.iter().filter(finished).count(), 1, "{got}");
                events.iter().map(parts).collect()
            }
        }
    }

    /// Input and output tokens as an answer tells them.
    #[track_caller]
    pub fn usage(self, got: &Response, stream: bool) -> (u64, u64) {
        let events = if stream { self.events(got) } else { vec![got.json()] };
        let last = |place: &str| events.iter().rev().find_map(|event| event.pointer(place)?.as_u64());
        let (input, output) = match self {
            Chat | Completions => (last("/usage/prompt_tokens"), last("/usage/completion_tokens")),
            Responses if stream => (last("/response/usage/input_tokens"), last("/response/usage/output_tokens")),
            Messages if stream => {
                let input = last("/usage/input_tokens").filter(|input| *input > 0);
                (input.or_else(|| last("/message/usage/input_tokens")), last("/usage/output_tokens"))
            }
            Responses | Messages => (last("/usage/input_tokens"), last("/usage/output_tokens")),
            Gemini | Array => (last("/usageMetadata/promptTokenCount"), last("/usageMetadata/candidatesTokenCount")),
        };
        let seen = |tokens: Option<u64>| tokens.unwrap_or_else(|| panic!("{self:?}: no usage: {got}"));
        (seen(input), seen(output))
    }

    /// Holds an error to the shape that the SDKs of this dialect raise, and gives its message.
    #[track_caller]
    pub fn refusal(self, got: &Response, status: u16) -> String {
        assert_eq!(got.status, status, "{self:?}: {got}");
        assert!(got.whole, "{got}");
        assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{got}");
        assert!(got.header("x-portolan-request-id").is_some_and(|id| !id.is_empty()), "{got}");
        self.shaped(&got.json(), Some(status))
    }

    /// The same for the error in which a stream ends; nothing in it may say that the answer is whole.
    #[track_caller]
    pub fn last_error(self, got: &Response) -> String {
        assert_eq!(got.status, 200, "{self:?}: {got}");
        for end in ["[DONE]", "response.completed", "message_stop", "finishReason", "\"finish_reason\":\"stop\""] {
            assert!(!got.text().contains(end), "{self:?}: a broken stream looks whole: {got}");
        }
        let events = self.events(got);
        let last = events.last().unwrap_or_else(|| panic!("{self:?}: nothing was told: {got}"));
        self.shaped(last, None)
    }

    #[track_caller]
    fn shaped(self, body: &Value, status: Option<u16>) -> String {
        let error = match self {
            // In a stream: `error` has its members at the top, `response.failed` in the response.
            Responses if status.is_none() && body["type"] == "error" => body,
            Responses if status.is_none() && body["type"] == "response.failed" => &body["response"]["error"],
            _ => &body["error"],
        };
        let message = error["message"].as_str().unwrap_or_else(|| panic!("{self:?}: no message: {body}"));
        assert!(!message.is_empty(), "{body}");
        match self {
            Chat | Completions => assert!(error["type"].is_string() && error.get("code").is_some(), "{body}"),
            Responses if status.is_none() => assert!(error["code"].is_string(), "{body}"),
            Responses => assert!(error["type"].is_string() && error.get("param").is_some(), "{body}"),
            Messages => {
                assert_eq!(body["type"], "error", "{body}");
                assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{body}");
            }
            Gemini | Array => {
                assert!(error["code"].is_u64() && error["status"].is_string(), "{body}");
            }
        }
        message.to_owned()
    }
}

fn parts(body: &Value) -> String {
    let parts = body["candidates"][0]["content"]["parts"].as_array();
    parts.into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
}
