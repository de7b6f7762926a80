//! Goldens of this dialect: what a caller's request becomes, what answers and streams mean; and properties that hold for
//! any.
//!
//! `cases/*.request.json` are requests as a Chat caller writes them; `cases/*.request.txt` holds the losses and the body
//! for a model. `cases/*.answer.json` and `cases/*.stream.sse` are answers, and the `.txt` of the same name is what they
//! decode to. `GOLDEN=write cargo test` writes what is expected anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::dialect::{Abilities, Inbound, Quirks};
use crate::ir::*;
use crate::wire::json::{self, Raw, Text};
use crate::wire::scan::scan;
use crate::wire::sse;

mod properties;
mod unsayable;

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/anthropic/cases").join(name)
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(case(name), actual).unwrap();
    }
    let expected = std::fs::read_to_string(case(name)).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; after a look, GOLDEN=write takes it over");
}

/// The same JSON over many lines: members in order, scalars as they were written.
fn pretty(json: &[u8]) -> String {
    fn write(out: &mut String, raw: &Raw<'_>, depth: usize) {
        let line = |out: &mut String, depth: usize| write!(out, "\n{:1$}", "", 2 * depth).unwrap();
        let (open, close, items): (_, _, Vec<(String, Raw<'_>)>) = match raw.kind() {
            json::Kind::Object => {
                let bag: wire::Bag<'_> = raw.read().unwrap();
                let members = bag.extras.0.into_iter().map(|(name, json)| (format!("{name:?}: "), json.into_owned()));
                ('{', '}', members.collect())
            }
            json::Kind::Array => {
                let items: Vec<Raw<'_>> = raw.read().unwrap();
                ('[', ']', items.into_iter().map(|json| (String::new(), json.into_owned())).collect())
            }
            _ => return out.push_str(raw.get()),
        };
        out.push(open);
        for (i, (name, json)) in items.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            line(out, depth + 1);
            out.push_str(name);
            write(out, json, depth + 1);
        }
        if !items.is_empty() {
            line(out, depth);
        }
        out.push(close);
    }
    let mut out = String::new();
    write(&mut out, &Raw::parse(std::str::from_utf8(json).unwrap()).unwrap(), 0);
    out
}

/// The dialect of the callers.
fn chat() -> &'static dyn Inbound {
    crate::dialect::named("openai_chat").unwrap().inbound.unwrap()
}

fn encode(request: &Request<'_>, model: &str, quirks: &Quirks) -> Result<(Vec<u8>, Losses), Unsayable> {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let to = To { model, stream: request.stream, quirks, abilities: &Abilities::default() };
    Face.encode(request, &to, &mut out, &mut losses)?;
    Ok((out, losses))
}

#[track_caller]
fn request(name: &str, model: &str, quirks: &Quirks, golden_name: &str) {
    let body = std::fs::read(case(&format!("{name}.request.json"))).unwrap();
    let request = chat().decode(&body).unwrap();
    let (body, losses) = encode(&request, model, quirks).unwrap();
    let body = pretty(&body);
    golden(&format!("{golden_name}.request.txt"), &format!("model: {model}\nlosses: {losses}\n\n{body}\n"));
}

#[test]
fn requests() {
    let none = Quirks::default();
    request("conversation", "claude-sonnet-4-5", &none, "conversation");
    request("conversation", "claude-opus-4-7", &none, "conversation-4.7");
    request("everything", "claude-sonnet-4-5", &none, "everything");
    request("everything", "claude-3-haiku-20240307", &none, "everything-3");
    request("everything", "claude-opus-5", &none, "everything-5");
    request("thinking", "claude-sonnet-4-5", &none, "thinking");
    request("thinking", "claude-opus-4-8", &none, "thinking-4.8");
    request("toggled", "claude-haiku-4-5", &none, "toggled");
    request("bare", "glm-9", &none, "bare");
}

#[test]
fn quirks_rename_and_refuse() {
    let quirks = Quirks {
        refuses: ["top_k", "stop", "user", "tool_choice", "output_config"].map(str::to_owned).into(),
        rename: [("max_tokens".to_owned(), "token_limit".to_owned())].into(),
        ..Quirks::default()
    };
    request("everything", "claude-sonnet-4-0", &quirks, "everything-quirks");
}

/// One's own extras come back, and what only this dialect knows is written as it was.
#[test]
fn own_requests_keep_what_is_theirs() {
    let member = |name: &'static str, json: &'static str| (Text::from(name), Raw::literal(json));
    let other =
        |json: &'static str| Block::new(Content::Other { kind: "server_tool_use".into(), json: Raw::literal(json) });
    let mut text = Block::text("Look:");
    text.extras.push("odd", Raw::literal("1"));
    let message = |role, blocks| Message { role, blocks, ..Message::default() };
    let request = Request {
        origin: Origin(NAME),
        messages: vec![
            message(Role::User, vec![text]),
            message(Role::Assistant, vec![other(r#"{"type":"server_tool_use","id":"s"}"#)]),
        ],
        tools: vec![Tool::Other {
            kind: "web_search_20250305".into(),
            json: Raw::literal(r#"{"type":"web_search_20250305"}"#),
        }],
        reasoning: Some(ReasoningWish {
            effort: Some(Effort::High),
            adaptive: true,
            show: Some(true),
            ..ReasoningWish::default()
        }),
        user: Some("u".into()),
        metadata: Some(Raw::literal(r#"{"user_id":"x","trace":1}"#)),
        extras: json::Extras(vec![
            member("output_config.task_budget", r#"{"total":9}"#),
            member("thinking.later", "true"),
            member("container", r#""c1""#),
        ]),
        max_tokens: Some(100),
        ..Request::default()
    };
    let (body, losses) = encode(&request, "claude-opus-4-8", &Quirks::default()).unwrap();
    assert!(losses.is_empty(), "{losses}");
    golden("own.request.txt", &format!("{}\n", pretty(&body)));
}

#[test]
fn answers() {
    for name in ["blocks", "stopped"] {
        let body = std::fs::read(case(&format!("{name}.answer.json"))).unwrap();
        golden(&format!("{name}.answer.txt"), &format!("{:#?}\n", Face.decode(&body).unwrap()));
    }
}

#[test]
fn bad_answers_name_the_place() {
    for (body, path) in [
        ("{}", "content"),
        (r#"{"content":[{"text":"x"}]}"#, "content[0].type"),
        (r#"{"content":[{"type":"text","text":5}]}"#, "content[0].text"),
        (r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#, "error"),
    ] {
        assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    assert!(Face.decode(b"<html>").is_err());
}

/// All events of a stream, a line each; `cut` is the size of the chunks it comes in.
fn events(stream: &[u8], cut: usize) -> String {
    let mut out = String::new();
    let mut decoder = Face.stream();
    let mut sse = sse::Decoder::new(1 << 20);
    for chunk in stream.chunks(cut) {
        sse.push(chunk, &mut |frame| {
            let read = decoder.frame(&frame, &mut |event| writeln!(out, "{event:?}").unwrap());
            if let Err(fault) = read {
                writeln!(out, "unreadable: {fault:?}").unwrap();
            }
        })
        .unwrap();
    }
    if let Err(fault) = decoder.end(&mut |event| writeln!(out, "{event:?}").unwrap()) {
        writeln!(out, "not whole: {fault:?}").unwrap();
    }
    out
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(case("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".stream.sse"))
        .map(|name| {
            let bytes = std::fs::read(case(&name)).unwrap();
            (name.replace(".sse", ""), bytes)
        })
        .collect()
}

#[test]
fn streams_at_every_cut() {
    let streams = streams();
    assert!(streams.len() >= 6, "{} streams", streams.len());
    for (name, bytes) in streams {
        let whole = events(&bytes, bytes.len());
        golden(&format!("{name}.txt"), &whole);
        for cut in [1, 2, 3, 7, 64, 257] {
            assert_eq!(events(&bytes, cut), whole, "{name} in chunks of {cut}");
        }
    }
}

#[test]
fn the_sniffer_agrees_with_the_decoder() {
    for (name, bytes) in streams() {
        let (mut usage, mut whole) = (None, false);
        let mut decoder = Face.stream();
        let mut sniffer = Face.sniffer();
        let (mut sniffed, mut faults, mut sniffed_faults) = (None, 0, 0);
        let mut note = |event: Event<'_>| match event {
            Event::Usage(now) => usage = Some(now),
            Event::End => whole = true,
            Event::Fault(_) => faults += 1,
            _ => {}
        };
        sse::Decoder::new(1 << 20)
            .push(&bytes, &mut |frame| {
                // A frame that cannot be read is the relay's to judge.
                let _ = decoder.frame(&frame, &mut note);
                let seen = sniffer.frame(&frame);
                sniffed = seen.usage.or(sniffed);
                sniffed_faults += usize::from(seen.fault.is_some());
                assert!(!seen.usage_only, "{name}");
            })
            .unwrap();
        let _ = decoder.end(&mut note);
        assert_eq!((sniffed, sniffer.whole(), sniffed_faults), (usage, whole, faults), "{name}");
    }
}

#[test]
fn whole_answers_are_sniffed() {
    let body = std::fs::read(case("blocks.answer.json")).unwrap();
    let mut sniffer = Face.sniffer();
    let seen = sniffer.body(&body);
    assert_eq!(seen.usage, Face.decode(&body).unwrap().usage);
    assert!(seen.usage.is_some() && seen.content && seen.end && sniffer.whole());
    let error = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let mut sniffer = Face.sniffer();
    assert_eq!(sniffer.body(error).fault.unwrap().kind, FaultKind::Overloaded);
    assert!(!sniffer.whole());
    assert!(Face.sniffer().body(b"<html>").fault.is_some());
}

#[test]
fn who_made_a_call_is_told_where_it_was_not_the_model() {
    for (caller, lost) in
        [(r#"{"type":"direct"}"#, ""), (r#"{"type":"code_execution_20250825"}"#, "dropped:content.caller")]
    {
        let block = format!(r#"{{"type":"tool_use","id":"t","name":"n","input":{{"a":1}},"caller":{caller}}}"#);
        let message = format!(r#"{{"id":"m","model":"c","content":[{block}],"stop_reason":"tool_use"}}"#);
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        chat().encode(&Face.decode(message.as_bytes()).unwrap(), &Default::default(), &mut out, &mut losses);
        assert_eq!(losses.to_string(), lost);
        // A turn that such code began comes whole with its start.
        let start = format!("data: {{\"type\":\"message_start\",\"message\":{message}}}\n\n");
        let (mut decoder, mut sniffer) = (Face.stream(), Face.sniffer());
        let mut told = String::new();
        let mut frames = sse::Decoder::new(1 << 20);
        frames
            .push(start.as_bytes(), &mut |frame| {
                assert!(sniffer.frame(&frame).content);
                let mut note = |event: Event<'_>| {
                    if let Event::Extra { name, .. } = event {
                        told.push_str(&format!("dropped:{name}"));
                    }
                };
                decoder.frame(&frame, &mut note).unwrap();
            })
            .unwrap();
        assert_eq!(told, lost);
    }
}

#[test]
fn a_schemas_own_title_goes_before_the_requests() {
    for (schema, lost) in [
        (r#"{"type":"object","additionalProperties":false}"#, ""),
        (r#"{"title":"n","description":"d","type":"string"}"#, ""),
        (r#"{"title":"other","type":"string"}"#, "dropped:response_format.json_schema.name"),
        (
            r##"{"$ref":"#/$defs/a"}"##,
            "dropped:response_format.json_schema.name, dropped:response_format.json_schema.description",
        ),
    ] {
        let format =
            format!(r#"{{"type":"json_schema","json_schema":{{"name":"n","description":"d","schema":{schema}}}}}"#);
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"response_format":{format}}}"#);
        let (_, losses) =
            encode(&chat().decode(body.as_bytes()).unwrap(), "claude-opus-4-7", &Quirks::default()).unwrap();
        assert_eq!(losses.to_string(), lost, "{schema}");
    }
}

#[test]
fn controls_and_quirks_are_spliced() {
    let body = br#"{ "model" : "alias", "messages":[{"role":"user","content":"x"}], "tags" : {"a":"b"},"top_k": 5, "temperature":1.10, "old":1 }"#;
    let quirks = Quirks {
        refuses: vec!["top_k".into()],
        rename: [("old".to_owned(), "new".to_owned())].into(),
        ..Quirks::default()
    };
    let to = To { model: "claude-opus-4-7", stream: true, quirks: &quirks, abilities: &Abilities::default() };
    let members = scan(body, 64).unwrap();
    let mut patch = Patch::default();
    Face.splice(body, &members, &to, &mut patch);
    let spliced = String::from_utf8(patch.apply(body)).unwrap();
    let wanted =
        r#"{ "model" : "claude-opus-4-7", "messages":[{"role":"user","content":"x"}], "temperature":1.10, "new":1 }"#;
    assert_eq!(spliced, wanted);
}

/// Whatever is ours stays here, and a name that is taken is taken once.
#[test]
fn splices_leave_nothing_of_ours() {
    let controls = crate::dialect::CONTROLS.map(|name| format!(r#""{name}":[1]"#)).join(",");
    let body = format!(r#"{{{controls},"old":1,"new":2,"messages":[]}}"#);
    let quirks = Quirks { rename: [("old".to_owned(), "new".to_owned())].into(), ..Quirks::default() };
    let to = To { model: "m", stream: false, quirks: &quirks, abilities: &Abilities::default() };
    let mut patch = Patch::default();
    Face.splice(body.as_bytes(), &scan(body.as_bytes(), 64).unwrap(), &to, &mut patch);
    let spliced = String::from_utf8(patch.apply(body.as_bytes())).unwrap();
    assert_eq!(spliced, r#"{"new":1,"messages":[],"model":"m"}"#);
}

/// A signature holds only over the thoughts as they were, so they must come back through a caller's SDK as they went.
#[test]
fn thoughts_come_back_from_a_chat_caller_as_they_went() {
    let answer = std::fs::read(case("blocks.answer.json")).unwrap();
    let mut shown = Vec::new();
    let response = Face.decode(&answer).unwrap();
    chat().encode(&response, &crate::dialect::Shown::default(), &mut shown, &mut Losses::default());
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let result = |id: &str| serde_json::json!({"role": "tool", "tool_call_id": id, "content": "done"});
    let user = serde_json::json!({"role": "user", "content": "Paint."});
    let message = shown["choices"][0]["message"].clone();
    let messages = [user, message, result("toolu_1"), result("toolu_2")];
    let body = serde_json::json!({"model": "m", "messages": messages, "reasoning_effort": "low"}).to_string();
    let request = chat().decode(body.as_bytes()).unwrap();
    let (body, losses) = encode(&request, "claude-sonnet-4-5", &Quirks::default()).unwrap();
    assert!(losses.is_empty(), "{losses}");
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["thinking"]["type"], "enabled", "the turn goes on thinking");
    let wanted: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    for at in 0..2 {
        assert_eq!(body["messages"][1]["content"][at], wanted["content"][at]);
    }
}
