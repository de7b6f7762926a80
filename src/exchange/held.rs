//! An attempt's claim on a target and on one of its credentials: what it takes, and what its end teaches.
//!
//! Faults are attributed: a refused credential is the credential's, a spent quota the credential's with this model,
//! anything else the target's. What was claimed is given back when the claim is dropped, however the attempt ended.

use std::sync::Arc;
use std::time::Duration;

use crate::config::snapshot::{PricedTarget, Seat};
use crate::ir::{Fault, FaultKind};
use crate::policy::quota::Said;
use crate::policy::route::{Answered, Breaker, Cooling, Gate};

/// Whether a target can take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Now,
    /// Its quota is spent until then (monotonic microseconds); `u64::MAX`: until a call that runs is over.
    Full {
        until: u64,
    },
    /// It is left alone after failures; `stated`: because the provider asked for it; `limited`: for a rate limit or a
    /// credential, not for failures of its own.
    Resting {
        until: u64,
        stated: bool,
        limited: bool,
    },
}

impl Ready {
    fn until(self) -> u64 {
        match self {
            Ready::Now => 0,
            Ready::Full { until } | Ready::Resting { until, .. } => until,
        }
    }
}

/// Whether a target can take a call of so many tokens.
pub fn ready(target: &PricedTarget, now: u64, tokens: u64) -> Ready {
    if let Gate::Open { until, stated } = target.vitals.breaker.gate(now) {
        return Ready::Resting { until, stated, limited: false };
    }
    let mut soonest: Option<Ready> = None;
    for seat in &target.seats {
        match free(target, seat, now, tokens) {
            Ready::Now => return Ready::Now,
            later if soonest.is_none_or(|other| later.until() < other.until()) => soonest = Some(later),
            _ => {}
        }
    }
    soonest.unwrap_or(Ready::Now)
}

fn free(target: &PricedTarget, seat: &Seat, now: u64, tokens: u64) -> Ready {
    for bench in [&seat.account.bench, &seat.here.bench] {
        if let Gate::Open { until, stated } = bench.gate(now) {
            return Ready::Resting { until, stated, limited: true };
        }
    }
    let whole = seat.account.quota.room(&target.account_limits, now, tokens);
    match whole.max(seat.here.quota.room(&target.limits, now, tokens)) {
        None => Ready::Now,
        Some(until) => Ready::Full { until },
    }
}

/// What an attempt holds of its target.
#[derive(Debug)]
pub struct Held {
    target: Arc<PricedTarget>,
    seat: usize,
    tokens: u64,
    /// Used tokens, once they are known.
    used: Option<u64>,
    /// It is the one call that is let through by the half-open target, credential, credential with this model.
    probes: [bool; 3],
    /// It counts against no quota.
    free: bool,
}

/// What is left alone from now on.
#[derive(Debug, PartialEq, Eq)]
pub struct Cooled {
    /// A credential's place in the provider's list; `None`: the target.
    pub credential: Option<usize>,
    pub pause: Duration,
}

impl Held {
    /// Claims a target that is ready; nothing where another call was quicker.
    pub fn take(target: &Arc<PricedTarget>, now: u64, tokens: u64, random: &mut dyn FnMut() -> u64) -> Option<Held> {
        let breaker = &target.vitals.breaker;
        let half_open = breaker.gate(now) == Gate::HalfOpen;
        if half_open && !breaker.claim(now) {
            return None;
        }
        for place in turn(target.seats.len(), random) {
            let Some(seat) = target.seats.get(place).filter(|seat| free(target, seat, now, tokens) == Ready::Now)
            else {
                continue;
            };
            let benches = [&seat.account.bench, &seat.here.bench];
            let probed = benches.map(|bench| bench.gate(now) == Gate::HalfOpen);
            if benches.iter().zip(probed).any(|(bench, probed)| probed && !bench.claim(now)) {
                continue;
            }
            if !seat.account.quota.take(&target.account_limits, now, tokens) {
                release(benches, probed);
                continue;
            }
            if !seat.here.quota.take(&target.limits, now, tokens) {
                seat.account.quota.give_back(&target.account_limits, tokens, None);
                release(benches, probed);
                continue;
            }
            let [account, here] = probed;
            let probes = [half_open, account, here];
            return Some(Held::begin(target, place, tokens, probes));
        }
        if half_open {
            breaker.release();
        }
        None
    }

    /// Claims a target whether it is ready or not, with the credential that is soonest.
    pub fn force(target: &Arc<PricedTarget>, now: u64, tokens: u64, random: &mut dyn FnMut() -> u64) -> Held {
        let until =
            |place: &usize| target.seats.get(*place).map_or(u64::MAX, |seat| free(target, seat, now, tokens).until());
        let place = turn(target.seats.len(), random).min_by_key(until).unwrap_or(0);
        if let Some(seat) = target.seats.get(place) {
            seat.account.quota.force(&target.account_limits, now, tokens);
            seat.here.quota.force(&target.limits, now, tokens);
        }
        Held::begin(target, place, tokens, [false; 3])
    }

    /// Claims nothing of a target's quota: for a question that is no call.
    pub fn ask(target: &Arc<PricedTarget>, seat: usize) -> Held {
        let mut held = Held::begin(target, seat, 0, [false; 3]);
        held.free = true;
        held
    }

    fn begin(target: &Arc<PricedTarget>, seat: usize, tokens: u64, probes: [bool; 3]) -> Held {
        target.vitals.begin();
        Held { target: target.clone(), seat, tokens, used: None, probes, free: false }
    }

    /// The credential's place in the provider's list.
    pub fn credential(&self) -> usize {
        self.seat
    }

    /// It was sent: from now on it counts, whatever comes of it.
    pub fn sent(&mut self) {
        self.used = Some(self.tokens);
    }

    /// Tokens that were used, as the provider counted them.
    pub fn used(&mut self, tokens: u64) {
        self.used = Some(tokens);
    }

    /// The provider said what is left of its limits.
    pub fn learn(&self, now: u64, requests: Option<Said>, tokens: Option<Said>) {
        if let Some(seat) = self.target.seats.get(self.seat) {
            seat.here.quota.learn(now, requests, tokens);
        }
    }

    /// An answer came through. Says whether that ended a cooling of the target.
    pub fn worked(&mut self, now: u64, answered: &Answered) -> bool {
        self.probes = [false; 3];
        if let Some(seat) = self.target.seats.get(self.seat) {
            seat.account.bench.succeeded(now);
            seat.here.bench.succeeded(now);
        }
        self.target.vitals.succeeded(now, answered)
    }

    /// The attempt failed. Says what is left alone from now on, if this failure brought that.
    pub fn failed(&mut self, fault: &Fault, now: u64, rule: Cooling) -> Option<Cooled> {
        let seat = self.target.seats.get(self.seat)?;
        // With another credential there is something better to do than to try again; a sole one may have been renewed.
        let at_once = if self.target.seats.len() > 1 { Cooling { failures: 1, ..rule } } else { rule };
        let (bench, rule): (&Breaker, Cooling) = match fault.kind {
            FaultKind::Authentication | FaultKind::QuotaExhausted => (&seat.account.bench, at_once),
            FaultKind::Permission | FaultKind::RateLimited => (&seat.here.bench, at_once),
            kind if kind.blames_target() => {
                self.target.vitals.failed(now);
                let pause = self.target.vitals.breaker.failed(now, rule, fault.retry_after);
                return pause.map(|pause| Cooled { credential: None, pause });
            }
            _ => return None,
        };
        let pause = bench.failed(now, rule, fault.retry_after)?;
        Some(Cooled { credential: Some(self.seat), pause })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.target.vitals.end();
        let Some(seat) = self.target.seats.get(self.seat) else { return };
        // Where a failure has told already, this opens a door that its pause keeps shut.
        release([&self.target.vitals.breaker, &seat.account.bench, &seat.here.bench], self.probes);
        if self.free {
            return;
        }
        if self.target.account_limits.any() {
            seat.account.quota.give_back(&self.target.account_limits, self.tokens, self.used);
        }
        if self.target.limits.any() {
            seat.here.quota.give_back(&self.target.limits, self.tokens, self.used);
        }
    }
}

/// Whether a failure is a credential's, so that another one at the same target may do.
pub fn blames_credential(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Authentication | FaultKind::QuotaExhausted | FaultKind::Permission | FaultKind::RateLimited
    )
}

/// All places once, from a random one on.
fn turn(count: usize, random: &mut dyn FnMut() -> u64) -> impl Iterator<Item = usize> + use<> {
    let start = if count > 1 { usize::try_from(random() % count as u64).unwrap_or(0) } else { 0 };
    (start..count).chain(0..start)
}

fn release<const N: usize>(breakers: [&Breaker; N], claimed: [bool; N]) {
    for (bench, claimed) in breakers.iter().zip(claimed) {
        if claimed {
            bench.release();
        }
    }
}
