//! Goldens of this dialect: what a caller's request becomes, what answers and streams mean; and properties that hold for
//! any.
//!
//! `cases/*.request.json` are requests as a Chat caller writes them; `cases/*.request.txt` holds the losses and the body
//! for a model. `cases/*.answer.json` are answers, and `cases/*.stream.events` streams: an event a line, its name and its
//! payload, exceptions marked by `!`; the `.txt` of the same name is what they decode to. `GOLDEN=write cargo test` writes
//! what is expected anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::dialect::{Abilities, Inbound, Quirks};
use crate::ir::*;
use crate::wire::eventstream;
use crate::wire::frames;
use crate::wire::json::{self, Raw};
use crate::wire::scan::scan;

mod properties;
mod sayable;

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/bedrock/cases").join(name)
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

const SONNET: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";

#[test]
fn requests() {
    let none = Quirks::default();
    request("conversation", SONNET, &none, "conversation");
    request("conversation", "us.amazon.nova-pro-v1:0", &none, "conversation-nova");
    request("conversation", "us.meta.llama4-maverick-17b-instruct-v1:0", &none, "conversation-llama");
    request("everything", SONNET, &none, "everything");
    request("everything", "us.amazon.nova-pro-v1:0", &none, "everything-nova");
    request("everything", "mistral.mistral-large-3-675b-instruct", &none, "everything-mistral");
    request("thinking", SONNET, &none, "thinking");
    request("thinking", "us.anthropic.claude-opus-4-7", &none, "thinking-4.7");
    request("thinking", "us.amazon.nova-2-lite-v1:0", &none, "thinking-nova");
    request("thinking", "openai.gpt-oss-120b-1:0", &none, "thinking-gpt-oss");
    request("thinking", "us.deepseek.r1-v1:0", &none, "thinking-deepseek");
    request("schema", SONNET, &none, "schema");
    request("schema", "us.amazon.nova-lite-v1:0", &none, "schema-nova");
    request(
        "schema",
        "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/x",
        &none,
        "schema-unknown",
    );
    request("forgetful", SONNET, &none, "forgetful");
}

#[test]
fn quirks_rename_and_refuse() {
    let quirks = Quirks {
        refuses: ["top_k", "stop", "tool_choice", "response_format", "service_tier"].map(str::to_owned).into(),
        rename: [("maxTokens".to_owned(), "tokenLimit".to_owned())].into(),
        ..Quirks::default()
    };
    request("everything", SONNET, &quirks, "everything-quirks");
}

#[test]
fn paths_name_the_model() {
    for (model, stream, wanted) in [
        ("amazon.nova-lite-v1:0", false, "/model/amazon.nova-lite-v1%3A0/converse"),
        ("amazon.nova-lite-v1:0", true, "/model/amazon.nova-lite-v1%3A0/converse-stream"),
        ("arn:aws:bedrock:a:1:p/x", false, "/model/arn%3Aaws%3Abedrock%3Aa%3A1%3Ap%2Fx/converse"),
        ("\u{e9}?#", false, "/model/%C3%A9%3F%23/converse"),
    ] {
        let mut out = String::new();
        Face.path(&To { model, stream, quirks: &Quirks::default(), abilities: &Abilities::default() }, &mut out);
        assert_eq!(out, wanted);
    }
}

#[test]
fn tokens_are_counted_of_the_conversation() {
    let body = std::fs::read(case("everything.request.json")).unwrap();
    let request = chat().decode(&body).unwrap();
    let to = To { model: SONNET, stream: false, quirks: &Quirks::default(), abilities: &Abilities::default() };
    let (mut path, mut out, mut losses) = (String::new(), Vec::new(), Losses::default());
    let counting = Face.counting().unwrap();
    counting.path(&to, &mut path);
    assert_eq!(path, "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens");
    counting.encode(&request, &to, &mut out, &mut losses).unwrap();
    let asked: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let (whole, _) = encode(&request, SONNET, &Quirks::default()).unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let asked = asked["input"]["converse"].as_object().unwrap();
    assert_eq!(asked.keys().collect::<Vec<_>>(), ["messages", "toolConfig"]);
    assert!(asked.iter().all(|(name, value)| whole[name] == *value));
    assert_eq!(counting.decode(br#"{"inputTokens":375}"#), Ok(375));
    assert_eq!(counting.decode(b"{}").unwrap_err().path, "inputTokens");
}

#[test]
fn answers() {
    for name in ["blocks", "emulated", "stopped", "blocked"] {
        let body = std::fs::read(case(&format!("{name}.answer.json"))).unwrap();
        let response = Face.decode(&body).unwrap();
        golden(&format!("{name}.answer.txt"), &format!("{response:#?}\n"));
        let seen = Face.sniffer().body(&body);
        assert_eq!((seen.usage, seen.content, seen.end), (response.usage, true, true), "{name}");
    }
}

#[test]
fn bad_answers_name_the_place() {
    let content = "output.message.content";
    for (body, path) in [
        ("{}", content.to_owned()),
        (r#"{"message":"no such model"}"#, content.to_owned()),
        (r#"{"output":{"message":{"content":[[1]]}}}"#, format!("{content}[0].")),
        (r#"{"output":{"message":{"content":[{"text":5}]}}}"#, format!("{content}[0].text")),
        (r#"{"output":{"message":{"content":[{"toolUse":{"name":[]}}]}}}"#, format!("{content}[0].toolUse.name")),
    ] {
        assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    assert!(Face.decode(b"<html>").is_err());
    assert!(Face.sniffer().body(b"<html>").fault.is_some());
}

/// The bytes of a stream that a case tells of.
fn binary(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.lines() {
        let (event, payload) = line.split_once(' ').unwrap();
        match event.strip_prefix('!') {
            Some(exception) => eventstream::write_exception(&mut out, exception, payload.as_bytes()),
            None => eventstream::write_event(&mut out, event, payload.as_bytes()),
        }
    }
    out
}

/// All events of a stream, a line each; `cut` is the size of the chunks it comes in.
fn events(stream: &[u8], cut: usize) -> String {
    let mut out = String::new();
    let mut decoder = Face.stream();
    let mut frames = frames::Decoder::new(Face.framing(), 1 << 20);
    for chunk in stream.chunks(cut) {
        frames
            .push(chunk, &mut |frame| {
                let read = decoder.frame(&frame, &mut |event| writeln!(out, "{event:?}").unwrap());
                if let Err(fault) = read {
                    writeln!(out, "unreadable: {fault:?}").unwrap();
                }
            })
            .unwrap();
    }
    frames.end(&mut |_| ()).unwrap();
    if let Err(fault) = decoder.end(&mut |event| writeln!(out, "{event:?}").unwrap()) {
        writeln!(out, "not whole: {fault:?}").unwrap();
    }
    out
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(case("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| {
            let text = name.ends_with(".stream.events").then(|| std::fs::read_to_string(case(&name)).unwrap())?;
            Some((name.replace(".events", ""), binary(&text)))
        })
        .collect()
}

#[test]
fn streams_at_every_cut() {
    let streams = streams();
    assert!(streams.len() >= 7, "{} streams", streams.len());
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
        let (mut usage, mut faults, mut whole) = (None, 0, false);
        let (mut decoder, mut sniffer) = (Face.stream(), Face.sniffer());
        let (mut sniffed, mut sniffed_faults) = (None, 0);
        let mut note = |event: Event<'_>| match event {
            Event::Usage(now) => usage = Some(now),
            Event::End => whole = true,
            Event::Fault(_) => faults += 1,
            _ => {}
        };
        frames::Decoder::new(Face.framing(), 1 << 20)
            .push(&bytes, &mut |frame| {
                let unreadable = decoder.frame(&frame, &mut note).is_err();
                let seen = sniffer.frame(&frame);
                sniffed = seen.usage.or(sniffed);
                sniffed_faults += usize::from(seen.fault.is_some() && !unreadable);
            })
            .unwrap();
        let _ = decoder.end(&mut note);
        assert_eq!((sniffed, sniffed_faults), (usage, faults), "{name}");
        // What cannot be read makes a stream bad for whoever passes it on; a decoder's caller stops there.
        assert_eq!(sniffer.whole(), whole && !name.starts_with("sloppy"), "{name}");
    }
}

#[test]
fn controls_and_quirks_are_spliced() {
    let body = br#"{ "modelId" : "x","model":"alias", "stream":true, "messages":[], "tags" : {"a":"b"},"old": 1 }"#;
    let quirks = Quirks { rename: [("old".to_owned(), "new".to_owned())].into(), ..Quirks::default() };
    let to = To { model: "m", stream: true, quirks: &quirks, abilities: &Abilities::default() };
    let members = scan(body, 64).unwrap();
    let mut patch = Patch::default();
    Face.splice(body, &members, &to, &mut patch);
    let spliced = String::from_utf8(patch.apply(body)).unwrap();
    assert_eq!(spliced, r#"{ "modelId" : "x", "messages":[],"new": 1 }"#);
}

/// A signature holds only over the thoughts as they were, so they must come back through a caller's SDK as they went.
#[test]
fn thoughts_come_back_from_a_chat_caller_as_they_went() {
    let answer = std::fs::read(case("blocks.answer.json")).unwrap();
    let mut shown = Vec::new();
    let response = Face.decode(&answer).unwrap();
    chat().encode(&response, &crate::dialect::Shown::default(), &mut shown, &mut Losses::default());
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let user = serde_json::json!({"role": "user", "content": "Paint."});
    let result = serde_json::json!({"role": "tool", "tool_call_id": "tooluse_1", "content": "done"});
    let messages = [user, shown["choices"][0]["message"].clone(), result];
    let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
    let (body, _) = encode(&chat().decode(body.as_bytes()).unwrap(), SONNET, &Quirks::default()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let wanted: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    for at in 0..3 {
        assert_eq!(body["messages"][1]["content"][at], wanted["output"]["message"]["content"][at]);
    }
}

/// What an answer says is what its next turn says of it, without any caller's dialect between.
#[test]
fn answers_go_back_as_they_came() {
    let answer = std::fs::read(case("blocks.answer.json")).unwrap();
    let blocks = Face.decode(&answer).unwrap().candidates.remove(0).blocks;
    let said = Message { role: Role::Assistant, blocks, ..Message::default() };
    let asked = Message { blocks: vec![Block::text("Paint.")], ..Message::default() };
    let result = ToolResult { id: "tooluse_1".into(), blocks: vec![Block::text("done")], ..ToolResult::default() };
    let result = Message { role: Role::Tool, blocks: vec![Block::new(Content::ToolResult(result))], ..asked.clone() };
    let request = Request { origin: Origin(NAME), messages: vec![asked, said, result], ..Request::default() };
    let (body, losses) = encode(&request, SONNET, &Quirks::default()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let mut wanted: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let wanted = wanted["output"]["message"]["content"].as_array_mut().unwrap();
    // What Bedrock's own tools did, and what only it knows, has no way through the IR; citations have none to Bedrock.
    wanted.truncate(6);
    wanted[4] = serde_json::json!({"text": "The sky is high."});
    wanted[5]["toolUse"].as_object_mut().unwrap().remove("type");
    assert_eq!(body["messages"][1]["content"].as_array().unwrap(), wanted);
    let lost = [4, 6, 7, 8, 9].map(|at| format!("messages[1].content[{at}]"));
    assert!(losses.iter().all(|loss| loss.path == "tools" || lost.iter().any(|path| loss.path.starts_with(path))));
}
