//! What holds for every conversation and every stream.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::tests::golden::Order;

fn block() -> impl Strategy<Value = Block<'static>> {
    let text = prop_oneof![Just(""), Just("word"), Just("a\"b "), Just("\u{0}")];
    let id = prop_oneof![Just(""), Just("c1")];
    let arguments = prop_oneof![Just(""), Just("{}"), Just(r#"{"a":1.10}"#), Just("[1]"), Just("{broken")];
    let issuer = prop_oneof![Just(None), Just(Some("cohere")), Just(Some("gemini"))];
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

/// What Cohere demands of a body.
fn check(body: &Value) {
    for message in body["messages"].as_array().unwrap() {
        let role = message["role"].as_str().unwrap();
        assert!(["system", "user", "assistant", "tool"].contains(&role), "{body}");
        let calls = message["tool_calls"].as_array();
        match role {
            "assistant" => {
                assert!(calls.is_some_and(|calls| !calls.is_empty()) || !message["content"].is_null(), "{body}")
            }
            "tool" => assert!(!message["tool_call_id"].as_str().unwrap().is_empty(), "{body}"),
            _ => assert!(!message["content"].is_null() && calls.is_none(), "{body}"),
        }
        for call in calls.into_iter().flatten() {
            let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            assert!(arguments.is_object() && !call["id"].as_str().unwrap().is_empty(), "{body}");
        }
        assert!(message["tool_plan"].is_null() || calls.is_some(), "{body}");
    }
    let within = |name: &str, least: f64, most: f64| {
        assert!(body[name].is_null() || (least..=most).contains(&body[name].as_f64().unwrap()), "{name}: {body}");
    };
    within("p", 0.01, 0.99);
    within("k", 0.0, 500.0);
    within("frequency_penalty", 0.0, 1.0);
    within("presence_penalty", 0.0, 1.0);
}

const FRAMES: [&str; 19] = [
    r#"{"id":"a","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
    r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#,
    r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
    r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":"a"}}}}"#,
    r#"{"type":"content-start","index":1,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#,
    r#"{"type":"content-start","index":2,"delta":{"message":{"content":{"type":"image","image":"x"}}}}"#,
    r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"b"}}},"logprobs":{"text":"b","token_ids":[1],"logprobs":[-1]}}"#,
    r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"t"}}}}"#,
    r#"{"type":"content-end","index":0}"#,
    r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"c","type":"function","function":{"name":"f","arguments":""}}}}}"#,
    r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{"}}}}}"#,
    r#"{"type":"tool-call-end","index":0}"#,
    r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":1,"text":"b","type":"TEXT_CONTENT"}}}}"#,
    r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":1,"text":"b","type":"PLAN"}}}}"#,
    r#"{"type":"citation-end","index":0}"#,
    r#"{"type":"debug","prompt":"<s>"}"#,
    r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":1,"output_tokens":2}}}}"#,
    r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"e","error_type":"T"}}"#,
    "[DONE]",
];

proptest! {
    #[test]
    fn bodies_keep_the_rules_of_the_api(
        messages in proptest::collection::vec(message(), 0..7),
        numbers in proptest::collection::vec(
            prop_oneof![Just("-3"), Just("0"), Just("0.5"), Just("1"), Just("1.0"), Just("1e9")], 4),
        model in prop_oneof![Just("command-a-reasoning-08-2025"), Just("command-r")],
    ) {
        let number = |at: usize| Some(serde_json::from_str(numbers[at]).unwrap());
        let sampling = Sampling {
            top_p: number(0),
            top_k: number(1),
            frequency_penalty: number(2),
            presence_penalty: number(3),
            ..Sampling::default()
        };
        let request = Request { origin: Origin("openai_chat"), messages, sampling, ..Request::default() };
        let (body, _) = encode(&Face, &request, model, &Quirks::default(), &Abilities::default()).unwrap();
        check(&serde_json::from_slice(&body).unwrap());
    }

    /// Whatever the events, blocks open and close in turn, and the answer ends once.
    #[test]
    fn events_keep_their_order(frames in proptest::collection::vec(proptest::sample::select(&FRAMES[..]), 0..30)) {
        Order::keep(&Face, &frames);
    }

    /// Nothing that a provider may send brings us down.
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
