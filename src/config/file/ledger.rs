//! What an operator writes of the ledger.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::Span;

/// What every attempt used and cost, below the state directory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// How long a row of its own is kept of each attempt: 2d or more. After that the day's rows become sums by all that
    /// usage can be grouped by, and no total changes. Default: for ever.
    pub keep: Option<Span>,
    /// Whose days they are: Europe/Berlin. Default UTC. Later questions for other days get these.
    pub time_zone: Option<String>,
}
