//! Floor 8: what outlives a call: the journal of attempts, and the ledger it drains into.

pub mod journal;
pub mod ledger;
pub mod usage;
