//! Floor 8: what outlives a call: the journal of attempts, the ledger it drains into, and answers that callers come back
//! to.

pub mod alerts;
mod batch;
mod books;
pub mod directory;
mod drain;
mod fold;
pub mod journal;
pub mod ledger;
mod query;
pub mod responses;
mod rollup;
mod schema;
mod segment;
mod sketch;
mod spent;
pub mod usage;
mod worker;

#[cfg(test)]
mod tests;
