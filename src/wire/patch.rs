//! Edits to a body by span: what is not named stays, byte for byte.

use std::ops::Range;

/// Edits of one body, in any order; spans must not overlap.
#[derive(Debug, Default)]
pub struct Patch {
    edits: Vec<(Range<usize>, Vec<u8>)>,
}

impl Patch {
    /// Puts `with` in place of `span`; an empty span inserts.
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Vec<u8>>) {
        self.edits.push((span, with.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}
