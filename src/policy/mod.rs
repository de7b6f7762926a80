//! Floor 5: may it, how much, whereto. Pure units side by side; only the exchange orders them.

pub mod auth;
pub mod price;
