//! `auth`: how a credential travels, and where those come from that are more than a key.
//!
//! What stands there is text like any credential: a variable that is not set puts the provider to sleep, and what was
//! cut or mixed up is a problem with the name of its field, before the first call.

use zeroize::Zeroizing;

use crate::dialect::Dialect;
use crate::provider::aws::{self, Account, Authorization, Keys};
use crate::provider::entra::{self, App};
use crate::provider::google::{self, ServiceAccount};
use crate::provider::presets::{self, Preset};
use crate::provider::{AuthScheme, Node, Secret, Source, sigv4};

use super::build::Build;
use super::file::{self, Auth, KeysFrom};
use super::problem::Route;
use super::secret::Resolved;

/// Where containers are told of their keys (AWS SDKs and Tools Reference Guide, "Container credential provider").
const CONTAINER_PATH: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const CONTAINER_URL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const CONTAINER_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const CONTAINER_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// Another address of the instance's service (there, "IMDS credential provider").
const INSTANCE_URL: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// What became of a source; what is wrong with it has been noted.
pub struct Found {
    pub source: Option<Source>,
    /// Variables that are not set.
    pub unset: Vec<String>,
}

impl Build<'_> {
    /// How a provider's credential travels.
    pub fn auth(
        &mut self,
        written: &file::Provider,
        preset: Option<&Preset>,
        dialect: Option<Dialect>,
        route: &Route,
    ) -> Option<AuthScheme> {
        match &written.auth {
            Some(Auth::None) => Some(AuthScheme::None),
            Some(Auth::Bearer) => Some(AuthScheme::Bearer),
            Some(Auth::Header(name)) => {
                self.header_name(name, &route.key("auth").key("header")).map(AuthScheme::Header)
            }
            Some(Auth::GoogleServiceAccount(_)) => Some(AuthScheme::GoogleServiceAccount),
            Some(Auth::Entra(_)) => Some(AuthScheme::Entra),
            Some(Auth::Aws(_)) => Some(AuthScheme::Aws),
            None => match preset {
                Some(preset) => Some(preset.auth.clone()),
                None => Some(presets::manners(dialect?.name)?.auth.clone()),
            },
        }
    }

    /// Where the credentials of such a scheme come from.
    pub fn source(&mut self, scheme: &AuthScheme, written: &file::Provider, nodes: &[Node], route: &Route) -> Found {
        for (field, there) in [("api_key", written.api_key.is_some()), ("api_keys", !written.api_keys.is_empty())] {
            if there {
                let message = "this provider's credential is no key but stands in `auth`: take this out";
                self.wrong(&route.key(field), message);
            }
        }
        let route = route.key("auth");
        let mut parts = Parts { build: self, unset: Vec::new() };
        let source = match (scheme, &written.auth) {
            (AuthScheme::GoogleServiceAccount, Some(Auth::GoogleServiceAccount(own))) => {
                parts.google(own, &route.key("google_service_account"))
            }
            (AuthScheme::GoogleServiceAccount, _) => parts.google(&file::GoogleServiceAccount::default(), &route),
            (AuthScheme::Entra, Some(Auth::Entra(own))) => parts.entra(own, &route.key("entra")),
            (AuthScheme::Entra, _) => parts.entra(&file::Entra::default(), &route),
            (AuthScheme::Aws, Some(Auth::Aws(own))) => parts.aws(own, nodes, &route.key("aws")),
            (AuthScheme::Aws, _) => parts.aws(&file::Aws::default(), nodes, &route),
            _ => None,
        };
        Found { source, unset: parts.unset }
    }
}

/// Reads the parts of one source.
struct Parts<'p, 'b> {
    build: &'p mut Build<'b>,
    unset: Vec<String>,
}

impl Parts<'_, '_> {
    fn google(&mut self, own: &file::GoogleServiceAccount, route: &Route) -> Option<Source> {
        let (json, route) = match (&own.json, &own.file) {
            (Some(_), Some(_)) => {
                self.build.wrong(&route.key("json"), "write either file or json");
                return None;
            }
            (Some(json), None) => (self.text(json, &route.key("json"))?, route.key("json")),
            (None, file) => {
                let route = if file.is_some() { route.key("file") } else { route.clone() };
                let name = file.as_deref().unwrap_or("${GOOGLE_APPLICATION_CREDENTIALS}");
                let path = self.text(name, &route)?;
                (self.text(&format!("file:{}", path.replace('$', "$$")), &route)?, route)
            }
        };
        let scope = self.optional(own.scope.as_ref(), google::SCOPE, &route.key("scope"))?;
        let account = ServiceAccount::parse(&json, &scope);
        account
            .map(|account| Source::Google(Box::new(account)))
            .map_err(|message| self.build.wrong(&route, message))
            .ok()
    }

    fn entra(&mut self, own: &file::Entra, route: &Route) -> Option<Source> {
        // All of them are looked at, so that everything that is missing is told at once.
        let mut part = |written: &Option<String>, default: &str, field: &str| {
            self.optional(written.as_ref(), default, &route.key(field))
        };
        let tenant = part(&own.tenant, "${AZURE_TENANT_ID}", "tenant");
        let client_id = part(&own.client_id, "${AZURE_CLIENT_ID}", "client_id");
        let secret = part(&own.client_secret, "${AZURE_CLIENT_SECRET}", "client_secret");
        let authority = part(&own.authority, entra::AUTHORITY, "authority");
        let scope = part(&own.scope, entra::SCOPE, "scope");
        let app = App::new(&tenant?, &client_id?, &secret?, &authority?, &scope?);
        app.map(Source::Entra).map_err(|(field, message)| self.build.wrong(&route.key(field), message)).ok()
    }

    fn aws(&mut self, own: &file::Aws, nodes: &[Node], route: &Route) -> Option<Source> {
        let region = self.region(own.region.as_ref(), nodes, &route.key("region"));
        let service = self.optional(own.service.as_ref(), "bedrock", &route.key("service"));
        if service.as_ref().is_some_and(|service| !is_word(service)) {
            self.build.wrong(&route.key("service"), "a service's name is small letters, digits and hyphens");
        }
        let written = [
            ("access_key_id", &own.access_key_id),
            ("secret_access_key", &own.secret_access_key),
            ("session_token", &own.session_token),
        ];
        if own.from.is_some() {
            for (field, _) in written.iter().filter(|(_, text)| text.is_some()) {
                self.build.wrong(&route.key(field), "the keys come from what `from` says: take this out, or `from`");
            }
        }
        let keys = match own.from {
            Some(KeysFrom::Container) => self.container(&route.key("from")),
            Some(KeysFrom::Instance) => {
                let url = self.variable(INSTANCE_URL).unwrap_or_else(|| aws::INSTANCE.to_owned());
                let endpoint = Node::parse(&url, 1);
                let told = |message| format!("{INSTANCE_URL}: {message}");
                let endpoint = endpoint.map_err(|message| self.build.wrong(&route.key("from"), told(message))).ok();
                endpoint.map(|endpoint| Keys::Instance { endpoint })
            }
            None => self.own_keys(own, route),
        };
        Some(Source::Aws(Account { region: region?, service: service?.to_string(), keys: keys? }))
    }

    fn own_keys(&mut self, own: &file::Aws, route: &Route) -> Option<Keys> {
        let id = self.optional(own.access_key_id.as_ref(), "${AWS_ACCESS_KEY_ID}", &route.key("access_key_id"));
        let default = if own.access_key_id.is_some() { "" } else { "${AWS_SECRET_ACCESS_KEY}" };
        let secret = self.optional(own.secret_access_key.as_ref(), default, &route.key("secret_access_key"));
        let token = match &own.session_token {
            Some(text) => Some(self.text(text, &route.key("session_token"))?),
            None if own.access_key_id.is_none() => self.variable("AWS_SESSION_TOKEN").map(Zeroizing::new),
            None => None,
        };
        let keys = sigv4::Credentials::parse(&id?, &secret?, token.as_ref().map(|token| token.as_str()));
        keys.map(Keys::Own).map_err(|flaw| self.build.wrong(&route.key(flaw.field), flaw.message)).ok()
    }

    fn container(&mut self, route: &Route) -> Option<Keys> {
        let url = match (self.variable(CONTAINER_PATH), self.variable(CONTAINER_URL)) {
            (Some(path), _) => format!("{}{path}", aws::CONTAINER),
            (None, Some(url)) => url,
            (None, None) => {
                self.unset.push(format!("{CONTAINER_PATH} or {CONTAINER_URL}"));
                return None;
            }
        };
        let authorization = match (self.variable(CONTAINER_TOKEN_FILE), self.variable(CONTAINER_TOKEN)) {
            (Some(file), _) => Authorization::File(file.into()),
            (None, Some(token)) => Authorization::Token(Secret::new(token)),
            (None, None) => Authorization::None,
        };
        let endpoint = aws::container(&url);
        let told = |message| format!("{CONTAINER_PATH} or {CONTAINER_URL}: {message}");
        let endpoint = endpoint.map_err(|message| self.build.wrong(route, told(message))).ok()?;
        Some(Keys::Container { endpoint, authorization })
    }

    /// The region to sign for: as written, else as the provider's addresses say.
    fn region(&mut self, written: Option<&String>, nodes: &[Node], route: &Route) -> Option<String> {
        if let Some(text) = written {
            let region = self.text(text, route)?;
            if !is_word(&region) {
                self.build.wrong(route, "a region's name is small letters, digits and hyphens, such as us-east-1");
                return None;
            }
            return Some(region.to_string());
        }
        let mut regions = nodes.iter().map(|node| aws::region(&node.host));
        let first = regions.next().flatten();
        match first {
            Some(region) if regions.all(|other| other == first) => Some(region.to_owned()),
            // Without an address there is a problem already.
            _ if nodes.is_empty() => None,
            _ => {
                self.build.wrong(route, "the provider's address does not tell the region: add `region`");
                None
            }
        }
    }

    /// A text, or else its default; an empty default means that there must be one.
    fn optional(&mut self, written: Option<&String>, default: &str, route: &Route) -> Option<Zeroizing<String>> {
        if written.is_none() && default.is_empty() {
            self.build.wrong(route, "this is missing: add it");
            return None;
        }
        self.text(written.map_or(default, String::as_str), route)
    }

    /// A text with its variables and files in place. What is not set is kept in mind, what is wrong is noted.
    fn text(&mut self, text: &str, route: &Route) -> Option<Zeroizing<String>> {
        match self.build.secret(text) {
            Ok(Resolved::Secret(text)) => Some(Zeroizing::new(text)),
            Ok(Resolved::Unset(variable)) => {
                self.unset.push(variable);
                None
            }
            Err(message) => {
                self.build.wrong(route, message);
                None
            }
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.build.outside.env)(name).filter(|value| !value.is_empty())
    }
}

fn is_word(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(known)
}
