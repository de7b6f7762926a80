//! What holds for any answer, turn and bytes.

use proptest::prelude::*;

use super::*;

/// A part of an answer, by kind. A signed text is never empty: Gemini sends such a part only last, where nothing
/// follows that its signature could be taken for.
fn part() -> impl Strategy<Value = String> {
    let text = "[a-zä\"\\\\ ]{0,6}";
    prop_oneof![
        text.prop_map(|text| format!(r#"{{"text":{}}}"#, serde_json::to_string(&text).unwrap())),
        text.prop_map(|text| format!(r#"{{"thought":true,"text":{}}}"#, serde_json::to_string(&text).unwrap())),
        "[a-z]{1,3}".prop_map(|text| format!(r#"{{"text":"{text}","thoughtSignature":"s"}}"#)),
        (0..3)
            .prop_map(|n| format!(r#"{{"functionCall":{{"name":"f{n}","args":{{"n":{n}}}}},"thoughtSignature":"c"}}"#)),
        Just(r#"{"inlineData":{"mimeType":"image/png","data":"AA-_"}}"#.to_owned()),
        Just(r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#.to_owned()),
        Just("{}".to_owned()),
    ]
}

/// What blocks say, neighbours of one kind as one.
fn said(pieces: &mut Vec<String>, content: &Content<'_>) {
    let (kind, text) = match content {
        Content::Text { text, .. } => ("text ", text.to_string()),
        Content::Reasoning(Reasoning { text: Some(text), signature: None, .. }) => ("thought ", text.to_string()),
        other => ("", format!("{other:?}")),
    };
    match pieces.last_mut() {
        Some(last) if !kind.is_empty() && last.starts_with(kind) => last.push_str(&text),
        _ => pieces.push(format!("{kind}{text}")),
    }
}

proptest! {
    /// However an answer is parted into frames, it says the same, and the same as when it comes whole.
    #[test]
    fn parting_changes_nothing(parts in proptest::collection::vec(part(), 1..8), cuts in any::<u8>()) {
        let frame = |parts: &[String], end: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{}],"role":"model"}}{end}}}]}}"#, parts.join(","));
        let body = frame(&parts, r#","finishReason":"STOP""#);
        let whole = OUT.decode(body.as_bytes()).unwrap();
        let (mut expected, mut streamed) = (Vec::new(), Vec::new());
        for block in &whole.candidates[0].blocks {
            said(&mut expected, &block.content);
        }
        let (mut decoder, mut rest, mut finish) = (OUT.stream(), parts.as_slice(), None);
        let mut emit = |event: Event<'_>| match event {
            Event::Open { content, .. } => said(&mut streamed, &content),
            Event::Delta { delta: Delta::Text(text), .. } => streamed.last_mut().unwrap().push_str(&text),
            Event::Finish { finish: last, .. } => finish = Some(last.reason),
            _ => {}
        };
        for n in 0..8 {
            let take = if cuts & (1 << n) == 0 { 1 } else { 2 }.min(rest.len());
            let (now, later) = rest.split_at(take);
            rest = later;
            let data = frame(now, if rest.is_empty() { r#","finishReason":"STOP""# } else { "" });
            decoder.frame(&sse::Frame { event: "", data: &data, end: 0, comment: false }, &mut emit).unwrap();
        }
        decoder.end(&mut emit).unwrap();
        prop_assert_eq!(streamed, expected);
        prop_assert_eq!(finish, whole.candidates[0].finish.as_ref().map(|finish| finish.reason));
    }

    /// A model's turn that comes back is what it was: parts, order and signatures.
    #[test]
    fn a_turn_goes_back_as_it_came(parts in proptest::collection::vec(part(), 1..8)) {
        let body = format!(r#"{{"candidates":[{{"content":{{"parts":[{}]}},"finishReason":"STOP"}}]}}"#, parts.join(","));
        let response = OUT.decode(body.as_bytes()).unwrap();
        let blocks = response.candidates[0].blocks.clone();
        prop_assume!(!blocks.is_empty());
        let turn = Message { role: Role::Assistant, blocks, ..Message::default() };
        let request = Request { origin: Origin("gemini"), messages: vec![turn], ..Request::default() };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        let to = To { model: "gemini-2.5-pro", stream: false, quirks: &Quirks::default(), abilities: &Abilities::default() };
        OUT.encode(&request, &to, &mut out, &mut losses).unwrap();
        let sent: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let came: Vec<serde_json::Value> = parts.iter().map(|part| serde_json::from_str(part).unwrap())
            .filter(|part| *part != serde_json::json!({}) && *part != serde_json::json!({"text":""}))
            .map(|mut part: serde_json::Value| {
                // The alphabet is the only thing that may change.
                if let Some(data) = part.pointer_mut("/inlineData/data") { *data = "AA+/".into(); }
                part
            })
            .collect();
        prop_assert_eq!(&sent["contents"][0]["parts"], &serde_json::Value::from(came));
        prop_assert!(losses.is_empty(), "{}", losses);
    }

    /// Nothing that comes from outside panics.
    #[test]
    fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..200), model in ".{0,20}") {
        let text = String::from_utf8_lossy(&bytes);
        let _ = OUT.decode(&bytes);
        let _ = OUT.fault(400, &bytes);
        let _ = OUT.sniffer().body(&bytes);
        let _ = OUT.stream().frame(&sse::Frame { event: "", data: &text, end: 0, comment: false }, &mut |_| {});
        let (quirks, abilities) = (Quirks::default(), Abilities::default());
        let mut path = String::new();
        OUT.path(&To { model: &model, stream: false, quirks: &quirks, abilities: &abilities }, &mut path);
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains("/../"));
    }
}
