//! Budgets: how much a level may spend in a window of the calendar.
//!
//! An attempt reserves the most that it can cost in every budget it counts in, all or none, before it is dispatched
//! ([`reserve`]); the [`Reservation`] is settled with what it cost in truth. A hold that is dropped gives back what was never
//! dispatched, and counts what was: its row of the ledger stays at its reserve too. So what a budget says is spent is at
//! every moment a fold over the rows of the ledger, and may be read from there ([`Spending::learn`]); an attempt counts in
//! the window in which it was dispatched, as its row's time says, whatever clocks and reloads do meanwhile.
//!
//! The rules (how much, hard or soft) are the snapshot's, what is spent is in [`Live`](super::Live): no reload forgets it.

mod paid;
mod spending;
mod window;

use std::fmt;
use std::sync::Arc;

use super::price::{Amount, Nano, cost_decimal};

pub use paid::{Balance, Paid};
pub use spending::{Figures, Level, Mark, Rule, Spending, Spendings};
pub use window::{Period, Span, Window};

/// Percents of a budget.
pub type Percent = u32;

/// What one level may spend in each window.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Nano-dollars; of a prepaid one see [`Budget::most`].
    pub limit: Nano,
    /// As the operator wrote it: `20 USD`, `15 EUR`.
    pub written: String,
    /// What it has no room for is refused; else it is only told of.
    pub hard: bool,
    /// Parts of it that are told of when they are spent, ascending.
    pub alerts: Arc<[Percent]>,
    /// Other models for when it comes to its end.
    pub degrade: Option<Degrade>,
    /// What is spent. Outlives the snapshot.
    pub spending: Arc<Spending>,
    /// Of a prepaid one: how much may be spent, and what else is said of it.
    pub prepaid: Option<Prepaid>,
}

/// A budget of what was paid in beforehand.
#[derive(Clone, Debug)]
pub struct Prepaid {
    /// Outlives the snapshot.
    pub paid: Arc<Paid>,
    /// Nano-dollars left that are told of when it comes to them, descending.
    pub low: Arc<[Nano]>,
    /// Where more can be paid in: told to callers.
    pub top_up: Option<String>,
}

impl PartialEq for Prepaid {
    fn eq(&self, other: &Prepaid) -> bool {
        Arc::ptr_eq(&self.paid, &other.paid) && self.low == other.low && self.top_up == other.top_up
    }
}

/// Two that say the same of the same level.
impl PartialEq for Budget {
    fn eq(&self, other: &Budget) -> bool {
        Arc::ptr_eq(&self.spending, &other.spending)
            && (self.limit, &self.written, self.hard) == (other.limit, &other.written, other.hard)
            && self.alerts == other.alerts
            && self.degrade == other.degrade
            && self.prepaid == other.prepaid
    }
}

/// Cheaper models in place of dear ones, above a part of the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degrade {
    pub above: Percent,
    /// Globs of models that are asked for, and the model in their place; the first that fits counts.
    pub to: Box<[(String, String)]>,
}

/// A budget has no room for an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    pub level: Level,
    pub period: Period,
    /// As the operator wrote it.
    pub written: String,
    pub why: Why,
    /// When the next window begins: Unix milliseconds, and as people of its zone write it. `None`: never.
    pub anew: Option<(u64, String)>,
    /// Where more can be paid in.
    pub top_up: Option<String>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is spent.
    Spent,
    /// What is left may not be enough for an attempt that can cost so much.
    TooDear { most: Nano, left: Nano },
    /// Calls under way have reserved what is left: some of it may come back soon.
    Reserved,
    /// What was spent before is not known yet.
    Unknown,
}

/// As sentences have it: `The monthly budget of the team `red` (20 USD) is spent; it begins anew on ...`.
impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short { level, period, written, why, anew, .. } = self;
        if *period == Period::Prepaid {
            return self.prepaid(f);
        }
        write!(f, "The {} budget of the {} `{}` ({written}) ", period.adjective(), level.kind, level.id)?;
        match why {
            Why::Spent => f.write_str("is spent")?,
            Why::TooDear { most, left } => {
                let (most, left) = (cost_decimal(*most), cost_decimal(*left));
                write!(f, "has {left} USD left, and this call may cost up to {most} USD")?;
            }
            Why::Reserved => f.write_str("is reserved by calls under way: try again when they are over")?,
            Why::Unknown => f.write_str("cannot be told yet: what was spent of it is being read")?,
        }
        match anew {
            Some((_, told)) if *why != Why::Unknown => write!(f, ". It begins anew on {told}."),
            _ => f.write_str("."),
        }
    }
}

impl Short {
    /// The same of a balance: `The balance of the project `shop` is spent. More can be paid in here: ...`.
    fn prepaid(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short { level, why, top_up, .. } = self;
        write!(f, "The balance of the {} `{}` ", level.kind, level.id)?;
        match why {
            Why::Spent => f.write_str("is spent.")?,
            Why::TooDear { most, left } => {
                let (most, left) = (cost_decimal(*most), cost_decimal(*left));
                write!(f, "has {left} USD left, and this call may cost up to {most} USD: ask for a shorter answer.")?;
            }
            Why::Reserved => {
                return f.write_str("is reserved by calls under way: try again when they are over.");
            }
            Why::Unknown => return f.write_str("cannot be told yet: what was spent of it is being read."),
        }
        match top_up {
            Some(top_up) => write!(f, " More can be paid in here: {top_up}"),
            None => f.write_str(" Have more paid in by whoever gave you the key."),
        }
    }
}

impl Budget {
    /// How much may be spent; `None`: what was paid in is not known yet.
    pub fn most(&self) -> Option<Nano> {
        match &self.prepaid {
            None => Some(self.limit),
            Some(prepaid) => prepaid.paid.balance().map(Balance::limit),
        }
    }

    /// What is spent and reserved of the window of an instant.
    pub fn figures(&self, unix_ms: u64) -> Figures {
        self.spending.figures(unix_ms)
    }

    /// The model in place of the one that is asked for, where so much is spent that this is wished.
    pub fn degraded(&self, model: &str, unix_ms: u64) -> Option<&str> {
        let degrade = self.degrade.as_ref()?;
        let (_, to) = degrade.to.iter().find(|(from, _)| super::auth::fits(from, model))?;
        let spent = self.figures(unix_ms).spent();
        (spent * 100 >= u128::from(self.most()?) * u128::from(degrade.above)).then_some(to)
    }

    /// Tells its state how much it is, for whoever looks at that alone.
    pub fn publish(&self) {
        self.spending.lock().obey(self);
    }

    fn short(&self, why: Why, span: Span) -> Short {
        let window = self.spending.window();
        Short {
            level: self.spending.level().clone(),
            period: window.period,
            written: self.written.clone(),
            why,
            anew: (span.to != u64::MAX).then(|| (span.to, window.told(span.to))),
            top_up: self.prepaid.as_ref().and_then(|prepaid| prepaid.top_up.clone()),
        }
    }
}

/// Reserves an attempt's worst case in all of these budgets, or in none; nothing where there are no budgets.
///
/// `at` (Unix milliseconds) is the attempt's time in the ledger. The budgets come in an order that all calls share (from the
/// key outwards, and within a level as the snapshot has them): they are all held while they are looked at, so that a call
/// which one of them refuses is in none of them for a moment.
///
/// # Errors
/// The first hard budget that has no room for it.
pub fn reserve<'b>(
    budgets: impl Iterator<Item = &'b Budget>,
    at: u64,
    reserve: impl Into<Amount>,
) -> Result<Option<Reservation>, Box<Short>> {
    let reserve = reserve.into();
    let mut open = Vec::new();
    for budget in budgets {
        let state = budget.spending.lock();
        let most = budget.most().filter(|_| state.known());
        let Some(limit) = most else {
            // A soft one refuses nothing, and counts this attempt when it reads the ledger.
            if budget.hard {
                let span = budget.spending.window().span(at);
                return Err(Box::new(budget.short(Why::Unknown, span)));
            }
            continue;
        };
        open.push((budget, limit, state));
    }
    if open.is_empty() {
        return Ok(None);
    }
    let mut parts = Vec::with_capacity(open.len());
    for (budget, limit, state) in &mut open {
        let sum = state.sum(budget.spending.window(), at);
        let (span, figures) = (sum.span, sum.figures());
        if let Some(why) = why_not(budget, *limit, figures, budget.spending.window().period.of(reserve)) {
            return Err(Box::new(budget.short(why, span)));
        }
        parts.push(Part { spending: Arc::clone(&budget.spending), from: span.from });
    }
    for ((budget, _, state), part) in open.iter_mut().zip(&parts) {
        debug_assert!(Arc::ptr_eq(&budget.spending, &part.spending));
        state.hold(part.from, part.of(reserve));
        state.obey(budget);
    }
    drop(open);
    Ok(Some(Reservation { parts: parts.into(), reserve, dispatched: false }))
}

fn why_not(budget: &Budget, limit: Nano, figures: Figures, reserve: Nano) -> Option<Why> {
    let (limit, spent) = (u128::from(limit), figures.spent());
    let most = u128::from(reserve);
    if !budget.hard {
        None
    } else if spent >= limit {
        Some(Why::Spent)
    } else if spent + figures.held + most <= limit {
        None
    } else if spent + most <= limit {
        Some(Why::Reserved)
    } else {
        Some(Why::TooDear { most: reserve, left: Nano::try_from(limit - spent).unwrap_or(Nano::MAX) })
    }
}

/// An attempt's reservation in its budgets, until it is settled or dropped.
#[derive(Debug)]
pub struct Reservation {
    parts: Box<[Part]>,
    reserve: Amount,
    dispatched: bool,
}

/// In one of them: the window it counts in, by its beginning.
#[derive(Debug)]
struct Part {
    spending: Arc<Spending>,
    from: u64,
}

impl Part {
    /// What of an amount counts here.
    fn of(&self, amount: Amount) -> Nano {
        self.spending.window().period.of(amount)
    }
}

impl Reservation {
    /// How much it is.
    pub fn amount(&self) -> Amount {
        self.reserve
    }

    /// The ledger knows of the attempt: dropped from now on, it counts in full.
    pub fn dispatched(&mut self) {
        self.dispatched = true;
    }

    /// The attempt is over, and has cost so much.
    pub fn settle(mut self, cost: impl Into<Amount>) {
        self.close(cost.into());
    }

    fn close(&mut self, cost: Amount) {
        for part in std::mem::take(&mut self.parts) {
            part.spending.lock().close(part.from, part.of(self.reserve), part.of(cost));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(if self.dispatched { self.reserve } else { Amount::default() });
    }
}

#[cfg(test)]
mod tests;
