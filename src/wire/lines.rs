//! Lines of JSON (NDJSON): each line is a frame without an event name.
//!
//! A line ends at a line feed, a carriage return before it is left out, and blank lines say nothing. Whether a line is
//! JSON is for its dialect to judge: so a last line that was cut ends in its error, not in silence.

use super::frames::FrameError;
use super::sse::Frame;

/// Capacity of the carried buffer that is kept between chunks.
const KEPT: usize = 64 * 1024;

/// Reads lines from chunks.
#[derive(Debug)]
pub struct Decoder {
    /// The unfinished line.
    carry: Vec<u8>,
    most: usize,
}

impl Decoder {
    /// A decoder that takes lines of at most `most` bytes, counted without the line feed.
    pub fn new(most: usize) -> Self {
        Decoder { carry: Vec::new(), most }
    }

    /// Takes a chunk and hands out the lines that it completes.
    ///
    /// # Errors
    /// The stream cannot be read on; lines before the bad one have been handed out.
    pub fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
        let mut rest = chunk;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(at);
            rest = tail.get(1..).unwrap_or_default();
            let end = chunk.len() - rest.len();
            if self.carry.is_empty() {
                if line.len() > self.most {
                    return Err(FrameError::TooLarge { limit: self.most });
                }
                frame(line, end, each)?;
            } else {
                self.keep(line)?;
                let read = frame(&self.carry, end, each);
                self.carry.clear();
                self.carry.shrink_to(KEPT);
                read?;
            }
        }
        self.keep(rest)
    }

    /// The stream is over: a last line needs no line feed.
    ///
    /// # Errors
    /// As [`Decoder::push`].
    pub fn end(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
        frame(&std::mem::take(&mut self.carry), 0, each)
    }

    /// Bytes of the unfinished line.
    pub fn carried(&self) -> usize {
        self.carry.len()
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if bytes.len() > self.most.saturating_sub(self.carry.len()) {
            return Err(FrameError::TooLarge { limit: self.most });
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }
}

fn frame(line: &[u8], end: usize, each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
    let data = simdutf8::basic::from_utf8(line).map_err(|_| FrameError::NotUtf8)?.trim_ascii();
    if !data.is_empty() {
        each(Frame { event: "", data, end, comment: false });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut decoder = Decoder::new(100);
        for chunk in chunks {
            decoder.push(chunk, &mut |frame| seen.push(frame.data.to_owned())).unwrap();
        }
        decoder.end(&mut |frame| seen.push(frame.data.to_owned())).unwrap();
        seen
    }

    #[test]
    fn lines_end_at_line_feeds_and_blank_ones_say_nothing() {
        assert_eq!(read(&[b"{\"a\":1}\r\n\n \n[2]\n{\"b\":", b"3}"]), ["{\"a\":1}", "[2]", "{\"b\":3}"]);
        assert!(read(&[b"", b"\n\r\n"]).is_empty());
    }

    #[test]
    fn a_whole_line_is_lent_from_its_chunk() {
        let chunk = b"{\"a\":1}\n[2]\n{";
        let mut lent = Vec::new();
        let mut decoder = Decoder::new(100);
        let mut note = |frame: Frame<'_>| lent.push((chunk.as_ptr_range().contains(&frame.data.as_ptr()), frame.end));
        decoder.push(chunk, &mut note).unwrap();
        assert_eq!((lent, decoder.carried()), (vec![(true, 8), (true, 12)], 1));
    }

    #[test]
    fn the_bound_holds_however_a_stream_is_cut() {
        let stream = b"12345\n1234567\n";
        for size in 1..=stream.len() {
            let (mut fits, mut exceeds) = (Decoder::new(7), Decoder::new(6));
            let mut seen = 0;
            stream.chunks(size).try_for_each(|chunk| fits.push(chunk, &mut |_| seen += 1)).unwrap();
            let read = stream.chunks(size).try_for_each(|chunk| exceeds.push(chunk, &mut |_| seen += 1));
            assert_eq!((read, seen), (Err(FrameError::TooLarge { limit: 6 }), 3), "by {size}");
            assert!(exceeds.carried() <= 6);
        }
    }

    #[test]
    fn large_buffers_are_given_back() {
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&vec![b'x'; 300_000], &mut |_| {}).unwrap();
        decoder.push(b"\n", &mut |frame| assert_eq!(frame.data.len(), 300_000)).unwrap();
        assert!(decoder.carry.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            stream in proptest::collection::vec(prop::sample::select(vec!["{}", "\n", "\r\n", " ", "é", "\r", "12"]), 0..30),
            cuts in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            crate::wire::laws::lines_cut(stream.concat().as_bytes(), &cuts);
        }
    }
}
