//! Issuers: from what is written of them to what tokens are held to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;

use super::build::Build;
use super::directory::Administrator;
use super::file::{self, Callers, File, OneOrMany, SignedBy};
use super::problem::{Route, did_you_mean};
use super::providers::is_id;
use super::secret::Resolved;
use super::snapshot::Key;
use super::tenancy::Tenants;
use crate::policy::role::{Rights, Role};
use crate::policy::tenancy::Kind;
use crate::policy::token::cache::Cache;
use crate::policy::token::{Algorithm, Claims, Rules};
use crate::provider::Node;

/// Where an issuer tells of itself (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// A user's name that can stand in a ledger's row and in a policy's.
const LONGEST_USER: usize = 64;

/// All who sign tokens.
#[derive(Debug, Default)]
pub struct Issuers {
    pub all: Vec<Arc<Issuer>>,
    /// Callers whose tokens were believed, and tokens that nobody knows; gone with this snapshot.
    pub known: Cache<Option<Caller>>,
    /// What issuers said of tokens that only they can read, for the admin port; gone with this snapshot.
    pub administering: Cache<Option<(Arc<Issuer>, Arc<Claims>)>>,
}

/// What a token is brought for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Call,
    Administer,
}

/// A caller whose token was believed.
#[derive(Clone, Debug)]
pub struct Caller {
    pub key: Arc<Key>,
    /// Whom it was made a key among: no longer good when these have changed.
    pub tenants: Arc<Tenants>,
}

/// One who signs tokens.
#[derive(Debug)]
pub struct Issuer {
    pub id: String,
    /// As tokens say it in `iss`.
    pub name: String,
    /// Of tokens of callers.
    calls: Option<Rules>,
    administrators: Option<Administrators>,
    pub keys_at: KeysAt,
    /// How often they are fetched.
    pub refresh: Duration,
    pub introspection: Option<Introspection>,
    project_claim: Option<String>,
    user_claim: String,
    projects: BTreeMap<String, String>,
    callers: Callers,
}

/// Tokens that are good on the admin port.
#[derive(Debug)]
struct Administrators {
    rules: Rules,
    claim: String,
    roles: Vec<GivenRole>,
}

/// What a value of the claim gives.
#[derive(Debug)]
struct GivenRole {
    value: String,
    role: Role,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    Everything,
    Team(String),
    /// The team that this claim names.
    Claim(String),
}

/// Where an issuer shows its public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAt {
    Set(Node),
    /// A document names the place.
    Discovery(Node),
}

/// How an issuer is asked about a token.
#[derive(Debug)]
pub struct Introspection {
    pub node: Node,
    pub authorization: HeaderValue,
    /// How long its word is kept.
    pub keep: Duration,
}

/// Why a bearer is let in nowhere though the token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmapped {
    /// Whom it says to belong to, and nobody knows; empty: nothing is said.
    pub project: String,
}

impl Issuers {
    /// Who issued a token that says this.
    pub fn by(&self, issuer: &str) -> Option<&Arc<Issuer>> {
        self.all.iter().find(|one| one.name == issuer)
    }

    /// Whether there is anybody to ask about tokens that are brought for this.
    pub fn ask(&self, purpose: Purpose) -> bool {
        self.all.iter().any(|issuer| issuer.introspection.is_some() && issuer.rules(purpose).is_some())
    }
}

impl Issuer {
    /// What its tokens must be that are brought for this; nothing where none are taken.
    pub fn rules(&self, purpose: Purpose) -> Option<&Rules> {
        match purpose {
            Purpose::Call => self.calls.as_ref(),
            Purpose::Administer => self.administrators.as_ref().map(|all| &all.rules),
        }
    }

    /// What claims which hold let their bearer administer; nothing where they give no role.
    pub fn administrator(&self, claims: &Claims, tenants: &Tenants) -> Option<Administrator> {
        let own = self.administrators.as_ref()?;
        let said = claims.texts(&own.claim);
        let given = own.roles.iter().filter(|given| said.contains(&given.value.as_str()));
        let rights = { given }.find_map(|given| {
            let is_team = |name: &&str| tenants.has(Kind::Team, name);
            let team = match &given.scope {
                Scope::Everything => None,
                Scope::Team(team) => Some(Some(team.as_str()).filter(is_team)?.to_owned()),
                Scope::Claim(name) => Some(claims.texts(name).into_iter().find(is_team)?.to_owned()),
            };
            Some(Rights { role: given.role, team })
        })?;
        let sub = claims.sub.as_deref().unwrap_or_default();
        // Whole where it can be written in a line: the log of changes is read by people.
        let plain = sub.bytes().all(|byte| byte.is_ascii_graphic()) && !sub.starts_with('#');
        let who = if plain { sub.to_owned() } else { digested(sub) };
        Some(Administrator { id: format!("jwt:{}:{who}", self.id), rights, expires: claims.expires() })
    }

    /// The caller that claims which hold tell of, as a key.
    ///
    /// # Errors
    /// It belongs to nobody who is known here.
    pub fn caller(&self, claims: &Claims, tenants: &Tenants) -> Result<Key, Unmapped> {
        let known = &tenants.written().projects;
        let project = match &self.project_claim {
            None => self.callers.project.clone(),
            Some(name) => {
                let said = claims.texts(name);
                let found = said.iter().find_map(|value| match self.projects.get(*value) {
                    Some(project) => Some(project.clone()),
                    None => (self.projects.is_empty() && known.contains_key(*value)).then(|| (*value).to_owned()),
                });
                let unmapped = || Unmapped { project: said.first().copied().unwrap_or_default().to_owned() };
                Some(found.or_else(|| self.callers.project.clone()).ok_or_else(unmapped)?)
            }
        };
        let user = claims.texts(&self.user_claim).first().copied();
        let user = user.filter(|user| user.len() <= LONGEST_USER && is_id(user)).map(str::to_owned);
        let mut written = file::Key { project, user, ..file::Key::default() };
        self.callers.give(&mut written);
        written.id = format!("jwt:{}:{}", self.id, subject(claims.sub.as_deref().unwrap_or_default()));
        Ok(tenants.key(&written))
    }
}

/// A subject as part of an id: as it is, or, where it is long or has signs of its own, by its digest; no subject begins like
/// one.
fn subject(sub: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b'|');
    if (1..=64).contains(&sub.len()) && sub.bytes().all(plain) {
        return sub.to_owned();
    }
    digested(sub)
}

fn digested(sub: &str) -> String {
    let digest = crate::policy::token::digest(sub);
    format!("#{}", super::hex(digest.get(..16).unwrap_or_default()))
}

impl Build<'_> {
    /// All issuers, checked.
    pub(super) fn issuers(&mut self, file: &File) -> Issuers {
        let mut all: Vec<Arc<Issuer>> = Vec::new();
        for (id, written) in &file.issuers {
            let route = Route::default().key("issuers").key(id);
            if !is_id(id) {
                self.wrong(&route, "a name is 1 to 64 letters, digits, dots, hyphens and underscores");
            }
            if all.iter().any(|other| other.name == written.issuer) {
                self.wrong(&route.key("issuer"), "another one issues tokens with this name: leave one of them");
            }
            self.rules_of(file, &written.callers.rules(), &route.key("callers"));
            for (project, route) in written
                .projects
                .iter()
                .map(|(value, project)| (project, route.key("projects").key(value)))
                .chain(written.callers.project.iter().map(|project| (project, route.key("callers").key("project"))))
            {
                if !file.projects.contains_key(project) {
                    let hint = did_you_mean(project, file.projects.keys().map(String::as_str));
                    self.wrong(&route, format!("there is no `{project}` under `projects`: add it there.{hint}"));
                }
            }
            if !written.projects.is_empty() && written.claims.project.is_none() {
                self.wrong(&route.key("projects"), "no claim says which of them: add `claims: { project }`");
            }
            all.extend(self.issuer(id, written, &route).map(Arc::new));
        }
        Issuers { all, ..Issuers::default() }
    }

    fn issuer(&mut self, id: &str, written: &file::Issuer, route: &Route) -> Option<Issuer> {
        if written.audience.is_none() && written.administrators.is_none() {
            let message = "missing: write whom its tokens are meant for, or what `administrators` it tells of";
            self.wrong(&route.key("audience"), message);
        }
        if written.algorithms.as_ref().is_some_and(Vec::is_empty) {
            self.wrong(&route.key("algorithms"), "write at least one, or leave it out");
        }
        let algorithms = written.algorithms.as_deref().unwrap_or(&[SignedBy::RS256, SignedBy::ES256, SignedBy::EdDSA]);
        let keys_at = match &written.jwks_uri {
            Some(uri) => self.address_of(uri, &route.key("jwks_uri")).map(KeysAt::Set),
            None => {
                let uri = format!("{}{DISCOVERY}", written.issuer.trim_end_matches('/'));
                self.address_of(&uri, &route.key("issuer")).map(KeysAt::Discovery)
            }
        };
        let skew = written.clock_skew.map_or(Duration::from_secs(60), |span| span.0);
        if skew > Duration::from_secs(600) {
            self.wrong(&route.key("clock_skew"), "write ten minutes or less");
        }
        let introspection = match &written.introspection {
            Some(asked) => Some(self.introspection(asked, &route.key("introspection"))?),
            None => None,
        };
        let algorithms: Vec<Algorithm> = algorithms.iter().copied().map(algorithm).collect();
        let issuer = written.issuer.clone();
        let mut rules = |audience: &OneOrMany<String>, route: &Route| Rules {
            issuer: issuer.clone(),
            audiences: self.audiences(audience, &route.key("audience")),
            algorithms: algorithms.clone(),
            skew: skew.as_secs(),
        };
        let calls = written.audience.as_ref().map(|audience| rules(audience, route));
        let own = route.key("administrators");
        let administrators = written.administrators.as_ref().map(|all| (all, rules(&all.audience, &own)));
        let administrators = administrators.map(|(all, rules)| self.administrators(all, rules, &own));
        Some(Issuer {
            id: id.to_owned(),
            name: written.issuer.clone(),
            calls,
            administrators,
            keys_at: keys_at?,
            refresh: self.some_time(written.refresh, Duration::from_secs(600), &route.key("refresh")),
            introspection,
            project_claim: written.claims.project.clone(),
            user_claim: written.claims.user.clone().unwrap_or_else(|| "sub".to_owned()),
            projects: written.projects.clone(),
            callers: written.callers.clone(),
        })
    }

    /// Whom tokens must be meant for.
    fn audiences(&mut self, written: &OneOrMany<String>, route: &Route) -> Vec<String> {
        let audiences = match written {
            OneOrMany::One(one) => vec![one.clone()],
            OneOrMany::Many(many) => many.clone(),
        };
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            self.wrong(route, "write whom its tokens are meant for: without that, those for others would do");
        }
        audiences
    }

    fn administrators(&mut self, written: &file::Administrators, rules: Rules, route: &Route) -> Administrators {
        if written.claim.is_empty() {
            self.wrong(&route.key("claim"), "write the name of the claim that says who has which role");
        }
        if written.roles.is_empty() {
            self.wrong(
                &route.key("roles"),
                "with nothing in the list nobody may do anything: write who has which role",
            );
        }
        let given = |(number, given): (usize, &file::GivenRole)| {
            let route = route.key("roles").index(number);
            let role = Role::from(given.role);
            let scope = match (&given.team, &given.team_claim) {
                (None, None) => Scope::Everything,
                (Some(team), None) => Scope::Team(team.clone()),
                (_, Some(claim)) => Scope::Claim(claim.clone()),
            };
            if given.team.is_some() && given.team_claim.is_some() {
                self.wrong(&route.key("team_claim"), "write either `team` or `team_claim`");
            }
            if !matches!(scope, Scope::Everything) && !role.suits_a_team() {
                self.wrong(&route.key("role"), "for one team there are only viewers and admins");
            }
            GivenRole { value: given.value.clone(), role, scope }
        };
        let roles = written.roles.iter().enumerate().map(given).collect();
        Administrators { rules, claim: written.claim.clone(), roles }
    }

    fn introspection(&mut self, written: &file::Introspection, route: &Route) -> Option<Introspection> {
        let node = self.address_of(&written.url, &route.key("url"));
        let mut text = |field: &str, text: &str| match self.secret(text) {
            Ok(Resolved::Secret(text)) => Some(zeroize::Zeroizing::new(text)),
            Ok(Resolved::Unset(variable)) => {
                self.wrong(&route.key(field), format!("the variable {variable} is not set"));
                None
            }
            Err(message) => {
                self.wrong(&route.key(field), message);
                None
            }
        };
        let (id, secret) = (text("client_id", &written.client_id)?, text("client_secret", &written.client_secret)?);
        // RFC 6749 section 2.3.1: both are form-encoded before.
        let pair = zeroize::Zeroizing::new(format!("{}:{}", form(&id), form(&secret)));
        let value = zeroize::Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
        let mut authorization = HeaderValue::from_str(&value).ok()?;
        authorization.set_sensitive(true);
        let keep = self.some_time(written.cache, Duration::from_secs(60), &route.key("cache"));
        Some(Introspection { node: node?, authorization, keep })
    }

    /// An address of an issuer's; what is fetched there decides who may call, so it goes by TLS unless it stays on this
    /// machine.
    fn address_of(&mut self, url: &str, route: &Route) -> Option<Node> {
        match Node::parse(url, 1) {
            Ok(node) if node.tls || is_local(&node.host) => Some(node),
            Ok(_) => {
                self.wrong(route, "what is said there decides who may call: write https://...");
                None
            }
            Err(message) => {
                self.wrong(route, message);
                None
            }
        }
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Text as a value of a form (application/x-www-form-urlencoded).
pub fn form(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            byte => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

fn algorithm(written: SignedBy) -> Algorithm {
    match written {
        SignedBy::RS256 => Algorithm::Rs256,
        SignedBy::RS384 => Algorithm::Rs384,
        SignedBy::RS512 => Algorithm::Rs512,
        SignedBy::PS256 => Algorithm::Ps256,
        SignedBy::PS384 => Algorithm::Ps384,
        SignedBy::PS512 => Algorithm::Ps512,
        SignedBy::ES256 => Algorithm::Es256,
        SignedBy::ES384 => Algorithm::Es384,
        SignedBy::EdDSA => Algorithm::EdDsa,
    }
}
