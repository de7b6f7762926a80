//! Credentials that hold for a while: fetched and renewed beside the calls, handed to each attempt as they are.
//!
//! No call waits for a renewal: the old credential serves until the new one is there, and while getting one fails. Only
//! where there never was one, because the process or the provider is new, a call waits for the first answer, no longer
//! than for a connection. A call that finds none fails over without being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ring::rand::SystemRandom;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::fetch::Fetcher;
use super::keeping::{Kept, millis};
use super::state::{Served, Shared};
use crate::provider::source::{Next, Source};
use crate::provider::{Grant, Provider, grant};
use crate::telemetry::events;

/// Longest sleep, so that a clock that was put right is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Youngest credential that is replaced because a provider refused it: what a new one cannot do, the next cannot either.
const SETTLED: Duration = Duration::from_secs(60);
/// Most requests of one errand.
const MOST_STEPS: usize = 8;

/// The credential of one provider. It outlives reloads that leave its source as it is.
pub struct Holder {
    provider: String,
    source: Arc<Source>,
    held: ArcSwapOption<Grant>,
    /// When the next one is to be fetched, in Unix milliseconds.
    due: AtomicU64,
    /// Somebody fetches them.
    kept: AtomicBool,
    /// Whether the first try is over, well or not.
    tried: watch::Sender<bool>,
    wake: Notify,
}

impl Holder {
    /// Nothing for a provider whose credentials are plain keys.
    pub fn new(provider: &Provider) -> Option<Arc<Holder>> {
        let source = provider.source.clone()?;
        let lasting = source.lasting();
        Some(Arc::new(Holder {
            provider: provider.id.clone(),
            due: AtomicU64::new(lasting.as_ref().map_or(0, Grant::renew_at)),
            kept: AtomicBool::new(lasting.is_some()),
            tried: watch::Sender::new(lasting.is_some()),
            held: ArcSwapOption::new(lasting.map(Arc::new)),
            wake: Notify::new(),
            source,
        }))
    }

    /// Whether it serves a provider as well as a new one would.
    pub fn serves(&self, provider: &Provider) -> bool {
        provider.source.as_ref().is_some_and(|source| *source == self.source)
    }

    /// A credential that is good now. Waits, at most so long, only if none was ever asked for to its end.
    pub async fn grant(&self, shared: &Shared, patience: Duration) -> Option<Arc<Grant>> {
        let good = || self.held.load_full().filter(|grant| grant.is_good(shared.now().unix_ms));
        if let Some(grant) = good() {
            return Some(grant);
        }
        if *self.tried.borrow() {
            return None;
        }
        let mut tried = self.tried.subscribe();
        let _ = timeout(patience, tried.wait_for(|tried| *tried)).await;
        good()
    }

    /// The provider has refused this credential: another is fetched at once, unless it is quite new.
    pub fn refused(&self, grant: &Arc<Grant>, now: u64) {
        let current = self.held.load_full().is_some_and(|held| Arc::ptr_eq(&held, grant));
        let settled = grant.obtained().saturating_add(millis(SETTLED)) <= now;
        if current && settled && self.due.load(Relaxed) != u64::MAX && self.due.fetch_min(now, Relaxed) > now {
            self.wake.notify_one();
        }
    }

    async fn fetch(&self, shared: &Shared, fetcher: &Fetcher) -> Result<Grant, String> {
        let random = SystemRandom::new();
        let mut errand = self.source.errand();
        let mut answer = None;
        for _ in 0..MOST_STEPS {
            match errand.next(answer.as_ref(), shared.now().unix_ms, &random)? {
                Next::Done(grant) => return Ok(grant),
                Next::Ask(ask) => answer = Some(fetcher.fetch(&ask).await?),
            }
        }
        Err("there is no end of questions".to_owned())
    }
}

impl Kept for Holder {
    fn all(served: &Served) -> Vec<Arc<Holder>> {
        served.holders().cloned().collect()
    }

    fn take(&self) -> bool {
        !self.kept.swap(true, Relaxed)
    }

    async fn keep(self: Arc<Self>, shared: Arc<Shared>, fetcher: Arc<Fetcher>) {
        let mut failures = 0;
        // A snapshot that is in force, or a call that still runs with an older one, holds it too.
        while Arc::strong_count(&self) > 1 {
            let wait = Duration::from_millis(self.due.load(Relaxed).saturating_sub(shared.now().unix_ms));
            if !wait.is_zero() {
                tokio::select! {
                    () = sleep(wait.min(LONGEST_SLEEP)) => {}
                    () = self.wake.notified() => {}
                }
                continue;
            }
            let fetched = self.fetch(&shared, &fetcher).await;
            let now = shared.now().unix_ms;
            let next = match fetched {
                Ok(grant) => {
                    failures = 0;
                    let (expires, renew_at) = (grant.expires(), grant.renew_at());
                    self.held.store(Some(Arc::new(grant)));
                    events::TokenRenewed { provider: &self.provider, expires }.emit(&shared.metrics);
                    renew_at
                }
                Err(cause) => {
                    failures += 1;
                    let pause = grant::pause(failures, fastrand::u64(..));
                    let good = self.held.load().as_ref().is_some_and(|grant| grant.is_good(now));
                    events::TokenFailed { provider: &self.provider, cause: &cause, pause, good }.emit(&shared.metrics);
                    now.saturating_add(millis(pause))
                }
            };
            self.due.store(next, Relaxed);
            self.tried.send_replace(true);
        }
        if shared.served().holder(&self.provider).is_none() {
            // Fails only where there is none.
            let _ = shared.metrics.token_expiry.remove_label_values(&[&self.provider]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const FILE: &str = r#"providers:
  google: { preset: vertex-gemini, base_url: "https://x/v1", auth: { google_service_account: { json: "${KEY}" } } }
  aws: { dialect: openai_chat, base_url: "https://x/v1", auth: { aws: { region: us-east-1, access_key_id: AKIAIOSFODNN7EXAMPLE,
    secret_access_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY } } }
  plain: { preset: openai, api_key: k }
"#;

    fn providers(text: &str) -> Vec<Arc<Provider>> {
        let key = include_str!("../provider/cases/service-account.json");
        config::from_text(text, &|name| (name == "KEY").then(|| key.to_owned())).unwrap().providers
    }

    fn grant(obtained: u64) -> Arc<Grant> {
        Arc::new(Grant::bearer("t".to_owned(), obtained, Duration::from_secs(3600)).unwrap())
    }

    #[test]
    fn a_refused_token_is_replaced_once_it_is_not_new() {
        let [google, aws, plain] = providers(FILE).try_into().unwrap();
        assert!(Holder::new(&plain).is_none());
        let holder = Holder::new(&google).unwrap();
        let held = grant(1_000_000);
        holder.held.store(Some(held.clone()));
        holder.due.store(held.renew_at(), Relaxed);
        holder.refused(&held, 1_059_999);
        holder.refused(&grant(1_000_000), 1_060_000);
        assert_eq!(holder.due.load(Relaxed), held.renew_at(), "quite new, or not the one that is held");
        holder.refused(&held, 1_060_000);
        holder.refused(&held, 1_070_000);
        assert_eq!(holder.due.load(Relaxed), 1_060_000);

        let own = Holder::new(&aws).unwrap();
        let lasting = own.held.load_full().unwrap();
        own.refused(&lasting, 1_060_000);
        assert_eq!(own.due.load(Relaxed), u64::MAX, "keys of the configuration are what they are");
    }

    #[test]
    fn a_holder_serves_until_its_source_changes() {
        let [google, aws, plain] = providers(FILE).try_into().unwrap();
        let holder = Holder::new(&google).unwrap();
        let other = FILE.replace("https://x/v1", "https://y/v1").replace("EXAMPLEKEY", "EXAMPLEKEZ");
        let [same, changed, _] = providers(&other).try_into().unwrap();
        assert!(holder.serves(&google) && holder.serves(&same));
        assert!(!holder.serves(&aws) && !holder.serves(&plain));
        assert!(!Holder::new(&aws).unwrap().serves(&changed));
    }
}
