//! Floor 8: what outlives a call.

pub mod record;
