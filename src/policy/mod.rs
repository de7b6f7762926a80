//! Floor 5: may it, how much, whereto. Pure units side by side; only the exchange orders them.
//!
//! Each unit is rules (from the snapshot), state (in [`Live`], which no reload resets) and one decision that is given
//! the time and the randomness it needs.

pub mod auth;
pub mod price;
pub mod route;

use dashmap::DashMap;
use std::sync::Arc;

use route::Health;

/// An instant as the exchange is told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds of a clock that never goes back, from an arbitrary start.
    pub mono: u64,
    /// Unix milliseconds, for people and ledgers.
    pub unix_ms: u64,
}

impl Moment {
    /// Microseconds since an earlier moment.
    pub fn since(self, earlier: Moment) -> u64 {
        self.mono.saturating_sub(earlier.mono)
    }
}

/// State that outlives snapshots: a reload never forgives a failing target or a benched credential.
#[derive(Debug, Default)]
pub struct Live {
    health: DashMap<String, Arc<Health>>,
}

impl Live {
    /// The health of a target or a credential, made on first sight. Resolved at config load, not per call.
    pub fn health(&self, id: &str) -> Arc<Health> {
        if let Some(health) = self.health.get(id) {
            return health.clone();
        }
        self.health.entry(id.to_owned()).or_default().clone()
    }
}
