//! Goldens of this dialect: what a Chat caller's request becomes, what answers and streams mean; and properties that hold
//! for any.

use super::*;
use crate::dialect::tests::golden::{self, Cases, chat, encode};
use crate::dialect::{Abilities, Quirks};
use crate::ir::*;
use crate::wire::json::{Extras, Raw, Text};
use crate::wire::scan::scan;

mod properties;

const CASES: Cases = Cases("cohere");

#[test]
fn requests() {
    let none = Quirks::default();
    for (name, model, golden_name) in [
        ("conversation", "command-a-03-2025", "conversation"),
        ("conversation", "command-a-reasoning-08-2025", "conversation-reasoning"),
        ("everything", "command-a-03-2025", "everything"),
        ("format", "command-a-03-2025", "format"),
        ("tools-format", "command-a-03-2025", "tools-format"),
        ("chosen", "command-a-03-2025", "chosen"),
    ] {
        let body = CASES.read(&format!("{name}.request.json"));
        CASES.golden(&format!("{golden_name}.request.txt"), &golden::told(&Face, &body, model, &none));
    }
    let quirks = Quirks {
        refuses: ["k", "stop", "thinking", "tool_choice"].map(str::to_owned).into(),
        rename: [("max_tokens".to_owned(), "token_limit".to_owned())].into(),
        ..Quirks::default()
    };
    let body = CASES.read("everything.request.json");
    CASES.golden("everything-quirks.request.txt", &golden::told(&Face, &body, "command-a-03-2025", &quirks));
}

/// One's own extras go back, and what only this dialect knows is written as it was.
#[test]
fn own_requests_keep_what_is_theirs() {
    let member = |name: &'static str, json: &'static str| (Text::from(name), Raw::literal(json));
    let citation = Raw::literal(r#"{"start":0,"end":1,"text":"x"}"#);
    let cited = Block::new(Content::Text { text: "x".into(), citations: vec![citation] });
    let message = |role, blocks| Message { role, blocks, ..Message::default() };
    let request = Request {
        origin: Origin(NAME),
        messages: vec![message(Role::User, vec![Block::text("q")]), message(Role::Assistant, vec![cited])],
        tools: vec![Tool::Other { kind: "connector".into(), json: Raw::literal(r#"{"type":"connector"}"#) }],
        extras: Extras(vec![
            member("documents", r#"[{"id":"d","data":{"text":"t"}}]"#),
            member("citation_options", r#"{"mode":"fast"}"#),
            member("safety_mode", r#""STRICT""#),
        ]),
        // Cannot be held to beside documents.
        format: Format::JsonObject,
        ..Request::default()
    };
    let (body, losses) = encode(&Face, &request, "m", &Quirks::default(), &Abilities::default()).unwrap();
    assert_eq!(losses.to_string(), "emulated:response_format");
    CASES.golden("own.request.txt", &format!("{}\n", golden::pretty(&body)));
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    for (member, part, path) in [
        (r#","n":2"#, r#"{"type":"text","text":"x"}"#, "n"),
        ("", r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#, "messages[0].content[0]"),
        ("", r#"{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}"#, "messages[0].content[0]"),
        ("", r#"{"type":"file","file":{"file_id":"file-abc"}}"#, "messages[0].content[0]"),
        (
            "",
            r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBERi0="}}"#,
            "messages[0].content[0]",
        ),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]{member}}}"#);
        let request = chat().decode(body.as_bytes()).unwrap();
        let unsayable = encode(&Face, &request, "m", &Quirks::default(), &Abilities::default()).unwrap_err();
        assert_eq!(unsayable.path, path, "{body}");
        assert!(unsayable.message.starts_with("Cohere "), "{}", unsayable.message);
    }
}

#[test]
fn a_model_that_does_not_reason_is_not_told_to() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"high"}"#;
    let abilities = Abilities { reasoning: Some(false), ..Abilities::default() };
    let (out, losses) = encode(&Face, &chat().decode(body).unwrap(), "m", &Quirks::default(), &abilities).unwrap();
    assert_eq!(losses.to_string(), "dropped:reasoning_effort");
    assert_eq!(out, br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
}

#[test]
fn answers() {
    for (name, body) in CASES.all(".answer.json") {
        CASES.golden(&format!("{name}.answer.txt"), &format!("{:#?}\n", Face.decode(&body).unwrap()));
        let mut sniffer = Face.sniffer();
        let seen = sniffer.body(&body);
        assert_eq!((seen.usage, seen.end), (Face.decode(&body).unwrap().usage, true), "{name}");
        assert!(seen.content && sniffer.whole(), "{name}");
    }
}

#[test]
fn what_is_no_answer_is_never_taken_for_one() {
    for (body, path) in [
        ("{}", "message"),
        (r#"{"message":"invalid api token"}"#, "message"),
        (r#"{"message":{"content":[{"type":"text","text":5}]}}"#, "message.content[0].text"),
        (r#"{"message":{"content":[{"type":"text","text":"half"}]},"finish_reason":"ERROR"}"#, "finish_reason"),
        (r#"{"message":{"content":[]},"finish_reason":"TIMEOUT"}"#, "finish_reason"),
    ] {
        assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    for body in ["{}", r#"{"message":"x"}"#, r#"{"message":{},"finish_reason":"ERROR"}"#, "<html>", "[]"] {
        let mut sniffer = Face.sniffer();
        assert!(sniffer.body(body.as_bytes()).fault.is_some() && !sniffer.whole(), "{body}");
    }
    assert!(Face.decode(b"<html>").is_err());
}

#[test]
fn streams_at_every_cut() {
    let streams = CASES.all(".stream.sse");
    assert!(streams.len() >= 7, "{} streams", streams.len());
    for (name, bytes) in streams {
        let whole = golden::events(&Face, &bytes, bytes.len());
        CASES.golden(&format!("{name}.stream.txt"), &whole);
        for cut in [1, 2, 3, 7, 64, 257] {
            assert_eq!(golden::events(&Face, &bytes, cut), whole, "{name} in chunks of {cut}");
        }
        golden::sniffed_alike(&Face, &name, &bytes);
    }
}

/// The same answer, whole and streamed, is the same to a caller.
#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let shown = crate::dialect::Shown::default();
    let mut losses = Losses::default();
    let mut whole = Vec::new();
    let body = CASES.read("plan.answer.json");
    chat().encode(&Face.decode(&body).unwrap(), &shown, &mut whole, &mut losses);
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let message = &whole["choices"][0]["message"];

    let (mut thoughts, mut calls) = (String::new(), Vec::new());
    let mut decoder = Face.stream();
    golden::frames(Face.framing(), &CASES.read("plan.stream.sse"), 1 << 20, &mut |frame| {
        let mut hear = |event: Event<'_>| match event {
            Event::Delta { delta: Delta::Text(text), .. } => thoughts.push_str(&text),
            Event::Open { content: Content::ToolCall(call), .. } => {
                calls.push((call.id.to_string(), call.name.to_string(), call.arguments.to_string()));
            }
            Event::Delta { delta: Delta::Arguments(piece), .. } => calls.last_mut().unwrap().2.push_str(&piece),
            _ => {}
        };
        decoder.frame(&frame, &mut hear).unwrap();
    });
    assert_eq!(message["reasoning_content"], thoughts.as_str());
    let told = message["tool_calls"].as_array().unwrap();
    assert_eq!(told.len(), calls.len());
    for (told, (id, name, arguments)) in told.iter().zip(&calls) {
        assert_eq!((told["id"].as_str(), told["function"]["name"].as_str()), (Some(&**id), Some(&**name)));
        assert_eq!(told["function"]["arguments"], arguments.as_str());
    }
}

#[test]
fn a_plan_comes_back_from_a_chat_caller_as_it_went() {
    let mut shown = Vec::new();
    let body = CASES.read("plan.answer.json");
    chat().encode(&Face.decode(&body).unwrap(), &Default::default(), &mut shown, &mut Losses::default());
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let message = shown["choices"][0]["message"].clone();
    let result = |id: &serde_json::Value| serde_json::json!({"role": "tool", "tool_call_id": id, "content": "done"});
    let results: Vec<_> = message["tool_calls"].as_array().unwrap().iter().map(|call| result(&call["id"])).collect();
    let mut messages = vec![serde_json::json!({"role": "user", "content": "q"}), message];
    messages.extend(results);
    let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
    let request = chat().decode(body.as_bytes()).unwrap();
    let (out, losses) = encode(&Face, &request, "command-r", &Quirks::default(), &Abilities::default()).unwrap();
    assert!(losses.is_empty(), "{losses}");
    let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&CASES.read("plan.answer.json")).unwrap();
    assert_eq!(out["messages"][1]["tool_plan"], answer["message"]["tool_plan"]);
    assert_eq!(out["messages"][1]["tool_calls"], answer["message"]["tool_calls"]);
}

#[test]
fn arguments_of_a_call_that_is_not_open_are_garbage() {
    let start = r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"a","type":"function","function":{"name":"f","arguments":""}}}}}"#;
    let piece =
        r#"{"type":"tool-call-delta","index":1,"delta":{"message":{"tool_calls":{"function":{"arguments":"{"}}}}}"#;
    let frame = |data| crate::wire::sse::Frame { event: "", data, end: 0, comment: false };
    let mut decoder = Face.stream();
    decoder.frame(&frame(start), &mut |_| {}).unwrap();
    assert_eq!(decoder.frame(&frame(piece), &mut |_| {}).unwrap_err().kind, FaultKind::Garbage);
}

#[test]
fn controls_and_quirks_are_spliced() {
    let body = br#"{ "model" : "alias", "messages":[], "tags" : {"a":"b"},"k": 5, "temperature":1.10, "old":1 }"#;
    let quirks = Quirks {
        refuses: vec!["k".into()],
        rename: [("old".to_owned(), "new".to_owned())].into(),
        ..Quirks::default()
    };
    let to = To { model: "command-r", stream: true, quirks: &quirks, abilities: &Abilities::default() };
    let members = scan(body, 64).unwrap();
    let mut patch = Patch::default();
    Face.splice(body, &members, &to, &mut patch);
    let spliced = String::from_utf8(patch.apply(body)).unwrap();
    assert_eq!(spliced, r#"{ "model" : "command-r", "messages":[], "temperature":1.10, "new":1 }"#);
}
