//! Floor 5: may it, how much, whereto. Pure units side by side; only the exchange orders them.
//!
//! Each unit is rules (from the snapshot), state (in [`Live`], which no reload resets) and one decision that is given
//! the time and the randomness it needs.

pub mod auth;
pub mod budget;
pub mod classes;
pub mod coalesce;
pub mod limit;
pub mod price;
pub mod queue;
pub mod quota;
pub mod ration;
pub mod retry;
pub mod role;
pub mod route;
pub mod rules;
pub mod tenancy;
pub mod token;

use dashmap::DashMap;
use std::sync::Arc;

use budget::Spendings;
use quota::Quota;
use route::heartbeat::Pulse;
use route::hedge::Hedges;
use route::shadow::Running;
use route::{Average, Breaker, Vitals};

/// An instant as the exchange is told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds of a clock that never goes back, from an arbitrary start.
    pub mono: u64,
    /// Unix milliseconds, for people and ledgers.
    pub unix_ms: u64,
}

impl Moment {
    /// Microseconds since an earlier moment.
    pub fn since(self, earlier: Moment) -> u64 {
        self.mono.saturating_sub(earlier.mono)
    }
}

/// State that outlives snapshots: a reload never forgives a failing target or a benched credential. A snapshot holds what
/// is its own, so nothing is looked up by name in a call.
#[derive(Debug, Default)]
pub struct Live {
    targets: DashMap<String, Arc<Vitals>>,
    accounts: DashMap<String, Arc<Account>>,
    models: DashMap<String, Arc<Average>>,
    pulses: DashMap<String, Arc<Pulse>>,
    hedges: DashMap<String, Arc<Hedges>>,
    shadows: DashMap<String, Arc<Running>>,
    budgets: DashMap<String, Arc<retry::Budget>>,
    limits: Arc<limit::States>,
    overall: Arc<retry::Budget>,
    spendings: Arc<Spendings>,
}

/// What is known of a credential, for all models or for one: may it, and has it room.
#[derive(Debug, Default)]
pub struct Account {
    /// Open while the credential is refused, or its quota is spent without a word of how much is left.
    pub bench: Breaker,
    pub quota: Quota,
}

impl Live {
    /// A target's, made on first sight.
    pub fn target(&self, id: &str) -> Arc<Vitals> {
        found(&self.targets, id)
    }

    /// A credential's, or a credential's at one model, made on first sight.
    pub fn account(&self, id: &str) -> Arc<Account> {
        found(&self.accounts, id)
    }

    /// The output tokens of a model's answers, made on first sight.
    pub fn model(&self, name: &str) -> Arc<Average> {
        found(&self.models, name)
    }

    /// What asking a target, or a provider, has told; made on first sight.
    pub fn pulse(&self, id: &str) -> Arc<Pulse> {
        found(&self.pulses, id)
    }

    /// How much of a model's calls was hedged, made on first sight.
    pub fn hedges(&self, name: &str) -> Arc<Hedges> {
        found(&self.hedges, name)
    }

    /// Copies of a model's calls that are under way, made on first sight.
    pub fn shadows(&self, name: &str) -> Arc<Running> {
        found(&self.shadows, name)
    }

    /// A model's budget of further attempts, made on first sight.
    pub fn budget(&self, name: &str) -> Arc<retry::Budget> {
        found(&self.budgets, name)
    }

    /// The budget of all models together.
    pub fn overall_budget(&self) -> Arc<retry::Budget> {
        self.overall.clone()
    }

    /// What was taken of the limits of all levels.
    pub fn limits(&self) -> Arc<limit::States> {
        self.limits.clone()
    }

    /// What levels have spent of their budgets.
    pub fn spendings(&self) -> Arc<Spendings> {
        self.spendings.clone()
    }

    /// Forgets what no snapshot has any more.
    pub fn forget(&self, now: Moment) {
        self.limits.forget(now);
        self.targets.retain(|_, vitals| Arc::strong_count(vitals) > 1);
        self.accounts.retain(|_, account| Arc::strong_count(account) > 1);
        self.models.retain(|_, usual| Arc::strong_count(usual) > 1);
        self.pulses.retain(|_, pulse| Arc::strong_count(pulse) > 1);
        self.hedges.retain(|_, hedges| Arc::strong_count(hedges) > 1);
        self.shadows.retain(|_, running| Arc::strong_count(running) > 1);
        self.budgets.retain(|_, budget| Arc::strong_count(budget) > 1);
        self.spendings.forget();
    }
}

fn found<T: Default>(map: &DashMap<String, Arc<T>>, id: &str) -> Arc<T> {
    if let Some(found) = map.get(id) {
        return found.clone();
    }
    map.entry(id.to_owned()).or_default().clone()
}
