//! What callers send back is what they were shown: thoughts with their proofs, calls with their ids, texts.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::callers::{shown_to, streamed};
use super::*;
use crate::wire::json::Extras;

fn words() -> impl Strategy<Value = String> {
    "[a-zä\"\\\\ \n]{1,8}"
}

/// A block of another provider's answer.
fn block() -> impl Strategy<Value = Content<'static>> {
    let proof = || proptest::option::of("[A-Za-z0-9+/=_-]{1,20}");
    let issuer = prop_oneof![Just("anthropic"), Just("openai_responses"), Just("bedrock")];
    prop_oneof![
        words().prop_map(|text| Content::Text { text: text.into(), citations: Vec::new() }),
        words().prop_map(|text| Content::Reasoning(Reasoning { text: Some(text.into()), ..Reasoning::default() })),
        (proptest::option::of(words()), proof(), proof(), proof(), issuer, any::<bool>()).prop_map(
            |(text, signature, encrypted, id, issuer, summary)| Content::Reasoning(Reasoning {
                text: text.map(Text::from),
                signature: signature.map(Text::from),
                encrypted: encrypted.map(Text::from),
                id: id.map(Text::from),
                issuer: Some(issuer.into()),
                summary,
            })
        ),
        ("[a-z]{1,4}", 0..9).prop_map(|(name, n)| Content::ToolCall(ToolCall {
            id: format!("toolu_{name}{n}").into(),
            name: name.into(),
            arguments: format!("{{\"n\":{n}}}").into(),
            ..ToolCall::default()
        })),
    ]
}

/// Blocks a line each; neighbours that say the same kind of thing, without proof, as one.
fn lines<'b>(blocks: impl Iterator<Item = &'b Content<'b>>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // An answer without a word is shown as an empty text.
    for content in blocks.filter(|content| **content != Block::text("").content) {
        let (kind, text) = match content {
            Content::Text { text, .. } => ("text ", text.to_string()),
            Content::Reasoning(Reasoning { text: Some(text), issuer: None, .. }) => ("thought ", text.to_string()),
            other => ("", format!("{other:?}")),
        };
        match lines.last_mut() {
            Some(last) if !kind.is_empty() && last.starts_with(kind) => last.push_str(&text),
            _ => lines.push(format!("{kind}{text}")),
        }
    }
    lines
}

fn answer<'a>(blocks: &[Content<'a>]) -> Response<'a> {
    let blocks = blocks.iter().cloned().map(Block::new).collect();
    let finish = Some(Finish { reason: FinishReason::Stop, sequence: None, native: None });
    let candidate = Candidate { blocks, finish, ..Candidate::default() };
    Response {
        origin: Origin("anthropic"),
        id: "i".into(),
        model: "m".into(),
        candidates: vec![candidate],
        ..Response::default()
    }
}

/// The next request of a caller that kept these contents, its signatures in the alphabet that its SDK writes.
fn next(mut contents: Vec<Value>, urls: bool) -> String {
    for part in contents.iter_mut().flat_map(|content| content["parts"].as_array_mut().unwrap()) {
        if let (true, Some(signature)) = (urls, part.get_mut("thoughtSignature")) {
            *signature = signature.as_str().unwrap().replace('+', "-").replace('/', "_").into();
        }
    }
    contents.insert(0, json!({"role":"user","parts":[{"text":"go"}]}));
    json!({ "contents": contents }).to_string()
}

#[track_caller]
fn come_back(contents: Vec<Value>, urls: bool, expected: &[String]) {
    let body = next(contents, urls);
    let request = IN.decode(body.as_bytes()).unwrap();
    let turn = request.messages.get(1).map(|message| message.blocks.as_slice()).unwrap_or_default();
    assert_eq!(lines(turn.iter().map(|block| &block.content)), expected, "{body}");
}

fn frames(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    text.split_terminator("\r\n\r\n").map(|frame| serde_json::from_str(&frame["data: ".len()..]).unwrap()).collect()
}

proptest! {
    /// A whole answer, and the same in a stream whose every chunk became a content, come back as they were.
    #[test]
    fn turns_come_back(blocks in proptest::collection::vec(block(), 0..7), urls in any::<bool>()) {
        // A thought that says nothing at all is not shown.
        let says = |content: &&Content<'_>| !matches!(content, Content::Reasoning(thought) if *thought == Reasoning::default());
        let expected = lines(blocks.iter().filter(says));
        let response = answer(&blocks);
        let shown = shown_to(&[], false);
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        IN.encode(&response, &shown, &mut out, &mut losses);
        prop_assert!(losses.is_empty(), "{}", losses);
        let whole: Value = serde_json::from_slice(&out).unwrap();
        come_back(vec![whole["candidates"][0]["content"].clone()], urls, &expected);

        let (stream, losses) = streamed(&response, &shown);
        prop_assert!(losses.is_empty(), "{}", losses);
        let contents: Vec<Value> = frames(&stream).iter().map(|frame| frame["candidates"][0]["content"].clone()).collect();
        come_back(contents, urls, &expected);
    }

    /// However small the pieces a stream comes in: what a caller gathers is the same, and reads as Gemini's own stream.
    #[test]
    fn pieces_change_nothing(blocks in proptest::collection::vec(block(), 1..6), size in 1..5_usize, array in any::<bool>()) {
        let shown = shown_to(&[], array);
        let mut encoder = IN.stream(&shown.asked);
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        let mut emit = |event: Event<'_>| encoder.event(&event, &shown, &mut out, &mut losses);
        emit(Event::Start { id: "i".into(), model: "m".into(), created: None, service_tier: None, fingerprint: None, extras: Extras::default() });
        let pieces = |text: &str| -> Vec<String> {
            text.chars().collect::<Vec<_>>().chunks(size).map(|piece| piece.iter().collect()).collect()
        };
        for (block, content) in (0_u32..).zip(&blocks) {
            let delta = |delta| Event::Delta { candidate: 0, block, delta };
            match content.clone() {
                Content::Text { text, .. } => {
                    emit(Event::Open { candidate: 0, block, content: Content::Text { text: "".into(), citations: Vec::new() } });
                    pieces(&text).into_iter().for_each(|piece| emit(delta(Delta::Text(piece.into()))));
                }
                Content::Reasoning(thought) => {
                    let begun = Reasoning { text: None, signature: None, encrypted: None, ..thought.clone() };
                    emit(Event::Open { candidate: 0, block, content: Content::Reasoning(begun) });
                    pieces(thought.text.as_deref().unwrap_or("")).into_iter().for_each(|piece| emit(delta(Delta::Text(piece.into()))));
                    thought.signature.into_iter().for_each(|text| emit(delta(Delta::Signature(text))));
                    thought.encrypted.into_iter().for_each(|text| emit(delta(Delta::Encrypted(text))));
                }
                Content::ToolCall(call) => {
                    emit(Event::Open { candidate: 0, block, content: Content::ToolCall(ToolCall { arguments: "".into(), ..call.clone() }) });
                    pieces(&call.arguments).into_iter().for_each(|piece| emit(delta(Delta::Arguments(piece.into()))));
                }
                _ => {}
            }
            emit(Event::Close { candidate: 0, block });
        }
        let finish = Finish { reason: FinishReason::Stop, sequence: None, native: None };
        emit(Event::Finish { candidate: 0, finish });
        emit(Event::Usage(Usage { input: 1, output: 2, ..Usage::default() }));
        emit(Event::End);
        let written: Vec<Value> = if array { serde_json::from_slice(&out).unwrap() } else { frames(&out) };
        let last = written.last().unwrap();
        prop_assert_eq!(&last["usageMetadata"]["totalTokenCount"], &json!(3));
        prop_assert_eq!(&last["candidates"][0]["finishReason"], &json!("STOP"));
        prop_assert!(written.iter().all(|frame| frame["candidates"][0]["content"]["parts"][0].is_object()));
        let says = |content: &&Content<'_>| !matches!(content, Content::Reasoning(thought) if *thought == Reasoning::default());
        let contents = written.iter().map(|frame| frame["candidates"][0]["content"].clone()).collect();
        come_back(contents, false, &lines(blocks.iter().filter(says)));

        let mut decoder = OUT.stream();
        let mut ended = false;
        for frame in &written {
            let data = frame.to_string();
            decoder.frame(&sse::Frame { event: "", data: &data, end: 0, comment: false }, &mut |_| {}).unwrap();
        }
        decoder.end(&mut |event| ended |= matches!(event, Event::End)).unwrap();
        prop_assert!(ended);
    }

    /// A caller's own request, read and written to Gemini, says what it said.
    #[test]
    fn requests_say_what_they_said(parts in proptest::collection::vec(said(), 1..6), config in config()) {
        let calls: Vec<&Value> = parts.iter().filter(|part| part.get("functionCall").is_some()).collect();
        let results: Vec<Value> = calls.iter().map(|part| {
            let mut answer = json!({"name": part["functionCall"]["name"], "response": {"n": 1.5}});
            if let Some(id) = part["functionCall"].get("id") { answer["id"] = id.clone(); }
            json!({"functionResponse": answer})
        }).collect();
        let mut body = config;
        let mut contents = vec![json!({"role":"user","parts":[{"text":"go"}]}), json!({"role":"model","parts":parts})];
        let results = if results.is_empty() { vec![json!({"text":"on"})] } else { results };
        contents.push(json!({"role":"user","parts":results}));
        body["contents"] = contents.into();
        let text = body.to_string();
        let request = IN.decode(text.as_bytes()).unwrap();
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        let to = To { model: "gemini-2.5-pro", stream: false, quirks: &Quirks::default(), abilities: &Abilities::default() };
        OUT.encode(&request, &to, &mut out, &mut losses).unwrap();
        prop_assert!(losses.is_empty(), "{}: {}", losses, text);
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), body);
    }

    /// Nothing that a caller sends brings us down.
    #[test]
    fn no_bytes_bring_us_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = IN.decode(&bytes);
    }
}

/// A part that a model said, with an id of its own where it is a call.
fn said() -> impl Strategy<Value = Value> {
    prop_oneof![
        words().prop_map(|text| json!({ "text": text })),
        words().prop_map(|text| json!({"text": text, "thought": true})),
        words().prop_map(|text| json!({"text": text, "thoughtSignature": "CosC"})),
        (words(), 0..3)
            .prop_map(|(text, n)| json!({"text": text, "thought": true, "thoughtSignature": format!("s{n}")})),
        any::<u32>().prop_map(|n| json!({"functionCall": {"id": format!("id{n}"), "name": "f", "args": {"n": n}}})),
        (0..4).prop_map(|n| json!({"functionCall": {"name": format!("g{n}"), "args": {}}, "thoughtSignature": "c"})),
        Just(json!({"inlineData": {"mimeType": "image/png", "data": "AA+/", "displayName": "a.png", "odd": 1}})),
        Just(json!({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v"}, "videoMetadata": {"fps": 2}})),
        Just(json!({"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "e"})),
    ]
}

/// The members beside the contents.
fn config() -> impl Strategy<Value = Value> {
    let members = vec![
        ("safetySettings", json!([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}])),
        ("cachedContent", json!("cachedContents/x")),
        ("labels", json!({"team": "a"})),
        ("serviceTier", json!("flex")),
        ("systemInstruction", json!({"parts": [{"text": "s"}]})),
        (
            "tools",
            json!([{"functionDeclarations": [{"name": "f", "description": "d", "behavior": "BLOCKING",
            "parametersJsonSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}}]}, {"googleSearch": {}}]),
        ),
        (
            "toolConfig",
            json!({"functionCallingConfig": {"mode": "VALIDATED"}, "includeServerSideToolInvocations": true}),
        ),
        (
            "generationConfig",
            json!({"temperature": 0.5, "topK": 40, "maxOutputTokens": 9, "stopSequences": ["a"],
            "responseModalities": ["TEXT", "IMAGE"], "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "array"}, "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "thinkingConfig": {"thinkingBudget": -1, "includeThoughts": true, "odd": 2}}),
        ),
    ];
    proptest::sample::subsequence(members, 0..=8).prop_map(|members| {
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
    })
}
