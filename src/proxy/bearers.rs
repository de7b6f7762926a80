//! Callers who bring a token of somebody else's instead of a key, and administrators who bring one instead of ours: verified
//! in memory with keys that are fetched beside the calls, or asked about where only its issuer can read it.
//!
//! A call waits for others in two cases alone: its token is signed by a key that nobody knew of until now, for which the
//! issuer's keys are fetched anew, once in ten seconds at most; or it can only be asked about, and was not of late.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderValue, header};
use pingora::proxy::Session;
use serde::Deserialize;
use tokio::sync::{Notify, OnceCell, Semaphore, watch};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::context::Ctx;
use super::fetch::Fetcher;
use super::keeping::{Kept, millis};
use super::state::{Served, Shared};
use crate::config::directory::Administrator;
use crate::config::issuers::{self, Caller, Issuer, KeysAt, Purpose};
use crate::config::snapshot::Key;
use crate::exchange::{self, Refusal};
use crate::policy::role::Denied;
use crate::policy::token::{self, Claims, Flaw, Keyring, Token};
use crate::provider::source::Ask;
use crate::provider::{Node, grant};
use crate::telemetry::events;

/// Keys are not fetched again sooner, whoever signs with what.
const SETTLED: Duration = Duration::from_secs(10);
/// How long a call waits for what is fetched or asked on its behalf.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest sleep, so that a holder that nobody holds is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How long it is remembered that an issuer does not know a token.
const UNKNOWN: u64 = 10;
/// Questions about tokens that are under way at once.
const QUESTIONS: usize = 32;

/// What asking about tokens takes.
pub struct Inquiry {
    fetcher: OnceCell<Fetcher>,
    room: Semaphore,
}

impl Default for Inquiry {
    fn default() -> Self {
        Inquiry { fetcher: OnceCell::new(), room: Semaphore::new(QUESTIONS) }
    }
}

impl Inquiry {
    /// What an issuer says of a token; nothing where it does not know it. `now` is Unix seconds.
    async fn introspect(&self, issuer: &Issuer, credential: &str, now: u64) -> Result<Option<(Claims, u64)>, String> {
        let Some(asked) = &issuer.introspection else { return Ok(None) };
        let _room = self.room.acquire().await.map_err(|_| "nobody asks any more".to_owned())?;
        let fetcher = self.fetcher.get_or_init(|| async { Fetcher::new() }).await;
        // RFC 7662 section 2.1.
        let body = format!("token={}&token_type_hint=access_token", issuers::form(credential));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let answer = fetcher
            .fetch(&Ask {
                method: "POST",
                node: asked.node.clone(),
                path: path(&asked.node),
                headers: vec![(header::CONTENT_TYPE, form), (header::AUTHORIZATION, asked.authorization.clone())],
                body: Zeroizing::new(body.into_bytes()),
                authorization_file: None,
                secrets: Vec::new(),
            })
            .await?;
        if answer.status != 200 {
            return Err(format!("it answers with status {}", answer.status));
        }
        let until = now.saturating_add(asked.keep.as_secs());
        Ok(Claims::introspected(&answer.body, until).map(|claims| (claims, until)))
    }
}

/// The public keys of one issuer. It outlives reloads that leave the place where they are shown as it is.
pub struct KeyHolder {
    issuer: String,
    name: String,
    keys_at: KeysAt,
    refresh: Duration,
    held: ArcSwapOption<Keyring>,
    /// Unix milliseconds at which they were fetched last, well or not.
    fetched: AtomicU64,
    /// How often.
    times: watch::Sender<u64>,
    /// Somebody fetches them.
    kept: AtomicBool,
    wake: Notify,
}

impl KeyHolder {
    pub fn new(issuer: &Issuer) -> Arc<KeyHolder> {
        Arc::new(KeyHolder {
            issuer: issuer.id.clone(),
            name: issuer.name.clone(),
            keys_at: issuer.keys_at.clone(),
            refresh: issuer.refresh,
            held: ArcSwapOption::empty(),
            fetched: AtomicU64::new(0),
            times: watch::Sender::new(0),
            kept: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// Those of all issuers; those of before that serve as well are kept.
    pub fn all(issuers: &[Arc<Issuer>], before: Option<&Served>) -> HashMap<String, Arc<KeyHolder>> {
        let holder = |issuer: &Arc<Issuer>| {
            let kept = before.and_then(|before| before.keys_of(&issuer.id)).filter(|kept| kept.serves(issuer)).cloned();
            (issuer.id.clone(), kept.unwrap_or_else(|| KeyHolder::new(issuer)))
        };
        issuers.iter().map(holder).collect()
    }

    fn serves(&self, issuer: &Issuer) -> bool {
        self.keys_at == issuer.keys_at && self.refresh == issuer.refresh && self.name == issuer.name
    }

    /// Waits until the keys were fetched again, if that may be; says whether they were.
    async fn renewed(&self, now: u64) -> bool {
        let mut times = self.times.subscribe();
        let seen = *times.borrow_and_update();
        let settled = self.fetched.load(Relaxed).saturating_add(millis(SETTLED)) <= now;
        match (seen, settled) {
            // They are being fetched for the first time.
            (0, _) => {}
            (_, true) => self.wake.notify_one(),
            (_, false) => return false,
        }
        timeout(PATIENCE, times.wait_for(|times| *times > seen)).await.is_ok_and(|seen| seen.is_ok())
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<Keyring, String> {
        let node = match &self.keys_at {
            KeysAt::Set(node) => node.clone(),
            KeysAt::Discovery(node) => {
                #[derive(Deserialize)]
                struct Document {
                    issuer: String,
                    jwks_uri: String,
                }
                let document: Document = serde_json::from_slice(&get(fetcher, node).await?)
                    .map_err(|_| "it does not say where its keys are".to_owned())?;
                // OpenID Connect Discovery 1.0, section 4.3: else it is somebody else's.
                if document.issuer != self.name {
                    return Err("the document there is of another issuer".to_owned());
                }
                let place = Node::parse(&document.jwks_uri, 1).map_err(|_| "its keys are at no address".to_owned())?;
                if !place.tls && node.tls {
                    return Err("its keys are at an address without TLS".to_owned());
                }
                place
            }
        };
        Keyring::parse(&get(fetcher, &node).await?)
    }
}

impl Kept for KeyHolder {
    fn all(served: &Served) -> Vec<Arc<KeyHolder>> {
        served.all_keys().cloned().collect()
    }

    fn take(&self) -> bool {
        !self.kept.swap(true, Relaxed)
    }

    async fn keep(self: Arc<Self>, shared: Arc<Shared>, fetcher: Arc<Fetcher>) {
        let mut failures = 0;
        let mut due = 0;
        // A snapshot that is in force, or a call that still runs with an older one, holds it too.
        while Arc::strong_count(&self) > 1 {
            let wait = Duration::from_millis(u64::saturating_sub(due, shared.now().unix_ms));
            if !wait.is_zero() {
                tokio::select! {
                    () = sleep(wait.min(LONGEST_SLEEP)) => {}
                    () = self.wake.notified() => {
                        let soonest = self.fetched.load(Relaxed).saturating_add(millis(SETTLED));
                        due = due.min(soonest.max(shared.now().unix_ms));
                    }
                }
                continue;
            }
            let pause = match self.fetch(&fetcher).await {
                Ok(keys) => {
                    failures = 0;
                    self.held.store(Some(Arc::new(keys)));
                    events::IssuerKeys { issuer: &self.issuer, failed: None }.emit(&shared.metrics);
                    self.refresh
                }
                Err(cause) => {
                    failures += 1;
                    events::IssuerKeys { issuer: &self.issuer, failed: Some(&cause) }.emit(&shared.metrics);
                    grant::pause(failures, fastrand::u64(..))
                }
            };
            let now = shared.now().unix_ms;
            due = now.saturating_add(millis(pause));
            self.fetched.store(now, Relaxed);
            self.times.send_modify(|times| *times += 1);
        }
    }
}

async fn get(fetcher: &Fetcher, node: &Node) -> Result<Zeroizing<Vec<u8>>, String> {
    let ask = Ask {
        method: "GET",
        node: node.clone(),
        path: path(node),
        headers: Vec::new(),
        body: Zeroizing::default(),
        authorization_file: None,
        secrets: Vec::new(),
    };
    let answer = fetcher.fetch(&ask).await?;
    if answer.status == 200 { Ok(answer.body) } else { Err(format!("it answers with status {}", answer.status)) }
}

fn path(node: &Node) -> String {
    if node.path.is_empty() { "/".to_owned() } else { node.path.clone() }
}

/// What a caller brought, where that is no key but may be a token.
pub fn credential(session: &Session, ctx: &Ctx) -> Option<String> {
    let snapshot = &ctx.served.snapshot;
    if snapshot.issuers.all.is_empty() {
        return None;
    }
    let head = session.req_header();
    let header = |name: &str| super::admission::text(&head.headers, name);
    let credential = exchange::credential(&header, head.uri.query())?;
    let known = || {
        let digest = token::digest(credential);
        snapshot.key_of(&digest).is_some() || ctx.shared.directory.key(&digest).is_some()
    };
    let opaque = || !credential.is_empty() && credential.len() <= token::LONGEST && !known();
    (token::is_like(credential) || (snapshot.issuers.ask(Purpose::Call) && !credential.starts_with("pk-") && opaque()))
        .then(|| credential.to_owned())
}

/// Who brings it.
///
/// # Errors
/// Nobody who is let in.
pub async fn admit(ctx: &Ctx, credential: &str) -> Result<Arc<Key>, Refusal> {
    let (shared, issuers) = (&ctx.shared, &ctx.served.snapshot.issuers);
    let now = ctx.started.unix_ms / 1_000;
    let digest = token::digest(credential);
    let tenants = shared.directory.tenants();
    let found = issuers.known.get(&digest, now);
    // Whom it belongs to may have changed since.
    let found = found.filter(|known| known.as_ref().is_none_or(|caller| Arc::ptr_eq(&caller.tenants, &tenants)));
    let known = match found {
        Some(known) => known,
        None => {
            let question = Question { shared, served: &ctx.served, purpose: Purpose::Call, now };
            let (known, until) = match question.believed(credential).await? {
                None => (None, now.saturating_add(UNKNOWN)),
                Some((issuer, claims, until)) => {
                    let caller = issuer.caller(&claims, &tenants);
                    let result = if caller.is_ok() { "ok" } else { "belongs to nobody" };
                    events::BearerSeen { issuer: &issuer.id, result }.emit(&shared.metrics);
                    let key = caller.map_err(|unmapped| Refusal::TokenUnmapped { project: unmapped.project })?;
                    (Some(Caller { key: Arc::new(key), tenants }), until)
                }
            };
            issuers.known.put(digest, until, known.clone());
            known
        }
    };
    let key = known.ok_or(Refusal::BadToken { flaw: Flaw::Issuer.name() })?.key;
    exchange::stands(&key, now)?;
    Ok(key)
}

/// Who administers with it.
///
/// A token that can be read is verified each time, so that nothing is remembered longer than the issuer's keys say; one that
/// only its issuer can read is asked about no more often than a caller's.
///
/// # Errors
/// Nobody who is let in.
pub async fn administrator(shared: &Shared, credential: &str) -> Result<Administrator, Denied> {
    let served = shared.served();
    let issuers = &served.snapshot.issuers;
    let question =
        Question { shared, served: &served, purpose: Purpose::Administer, now: shared.now().unix_ms / 1_000 };
    let readable = token::is_like(credential);
    if credential.len() > token::LONGEST || !(readable || issuers.ask(Purpose::Administer)) {
        return Err(Denied::Nobody);
    }
    let digest = token::digest(credential);
    let known = if readable { None } else { issuers.administering.get(&digest, question.now) };
    let believed = match known {
        Some(known) => known,
        None => {
            let believed = question.believed(credential).await.map_err(|refusal| match refusal {
                Refusal::IssuerUnavailable => Denied::Unknown,
                _ => Denied::Nobody,
            })?;
            let until = believed.as_ref().map_or(question.now.saturating_add(UNKNOWN), |(_, _, until)| *until);
            let believed = believed.map(|(issuer, claims, _)| (issuer, Arc::new(claims)));
            if !readable {
                issuers.administering.put(digest, until, believed.clone());
            }
            believed
        }
    };
    let (issuer, claims) = believed.ok_or(Denied::Nobody)?;
    let found = issuer.administrator(&claims, &shared.directory.tenants());
    let result = if found.is_some() { "ok" } else { "gives no role" };
    events::BearerSeen { issuer: &issuer.id, result }.emit(&shared.metrics);
    found.ok_or(Denied::NoRole)
}

/// Somebody's word, and the Unix second until when it counts.
type Believed = Option<(Arc<Issuer>, Claims, u64)>;

/// Whether a token is to be believed.
struct Question<'q> {
    shared: &'q Shared,
    served: &'q Served,
    purpose: Purpose,
    /// Unix seconds.
    now: u64,
}

impl Question<'_> {
    async fn believed(&self, credential: &str) -> Result<Believed, Refusal> {
        if token::is_like(credential) { self.verified(credential).await } else { self.introspected(credential).await }
    }

    fn bad(&self, issuer: &str, flaw: Flaw) -> Refusal {
        events::BearerSeen { issuer, result: flaw.name() }.emit(&self.shared.metrics);
        Refusal::BadToken { flaw: flaw.name() }
    }

    async fn verified(&self, credential: &str) -> Result<Believed, Refusal> {
        let read = || Token::read(credential).map_err(|flaw| self.bad("", flaw));
        let issuer = read()?.issuer().and_then(|name| self.served.snapshot.issuers.by(name)).cloned();
        let issuer = issuer.ok_or_else(|| self.bad("", Flaw::Issuer))?;
        let rules = issuer.rules(self.purpose).ok_or_else(|| self.bad(&issuer.id, Flaw::Audience))?;
        let Some(holder) = self.served.keys_of(&issuer.id) else {
            return Err(Refusal::Bug { what: "an issuer without keys" });
        };
        loop {
            let keys = holder.held.load_full();
            let found = match &keys {
                Some(keys) => read()?.verify(rules, keys, self.now),
                None => Err(Flaw::UnknownKey),
            };
            match found {
                Ok(claims) => {
                    let until = claims.expires().unwrap_or(self.now).saturating_add(rules.skew);
                    return Ok(Some((issuer, claims, until)));
                }
                Err(Flaw::UnknownKey) if holder.renewed(self.shared.now().unix_ms).await => {
                    if holder.held.load_full() == keys {
                        let known = keys.is_some();
                        return Err(if known { self.bad(&issuer.id, Flaw::UnknownKey) } else { unavailable() });
                    }
                }
                Err(Flaw::UnknownKey) if keys.is_none() => return Err(unavailable()),
                Err(flaw) => return Err(self.bad(&issuer.id, flaw)),
            }
        }
    }

    async fn introspected(&self, credential: &str) -> Result<Believed, Refusal> {
        for issuer in &self.served.snapshot.issuers.all {
            let Some(rules) = issuer.rules(self.purpose) else { continue };
            let asked = timeout(PATIENCE, self.shared.inquiry.introspect(issuer, credential, self.now)).await;
            match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(None) => {}
                Ok(Some((claims, until))) => {
                    claims.hold(rules, self.now).map_err(|flaw| self.bad(&issuer.id, flaw))?;
                    let until = claims.expires().unwrap_or(self.now).min(until);
                    return Ok(Some((issuer.clone(), claims, until)));
                }
                Err(cause) => {
                    events::IssuerSilent { issuer: &issuer.id, cause: &cause }.emit(&self.shared.metrics);
                    return Err(unavailable());
                }
            }
        }
        Ok(None)
    }
}

fn unavailable() -> Refusal {
    Refusal::IssuerUnavailable
}
