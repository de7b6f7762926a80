//! What holds for every answer: a stream says what the whole says, and no request brings us down.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn content() -> impl Strategy<Value = Content<'static>> {
    let text = prop_oneof![Just(""), Just("word "), Just("a\"b\n"), Just("\u{1F600}")];
    prop_oneof![
        4 => text.clone().prop_map(|text| Content::Text { text: text.into(), citations: Vec::new() }),
        1 => text.clone().prop_map(|text| Content::Refusal(text.into())),
        1 => text.clone().prop_map(|text| Content::Reasoning(Reasoning { text: Some(text.into()), ..Reasoning::default() })),
        1 => text.prop_map(|text| Content::ToolCall(ToolCall { name: text.into(), ..ToolCall::default() })),
    ]
}

fn response() -> impl Strategy<Value = Response<'static>> {
    let reason = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ToolCalls),
        Just(FinishReason::ContentFilter),
        Just(FinishReason::Error)
    ];
    let candidate = (proptest::collection::vec(content(), 0..5), reason);
    (proptest::collection::vec(candidate, 1..4), proptest::option::of(0..9_u64)).prop_map(|(candidates, tokens)| {
        let candidates = candidates.into_iter().enumerate().map(|(i, (contents, reason))| Candidate {
            index: i as u32,
            blocks: contents.into_iter().map(Block::new).collect(),
            finish: Some(Finish { reason, sequence: None, native: None }),
            ..Candidate::default()
        });
        let usage = tokens.map(|input| Usage { input, output: 1, ..Usage::default() });
        Response { id: "i".into(), model: "m".into(), candidates: candidates.collect(), usage, ..Response::default() }
    })
}

proptest! {
    #[test]
    fn a_stream_says_what_the_whole_says(response in response(), echo in any::<bool>()) {
        let body = format!(r#"{{"prompt":"Once\n","max_tokens":3,"echo":{echo}}}"#);
        let members = scan(body.as_bytes(), 64).unwrap();
        let asked =
            Asked { body: body.as_bytes(), members: Some(&members), model: "a", include_usage: true, ..Asked::default() };
        let shown = Shown { asked, ..Shown::default() };
        let (mut whole, mut losses) = (Vec::new(), Losses::default());
        Face.encode(&response, &shown, &mut whole, &mut losses);
        let whole: Value = serde_json::from_slice(&whole).unwrap();

        let (mut out, mut streamed) = (Vec::new(), Losses::default());
        let mut encoder = Face.stream(&asked);
        response.events(&mut |event| encoder.event(&event, &shown, &mut out, &mut streamed));
        prop_assert_eq!(&streamed, &losses);
        let mut said = vec![(String::new(), Value::Null); response.candidates.len()];
        let (mut usage, mut done) = (Value::Null, false);
        let mut frames = sse::Decoder::new(1 << 20);
        frames.push(&out, &mut |frame| {
            assert!(!done);
            if frame.data == "[DONE]" {
                done = true;
                return;
            }
            let chunk: Value = serde_json::from_str(frame.data).unwrap();
            assert_eq!(chunk["object"], "text_completion");
            for choice in chunk["choices"].as_array().unwrap() {
                let said = &mut said[choice["index"].as_u64().unwrap() as usize];
                assert!(said.1.is_null());
                said.0.push_str(choice["text"].as_str().unwrap());
                said.1 = choice["finish_reason"].clone();
            }
            usage = chunk["usage"].clone();
        }).unwrap();
        prop_assert!(done);
        prop_assert_eq!(&usage, &whole["usage"]);
        for (choice, (text, finish)) in whole["choices"].as_array().unwrap().iter().zip(said) {
            prop_assert_eq!(&choice["text"], &text);
            prop_assert_eq!(&choice["finish_reason"], &finish);
            prop_assert!(!echo || text.starts_with("Once\n"));
        }
    }

    #[test]
    fn no_bytes_bring_us_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Face.decode(&bytes);
    }
}
