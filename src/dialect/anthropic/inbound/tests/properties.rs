//! What holds for every answer and every request.

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{1,12}", "\\PC{1,8}", Just("\"\\\n\t\u{1}é\u{1F600}".to_owned())]
}

fn proof() -> impl Strategy<Value = Option<Text<'static>>> {
    proptest::option::of(prop_oneof!["[A-Za-z0-9+/=_-]{1,20}", "[%&=:a]{1,6}"].prop_map(Text::from))
}

fn content() -> impl Strategy<Value = Content<'static>> {
    let citation = Raw::literal(r#"{"type":"char_location","cited_text":"x"}"#);
    let citations = prop_oneof![Just(Vec::new()), Just(vec![citation.clone()]), Just(vec![citation.clone(), citation])];
    let issuer = prop_oneof![Just(None), Just(Some("anthropic")), Just(Some("gemini")), Just(Some("a&b%"))];
    let arguments = prop_oneof![
        Just(""),
        Just("{}"),
        Just(r#"{"a":1.10,"b":{"c":"\u00e9\n"}}"#),
        Just(" {\"a\":[]}"),
        Just("[1,\"x\"]"),
        Just("word"),
        Just("\"quoted\"")
    ];
    let kind = prop_oneof![4 => Just(ToolKind::Function), 1 => Just(ToolKind::Custom)];
    prop_oneof![
        3 => (text(), citations).prop_map(|(text, citations)| Content::Text { text: text.into(), citations }),
        1 => "[a-z]{1,5}".prop_map(|text| Content::Refusal(text.into())),
        3 => (text(), any::<bool>(), proof(), proof(), issuer, proof()).prop_map(
            |(text, summary, signature, encrypted, issuer, id)| Content::Reasoning(Reasoning {
                text: Some(text).filter(|text| !text.is_empty()).map(Text::from),
                // What Anthropic issues has no more than Anthropic's blocks have.
                summary: summary && issuer != Some("anthropic"),
                id: id.filter(|_| issuer != Some("anthropic")),
                signature,
                encrypted: encrypted.filter(|_| issuer != Some("anthropic")),
                issuer: issuer.map(Text::from),
            })
        ),
        3 => (prop_oneof![Just(String::new()), "[a-z]{1,4}"], arguments, kind, proof()).prop_map(|(id, arguments, kind, signature)| {
            Content::ToolCall(ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), kind, signature })
        }),
        1 => Just(Content::Other { kind: "web_search_call".into(), json: Raw::literal("{}") }),
    ]
}

fn finish() -> impl Strategy<Value = Option<Finish<'static>>> {
    let reason = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::StopSequence),
        Just(FinishReason::Length),
        Just(FinishReason::ToolCalls),
        Just(FinishReason::ContentFilter),
        Just(FinishReason::Refusal),
        Just(FinishReason::Pause),
        Just(FinishReason::Error),
        Just(FinishReason::Other)
    ];
    let sequence = proptest::option::of(Just(Text::from("END")));
    proptest::option::of((reason, sequence).prop_map(|(reason, sequence)| Finish { reason, sequence, native: None }))
}

/// The events of an answer, its texts and arguments in pieces of some characters.
fn events(response: &Response<'_>, size: usize, emit: &mut dyn FnMut(Event<'_>)) {
    let pieces = |text: &str| -> Vec<String> {
        text.chars().collect::<Vec<_>>().chunks(size).map(|piece| piece.iter().collect()).collect()
    };
    response.events(&mut |event| {
        let Event::Open { candidate, block, content } = event else { return emit(event) };
        let (content, text) = match content {
            Content::Text { text, citations } => (Content::Text { text: Text::default(), citations }, text),
            Content::Reasoning(mut thought) => {
                let text = thought.text.take().unwrap_or_default();
                (Content::Reasoning(thought), text)
            }
            Content::ToolCall(mut call) => {
                let text = std::mem::take(&mut call.arguments);
                emit(Event::Open { candidate, block, content: Content::ToolCall(call) });
                for piece in pieces(&text) {
                    emit(Event::Delta { candidate, block, delta: Delta::Arguments(piece.into()) });
                }
                return;
            }
            content => return emit(Event::Open { candidate, block, content }),
        };
        // Proofs stand at the beginning or the end.
        let (content, late) = match content {
            Content::Reasoning(thought) if size.is_multiple_of(2) => {
                let late = (thought.signature.clone(), thought.encrypted.clone());
                (Content::Reasoning(Reasoning { signature: None, encrypted: None, ..thought }), late)
            }
            content => (content, (None, None)),
        };
        emit(Event::Open { candidate, block, content });
        for piece in pieces(&text) {
            emit(Event::Delta { candidate, block, delta: Delta::Text(piece.into()) });
        }
        if let Some(signature) = late.0 {
            emit(Event::Delta { candidate, block, delta: Delta::Signature(signature) });
        }
        if let Some(data) = late.1 {
            emit(Event::Delta { candidate, block, delta: Delta::Encrypted(data) });
        }
    });
}

proptest! {
    /// A stream, gathered, is the whole answer; and sent back, it is what the provider said.
    #[test]
    fn streams_and_whole_answers_agree(
        contents in proptest::collection::vec(content(), 0..6),
        finish in finish(),
        size in 1_usize..5,
        counted in any::<bool>(),
    ) {
        // A provider that names two calls alike leaves nobody a way to tell their results apart.
        let mut ids = std::collections::HashSet::new();
        prop_assume!(contents.iter().all(|content| match content {
            Content::ToolCall(call) => call.id.is_empty() || ids.insert(call.id.to_string()),
            _ => true,
        }));
        let blocks: Vec<Block<'static>> = contents.into_iter().map(Block::new).collect();
        let usage = Usage { input: 30, output: 9, cached: 10, cache_write: 3, cache_write_1h: 2, reasoning: 4, ..Usage::default() };
        let response = Response {
            origin: Origin("other"),
            id: "resp_1".into(),
            candidates: vec![Candidate { blocks, finish, ..Candidate::default() }],
            usage: counted.then_some(usage),
            ..Response::default()
        };
        let costs = costs();
        let (mut whole, mut lost) = (Vec::new(), Losses::default());
        Face.encode(&response, &shown(&costs), &mut whole, &mut lost);
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        let mut encoder = stream::Encoder::default();
        events(&response, size, &mut |event| encoder.event(&event, &shown(&costs), &mut out, &mut losses));
        let gathered = gather(std::str::from_utf8(&out).unwrap());
        prop_assert_eq!(&gathered, &whole);
        prop_assert_eq!(losses.iter().collect::<Vec<_>>().len(), lost.iter().collect::<Vec<_>>().len());

        let messages = json!([{"role": "assistant", "content": whole["content"]}]);
        let body = json!({"model": "m", "max_tokens": 9, "messages": messages}).to_string();
        let request = Face.decode(body.as_bytes()).unwrap();
        let returned: Vec<String> = request.messages[0].blocks.iter().map(|block| come_back(&block.content)).collect();
        let went = response.candidates[0].blocks.iter().map(|block| come_back(&block.content));
        prop_assert_eq!(returned, went.filter(|said| !said.is_empty()).collect::<Vec<_>>());
    }

    /// What a caller of this dialect says reaches a provider of it.
    #[test]
    fn requests_come_out_as_they_went_in(body in request()) {
        let text = body.to_string();
        let request = Face.decode(text.as_bytes()).unwrap();
        let (sent, losses) = asked_of("anthropic", &request, "claude-sonnet-4-0");
        prop_assert!(losses.is_empty(), "{losses}");
        prop_assert_eq!(plain(sent), plain(body));
    }
}

/// What must come back of a block; empty for what says nothing or cannot be shown.
fn come_back(content: &Content<'_>) -> String {
    match content {
        Content::Text { text, citations } if text.is_empty() && citations.is_empty() => String::new(),
        Content::Text { text, citations } => format!("{text} {}", citations.len()),
        Content::Refusal(text) => format!("{text} 0"),
        Content::Reasoning(thought) => {
            let proof = thought.signature.is_some() || thought.encrypted.is_some();
            if thought.text.is_none() && !proof { String::new() } else { format!("{thought:?}") }
        }
        // Arguments that are no object come back within one.
        Content::ToolCall(call) => format!("{} {:?}", call.name, call.signature),
        _ => String::new(),
    }
}

fn maybe(strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(strategy).boxed()
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{1,12}", "[a-zé\u{1F600}]{1,6}", Just("a\"\\\n\t\u{1}b".to_owned())]
}

fn part() -> impl Strategy<Value = Value> {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    prop_oneof![
        words().prop_map(|text| json!({"type": "text", "text": text})),
        words().prop_map(move |text| json!({"type": "text", "text": text, "cache_control": mark, "x": [1.5]})),
        words().prop_map(|url| json!({"type": "image", "source": {"type": "url", "url": format!("https://{url}")}})),
        Just(json!({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA", "y": 1}})),
        words().prop_map(|data| {
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": data}, "title": "t"})
        }),
        words().prop_map(|text| {
            let content = json!([{"type": "text", "text": text}, {"type": "text", "text": "b", "cache_control": null}]);
            json!({"type": "document", "source": {"type": "content", "content": content}, "citations": {"enabled": true}})
        }),
        words().prop_map(|id| json!({"type": "container_upload", "file_id": id})),
        words().prop_map(|text| json!({"type": "tomorrow", "text": [text]})),
    ]
}

fn answer() -> impl Strategy<Value = Value> {
    let thought =
        (words(), words()).prop_map(|(text, proof)| json!({"type": "thinking", "thinking": text, "signature": proof}));
    let redacted = words().prop_map(|data| json!({"type": "redacted_thinking", "data": data, "z": 1}));
    prop_oneof![
        part(),
        thought,
        redacted,
        Just(json!({"type": "server_tool_use", "id": "s", "name": "n", "input": {}})),
        Just(json!({"type": "text", "text": "c", "citations": [{"type": "char_location"}]})),
    ]
}

/// A call, its result and what is said with it.
fn round() -> impl Strategy<Value = Vec<Value>> {
    let inside = prop_oneof![
        words().prop_map(Value::from),
        proptest::collection::vec(part(), 1..3).prop_map(Value::from),
        Just(Value::Null)
    ];
    let thoughts = proptest::collection::vec(answer(), 0..3);
    let after = proptest::collection::vec(part(), 0..3);
    (thoughts, inside, proptest::option::of(any::<bool>()), after).prop_map(|(mut said, inside, is_error, after)| {
        said.push(json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1.5, {}]}}));
        let mut result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "is_error": is_error});
        result["content"] = inside;
        let told: Vec<Value> = [result].into_iter().chain(after).collect();
        vec![json!({"role": "assistant", "content": said}), json!({"role": "user", "content": told})]
    })
}

fn request() -> impl Strategy<Value = Value> {
    let content =
        prop_oneof![words().prop_map(Value::from), proptest::collection::vec(part(), 1..4).prop_map(Value::from)];
    let first = content.prop_map(|content| vec![json!({"role": "user", "content": content})]);
    let middle = words().prop_map(|text| json!({"role": "system", "content": text}));
    let messages = (first, proptest::collection::vec(round(), 0..3), proptest::option::of(middle)).prop_map(
        |(first, rounds, middle)| first.into_iter().chain(rounds.into_iter().flatten()).chain(middle).collect(),
    );
    let system = prop_oneof![
        words().prop_map(Value::from),
        words().prop_map(|text| json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]))
    ];
    let tools = json!([
        {"name": "f", "description": "d", "input_schema": {"type": "object"}, "defer_loading": true},
        {"type": "web_search_20250305", "name": "web_search"}
    ]);
    let choice = prop_oneof![
        Just(json!({"type": "auto", "disable_parallel_tool_use": true})),
        Just(json!({"type": "any"})),
        Just(json!({"type": "none"})),
        Just(json!({"type": "tool", "name": "f", "w": 1})),
        Just(json!({"type": "tomorrow"})),
    ];
    let thinking = prop_oneof![
        Just(json!({"type": "disabled"})),
        Just(json!({"type": "adaptive", "display": "omitted", "v": 1})),
        Just(json!({"type": "tomorrow", "u": 1})),
    ];
    let output = prop_oneof![
        Just(json!({"effort": "max"})),
        Just(json!({"effort": "tomorrow", "t": 1})),
        Just(json!({"format": {"type": "tomorrow"}})),
    ];
    let rest = (
        maybe(Just(json!(["a", "\n b"]))),
        maybe(Just(json!({"user_id": "u"}))),
        maybe(Just(json!({"user_id": "u", "k": 1}))),
    );
    (messages, maybe(system), maybe(choice), maybe(thinking), maybe(output), rest, any::<bool>()).prop_map(
        move |(messages, system, choice, thinking, output, (stop, user, metadata), stream): (
            Vec<Value>,
            _,
            _,
            _,
            _,
            _,
            _,
        )| {
            let mut body =
                json!({"model": "claude-sonnet-4-0", "max_tokens": 100, "messages": messages, "tools": tools});
            for (name, value) in [
                ("system", system),
                ("tool_choice", choice),
                ("thinking", thinking),
                ("output_config", output),
                ("stop_sequences", stop),
                ("metadata", metadata.or(user)),
                ("stream", stream.then_some(true.into())),
                ("container", stream.then_some(json!({"id": 5}))),
            ] {
                if let Some(value) = value {
                    body[name] = value;
                }
            }
            body
        },
    )
}

/// A body with what may be written in two ways written in one: texts as blocks, nulls left out.
fn plain(mut body: Value) -> Value {
    fn bare(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|_, value| !value.is_null());
                members.values_mut().for_each(bare);
                if members.get("type").is_some_and(|kind| kind == "tool_result") {
                    blocks(members.entry("content").or_insert_with(|| json!([])));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(bare),
            _ => {}
        }
    }
    fn blocks(content: &mut Value) {
        if let Value::String(text) = content {
            *content = json!([{"type": "text", "text": text}]);
        }
    }
    if let Some(system) = body.get_mut("system") {
        blocks(system);
    }
    for message in body["messages"].as_array_mut().unwrap() {
        blocks(&mut message["content"]);
    }
    // A source is written back as it was, nulls and all, where it has more than the IR holds.
    bare(&mut body);
    body
}
