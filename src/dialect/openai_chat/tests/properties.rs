//! Round trips of bodies that nobody wrote by hand.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,12}", "\\PC{1,8}", Just("\"\\\n\t\u{1}é\u{1F600}".to_owned())]
}

/// Members that a request may lack.
fn some(strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(strategy).boxed()
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        text().prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}, "x": [1]})),
        text().prop_map(|text| json!({"type": "image_url", "image_url": {"url": format!("https://{text}"), "y": null}})),
        "[A-Za-z0-9+/]{4,8}".prop_map(|data| {
            json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}"), "detail": "high", "z": 1}})
        }),
        "[A-Za-z0-9+/]{4,8}".prop_map(|data| json!({"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}})),
        text().prop_map(|id| json!({"type": "file", "file": {"file_id": id}})),
        text().prop_map(|name| json!({"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,AAAA"}})),
        text().prop_map(|text| json!({"type": "tomorrow", "tomorrow": text})),
    ]
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![text().prop_map(Value::from), proptest::collection::vec(part(), 1..4).prop_map(Value::from)]
}

fn detail() -> impl Strategy<Value = Value> {
    let format = prop_oneof![
        Just("anthropic-claude-v1"),
        Just("google-gemini-v1"),
        Just("openai-responses-v1"),
        Just("somebody-v2")
    ];
    (text(), text(), format, 0..3).prop_map(|(text, proof, format, kind)| match kind {
        0 => json!({"type": "reasoning.text", "text": text, "signature": proof, "format": format}),
        1 => json!({"type": "reasoning.encrypted", "data": proof, "format": format, "id": text}),
        _ => json!({"type": "reasoning.summary", "summary": text, "format": format}),
    })
}

fn call() -> impl Strategy<Value = Value> {
    prop_oneof![
        (text(), text()).prop_map(|(id, name)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{\"a\":1.10}"}})
        }),
        (text(), text()).prop_map(|(id, name)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": id}}})
        }),
        (text(), text())
            .prop_map(|(id, input)| json!({"id": id, "type": "custom", "custom": {"name": "c", "input": input}})),
    ]
}

fn assistant() -> impl Strategy<Value = Value> {
    let details = proptest::collection::vec(detail(), 0..4).prop_map(Value::from);
    let calls = proptest::collection::vec(call(), 1..3).prop_map(Value::from);
    (
        some(text().prop_map(Value::from)),
        some(text().prop_map(Value::from)),
        some(details),
        some(calls),
        some(text().prop_map(Value::from)),
    )
        .prop_map(|(content, thought, details, calls, refusal)| {
            let mut message = json!({"role": "assistant", "prefix": true});
            let members = [
                ("content", content),
                ("reasoning_content", thought),
                ("reasoning_details", details),
                ("tool_calls", calls),
                ("refusal", refusal),
            ];
            for (name, value) in members {
                if let Some(value) = value {
                    message[name] = value;
                }
            }
            message
        })
}

fn message() -> impl Strategy<Value = Value> {
    prop_oneof![
        (prop_oneof![Just("system"), Just("developer"), Just("user")], content())
            .prop_map(|(role, content)| json!({"role": role, "content": content})),
        assistant(),
        (text(), content()).prop_map(|(id, content)| json!({"role": "tool", "tool_call_id": id, "content": content})),
    ]
}

/// A message, and before a result the call that it answers.
fn called(message: Value) -> Vec<Value> {
    let call = message.get("tool_call_id").map(|id| {
        let call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        json!({"role": "assistant", "content": null, "tool_calls": [call]})
    });
    call.into_iter().chain([message]).collect()
}

/// Every member with a value or two; each body has some of them.
const MEMBERS: [(&str, &str); 32] = [
    (
        "tools",
        r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":false,"q":1},"w":2}]"#,
    ),
    (
        "tools",
        r#"[{"type":"custom","custom":{"name":"c"}},{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]"#,
    ),
    ("tool_choice", r#""required""#),
    ("tool_choice", r#"{"type":"function","function":{"name":"f"}}"#),
    ("tool_choice", r#"{"type":"custom","custom":{"name":"c"}}"#),
    (
        "tool_choice",
        r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}"#,
    ),
    ("parallel_tool_calls", "false"),
    ("response_format", r#"{"type":"text"}"#),
    ("response_format", r#"{"type":"json_object"}"#),
    ("response_format", r#"{"type":"json_schema","json_schema":{"name":"n","schema":{"a":1.10},"strict":true,"e":1}}"#),
    ("response_format", r#"{"type":"grammar","grammar":"g"}"#),
    ("reasoning", r#"{"effort":"xhigh","exclude":true,"r":1}"#),
    ("reasoning", r#"{"max_tokens":77,"summary":"auto"}"#),
    ("reasoning", r#"{"enabled":true}"#),
    ("temperature", "1.10"),
    ("top_p", "1e-1"),
    ("top_k", "5"),
    ("seed", "-12345678901234567890123"),
    ("logit_bias", r#"{"1":-1.0}"#),
    ("logprobs", "true"),
    ("top_logprobs", "3"),
    ("n", "3"),
    ("max_tokens", "9"),
    ("stop", r#"["a","\u0000"]"#),
    ("stop", r#""b""#),
    ("stream", "true"),
    ("user", r#""\ud83d\ude00""#),
    ("metadata", r#"{"k":"v"}"#),
    ("service_tier", r#""flex""#),
    ("prompt_cache_key", r#""k""#),
    ("verbosity", r#""low""#),
    ("x_tomorrow", r#"{"deep":[{"er":12345678901234567890123}]}"#),
];

fn body() -> impl Strategy<Value = String> {
    let members = proptest::sample::subsequence(MEMBERS.to_vec(), 0..MEMBERS.len());
    (proptest::collection::vec(message(), 1..5), members).prop_map(|(messages, members)| {
        let messages: Vec<Value> = messages.into_iter().flat_map(called).collect();
        let mut body = format!(r#"{{"model":"target","messages":{}"#, Value::from(messages));
        let mut names = Vec::new();
        for (name, json) in members {
            if !names.contains(&name) {
                body.push_str(&format!(r#","{name}":{json}"#));
                names.push(name);
            }
        }
        body + "}"
    })
}

fn answer() -> impl Strategy<Value = Value> {
    let finish = prop_oneof![Just("stop"), Just("length"), Just("tool_calls"), Just("content_filter")];
    let choice = (assistant(), finish)
        .prop_map(|(message, finish)| json!({"message": message, "finish_reason": finish, "x": 1}));
    (proptest::collection::vec(choice, 0..3), 0..9_u32, 0..9_u32).prop_map(|(mut choices, input, output)| {
        for (i, choice) in choices.iter_mut().enumerate() {
            choice["index"] = i.into();
        }
        json!({"id": "a", "model": "m", "created": 1, "choices": choices, "x": [1],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}})
    })
}

/// One delta of a stream, with its candidate.
fn delta() -> impl Strategy<Value = (u32, Value)> {
    let piece = prop_oneof![
        text().prop_map(|text| json!({"content": text})),
        text().prop_map(|text| json!({"reasoning_content": text})),
        text().prop_map(|text| json!({"refusal": text})),
        detail().prop_map(|detail| json!({"reasoning_details": [detail]})),
        (0..3_u32, text(), text()).prop_map(|(index, id, name)| {
            json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": "{\"a\":1}"}}]})
        }),
        Just(json!({})),
        Just(json!({"content": null, "role": "assistant"})),
    ];
    (0..3_u32, piece)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Within one dialect nothing is lost or bent.
    #[test]
    fn a_request_comes_back_as_it_was(body in body()) {
        let request = request::decode(body.as_bytes()).unwrap();
        let (out, losses) = Target::style(ReasoningStyle::Object).encode(&request);
        prop_assert!(losses.is_empty(), "{losses}");
        let again = request::decode(&out).unwrap();
        // Usage is always asked for; whether the caller is shown it is not the provider's affair.
        let again = Request { include_usage: request.include_usage, ..again };
        prop_assert_eq!(format!("{request:?}"), format!("{again:?}"));
    }

    #[test]
    fn an_answer_comes_back_as_it_was(body in answer()) {
        let body = body.to_string();
        let response = response::decode(body.as_bytes()).unwrap();
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        response::encode(&response, &Shown::default(), &mut out, &mut losses);
        prop_assert!(losses.is_empty(), "{losses}");
        let again = response::decode(&out).unwrap();
        prop_assert_eq!(format!("{response:?}"), format!("{again:?}"));
    }

    /// Whatever order pieces come in: events keep theirs, and what we write says the same.
    #[test]
    fn any_stream_keeps_the_order_and_comes_back(deltas in proptest::collection::vec(delta(), 1..20)) {
        let mut sse = String::new();
        for (candidate, delta) in &deltas {
            let chunk = json!({"id": "c", "model": "m", "choices": [{"index": candidate, "delta": delta}]});
            sse.push_str(&format!("data: {chunk}\n\n"));
        }
        sse.push_str("data: [DONE]\n\n");
        let (events, written) = relay(&sse);
        if !events.contains("interleaved") {
            check_order(&sse)?;
            prop_assert_eq!(said(&written), said(&sse));
        }
    }

    /// Nothing that a provider or caller may send brings us down.
    #[test]
    fn no_bytes_bring_us_down(bytes in proptest::collection::vec(any::<u8>(), 0..200), status in 100..600_u16) {
        let _ = request::decode(&bytes);
        let _ = response::decode(&bytes);
        let _ = fault::read(status, &bytes);
        let _ = sniff::Watch::default().body(&bytes);
        let data = String::from_utf8_lossy(&bytes);
        let frame = Frame { event: "", data: &data, end: 0, comment: false };
        let _ = stream::Decoder::default().frame(&frame, &mut |_| {});
        let _ = sniff::Watch::default().frame(&frame);
    }
}

/// The promise of [`Event`].
fn check_order(sse: &str) -> Result<(), TestCaseError> {
    let mut decoder = stream::Decoder::default();
    let mut open: Vec<Option<u32>> = vec![None; 3];
    let mut next = [0; 3];
    let mut finished = [false; 3];
    let mut started = false;
    let mut ended = false;
    let mut wrong = Vec::new();
    let mut emit = |event: Event<'_>| {
        let shown = format!("{event:?}");
        let right = match event {
            Event::Start { .. } => !std::mem::replace(&mut started, true),
            Event::Open { candidate, block, .. } => {
                let at = candidate as usize;
                next[at] += 1;
                open[at].replace(block).is_none() && block + 1 == next[at] && started && !finished[at]
            }
            Event::Delta { candidate, block, .. } => open[candidate as usize] == Some(block),
            Event::Close { candidate, block } => open[candidate as usize].take() == Some(block),
            Event::Finish { candidate, .. } => {
                let at = candidate as usize;
                open[at].is_none() && !std::mem::replace(&mut finished[at], true)
            }
            Event::End => !std::mem::replace(&mut ended, true),
            _ => true,
        };
        if !right || (ended && !shown.starts_with("End")) {
            wrong.push(shown);
        }
    };
    for (event, data, comment) in frames(sse) {
        decoder.frame(&Frame { event: &event, data: &data, end: 0, comment }, &mut emit).unwrap();
    }
    prop_assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}
