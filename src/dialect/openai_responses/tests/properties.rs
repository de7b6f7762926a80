//! Round trips of bodies that nobody wrote by hand.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,12}", "\\PC{1,8}", Just("\"\\\n\t\u{1}é\u{1F600}".to_owned())]
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(|text| json!({"type": "input_text", "text": text})),
        text().prop_map(|text| json!({"type": "input_text", "text": text, "prompt_cache_breakpoint": true})),
        text().prop_map(|text| json!({"type": "input_image", "image_url": format!("https://{text}"), "detail": "high"})),
        "[A-Za-z0-9+/]{4,8}".prop_map(|data| {
            json!({"type": "input_image", "image_url": format!("data:image/png;base64,{data}"), "detail": "auto", "z": 1})
        }),
        text().prop_map(|id| json!({"type": "input_file", "file_id": id})),
        text().prop_map(|name| {
            json!({"type": "input_file", "filename": name, "file_data": "data:application/pdf;base64,AAAA"})
        }),
        text().prop_map(|text| json!({"type": "tomorrow", "tomorrow": text})),
    ]
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![text().prop_map(Value::from), vec(part(), 1..4).prop_map(Value::from)]
}

fn output_part() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(|text| json!({"type": "output_text", "text": text, "annotations": []})),
        text().prop_map(|url| {
            json!({"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": url}]})
        }),
        text().prop_map(|text| json!({"type": "refusal", "refusal": text})),
    ]
}

/// Items that the model makes.
fn made() -> impl Strategy<Value = Value> {
    let texts = || vec(text(), 0..3);
    let list = |kind: &str, texts: Vec<String>| -> Vec<Value> {
        texts.into_iter().map(|text| json!({"type": kind, "text": text})).collect()
    };
    prop_oneof![
        (vec(output_part(), 1..3), any::<bool>()).prop_map(|(content, phase)| {
            let mut item = json!({"type": "message", "role": "assistant", "content": content});
            if phase {
                item["phase"] = json!("final_answer");
            }
            item
        }),
        (0u32.., texts(), texts(), proptest::option::of(text())).prop_map(move |(id, summary, content, proof)| {
            let (summary, content) = (list("summary_text", summary), list("reasoning_text", content));
            let mut item = json!({"type": "reasoning", "id": format!("rs_{id}"), "summary": summary});
            if !content.is_empty() {
                item["content"] = content.into();
            }
            if let Some(proof) = proof {
                item["encrypted_content"] = proof.into();
            }
            item
        }),
        (text(), text()).prop_map(|(id, name)| {
            json!({"type": "function_call", "call_id": id, "name": name, "arguments": "{\"a\":1.10}", "namespace": "n"})
        }),
        (text(), text()).prop_map(|(id, input)| {
            json!({"type": "custom_tool_call", "call_id": format!("c{id}"), "name": "c", "input": input})
        }),
        text().prop_map(|q| json!({"type": "web_search_call", "id": "ws_1", "action": {"query": q}})),
    ]
}

fn item() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => made(),
        2 => (prop_oneof![Just("system"), Just("developer"), Just("user")], content())
            .prop_map(|(role, content)| json!({"type": "message", "role": role, "content": content})),
        2 => (text(), content())
            .prop_map(|(id, output)| json!({"type": "function_call_output", "call_id": id, "output": output})),
        1 => text().prop_map(|text| json!({"type": "computer_call_output", "output": {"x": text}})),
    ]
}

/// Every member with a value or two; each body has some of them.
const MEMBERS: [(&str, &str); 28] = [
    ("instructions", r#""Be \"brief\".""#),
    ("tools", r#"[{"type":"function","name":"f","parameters":{"type":"object"},"strict":false,"q":1}]"#),
    ("tools", r#"[{"type":"web_search"},{"type":"function","name":"f"}]"#),
    ("tool_choice", r#""required""#),
    ("tool_choice", r#"{"type":"function","name":"f"}"#),
    ("tool_choice", r#"{"type":"mcp","server_label":"s"}"#),
    ("tool_choice", r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}"#),
    ("parallel_tool_calls", "false"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("text", r#"{"format":{"type":"json_object"},"verbosity":"low"}"#),
    ("text", r#"{"format":{"type":"json_schema","name":"n","schema":{"a":1.10},"strict":true,"e":1}}"#),
    ("text", r#"{"verbosity":"high"}"#),
    ("reasoning", r#"{"effort":"xhigh","summary":"auto","r":1}"#),
    ("reasoning", r#"{"effort":"tomorrow"}"#),
    ("temperature", "1.10"),
    ("top_p", "1e-1"),
    ("top_logprobs", "3"),
    ("include", r#"["message.output_text.logprobs","odd"]"#),
    ("max_output_tokens", "9"),
    ("stream", "true"),
    ("stream_options", r#"{"include_obfuscation":true}"#),
    ("user", r#""\ud83d\ude00""#),
    ("safety_identifier", r#""s""#),
    ("metadata", r#"{"k":"v"}"#),
    ("service_tier", r#""flex""#),
    ("prompt_cache_key", r#""k""#),
    ("truncation", r#""auto""#),
    ("tomorrow", "[12345678901234567890123,1.10]"),
];

fn body() -> impl Strategy<Value = String> {
    let input = prop_oneof![text().prop_map(Value::from), vec(item(), 1..7).prop_map(Value::from)];
    (input, proptest::sample::subsequence((0..MEMBERS.len()).collect::<Vec<_>>(), 0..12)).prop_map(|(input, chosen)| {
        let mut out = format!(r#"{{"model":"m","input":{input}"#);
        let mut names: Vec<&str> = Vec::new();
        for (name, value) in chosen.into_iter().filter_map(|at| MEMBERS.get(at)) {
            if !names.contains(name) {
                names.push(name);
                out.push_str(&format!(r#","{name}":{value}"#));
            }
        }
        out + "}"
    })
}

/// What another dialect's answer may have.
fn block() -> impl Strategy<Value = Content<'static>> {
    let some = || proptest::option::of(text().prop_map(Text::from));
    let issuer =
        || proptest::option::of(prop_oneof![Just("anthropic"), Just("gemini"), Just(wire::NAME)].prop_map(Text::from));
    let citation = prop_oneof![
        Just(r#"{"type":"url_citation","url":"u","start_index":0,"end_index":1}"#),
        Just(r#"{"type":"file_citation","file_id":"f"}"#)
    ];
    prop_oneof![
        (text(), vec(citation.prop_map(Raw::literal), 0..2))
            .prop_map(|(text, citations)| Content::Text { text: text.into(), citations }),
        text().prop_map(|text| Content::Refusal(text.into())),
        (some(), any::<bool>(), some(), some(), issuer(), proptest::option::of(0u32..)).prop_map(
            |(text, summary, signature, encrypted, issuer, id)| {
                let proof = signature.is_some() || encrypted.is_some();
                Content::Reasoning(Reasoning {
                    // An item that holds nothing has no kind of text.
                    summary: summary && text.is_some(),
                    text: text.or_else(|| (!proof).then(|| "t".into())),
                    issuer: issuer.filter(|_| proof).or_else(|| proof.then(|| "gemini".into())),
                    signature,
                    encrypted,
                    id: id.map(|id| format!("id{id}").into()),
                })
            }
        ),
        ("c[0-9]{1,9}", text(), text(), any::<bool>(), proptest::option::of(text())).prop_map(
            |(id, name, input, custom, proof)| {
                let kind = if custom { ToolKind::Custom } else { ToolKind::Function };
                let arguments = if custom { input } else { json!({"a": input}).to_string() };
                let signature = proof.map(Text::from);
                Content::ToolCall(ToolCall {
                    id: id.into(),
                    name: name.into(),
                    arguments: arguments.into(),
                    kind,
                    signature,
                })
            }
        ),
        "[A-Za-z0-9+/]{4,8}".prop_map(|data| Content::Media(Media {
            kind: MediaKind::Image,
            source: Source::Base64(data.into()),
            mime: Some("image/webp".into()),
            name: None,
            detail: None,
        })),
    ]
}

fn response(blocks: Vec<Content<'static>>) -> Response<'static> {
    let usage = Usage { input: 9, output: 5, reasoning: 2, stated_total: Some(14), ..Usage::default() };
    let called = blocks.iter().any(|block| matches!(block, Content::ToolCall(_)));
    let reason = if called { FinishReason::ToolCalls } else { FinishReason::Stop };
    let finish = Some(Finish { reason, sequence: None, native: None });
    let blocks = blocks.into_iter().map(Block::new).collect();
    Response {
        origin: Origin("other"),
        id: "r".into(),
        model: "m".into(),
        created: Some(5),
        candidates: vec![Candidate { blocks, finish, ..Candidate::default() }],
        usage: Some(usage),
        ..Response::default()
    }
}

/// Blocks as a caller's next request brings them back: what an answer of this dialect means.
fn returned(output: &Value) -> Vec<Content<'static>> {
    let mut input = vec![json!({"role": "user", "content": "x"})];
    input.extend(output.as_array().unwrap().iter().cloned());
    let body = json!({"model": "m", "input": input}).to_string();
    let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
    request.messages.iter().skip(1).flat_map(|message| &message.blocks).map(|block| own(&block.content)).collect()
}

/// The members that JSON objects may have in any order, sorted.
fn plain(blocks: Vec<Content<'static>>) -> Vec<Content<'static>> {
    let sorted = |json: &Raw<'_>| Raw::trusted(serde_json::from_str::<Value>(json.get()).unwrap().to_string());
    blocks
        .into_iter()
        .map(|block| match block {
            Content::Text { text, citations } => {
                Content::Text { text, citations: citations.iter().map(sorted).collect() }
            }
            other => other,
        })
        .collect()
}

proptest! {
    #[test]
    fn a_request_read_and_written_says_the_same(body in body()) {
        let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
        let (out, losses) = encode(&request, "m", &Quirks::default()).unwrap();
        prop_assert!(losses.is_empty() || losses == "dropped:stream_options.include_obfuscation", "{}", losses);
        let again = Inbound::decode(&Face, &out).unwrap();
        let extras = |request: &Request<'_>| {
            let mut list: Vec<String> = request.extras.iter().map(|extra| format!("{extra:?}")).collect();
            list.retain(|extra| losses.is_empty() || !extra.contains("stream_options"));
            list.sort();
            list
        };
        prop_assert_eq!(extras(&again), extras(&request));
        let rest = |request: Request<'_>| format!("{:#?}", Request { extras: Extras::default(), ..request });
        prop_assert_eq!(rest(again), rest(request));
    }

    /// Whatever an answer has, it comes back with the caller's next request, and a stream of it says the same.
    #[test]
    fn answers_come_back_as_they_went(blocks in vec(block(), 0..6), pieces in vec(1usize..5, 8)) {
        let mut ids = std::collections::HashSet::new();
        prop_assume!(blocks.iter().all(|block| match block {
            Content::ToolCall(call) => ids.insert(call.id.to_string()),
            Content::Reasoning(thought) => thought.id.as_ref().is_none_or(|id| ids.insert(id.to_string())),
            _ => true,
        }));
        let response = response(blocks.clone());
        let (whole, losses) = show(&response, b"{}");
        prop_assert_eq!(losses, "");
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        prop_assert_eq!(plain(returned(&whole["output"])), plain(blocks.clone()));

        let (mut out, mut losses) = (Vec::new(), Losses::default());
        shown(b"{}", |shown| {
            let mut encoder = Inbound::stream(&Face, &shown.asked);
            response.events(&mut |event| {
                apart(event, &pieces, &mut |event| encoder.event(&event, shown, &mut out, &mut losses));
            });
        });
        prop_assert!(losses.is_empty(), "{}", losses);
        let events = events(&out);
        super::streams::check(&events);
        let mut last = events.last().unwrap()["response"].clone();
        // A whole answer is shown in the second of the clock, a stream's with the cost of its end: both the same here.
        prop_assert_eq!(&last["output"], &whole["output"]);
        prop_assert_eq!(last.take(), whole);
        let read = told(&out, 97);
        prop_assert!(read.whole && read.fault.is_none());
        prop_assert_eq!(read.usage, response.usage);
    }

    /// A stream with bytes changed is an error or an answer, and never a panic or a block out of order.
    #[test]
    fn damaged_streams_are_survived(name in prop_oneof![Just("full"), Just("overlap"), Just("sloppy")], seed in any::<u64>()) {
        let mut sse = std::fs::read(case(&format!("{name}.stream.sse"))).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..sse.len());
            match rng.u8(0..3) {
                0 => { sse.remove(at); }
                1 => sse.insert(at, *rng.choice(b"{}[]\",:0e\n x").unwrap()),
                _ => sse[at] = *rng.choice(b"{}[]\",:0e\n x1").unwrap(),
            }
        }
        if std::str::from_utf8(&sse).is_ok() {
            let read = told(&sse, 61);
            prop_assert!(read.whole || read.fault.is_some());
            let mut sniffer = Face.sniffer();
            frames(&sse, sse.len(), &mut |frame| { sniffer.frame(&frame); });
        }
    }

    /// Items dropped, repeated or put in another order: still blocks in order, and nothing told twice over.
    #[test]
    fn shuffled_streams_are_survived(order in vec(0usize..40, 0..60)) {
        let sse = input("full.stream.sse");
        let all: Vec<&str> = sse.split_inclusive("\n\n").collect();
        let shuffled: String = order.iter().filter_map(|at| all.get(*at)).copied().collect();
        let read = told(shuffled.as_bytes(), 1 << 20);
        prop_assert!(read.whole || read.fault.is_some());
    }
}

/// The same event with its text in pieces.
fn apart(event: Event<'_>, sizes: &[usize], emit: &mut dyn FnMut(Event<'_>)) {
    let Event::Open { candidate, block, content } = event else { return emit(event) };
    let mut deltas: Vec<Delta<'static>> = Vec::new();
    let pieces = |text: &str| -> Vec<String> {
        let mut sizes = sizes.iter().cycle();
        let mut rest: Vec<char> = text.chars().collect();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let size = (*sizes.next().unwrap()).min(rest.len());
            pieces.push(rest.drain(..size).collect());
        }
        pieces
    };
    let content = match own(&content) {
        Content::Text { text, citations } => {
            deltas.extend(pieces(&text).into_iter().map(|piece| Delta::Text(piece.into())));
            deltas.extend(citations.into_iter().map(Delta::Citation));
            Content::Text { text: Text::default(), citations: Vec::new() }
        }
        Content::Refusal(text) => {
            deltas.extend(pieces(&text).into_iter().map(|piece| Delta::Text(piece.into())));
            Content::Refusal(Text::default())
        }
        Content::Reasoning(thought) => {
            let text = thought.text.as_deref().unwrap_or_default();
            deltas.extend(pieces(text).into_iter().map(|piece| Delta::Text(piece.into())));
            deltas.extend(thought.signature.clone().map(Delta::Signature));
            deltas.extend(thought.encrypted.clone().map(Delta::Encrypted));
            Content::Reasoning(Reasoning { text: None, signature: None, encrypted: None, ..thought })
        }
        Content::ToolCall(call) => {
            deltas.extend(pieces(&call.arguments).into_iter().map(|piece| Delta::Arguments(piece.into())));
            deltas.extend(call.signature.clone().map(Delta::Signature));
            Content::ToolCall(ToolCall { arguments: Text::default(), signature: None, ..call })
        }
        other => other,
    };
    emit(Event::Open { candidate, block, content });
    deltas.into_iter().for_each(|delta| emit(Event::Delta { candidate, block, delta }));
}
