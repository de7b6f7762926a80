//! What is spent of one budget, window by window: what its own process dispatched, and what others did.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::super::price::Nano;
use super::window::{Span, Window};
use super::{Balance, Budget, Paid, Percent, Prepaid};

/// Windows that are remembered beside the one that is: an attempt over midnight, or a clock put back, comes to them.
const KEPT: usize = 4;

/// Whose budget it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Level {
    /// `key`, `user`, `project`, `team`, `organisation`.
    pub kind: &'static str,
    pub id: String,
}

/// What is spent of one budget. Shared by all snapshots that have it.
#[derive(Debug)]
pub struct Spending {
    level: Level,
    window: Window,
    state: Mutex<State>,
}

/// Figures of one window, in nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// By attempts of this process that are over.
    pub own: u128,
    /// By rows of the ledger that are not counted in `own` or `held`.
    pub others: u128,
    /// Reserved for attempts under way.
    pub held: u128,
    /// How many those are.
    pub under_way: u64,
}

impl Figures {
    /// What is spent, reservations of this process aside.
    pub fn spent(self) -> u128 {
        self.own + self.others
    }
}

/// How much may be spent, as the snapshot says that was asked last.
#[derive(Clone, Debug)]
pub struct Rule {
    limit: Nano,
    /// As the operator wrote it.
    pub written: String,
    pub hard: bool,
    pub alerts: Arc<[Percent]>,
    pub prepaid: Option<Prepaid>,
}

impl Rule {
    /// How much may be spent now: of a prepaid one, what was paid in as far as that is known.
    pub fn limit(&self) -> Nano {
        self.prepaid.as_ref().map_or(self.limit, |prepaid| prepaid.paid.balance().map_or(0, Balance::limit))
    }
}

/// What a look at the state found, for whoever then reads the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// From when on the attempts of this process count here by themselves (Unix milliseconds); `None`: it is not known yet what
    /// was spent.
    pub since: Option<u64>,
    /// When that began (Unix milliseconds).
    pub born: u64,
    pub span: Span,
    changes: u64,
    quiet: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Of the window that was asked for last, and others that were.
    current: Sum,
    others: Vec<Sum>,
    since: Option<u64>,
    born: u64,
    rule: Option<Rule>,
    /// Counts whatever changes the sums.
    changes: u64,
}

/// Of one window; the first one is of none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub span: Span,
    figures: Figures,
}

/// All that is known of budgets, by level, period and zone.
#[derive(Debug, Default)]
pub struct Spendings {
    spent: DashMap<String, Arc<Spending>>,
    /// By level.
    paid: DashMap<Level, Arc<Paid>>,
    /// The register was read: who has no entry has none.
    read: AtomicBool,
}

impl Spendings {
    /// What was paid in for a level.
    pub fn paid(&self, level: &Level) -> Arc<Paid> {
        if let Some(found) = self.paid.get(level) {
            return found.clone();
        }
        // Whether it was read is asked with the place held: `pay` either sees it there, or has said so before.
        let made = || Arc::new(Paid::new(self.read.load(SeqCst).then(Balance::default)));
        self.paid.entry(level.clone()).or_insert_with(made).clone()
    }

    /// What the register has of these levels; `anew`: and of no others.
    pub fn pay(&self, balances: Vec<(Level, Balance)>, anew: bool) {
        if anew {
            self.read.store(true, SeqCst);
            let told: HashSet<&Level> = balances.iter().map(|(level, _)| level).collect();
            self.paid.iter().filter(|held| !told.contains(held.key())).for_each(|held| held.set(Balance::default()));
        }
        for (level, balance) in balances {
            self.paid(&level).set(balance);
        }
    }

    /// What a level has spent of a budget, made on first sight.
    pub fn of(&self, level: &Level, window: &Window) -> Arc<Spending> {
        let name = name(level, window);
        if let Some(found) = self.spent.get(&name) {
            return found.clone();
        }
        let made = || Arc::new(Spending::new(level.clone(), window.clone()));
        self.spent.entry(name).or_insert_with(made).clone()
    }

    /// All that somebody holds.
    pub fn all(&self) -> Vec<Arc<Spending>> {
        let held = self.spent.iter().filter(|spending| Arc::strong_count(spending) > 1);
        held.map(|spending| spending.value().clone()).collect()
    }

    /// Those of which it is not known what was spent.
    pub fn unknown(&self) -> Vec<Arc<Spending>> {
        self.spent.iter().filter(|spending| !spending.known()).map(|spending| spending.value().clone()).collect()
    }

    /// Forgets what nobody holds any more.
    pub fn forget(&self) {
        self.spent.retain(|_, spending| Arc::strong_count(spending) > 1);
    }
}

impl Spending {
    pub fn new(level: Level, window: Window) -> Spending {
        Spending { level, window, state: Mutex::default() }
    }

    /// Names it among all others: level, period, zone.
    pub fn name(&self) -> String {
        name(&self.level, &self.window)
    }

    pub fn level(&self) -> &Level {
        &self.level
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Figures of the window that an instant is in.
    pub fn figures(&self, unix_ms: u64) -> Figures {
        self.lock().sum(&self.window, unix_ms).figures
    }

    /// How much may be spent; `None` where no snapshot has said.
    pub fn rule(&self) -> Option<Rule> {
        self.lock().rule.clone()
    }

    /// The window of an instant, with what is spent of it.
    pub fn now(&self, unix_ms: u64) -> (Span, Figures) {
        let mut state = self.lock();
        let sum = state.sum(&self.window, unix_ms);
        (sum.span, sum.figures)
    }

    /// Whether it is known what was spent.
    pub fn known(&self) -> bool {
        self.lock().known()
    }

    /// Before the ledger is read for the window of an instant.
    pub fn mark(&self, unix_ms: u64) -> Mark {
        let mut state = self.lock();
        let (span, quiet) = {
            let sum = state.sum(&self.window, unix_ms);
            (sum.span, sum.figures.under_way == 0)
        };
        Mark { since: state.since, born: state.born, span, changes: state.changes, quiet }
    }

    /// The ledger was read for the first time: all of its rows that began before `since`, and those of other processes.
    /// Attempts of this process count by themselves from then on. `now` is when it was read.
    pub fn begin(&self, span: Span, spent: u128, since: u64, now: u64) {
        let mut state = self.lock();
        if state.since.is_none() {
            (state.since, state.born) = (Some(since), now);
            state.sum(&self.window, span.from).figures = Figures { others: spent, ..Figures::default() };
        }
    }

    /// The ledger was read anew, after a [`mark`](Spending::mark): `others` of the rows that do not count by themselves, `all`
    /// of all rows. What attempts of an older snapshot cost, which knew nothing of this budget, is in neither of ours: it is
    /// taken from the ledger where nothing was under way, and nothing changed meanwhile. Says by how much we were off.
    pub fn learn(&self, mark: Mark, others: u128, all: u128) -> i128 {
        let mut state = self.lock();
        let settled = mark.quiet && state.changes == mark.changes;
        let sum = state.sum(&self.window, mark.span.from);
        if sum.span != mark.span {
            return 0;
        }
        sum.figures.others = others;
        if !settled {
            return 0;
        }
        let drift = sum.figures.spent() as i128 - all as i128;
        sum.figures.own = all.saturating_sub(others);
        drift
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(level: &Level, window: &Window) -> String {
    format!("{}:{} {} {}", level.kind, level.id, window.period.name(), window.zone_name)
}

impl Mark {
    /// Whether nothing of this process was under way.
    pub fn quiet(self) -> bool {
        self.quiet
    }
}

impl State {
    pub fn known(&self) -> bool {
        self.since.is_some()
    }

    /// The sum of the window of an instant. The calendar is asked only when a window begins.
    pub fn sum(&mut self, window: &Window, unix_ms: u64) -> &mut Sum {
        if !self.current.span.has(unix_ms) {
            let found = self.others.iter().position(|sum| sum.span.has(unix_ms));
            let next = match found {
                Some(place) => self.others.swap_remove(place),
                None => Sum { span: window.span(unix_ms), figures: Figures::default() },
            };
            let before = std::mem::replace(&mut self.current, next);
            if before.span.to != 0 {
                self.others.push(before);
                self.forget(unix_ms);
            }
        }
        &mut self.current
    }

    /// Forgets the windows farthest away in which nothing is under way.
    fn forget(&mut self, unix_ms: u64) {
        while self.others.len() > KEPT {
            let idle = self.others.iter().enumerate().filter(|(_, sum)| sum.figures.under_way == 0);
            let Some((place, _)) = idle.max_by_key(|(_, sum)| sum.span.from.abs_diff(unix_ms)) else { return };
            self.others.swap_remove(place);
        }
    }

    pub fn obey(&mut self, budget: &Budget) {
        let same = |rule: &Rule| {
            (rule.limit, rule.hard) == (budget.limit, budget.hard)
                && Arc::ptr_eq(&rule.alerts, &budget.alerts)
                && rule.prepaid == budget.prepaid
        };
        if !self.rule.as_ref().is_some_and(same) {
            let Budget { limit, written, hard, alerts, prepaid, .. } = budget;
            self.rule = Some(Rule {
                limit: *limit,
                written: written.clone(),
                hard: *hard,
                alerts: alerts.clone(),
                prepaid: prepaid.clone(),
            });
        }
    }

    pub fn hold(&mut self, from: u64, reserve: Nano) {
        self.changes += 1;
        if let Some(sum) = self.at(from) {
            sum.figures.held += u128::from(reserve);
            sum.figures.under_way += 1;
        }
    }

    pub fn close(&mut self, from: u64, reserve: Nano, cost: Nano) {
        self.changes += 1;
        if let Some(sum) = self.at(from) {
            sum.figures.held = sum.figures.held.saturating_sub(u128::from(reserve));
            sum.figures.under_way = sum.figures.under_way.saturating_sub(1);
            sum.figures.own += u128::from(cost);
        }
    }

    fn at(&mut self, from: u64) -> Option<&mut Sum> {
        std::iter::once(&mut self.current).chain(&mut self.others).find(|sum| sum.span.from == from && sum.span.to != 0)
    }
}

impl Sum {
    pub fn figures(&self) -> Figures {
        self.figures
    }
}
