//! Floor 4: where it is said, and with which credentials.
//!
//! A provider is an account at an API: nodes, dialect, credentials, region. A target is one model at one provider.
//! Both are data: presets are rows of `presets.yaml`, models and prices rows of the catalogue. Code is here only for
//! what is the same for all (the address, path and headers of an attempt) and for credentials that are more than a
//! header: tokens that are fetched ([`source`], [`grant`]) and signatures ([`sigv4`]).

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderName, HeaderValue, Uri};
use zeroize::Zeroizing;

use crate::dialect::{Abilities, Dialect, Quirks};

pub mod aws;
pub mod catalog;
pub mod entra;
pub mod google;
pub mod grant;
pub mod presets;
pub mod price;
pub mod secret;
pub mod sigv4;
pub mod source;

pub use grant::{Grant, Proof};
pub use secret::Secret;
pub use source::Source;

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
    /// Where its credentials come from, where they hold only for a while or are keys to sign with; `credentials` is then
    /// empty.
    pub source: Option<Arc<Source>>,
    /// Headers sent with every attempt (`anthropic-version`, organisation, what the operator adds).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub quirks: Quirks,
    pub region: Option<String>,
    /// What may be relied on here: zero-retention, ...
    pub attributes: Vec<String>,
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

impl Node {
    /// Reads a base URL: `http` or `https`, a host, perhaps a port and a path.
    ///
    /// # Errors
    /// A sentence that says what to write instead. Does not repeat the URL, which may hold a password.
    pub fn parse(url: &str, weight: u32) -> Result<Node, String> {
        let wrong = || "write a URL such as https://api.example.com/v1".to_owned();
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a URL holds no user or password: use api_key or headers".to_owned());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err("a base URL has no query or fragment: remove what begins with ? or #".to_owned());
        }
        let bracketed = authority.host();
        let host = bracketed.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(bracketed);
        let literal = host.len() < bracketed.len();
        let named = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if host.is_empty() || if literal { host.parse::<Ipv6Addr>().is_err() } else { !named } {
            return Err(wrong());
        }
        // `http` accepts any text after the colon and then has no number for it.
        let port = match (authority.port_u16(), authority.as_str().len() > bracketed.len()) {
            (Some(0), _) | (None, true) => return Err("the port is a number from 1 to 65535".to_owned()),
            (Some(port), _) => port,
            (None, false) => Self::own_port(tls),
        };
        let shown = if port == Self::own_port(tls) { bracketed.to_owned() } else { format!("{bracketed}:{port}") };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Node { tls, host: host.to_owned(), port, authority: shown, path, weight })
    }

    fn own_port(tls: bool) -> u16 {
        if tls { 443 } else { 80 }
    }
}

/// How the credential travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    None,
    /// `authorization: Bearer ...`
    Bearer,
    /// A header with the bare key (`x-api-key`, `x-goog-api-key`, `api-key`).
    Header(HeaderName),
    /// A bearer token for a Google service account's signed statement.
    GoogleServiceAccount,
    /// A bearer token for an application's secret at Microsoft Entra.
    Entra,
    /// A signature over each attempt (AWS Signature Version 4).
    Aws,
}

impl AuthScheme {
    /// Whether its credentials come from a [`Source`].
    pub fn has_source(&self) -> bool {
        matches!(self, AuthScheme::GoogleServiceAccount | AuthScheme::Entra | AuthScheme::Aws)
    }

    /// The header that carries a key, marked sensitive; nothing for an API without keys, or with a [`Source`].
    ///
    /// # Errors
    /// The key has characters that no header can carry.
    pub fn header(&self, secret: &Secret) -> Result<Option<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let (name, mut value) = match self {
            AuthScheme::None | AuthScheme::GoogleServiceAccount | AuthScheme::Entra | AuthScheme::Aws => {
                return Ok(None);
            }
            AuthScheme::Bearer => {
                let text = Zeroizing::new(format!("Bearer {}", secret.expose()));
                (AUTHORIZATION, HeaderValue::from_str(&text)?)
            }
            AuthScheme::Header(name) => (name.clone(), HeaderValue::from_str(secret.expose())?),
        };
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
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
    /// From the request's head to the first content of a streamed answer.
    pub first_byte: Duration,
    /// From the request's head to the end of an answer that is not streamed.
    pub answer: Duration,
    /// Between two chunks of an answer.
    pub idle: Duration,
    /// The whole call, all attempts included.
    pub total: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM bytes of the authority to trust instead of the system's.
    pub ca: Option<Arc<Vec<u8>>>,
    /// Name to ask for and to check, where it is not the host.
    pub server_name: Option<String>,
    /// `false` only through the operator's `insecure_skip_verify`.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Tls { ca: None, server_name: None, verify: true }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_taken_apart() {
        let node = Node::parse("https://api.openai.com/v1/", 3).unwrap();
        assert_eq!(
            (node.tls, &*node.host, node.port, &*node.authority, &*node.path, node.weight),
            (true, "api.openai.com", 443, "api.openai.com", "/v1", 3)
        );
        let node = Node::parse("http://[::1]:8000", 1).unwrap();
        assert_eq!(
            (node.tls, &*node.host, node.port, &*node.authority, &*node.path),
            (false, "::1", 8000, "[::1]:8000", "")
        );
        assert_eq!(Node::parse("http://10.0.0.7:80/a/b", 1).unwrap().authority, "10.0.0.7");
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_it() {
        for url in [
            "",
            "api.openai.com",
            "/v1",
            "ftp://x/",
            "https://",
            "https://:443/",
            "https://u:hunter2@x/",
            "https://x/?key=hunter2",
            "https://x/#a",
            "https://x:99999/",
            "https://x:0/",
            "https://x:/v1",
            "https://[::g]/",
            "https://exa mple/",
            "https://ex\u{e4}mple/",
            "https://a*b/",
        ] {
            let message = Node::parse(url, 1).unwrap_err();
            assert!(!message.contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn credentials_travel_in_their_header_and_never_print() {
        let secret = Secret::new("sk-1".into());
        let (name, value) = AuthScheme::Bearer.header(&secret).unwrap().unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer sk-1"));
        assert_eq!(format!("{value:?}"), "Sensitive");
        let (name, value) = AuthScheme::Header(HeaderName::from_static("api-key")).header(&secret).unwrap().unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("api-key", "sk-1"));
        assert!(AuthScheme::None.header(&secret).unwrap().is_none());
        assert!(AuthScheme::Bearer.header(&Secret::new("a\nb".into())).is_err());
    }
}
