//! Why the last calls went where they went: a ring of what was told of each, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::snapshot::Explain;

/// The last calls, oldest first.
#[derive(Debug, Default)]
pub struct Explanations {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<(u128, Box<[u8]>)>,
    bytes: usize,
}

impl Explanations {
    /// Keeps what is told of a call; the oldest go where there are too many.
    pub fn keep(&self, id: u128, told: Vec<u8>, bounds: &Explain) {
        let mut ring = self.lock();
        ring.bytes += told.len();
        ring.kept.push_back((id, told.into()));
        while ring.kept.len() > bounds.calls || ring.bytes > bounds.bytes {
            let Some((_, gone)) = ring.kept.pop_front() else { break };
            ring.bytes -= gone.len();
        }
    }

    /// What was told of a call.
    pub fn find(&self, id: u128) -> Option<Vec<u8>> {
        // From the end: operators ask for what has just happened.
        self.lock().kept.iter().rev().find(|(own, _)| *own == id).map(|(_, told)| told.to_vec())
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        *self.lock() = Ring::default();
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_both_ways() {
        let ring = Explanations::default();
        let bounds = Explain { calls: 3, bytes: 10 };
        for id in 0..5 {
            ring.keep(id, vec![b'x'; 2], &bounds);
        }
        assert_eq!((ring.find(1), ring.find(2)), (None, Some(b"xx".to_vec())));
        ring.keep(7, vec![b'y'; 7], &bounds);
        assert_eq!((ring.find(3), ring.find(4).is_some(), ring.find(7).is_some()), (None, true, true));
        ring.keep(8, vec![b'z'; 11], &bounds);
        assert_eq!((ring.find(7), ring.find(8)), (None, None), "too large for the ring");
        ring.keep(9, vec![b'x'; 2], &bounds);
        assert!(ring.find(9).is_some());
        ring.clear();
        assert_eq!(ring.find(9), None);
    }
}
