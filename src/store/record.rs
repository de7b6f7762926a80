//! What the journal keeps of an attempt: the intent before dispatch, the settlement after. The attempt's id is the
//! idempotency key everywhere downstream.

use crate::ir::Usage;
use crate::policy::price::Nano;

/// 128 bits, time-ordered (UUID version 7, RFC 9562 section 5.7): unique without coordination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

/// Written before a single byte goes to a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    pub attempt: Id,
    pub request: Id,
    /// Unix milliseconds.
    pub at: u64,
    /// Counts from 1 within the request.
    pub number: u32,
    pub key: String,
    pub project: Option<String>,
    /// The model the caller named, and the one that is tried (they differ in a fallback).
    pub asked: String,
    pub model: String,
    pub provider: String,
    /// `provider/model`.
    pub target: String,
    pub stream: bool,
    /// Version of the price row; empty where the target is unpriced.
    pub price_version: String,
    /// Worst case, in nano-dollars: what an orphaned attempt counts for.
    pub reserve: Nano,
    /// Estimate of input tokens.
    pub input_estimate: u64,
    pub config_version: String,
    pub tags: Vec<(String, String)>,
}

/// Written when the attempt is over, however it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    pub attempt: Id,
    /// Unix milliseconds.
    pub at: u64,
    /// `ok`, `client_gone`, `draining`, or the name of a [`FaultKind`](crate::ir::FaultKind).
    pub outcome: String,
    /// Status of the provider's answer; 0 where there was none.
    pub status: u16,
    pub usage: Option<Usage>,
    /// The provider reported no usage: `usage` is our estimate.
    pub estimated: bool,
    /// Nano-dollars; 0 with `unpriced` set where no price is known.
    pub cost: Nano,
    pub unpriced: bool,
    pub latency_us: u64,
    /// To the first content; 0 where there was none.
    pub ttft_us: u64,
    /// This attempt's answer is what the caller got.
    pub served: bool,
    /// As in `x-portolan-loss`.
    pub losses: String,
}
