//! Streams: read, written for callers, watched, and broken off.

use std::collections::BTreeMap;

use super::*;

const REQUEST: &[u8] = b"{\n  \"model\": \"alias\", \"stream\": true, \"metadata\": {\n\"k\": \"v\"}}";

fn streams() -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(case("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut streams: Vec<_> = names
        .filter_map(|name| {
            let stem = name.strip_suffix(".stream.sse")?.to_owned();
            Some((stem, std::fs::read(case(&name)).unwrap()))
        })
        .collect();
    streams.sort();
    assert!(streams.len() >= 9, "{} streams", streams.len());
    streams
}

#[test]
fn streams_are_read_at_every_cut_and_written() {
    for (name, sse) in streams() {
        let whole = told(&sse, sse.len());
        let lines = whole.lines.join("\n");
        for size in [1, 2, 3, 7, 64, 257] {
            assert_eq!(told(&sse, size).lines.join("\n"), lines, "{name} by {size}");
        }
        let mut text = format!("{lines}\n");
        if whole.whole {
            let (out, losses) = relayed(&sse, REQUEST);
            text.push_str(&format!("\nlosses: {losses}\n{}", String::from_utf8(out.clone()).unwrap()));
            check(&events(&out));
            let again = told(&out, 100);
            assert_eq!(again.blocks, whole.blocks, "{name}");
            assert_eq!(
                (again.usage.map(|usage| usage.total()), again.finish, again.logprobs, again.whole),
                (whole.usage.map(|usage| usage.total()), whole.finish, whole.logprobs, true),
                "{name}"
            );
        }
        golden(&format!("{name}.stream.golden"), &text);
    }
}

/// Checks what SDKs rely on: everything that is added is done, an end repeats its deltas, and the last event repeats all
/// items.
pub fn check(events: &[Value]) {
    let kind = |event: &Value| event["type"].as_str().unwrap().to_owned();
    assert_eq!(kind(&events[0]), "response.created");
    assert_eq!(kind(&events[1]), "response.in_progress");
    let last = events.last().unwrap();
    assert!(["response.completed", "response.incomplete"].contains(&kind(last).as_str()), "{last}");
    let mut items: Vec<Value> = Vec::new();
    let mut open: Option<Value> = None;
    let mut deltas: BTreeMap<String, String> = BTreeMap::new();
    for event in &events[2..events.len() - 1] {
        let kind = kind(event);
        match kind.as_str() {
            "response.output_item.added" => {
                assert!(open.is_none(), "{event}");
                assert_eq!(event["output_index"], items.len() as u64);
                open = Some(event["item"].clone());
                deltas.clear();
            }
            "response.output_item.done" => {
                let begun = open.take().unwrap();
                assert_eq!((&begun["id"], &begun["type"]), (&event["item"]["id"], &event["item"]["type"]));
                items.push(event["item"].clone());
            }
            _ => {
                assert_eq!(event["output_index"], items.len() as u64, "{event}");
                assert_eq!(event["item_id"], open.as_ref().unwrap()["id"], "{event}");
                if let Some(stem) = kind.strip_suffix(".delta") {
                    let place = format!("{stem} {} {}", event["content_index"], event["summary_index"]);
                    deltas.entry(place).or_default().push_str(event["delta"].as_str().unwrap());
                }
                for (ending, member) in [
                    ("response.output_text", "text"),
                    ("response.refusal", "refusal"),
                    ("response.reasoning_text", "text"),
                    ("response.reasoning_summary_text", "text"),
                    ("response.function_call_arguments", "arguments"),
                    ("response.custom_tool_call_input", "input"),
                ] {
                    if kind == format!("{ending}.done") {
                        let place = format!("{ending} {} {}", event["content_index"], event["summary_index"]);
                        assert_eq!(event[member], deltas.get(&place).cloned().unwrap_or_default(), "{event}");
                    }
                }
            }
        }
    }
    assert!(open.is_none());
    assert_eq!(last["response"]["output"], Value::from(items));
}

#[test]
fn the_sniffer_agrees_with_the_decoder() {
    for (name, sse) in streams() {
        let read = told(&sse, sse.len());
        let mut sniffer = Face.sniffer();
        let (mut usage, mut fault, mut content) = (None, None, false);
        frames(&sse, sse.len(), &mut |frame| {
            let seen = sniffer.frame(&frame);
            usage = seen.usage.or(usage);
            fault = fault.take().or(seen.fault);
            content |= seen.content;
            assert!(!seen.usage_only);
        });
        assert_eq!((usage, sniffer.whole()), (read.usage, read.whole), "{name}");
        let told = read.fault.filter(|fault| !matches!(fault.kind, FaultKind::Truncated | FaultKind::Garbage));
        assert_eq!(fault, told, "{name}");
        assert_eq!(content, !read.blocks.is_empty(), "{name}");
    }
    let frame = Frame { event: "", data: "<html>", end: 0, comment: false };
    assert_eq!(Face.sniffer().frame(&frame).fault.unwrap().kind, FaultKind::Garbage);
}

/// A stream that breaks off ends in the events that SDKs raise, numbered like the ones before.
#[test]
fn an_error_after_the_beginning_is_typed_and_numbered() {
    let sse = input("cut.stream.sse");
    let error = ErrorShape {
        class: ErrorClass::Upstream,
        status: ErrorClass::Upstream.status(),
        message: "It \"broke\".",
        code: Some("upstream_error"),
        param: None,
        request_id: "req_1",
    };
    let mut out = Vec::new();
    shown(REQUEST, |shown| {
        let mut encoder = Inbound::stream(&Face, &shown.asked);
        let mut decoder = stream::Decoder::default();
        let mut losses = Losses::default();
        frames(sse.as_bytes(), sse.len(), &mut |frame| {
            decoder.frame(&frame, &mut |event| encoder.event(&event, shown, &mut out, &mut losses)).unwrap();
        });
        assert!(encoder.error(&error, shown, &mut out));
    });
    let events = events(&out);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "error",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.failed",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(events[5]["error"]["message"], "It \"broke\".");
    assert_eq!((&events[5]["code"], &events[5]["error"]["code"]), (&json!("upstream_error"), &json!("upstream_error")));
    let response = &events[9]["response"];
    assert_eq!((&response["status"], &response["error"]["code"]), (&json!("failed"), &json!("upstream_error")));
    assert_eq!((&response["output"][0]["status"], &response["usage"]), (&json!("incomplete"), &Value::Null));
    // And as a provider's: the same fault comes out.
    let fault = told(&out, 50).fault.unwrap();
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Server, Some("upstream_error")));

    let mut out = Vec::new();
    Face.error_event(&error, &Asked::default(), &mut out);
    let event: Value = serde_json::from_str(
        std::str::from_utf8(&out).unwrap().lines().nth(1).unwrap().strip_prefix("data: ").unwrap(),
    )
    .unwrap();
    assert_eq!(
        (&event["type"], &event["sequence_number"], &event["error"]["message"]),
        (&json!("error"), &json!(0), &json!("It \"broke\"."))
    );
}

/// What comes of another dialect: no item marks, signatures late, candidates beside the first.
#[test]
fn a_chat_stream_becomes_items() {
    let chunk = |delta: &str, finish: &str| {
        format!(
            r#"data: {{"id":"c","object":"chat.completion.chunk","created":5,"model":"other","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
        )
    };
    let sse = [
        chunk(r#"{"role":"assistant","reasoning_content":"Hm"}"#, "null"),
        chunk(r#"{"reasoning_details":[{"type":"reasoning.text","text":".","format":"anthropic-claude-v1","index":0}]}"#, "null"),
        chunk(r#"{"reasoning_details":[{"type":"reasoning.text","signature":"c2ln","format":"anthropic-claude-v1","index":0}]}"#, "null"),
        chunk(r#"{"content":"a"}"#, "null"),
        chunk(r#"{"content":"b"}"#, "null"),
        chunk(r#"{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"f","arguments":""},"extra_content":{"google":{"thought_signature":"Z29v"}}}]}"#, "null"),
        chunk(r#"{"tool_calls":[{"index":1,"id":"call_2","function":{"name":"g","arguments":"{\"a\":"}}]}"#, "null"),
        chunk(r#"{"tool_calls":[{"index":1,"function":{"arguments":"1}"}}]}"#, "null"),
        r#"data: {"id":"c","choices":[{"index":1,"delta":{"content":"other"},"finish_reason":"stop"}]}"#.to_owned(),
        chunk("{}", r#""length""#),
        r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#.to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ]
    .join("\n\n");
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    shown(REQUEST, |shown| {
        let mut encoder = Inbound::stream(&Face, &shown.asked);
        let mut decoder = chat().outbound.unwrap().stream();
        let mut emit = |event: Event<'_>| encoder.event(&event, shown, &mut out, &mut losses);
        frames(sse.as_bytes(), sse.len(), &mut |frame| decoder.frame(&frame, &mut emit).unwrap());
        decoder.end(&mut emit).unwrap();
    });
    check(&events(&out));
    golden("chat.stream.golden", &format!("losses: {losses}\n{}", String::from_utf8(out).unwrap()));
}
