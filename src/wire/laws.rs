//! What must hold of this floor for any bytes at all, as functions that panic where it does not. The property tests
//! and the fuzz targets (`tests/fuzz`) share them; no other build has them.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use crate::wire::eventstream;
use crate::wire::frames::{self, FrameError, Framing};
use crate::wire::json::{Raw, Text};
use crate::wire::patch::Patch;
use crate::wire::scan::{self, MOST_MEMBERS, Member, Members, ScanError};
use crate::wire::sse::{Decoder, Frame, SseError};

const DEPTH: usize = 100;

crate::shape! {
    /// Any object: all its members are extras, in order.
    struct Anything {}
}

/// A body is accepted exactly when `serde_json` accepts it, and its members are those that `serde_json` reads.
pub fn scan(body: &[u8]) {
    let ours = scan::validate(body, DEPTH);
    let theirs = serde_json::from_slice::<serde_json::Value>(body);
    match (ours, &theirs) {
        (Ok(()), Err(e)) => assert!(e.to_string().starts_with("number out of range"), "too lax: {e}"),
        (Err(e), Ok(_)) => assert!(matches!(e, ScanError::TooDeep { .. }), "too strict: {e}"),
        _ => {}
    }
    let scanned = scan::scan(body, DEPTH);
    if let Err(e) = &scanned {
        assert!(!e.describe(body).is_empty());
    }
    if ours.is_err() {
        assert!(scanned.is_err());
        return;
    }
    let Ok(object) = serde_json::from_slice::<Anything<'_>>(body) else {
        return assert!(matches!(scanned, Err(ScanError::NotAnObject)));
    };
    match scanned {
        Ok(members) => assert_eq!(listed(&members, body), object.extras.0),
        Err(e) => assert!(object.extras.0.len() > MOST_MEMBERS, "{e}"),
    }
}

/// Any edits of any body: never a panic, and members come out as asked. The input is edits, a zero byte, a body.
pub fn patch(input: &[u8]) {
    let mut parts = input.splitn(2, |&b| b == 0);
    let (Some(edits), Some(body)) = (parts.next(), parts.next()) else { return };
    let mut patch = Patch::default();
    for edit in edits.as_chunks::<3>().0 {
        let [start, end, with] = *edit;
        patch.replace(usize::from(start)..usize::from(end), vec![with; usize::from(with % 4)]);
    }
    applied(&patch, body);
    patch_members(body, edits);
}

/// Edited whole and in pieces, which is the same.
fn applied(patch: &Patch, body: &[u8]) -> Vec<u8> {
    let out = patch.apply(body);
    assert_eq!(out.len(), out.capacity());
    for long in [0, 1, 3, 17] {
        let pieces = patch.split(&Bytes::copy_from_slice(body), long);
        assert_eq!((&*pieces.whole(), pieces.len()), (&*out, out.len()), "{long}");
        assert!(pieces.count() == 1 || pieces.iter().all(|piece| !piece.is_empty()));
    }
    out
}

/// Edits of members, each byte one edit, tried on the body and on a plain list beside it.
pub fn patch_members(body: &[u8], edits: &[u8]) {
    let Ok(members) = scan::scan(body, DEPTH) else { return };
    let listed = listed(&members, body);
    // What is left of each member: `None` once removed.
    let mut model: Vec<_> = listed.iter().map(|(name, value)| Some((name.clone(), value.clone()))).collect();
    let (mut renamed, mut replaced) = (BTreeSet::new(), BTreeSet::new());
    let mut inserted = Vec::new();
    let mut patch = Patch::default();
    for edit in edits {
        let nth = usize::from(edit >> 2) % (members.len() + 1);
        let member = members.iter().nth(nth).zip(listed.get(nth));
        match (edit & 3, member) {
            (0, Some((_, (name, _)))) => {
                patch.remove(&members, body, name);
                let gone = model.iter_mut().zip(&listed).filter(|(_, (other, _))| other == name);
                gone.for_each(|(slot, _)| *slot = None);
            }
            (1, Some((member, _))) => {
                patch.replace_value(member, format!("[{edit}]"));
                if let (true, Some(Some((_, value)))) = (replaced.insert(nth), model.get_mut(nth)) {
                    *value = Raw::trusted(format!("[{edit}]"));
                }
            }
            (2, Some((_, (name, _)))) => {
                let new = format!("\n{edit}");
                patch.rename(&members, body, name, &new);
                if renamed.insert(name) {
                    let same = model.iter_mut().zip(&listed).filter(|(_, (other, _))| other == name);
                    same.filter_map(|(slot, _)| slot.as_mut()).for_each(|(name, _)| *name = new.clone().into());
                }
            }
            _ => {
                patch.insert(&members, body, "new", b"{}");
                inserted.push((Text::from("new"), Raw::literal("{}")));
            }
        }
    }
    let out = applied(&patch, body);
    let expected: Vec<_> = model.into_iter().flatten().chain(inserted).collect();
    match scan::scan(&out, DEPTH) {
        Ok(after) => assert_eq!(self::listed(&after, &out), expected, "{}", String::from_utf8_lossy(&out)),
        Err(e) => assert!(expected.len() > MOST_MEMBERS, "{e}: {}", String::from_utf8_lossy(&out)),
    }
}

/// No cut changes a stream's frames. The input is cuts, a zero byte, a stream.
pub fn sse(input: &[u8]) {
    let mut parts = input.splitn(2, |&b| b == 0);
    let (Some(cuts), Some(stream)) = (parts.next(), parts.next()) else { return };
    sse_cut(stream, cuts);
}

/// A stream in chunks of these lengths, over and over, reads as in one chunk, and as a plain reading of the standard.
pub fn sse_cut(stream: &[u8], cuts: &[u8]) {
    const MAX: usize = 64;
    let chunks = chunks(stream, cuts);
    let whole = read_frames(&[stream], MAX);
    let cut = read_frames(&chunks, MAX);
    assert_eq!(cut, whole, "cut into {:?}", chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>());
    if let (frames, Ok(())) = read_frames(&chunks, usize::MAX)
        && let Ok(text) = std::str::from_utf8(stream)
    {
        assert_eq!(frames, plainly(text));
    }
}

/// No cut changes the messages of a binary event stream. The input is cuts, a zero byte, and what is read in two ways: as a
/// stream, and as payloads to be written, of which one byte may be spoilt by the first of the cuts.
pub fn event_stream(input: &[u8]) {
    let mut parts = input.splitn(2, |&b| b == 0);
    let (Some(cuts), Some(rest)) = (parts.next(), parts.next()) else { return };
    event_stream_cut(rest, cuts);
    let mut written = Vec::new();
    let mut wanted = Vec::new();
    for payload in rest.split(|&b| b == 0xff) {
        let Ok(text) = std::str::from_utf8(payload) else { continue };
        let event = text.get(..1).unwrap_or_default();
        eventstream::write_event(&mut written, event, payload);
        wanted.push((event.to_owned(), text.to_owned(), false));
    }
    let (seen, result) = cut_frames(Framing::EventStream, &[&written], usize::MAX);
    assert_eq!((seen, result), (wanted, Ok(())));
    if let Some((&spoil, _)) = cuts.split_first() {
        let at = usize::from(spoil) % written.len().max(1);
        if let Some(byte) = written.get_mut(at) {
            *byte ^= 1;
            assert!(cut_frames(Framing::EventStream, &[&written], usize::MAX).1.is_err(), "spoilt at {at}");
        }
    }
    event_stream_cut(&written, cuts);
}

/// A binary event stream in chunks of these lengths, over and over, reads as in one chunk.
pub fn event_stream_cut(stream: &[u8], cuts: &[u8]) {
    for max in [64, usize::MAX] {
        let whole = cut_frames(Framing::EventStream, &[stream], max);
        assert_eq!(cut_frames(Framing::EventStream, &chunks(stream, cuts), max), whole);
    }
}

/// No cut changes a stream's lines. The input is cuts, a zero byte, a stream.
pub fn lines(input: &[u8]) {
    let mut parts = input.splitn(2, |&b| b == 0);
    let (Some(cuts), Some(stream)) = (parts.next(), parts.next()) else { return };
    lines_cut(stream, cuts);
}

/// Lines in chunks of these lengths, over and over, read as in one chunk, and as text that is split.
pub fn lines_cut(stream: &[u8], cuts: &[u8]) {
    let whole = cut_frames(Framing::Lines, &[stream], 64);
    assert_eq!(cut_frames(Framing::Lines, &chunks(stream, cuts), 64), whole);
    if let Ok(text) = std::str::from_utf8(stream) {
        let lines = text.split('\n').map(str::trim_ascii).filter(|line| !line.is_empty());
        let wanted: Vec<Seen> = lines.map(|line| (String::new(), line.to_owned(), false)).collect();
        assert_eq!(cut_frames(Framing::Lines, &chunks(stream, cuts), usize::MAX), (wanted, Ok(())));
    }
}

/// A stream in chunks of these lengths, over and over.
fn chunks<'s>(stream: &'s [u8], cuts: &[u8]) -> Vec<&'s [u8]> {
    let mut rest = stream;
    let mut lengths = cuts.iter().map(|&n| usize::from(n) + 1).cycle();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(lengths.next().unwrap_or(1).min(rest.len()));
        chunks.push(chunk);
        rest = tail;
    }
    chunks
}

fn cut_frames(framing: Framing, chunks: &[&[u8]], max: usize) -> (Vec<Seen>, Result<(), FrameError>) {
    let mut decoder = frames::Decoder::new(framing, max);
    let mut seen = Vec::new();
    let mut result = Ok(());
    for chunk in chunks {
        let mut last = 0;
        result = result.and_then(|()| {
            decoder.push(chunk, &mut |frame: Frame<'_>| {
                assert!(last < frame.end && frame.end <= chunk.len());
                last = frame.end;
                seen.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment));
            })
        });
        assert!(decoder.carried() <= max);
    }
    result = result.and_then(|()| {
        decoder.end(&mut |frame| seen.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment)))
    });
    (seen, result)
}

/// Event, data, whether a comment.
type Seen = (String, String, bool);

fn read_frames(chunks: &[&[u8]], max: usize) -> (Vec<Seen>, Result<(), SseError>) {
    let mut decoder = Decoder::new(max);
    let mut frames = Vec::new();
    let mut result = Ok(());
    for chunk in chunks {
        let mut last = 0;
        result = result.and_then(|()| {
            decoder.push(chunk, &mut |frame: Frame<'_>| {
                assert!(last < frame.end && frame.end <= chunk.len());
                assert!(matches!(chunk.get(frame.end - 1), Some(b'\n' | b'\r')), "a blank line ends a frame");
                last = frame.end;
                frames.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment));
            })
        });
        assert!(decoder.carried() <= max);
    }
    result = result.and_then(|()| {
        decoder.end(&mut |frame| frames.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment)))
    });
    (frames, result)
}

/// The standard, section 9.2.6, line by line over the whole text, but for what a `Decoder` reports besides: blocks
/// without data, and what the end leaves open, if it has data.
fn plainly(text: &str) -> Vec<Seen> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut frames = Vec::new();
    let (mut event, mut data, mut comments, mut lines_seen) = (String::new(), Vec::new(), false, 0);
    let mut lines: Vec<&str> = text.split('\n').collect();
    let open = lines.pop().unwrap_or_default();
    for line in lines.iter().map(|&line| Some(line)).chain((!open.is_empty()).then_some(Some(open))).chain([None]) {
        match line {
            Some("") | None => {
                let comment = comments && event.is_empty() && data.is_empty();
                let data = std::mem::take(&mut data).join("\n");
                if lines_seen > 0 && (line.is_some() || !data.is_empty()) {
                    frames.push((std::mem::take(&mut event), data, comment));
                }
                (event, comments, lines_seen) = (String::new(), false, 0);
            }
            Some(line) if line.starts_with(':') => {
                lines_seen += 1;
                comments = true;
            }
            Some(line) => {
                lines_seen += 1;
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                match name {
                    "data" => data.push(value),
                    "event" => event = value,
                    _ => {}
                }
            }
        }
    }
    frames
}

fn listed<'b>(members: &Members, body: &'b [u8]) -> Vec<(Text<'b>, Raw<'b>)> {
    let text = |span: &Range<usize>| body.get(span.clone()).and_then(|json| std::str::from_utf8(json).ok());
    let value = |member: &Member| text(&member.value).and_then(|json| Raw::parse(json).ok());
    members.iter().filter_map(|member| Some((member.name(body), value(member)?))).collect()
}

#[cfg(test)]
pub use made::{json_like, object};

#[cfg(test)]
mod made {
    use proptest::prelude::*;

    fn space() -> impl Strategy<Value = &'static str> {
        prop_oneof![8 => Just(""), 2 => Just(" "), 1 => Just("\n\t"), 1 => Just("\r\n  ")]
    }

    fn string() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z ]{0,40}",
            "\\PC{0,4}",
            prop::sample::select(vec![
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u0061",
                "\\ud83d\\ude00",
                "\\uD800",
                "\\udc00x"
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(
            piece.prop_filter("bare quote", |s| s.starts_with('\\') || !s.contains(['"', '\\'])),
            0..3,
        )
        .prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec!["\"a\"", "\"b\"", "\"c\"", "\"\\u0061\"", "\"\"", "\"new\""])
                .prop_map(str::to_owned),
            "\"[a-z]{1,12}\"",
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            string(),
            "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec((space(), inner.clone(), space()), 0..4).prop_map(|items| {
                    let items: Vec<_> = items.iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                    format!("[{}]", items.join(","))
                }),
                members(inner),
            ]
        })
    }

    fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let member = (space(), name(), space(), space(), value, space());
        (space(), prop::collection::vec(member, 0..6)).prop_map(|(space, list)| {
            let list: Vec<_> =
                list.iter().map(|(a, name, b, c, json, d)| format!("{a}{name}{b}:{c}{json}{d}")).collect();
            format!("{{{space}{}}}", list.join(","))
        })
    }

    /// Text of an object, all but always valid (a string may hold a lone surrogate).
    pub fn object() -> impl Strategy<Value = String> {
        (space(), members(value()), space()).prop_map(|(a, object, b)| format!("{a}{object}{b}"))
    }

    /// Text of an object, often spoiled by taking out, doubling or putting in a character.
    pub fn json_like() -> impl Strategy<Value = String> {
        let spoil = prop::option::of((
            any::<prop::sample::Index>(),
            prop::sample::select(b"\"\\{}[],:0-.eE+u\n\x01 tn".to_vec()),
            0..3,
        ));
        (object(), spoil).prop_map(|(text, spoil)| {
            let Some((at, byte, how)) = spoil else { return text };
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            match how {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, char::from(byte)),
                _ => chars[at] = char::from(byte),
            }
            chars.into_iter().collect()
        })
    }
}
