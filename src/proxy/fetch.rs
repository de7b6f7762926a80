//! Requests of our own, to those that give credentials: small, seldom, bounded in time and size.
//!
//! They go by Pingora's own client, TLS is checked against the system's authorities, each has a connection for itself,
//! and a redirection is an answer like another: a secret goes nowhere but where the operator said.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::header;
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::provider::secret::conceal_bytes;
use crate::provider::source::{Answer, Ask};
use crate::provider::{Node, Secret};

/// One request, from the name to the last byte of its answer.
const TIME: Duration = Duration::from_secs(10);
/// TCP and TLS to one address.
const CONNECT: Duration = Duration::from_secs(3);
/// Largest answer, and largest file with a token.
const BYTES: usize = 64 << 10;
/// Most interim answers (1xx) before the one that counts.
const INTERIM: usize = 4;

pub struct Fetcher(Connector);

impl Fetcher {
    pub fn new() -> Fetcher {
        Fetcher(Connector::new(None))
    }

    /// Makes a request.
    ///
    /// # Errors
    /// A sentence for the operator about why there is no answer. Holds no secret.
    pub async fn fetch(&self, ask: &Ask) -> Result<Answer, String> {
        let host = &ask.node.authority;
        let answered = timeout(TIME, self.exchange(ask)).await;
        let answered = answered.unwrap_or_else(|_| Err(format!("no answer within {} seconds", TIME.as_secs())));
        answered.map_err(|told| format!("{host}: {told}"))
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answer, String> {
        let head = head(ask).await?;
        let mut http = self.connect(&ask.node).await?;
        let broken = |what: &str, error: Box<pingora::Error>| format!("{what}: {}", error.etype().as_str());
        http.write_request_header(Box::new(head)).await.map_err(|error| broken("writing", error))?;
        if !ask.body.is_empty() {
            http.write_body(&ask.body).await.map_err(|error| broken("writing", error))?;
        }
        http.finish_body().await.map_err(|error| broken("writing", error))?;
        let mut status = 0;
        for _ in 0..=INTERIM {
            http.read_response().await.map_err(|error| broken("reading", error))?;
            status = http.get_status().map_or(0, |status| status.as_u16());
            if status >= 200 {
                break;
            }
        }
        // All the room at once, so that no part of a secret is left behind by growing.
        let mut body = Zeroizing::new(Vec::with_capacity(BYTES));
        while let Some(chunk) = http.read_body_ref().await.map_err(|error| broken("reading", error))? {
            if body.len() + chunk.len() > BYTES {
                return Err(format!("the answer is larger than {BYTES} bytes"));
            }
            body.extend_from_slice(chunk);
        }
        if status != 200 {
            // What goes wrong is told to the operator, but for what it was asked with.
            let secrets = ask.secrets.iter().map(Secret::expose);
            if let Cow::Owned(clean) = conceal_bytes(&body, secrets) {
                body = Zeroizing::new(clean);
            }
        }
        Ok(Answer { status, body })
    }

    /// A connection to the first address that takes one.
    async fn connect(&self, node: &Node) -> Result<HttpSession, String> {
        let mut last = "the name has no address".to_owned();
        for address in addresses(node).await? {
            let mut peer = HttpPeer::new(address, node.tls, if node.tls { node.host.clone() } else { String::new() });
            peer.options.connection_timeout = Some(CONNECT);
            peer.options.total_connection_timeout = Some(CONNECT);
            match self.0.get_http_session(&peer).await {
                Ok((http, _)) => return Ok(http),
                Err(error) => last = format!("no connection: {}", error.etype().as_str()),
            }
        }
        Err(last)
    }
}

async fn head(ask: &Ask) -> Result<RequestHeader, String> {
    let build = || {
        let mut head = RequestHeader::build(ask.method, ask.path.as_bytes(), Some(8))?;
        head.insert_header(header::HOST, ask.node.authority.as_str())?;
        head.insert_header(header::ACCEPT, "application/json")?;
        head.insert_header(header::ACCEPT_ENCODING, "identity")?;
        head.insert_header(header::USER_AGENT, concat!("portolan/", env!("CARGO_PKG_VERSION")))?;
        if ask.method != "GET" {
            head.insert_header(header::CONTENT_LENGTH, ask.body.len())?;
        }
        for (name, value) in &ask.headers {
            head.insert_header(name.clone(), value)?;
        }
        Ok(head)
    };
    let mut head =
        build().map_err(|_: Box<pingora::Error>| "no request can be made of what is configured".to_owned())?;
    if let Some(file) = &ask.authorization_file {
        let token = token(file).await.map_err(|told| format!("{}: {told}", file.display()))?;
        let mut value = http::HeaderValue::from_str(token.trim()).map_err(|_| "the token fits no header".to_owned())?;
        value.set_sensitive(true);
        head.insert_header(header::AUTHORIZATION, value).map_err(|_| "the token fits no header".to_owned())?;
    }
    Ok(head)
}

/// The content of a small file.
async fn token(file: &Path) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::with_capacity(BYTES));
    let opened = tokio::fs::File::open(file).await.map_err(|error| error.to_string())?;
    opened.take(BYTES as u64).read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    Ok(text)
}

async fn addresses(node: &Node) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((node.host.as_str(), node.port)).await;
    let mut addresses: Vec<_> = found.map_err(|_| "the name does not resolve".to_owned())?.collect();
    // As for providers: a host without IPv6 routes would lose time on each IPv6 address.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}
