//! What an operator writes of attempts that are made beside a call's own.

use schemars::JsonSchema;
use serde::Deserialize;

use super::By;
use crate::config::value::{Decimal, Size, Span};

/// Where a target is late another one of the model is asked as well; the first to have content answers, the other is left.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// How late is late. Default: later than 95 of 100 answers of the target, once twenty have been seen; first tokens of
    /// streams, ends of whole answers.
    pub delay: Option<Span>,
    /// Never sooner than that. Default 200ms.
    pub floor: Option<Span>,
    /// Calls of a hundred that may be made twice, saved up to ten. Default 5.
    pub percent: Option<Decimal>,
    /// US dollars an hour for second attempts, as far as their prices are known. Default: no bound but `percent`.
    pub usd_per_hour: Option<Decimal>,
    /// The model's fallbacks may be asked too, where it has no other target left.
    pub fallback: bool,
}

/// Copies of calls go to another model. Its answers are metered apart (key @shadow) and compared; callers never see them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The other model: one of `models`, or provider/model.
    pub to: String,
    /// Calls of a hundred that are copied.
    pub percent: Decimal,
    /// What keeps a caller's calls in or out, the first that a call has. Default: nothing, each call is drawn anew.
    #[serde(default)]
    pub by: Vec<By>,
    /// Copies under way at once; beyond them calls are not copied. Default 16.
    #[schemars(range(min = 1, max = 10_000))]
    pub in_flight: Option<u32>,
}

/// Identical calls of one key (same body, same headers that matter) that are under way at once become one; each caller is
/// told its answer from the beginning. Only calls that leave nothing to chance (temperature 0), unless `any` or the caller
/// says otherwise (header x-portolan-dedup: on or off): whoever sends a call several times may want several answers.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dedup {
    /// Calls whose answers are left to chance too.
    pub any: bool,
    /// How long after its beginning a call can be joined. Default: as long as it lasts.
    pub window: Option<Span>,
    /// How much of an answer is kept for those who come late; beyond it they go alone. Default 1MiB.
    pub buffer: Option<Size>,
    pub cost: Cost,
}

/// Whose row of the ledger has the cost.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// The first call's; the others cost nothing.
    #[default]
    Leader,
    /// Each call has its part.
    Split,
    /// Each call has all of it. What is charged beyond the provider's own price stands under the provider @dedup.
    Each,
}
