//! What holds for every conversation and every stream.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn block() -> impl Strategy<Value = Block<'static>> {
    let text = prop_oneof![Just(""), Just(" \n"), Just("word"), Just("a\"b "), Just("\u{0}")];
    let id = prop_oneof![Just(""), Just("c1"), Just("c:1"), Just("c.1")];
    let arguments = prop_oneof![Just(""), Just("{}"), Just(r#"{"a":1.10}"#), Just("[1]"), Just("{broken")];
    let issuer = prop_oneof![Just(None), Just(Some("anthropic")), Just(Some("gemini"))];
    let cache = prop_oneof![Just(None), Just(Some(CacheMark(Raw::literal(r#"{"type":"ephemeral"}"#))))];
    let content = prop_oneof![
        3 => text.clone().prop_map(|text| Content::Text { text: text.into(), citations: Vec::new() }),
        1 => text.clone().prop_map(|text| Content::Refusal(text.into())),
        1 => Just(Content::Media(Media {
            kind: MediaKind::Image,
            source: Source::Url("https://example.com/a.png".into()),
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
        2 => (issuer, text, any::<bool>()).prop_map(|(issuer, text, signed)| Content::Reasoning(Reasoning {
            text: Some(text.into()),
            signature: signed.then(|| "sig".into()),
            issuer: issuer.map(Text::from),
            ..Reasoning::default()
        })),
    ];
    (content, cache).prop_map(|(content, cache)| Block::with(content, cache, json::Extras::default()))
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

fn wish() -> impl Strategy<Value = Option<ReasoningWish<'static>>> {
    let effort = prop_oneof![Just(None), Just(Some(Effort::None)), Just(Some(Effort::High)), Just(Some(Effort::XHigh))];
    (effort, proptest::option::of(0_u64..40_000), any::<bool>()).prop_map(|(effort, budget, adaptive)| {
        Some(ReasoningWish { effort, budget, adaptive, ..ReasoningWish::default() })
            .filter(|wish| *wish != ReasoningWish::default())
    })
}

/// What Anthropic demands of a text.
fn says_something(block: &Value) -> bool {
    block["type"] != "text" || !block["text"].as_str().unwrap().trim().is_empty()
}

fn blocks(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![serde_json::json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

fn check(body: &Value) {
    let turns = body["messages"].as_array().unwrap();
    assert_eq!(turns[0]["role"], "user", "{body}");
    for pair in turns.windows(2) {
        assert_ne!(pair[0]["role"], pair[1]["role"], "{body}");
    }
    for turn in turns {
        let blocks = blocks(&turn["content"]);
        assert!(!blocks.is_empty() && blocks.iter().all(says_something), "{body}");
        let results: Vec<bool> = blocks.iter().map(|block| block["type"] == "tool_result").collect();
        assert!(results.is_sorted_by(|a, b| a >= b), "results first: {body}");
        for block in &blocks {
            for name in ["id", "tool_use_id"] {
                if let Some(id) = block[name].as_str() {
                    assert!(!id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
                }
            }
            if block["type"] == "tool_use" {
                assert!(block["input"].is_object(), "{body}");
            }
        }
    }
    if let Some(Value::String(text)) = turns.last().filter(|turn| turn["role"] == "assistant").map(|t| &t["content"]) {
        assert_eq!(text.trim_end(), text);
    }
    let limit = body["max_tokens"].as_u64().unwrap();
    assert!(limit > 0);
    if body["thinking"]["type"] == "enabled" {
        let budget = body["thinking"]["budget_tokens"].as_u64().unwrap();
        assert!((1_024..limit).contains(&budget), "{body}");
        assert!(body["tool_choice"]["type"] != "any" && body["top_k"].is_null(), "{body}");
        assert!(body["temperature"].is_null() || body["temperature"] == 1, "{body}");
    }
}

proptest! {
    #[test]
    fn bodies_keep_the_rules_of_the_api(
        messages in proptest::collection::vec(message(), 0..7),
        reasoning in wish(),
        max_tokens in proptest::option::of(1_u64..30_000),
        temperature in prop_oneof![Just("0"), Just("1"), Just("1.5")],
        model in prop_oneof![Just("claude-haiku-4-5"), Just("claude-opus-4-6"), Just("claude-sonnet-5"), Just("other")],
        forced in any::<bool>(),
    ) {
        let tool = Tool::Function {
            name: "f".into(),
            description: None,
            parameters: None,
            strict: None,
            cache: None,
            extras: json::Extras::default(),
        };
        let request = Request {
            origin: Origin("openai_chat"),
            messages,
            reasoning,
            max_tokens,
            tools: vec![tool],
            tool_choice: forced.then_some(ToolChoice::Required),
            sampling: Sampling {
                temperature: Some(serde_json::from_str(temperature).unwrap()),
                top_k: Some(5.into()),
                ..Sampling::default()
            },
            ..Request::default()
        };
        let (body, _) = encode(&request, model, &Quirks::default()).unwrap();
        check(&serde_json::from_slice(&body).unwrap());
    }

    /// Whatever the events, blocks open and close in turn, and the answer ends once.
    #[test]
    fn events_keep_their_order(picks in proptest::collection::vec(0_usize..14, 0..30)) {
        const FRAMES: [&str; 14] = [
            r#"{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"server_tool_use","id":"s","name":"g","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"y"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"z"}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#,
            r#"{"type":"message_stop"}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"new","x":[1]}"#,
        ];
        let mut decoder = Face.stream();
        let (mut open, mut next, mut started, mut ended) = (None, 0, false, 0);
        let mut see = |event: Event<'_>| match event {
            Event::Start { .. } => {
                assert!(!started);
                started = true;
            }
            Event::Open { block, .. } => {
                assert!(started && open.is_none() && ended == 0);
                assert_eq!(block, next);
                open = Some(block);
                next += 1;
            }
            Event::Delta { block, .. } => assert_eq!(open, Some(block)),
            Event::Close { block, .. } => assert_eq!(open.take(), Some(block)),
            Event::Finish { .. } => assert!(open.is_none()),
            Event::End => {
                assert!(open.is_none());
                ended += 1;
            }
            _ => {}
        };
        for pick in picks {
            let frame = sse::Frame { event: "", data: FRAMES[pick], end: 0, comment: false };
            if decoder.frame(&frame, &mut see).is_err() {
                break;
            }
        }
        let whole = decoder.end(&mut see).is_ok();
        prop_assert!(ended <= 1 && whole == (ended == 1));
    }
}
