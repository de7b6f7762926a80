//! A body in one piece or in several that follow one another.
//!
//! An edit of a few bytes in a prompt of a hundred kilobytes leaves all but a few bytes as they came: they are sent from where
//! they lie, and only what is between them is written anew.

use std::borrow::Cow;

use bytes::Bytes;

/// A body, piece by piece. It has one piece at least, which may be empty.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    first: Bytes,
    /// Few bodies have any: it allocates nothing then.
    rest: Vec<Bytes>,
}

impl Pieces {
    /// Bytes of all pieces together.
    pub fn len(&self) -> usize {
        self.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        1 + self.rest.len()
    }

    /// The piece of that number, counted from 0.
    pub fn get(&self, number: usize) -> Option<&Bytes> {
        match number.checked_sub(1) {
            None => Some(&self.first),
            Some(number) => self.rest.get(number),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// All of it, copied together where it is in several pieces.
    pub fn whole(&self) -> Cow<'_, [u8]> {
        if self.rest.is_empty() {
            return Cow::Borrowed(&self.first);
        }
        let mut whole = Vec::with_capacity(self.len());
        self.iter().for_each(|piece| whole.extend_from_slice(piece));
        Cow::Owned(whole)
    }

    /// Adds a piece; an empty one is none.
    pub fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            self.rest.push(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Pieces {
        Pieces { first: whole, rest: Vec::new() }
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(whole: Vec<u8>) -> Pieces {
        Bytes::from(whole).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_one_empty_piece() {
        let mut pieces = Pieces::default();
        assert_eq!((pieces.count(), pieces.len(), pieces.get(0).map(Bytes::len)), (1, 0, Some(0)));
        pieces.push(Bytes::new());
        assert_eq!(pieces.count(), 1);
        pieces.push(Bytes::from_static(b"ab"));
        pieces.push(Bytes::new());
        assert_eq!((pieces.count(), pieces.len(), &*pieces.whole()), (1, 2, &b"ab"[..]));
        pieces.push(Bytes::from_static(b"c"));
        assert_eq!((pieces.count(), pieces.get(1).cloned(), pieces.get(2)), (2, Some(Bytes::from_static(b"c")), None));
        assert_eq!(&*pieces.whole(), b"abc");
        assert!(!pieces.is_empty());
    }
}
