//! What the tests of dialects share: cases and what is expected of them beside the code, and the order that events must
//! keep.
//!
//! `GOLDEN=write cargo test` writes what is expected anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::dialect::{Abilities, Inbound, Outbound, Quirks, To, Unsayable};
use crate::ir::{Event, Fault, Losses, Request};
use crate::wire::frames::Framing;
use crate::wire::json::{Kind, Raw};
use crate::wire::sse::{self, Frame};

crate::shape! {
    /// Any object: all its members, in order.
    struct Bag {}
}

/// The cases of one dialect, by the name of its folder.
#[derive(Clone, Copy)]
pub(in crate::dialect) struct Cases(pub &'static str);

impl Cases {
    fn path(self, name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect").join(self.0).join("cases").join(name)
    }

    pub fn read(self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names and contents of all cases of a kind, names without it.
    pub fn all(self, kind: &str) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let of_kind = names.iter().filter_map(|name| Some((name.strip_suffix(kind)?.to_owned(), self.read(name))));
        of_kind.collect()
    }

    #[track_caller]
    pub fn golden(self, name: &str, actual: &str) {
        if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
            std::fs::write(self.path(name), actual).unwrap();
        }
        let expected = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        assert_eq!(actual, expected, "{name} differs; after a look, GOLDEN=write takes it over");
    }
}

/// The same JSON over many lines: members in order, scalars as they were written.
pub(in crate::dialect) fn pretty(json: &[u8]) -> String {
    fn write(out: &mut String, raw: &Raw<'_>, depth: usize) {
        let line = |out: &mut String, depth: usize| write!(out, "\n{:1$}", "", 2 * depth).unwrap();
        let (open, close, items): (_, _, Vec<(String, Raw<'_>)>) = match raw.kind() {
            Kind::Object => {
                let bag: Bag<'_> = raw.read().unwrap();
                let members = bag.extras.0.into_iter().map(|(name, json)| (format!("{name:?}: "), json.into_owned()));
                ('{', '}', members.collect())
            }
            Kind::Array => {
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

/// The dialect of most callers.
pub(in crate::dialect) fn chat() -> &'static dyn Inbound {
    crate::dialect::named("openai_chat").unwrap().inbound.unwrap()
}

pub(in crate::dialect) fn encode(
    face: &dyn Outbound,
    request: &Request<'_>,
    model: &str,
    quirks: &Quirks,
    abilities: &Abilities,
) -> Result<(Vec<u8>, Losses), Unsayable> {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    face.encode(request, &To { model, stream: request.stream, quirks, abilities }, &mut out, &mut losses)?;
    Ok((out, losses))
}

/// What a Chat caller's request becomes for a model: losses and body.
pub(in crate::dialect) fn told(face: &dyn Outbound, body: &[u8], model: &str, quirks: &Quirks) -> String {
    let request = chat().decode(body).unwrap();
    let (body, losses) = encode(face, &request, model, quirks, &Abilities::default()).unwrap();
    format!("model: {model}\nlosses: {losses}\n\n{}\n", pretty(&body))
}

/// The frames of a stream that comes in chunks of `cut` bytes; lines are not cut, their decoder sees them whole.
pub(in crate::dialect) fn frames(framing: Framing, stream: &[u8], cut: usize, each: &mut dyn FnMut(Frame<'_>)) {
    if framing == Framing::Lines {
        for data in std::str::from_utf8(stream).unwrap().lines().filter(|line| !line.is_empty()) {
            each(Frame { event: "", data, end: 0, comment: false });
        }
        return;
    }
    let mut decoder = sse::Decoder::new(1 << 20);
    for chunk in stream.chunks(cut) {
        decoder.push(chunk, each).unwrap();
    }
    decoder.end(each).unwrap();
}

/// All events of a stream, a line each.
pub(in crate::dialect) fn events(face: &dyn Outbound, stream: &[u8], cut: usize) -> String {
    let mut out = String::new();
    let mut decoder = face.stream();
    frames(face.framing(), stream, cut, &mut |frame| {
        if let Err(fault) = decoder.frame(&frame, &mut |event| writeln!(out, "{event:?}").unwrap()) {
            writeln!(out, "unreadable: {fault:?}").unwrap();
        }
    });
    if let Err(fault) = decoder.end(&mut |event| writeln!(out, "{event:?}").unwrap()) {
        writeln!(out, "not whole: {fault:?}").unwrap();
    }
    out
}

/// Holds the sniffer of a stream to what its decoder says: usage, faults, and whether the answer is whole.
#[track_caller]
pub(in crate::dialect) fn sniffed_alike(face: &dyn Outbound, name: &str, stream: &[u8]) {
    let (mut decoder, mut sniffer) = (face.stream(), face.sniffer());
    let (mut said, mut sniffed) = (Told::default(), Told::default());
    frames(face.framing(), stream, stream.len(), &mut |frame| {
        // A frame that cannot be read is a fault to both.
        if let Err(fault) = decoder.frame(&frame, &mut |event| said.hear(&event)) {
            said.fault.get_or_insert(fault.kind);
        }
        let seen = sniffer.frame(&frame);
        sniffed.usage = seen.usage.or(sniffed.usage);
        sniffed.fault = sniffed.fault.or(seen.fault.map(|fault| fault.kind));
        assert!(!seen.usage_only, "{name}");
    });
    sniffed.whole = sniffer.whole();
    assert_eq!(sniffed, said, "{name}");
}

#[derive(Debug, Default, PartialEq)]
struct Told {
    usage: Option<crate::ir::Usage>,
    fault: Option<crate::ir::FaultKind>,
    whole: bool,
}

impl Told {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.whole = true,
            Event::Fault(fault) => self.fault = Some(fault.kind),
            _ => {}
        }
    }
}

/// The promise of [`Event`], for answers of one candidate.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Order {
    open: Option<u32>,
    next: u32,
    started: bool,
    finished: bool,
    ended: bool,
}

impl Order {
    pub fn see(&mut self, event: &Event<'_>) {
        let right = match event {
            Event::Start { .. } => !std::mem::replace(&mut self.started, true),
            Event::Open { candidate: 0, block, .. } => {
                let right = self.started && self.open.is_none() && !self.finished && *block == self.next;
                self.open = Some(*block);
                self.next += 1;
                right
            }
            Event::Delta { candidate: 0, block, .. } => self.open == Some(*block),
            Event::Close { candidate: 0, block } => self.open.take() == Some(*block),
            Event::Finish { candidate: 0, .. } => {
                self.started && self.open.is_none() && !std::mem::replace(&mut self.finished, true)
            }
            Event::End => self.finished && !std::mem::replace(&mut self.ended, true),
            Event::Open { .. } | Event::Delta { .. } | Event::Close { .. } | Event::Finish { .. } => false,
            _ => !self.ended,
        };
        assert!(right, "{event:?} after {self:?}");
    }

    /// Feeds frames of a stream until one cannot be read; the end must agree with what was seen.
    pub fn keep(face: &dyn Outbound, frames: &[&str]) {
        let (mut decoder, mut order, mut failed) = (face.stream(), Order::default(), false);
        for data in frames {
            let mut see = |event: Event<'_>| {
                failed |= matches!(event, Event::Fault(_));
                order.see(&event);
            };
            let frame = Frame { event: "", data, end: 0, comment: false };
            let read: Result<(), Fault> = decoder.frame(&frame, &mut see);
            if read.is_err() {
                return;
            }
        }
        let whole = decoder.end(&mut |event| order.see(&event)).is_ok();
        assert_eq!(whole, order.ended || failed);
    }
}
