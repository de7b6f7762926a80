//! What holds for every conversation and every stream.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::wire::json::Text;
use crate::wire::sse::Frame;

fn block() -> impl Strategy<Value = Block<'static>> {
    let text = prop_oneof![Just(""), Just(" \n"), Just("word"), Just("a\"b "), Just("\u{0}")];
    let id = prop_oneof![Just(""), Just("c1"), Just("c:1"), Just("c.1")];
    let arguments = prop_oneof![Just(""), Just("{}"), Just(r#"{"a":1.10}"#), Just("[1]"), Just("{broken")];
    let issuer = prop_oneof![Just(None), Just(Some("anthropic")), Just(Some("gemini"))];
    let cache = prop_oneof![
        Just(None),
        Just(Some(CacheMark(Raw::literal(r#"{"type":"ephemeral"}"#)))),
        Just(Some(CacheMark(Raw::literal(r#"{"type":"ephemeral","ttl":"1h"}"#)))),
    ];
    let media = |kind, data: &'static str, name: Option<&'static str>| {
        Content::Media(Media {
            kind,
            source: Source::Base64(data.into()),
            mime: None,
            name: name.map(Text::from),
            detail: Some("low".into()),
        })
    };
    let content = prop_oneof![
        3 => text.clone().prop_map(|text| Content::Text { text: text.into(), citations: Vec::new() }),
        1 => text.clone().prop_map(|text| Content::Refusal(text.into())),
        1 => Just(media(MediaKind::Image, "/9j/", None)),
        2 => Just(media(MediaKind::File, "JVBERi", Some("a.pdf"))),
        2 => (id.clone(), arguments).prop_map(|(id, arguments)| Content::ToolCall(ToolCall {
            id: id.into(),
            name: "f g".into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        })),
        2 => (id, text.clone()).prop_map(|(id, text)| Content::ToolResult(ToolResult {
            id: id.into(),
            blocks: vec![Block::text(text)],
            is_error: Some(true),
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

/// The one member of a block.
fn kind(block: &Value) -> &str {
    let block = block.as_object().unwrap();
    assert_eq!(block.len(), 1, "{block:?}");
    block.keys().next().unwrap()
}

fn is_sound(name: &Value) -> bool {
    let name = name.as_str().unwrap();
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn check(body: &Value) {
    let turns = body["messages"].as_array().unwrap();
    assert_eq!(turns[0]["role"], "user", "{body}");
    for pair in turns.windows(2) {
        assert_ne!(pair[0]["role"], pair[1]["role"], "{body}");
    }
    let mut documents = Vec::new();
    for turn in turns {
        let blocks = turn["content"].as_array().unwrap();
        assert!(!blocks.is_empty(), "{body}");
        let kinds: Vec<&str> = blocks.iter().map(kind).collect();
        assert!(kinds[0] != "cachePoint", "{body}");
        let results: Vec<bool> =
            kinds.iter().filter(|kind| **kind != "cachePoint").map(|kind| *kind == "toolResult").collect();
        assert!(results.is_sorted_by(|a, b| a >= b), "results first: {body}");
        for pair in kinds.windows(2) {
            assert!(pair[1] != "cachePoint" || !["document", "video", "cachePoint"].contains(&pair[0]), "{body}");
        }
        assert!(!kinds.contains(&"document") || kinds.contains(&"text"), "{body}");
        for block in blocks {
            match kind(block) {
                "text" => assert!(!block["text"].as_str().unwrap().trim().is_empty(), "{body}"),
                "document" => documents.push(block["document"]["name"].as_str().unwrap().to_owned()),
                "toolUse" => {
                    let call = &block["toolUse"];
                    assert!(call["input"].is_object() && is_sound(&call["toolUseId"]) && is_sound(&call["name"]));
                    assert!(!body["toolConfig"]["tools"].as_array().unwrap().is_empty(), "{body}");
                }
                "toolResult" => {
                    assert!(is_sound(&block["toolResult"]["toolUseId"]), "{body}");
                    assert!(!body["toolConfig"]["tools"].as_array().unwrap().is_empty(), "{body}");
                }
                _ => {}
            }
        }
    }
    let count = documents.len();
    documents.sort_unstable();
    documents.dedup();
    assert_eq!(documents.len(), count, "{body}");
    let fields = &body["additionalModelRequestFields"];
    if fields["thinking"]["type"] == "enabled" {
        let budget = fields["thinking"]["budget_tokens"].as_u64().unwrap();
        assert!((1_024..body["inferenceConfig"]["maxTokens"].as_u64().unwrap()).contains(&budget), "{body}");
        assert!(body["toolConfig"]["toolChoice"].is_null() && fields["top_k"].is_null(), "{body}");
        assert!(body["inferenceConfig"]["temperature"].is_null() || body["inferenceConfig"]["temperature"] == 1);
    }
    assert!(body["inferenceConfig"]["temperature"].as_f64().is_none_or(|t| t <= 1.0), "{body}");
}

proptest! {
    #[test]
    fn bodies_keep_the_rules_of_the_api(
        messages in proptest::collection::vec(message(), 0..7),
        effort in proptest::option::of(prop_oneof![Just(Effort::None), Just(Effort::Low), Just(Effort::High)]),
        max_tokens in proptest::option::of(1_u64..30_000),
        temperature in prop_oneof![Just("0"), Just("1"), Just("1.5")],
        model in prop_oneof![
            Just("anthropic.claude-haiku-4-5-20251001-v1:0"), Just("anthropic.claude-opus-4-7"),
            Just("anthropic.claude-3-haiku-20240307-v1:0"), Just("us.amazon.nova-2-lite-v1:0"),
            Just("qwen.qwen3-32b-v1:0"), Just("us.meta.llama4-maverick-17b-instruct-v1:0"), Just("arn:aws:x"),
        ],
        named in any::<bool>(),
        choice in prop_oneof![Just(None), Just(Some(ToolChoice::Required)), Just(Some(ToolChoice::None))],
        formed in any::<bool>(),
    ) {
        let tool = Tool::Function {
            name: "f".into(),
            description: None,
            parameters: None,
            strict: Some(true),
            cache: None,
            extras: json::Extras::default(),
        };
        let schema = Raw::literal(r#"{"type":"object","properties":{}}"#);
        let request = Request {
            origin: Origin("openai_chat"),
            messages,
            reasoning: effort.map(|effort| ReasoningWish { effort: Some(effort), ..ReasoningWish::default() }),
            max_tokens,
            tools: if named { vec![tool] } else { Vec::new() },
            tool_choice: choice,
            format: match formed {
                true => Format::JsonSchema { name: None, description: None, schema, strict: None },
                false => Format::Free,
            },
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
    fn events_keep_their_order(picks in proptest::collection::vec(0_usize..17, 0..30)) {
        const FRAMES: [(&str, &str); 17] = [
            ("messageStart", r#"{"role":"assistant"}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"t","name":"portolan_answer"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"t","name":"g","type":"server_tool_use"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"toolResult":{"toolUseId":"t"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":3,"start":{"image":{"format":"png"}}}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":3}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"x"}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"toolUse":{"input":""}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"x"}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"x"}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"reasoningContent":{"redactedContent":"eA=="}}}"#),
            ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
            ("messageStop", r#"{"stopReason":"end_turn"}"#),
            ("metadata", r#"{"usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}"#),
            ("new", r#"{"x":[1]}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"new":1}}"#),
        ];
        let mut decoder = Face.stream();
        let (mut open, mut next, mut started, mut finished, mut ended) = (None, 0, false, 0, 0);
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
            Event::Finish { .. } => {
                assert!(open.is_none());
                finished += 1;
            }
            Event::End => {
                assert!(open.is_none());
                ended += 1;
            }
            _ => {}
        };
        for pick in picks {
            let (event, data) = FRAMES[pick];
            if decoder.frame(&Frame { event, data, end: 0, comment: false }, &mut see).is_err() {
                break;
            }
        }
        let whole = decoder.end(&mut see).is_ok();
        prop_assert!(ended <= 1 && finished <= 1 && whole == (ended == 1));
    }
}
