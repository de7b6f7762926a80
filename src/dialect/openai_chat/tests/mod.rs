//! Goldens of this dialect (`cases/`) and its properties. `PORTOLAN_BLESS=1` writes the goldens anew; read the diff.

use std::path::PathBuf;

use serde_json::Value;

mod properties;
mod refusals;
mod watching;

use super::*;
use crate::dialect::{Abilities, ErrorClass, Quirks, ReasoningStyle};
use crate::ir::{
    Block, CacheMark, Content, Delta, Event, FaultKind, Finish, FinishReason, Media, MediaKind, Message, Origin,
    Reasoning, Role, Source, Tool, ToolCall, ToolResult,
};
use crate::wire::json::{Extras, Raw};
use crate::wire::sse::{self, Frame};

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/openai_chat/cases").join(name)
}

fn input(name: &str) -> String {
    std::fs::read_to_string(case(name)).unwrap()
}

fn golden(name: &str, actual: &str) {
    let path = case(name);
    if std::env::var_os("PORTOLAN_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name}");
}

fn pretty(json: &[u8]) -> String {
    // `RawValue` keeps the digits that `Value` would round.
    let text = std::str::from_utf8(json).unwrap();
    let members: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(text).unwrap();
    members.iter().map(|(name, json)| format!("  {name}: {}\n", json.get())).collect()
}

struct Target {
    quirks: Quirks,
    abilities: Abilities,
}

impl Target {
    fn style(reasoning: ReasoningStyle) -> Self {
        Target { quirks: Quirks { reasoning, ..Quirks::default() }, abilities: Abilities::default() }
    }

    fn encode(&self, request: &Request<'_>) -> (Vec<u8>, Losses) {
        let to = To { model: "target", stream: request.stream, quirks: &self.quirks, abilities: &self.abilities };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        body::encode(request, &to, &mut out, &mut losses).unwrap();
        serde_json::from_slice::<Value>(&out).expect("encoded bodies are JSON");
        (out, losses)
    }
}

/// The frames of a stream: event, data, and whether it is a comment.
fn frames(sse: &str) -> Vec<(String, String, bool)> {
    cut(sse, &[])
}

/// The frames of a stream that comes in pieces, cut at these offsets.
fn cut(sse: &str, at: &[usize]) -> Vec<(String, String, bool)> {
    let mut decoder = sse::Decoder::new(1 << 20);
    let mut out = Vec::new();
    let mut keep = |frame: Frame<'_>| out.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment));
    let mut from = 0;
    for to in at.iter().copied().chain([sse.len()]) {
        decoder.push(&sse.as_bytes()[from..to], &mut keep).unwrap();
        from = to;
    }
    decoder.end(&mut keep).unwrap();
    out
}

/// Decodes a stream, shows each event, and writes it for a caller.
fn relay(sse: &str) -> (String, String) {
    let mut decoder = stream::Decoder::default();
    let mut encoder = chunks::Encoder::new(true);
    let (mut shown, mut out, mut losses) = (String::new(), Vec::new(), Losses::default());
    let mut emit = |event: Event<'_>| {
        shown.push_str(&format!("  {event:?}\n"));
        encoder.event(&event, &Shown::default(), &mut out, &mut losses);
    };
    let mut outcome = Ok(());
    for (event, data, comment) in frames(sse) {
        let frame = Frame { event: &event, data: &data, end: 0, comment };
        outcome = outcome.and_then(|()| decoder.frame(&frame, &mut emit));
    }
    outcome = outcome.and_then(|()| decoder.end(&mut emit));
    if let Err(fault) = outcome {
        shown.push_str(&format!("  failed: {} {}\n", fault.kind.name(), fault.message));
    }
    let written = String::from_utf8(out).unwrap();
    (format!("events\n{shown}losses\n  {losses}\n"), written)
}

#[test]
fn requests_are_encoded_for_every_style() {
    use ReasoningStyle::{Effort, EnableThinking, None, Object, Thinking};
    for name in ["members", "turns", "legacy"] {
        let body = input(&format!("{name}.request.json"));
        let request = request::decode(body.as_bytes()).unwrap();
        let (mut shown, mut first) = (String::new(), String::new());
        for style in [Effort, Object, Thinking, EnableThinking, None] {
            let (out, losses) = Target::style(style).encode(&request);
            let body = pretty(&out);
            // The first in full, the others by what is different.
            let told: String = body.lines().filter(|line| !first.contains(*line)).map(|l| format!("{l}\n")).collect();
            shown.push_str(&format!("{style:?}\n{told}  losses: {losses}\n"));
            if first.is_empty() {
                first = body;
            }
        }
        golden(&format!("{name}.request.golden"), &shown);
    }
}

#[test]
fn answers_come_out_as_openai_writes_them() {
    for name in ["full", "odd"] {
        let body = input(&format!("{name}.answer.json"));
        let response = response::decode(body.as_bytes()).unwrap();
        let costs = [("cost_usd".to_owned(), "0.000123".to_owned())];
        let shown = Shown { costs: &costs, now: 1, ..Shown::default() };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        response::encode(&response, &shown, &mut out, &mut losses);
        let blocks: String =
            response.candidates.iter().flat_map(|c| c.blocks.iter().map(|b| format!("  {:?}\n", b.content))).collect();
        golden(&format!("{name}.answer.golden"), &format!("blocks\n{blocks}body\n{}losses: {losses}\n", pretty(&out)));
    }
}

#[test]
fn streams_become_events_and_chunks() {
    let mut names: Vec<_> = std::fs::read_dir(case(""))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".sse").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 18, "{names:?}");
    for name in names {
        let (events, written) = relay(&input(&format!("{name}.sse")));
        golden(&format!("{name}.sse.golden"), &format!("{events}stream\n{written}"));
        if !events.contains("failed") && !events.contains("Fault") {
            // What we write is a stream of this dialect too, and says the same.
            assert_eq!(said(&written), said(&input(&format!("{name}.sse"))), "{name}");
        }
    }
}

/// Where a chunk of the network ends means nothing: every fixture, cut at every byte, has the same frames.
#[test]
fn cuts_change_nothing() {
    for entry in std::fs::read_dir(case("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".sse") {
            continue;
        }
        let sse = input(&name);
        let whole = frames(&sse);
        for at in 0..sse.len() {
            assert_eq!(cut(&sse, &[at]), whole, "{name} cut at {at}");
        }
        let everywhere: Vec<usize> = (0..sse.len()).collect();
        assert_eq!(cut(&sse, &everywhere), whole, "{name} byte by byte");
    }
}

/// What a stream says, by candidate: whole blocks, whatever pieces they came in.
fn said(sse: &str) -> Vec<(u32, Vec<String>)> {
    let mut decoder = stream::Decoder::default();
    let mut said: Vec<(u32, Vec<String>)> = Vec::new();
    let mut emit = |event: Event<'_>| {
        let (candidate, start, text) = match event {
            Event::Open { candidate, content, .. } => match content {
                Content::Text { text, citations } => (candidate, "text: ", format!("{text}{citations:?}")),
                Content::Refusal(text) => (candidate, "refusal: ", text.to_string()),
                Content::Reasoning(Reasoning { text, summary, signature, encrypted, issuer, .. }) => {
                    let issuer = issuer.map(|issuer| issuer.to_string());
                    let text = text.as_deref().unwrap_or_default().to_owned();
                    let rest = [signature, encrypted].into_iter().flatten().map(|t| format!("[{t}]"));
                    (candidate, "thought: ", format!("{summary} {issuer:?} {text}{}", rest.collect::<String>()))
                }
                Content::ToolCall(call) => {
                    let proof = call.signature.map(|proof| format!("[{proof}]")).unwrap_or_default();
                    (candidate, "call: ", format!("{}{proof} {}", call.name, call.arguments))
                }
                Content::Media(media) => (candidate, "media: ", format!("{media:?}")),
                _ => return,
            },
            Event::Delta { candidate, delta, .. } => match delta {
                Delta::Text(text) | Delta::Arguments(text) => (candidate, "", text.to_string()),
                Delta::Signature(text) | Delta::Encrypted(text) => (candidate, "", format!("[{text}]")),
                Delta::Citation(json) => (candidate, "", format!("[{}]", json.get().replace(' ', ""))),
            },
            Event::Finish { candidate, finish } => (candidate, "finish: ", format!("{:?}", finish.reason)),
            _ => return,
        };
        if !said.iter().any(|(index, _)| *index == candidate) {
            said.push((candidate, Vec::new()));
        }
        let (_, blocks) = said.iter_mut().find(|(index, _)| *index == candidate).unwrap();
        match (start, blocks.last_mut()) {
            ("", Some(last)) => last.push_str(&text),
            _ => blocks.push(format!("{start}{text}")),
        }
    };
    for (event, data, comment) in frames(sse) {
        decoder.frame(&Frame { event: &event, data: &data, end: 0, comment }, &mut emit).unwrap();
    }
    decoder.end(&mut emit).unwrap();
    said.sort();
    for text in said.iter_mut().flat_map(|(_, blocks)| blocks) {
        // A call without arguments is told as one with none.
        if text.starts_with("call: ") && text.ends_with(' ') {
            text.push_str("{}");
        }
    }
    said
}

/// Merges streamed deltas as OpenAI's SDKs do: lists by index, strings appended, all else replaced.
fn merge(into: &mut Value, delta: &Value) {
    match (into, delta) {
        (Value::Object(into), Value::Object(delta)) => {
            for (name, value) in delta {
                match into.get_mut(name) {
                    Some(old) if name != "index" && name != "type" && !old.is_null() => merge(old, value),
                    _ => drop(into.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(into), Value::Array(delta)) => {
            for value in delta {
                match into.iter_mut().find(|old| old["index"] == value["index"] && !value["index"].is_null()) {
                    Some(old) => merge(old, value),
                    None => into.push(value.clone()),
                }
            }
        }
        (Value::String(into), Value::String(delta)) => into.push_str(delta),
        (into, delta) => *into = delta.clone(),
    }
}

#[test]
fn signatures_come_back_from_a_streamed_answer_through_a_merging_sdk() {
    let thought = |content: Reasoning<'static>| Content::Reasoning(content);
    let issuer = |name: &'static str| Some(name.into());
    let text =
        |t: &'static str, i| thought(Reasoning { text: Some(t.into()), issuer: issuer(i), ..Reasoning::default() });
    let events = vec![
        Event::Start {
            id: "msg_1".into(),
            model: "m".into(),
            created: None,
            service_tier: None,
            fingerprint: None,
            extras: Extras::default(),
        },
        Event::Open { candidate: 0, block: 0, content: text("", "anthropic") },
        Event::Delta { candidate: 0, block: 0, delta: Delta::Text("First ".into()) },
        Event::Delta { candidate: 0, block: 0, delta: Delta::Text("thought.".into()) },
        Event::Delta { candidate: 0, block: 0, delta: Delta::Signature("sigA==".into()) },
        Event::Close { candidate: 0, block: 0 },
        Event::Open {
            candidate: 0,
            block: 1,
            content: thought(Reasoning {
                encrypted: Some("secret==".into()),
                issuer: issuer("anthropic"),
                ..Reasoning::default()
            }),
        },
        Event::Close { candidate: 0, block: 1 },
        Event::Open { candidate: 0, block: 2, content: text("Second.", "anthropic") },
        Event::Delta { candidate: 0, block: 2, delta: Delta::Signature("sigB==".into()) },
        Event::Close { candidate: 0, block: 2 },
        Event::Open {
            candidate: 0,
            block: 3,
            content: Content::ToolCall(ToolCall {
                id: "t".into(),
                name: "f".into(),
                signature: Some("gs==".into()),
                ..ToolCall::default()
            }),
        },
        Event::Close { candidate: 0, block: 3 },
        Event::Finish {
            candidate: 0,
            finish: Finish { reason: FinishReason::ToolCalls, sequence: None, native: None },
        },
        Event::End,
    ];
    let mut encoder = chunks::Encoder::new(false);
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    for event in &events {
        encoder.event(event, &Shown::default(), &mut out, &mut losses);
    }
    assert!(losses.is_empty(), "{losses}");
    let mut message = serde_json::json!({});
    for (_, data, _) in frames(std::str::from_utf8(&out).unwrap()) {
        if data != "[DONE]" {
            let chunk: Value = serde_json::from_str(&data).unwrap();
            merge(&mut message, &chunk["choices"][0]["delta"]);
        }
    }
    let body = serde_json::json!({"model": "m", "messages": [message]}).to_string();
    let request = request::decode(body.as_bytes()).unwrap();
    let signed = |text: &'static str, signature: &'static str| {
        Content::Reasoning(Reasoning {
            text: Some(text.into()),
            signature: Some(signature.into()),
            issuer: Some("anthropic".into()),
            ..Reasoning::default()
        })
    };
    let blocks: Vec<_> = request.messages[0].blocks.iter().map(|block| block.content.clone()).collect();
    assert_eq!(blocks[0], signed("First thought.", "sigA=="));
    assert_eq!(
        blocks[1],
        thought(Reasoning { encrypted: Some("secret==".into()), issuer: issuer("anthropic"), ..Reasoning::default() })
    );
    assert_eq!(blocks[2], signed("Second.", "sigB=="));
    let Content::ToolCall(call) = &blocks[3] else { panic!("{blocks:?}") };
    assert_eq!((call.arguments.as_str(), call.signature.as_deref()), ("{}", Some("gs==")));
    assert_eq!(blocks.len(), 4);
}

#[test]
fn interleaved_arguments_are_refused_rather_than_mangled() {
    let chunk = |index: u32, id: &str, name: &str, arguments: &str| {
        let call = serde_json::json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
        serde_json::json!({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).to_string()
    };
    let mut decoder = stream::Decoder::default();
    let mut feed = |data: String| decoder.frame(&Frame { event: "", data: &data, end: 0, comment: false }, &mut |_| {});
    feed(chunk(0, "a", "f", "{")).unwrap();
    feed(chunk(1, "b", "g", "{")).unwrap();
    feed(chunk(0, "a", "", "")).unwrap();
    assert_eq!(feed(chunk(0, "a", "", "}")).unwrap_err().kind, FaultKind::Garbage);
}

#[test]
fn frames_that_are_not_chunks_are_garbage() {
    for data in ["oops", "[]", "7", r#"{"choices":5}"#, r#"{"choices":[{"index":0,"delta":[]}]}"#, "{"] {
        let frame = Frame { event: "", data, end: 0, comment: false };
        let fault = stream::Decoder::default().frame(&frame, &mut |_| {}).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Garbage, "{data}");
        let mut watch = sniff::Watch::default();
        assert_eq!(watch.frame(&frame).fault.map(|fault| fault.kind), Some(FaultKind::Garbage), "{data}");
        assert!(!watch.whole());
    }
}
