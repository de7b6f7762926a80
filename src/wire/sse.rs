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
#[derive(Debug)]
pub struct Decoder {
    /// The unfinished frame.
    carry: Vec<u8>,
    /// Where in `carry` the search for its end goes on.
    searched: usize,
    /// Data lines of a frame that has several.
    joined: String,
    most: usize,
    begun: bool,
    /// The last chunk ended in a carriage return that ended a frame: a line feed right after it belongs to it.
    after_return: bool,
}

impl Decoder {
    /// A decoder that takes events of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Decoder { carry: Vec::new(), searched: 0, joined: String::new(), most, begun: false, after_return: false }
    }

    /// Takes a chunk and hands out the frames that it completes.
    ///
    /// # Errors
    /// The stream cannot be read on; frames before the bad one have been handed out.
    pub fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), SseError> {
        let mut at = 0;
        if self.after_return && !chunk.is_empty() {
            self.after_return = false;
            if chunk.first() == Some(&b'\n') {
                at = 1;
            }
        }
        if !self.carry.is_empty() {
            // The end of the carried frame may lie across the seam: search from a little before it.
            let seam = self.carry.len();
            self.carry.extend_from_slice(chunk.get(at..).unwrap_or_default());
            match frame_end(&self.carry, self.searched.min(seam)) {
                None => return self.keep_searching(),
                Some(end) => {
                    if end > self.most {
                        return Err(SseError::TooLarge { limit: self.most });
                    }
                    let in_chunk = at + (end - seam);
                    let carried = std::mem::take(&mut self.carry);
                    let frame = carried.get(..end).unwrap_or_default();
                    let read = self.frame(frame, in_chunk, each);
                    self.carry = carried;
                    self.clear_carry();
                    read?;
                    at = in_chunk;
                }
            }
        }
        loop {
            let rest = chunk.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let Some(length) = frame_end(rest, 0) else {
                self.carry.extend_from_slice(rest);
                return self.keep_searching();
            };
            if length > self.most {
                return Err(SseError::TooLarge { limit: self.most });
            }
            self.frame(rest.get(..length).unwrap_or_default(), at + length, each)?;
            at += length;
        }
        self.after_return = chunk.last() == Some(&b'\r');
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
        self.searched = 0;
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

    fn keep_searching(&mut self) -> Result<(), SseError> {
        if self.carry.len() > self.most {
            return Err(SseError::TooLarge { limit: self.most });
        }
        // An end is at most four bytes long, so all but the last three have been searched for good.
        self.searched = self.carry.len().saturating_sub(3);
        Ok(())
    }

    fn clear_carry(&mut self) {
        self.searched = 0;
        if self.carry.capacity() > KEPT {
            self.carry = Vec::new();
        } else {
            self.carry.clear();
        }
    }

    /// Reads the lines of one frame.
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

/// Offset after the first blank line's end, searched from `from`. A lone carriage return at the very end counts as a
/// line's end already: whether a line feed follows is settled with the next chunk.
fn frame_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = memchr::memchr2(b'\n', b'\r', bytes.get(at..)?)?;
        let line_end = after_break(bytes, at + found)?;
        match bytes.get(line_end) {
            Some(b'\n') => return Some(line_end + 1),
            Some(b'\r') => return after_break(bytes, line_end),
            _ => at = line_end,
        }
        if at >= bytes.len() {
            return None;
        }
    }
}

/// Offset after the line break at `at`.
fn after_break(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..at + 2) {
        Some(b"\r\n") => Some(at + 2),
        _ => Some(at + 1),
    }
}

/// Writes a frame of one data line. `json` writes text without line breaks, as JSON is.
pub fn write_data(out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    json(out);
    out.extend_from_slice(b"\n\n");
}

/// Writes a frame with an event name.
pub fn write_event(out: &mut Vec<u8>, event: &str, json: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
    write_data(out, json);
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
        assert_eq!(read(&out, &[]).unwrap(), [frame("", "{}"), frame("e", "[1]")]);
    }

    proptest! {
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
