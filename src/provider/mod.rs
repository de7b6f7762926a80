//! Floor 4: where it is said, and with which credentials.
//!
//! A provider is an account at an API: nodes, dialect, credentials, region. A target is one model at one provider.
//! Both are data: presets are rows of `presets.yaml`, models and prices rows of the catalogue. Code is here only for
//! what is the same for all: the address, path and headers of an attempt.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::dialect::{Abilities, Dialect, Quirks};

pub mod secret;

pub use secret::Secret;

/// An account at an API, resolved from preset and configuration.
#[derive(Debug)]
pub struct Provider {
    /// The name in the configuration.
    pub id: String,
    pub preset: Option<String>,
    pub dialect: Dialect,
    /// Equal nodes of the API; at least one.
    pub nodes: Vec<Node>,
    pub auth: AuthScheme,
    /// Empty for an API without keys (and then `auth` is `None`).
    pub credentials: Vec<Credential>,
    /// Headers sent with every attempt (`anthropic-version`, organisation, what the operator adds).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub quirks: Quirks,
    pub region: Option<String>,
    pub timeouts: Timeouts,
    pub tls: Tls,
    pub http: HttpVersions,
    pub health_check: Option<HealthCheck>,
}

/// One address of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub tls: bool,
    /// Host name or address literal, without brackets.
    pub host: String,
    pub port: u16,
    /// Value of the `host` header: with the port where it is not the scheme's own.
    pub authority: String,
    /// Path of the base URL without a closing slash, for example `/v1`.
    pub path: String,
    /// Share of the provider's calls, relative to the other nodes.
    pub weight: u32,
}

/// How the credential travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    None,
    /// `authorization: Bearer ...`
    Bearer,
    /// A header with the bare key (`x-api-key`, `x-goog-api-key`, `api-key`).
    Header(HeaderName),
}

/// One key of a provider, ready to send.
#[derive(Debug)]
pub struct Credential {
    /// Where it stands in the list, for logs and metrics: `openai#1`. Never any part of the key.
    pub name: String,
    pub secret: Secret,
    /// The header as sent, marked sensitive.
    pub header: (HeaderName, HeaderValue),
}

/// Bounds in time of one attempt and of a whole call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS, together.
    pub connect: Duration,
    /// From the request's head to the first event of the answer (its first content, in a stream).
    pub first_byte: Duration,
    /// Between two chunks of an answer.
    pub idle: Duration,
    /// The whole call, all attempts included.
    pub total: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM bytes of the authority to trust instead of the system's.
    pub ca: Option<Arc<Vec<u8>>>,
    /// Name to ask for and to check, where it is not the host.
    pub server_name: Option<String>,
    /// `false` only through the operator's `insecure_skip_verify`.
    pub verify: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/2 where the server offers it (ALPN), else HTTP/1.1.
    #[default]
    Auto,
    Http1,
    /// HTTP/2 only; on a plain port with prior knowledge.
    Http2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row that take a node out, and successes that bring it back.
    pub unhealthy_after: u32,
    pub healthy_after: u32,
}

/// One model at one provider.
#[derive(Debug)]
pub struct Target {
    /// `provider/model`: the label of metrics and of `x-portolan-target`.
    pub id: String,
    pub provider: Arc<Provider>,
    /// The provider's name for the model.
    pub model: String,
    /// Share of the model's calls, relative to its other targets.
    pub weight: u32,
    pub abilities: Abilities,
}

impl Provider {
    /// Whether connections made for the other provider serve this one as well.
    pub fn connects_like(&self, other: &Provider) -> bool {
        self.nodes == other.nodes
            && self.tls == other.tls
            && self.http == other.http
            && self.health_check == other.health_check
    }
}
