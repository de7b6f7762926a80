//! Server-sent events: frames out of chunks cut anywhere, and frames written (WHATWG HTML Living Standard section 9.2,
//! seen 2026-11-21).
//!
//! A frame that lies whole in a chunk and has one data line, as nearly all do, is borrowed from it: no copy, no
//! allocation. Only what a chunk leaves unfinished is carried over.

use std::fmt;

/// One event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Value of the last `event:` line; empty where there is none.
    pub event: &'a str,
    /// The `data:` lines joined by line feeds; empty for a comment.
    pub data: &'a str,
    /// Offset in the chunk just pushed of the first byte after this frame's closing blank line.
    pub end: usize,
    /// No field at all, only comment lines: a sign of life.
    pub comment: bool,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SseError {
    NotUtf8,
    /// One event is larger than the limit, in bytes.
    TooLarge {
        limit: usize,
    },
}

impl fmt::Display for SseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SseError::NotUtf8 => f.write_str("an event is not UTF-8"),
            SseError::TooLarge { limit } => write!(f, "an event is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for SseError {}

/// Capacity of the carried buffer that is kept between chunks.
const KEPT: usize = 64 * 1024;

/// Reads frames from chunks.
///
/// A blank line that is a carriage return at the very end of a chunk closes its frame at once. A line feed that then
/// begins the next chunk belongs to it and reads as a blank line more, which is nothing.
#[derive(Debug)]
pub struct Decoder {
    /// The unfinished frame, as it came: parsed from its whole text, so that no cut can change it.
    carry: Vec<u8>,
    /// Data lines of a frame that has several.
    joined: String,
    most: usize,
    begun: bool,
}

impl Decoder {
    /// A decoder that takes events of at most `most` bytes, counted without the closing blank line.
    pub fn new(most: usize) -> Self {
        Decoder { carry: Vec::new(), joined: String::new(), most, begun: false }
    }

    /// Takes a chunk and hands out the frames that it completes.
    ///
    /// # Errors
    /// The stream cannot be read on; frames before the bad one have been handed out.
    pub fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), SseError> {
        let mut at = 0;
        if let Some(&last) = self.carry.last() {
            let Some(blank) = blank_line(chunk, Some(last)) else { return self.keep(chunk) };
            self.keep(chunk.get(..blank.start).unwrap_or_default())?;
            let mut carried = std::mem::take(&mut self.carry);
            let read = self.frame(&carried, blank.end, each);
            carried.clear();
            carried.shrink_to(KEPT);
            self.carry = carried;
            read?;
            at = blank.end;
        }
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(blank) = blank_line(rest, None) else { return self.keep(rest) };
            if blank.start > self.most {
                return Err(SseError::TooLarge { limit: self.most });
            }
            at += blank.end;
            self.frame(rest.get(..blank.start).unwrap_or_default(), at, each)?;
        }
        Ok(())
    }

    /// The stream is over. A last event without its closing blank line is handed out if it has data: browsers drop it,
    /// but providers do end their streams so.
    ///
    /// # Errors
    /// As [`Decoder::push`].
    pub fn end(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> Result<(), SseError> {
        if self.carry.is_empty() {
            return Ok(());
        }
        let carried = std::mem::take(&mut self.carry);
        let mut with_data = |frame: Frame<'_>| {
            if !frame.data.is_empty() {
                each(frame);
            }
        };
        self.frame(&carried, 0, &mut with_data)
    }

    /// Bytes of the unfinished frame.
    pub fn carried(&self) -> usize {
        self.carry.len()
    }

    fn keep(&mut self, text: &[u8]) -> Result<(), SseError> {
        if text.len() > self.most.saturating_sub(self.carry.len()) {
            return Err(SseError::TooLarge { limit: self.most });
        }
        self.carry.extend_from_slice(text);
        Ok(())
    }

    /// Reads the lines of one frame, whose closing blank line is left out.
    fn frame(&mut self, bytes: &[u8], end: usize, each: &mut dyn FnMut(Frame<'_>)) -> Result<(), SseError> {
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| SseError::NotUtf8)?;
        let text = if self.begun { text } else { text.strip_prefix('\u{feff}').unwrap_or(text) };
        self.begun = true;
        let mut event = "";
        let mut data: Option<&str> = None;
        let mut several = false;
        let mut lines = 0;
        let mut comment = false;
        for line in lines_of(text) {
            if line.is_empty() {
                continue;
            }
            lines += 1;
            let (field, value) = match memchr::memchr(b':', line.as_bytes()) {
                Some(0) => {
                    comment = true;
                    continue;
                }
                Some(colon) => {
                    let (field, value) = line.split_at(colon);
                    let value = value.get(1..).unwrap_or_default();
                    (field, value.strip_prefix(' ').unwrap_or(value))
                }
                None => (line, ""),
            };
            match field {
                "event" => event = value,
                "data" => match data {
                    None => data = Some(value),
                    Some(first) => {
                        if !several {
                            several = true;
                            self.joined.clear();
                            self.joined.push_str(first);
                        }
                        self.joined.push('\n');
                        self.joined.push_str(value);
                    }
                },
                _ => {}
            }
        }
        if lines == 0 {
            return Ok(());
        }
        let fields = data.is_some() || !event.is_empty();
        let data = if several { self.joined.as_str() } else { data.unwrap_or_default() };
        each(Frame { event, data, end, comment: comment && !fields });
        self.joined.clear();
        self.joined.shrink_to(KEPT);
        Ok(())
    }
}

/// The lines of a text, ended by LF, CR or CRLF.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = memchr::memchr2(b'\n', b'\r', rest.as_bytes()) else { return Some(std::mem::take(&mut rest)) };
        let (line, tail) = rest.split_at(at);
        rest = tail.strip_prefix("\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
        Some(line)
    })
}

/// A blank line: where it starts, which is where its frame's text ends, and the first byte after it.
struct Blank {
    start: usize,
    end: usize,
}

/// Finds the blank line that closes a frame. `before` is the last byte of the same frame in earlier chunks.
fn blank_line(text: &[u8], before: Option<u8>) -> Option<Blank> {
    let mut at = match (before, text.first()) {
        // The second half of a line's end that was cut in two.
        (Some(b'\r'), Some(b'\n')) => 1,
        (None | Some(b'\r' | b'\n'), _) => 0,
        _ => next_line(text, 0)?,
    };
    loop {
        match text.get(at)? {
            b'\n' => return Some(Blank { start: at, end: at + 1 }),
            b'\r' => return Some(Blank { start: at, end: after_break(text, at) }),
            _ => at = next_line(text, at)?,
        }
    }
}

/// Where the line after the one at `at` starts.
#[inline]
fn next_line(text: &[u8], at: usize) -> Option<usize> {
    let found = memchr::memchr2(b'\n', b'\r', text.get(at..)?)?;
    Some(after_break(text, at + found))
}

/// Offset after the line break at `at`.
fn after_break(text: &[u8], at: usize) -> usize {
    if text.get(at..at + 2) == Some(b"\r\n") { at + 2 } else { at + 1 }
}

/// Writes a frame of the data that `json` writes.
pub fn write_data(out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    let start = out.len();
    json(out);
    // JSON of our own writing has no line breaks; a provider's, taken along raw, may have.
    if out.get(start..).is_some_and(|data| memchr::memchr2(b'\n', b'\r', data).is_some()) {
        split_lines(out, start);
    }
    out.extend_from_slice(b"\n\n");
}

/// Writes a frame with an event name.
pub fn write_event(out: &mut Vec<u8>, event: &str, json: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
    write_data(out, json);
}

/// Gives every line but the first its own `data:`. Whatever broke a line reads as a line feed.
fn split_lines(out: &mut Vec<u8>, start: usize) {
    let text = out.split_off(start);
    let mut at = 0;
    while let Some(next) = next_line(&text, at) {
        let line = text.get(at..next).unwrap_or_default();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\ndata: ");
        at = next;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Event, data, comment and the absolute end of each frame, for a stream cut at these offsets.
    fn read(stream: &[u8], cuts: &[usize]) -> Result<Vec<(String, String, bool)>, SseError> {
        let mut decoder = Decoder::new(1 << 16);
        let mut frames = Vec::new();
        let mut ends = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([stream.len()]) {
            let base = from;
            decoder.push(&stream[from..to], &mut |frame| {
                assert!(frame.end <= to - base, "an end lies in its chunk");
                ends.push(base + frame.end);
                frames.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment));
            })?;
            from = to;
        }
        decoder.end(&mut |frame| frames.push((frame.event.to_owned(), frame.data.to_owned(), frame.comment)))?;
        assert!(ends.is_sorted());
        Ok(frames)
    }

    fn frame(event: &str, data: &str) -> (String, String, bool) {
        (event.into(), data.into(), false)
    }

    const ALL_KINDS: &str = "\u{feff}data: {\"a\":1}\n\nevent: e\r\ndata:x\r\ndata:  y\r\n\r\n: ping\n\nid: 5\nretry: 9\ndata\ndata: \u{1F600}z\r\rdata: [DONE]\n\n\n\n: c\ndata: k\n\nevent: last\ndata: end";

    #[test]
    fn every_kind_of_frame_at_every_cut() {
        let whole = read(ALL_KINDS.as_bytes(), &[]).unwrap();
        assert_eq!(
            whole,
            [
                frame("", "{\"a\":1}"),
                frame("e", "x\n y"),
                (String::new(), String::new(), true),
                frame("", "\n\u{1F600}z"),
                frame("", "[DONE]"),
                frame("", "k"),
                frame("last", "end"),
            ]
        );
        for cut in 0..=ALL_KINDS.len() {
            assert_eq!(read(ALL_KINDS.as_bytes(), &[cut]).unwrap(), whole, "cut at {cut}");
            for second in cut..=ALL_KINDS.len() {
                assert_eq!(read(ALL_KINDS.as_bytes(), &[cut, second]).unwrap(), whole, "cut at {cut} and {second}");
            }
        }
        let every: Vec<_> = (0..ALL_KINDS.len()).collect();
        assert_eq!(read(ALL_KINDS.as_bytes(), &every).unwrap(), whole);
    }

    #[test]
    fn bounds_and_bad_bytes() {
        let mut decoder = Decoder::new(16);
        assert_eq!(decoder.push(b"data: 0123456789abcdef", &mut |_| {}), Err(SseError::TooLarge { limit: 16 }));
        let mut decoder = Decoder::new(16);
        assert_eq!(decoder.push(b"data: 0123456789abcdef\n\n", &mut |_| {}), Err(SseError::TooLarge { limit: 16 }));
        assert_eq!(read(b"data: \xff\n\n", &[]), Err(SseError::NotUtf8));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        write_data(&mut out, |out| out.extend_from_slice(b"{}"));
        write_event(&mut out, "e", |out| out.extend_from_slice(b"[1]"));
        write_data(&mut out, |out| out.extend_from_slice(b"{\n \"a\":\r\n1}\r"));
        assert_eq!(read(&out, &[]).unwrap(), [frame("", "{}"), frame("e", "[1]"), frame("", "{\n \"a\":\n1}\n")]);
        assert!(out.ends_with(b"\n\ndata: {\ndata:  \"a\":\ndata: 1}\ndata: \n\n"));
    }

    #[test]
    fn a_whole_frame_is_lent_from_its_chunk() {
        let chunk = b"data: {\"a\":1}\n\nevent: e\ndata: two\r\n\r\ndata: a\ndata: b\n\ndata: un";
        let mut decoder = Decoder::new(100);
        let mut lent = Vec::new();
        let mut each = |frame: Frame<'_>| {
            lent.push((chunk.as_ptr_range().contains(&frame.data.as_ptr()), frame.end));
        };
        decoder.push(chunk, &mut each).unwrap();
        assert_eq!(lent, [(true, 15), (true, 37), (false, 54)]);
        assert_eq!(decoder.carried(), 8);
        let mut ends = Vec::new();
        decoder.push(b"ended\n", &mut |_| panic!("not closed")).unwrap();
        decoder.push(b"\ndata: x\r\n\r", &mut |frame| ends.push((frame.data.to_owned(), frame.end))).unwrap();
        decoder.push(b"\ndata: y\n\n", &mut |frame| ends.push((frame.data.to_owned(), frame.end))).unwrap();
        assert_eq!(ends, [("unended".to_owned(), 1), ("x".to_owned(), 11), ("y".to_owned(), 10)]);
        assert_eq!(decoder.carried(), 0);
    }

    #[test]
    fn the_bound_holds_however_a_stream_is_cut() {
        let stream = b"data: 123\r\n\r\ndata: 1234\r\n\r\n";
        for size in 1..=stream.len() {
            let (mut fits, mut exceeds) = (Decoder::new(12), Decoder::new(11));
            let mut seen = 0;
            stream.chunks(size).try_for_each(|chunk| fits.push(chunk, &mut |_| seen += 1)).unwrap();
            assert_eq!(seen, 2, "by {size}");
            let read = stream.chunks(size).try_for_each(|chunk| exceeds.push(chunk, &mut |_| seen += 1));
            assert_eq!((read, seen), (Err(SseError::TooLarge { limit: 11 }), 3), "by {size}");
            assert!(exceeds.carried() <= 11);
        }
    }

    #[test]
    fn large_buffers_are_given_back() {
        let mut decoder = Decoder::new(1 << 20);
        for _ in 0..2 {
            decoder.push(b"data: ", &mut |_| {}).unwrap();
            decoder.push(&vec![b'x'; 300_000], &mut |_| {}).unwrap();
            decoder.push(b"\ndata: x\n\n", &mut |frame| assert_eq!(frame.data.len(), 300_002)).unwrap();
            assert!(decoder.carry.capacity() <= KEPT && decoder.joined.capacity() <= KEPT);
        }
    }

    proptest! {
        #[test]
        fn any_stream_reads_as_the_standard_says(
            stream in proptest::collection::vec(
                prop::sample::select(vec![
                    "data", "event", "id", ":", " ", "\n", "\r", "\r\n", "\n\n", "x", "é", "\u{feff}", "data: ", "\0",
                ]),
                0..40,
            ),
            cuts in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            crate::wire::laws::sse_cut(stream.concat().as_bytes(), &cuts);
        }

        #[test]
        fn cuts_change_nothing(stream in "(data: ?[a:é]{0,3}|event: e|: c|id|)((\r\n|\n|\r)(data: ?[a:é]{0,3}|event: e|: c|)){0,12}", seed in any::<u64>()) {
            let whole = read(stream.as_bytes(), &[]).unwrap();
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut cuts: Vec<usize> = (0..rng.usize(0..8)).map(|_| rng.usize(0..=stream.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(read(stream.as_bytes(), &cuts).unwrap(), whole);
        }
    }
}
