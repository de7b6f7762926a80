//! Frames of a stream, however its bytes are cut.

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
