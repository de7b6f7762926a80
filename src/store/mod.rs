//! Floor 8: what outlives a call: the journal of attempts, and the ledger it drains into.

mod books;
mod drain;
pub mod journal;
pub mod ledger;
mod query;
mod segment;
pub mod usage;
mod worker;

#[cfg(test)]
mod tests;
