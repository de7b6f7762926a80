//! The catalogue of faults: what providers and callers do wrong, and what is held then.
//!
//! `make faults` runs it and counts. Each test bears the number of its case, and ends with the reconciler
//! ([`case::Case::close`]), which holds what callers got against what scripted providers saw and against the ledger:
//!
//! - O1 every call ended by its deadline;
//! - O2 no truncated answer was given as a good one;
//! - O3 the ledger has one row for each attempt that a provider saw, settled once, with the tokens the provider
//!   reported, or an estimate that says so;
//! - O5 the process is the same, and nothing panicked;
//! - O6 no part of a planted key is in the log (at its most talkative), in metrics or in answers;
//! - O7 open files and buffers are back where they were;
//! - O8 a call that has nothing to do with the fault succeeds within a second.

mod answer;
mod books;
mod case;
mod clients;
mod connect;
mod failover;
mod status;
mod stream;

/// How often something is done in the cases that repeat one: `PORTOLAN_FAULTS` multiplies it, 1 where it is not set.
fn scaled(count: usize) -> usize {
    let factor: f64 = std::env::var("PORTOLAN_FAULTS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1.0);
    ((count as f64 * factor) as usize).max(1)
}
