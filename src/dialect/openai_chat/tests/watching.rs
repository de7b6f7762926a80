//! The sniffer against the decoder, and against words that look like members.

use super::*;

#[test]
fn the_sniffer_sees_what_the_decoder_sees() {
    for entry in std::fs::read_dir(case("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".sse") {
            continue;
        }
        let mut decoder = stream::Decoder::default();
        let mut watch = sniff::Watch::default();
        let (mut told, mut sniffed, mut ended) = (None, None, false);
        for (event, data, comment) in frames(&input(&name)) {
            let frame = Frame { event: &event, data: &data, end: 0, comment };
            let (mut content, mut fault) = (false, false);
            decoder
                .frame(&frame, &mut |event| match event {
                    Event::Open { .. } | Event::Delta { .. } => content = true,
                    Event::Usage(usage) => told = Some(usage),
                    Event::Fault(_) => fault = true,
                    Event::End => ended = true,
                    _ => {}
                })
                .unwrap();
            let seen = watch.frame(&frame);
            assert!(seen.content || !content, "{name}: {data}");
            assert_eq!(seen.fault.is_some(), fault, "{name}: {data}");
            sniffed = seen.usage.or(sniffed);
        }
        let whole = decoder.end(&mut |_| {}).is_ok();
        assert_eq!(sniffed, told, "{name}");
        assert_eq!(watch.whole(), whole || ended && !name.starts_with("error"), "{name}");
    }
}

#[test]
fn the_sniffer_is_not_fooled_by_words() {
    let look = |data: &str| sniff::Watch::default().frame(&Frame { event: "", data, end: 0, comment: false });
    let quoted = look(
        r#"{"choices":[{"index":0,"delta":{"content":"{\"usage\":{\"prompt_tokens\":9},\"error\":{}}"}}],"usage":null}"#,
    );
    assert_eq!((quoted.content, quoted.usage, quoted.fault, quoted.usage_only), (true, None, None, false));
    let role = look(
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null,"tool_calls":[]},"finish_reason":null}]}"#,
    );
    assert!(!role.content);
    assert!(look(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#).content);
    let last = look(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#);
    assert!(last.usage_only && !last.content);
    let moved = look(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#);
    assert!(!moved.usage_only && moved.usage.is_some());
    assert!(look("[DONE]").end);
    let mut watch = sniff::Watch::default();
    assert!(watch.body(br#"{"error":{"message":"no","code":429}}"#).fault.is_some() && !watch.whole());
    assert!(sniff::Watch::default().body(b"<html>").fault.is_some());
}
