//! Goldens of this dialect: what its requests mean, and how the answers and streams of chat providers look to its callers.

use std::fmt::Write as _;

use super::*;
use crate::dialect::tests::golden::{Cases, pretty};
use crate::dialect::{ErrorClass, Outbound};
use crate::ir::*;
use crate::wire::scan::scan;
use crate::wire::sse;

mod properties;

const CASES: Cases = Cases("openai_completions");

#[test]
fn requests() {
    for (name, body) in CASES.all(".request.json") {
        CASES.golden(&format!("{name}.request.txt"), &format!("{:#?}\n", Face.decode(&body).unwrap()));
    }
}

/// What has no counterpart and would change the answer is refused, by the member's name.
#[test]
fn refusals_name_the_member() {
    for (members, path, word) in [
        (r#""model":"m""#, "prompt", "required"),
        (r#""prompt":"x""#, "model", "required"),
        (r#""model":"m","prompt":null"#, "prompt", "required"),
        (r#""model":"m","prompt":[]"#, "prompt", "empty"),
        (r#""model":"m","prompt":["a","b"]"#, "prompt", "one prompt"),
        (r#""model":"m","prompt":[1,2]"#, "prompt", "token ids"),
        (r#""model":"m","prompt":[[1,2]]"#, "prompt", "token ids"),
        (r#""model":"m","prompt":[[1],[2]]"#, "prompt", "token ids"),
        (r#""model":"m","prompt":7"#, "prompt", "token ids"),
        (r#""model":"m","prompt":{}"#, "prompt", "expected a text"),
        (r#""model":"m","prompt":[true]"#, "prompt[0]", "expected a string"),
        (r#""model":"m","prompt":"x","suffix":"y""#, "suffix", "suffix"),
        (r#""model":"m","prompt":"x","n":0"#, "n", "at least 1"),
        (r#""model":"m","prompt":"x","n":3,"best_of":2"#, "best_of", "at least as many"),
        (r#""model":"m","prompt":"x","best_of":1.5"#, "best_of", "whole number"),
        (r#""model":"m","prompt":"x","logprobs":6"#, "logprobs", "at most 5"),
        (r#""model":"m","prompt":"x","logprobs":true"#, "logprobs", "number"),
        (r#""model":"m","prompt":"x","max_tokens":-1"#, "max_tokens", "at least 1"),
        (r#""model":"m","prompt":"x","logit_bias":[]"#, "logit_bias", "object"),
        (r#""model":"m","prompt":"x","echo":"yes""#, "echo", "bool"),
    ] {
        let invalid = Face.decode(format!("{{{members}}}").as_bytes()).unwrap_err();
        assert_eq!(invalid.path, path, "{members}: {invalid}");
        assert!(invalid.message.contains(word), "{members}: {invalid}");
    }
    assert!(Face.decode(b"<html>").is_err());
}

fn chat() -> &'static dyn Outbound {
    crate::dialect::named("openai_chat").unwrap().outbound.unwrap()
}

/// What a provider's answer looks like to a caller who sent `request`.
fn shown(request: &[u8], response: &Response<'_>) -> String {
    let members = scan(request, 64).unwrap();
    let asked =
        Asked { body: request, members: Some(&members), model: "alias", id: "0123456789abcdef", ..Asked::default() };
    let costs = [("cost_usd".to_owned(), "0.000015".to_owned())];
    let shown = Shown { costs: &costs, now: 1_700_000_000, asked, ..Shown::default() };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    Face.encode(response, &shown, &mut out, &mut losses);
    format!("losses: {losses}\n\n{}\n", pretty(&out))
}

#[test]
fn answers() {
    let plain = br#"{"prompt":"Hi","max_tokens":5}"#;
    let echoed = r#"{"prompt":["Grüß"],"echo":true,"logprobs":2}"#.as_bytes();
    for (name, body) in CASES.all(".answer.json") {
        let response = chat().decode(&body).unwrap();
        CASES.golden(&format!("{name}.answer.txt"), &shown(plain, &response));
        CASES.golden(&format!("{name}-echo.answer.txt"), &shown(echoed, &response));
    }
    let nameless = Response { candidates: vec![Candidate::default()], ..Response::default() };
    let text = shown(plain, &nameless);
    assert!(text.contains(r#""id": "cmpl-0123456789abcdef""#) && text.contains(r#""model": "alias""#), "{text}");
}

/// What a provider's stream looks like to a caller.
fn relayed(request: &[u8], stream: &[u8], include_usage: bool) -> String {
    let members = scan(request, 64).unwrap();
    let asked = Asked { body: request, members: Some(&members), model: "alias", include_usage, ..Asked::default() };
    let costs = [("cost_usd".to_owned(), "0.000015".to_owned())];
    let shown = Shown { costs: &costs, now: 1_700_000_000, asked, ..Shown::default() };
    let (mut decoder, mut encoder) = (chat().stream(), Face.stream(&asked));
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let mut frames = sse::Decoder::new(1 << 20);
    frames
        .push(stream, &mut |frame| {
            decoder.frame(&frame, &mut |event| encoder.event(&event, &shown, &mut out, &mut losses)).unwrap();
        })
        .unwrap();
    decoder.end(&mut |event| encoder.event(&event, &shown, &mut out, &mut losses)).unwrap();
    let mut text = String::new();
    writeln!(text, "losses: {losses}\n\n{}", String::from_utf8(out).unwrap().trim_end()).unwrap();
    text
}

#[test]
fn streams() {
    let echoed = r#"{"prompt":"Grüß","echo":true,"logprobs":0}"#.as_bytes();
    for (name, bytes) in CASES.all(".stream.sse") {
        CASES.golden(&format!("{name}.stream.txt"), &relayed(br#"{"prompt":"Hi","max_tokens":5}"#, &bytes, false));
        CASES.golden(&format!("{name}-echo.stream.txt"), &relayed(echoed, &bytes, true));
    }
}

#[test]
fn errors_and_models_are_those_of_chat() {
    let error = ErrorShape {
        class: ErrorClass::InvalidRequest,
        status: ErrorClass::InvalidRequest.status(),
        message: "no",
        code: None,
        param: Some("prompt"),
        request_id: "r",
    };
    let twin = crate::dialect::named("openai_chat").unwrap().inbound.unwrap();
    let model = ListedModel { name: "m", owner: "o", context: Some(7), ..ListedModel::default() };
    let written = |face: &dyn Inbound| {
        let mut out = Vec::new();
        face.error(&error, &mut out);
        face.error_event(&error, &Asked::default(), &mut out);
        face.models(&[model], true, &mut out);
        face.model(&model, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(&Face), written(twin));
    assert!(!Face.count(1, &mut Vec::new()));
}
