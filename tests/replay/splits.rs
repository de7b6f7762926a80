//! Where a stream is cut changes nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::plain::{events, items, members, says, string};
use super::recordings::{self, Exchange, Speech};
use super::tally::Tally;
use super::through::{Passed, Way};

/// Streams that are cut in two at each of their bytes are no longer than this.
const SHORT: usize = 3_000;

/// One streamed answer.
struct Stream<'r> {
    id: String,
    speech: Speech,
    bytes: Cow<'r, [u8]>,
}

impl Stream<'_> {
    /// Empty where the framing is binary.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

fn streams(recordings: &'static [Exchange]) -> Vec<Stream<'static>> {
    let good = recordings.iter().filter(|exchange| exchange.is_good() && exchange.aside().is_none());
    let good = good.filter(|exchange| exchange.speech() != Speech::Completions);
    good.flat_map(|exchange| {
        let speech = exchange.speech();
        exchange.byte_streams().into_iter().map(move |(id, bytes)| Stream { id, speech, bytes })
    })
    .collect()
}

#[test]
fn random_splits() {
    let Some(recordings) = recordings::all() else { return };
    let mut random = fastrand::Rng::with_seed(7);
    let mut tally = Tally::default();
    for stream in streams(recordings) {
        let bytes = &*stream.bytes;
        let whole = Way::to_chat(stream.speech.dialect()).stream(bytes, &[]);
        let mut problems = Vec::new();
        for pieces in [2, 7, bytes.len() / 40 + 2] {
            let mut cuts: Vec<usize> = (1..pieces).map(|_| random.usize(0..=bytes.len())).collect();
            cuts.sort_unstable();
            let cut = Way::to_chat(stream.speech.dialect()).stream(bytes, &cuts);
            if !same(&whole, &cut) {
                problems.push(format!("cut at {cuts:?} it comes out differently"));
            }
        }
        tally.count(&stream.id, problems, &Default::default());
    }
    finish(&tally, "streams at random splits");
}

#[test]
fn every_single_byte() {
    let Some(recordings) = recordings::all() else { return };
    let mut streams = streams(recordings);
    streams.sort_by_key(|stream| stream.bytes.len());
    let mut seen = BTreeSet::new();
    let mut tally = Tally::default();
    for stream in streams {
        let kinds: BTreeSet<String> = kinds(&stream).difference(&seen).cloned().collect();
        if kinds.is_empty() {
            continue;
        }
        for kind in &kinds {
            *tally.kinds.entry(format!("{} {kind}", stream.speech.name())).or_default() += 1;
        }
        seen.extend(kinds);
        let bytes = &*stream.bytes;
        let whole = Way::to_chat(stream.speech.dialect()).stream(bytes, &[]);
        let mut problems = Vec::new();
        let every: Vec<usize> = (1..bytes.len()).collect();
        if !same(&whole, &Way::to_chat(stream.speech.dialect()).stream(bytes, &every)) {
            problems.push("byte by byte it comes out differently".to_owned());
        }
        if bytes.len() <= SHORT {
            for at in every {
                if !same(&whole, &Way::to_chat(stream.speech.dialect()).stream(bytes, &[at])) {
                    problems.push(format!("cut at {at} it comes out differently"));
                }
            }
        }
        tally.count(&stream.id, problems, &Default::default());
    }
    assert!(tally.kinds.len() > 50, "too few kinds of events: {:?}", tally.kinds);
    println!("replay: {} kinds of events at every single byte", tally.kinds.len());
    finish(&tally, "streams at every single byte");
}

fn same(one: &Passed, other: &Passed) -> bool {
    one.out == other.out
        && one.losses == other.losses
        && one.usage == other.usage
        && one.fault == other.fault
        && one.broken == other.broken
}

fn finish(tally: &Tally, what: &str) {
    tally.print_failures();
    println!("replay: {what}: {} tried, {} failed", tally.tried(), tally.failed.len());
    assert!(tally.failed.is_empty(), "{} failed", tally.failed.len());
}

/// The kinds of events that a stream shows: names, members that say something, words of finish reasons, and framing.
fn kinds(stream: &Stream<'_>) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let mut add = |kind: String| {
        kinds.insert(format!("{} {kind}", stream.speech.name()));
    };
    let text = stream.text();
    let events = match stream.speech {
        Speech::Converse => {
            let events = recordings::binary_events(&stream.bytes).into_iter();
            events.map(|(name, data)| (name, String::from_utf8(data.to_vec()).unwrap())).collect()
        }
        Speech::Ollama => text.lines().map(|line| (String::new(), line.to_owned())).collect(),
        _ => {
            if text.contains("\r\n") {
                add("CRLF".into());
            }
            if text.lines().any(|line| line.starts_with(':')) {
                add("comment".into());
            }
            if !text.ends_with("\n\n") && !text.ends_with("\r\n\r\n") {
                add("no last blank line".into());
            }
            events(text)
        }
    };
    for (name, data) in events {
        let Ok(event) = serde_json::from_str::<Value>(&data) else {
            add(data);
            continue;
        };
        match stream.speech {
            Speech::Chat => {
                add(format!("event {name}"));
                members(&event).filter(|(_, value)| says(value)).for_each(|(name, _)| add(name.clone()));
                for choice in items(&event["choices"]) {
                    add(format!("finish {}", choice["finish_reason"]));
                    for (place, value) in [("choice", choice), ("delta", &choice["delta"])] {
                        let speaking = members(value).filter(|(_, value)| says(value));
                        speaking.for_each(|(name, _)| add(format!("{place}.{name}")));
                    }
                }
            }
            Speech::Messages => {
                let parts = [&event["type"], &event["content_block"]["type"], &event["delta"]["type"]];
                add(parts.map(string).join(" "));
                add(format!("finish {}", event["delta"]["stop_reason"]));
            }
            Speech::Gemini => {
                members(&event).for_each(|(name, _)| add(name.clone()));
                for candidate in items(&event["candidates"]) {
                    members(candidate).for_each(|(name, _)| add(format!("candidate.{name}")));
                    add(format!("finish {}", candidate["finishReason"]));
                    for part in items(&candidate["content"]["parts"]) {
                        let names: Vec<_> = members(part).map(|(name, _)| name.as_str()).collect();
                        add(names.join("+"));
                        members(&part["functionCall"]).for_each(|(name, _)| add(format!("call.{name}")));
                    }
                }
            }
            Speech::Responses => {
                let parts = [&event["type"], &event["item"]["type"], &event["part"]["type"]];
                add(parts.map(string).join(" "));
                add(format!("ended {}", event["response"]["incomplete_details"]["reason"]));
            }
            Speech::Cohere => {
                let content = &event["delta"]["message"]["content"];
                add(format!("{} {}", string(&event["type"]), string(&content["type"])));
                add(format!("finish {}", event["delta"]["finish_reason"]));
            }
            _ => {
                for (place, value) in [("", &event), ("start", &event["start"]), ("delta", &event["delta"])] {
                    let speaking = members(value).filter(|(_, value)| says(value));
                    speaking.for_each(|(member, _)| add(format!("{name} {place}.{member}")));
                }
                members(&event["message"]).for_each(|(member, _)| add(format!("message.{member}")));
                add(format!("finish {} {}", event["stopReason"], event["done_reason"]));
            }
        }
    }
    kinds
}
