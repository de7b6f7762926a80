//! From a provider as written to a provider that can be called: preset, address, credentials, trust.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::dialect::{self, DIALECTS, Dialect};
use crate::provider::presets::{self, Address, Preset};
use crate::provider::{AuthScheme, Credential, HealthCheck, HttpVersions, Node, Provider, Secret, Timeouts, Tls};

use super::auth::Found;
use super::build::Build;
use super::file;
use super::problem::{Route, did_you_mean};
use super::secret::{self, Resolved};

/// What became of a provider.
pub enum Account {
    Live(Arc<Provider>),
    /// Its credentials are variables that are not set: these.
    Asleep(Vec<String>),
    /// Something is wrong with it, and has been noted.
    Broken,
}

/// Header names that a configuration may not set: they belong to the connection or to the body.
const OURS: [&str; 8] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "accept-encoding"];

impl Build<'_> {
    /// Resolves one provider. `sandbox` is where the built-in one listens.
    pub fn provider(
        &mut self,
        id: &str,
        written: &file::Provider,
        defaults: Timeouts,
        sandbox: Option<std::net::SocketAddr>,
    ) -> Account {
        let route = Route::default().key("providers").key(id);
        if !is_id(id) {
            self.wrong(&route, "a provider's name is 1 to 64 letters, digits, dots, hyphens and underscores");
        }
        let preset = self.preset(written, &route);
        let dialect = self.dialect(written, preset, &route);
        let nodes = self.nodes(written, preset, sandbox, &route);
        let auth = self.auth(written, preset, dialect, &route);
        let headers = self.headers(written, preset, dialect, &route);
        let timeouts = self.timeouts(&written.timeouts, defaults, &route.key("timeouts"));
        let tls = self.tls(&written.tls, &nodes, &route.key("tls"));
        let health_check = self.health_check(written.health_check.as_ref(), &route.key("health_check"));
        let (credentials, source, unset) = match &auth {
            Some(scheme) if scheme.has_source() => {
                let Found { source, unset } = self.source(scheme, written, &nodes, &route);
                (Vec::new(), source.map(Arc::new), unset)
            }
            _ => {
                let (credentials, unset) = self.credentials(id, written, preset, &auth, &route);
                (credentials, None, unset)
            }
        };
        let quirks = self.quirks(&written.quirks, preset.map(|preset| &preset.quirks), dialect, &route.key("quirks"));
        let (Some(dialect), Some(auth)) = (dialect, auth) else { return Account::Broken };
        if nodes.is_empty() || self.problems.is_damaged("providers", id) {
            return Account::Broken;
        }
        if credentials.is_empty() && source.is_none() && !unset.is_empty() {
            return Account::Asleep(unset);
        }
        for variable in unset {
            self.remark(&route, format!("one of its keys is left out: the environment variable {variable} is not set"));
        }
        Account::Live(Arc::new(Provider {
            id: id.to_owned(),
            preset: preset.map(|preset| preset.name.clone()),
            dialect,
            nodes,
            auth: if credentials.is_empty() && source.is_none() { AuthScheme::None } else { auth },
            credentials,
            source,
            headers,
            quirks,
            region: written.region.clone(),
            attributes: self.attributes(&written.attributes, &route.key("attributes")),
            timeouts,
            tls,
            http: match written.http {
                file::Http::Auto => HttpVersions::Auto,
                file::Http::Http1 => HttpVersions::Http1,
                file::Http::Http2 => HttpVersions::Http2,
            },
            health_check,
        }))
    }

    /// Names of what may be relied on.
    pub(super) fn attributes(&mut self, written: &[String], route: &Route) -> Vec<String> {
        for (number, name) in written.iter().enumerate() {
            if !is_id(name) {
                let message = "an attribute is 1 to 64 letters, digits, dots, hyphens and underscores";
                self.wrong(&route.index(number), message);
            }
        }
        written.to_vec()
    }

    fn preset(&mut self, written: &file::Provider, route: &Route) -> Option<&'static Preset> {
        let name = written.preset.as_deref()?;
        let found = presets::named(name);
        if found.is_none() {
            let hint = did_you_mean(name, presets::names());
            let list = if hint.is_empty() {
                format!(" Known: {}.", presets::names().collect::<Vec<_>>().join(", "))
            } else {
                String::new()
            };
            self.wrong(&route.key("preset"), format!("unknown preset `{name}`.{hint}{list}"));
        }
        found
    }

    fn dialect(&mut self, written: &file::Provider, preset: Option<&Preset>, route: &Route) -> Option<Dialect> {
        match (written.dialect.as_deref(), preset) {
            (Some(_), Some(preset)) => {
                let message = format!("the preset `{}` brings its dialect: take this out, or the preset", preset.name);
                self.wrong(&route.key("dialect"), message);
                None
            }
            (Some(name), None) => {
                let found = dialect::named(name).filter(|dialect| dialect.outbound.is_some());
                if found.is_none() {
                    let names =
                        DIALECTS.iter().filter(|dialect| dialect.outbound.is_some()).map(|dialect| dialect.name);
                    let list: Vec<&str> = names.clone().collect();
                    let message =
                        format!("unknown dialect `{name}`: write {}.{}", list.join(" or "), did_you_mean(name, names));
                    self.wrong(&route.key("dialect"), message);
                }
                found
            }
            (None, Some(preset)) => Some(preset.dialect),
            // An unknown preset has been reported.
            (None, None) => {
                if written.preset.is_none() {
                    self.wrong(route, "add `preset: NAME`, or `dialect: NAME` and `base_url: URL`");
                }
                None
            }
        }
    }

    fn nodes(
        &mut self,
        written: &file::Provider,
        preset: Option<&Preset>,
        sandbox: Option<std::net::SocketAddr>,
        route: &Route,
    ) -> Vec<Node> {
        let mut nodes = Vec::new();
        if let Some(url) = &written.base_url {
            if !written.nodes.is_empty() {
                self.wrong(&route.key("nodes"), "write either base_url or nodes");
            }
            nodes.extend(self.node(url, 1, &route.key("base_url")));
        }
        for (number, node) in written.nodes.iter().enumerate() {
            let route = route.key("nodes").index(number);
            let found = self.node(&node.url, node.weight, &route.key("url"));
            if found.as_ref().is_some_and(|found| {
                nodes.iter().any(|other: &Node| {
                    other.authority == found.authority && other.path == found.path && other.tls == found.tls
                })
            }) {
                self.wrong(&route.key("url"), "this node is already in the list: raise its weight instead");
            }
            nodes.extend(found);
        }
        if written.base_url.is_some() || !written.nodes.is_empty() {
            return nodes;
        }
        match preset.map(|preset| &preset.address) {
            Some(Address::Known(url)) => nodes.extend(self.node(url, 1, route)),
            Some(Address::Own(form)) => self.wrong(route, format!("add `base_url`, of the form {form}")),
            Some(Address::Sandbox(path)) => match sandbox {
                Some(at) if at.port() != 0 => {
                    nodes.extend(self.node(&format!("http://{}{path}", reachable(at)), 1, route))
                }
                Some(_) => self
                    .wrong(route, "the sandbox needs a fixed port for this: write `sandbox: {listen: 127.0.0.1:8082}`"),
                None => {
                    self.wrong(route, "no sandbox is running: add `sandbox: {listen: 127.0.0.1:8082}`, or a `base_url`")
                }
            },
            None if written.preset.is_none() && written.dialect.is_some() => {
                self.wrong(route, "add `base_url: URL`, or `nodes`")
            }
            None => {}
        }
        nodes
    }

    fn node(&mut self, url: &str, weight: u32, route: &Route) -> Option<Node> {
        Node::parse(url, weight).map_err(|message| self.wrong(route, message)).ok()
    }

    fn headers(
        &mut self,
        written: &file::Provider,
        preset: Option<&Preset>,
        dialect: Option<Dialect>,
        route: &Route,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = match (preset, dialect.and_then(|dialect| presets::manners(dialect.name))) {
            (Some(preset), _) => preset.headers.clone(),
            (None, Some(manners)) => manners.headers.clone(),
            (None, None) => Vec::new(),
        };
        for (name, text) in &written.headers {
            let route = route.key("headers").key(name);
            let Some(name) = self.header_name(name, &route) else { continue };
            let value = match self.secret(text) {
                Ok(Resolved::Secret(text)) => {
                    HeaderValue::from_str(&text).map_err(|_| "a header's value is visible ASCII on one line".to_owned())
                }
                Ok(Resolved::Unset(variable)) => {
                    Err(format!("the environment variable {variable} is not set: set it, or take the header out"))
                }
                Err(message) => Err(message),
            };
            match value {
                Ok(mut value) => {
                    // Nobody knows what an operator puts here; a log does not need it.
                    value.set_sensitive(true);
                    headers.retain(|(other, _)| *other != name);
                    headers.push((name, value));
                }
                Err(message) => self.wrong(&route, message),
            }
        }
        headers
    }

    pub(super) fn header_name(&mut self, name: &str, route: &Route) -> Option<HeaderName> {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if OURS.contains(&name.as_str()) => {
                self.wrong(route, format!("`{name}` is set by Portolan: take it out"));
                None
            }
            Ok(name) => Some(name),
            Err(_) => {
                self.wrong(route, "not a header name: write letters, digits and hyphens");
                None
            }
        }
    }

    fn tls(&mut self, written: &file::Tls, nodes: &[Node], route: &Route) -> Tls {
        let mut tls = Tls { ca: None, server_name: written.server_name.clone(), verify: !written.insecure_skip_verify };
        let used = written.ca_file.is_some() || written.server_name.is_some() || written.insecure_skip_verify;
        if used && !nodes.is_empty() && nodes.iter().all(|node| !node.tls) {
            self.wrong(route, "every address here is http: write https, or take `tls` out");
        }
        if let Some(name) = &written.server_name {
            // Without a name the certificate would not be checked at all, and nothing would say so.
            let plain =
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'));
            if name.is_empty() || !plain {
                self.wrong(
                    &route.key("server_name"),
                    "write the host name that the certificate is for, or take it out",
                );
            }
        }
        if let Some(path) = &written.ca_file {
            let route = route.key("ca_file");
            match self.read(path) {
                Ok(pem) if memchr::memmem::find(&pem, b"-----BEGIN CERTIFICATE-----").is_some() => {
                    tls.ca = Some(Arc::new(pem))
                }
                Ok(_) => self.wrong(&route, "the file holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)"),
                Err(message) => self.wrong(&route, message),
            }
        }
        if written.insecure_skip_verify {
            self.remark(
                &route.key("insecure_skip_verify"),
                "certificates are not checked: anyone on the way can read keys and prompts",
            );
        }
        tls
    }

    fn health_check(&mut self, written: Option<&file::HealthCheck>, route: &Route) -> Option<HealthCheck> {
        let written = written?;
        if !written.path.starts_with('/') || written.path.parse::<http::uri::PathAndQuery>().is_err() {
            self.wrong(&route.key("path"), "write a path from the root of the node, such as /health");
        }
        let interval = self.some_time(written.interval, Duration::from_secs(5), &route.key("interval"));
        let timeout = self.some_time(written.timeout, Duration::from_secs(2), &route.key("timeout"));
        Some(HealthCheck {
            path: written.path.clone(),
            interval,
            timeout,
            unhealthy_after: written.unhealthy_after.unwrap_or(3),
            healthy_after: written.healthy_after.unwrap_or(2),
        })
    }

    /// The credentials that are there, and the variables of those that are not.
    fn credentials(
        &mut self,
        id: &str,
        written: &file::Provider,
        preset: Option<&Preset>,
        auth: &Option<AuthScheme>,
        route: &Route,
    ) -> (Vec<Credential>, Vec<String>) {
        let mut texts: Vec<(Route, String)> = Vec::new();
        if let Some(text) = &written.api_key {
            texts.push((route.key("api_key"), text.clone()));
            if !written.api_keys.is_empty() {
                self.wrong(&route.key("api_keys"), "write either api_key or api_keys");
            }
        }
        let list = written.api_keys.iter().enumerate();
        texts.extend(list.map(|(number, text)| (route.key("api_keys").index(number), text.clone())));
        let scheme = match auth {
            Some(AuthScheme::None) | None => {
                if let (Some(_), Some((route, _))) = (auth, texts.first()) {
                    self.wrong(route, "this provider is called without a key: take it out, or write `auth: bearer`");
                }
                return (Vec::new(), Vec::new());
            }
            Some(scheme) => scheme,
        };
        if texts.is_empty()
            && let Some(variable) =
                preset.filter(|preset| !preset.auth.has_source()).and_then(|preset| preset.key.as_ref())
        {
            texts.push((route.clone(), format!("${{{variable}}}")));
        }
        let (mut credentials, mut unset) = (Vec::new(), Vec::new());
        for (route, text) in texts {
            let secret = match self.secret(&text) {
                Ok(Resolved::Secret(secret)) => Secret::new(secret),
                Ok(Resolved::Unset(variable)) => {
                    unset.push(variable);
                    continue;
                }
                Err(message) => {
                    self.wrong(&route, message);
                    continue;
                }
            };
            if credentials.iter().any(|other: &Credential| other.secret == secret) {
                self.wrong(&route, "this key is already in the list: keep one");
                continue;
            }
            match scheme.header(&secret) {
                Ok(Some(header)) => {
                    credentials.push(Credential { name: format!("{id}#{}", credentials.len() + 1), secret, header });
                }
                Ok(None) => {}
                Err(_) => self.wrong(&route, "the key has characters that no header can carry: is it on one line?"),
            }
        }
        (credentials, unset)
    }

    pub(super) fn secret(&self, text: &str) -> Result<Resolved, String> {
        secret::resolve(text, self.outside.env, &mut |path| self.read(path))
    }
}

/// Letters, digits, dots, hyphens and underscores; what may stand in labels, headers and paths as it is.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// An address that can be connected to, for one that is listened on.
fn reachable(at: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    std::net::SocketAddr::new(ip, at.port())
}
