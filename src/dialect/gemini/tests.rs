//! Goldens of this dialect: what a request becomes, what answers and streams mean; and properties that hold for any.
//!
//! `cases/*.request.txt` holds the losses and the body; `cases/*.answer.json` and `cases/*.stream.sse` are answers, and
//! the `.txt` of the same name is what they decode to. `GOLDEN=write cargo test` writes what is expected anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::dialect::{Abilities, Quirks};
use crate::ir::*;
use crate::wire::json::{self, Number, Raw, Text};
use crate::wire::scan::scan;
use crate::wire::sse;

mod callers;
mod carried;
mod failures;
mod properties;
mod requests;

/// Towards providers, and towards callers.
const OUT: &dyn Outbound = &Face;
const IN: &dyn Inbound = &Face;

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/gemini/cases").join(name)
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

#[test]
fn paths_are_safe() {
    let path = |model, stream| {
        let mut out = String::new();
        let (quirks, abilities) = (Quirks::default(), Abilities::default());
        OUT.path(&To { model, stream, quirks: &quirks, abilities: &abilities }, &mut out);
        out
    };
    assert_eq!(path("gemini-2.5-pro", false), "/models/gemini-2.5-pro:generateContent");
    assert_eq!(path("models/gemini-2.5-pro", true), "/models/gemini-2.5-pro:streamGenerateContent?alt=sse");
    assert_eq!(path("publishers/google/models/g@001", false), "/publishers/google/models/g@001:generateContent");
    assert_eq!(path("tunedModels/x", false), "/tunedModels/x:generateContent");
    assert_eq!(path("models/../../x?y=#:z ä", false), "/models/%2E%2E/%2E%2E/x%3Fy%3D%23%3Az%20%C3%A4:generateContent");
    assert_eq!(path("a/b", false), "/models/a%2Fb:generateContent");
}

/// What an answer says, a line a piece.
fn show(response: &Response<'_>) -> String {
    let mut out = String::new();
    let Response { id, model, created, candidates, usage, service_tier, extras, .. } = response;
    writeln!(out, "id {id:?} model {model:?} created {created:?} tier {service_tier:?}").unwrap();
    for candidate in candidates {
        writeln!(out, "candidate {} finish {:?}", candidate.index, candidate.finish).unwrap();
        for block in &candidate.blocks {
            writeln!(out, "  {:?}{}", block.content, shown(&block.extras)).unwrap();
        }
        if let Some(logprobs) = &candidate.logprobs {
            writeln!(out, "  logprobs {logprobs:?}").unwrap();
        }
        out.push_str(&shown(&candidate.extras));
    }
    writeln!(out, "usage {usage:?}\n{}", shown(extras)).unwrap();
    out
}

fn shown(extras: &json::Extras<'_>) -> String {
    extras.iter().map(|(name, json)| format!("  extra {name} {json:?}\n")).collect()
}

#[test]
fn answers() {
    let mut seen = 0;
    for entry in std::fs::read_dir(case("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".answer.json") else { continue };
        let body = std::fs::read(case(&name)).unwrap();
        golden(&format!("{stem}.answer.txt"), &show(&OUT.decode(&body).unwrap()));
        seen += 1;
    }
    assert!(seen >= 6, "{seen} answers");
}

#[test]
fn what_is_no_answer_is_refused() {
    for (body, path) in [
        ("{}", "candidates"),
        ("[]", "candidates"),
        (r#"{"candidates":[]}"#, "candidates"),
        (r#"{"candidates":[{"content":{"parts":[{"text":5}]}}]}"#, "candidates[0].content.parts[0].text"),
        (r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#, "error"),
    ] {
        assert_eq!(OUT.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    assert!(OUT.decode(b"<html>").is_err());
}

/// All events of a stream, a line each; `cut` is the size of the chunks it comes in.
fn events(stream: &[u8], cut: usize) -> String {
    let mut out = String::new();
    let mut decoder = OUT.stream();
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
        let mut decoder = OUT.stream();
        let mut sniffer = OUT.sniffer();
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
                assert!(!seen.usage_only || !seen.content, "{name}");
            })
            .unwrap();
        let _ = decoder.end(&mut note);
        assert_eq!((sniffed, sniffer.whole(), sniffed_faults), (usage, whole, faults), "{name}");
    }
}

#[test]
fn whole_answers_are_sniffed() {
    for name in ["array.answer.json", "blocked.answer.json", "calls.answer.json", "text.answer.json"] {
        let body = std::fs::read(case(name)).unwrap();
        let mut sniffer = OUT.sniffer();
        let seen = sniffer.body(&body);
        assert_eq!(seen.usage, OUT.decode(&body).unwrap().usage, "{name}");
        assert!(seen.content && seen.end && seen.fault.is_none() && sniffer.whole(), "{name}: {seen:?}");
    }
    assert!(OUT.sniffer().body(br#"[{"candidates":[]"#).fault.is_some());
}

#[test]
fn controls_and_quirks_are_spliced() {
    let body = br#"{ "contents":[{"parts":[{"text":"x"}]}], "tags" : {"a":"b"},"model":"models/alias","seed": 1.10, "old":1 }"#;
    let quirks = Quirks {
        refuses: vec!["seed".into()],
        rename: [("old".to_owned(), "new".to_owned())].into(),
        ..Quirks::default()
    };
    let to = To { model: "gemini-2.5-pro", stream: true, quirks: &quirks, abilities: &Abilities::default() };
    let members = scan(body, 64).unwrap();
    let mut patch = Patch::default();
    OUT.splice(body, &members, &to, &mut patch);
    let spliced = String::from_utf8(patch.apply(body)).unwrap();
    assert_eq!(spliced, r#"{ "contents":[{"parts":[{"text":"x"}]}],"model":"models/gemini-2.5-pro", "new":1 }"#);
}
