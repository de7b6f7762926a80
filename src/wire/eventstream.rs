//! Amazon's binary event stream: messages with typed headers, a payload and two checksums.
//!
//! Source: Amazon Transcribe developer guide, "Event stream encoding", and the Smithy specification "Amazon event stream
//! specification" (seen 2026-11-21). A message is
//!
//! ```text
//! total length u32 | headers length u32 | CRC-32 of these 8 bytes | headers | payload | CRC-32 of all before
//! ```
//!
//! all numbers big-endian. A length is believed only after its checksum, and only below the bound: so no flipped bit makes
//! us wait for four gigabytes. A message that lies whole in a chunk is lent from it. Of its headers those are read that
//! say what it is; bytes that are left over when the stream ends are an error, since a stream ends between messages.

use super::frames::FrameError;
use super::sse::Frame;

/// Lengths and their checksum.
const PRELUDE: usize = 12;
/// The least message: a prelude and a checksum.
const LEAST: usize = PRELUDE + 4;
/// Capacity of the carried buffer that is kept between chunks.
const KEPT: usize = 64 * 1024;
/// A header's value that is a string.
const STRING: u8 = 7;

/// Reads messages from chunks.
///
/// A frame's `event` is the header `:event-type`; of a message that tells of a failure it is `:exception-type` or
/// `:error-code`. Its `data` is the payload, or the header `:error-message` where that has to tell all.
#[derive(Debug)]
pub struct Decoder {
    /// The unfinished message.
    carry: Vec<u8>,
    most: usize,
}

impl Decoder {
    /// A decoder that takes messages of at most `most` bytes, all counted.
    pub fn new(most: usize) -> Self {
        Decoder { carry: Vec::new(), most }
    }

    /// Takes a chunk and hands out the messages that it completes.
    ///
    /// # Errors
    /// The stream cannot be read on; messages before the bad one have been handed out.
    pub fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.carry.is_empty() {
                match total(rest, self.most)? {
                    Some(total) if total <= rest.len() => {
                        let (message, tail) = rest.split_at(total);
                        rest = tail;
                        frame(message, chunk.len() - rest.len(), each)?;
                    }
                    _ => {
                        self.carry.extend_from_slice(rest);
                        return Ok(());
                    }
                }
                continue;
            }
            // The lengths alone first: what is wrong with them is said before more is waited for.
            let wanted = total(&self.carry, self.most)?.unwrap_or(PRELUDE);
            let missing = wanted.saturating_sub(self.carry.len()).min(rest.len());
            let (more, tail) = rest.split_at(missing);
            rest = tail;
            self.carry.extend_from_slice(more);
            if total(&self.carry, self.most)? == Some(self.carry.len()) {
                let read = frame(&self.carry, chunk.len() - rest.len(), each);
                self.carry.clear();
                self.carry.shrink_to(KEPT);
                read?;
            }
        }
        Ok(())
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`FrameError::Truncated`]: a message had begun.
    pub fn end(&mut self) -> Result<(), FrameError> {
        if self.carry.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Bytes of the unfinished message.
    pub fn carried(&self) -> usize {
        self.carry.len()
    }
}

/// The length of the message that begins here; `None`: not yet known.
fn total(bytes: &[u8], most: usize) -> Result<Option<usize>, FrameError> {
    let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE>() else { return Ok(None) };
    let [total @ .., h0, h1, h2, h3, c0, c1, c2, c3] = *prelude;
    let headers = [h0, h1, h2, h3];
    let mut sum = crc32fast::Hasher::new();
    sum.update(&total);
    sum.update(&headers);
    if sum.finalize() != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Checksum);
    }
    let (total, headers) = (length(total), length(headers));
    if total > most {
        return Err(FrameError::TooLarge { limit: most });
    }
    if total < LEAST || headers > total - LEAST {
        return Err(FrameError::Malformed);
    }
    Ok(Some(total))
}

fn length(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

/// Reads a whole message.
fn frame(message: &[u8], end: usize, each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
    let (body, sum) = message.split_last_chunk::<4>().ok_or(FrameError::Malformed)?;
    if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
        return Err(FrameError::Checksum);
    }
    let (prelude, body) = body.split_first_chunk::<PRELUDE>().ok_or(FrameError::Malformed)?;
    let [_, _, _, _, h0, h1, h2, h3, ..] = *prelude;
    let (headers, payload) = body.split_at_checked(length([h0, h1, h2, h3])).ok_or(FrameError::Malformed)?;
    let told = Told::read(headers)?;
    let payload = simdutf8::basic::from_utf8(payload).map_err(|_| FrameError::NotUtf8)?;
    let (event, data) = match told.message {
        "exception" => (told.exception, payload),
        "error" if payload.is_empty() => (told.code, told.error),
        "error" => (told.code, payload),
        _ => (told.event, payload),
    };
    each(Frame { event, data, end, comment: false });
    Ok(())
}

/// What the headers say of a message.
#[derive(Default)]
struct Told<'a> {
    message: &'a str,
    event: &'a str,
    exception: &'a str,
    code: &'a str,
    error: &'a str,
}

impl<'a> Told<'a> {
    fn read(headers: &'a [u8]) -> Result<Told<'a>, FrameError> {
        let mut told = Told::default();
        let mut rest = Bytes(headers);
        while let Some((&size, tail)) = rest.0.split_first() {
            rest = Bytes(tail);
            let name = rest.take(usize::from(size))?;
            let [kind] = rest.array()?;
            let value = match kind {
                0 | 1 => &[],
                2 => rest.take(1)?,
                3 => rest.take(2)?,
                4 => rest.take(4)?,
                5 | 8 => rest.take(8)?,
                6 | STRING => {
                    let size = u16::from_be_bytes(rest.array()?);
                    rest.take(usize::from(size))?
                }
                9 => rest.take(16)?,
                _ => return Err(FrameError::Malformed),
            };
            if kind != STRING {
                continue;
            }
            let place = match name {
                b":message-type" => &mut told.message,
                b":event-type" => &mut told.event,
                b":exception-type" => &mut told.exception,
                b":error-code" => &mut told.code,
                b":error-message" => &mut told.error,
                _ => continue,
            };
            *place = std::str::from_utf8(value).map_err(|_| FrameError::NotUtf8)?;
        }
        Ok(told)
    }
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// Writes an event as Bedrock sends it.
pub fn write_event(out: &mut Vec<u8>, event: &str, payload: &[u8]) {
    write(out, &[(":event-type", event), (":content-type", "application/json"), (":message-type", "event")], payload);
}

/// Writes an exception as Bedrock sends it.
pub fn write_exception(out: &mut Vec<u8>, exception: &str, payload: &[u8]) {
    let headers =
        [(":exception-type", exception), (":content-type", "application/json"), (":message-type", "exception")];
    write(out, &headers, payload);
}

/// Writes a message. Names and values that are longer than their length can say (255 bytes, 65,535 bytes) are cut.
pub fn write(out: &mut Vec<u8>, headers: &[(&str, &str)], payload: &[u8]) {
    let start = out.len();
    let mut written = Vec::new();
    for (name, value) in headers {
        let name = name.as_bytes().get(..255).unwrap_or(name.as_bytes());
        let value = value.as_bytes().get(..65_535).unwrap_or(value.as_bytes());
        written.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        written.extend_from_slice(name);
        written.push(STRING);
        written.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        written.extend_from_slice(value);
    }
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&size(LEAST + written.len() + payload.len()));
    out.extend_from_slice(&size(written.len()));
    close(out, start);
    out.extend_from_slice(&written);
    out.extend_from_slice(payload);
    close(out, start);
}

/// Adds the checksum of what was written since `start`.
fn close(out: &mut Vec<u8>, start: usize) {
    let sum = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::laws;
    use proptest::prelude::*;

    fn read(stream: &[u8]) -> (Vec<(String, String)>, Result<(), FrameError>) {
        let mut seen = Vec::new();
        let mut decoder = Decoder::new(1 << 16);
        let read = decoder.push(stream, &mut |frame| seen.push((frame.event.to_owned(), frame.data.to_owned())));
        (seen, read.and_then(|()| decoder.end()))
    }

    fn told(event: &str, data: &str) -> (String, String) {
        (event.to_owned(), data.to_owned())
    }

    /// The examples of the guide: an empty message, and one with a header and a payload.
    #[test]
    fn known_messages_are_read_and_written() {
        const EMPTY: [u8; 16] = [0, 0, 0, 0x10, 0, 0, 0, 0, 5, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        let mut out = Vec::new();
        write(&mut out, &[], b"");
        assert_eq!(out, EMPTY);
        assert_eq!(read(&EMPTY), (vec![told("", "")], Ok(())));

        let mut out = Vec::new();
        write(&mut out, &[("content-type", "application/json")], b"{'foo':'bar'}");
        let head = [0, 0, 0, 0x3d, 0, 0, 0, 0x20, 0x07, 0xfd, 0x83, 0x96, 0x0c];
        assert!(out.starts_with(&head) && out.ends_with(&[0x8d, 0x9c, 0x08, 0xb1]), "{out:x?}");
        assert_eq!(read(&out), (vec![told("", "{'foo':'bar'}")], Ok(())));
    }

    #[test]
    fn kinds_of_message_have_their_names() {
        let mut stream = Vec::new();
        write_event(&mut stream, "messageStart", b"{\"role\":\"assistant\"}");
        write_exception(&mut stream, "throttlingException", b"{\"message\":\"slow\"}");
        let error = [(":message-type", "error"), (":error-code", "InternalError"), (":error-message", "oh no")];
        write(&mut stream, &error, b"");
        write(&mut stream, &error, b"more");
        let wanted = vec![
            told("messageStart", "{\"role\":\"assistant\"}"),
            told("throttlingException", "{\"message\":\"slow\"}"),
            told("InternalError", "oh no"),
            told("InternalError", "more"),
        ];
        assert_eq!(read(&stream), (wanted, Ok(())));
    }

    #[test]
    fn headers_of_all_types_are_passed_over() {
        let mut headers = Vec::new();
        for (kind, size) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            headers.extend_from_slice(&[1, b'h', kind]);
            headers.extend(std::iter::repeat_n(0xee, size));
        }
        headers.extend_from_slice(&[1, b'b', 6, 0, 2, 0xff, 0xfe]);
        headers.extend_from_slice(b"\x0b:event-type\x07\x00\x01e");
        assert_eq!(read(&with(&headers)), (vec![told("e", "x")], Ok(())));
        for bad in [&b"\x05ab"[..], b"\x01a", b"\x01a\x0a", b"\x01a\x07\x00\x09x", b"\x01a\x05\x00"] {
            assert_eq!(read(&with(bad)), (Vec::new(), Err(FrameError::Malformed)), "{bad:?}");
        }
        assert_eq!(read(&with(b"\x0b:event-type\x07\x00\x01\xff")).1, Err(FrameError::NotUtf8));
    }

    /// A message with these headers, and `x` as its payload.
    fn with(headers: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&u32::try_from(LEAST + headers.len() + 1).unwrap().to_be_bytes());
        out.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
        close(&mut out, 0);
        out.extend_from_slice(headers);
        out.push(b'x');
        close(&mut out, 0);
        out
    }

    #[test]
    fn lengths_are_believed_only_within_bounds() {
        for (total, headers, wanted) in [
            (u32::MAX, 0, FrameError::TooLarge { limit: 1 << 16 }),
            ((1 << 16) + 1, 0, FrameError::TooLarge { limit: 1 << 16 }),
            (15, 0, FrameError::Malformed),
            (0, 0, FrameError::Malformed),
            (20, 5, FrameError::Malformed),
            (20, u32::MAX, FrameError::Malformed),
        ] {
            let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            close(&mut out, 0);
            // Said of the lengths alone, before anything else comes.
            assert_eq!(read(&out), (Vec::new(), Err(wanted)), "{total} {headers}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let mut stream = Vec::new();
        write_event(&mut stream, "a", b"{}");
        let first = stream.len();
        write_event(&mut stream, "contentBlockDelta", b"{\"delta\":{\"text\":\"hm\"}}");
        for bit in first * 8..stream.len() * 8 {
            let mut bad = stream.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), (vec![told("a", "{}")], Err(FrameError::Checksum)), "bit {bit}");
        }
        for cut in first + 1..stream.len() {
            assert_eq!(read(&stream[..cut]), (vec![told("a", "{}")], Err(FrameError::Truncated)), "cut at {cut}");
        }
        assert_eq!(read(&stream[..first]).1, Ok(()));
    }

    #[test]
    fn a_whole_message_is_lent_from_its_chunk() {
        let mut stream = Vec::new();
        write_event(&mut stream, "a", b"{}");
        let first = stream.len();
        write_event(&mut stream, "b", b"[]");
        let mut lent = Vec::new();
        let mut decoder = Decoder::new(1 << 16);
        let chunk = [&stream[..], b"\0\0"].concat();
        let mut note = |frame: Frame<'_>| lent.push((chunk.as_ptr_range().contains(&frame.data.as_ptr()), frame.end));
        decoder.push(&chunk, &mut note).unwrap();
        assert_eq!((lent, decoder.carried()), (vec![(true, first), (true, stream.len())], 2));
    }

    #[test]
    fn large_buffers_are_given_back() {
        let mut stream = Vec::new();
        write_event(&mut stream, "a", &vec![b'x'; 300_000]);
        let mut decoder = Decoder::new(1 << 20);
        for chunk in stream.chunks(stream.len() - 1) {
            decoder.push(chunk, &mut |frame| assert_eq!(frame.data.len(), 300_000)).unwrap();
        }
        assert!(decoder.carry.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn the_laws_hold(input in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(b'a')], 0..200)) {
            laws::event_stream(&input);
        }

        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            messages in proptest::collection::vec(("[a-zA-Z]{0,20}", "\\PC{0,40}", any::<bool>()), 0..6),
            cuts in proptest::collection::vec(any::<u8>(), 0..12),
            flip in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut stream = Vec::new();
            let mut wanted = Vec::new();
            for (event, data, failed) in &messages {
                let write = if *failed { write_exception } else { write_event };
                write(&mut stream, event, data.as_bytes());
                wanted.push(told(event, data));
            }
            prop_assert_eq!(read(&stream), (wanted, Ok(())));
            if let (Some(flip), false) = (flip, stream.is_empty()) {
                let at = flip.index(stream.len());
                stream[at] ^= 0x10;
            }
            laws::event_stream_cut(&stream, &cuts);
        }
    }
}
