//! Frames of a stream, however its bytes are cut.
//!
//! One interface over the three ways, so that a relay does not care which it reads: chunks in, [`Frame`]s out, lent from
//! the chunk where they lie whole in it, and never more than the bound carried over.

use std::fmt;

use super::sse::{self, Frame, SseError};
use super::{eventstream, lines};

/// The ways in which providers cut a stream into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON value a line (Ollama's own API).
    Lines,
    /// Amazon's binary event stream (Bedrock).
    EventStream,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    NotUtf8,
    /// One frame is larger than the limit, in bytes.
    TooLarge {
        limit: usize,
    },
    /// The bytes are not those that the sender summed up.
    Checksum,
    /// Lengths or headers of a binary frame contradict each other.
    Malformed,
    /// The stream ended within a frame.
    Truncated,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NotUtf8 => f.write_str("an event is not UTF-8"),
            FrameError::TooLarge { limit } => write!(f, "an event is larger than {limit} bytes"),
            FrameError::Checksum => f.write_str("the checksum of an event does not fit its bytes"),
            FrameError::Malformed => f.write_str("the lengths or headers of an event contradict each other"),
            FrameError::Truncated => f.write_str("the stream ended within an event"),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<SseError> for FrameError {
    fn from(error: SseError) -> Self {
        match error {
            SseError::NotUtf8 => FrameError::NotUtf8,
            SseError::TooLarge { limit } => FrameError::TooLarge { limit },
        }
    }
}

/// Reads frames from chunks, of whichever framing.
#[derive(Debug)]
pub enum Decoder {
    Sse(sse::Decoder),
    Lines(lines::Decoder),
    EventStream(eventstream::Decoder),
}

impl Decoder {
    /// A decoder that takes frames of at most `most_bytes`.
    pub fn new(framing: Framing, most_bytes: usize) -> Self {
        match framing {
            Framing::Sse => Decoder::Sse(sse::Decoder::new(most_bytes)),
            Framing::Lines => Decoder::Lines(lines::Decoder::new(most_bytes)),
            Framing::EventStream => Decoder::EventStream(eventstream::Decoder::new(most_bytes)),
        }
    }

    /// Takes a chunk and hands out the frames that it completes.
    ///
    /// # Errors
    /// The stream cannot be read on; frames before the bad one have been handed out.
    pub fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
        match self {
            Decoder::Sse(decoder) => Ok(decoder.push(chunk, each)?),
            Decoder::Lines(decoder) => decoder.push(chunk, each),
            Decoder::EventStream(decoder) => decoder.push(chunk, each),
        }
    }

    /// The stream is over: hands out a last frame that only lacks its closing mark.
    ///
    /// # Errors
    /// As [`Decoder::push`], and [`FrameError::Truncated`] where a binary frame is not whole.
    pub fn end(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> Result<(), FrameError> {
        match self {
            Decoder::Sse(decoder) => Ok(decoder.end(each)?),
            Decoder::Lines(decoder) => decoder.end(each),
            Decoder::EventStream(decoder) => decoder.end(),
        }
    }

    /// Bytes of the unfinished frame.
    pub fn carried(&self) -> usize {
        match self {
            Decoder::Sse(decoder) => decoder.carried(),
            Decoder::Lines(decoder) => decoder.carried(),
            Decoder::EventStream(decoder) => decoder.carried(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(framing: Framing, stream: &[u8]) -> (Vec<String>, Result<(), FrameError>) {
        let mut seen = Vec::new();
        let mut decoder = Decoder::new(framing, 96);
        let mut note = |frame: Frame<'_>| seen.push(format!("{}|{}", frame.event, frame.data));
        let read = decoder.push(stream, &mut note);
        let whole = read.and_then(|()| decoder.end(&mut note));
        (seen, whole)
    }

    #[test]
    fn each_framing_has_its_reader() {
        let mut binary = Vec::new();
        eventstream::write_event(&mut binary, "e", b"{}");
        let wanted = ["e|{}".to_owned()];
        assert_eq!(read(Framing::Sse, b"event: e\ndata: {}\n\n"), (wanted.to_vec(), Ok(())));
        assert_eq!(read(Framing::EventStream, &binary), (wanted.to_vec(), Ok(())));
        assert_eq!(read(Framing::Lines, b"{}\n[1]"), (vec!["|{}".to_owned(), "|[1]".to_owned()], Ok(())));
    }

    #[test]
    fn errors_are_told_alike() {
        let long = [b'x'; 100];
        assert_eq!(read(Framing::Sse, &long).1, Err(FrameError::TooLarge { limit: 96 }));
        assert_eq!(read(Framing::Lines, &long).1, Err(FrameError::TooLarge { limit: 96 }));
        assert_eq!(read(Framing::Sse, b"data: \xff\n\n").1, Err(FrameError::NotUtf8));
        assert_eq!(read(Framing::Lines, b"\xff\n").1, Err(FrameError::NotUtf8));
        assert_eq!(read(Framing::EventStream, &long).1, Err(FrameError::Checksum));
        for framing in [Framing::Sse, Framing::Lines, Framing::EventStream] {
            let mut decoder = Decoder::new(framing, 64);
            decoder.push(b"abc", &mut |_| {}).unwrap();
            assert_eq!(decoder.carried(), 3);
        }
    }
}
