//! What goes on beside the calls: reload, names and health of pools, and the orderly stop.
//!
//! Pingora's own grace period is a fixed sleep that ends streams without `logging`; so it is set long, and this drain,
//! which returns as soon as nothing is in flight, ends the process first.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::budgets;
use super::lingering::LINGER;
use super::state::Shared;
use crate::config::Snapshot;
use crate::store::directory::Follower;
use crate::store::ledger::Keep;
use crate::telemetry::{Supervisor, events};

/// How often the configuration's files are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How often names are resolved again.
const RESOLVE: Duration = Duration::from_secs(30);
/// How often the register is asked whether it changed: what one process writes, the others hold to well within a second.
const FOLLOW: Duration = Duration::from_millis(250);
/// How often what is too old is deleted.
const EXPIRE: Duration = Duration::from_secs(600);
/// How often it is asked whose health check is due.
const CHECK: Duration = Duration::from_millis(500);
/// A connection accepted in the last instant has no call in flight yet.
const ARRIVED: Duration = Duration::from_millis(50);
/// How long streams have to say goodbye once they are cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// Loads the configuration anew.
pub trait Source: Send + Sync {
    /// What would change if the files changed: cheap enough to ask every second. `None`: they cannot be read now.
    fn fingerprint(&self) -> Option<u64>;

    /// # Errors
    /// Every problem of the files, a line each.
    fn load(&self) -> Result<Snapshot, Vec<String>>;
}

/// Reloads on change and on SIGHUP.
pub struct Reloader {
    pub shared: Arc<Shared>,
    pub source: Arc<dyn Source>,
    pub supervisor: Arc<Supervisor>,
}

#[async_trait]
impl BackgroundService for Reloader {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be listened for; reload by change of the file only");
            return;
        };
        let mut seen = self.source.fingerprint();
        let mut ticks = interval(WATCH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = hangup.recv() => {
                    seen = self.source.fingerprint();
                    self.reload().await;
                }
                _ = ticks.tick() => {
                    let now = self.source.fingerprint();
                    if now.is_some() && now != seen {
                        // A file may be half written: what is read must be the same twice.
                        sleep(Duration::from_millis(100)).await;
                        if self.source.fingerprint() == now {
                            seen = now;
                            self.reload().await;
                        }
                    }
                }
            }
        }
    }
}

impl Reloader {
    async fn reload(&self) {
        self.supervisor.reloading("reading the configuration");
        self.read().await;
        self.supervisor.ready(&format!("serving {}", self.shared.served().snapshot.version));
    }

    async fn read(&self) {
        let before = self.shared.served();
        match self.source.load() {
            Ok(next) if next.version == before.snapshot.version => {
                events::Reloaded { version: &next.version, changed: false }.emit(&self.shared.metrics);
            }
            Ok(next) => {
                let fixed = next.listen != before.snapshot.listen
                    || next.admin != before.snapshot.admin
                    || next.state_dir != before.snapshot.state_dir
                    || next.sandbox != before.snapshot.sandbox;
                if fixed {
                    tracing::warn!(
                        "listen, admin, state_dir and sandbox change only with a restart; the rest is in force"
                    );
                }
                let version = next.version.clone();
                budgets::publish(&next);
                // A budget that is new has been spent of already: it must not begin with nothing, nor refuse.
                let (shared, next) = (self.shared.clone(), Arc::new(next));
                let coming = next.clone();
                let prepared = tokio::task::spawn_blocking(move || {
                    shared.sides.prepare(&coming);
                    budgets::learn(&shared, false)
                });
                if let Ok(Err(error)) = prepared.await {
                    events::BudgetsUnknown { error: &error }.emit(&self.shared.metrics);
                }
                self.shared.swap(next);
                events::Reloaded { version: &version, changed: true }.emit(&self.shared.metrics);
            }
            Err(problems) => events::ReloadFailed { problems: &problems }.emit(&self.shared.metrics),
        }
    }
}

/// Resolves names and checks pools.
pub struct Resolver {
    pub shared: Arc<Shared>,
}

#[async_trait]
impl BackgroundService for Resolver {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut resolve = interval(RESOLVE);
        let mut check = interval(CHECK);
        resolve.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: std::collections::HashMap<String, Instant> = std::collections::HashMap::new();
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = resolve.tick() => {
                    for upstream in self.shared.served().upstreams() {
                        upstream.refresh().await;
                    }
                }
                _ = check.tick() => {
                    let served = self.shared.served();
                    for upstream in served.upstreams() {
                        let Some(interval) = upstream.check_interval() else { continue };
                        let id = &upstream.provider().id;
                        if due.get(id).is_none_or(|at| *at <= Instant::now()) {
                            due.insert(id.clone(), Instant::now() + interval);
                            let upstream = upstream.clone();
                            tokio::spawn(async move { upstream.check().await });
                        }
                    }
                }
            }
        }
    }
}

/// Keeps the directory as the register is, whoever changes it.
pub struct Following {
    pub shared: Arc<Shared>,
    pub follower: Arc<Follower>,
}

#[async_trait]
impl BackgroundService for Following {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(FOLLOW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut well = true;
        loop {
            tokio::select! {
                // While the last calls are served keys go on being revoked.
                () = gone(&mut shutdown) => return,
                _ = ticks.tick() => {}
            }
            let (follower, now) = (self.follower.clone(), self.shared.now().unix_ms / 1_000);
            match tokio::task::spawn_blocking(move || follower.catch_up(now)).await {
                Ok(Ok(_)) if !well => {
                    well = true;
                    tracing::info!("the register of keys can be read again");
                }
                Ok(Err(error)) if well => {
                    well = false;
                    tracing::error!(%error, "the register of keys cannot be read: calls go on with what was read before");
                }
                _ => {}
            }
        }
    }
}

/// Never, unless nobody is left who could tell of an end.
async fn gone(shutdown: &mut ShutdownWatch) {
    while shutdown.changed().await.is_ok() {}
}

/// Deletes what is kept no longer.
pub struct Retention {
    pub shared: Arc<Shared>,
}

#[async_trait]
impl BackgroundService for Retention {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(EXPIRE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = ticks.tick() => {}
            }
            let rules = &self.shared.served().snapshot.ledger;
            let keep = rules.keep.map(|keep| Keep {
                before: self.shared.now().unix_ms.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)),
                zone: rules.zone.clone(),
            });
            self.shared.ledger.keep(keep);
            // Where nothing is kept any more, what was kept before goes too.
            let keep = self.shared.served().snapshot.keep_responses.unwrap_or_default();
            let before = (self.shared.now().unix_ms / 1_000).saturating_sub(keep.as_secs());
            let store = self.shared.responses.clone();
            match tokio::task::spawn_blocking(move || store.expire(before)).await {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(deleted)) => tracing::info!(deleted, "kept responses came to their age"),
                Ok(Err(error)) => tracing::error!(%error, "kept responses cannot be deleted"),
            }
        }
    }
}

/// Ends the process when it is told to stop and nothing is left to do.
pub struct Drain {
    pub shared: Arc<Shared>,
    pub supervisor: Arc<Supervisor>,
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if shutdown.wait_for(|stop| *stop).await.is_err() {
            return;
        }
        let patience = self.shared.served().snapshot.drain;
        let begun = Instant::now();
        events::Draining { in_flight: self.shared.in_flight(), patience }.emit();
        if *self.shared.succeeded.borrow() {
            // Others serve on the same ports: this process is well, and answers whatever still comes its way.
            sleep(LINGER + ARRIVED).await;
        } else {
            self.shared.stopping.send_replace(true);
            self.supervisor.stopping("waiting for calls in flight");
            sleep(ARRIVED).await;
        }
        self.idle_by(begun + patience).await;
        let cut = self.shared.in_flight();
        if cut + self.shared.sides.running() > 0 {
            self.shared.cut.send_replace(true);
            self.idle_by(Instant::now() + GOODBYE).await;
        }
        let ledger = self.shared.ledger.clone();
        let _ = tokio::task::spawn_blocking(move || ledger.flush(Duration::from_secs(5))).await;
        events::Stopped { cut }.emit(&self.shared.metrics);
        // The last answers are written, but perhaps not yet sent: a moment for the sockets.
        sleep(Duration::from_millis(50)).await;
        crate::telemetry::log::flush(Duration::from_secs(1));
        std::process::exit(0);
    }
}

impl Drain {
    async fn idle_by(&self, by: Instant) {
        while self.shared.in_flight() + self.shared.sides.running() > 0 && Instant::now() < by {
            sleep(Duration::from_millis(20)).await;
        }
    }
}
