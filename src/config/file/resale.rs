//! What an operator writes to bill customers of their own: what they are charged, and that they pay beforehand.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Price;
use crate::config::value::Decimal;

/// What those are charged who belong to it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceGroup {
    /// Of what a call costs: 1.25 is a quarter on top. Default 1.
    pub factor: Option<Decimal>,
    /// Other terms for models, by the name that served or by provider/model; * stands for anything. A name counts before
    /// patterns that fit it too, and a longer pattern before a shorter one.
    pub models: BTreeMap<String, Tariff>,
}

/// What is charged for some models: a factor, or a price.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// Of what their calls cost.
    pub factor: Option<Decimal>,
    /// Whatever they cost.
    pub price: Option<Price>,
}

/// Calls are made only from what was paid in, which the admin API and `portolan balance` keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prepaid {
    /// US dollars that are left when it is told of, by the webhooks of `alerts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub low: Vec<Decimal>,
    /// Where more can be paid in: callers are told when there is not enough left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_up: Option<String>,
}

/// What stands on every statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Statements {
    /// Who writes them, in lines. Whom one is for is what the project, or whatever it is of, has as `bill_to` in its metadata.
    pub issuer: String,
    /// Below everything, in lines.
    pub note: String,
}
