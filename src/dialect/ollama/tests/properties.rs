//! What holds for every conversation and every stream.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::tests::golden::Order;

fn block() -> impl Strategy<Value = Block<'static>> {
    let text = prop_oneof![Just(""), Just("word"), Just("a\"b\n"), Just("\u{0}")];
    let id = prop_oneof![Just(""), Just("c1")];
    let arguments = prop_oneof![Just(""), Just("{}"), Just("{\n\"a\":1.10}"), Just("[1]"), Just("{broken")];
    let issuer = prop_oneof![Just(None), Just(Some("ollama")), Just(Some("gemini"))];
    prop_oneof![
        3 => text.clone().prop_map(|text| Content::Text { text: text.into(), citations: Vec::new() }),
        1 => text.clone().prop_map(|text| Content::Refusal(text.into())),
        1 => Just(Content::Media(Media {
            kind: MediaKind::Image,
            source: Source::Base64("AAAA".into()),
            mime: None,
            name: None,
            detail: Some("low".into()),
        })),
        2 => (id.clone(), arguments).prop_map(|(id, arguments)| Content::ToolCall(ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        })),
        2 => (id, text.clone()).prop_map(|(id, text)| Content::ToolResult(ToolResult {
            id: id.into(),
            blocks: vec![Block::text(text)],
            ..ToolResult::default()
        })),
        2 => (issuer, text).prop_map(|(issuer, text)| Content::Reasoning(Reasoning {
            text: Some(text.into()),
            issuer: issuer.map(Text::from),
            ..Reasoning::default()
        })),
    ]
    .prop_map(Block::new)
}

fn message() -> impl Strategy<Value = Message<'static>> {
    let role = prop_oneof![
        Just(Role::System),
        Just(Role::Developer),
        Just(Role::User),
        Just(Role::Assistant),
        Just(Role::Tool)
    ];
    (role, proptest::collection::vec(block(), 0..4)).prop_map(|(role, blocks)| Message {
        role,
        blocks,
        ..Message::default()
    })
}

const LINES: [&str; 9] = [
    r#"{"model":"m","created_at":"2026-01-02T03:04:05.6Z","message":{"role":"assistant","content":"a"},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"t"},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"b","thinking":"t"},"done":false}"#,
    r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{}}},{"function":{"name":"g"}}]}}"#,
    r#"{"message":{"content":"","images":["AAAA"]},"logprobs":[{"token":"a","logprob":-1}]}"#,
    r#"{"model":"m","message":{"content":""},"done":false,"later":1}"#,
    r#"{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":2}"#,
    r#"{"error":"e"}"#,
    "",
];

proptest! {
    #[test]
    fn bodies_keep_the_rules_of_the_api(messages in proptest::collection::vec(message(), 0..7)) {
        let request = Request { origin: Origin("openai_chat"), messages, ..Request::default() };
        let (body, _) = encode(&Face, &request, "m", &Quirks::default(), &Abilities::default()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        prop_assert!(body["stream"].is_boolean());
        for message in body["messages"].as_array().unwrap() {
            prop_assert!(message["content"].is_string(), "{}", body);
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                prop_assert!(call["function"]["arguments"].is_object() && message["role"] == "assistant", "{}", body);
            }
        }
    }

    /// Whatever the lines, blocks open and close in turn, and the answer ends once.
    #[test]
    fn events_keep_their_order(lines in proptest::collection::vec(proptest::sample::select(&LINES[..]), 0..30)) {
        Order::keep(&Face, &lines);
    }

    /// Nothing that a server may send brings us down.
    #[test]
    fn no_bytes_bring_us_down(bytes in proptest::collection::vec(any::<u8>(), 0..200), status in 100..600_u16) {
        let _ = Face.decode(&bytes);
        let _ = Face.fault(status, &bytes);
        let _ = Face.sniffer().body(&bytes);
        let data = String::from_utf8_lossy(&bytes);
        let frame = crate::wire::sse::Frame { event: "", data: &data, end: 0, comment: false };
        let _ = Face.stream().frame(&frame, &mut |_| {});
        let _ = Face.sniffer().frame(&frame);
    }
}
