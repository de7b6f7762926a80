//! Which calls are sent to another model too, whose answer nobody gets, and how many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::affinity::By;

/// The whole, in millionths.
pub const WHOLE: u64 = 1_000_000;

/// What the operator wrote.
#[derive(Debug)]
pub struct Shadow {
    /// The model that the copies go to.
    pub to: String,
    /// The part of the calls that is copied, in millionths.
    pub share: u64,
    /// What keeps a caller's calls in or out of the share, the first that a call has; empty: each is drawn anew.
    pub by: Vec<By>,
    /// Two models do not copy the calls of the same callers.
    pub salt: u64,
    /// Copies under way at once.
    pub most: u32,
    /// How many there are. Outlives snapshots.
    pub running: Arc<Running>,
}

/// Copies of one model's calls that are under way.
#[derive(Debug, Default)]
pub struct Running(AtomicU32);

/// The place of one of them, given back when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Running>);

impl Shadow {
    /// A place for one more; nothing where there are enough.
    pub fn slot(&self) -> Option<Slot> {
        let more = |running: u32| (running < self.most).then_some(running + 1);
        self.running.0.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Slot(Arc::clone(&self.running)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_under_way_than_may_be() {
        let shadow = Shadow { to: "m".into(), share: 1, by: Vec::new(), salt: 0, most: 2, running: Arc::default() };
        let (one, two) = (shadow.slot(), shadow.slot());
        assert!(one.is_some() && two.is_some() && shadow.slot().is_none());
        drop(one);
        assert!(shadow.slot().is_some());
    }
}
