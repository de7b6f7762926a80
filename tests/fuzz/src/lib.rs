//! What must hold of the dialects for any bytes at all, as functions that panic where it does not. The fuzz targets and
//! the test `laws`, which runs them over the project's own cases, share them.
//!
//! Every input goes to every decoder of a dialect, as a request, a question for a count, a whole answer, an error and a
//! stream: so the cases serve as they are.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use portolan::dialect::{
    Abilities, Asked, DIALECTS, ErrorClass, ErrorShape, Inbound, Outbound, Quirks, Shown, StreamDecoder, To, named,
};
use portolan::ir::{Event, Losses, Request, Response};
use portolan::wire::frames::{Decoder, Framing};
use portolan::wire::json::Invalid;
use portolan::wire::scan;
use portolan::wire::sse::Frame;

/// As deep as a gateway lets bodies be.
const DEPTH: usize = 64;
/// The largest frame.
const MOST: usize = 1 << 20;

/// Everything that a dialect reads.
///
/// # Panics
/// A law is broken.
pub fn dialect(name: &str, input: &[u8]) {
    let dialect = named(name).expect("a dialect of that name");
    if let Some(inbound) = dialect.inbound {
        requests(inbound, input);
    }
    if let Some(outbound) = dialect.outbound {
        answers(outbound, input);
        streams(outbound, input);
    }
}

/// A request that is read can be told to every provider, or is refused with a sentence.
fn requests(inbound: &dyn Inbound, input: &[u8]) {
    let sound = scan::scan(input, DEPTH).is_ok();
    for read in [inbound.decode(input), inbound.decode_count(input)] {
        match read {
            Ok(request) => {
                assert!(sound || scan::validate(input, DEPTH).is_err(), "a request that is no object was read");
                if sound {
                    told(&request);
                }
            }
            Err(invalid) => explained(&invalid),
        }
    }
}

fn explained(invalid: &Invalid) {
    assert!(!invalid.message.is_empty(), "refused without a word: {}", invalid.path);
}

fn told(request: &Request<'_>) {
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    for other in DIALECTS {
        let Some(outbound) = other.outbound else { continue };
        for stream in [false, true] {
            let to = To { model: "model-1", stream, quirks: &quirks, abilities: &abilities };
            let (mut out, mut losses) = (Vec::new(), Losses::default());
            match outbound.encode(request, &to, &mut out, &mut losses) {
                Ok(()) => json(&out, other.name),
                Err(unsayable) => assert!(!unsayable.message.is_empty(), "{}: refused without a word", other.name),
            }
        }
        let to = To { model: "model-1", stream: false, quirks: &quirks, abilities: &abilities };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        if let Some(counting) = outbound.counting()
            && counting.encode(request, &to, &mut out, &mut losses).is_ok()
        {
            json(&out, other.name);
        }
    }
}

#[track_caller]
fn json(bytes: &[u8], what: &str) {
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        panic!("{what}: written, and no JSON: {error}: {}", String::from_utf8_lossy(bytes));
    }
}

/// An answer that is read can be shown to every caller, whole and as a stream.
fn answers(outbound: &dyn Outbound, input: &[u8]) {
    for status in [200, 400, 429, 503] {
        assert!(!outbound.fault(status, input).message.is_empty(), "a fault without a word");
    }
    outbound.sniffer().body(input);
    if let Some(counting) = outbound.counting()
        && let Err(invalid) = counting.decode(input)
    {
        explained(&invalid);
    }
    let sound = scan::scan(input, DEPTH).is_ok();
    match outbound.decode(input) {
        // The relay hands over what is sound only.
        Ok(response) if sound => shown(&response),
        Ok(_) => {}
        Err(invalid) => explained(&invalid),
    }
}

fn shown(response: &Response<'_>) {
    for other in DIALECTS {
        let Some(inbound) = other.inbound else { continue };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        inbound.encode(response, &Shown::default(), &mut out, &mut losses);
        json(&out, other.name);
    }
    let mut shows = Shows::new();
    response.events(&mut |event| shows.see(&event));
    shows.end();
}

/// A stream says the same however it is cut, in the order that [`Event`] promises, and every caller can be shown it.
fn streams(outbound: &dyn Outbound, input: &[u8]) {
    let whole = read(outbound, |each, size| framed(outbound.framing(), input, size, each), input.len().max(1));
    for size in [1, 7] {
        let cut = read(outbound, |each, size| framed(outbound.framing(), input, size, each), size);
        assert_eq!(cut, whole, "in chunks of {size}");
    }
    if outbound.framing() != Framing::Sse {
        // What a binary frame or a line holds, without what is around it: a name and its data a line.
        read(
            outbound,
            |each, _| {
                let text = String::from_utf8_lossy(input);
                for line in text.lines() {
                    let (event, data) = line.split_once(' ').unwrap_or(("", line));
                    each(Frame { event, data, end: 0, comment: false });
                }
                true
            },
            1,
        );
    }
}

/// Hands frames out until the bytes cannot be read on; whether they could be, to their end.
fn framed(framing: Framing, input: &[u8], size: usize, each: &mut dyn FnMut(Frame<'_>)) -> bool {
    let mut frames = Decoder::new(framing, MOST);
    let read = input.chunks(size).all(|chunk| frames.push(chunk, each).is_ok());
    read && frames.end(each).is_ok()
}

/// Reads a stream, and gives what was said of it, a line an event.
fn read(outbound: &dyn Outbound, frames: impl Fn(&mut dyn FnMut(Frame<'_>), usize) -> bool, size: usize) -> String {
    let mut said = String::new();
    let (mut decoder, mut sniffer) = (outbound.stream(), outbound.sniffer());
    let (mut order, mut shows, mut failed) = (Order::default(), Shows::new(), false);
    let each = |decoder: &mut dyn StreamDecoder, frame: Option<&Frame<'_>>, out: &mut (Order, Shows, String)| {
        let (order, shows, said) = out;
        let mut emit = |event: Event<'_>| {
            writeln!(said, "{event:?}").expect("a string takes all");
            order.see(&event);
            shows.see(&event);
            order.failed |= matches!(event, Event::Fault(_));
        };
        match frame {
            Some(frame) => decoder.frame(frame, &mut emit),
            None => decoder.end(&mut emit),
        }
    };
    let mut out = (std::mem::take(&mut order), std::mem::replace(&mut shows, Shows::new()), std::mem::take(&mut said));
    let read = frames(
        &mut |frame| {
            sniffer.frame(&frame);
            // The relay stops at the first fault, and at what is no sound JSON.
            let sound = frame.data.trim() == "[DONE]"
                || frame.data.is_empty()
                || scan::validate(frame.data.as_bytes(), DEPTH).is_ok();
            if !failed && !out.0.failed && sound && !frame.comment {
                failed = each(decoder.as_mut(), Some(&frame), &mut out).is_err();
            }
        },
        size,
    );
    if read && !failed && !out.0.failed {
        let _ = each(decoder.as_mut(), None, &mut out);
        sniffer.whole();
    }
    out.1.end();
    out.2
}

/// The promise of [`Event`].
#[derive(Default)]
struct Order {
    started: bool,
    ended: bool,
    failed: bool,
    open: BTreeSet<(u32, u32)>,
    finished: BTreeSet<u32>,
}

impl Order {
    #[track_caller]
    fn see(&mut self, event: &Event<'_>) {
        assert!(!self.ended || matches!(event, Event::Ping | Event::Extra { .. }), "{event:?} after the end");
        let right = match event {
            Event::Start { .. } => !std::mem::replace(&mut self.started, true),
            Event::Open { candidate, block, .. } => {
                let alone = self.open.iter().all(|(other, _)| other != candidate);
                self.started && alone && !self.finished.contains(candidate) && self.open.insert((*candidate, *block))
            }
            Event::Delta { candidate, block, .. } => self.open.contains(&(*candidate, *block)),
            Event::Close { candidate, block } => self.open.remove(&(*candidate, *block)),
            Event::Finish { candidate, .. } => {
                self.started
                    && self.open.iter().all(|(other, _)| other != candidate)
                    && self.finished.insert(*candidate)
            }
            Event::End => !std::mem::replace(&mut self.ended, true),
            _ => true,
        };
        assert!(right, "out of order: {event:?}");
    }
}

/// Every caller's view of a stream.
struct Shows(Vec<(&'static str, Box<dyn portolan::dialect::StreamEncoder>, Vec<u8>)>);

impl Shows {
    fn new() -> Shows {
        let all = DIALECTS.into_iter().filter_map(|dialect| {
            Some((
                dialect.name,
                dialect.inbound?.stream(&Asked { model: "m", id: "1", ..Asked::default() }),
                Vec::new(),
            ))
        });
        Shows(all.collect())
    }

    fn see(&mut self, event: &Event<'_>) {
        // The relay tells of faults by itself.
        if matches!(event, Event::Fault(_)) {
            return;
        }
        for (_, encoder, out) in &mut self.0 {
            encoder.event(event, &Shown::default(), out, &mut Losses::default());
        }
    }

    /// What was written are frames of JSON, and an error still can be told.
    #[track_caller]
    fn end(mut self) {
        let shape = ErrorShape {
            class: ErrorClass::Upstream,
            status: 502,
            message: "no",
            code: None,
            param: None,
            request_id: "r",
        };
        for (name, encoder, out) in &mut self.0 {
            let inbound = named(name).and_then(|dialect| dialect.inbound).expect("it was there before");
            if !encoder.error(&shape, &Shown::default(), out) {
                inbound.error_event(&shape, &Asked::default(), out);
            }
            let whole = framed(Framing::Sse, out, out.len().max(1), &mut |frame| {
                if !frame.comment && frame.data != "[DONE]" && !frame.data.is_empty() {
                    json(frame.data.as_bytes(), name);
                }
            });
            assert!(whole, "{name}: no stream of events: {}", String::from_utf8_lossy(out));
        }
    }
}
