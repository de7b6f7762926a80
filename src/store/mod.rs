//! Floor 8: what outlives a call: the journal of attempts, the ledger it drains into, and answers that callers come back
//! to.

pub mod alerts;
mod batch;
mod books;
pub mod directory;
mod drain;
pub mod export;
pub mod failpoint;
mod fold;
pub mod journal;
pub mod ledger;
mod query;
pub mod reconcile;
pub mod responses;
mod rollup;
mod schema;
mod segment;
mod sketch;
mod spent;
pub mod statement;
pub mod usage;
pub mod verify;
mod worker;

#[cfg(test)]
mod tests;
