//! One answer on its way to several callers: what the first of them is told, the others are told too, from the beginning.
//!
//! The one who leads writes, at the stand-in for its client's session; those who follow read, each at its own pace, in a
//! bounded buffer. Nobody waits for a follower: one that falls too far behind loses its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use tokio::sync::Notify;

use crate::exchange::identity::Identity;
use crate::exchange::{Attempt, Call};
use crate::ir::Usage;
use crate::policy::coalesce::Coalesce;
use crate::policy::price::{Amount, Charge, Nano};

/// Most who follow one call.
const FOLLOWERS: u32 = 4_096;
/// Most bytes that all of them keep for those who come late.
const HELD: usize = 256 << 20;

/// The calls of this process that others may join.
#[derive(Default)]
pub struct Flights {
    flights: Mutex<HashMap<Identity, Arc<Flight>>>,
    /// Bytes that they keep.
    held: AtomicUsize,
}

/// One call that others may join.
pub struct Flight {
    pub rules: Arc<Coalesce>,
    flights: Arc<Flights>,
    /// Monotonic microseconds.
    began: u64,
    state: Mutex<State>,
    told: Notify,
    present: AtomicU32,
    served: AtomicU32,
    /// The most that an attempt of the one who leads may cost.
    reserve: AtomicU64,
    /// The most that it may be charged for.
    charge_reserve: AtomicU64,
    bill: OnceLock<Bill>,
    billed: Notify,
}

#[derive(Default)]
struct State {
    head: Option<Box<ResponseHeader>>,
    parts: VecDeque<Bytes>,
    /// The number of the first part that is kept.
    first: usize,
    size: usize,
    /// The part that each follower is to read next.
    places: Vec<(u64, usize)>,
    next_follower: u64,
    /// Nobody can join any more.
    closed: bool,
    end: Option<End>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// After its beginning was told.
    Broken,
    /// Before anything was.
    Failed,
}

/// What the upstream call came to, for those who followed.
#[derive(Clone, Debug)]
pub struct Bill {
    pub model: String,
    pub provider: String,
    pub target: String,
    pub price_version: String,
    pub rates: Box<str>,
    pub region: String,
    pub config_version: String,
    pub status: u16,
    pub usage: Option<Usage>,
    pub estimated: bool,
    pub cost: Nano,
    /// What was charged for it, where that is another amount: with version and rates.
    pub charge: Option<(Nano, String, Box<str>)>,
    pub unpriced: bool,
    /// Calls that it served, the one who led among them.
    pub shares: u32,
}

impl Bill {
    /// Of an attempt that served so many calls.
    pub fn of(attempt: &Attempt, call: &Call, shares: u32) -> Bill {
        let target = &attempt.candidate.target;
        let (usage, estimated) = attempt.usage(call).unzip();
        let price = target.price.as_ref();
        Bill {
            model: attempt.candidate.model.name.clone(),
            provider: target.target.provider.id.clone(),
            target: target.target.id.clone(),
            price_version: price.map(|price| price.version.to_string()).unwrap_or_default(),
            rates: target.rates.clone(),
            region: target.region.clone().unwrap_or_default(),
            config_version: attempt.terms.snapshot.version.clone(),
            status: attempt.status,
            usage,
            estimated: estimated.unwrap_or(false),
            cost: usage.zip(price).map_or(0, |(usage, price)| price.cost(&usage)),
            charge: attempt.terms.charge.as_ref().map(|charge| {
                let charged = usage.and_then(|usage| attempt.terms.charge(&usage)).unwrap_or(0);
                let (version, rates) = charge.as_deref().map_or(("", ""), Charge::said);
                (charged, version.to_owned(), rates.into())
            }),
            unpriced: attempt.terms.unpriced() && usage.is_some(),
            shares,
        }
    }
}

/// What a call is to an identical one under way.
pub enum Joined {
    /// There is none: others may join it.
    Lead(Lead),
    Follow(Follower),
    /// There is one that cannot be joined any more.
    Alone,
}

impl Flights {
    /// Joins the flight of a call, or begins one. `now` is in monotonic microseconds.
    pub fn join(self: &Arc<Self>, identity: Identity, rules: &Arc<Coalesce>, now: u64) -> Joined {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&identity) {
            return flight.follow(now).map_or(Joined::Alone, Joined::Follow);
        }
        let flight = Arc::new(Flight {
            rules: rules.clone(),
            flights: self.clone(),
            began: now,
            state: Mutex::default(),
            told: Notify::new(),
            present: AtomicU32::new(0),
            served: AtomicU32::new(0),
            reserve: AtomicU64::new(0),
            charge_reserve: AtomicU64::new(0),
            bill: OnceLock::new(),
            billed: Notify::new(),
        });
        flights.insert(identity, flight.clone());
        Joined::Lead(Lead { flight, identity })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let size = self.lock().size;
        self.flights.held.fetch_sub(size, Relaxed);
    }
}

impl Flight {
    fn follow(self: &Arc<Self>, now: u64) -> Option<Follower> {
        let age = Duration::from_micros(now.saturating_sub(self.began));
        let mut state = self.lock();
        let full = self.present.load(Relaxed) >= FOLLOWERS;
        if state.closed || full || self.rules.window.is_some_and(|window| age > window) {
            return None;
        }
        let id = state.next_follower;
        state.next_follower += 1;
        state.places.push((id, 0));
        self.present.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed);
        Some(Follower { flight: self.clone(), id, headed: false, at: 0 })
    }

    /// An attempt of the one who leads may cost so much.
    pub fn reserved(&self, most: Amount) {
        self.reserve.fetch_max(most.cost, Relaxed);
        self.charge_reserve.fetch_max(most.charge, Relaxed);
    }

    /// The most that one who follows may be charged.
    pub fn most(&self) -> Amount {
        // Two share it at least.
        let part = |whole: &AtomicU64| self.rules.cost.of_follower(whole.load(Relaxed), 2);
        Amount { cost: part(&self.reserve), charge: part(&self.charge_reserve) }
    }

    /// Nobody can join any more; how many calls it serves.
    pub fn close(&self) -> u32 {
        self.lock().closed = true;
        self.served.load(Relaxed) + 1
    }

    /// What it came to, once; those who followed are told.
    pub fn settle(&self, bill: Bill) {
        if self.bill.set(bill).is_ok() {
            self.billed.notify_waiters();
        }
    }

    /// What it came to.
    pub async fn bill(&self) -> &Bill {
        loop {
            let mut billed = std::pin::pin!(self.billed.notified());
            billed.as_mut().enable();
            if let Some(bill) = self.bill.get() {
                return bill;
            }
            billed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The call whose answer others are told too. Dropped before the end, it has failed.
pub struct Lead {
    flight: Arc<Flight>,
    identity: Identity,
}

impl Lead {
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Whether somebody follows.
    pub fn is_followed(&self) -> bool {
        self.flight.present.load(Relaxed) > 0
    }

    /// Passes on what the leader's own client is told.
    pub fn tell(&self, tasks: &[HttpTask]) {
        let held = &self.flight.flights.held;
        let mut state = self.flight.lock();
        if state.end.is_some() {
            return;
        }
        let before = state.size;
        for task in tasks {
            match task {
                HttpTask::Header(head, end) if head.status.is_success() => {
                    state.head = Some(head.clone());
                    state.finish(*end, End::Whole);
                }
                // An error is the leader's own: those who follow try for themselves.
                HttpTask::Header(..) => state.finish(true, End::Failed),
                HttpTask::Body(body, end) => {
                    if let Some(body) = body.as_ref().filter(|body| !body.is_empty()) {
                        let room = held.load(Relaxed) <= HELD;
                        state.push(body.clone(), self.flight.rules.buffer, room);
                    }
                    state.finish(*end, End::Whole);
                }
                HttpTask::Done | HttpTask::Trailer(_) => state.finish(true, End::Whole),
                // What the caller is told of it is still to come.
                HttpTask::Failed(_) => {}
                HttpTask::UpgradedBody(..) => state.finish(true, End::Broken),
            }
        }
        let over = state.end.is_some();
        held.fetch_add(state.size, Relaxed);
        held.fetch_sub(before, Relaxed);
        drop(state);
        if over {
            self.land();
        }
        self.flight.told.notify_waiters();
    }
}

impl Lead {
    /// Who comes from now on begins anew.
    fn land(&self) {
        let mut flights = self.flight.flights.lock();
        if flights.get(&self.identity).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.identity);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.land();
        let mut state = self.flight.lock();
        state.closed = true;
        let end = if state.head.is_some() { End::Broken } else { End::Failed };
        state.finish(true, end);
        drop(state);
        self.flight.told.notify_waiters();
    }
}

impl State {
    fn finish(&mut self, is: bool, end: End) {
        if is {
            self.end.get_or_insert(end);
        }
    }

    /// `room`: there is memory for those who come late.
    fn push(&mut self, part: Bytes, most: usize, room: bool) {
        self.size += part.len();
        self.parts.push_back(part);
        if room && self.size <= most {
            return;
        }
        // From here on it cannot be told from the beginning: what all who follow have read goes.
        self.closed = true;
        let slowest = self.places.iter().map(|(_, at)| *at).min().unwrap_or(usize::MAX);
        // Who is behind by twice the bound is not waited for.
        while self.first < slowest || self.size > 2 * most {
            let Some(part) = self.parts.pop_front() else { return };
            self.size -= part.len();
            self.first += 1;
        }
    }
}

/// What a follower is to be told next.
#[derive(Debug)]
pub enum Piece {
    Head(Box<ResponseHeader>),
    Body(Bytes),
    End(End),
}

/// A call that is told another one's answer.
pub struct Follower {
    flight: Arc<Flight>,
    id: u64,
    headed: bool,
    at: usize,
}

impl Follower {
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// It is told nothing after all, and pays for nothing.
    pub fn decline(&mut self) {
        self.headed = false;
    }

    /// What is next. Nothing is lost where this is dropped while it waits.
    pub async fn next(&mut self) -> Piece {
        let flight = self.flight.clone();
        loop {
            let mut told = std::pin::pin!(flight.told.notified());
            told.as_mut().enable();
            if let Some(piece) = self.ready() {
                return piece;
            }
            told.await;
        }
    }

    fn ready(&mut self) -> Option<Piece> {
        let mut state = self.flight.lock();
        if !self.headed
            && let Some(head) = &state.head
        {
            self.headed = true;
            return Some(Piece::Head(head.clone()));
        }
        if !self.headed {
            return state.end.map(Piece::End);
        }
        let Some(offset) = self.at.checked_sub(state.first) else { return Some(Piece::End(End::Broken)) };
        if let Some(part) = state.parts.get(offset).cloned() {
            self.at += 1;
            let (id, at) = (self.id, self.at);
            if let Some((_, place)) = state.places.iter_mut().find(|(other, _)| *other == id) {
                *place = at;
            }
            return Some(Piece::Body(part));
        }
        state.end.map(Piece::End)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let id = self.id;
        self.flight.lock().places.retain(|(other, _)| *other != id);
        if !self.headed {
            // It left before it was told anything, and pays for nothing.
            self.flight.served.fetch_sub(1, Relaxed);
        }
        self.flight.present.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::policy::coalesce::Cost;

    fn rules(window: Option<Duration>, buffer: usize) -> Arc<Coalesce> {
        Arc::new(Coalesce { any: true, window, buffer, cost: Cost::Leader })
    }

    fn head(status: u16) -> HttpTask {
        HttpTask::Header(Box::new(ResponseHeader::build(status, None).unwrap()), false)
    }

    fn body(text: &str, end: bool) -> HttpTask {
        HttpTask::Body(Some(Bytes::copy_from_slice(text.as_bytes())), end)
    }

    fn told(follower: &mut Follower) -> String {
        let mut all = String::new();
        while let Some(piece) = follower.next().now_or_never() {
            match piece {
                Piece::Head(head) => all.push_str(head.status.as_str()),
                Piece::Body(body) => all.push_str(std::str::from_utf8(&body).unwrap()),
                Piece::End(end) => return format!("{all} {end:?}"),
            }
        }
        all
    }

    fn identity() -> Identity {
        Identity::default()
    }

    #[test]
    fn who_comes_late_is_told_from_the_beginning() {
        let flights = Arc::new(Flights::default());
        let rules = rules(Some(Duration::from_secs(1)), 100);
        let Joined::Lead(lead) = flights.join(identity(), &rules, 1) else { panic!("the first leads") };
        let Joined::Follow(mut early) = flights.join(identity(), &rules, 2) else { panic!("the second follows") };
        assert!(lead.is_followed());
        assert_eq!(told(&mut early), "");
        lead.tell(&[head(200), body("a", false)]);
        assert_eq!(told(&mut early), "200a");
        let Joined::Follow(mut late) = flights.join(identity(), &rules, 3) else { panic!("the third follows") };
        assert!(matches!(flights.join(identity(), &rules, 2_000_000), Joined::Alone), "its window is over");
        lead.tell(&[body("b", true)]);
        assert_eq!((told(&mut early), told(&mut late)), ("b Whole".into(), "200ab Whole".into()));
        drop((early, late));
        assert!(!lead.is_followed());
        assert_eq!(lead.flight().close(), 3);
        let Joined::Lead(next) = flights.join(identity(), &rules, 3) else { panic!("what is over is over") };
        drop(lead);
        assert!(matches!(flights.join(identity(), &rules, 3), Joined::Follow(_)), "the next one is another's");
        drop(next);
    }

    #[test]
    fn who_leads_and_fails_leaves_the_others_to_themselves() {
        let flights = Arc::new(Flights::default());
        let rules = rules(None, 100);
        for tasks in [vec![], vec![head(500), body("no", true)]] {
            let Joined::Lead(lead) = flights.join(identity(), &rules, 1) else { panic!("leads") };
            let Joined::Follow(mut follower) = flights.join(identity(), &rules, 1) else { panic!("follows") };
            lead.tell(&tasks);
            drop(lead);
            assert_eq!(told(&mut follower), " Failed");
        }
        let Joined::Lead(lead) = flights.join(identity(), &rules, 1) else { panic!("leads") };
        let Joined::Follow(mut follower) = flights.join(identity(), &rules, 1) else { panic!("follows") };
        lead.tell(&[head(200), body("half", false)]);
        drop(lead);
        assert_eq!(told(&mut follower), "200half Broken");
    }

    #[test]
    fn nobody_is_waited_for_and_nothing_grows_without_end() {
        let flights = Arc::new(Flights::default());
        let rules = rules(None, 10);
        let Joined::Lead(lead) = flights.join(identity(), &rules, 1) else { panic!("leads") };
        let Joined::Follow(mut quick) = flights.join(identity(), &rules, 1) else { panic!("follows") };
        let Joined::Follow(mut slow) = flights.join(identity(), &rules, 1) else { panic!("follows") };
        lead.tell(&[head(200)]);
        for _ in 0..10 {
            lead.tell(&[body("12345", false)]);
            assert!(told(&mut quick).ends_with("12345"));
            assert!(lead.flight.lock().size <= 20);
        }
        assert!(matches!(flights.join(identity(), &rules, 1), Joined::Alone), "its beginning is gone");
        assert_eq!(told(&mut slow), "200 Broken");
        assert!(flights.held.load(Relaxed) <= 20);
        drop((lead, quick, slow));
        assert_eq!(flights.held.load(Relaxed), 0);
    }
}
