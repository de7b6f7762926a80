//! What an operator writes of those who sign tokens for callers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;
use super::tenancy::Callers;
use crate::config::value::Span;

/// Somebody whose tokens callers may bring instead of a key: an OpenID provider or an OAuth 2.0 authorisation server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// As its tokens say it (`iss`): https://login.example.com/realms/acme.
    pub issuer: String,
    /// Whom its tokens must be meant for (`aud`): one of these.
    pub audience: OneOrMany<String>,
    /// Where it shows its public keys. Default: where its /.well-known/openid-configuration says.
    pub jwks_uri: Option<String>,
    /// What its tokens may be signed with. Default: RS256, ES256, EdDSA.
    pub algorithms: Option<Vec<SignedBy>>,
    /// Seconds that clocks may differ by. Default 60s.
    pub clock_skew: Option<Span>,
    /// How often its keys are fetched. Default 10m; a token by a key that is not known asks for them at once.
    pub refresh: Option<Span>,
    /// Which of a token's claims say whom its bearer belongs to.
    #[serde(default)]
    pub claims: ClaimNames,
    /// Values of the claim for the project, and the names under `projects` that they stand for; who has none of them is
    /// refused. Default: the values are names of projects.
    #[serde(default)]
    pub projects: BTreeMap<String, String>,
    /// What holds for each of the callers, as for a key.
    #[serde(default)]
    pub callers: Callers,
    /// Asks it about credentials that are neither keys nor tokens that can be read (RFC 7662).
    pub introspection: Option<Introspection>,
}

/// Names of claims; a.b is the member b of a. A claim that is a list counts by the first value that is known.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// Default: all belong to the project of `callers`.
    pub project: Option<String>,
    /// Default: sub.
    pub user: Option<String>,
}

/// How a token is signed (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SignedBy {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// Where it is asked.
    pub url: String,
    /// Who asks, and its secret: ${NAME} or file:/path.
    pub client_id: String,
    pub client_secret: String,
    /// How long its word is kept, no longer than the token is good. Default 60s.
    pub cache: Option<Span>,
}
