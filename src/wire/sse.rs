//! Server-sent events: frames out of chunks cut anywhere (WHATWG HTML Living Standard section 9.2).

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
