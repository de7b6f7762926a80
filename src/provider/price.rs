//! What a model is offered for: rates and tiers, as data, so that the catalogue can hold them. The arithmetic of cost
//! is a floor up, in [`policy::price`](crate::policy::price).
//!
//! Money is whole numbers: nano-dollars, and for rates nano-dollars for a *million* tokens, so that the smallest
//! published prices (fractions of a cent for a million) stay exact and no float is ever near them.

/// Nano-units (10^-9) of a currency; US dollars unless said otherwise.
pub type Nano = u64;

/// Prices of one model at one provider, in nano-dollars for a million tokens (1 $/M = 1,000,000,000), so that the
/// smallest published prices stay whole numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub input: u64,
    pub output: u64,
    /// Input read from a cache. Where a provider publishes none it is `input`: unknown is never free.
    pub cached: u64,
    pub cache_write: u64,
    pub cache_write_1h: u64,
    pub audio_input: u64,
    pub audio_output: u64,
    /// Of output; equals `output` unless published apart.
    pub reasoning: u64,
    /// Nano-dollars for one call, and for one search of the provider's own tool.
    pub request: u64,
    pub search: u64,
}

/// The price of a model: plain rates, and those that apply to the whole call above a prompt length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub rates: Rates,
    /// Prompt tokens above which the other rates hold, ascending (for example 200,000).
    pub tiers: Vec<(u64, Rates)>,
    /// Names the row: catalogue date or `config`. Kept in the ledger.
    pub version: String,
}
