//! The same dialect on both sides: what is watched is what is decoded, and what is spliced is the model alone.

use std::collections::HashMap;

use portolan::dialect::{Abilities, Quirks, To};
use portolan::ir::Usage;
use portolan::wire::patch::Patch;
use portolan::wire::{frames, scan, sse};
use serde_json::Value;
use serde_json::value::RawValue;

use super::plain::says;
use super::recordings::{self, Exchange, Speech};
use super::tally::Tally;
use super::through::Way;

/// As the gateway's own limits.
const DEPTH: usize = 64;
const EVENT: usize = 32 << 20;
const TARGET: &str = "the-target's \"own\" name";

#[test]
fn what_is_watched_is_what_is_decoded() {
    let Some(recordings) = recordings::all() else { return };
    let mut tally = Tally::default();
    let good = recordings.iter().filter(|exchange| exchange.is_good() && exchange.aside().is_none());
    for exchange in good.filter(|exchange| exchange.speech() != Speech::Completions) {
        let dialect = exchange.speech().dialect();
        if let Some(body) = exchange.whole() {
            let mut sniffer = dialect.outbound.unwrap().sniffer();
            let seen = sniffer.body(body.as_bytes());
            let mut problems = Vec::new();
            let decoded =
                dialect.outbound.unwrap().decode(body.as_bytes()).map(|response| response.usage).unwrap_or_default();
            compare(&mut problems, seen.usage, decoded);
            if !seen.content || seen.fault.is_some() || !sniffer.whole() {
                problems.push(format!("not taken for a whole answer: {seen:?}"));
            }
            tally.count(&exchange.id, problems, &Default::default());
        }
        for (id, bytes) in exchange.byte_streams() {
            tally.count(&id, watch(exchange, &bytes), &Default::default());
        }
    }
    finish(&tally, "answers watched in passing");
}

fn watch(exchange: &Exchange, bytes: &[u8]) -> Vec<String> {
    let dialect = exchange.speech().dialect();
    let mut sniffer = dialect.outbound.unwrap().sniffer();
    let (mut usage, mut fault, mut content) = (None, None, false);
    let mut frames = frames::Decoder::new(dialect.outbound.unwrap().framing(), EVENT);
    let mut each = |frame: sse::Frame<'_>| {
        let seen = sniffer.frame(&frame);
        usage = seen.usage.or(usage);
        content |= seen.content;
        fault = fault.take().or(seen.fault);
    };
    frames.push(bytes, &mut each).unwrap();
    frames.end(&mut each).unwrap();
    let passed = Way::to_chat(dialect).stream(bytes, &[]);
    let mut problems = Vec::new();
    compare(&mut problems, usage, passed.usage);
    if fault.as_ref().map(|fault| fault.kind) != passed.fault.as_ref().map(|fault| fault.kind) {
        problems.push(format!("the watch saw {fault:?}, the decoder {:?}", passed.fault));
    }
    let whole = passed.broken.is_none() && passed.fault.is_none();
    if sniffer.whole() != whole {
        problems.push(format!("whole for the watch: {}, for the decoder: {whole}", sniffer.whole()));
    }
    if whole && !content {
        problems.push("no content seen".to_owned());
    }
    problems
}

fn compare(problems: &mut Vec<String>, watched: Option<Usage>, decoded: Option<Usage>) {
    if watched != decoded {
        problems.push(format!("watched {watched:?}, decoded {decoded:?}"));
    }
}

#[test]
fn an_alias_changes_the_model_alone() {
    let Some(recordings) = recordings::first() else { return };
    let mut tally = Tally::default();
    for exchange in recordings.iter().filter(|exchange| exchange.api == "chat_completions") {
        let Some(body) = exchange.asked_of_us() else { continue };
        let asked = serde_json::from_str(&body).unwrap();
        tally.count(&exchange.id, splice(exchange, &body, &asked), &Default::default());
    }
    finish(&tally, "requests spliced");
}

fn splice(exchange: &Exchange, body: &str, asked: &Value) -> Vec<String> {
    let members = scan::scan(body.as_bytes(), DEPTH).unwrap();
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model: TARGET, stream: asked["stream"] == true, quirks: &quirks, abilities: &abilities };
    let mut patch = Patch::default();
    exchange.speech().dialect().outbound.unwrap().splice(body.as_bytes(), &members, &to, &mut patch);
    changed(body, &String::from_utf8(patch.apply(body.as_bytes())).unwrap(), TARGET)
}

/// What differs between a caller's body and the one that was sent, beside the model and the wish for usage.
pub fn changed(body: &str, sent: &str, target: &str) -> Vec<String> {
    // The model's place, found by another reader.
    let raw: HashMap<String, &RawValue> = serde_json::from_str(body).unwrap();
    let model = raw["model"].get();
    let at = model.as_ptr() as usize - body.as_ptr() as usize;
    let wanted = format!("{}{}{}", &body[..at], Value::from(target), &body[at + model.len()..]);
    let asked: Value = serde_json::from_str(&wanted).unwrap();
    if asked["stream"] != true || asked["stream_options"]["include_usage"] == true {
        return if sent == wanted { Vec::new() } else { vec![format!("more than the model changed: {sent}")] };
    }
    // Usage is asked for on our own account: one piece more, or the options replaced.
    let mut problems = Vec::new();
    let mut sent_json: Value = serde_json::from_str(sent).unwrap();
    if sent_json["stream_options"]["include_usage"] != true {
        problems.push("usage was not asked for".to_owned());
    }
    if says(&asked["stream_options"]) {
        sent_json["stream_options"]["include_usage"] = asked["stream_options"]["include_usage"].clone();
    } else {
        let same_start = wanted.bytes().zip(sent.bytes()).take_while(|(a, b)| a == b).count();
        let same_end = wanted.bytes().rev().zip(sent.bytes().rev()).take_while(|(a, b)| a == b).count();
        if same_start + same_end < wanted.len() {
            problems.push(format!("more changed than the model and one inserted member: {sent}"));
        }
        sent_json.as_object_mut().unwrap().remove("stream_options");
    }
    if sent_json != asked {
        problems.push(format!("more changed than the model and the options of the stream: {sent}"));
    }
    problems
}

fn finish(tally: &Tally, what: &str) {
    tally.print_failures();
    println!("replay: {what}: {} tried, {} failed", tally.tried(), tally.failed.len());
    assert!(tally.failed.is_empty(), "{} failed", tally.failed.len());
}
