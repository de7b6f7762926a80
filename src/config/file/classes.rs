//! What an operator writes of classes of tasks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{Decimal, Size};

/// Kinds of work that prompts ask for, so that rules can go by `request.class`. A prompt is of the class whose features it
/// has and that it is most like: nearest to one of its examples, or with one of its keywords.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Classes {
    /// live: rules see the class. shadow: it is decided, counted and told, and `request.class` stays empty.
    pub mode: Mode,
    /// As much of what the user says last as is looked at. Default 4KiB.
    pub head: Option<Size>,
    /// How like a class a prompt must be, 0 to 1; below, it is of no class. Default 0.25.
    pub least: Option<Decimal>,
    /// The classes, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub named: BTreeMap<String, Class>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Live,
    Shadow,
}

/// One class. Without examples and keywords its features are all that it goes by.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Class {
    /// Prompts as users write them; a handful will do.
    pub examples: Vec<String>,
    /// Words that mark it, in small letters or capitals.
    pub keywords: Vec<String>,
    /// Least and most tokens of the request, estimated.
    pub min_tokens: Option<u64>,
    pub max_tokens: Option<u64>,
    /// Whether there is code in what the user says.
    pub code: Option<bool>,
    /// Whether the request has tools.
    pub tools: Option<bool>,
    /// The language is one of these: ar, de, en, es, fr, hi, it, ja, ko, nl, pt, ru, zh.
    pub languages: Vec<String>,
}
