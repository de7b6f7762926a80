//! What was paid in for a level beforehand: the sum of the entries that the register of keys holds.

use std::sync::{Mutex, PoisonError};

use super::super::price::Nano;

/// The entries of a level, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Nano-dollars; corrections may take it below nothing.
    pub sum: i64,
    /// How many there are: another one is another balance, also where the sum is the same.
    pub entries: u64,
}

impl Balance {
    /// The most that may be charged.
    pub fn limit(self) -> Nano {
        Nano::try_from(self.sum).unwrap_or(0)
    }
}

/// What was paid in for one level, as far as it is known. Shared by all snapshots.
#[derive(Debug, Default)]
pub struct Paid(Mutex<Option<Balance>>);

impl Paid {
    /// `None`: the register was not read yet.
    pub fn new(balance: Option<Balance>) -> Paid {
        Paid(Mutex::new(balance))
    }

    pub fn balance(&self) -> Option<Balance> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, balance: Balance) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(balance);
    }
}
