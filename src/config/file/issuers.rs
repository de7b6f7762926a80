//! What an operator writes of those who sign tokens for callers and administrators.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OneOrMany;
use super::tenancy::Callers;
use crate::config::value::Span;
use crate::policy::role;

/// Somebody whose tokens callers may bring instead of a key, and administrators instead of a token of ours: an OpenID provider
/// or an OAuth 2.0 authorisation server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// As its tokens say it (`iss`): https://login.example.com/realms/acme.
    pub issuer: String,
    /// Whom tokens of callers must be meant for (`aud`): one of these. Without it no call is made with its tokens, which needs
    /// `administrators`.
    pub audience: Option<OneOrMany<String>>,
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
    /// Whose tokens are good on the admin port. Default: nobody's.
    pub administrators: Option<Administrators>,
}

/// Tokens of an issuer that are good on the admin port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Administrators {
    /// Whom they must be meant for (`aud`): one of these. A token for callers alone is none of them.
    pub audience: OneOrMany<String>,
    /// The claim that says who has which role; a.b is the member b of a.
    pub claim: String,
    /// What its values give. The first in this list that a token has counts; who has none of them may do nothing.
    pub roles: Vec<GivenRole>,
}

/// What a value of a claim gives.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenRole {
    /// Of the claim.
    pub value: String,
    pub role: Role,
    /// The only team that it is for; for viewer and admin. Default: it is for everything.
    pub team: Option<String>,
    /// The claim that names the only team, instead; who names none that there is has no role by this value.
    pub team_claim: Option<String>,
}

/// A role of administrators: each may all that the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything but secrets.
    Viewer,
    /// Changes what concerns money.
    Billing,
    /// Changes who may call, and what.
    Admin,
    /// Changes who administers.
    Owner,
}

impl From<Role> for role::Role {
    fn from(written: Role) -> role::Role {
        match written {
            Role::Viewer => role::Role::Viewer,
            Role::Billing => role::Role::Billing,
            Role::Admin => role::Role::Admin,
            Role::Owner => role::Role::Owner,
        }
    }
}

impl From<role::Role> for Role {
    fn from(role: role::Role) -> Role {
        match role {
            role::Role::Viewer => Role::Viewer,
            role::Role::Billing => Role::Billing,
            role::Role::Admin => Role::Admin,
            role::Role::Owner => Role::Owner,
        }
    }
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
