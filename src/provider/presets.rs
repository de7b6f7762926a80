//! The rows of `presets.yaml`, read once: what is known of each provider before an operator says anything.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::AuthScheme;
use crate::dialect::{self, Dialect, Quirks};
use crate::wire::yaml;

const TEXT: &str = include_str!("presets.yaml");

/// One provider as data.
#[derive(Debug)]
pub struct Preset {
    pub name: String,
    pub dialect: Dialect,
    pub address: Address,
    pub auth: AuthScheme,
    /// Environment variable that holds the credential when the configuration names none.
    pub key: Option<String>,
    /// Works without a credential too.
    pub keyless: bool,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub quirks: Quirks,
}

/// Where a preset's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The same for everybody.
    Known(String),
    /// Every account has its own, of this form.
    Own(String),
    /// The built-in sandbox, at this path.
    Sandbox(String),
}

/// How a provider without a preset is spoken to, by dialect.
#[derive(Debug)]
pub struct Manners {
    pub auth: AuthScheme,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The preset of a name.
pub fn named(name: &str) -> Option<&'static Preset> {
    TABLE.presets.iter().find(|preset| preset.name == name)
}

/// The names of all presets, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.presets.iter().map(|preset| preset.name.as_str())
}

/// What every provider of a dialect needs.
pub fn manners(dialect: &str) -> Option<&'static Manners> {
    TABLE.manners.get(dialect)
}

/// The text is part of the program and a test reads it, so what does not parse cannot be shipped.
static TABLE: LazyLock<Table> = LazyLock::new(|| read(TEXT).unwrap_or_default());

#[derive(Debug, Default)]
struct Table {
    presets: Vec<Preset>,
    manners: BTreeMap<String, Manners>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    dialects: BTreeMap<String, MannersRow>,
    presets: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MannersRow {
    auth: AuthRow,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    base_url: Option<String>,
    address: Option<String>,
    sandbox: Option<String>,
    dialect: String,
    auth: AuthRow,
    key: Option<String>,
    #[serde(default)]
    keyless: bool,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    quirks: Quirks,
    source: String,
    seen: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthRow {
    None,
    Bearer,
    Header(String),
    GoogleServiceAccount,
    Entra,
    Aws,
}

fn read(text: &str) -> Result<Table, String> {
    let tree = yaml::parse(text, 0).map_err(|flaws| format!("{flaws:?}"))?;
    let rows: Rows = serde_json::from_value(tree.to_json()).map_err(|error| error.to_string())?;
    let mut table = Table::default();
    for (dialect, row) in rows.dialects {
        table.manners.insert(dialect, Manners { auth: row.auth.scheme()?, headers: headers(row.headers)? });
    }
    for (name, row) in rows.presets {
        let wrong = |what: &str| format!("preset {name}: {what}");
        let address = match (row.base_url, row.address, row.sandbox) {
            (Some(url), None, None) => Address::Known(url),
            (None, Some(form), None) => Address::Own(form),
            (None, None, Some(path)) => Address::Sandbox(path),
            _ => return Err(wrong("exactly one of base_url, address and sandbox")),
        };
        if row.source.is_empty() || row.seen.len() != "2026-11-21".len() {
            return Err(wrong("source and date"));
        }
        table.presets.push(Preset {
            dialect: dialect::named(&row.dialect).ok_or_else(|| wrong("unknown dialect"))?,
            address,
            auth: row.auth.scheme()?,
            key: row.key,
            keyless: row.keyless,
            headers: headers(row.headers)?,
            quirks: row.quirks,
            name,
        });
    }
    Ok(table)
}

impl AuthRow {
    fn scheme(self) -> Result<AuthScheme, String> {
        Ok(match self {
            AuthRow::None => AuthScheme::None,
            AuthRow::Bearer => AuthScheme::Bearer,
            AuthRow::GoogleServiceAccount => AuthScheme::GoogleServiceAccount,
            AuthRow::Entra => AuthScheme::Entra,
            AuthRow::Aws => AuthScheme::Aws,
            AuthRow::Header(name) => {
                AuthScheme::Header(HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?)
            }
        })
    }
}

fn headers(rows: BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    rows.into_iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            Ok((name, HeaderValue::from_str(&value).map_err(|error| error.to_string())?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Node;

    #[test]
    fn every_row_is_whole() {
        let table = read(TEXT).unwrap();
        assert!(table.presets.len() >= 25);
        for preset in &table.presets {
            match &preset.address {
                Address::Known(url) => drop(Node::parse(url, 1).unwrap()),
                Address::Own(form) => drop(Node::parse(form, 1).unwrap()),
                Address::Sandbox(path) => assert!(path.starts_with('/'), "{}", preset.name),
            }
            let needs_key = preset.auth != AuthScheme::None && !preset.keyless;
            assert_eq!(needs_key, preset.key.is_some(), "{}: a credential needs a variable", preset.name);
            assert!(table.manners.contains_key(preset.dialect.name), "{}", preset.name);
            let quirks = &preset.quirks;
            for template in quirks.path.iter().chain(&quirks.stream_path) {
                dialect::template::check(template, quirks.api_version.is_some()).unwrap();
            }
        }
        for dialect in crate::dialect::DIALECTS.into_iter().filter(|dialect| dialect.outbound.is_some()) {
            assert!(manners(dialect.name).is_some(), "{} needs a row under `dialects`", dialect.name);
        }
    }

    #[test]
    fn the_promised_presets_are_there() {
        for name in [
            "openai",
            "anthropic",
            "gemini",
            "azure-openai",
            "azure-openai-deployments",
            "vertex-gemini",
            "vertex-anthropic",
            "deepseek",
            "qwen",
            "zhipu",
            "mistral",
            "moonshot",
            "groq",
            "xai",
            "together",
            "fireworks",
            "openrouter",
            "perplexity",
            "cerebras",
            "siliconflow",
            "nvidia",
            "ollama",
            "ollama-native",
            "cohere",
            "vllm",
            "lmstudio",
            "portolan",
            "sandbox-openai",
            "sandbox-anthropic",
            "sandbox-gemini",
        ] {
            assert!(named(name).is_some(), "{name}");
        }
        assert_eq!(named("anthropic").unwrap().headers[0].0, "anthropic-version");
        assert!(named("sandbox").is_none());
    }

    #[test]
    fn a_bad_row_is_refused() {
        for row in
            ["dialect: klingon, base_url: http://x", "dialect: gemini", "dialect: gemini, base_url: http://x, hue: red"]
        {
            let text = format!("dialects: {{}}\npresets: {{a: {{auth: none, source: s, seen: 2026-11-21, {row}}}}}");
            assert!(read(&text).is_err(), "{row}");
        }
    }
}
