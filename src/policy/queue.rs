//! A line of calls that wait for room, fair among tenants.
//!
//! Each tenant has a counter of the work it was given, divided by its weight; the least served tenant is next (virtual
//! token counters: Sheng and others, "Fairness in Serving Large Language Models", 2023, section 4). Who comes anew starts
//! at the counter of the one served last, so that nobody saves up by staying away. Within a tenant the urgent go first,
//! then the older. A full line takes a newcomer all the same if another tenant has more than its part of it: that one's
//! newest call goes. So a tenant that floods the line waits behind itself alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Bounds of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Calls that may wait.
    pub size: usize,
    /// Longest wait.
    pub wait: Duration,
}

/// A call's urgency among those of its tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    High,
    #[default]
    Normal,
    Low,
}

impl Urgency {
    pub const ALL: [Urgency; 3] = [Urgency::High, Urgency::Normal, Urgency::Low];

    pub fn name(self) -> &'static str {
        match self {
            Urgency::High => "high",
            Urgency::Normal => "normal",
            Urgency::Low => "low",
        }
    }

    pub fn named(name: &str) -> Option<Urgency> {
        Urgency::ALL.into_iter().find(|urgency| urgency.name() == name)
    }
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A call that comes to the line.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub tenant: &'a str,
    /// At least 1.
    pub weight: u32,
    pub urgency: Urgency,
    /// The work it asks for, in tokens.
    pub cost: u64,
    /// Monotonic microseconds.
    pub now: u64,
    /// When its caller's patience ends.
    pub deadline: u64,
}

/// Why a call does not get into the line, or goes out of it: it may come back after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    pub retry_after: Duration,
}

/// Calls that wait, each with what its waiter is woken by.
#[derive(Debug)]
pub struct Queue<W> {
    tenants: HashMap<String, Tenant>,
    calls: HashMap<Ticket, Call<W>>,
    /// Tenants that wait, by their counters.
    turns: BTreeMap<(u64, String), ()>,
    /// The counter of the tenant that was served last.
    served: u64,
    next: u64,
    /// Microseconds between two calls that were served, of late, and when the last one was.
    pace: Option<u64>,
    last: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Work given, by weight.
    counter: u64,
    weight: u32,
    lines: [VecDeque<Ticket>; 3],
}

#[derive(Debug)]
struct Call<W> {
    tenant: String,
    urgency: Urgency,
    cost: u64,
    waker: W,
}

/// Counters are in parts of a token, so that weights divide them.
const SCALE: u64 = 1_000;
/// Shortest time that anyone is told to wait.
const SHORTEST: Duration = Duration::from_secs(1);
/// Most tenants whose counters are remembered while they do not wait.
const REMEMBERED: usize = 1_024;

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue {
            tenants: HashMap::new(),
            calls: HashMap::new(),
            turns: BTreeMap::new(),
            served: 0,
            next: 0,
            pace: None,
            last: 0,
        }
    }
}

impl<W> Queue<W> {
    /// Takes a call in, and perhaps another one out: its waker comes back, to be told that it is refused.
    ///
    /// # Errors
    /// The line is full, or the call would not have its turn in time.
    pub fn push(&mut self, rules: &Rules, arrival: &Arrival<'_>, waker: W) -> Result<(Ticket, Option<W>), Full> {
        let wait = self.estimate(arrival);
        let patience = Duration::from_micros(arrival.deadline.saturating_sub(arrival.now)).min(rules.wait);
        let full = Full { retry_after: wait.max(SHORTEST) };
        if wait > patience || rules.size == 0 {
            return Err(full);
        }
        let pushed_out = if self.calls.len() >= rules.size { Some(self.push_out(arrival).ok_or(full)?) } else { None };
        self.forget();
        let served = self.served;
        let tenant = self.tenants.entry(arrival.tenant.to_owned()).or_default();
        tenant.weight = arrival.weight.max(1);
        if tenant.is_empty() {
            tenant.counter = tenant.counter.max(served);
            self.turns.insert((tenant.counter, arrival.tenant.to_owned()), ());
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        tenant.line(arrival.urgency).push_back(ticket);
        let call = Call { tenant: arrival.tenant.to_owned(), urgency: arrival.urgency, cost: arrival.cost, waker };
        self.calls.insert(ticket, call);
        Ok((ticket, pushed_out))
    }

    /// Whose turn it is.
    pub fn first(&self) -> Option<(Ticket, &W)> {
        let ((_, name), ()) = self.turns.first_key_value()?;
        let ticket = self.tenants.get(name)?.lines.iter().find_map(VecDeque::front)?;
        Some((*ticket, &self.calls.get(ticket)?.waker))
    }

    /// Whether a call is in the line still.
    pub fn has(&self, ticket: Ticket) -> bool {
        self.calls.contains_key(&ticket)
    }

    /// A call goes on its way: its tenant has been given its work.
    pub fn serve(&mut self, ticket: Ticket, now: u64) {
        let Some(call) = self.take(ticket) else { return };
        if let Some(tenant) = self.tenants.get_mut(&call.tenant) {
            let before = tenant.counter;
            self.served = self.served.max(before);
            tenant.counter =
                before.saturating_add(call.cost.max(1).saturating_mul(SCALE) / u64::from(tenant.weight.max(1)));
            if self.turns.remove(&(before, call.tenant.clone())).is_some() {
                self.turns.insert((tenant.counter, call.tenant), ());
            }
        }
        if self.last != 0 {
            let step = now.saturating_sub(self.last);
            // The last eight count.
            self.pace = Some(self.pace.map_or(step, |pace| (pace * 7 + step) / 8));
        }
        self.last = now;
    }

    /// A call leaves the line without having been served.
    pub fn leave(&mut self, ticket: Ticket) {
        self.take(ticket);
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How long a call would wait: those before it, at the pace of late.
    pub fn estimate(&self, arrival: &Arrival<'_>) -> Duration {
        let weight = u64::from(arrival.weight.max(1));
        let own = self.tenants.get(arrival.tenant).map_or(0, Tenant::len) as u64 + 1;
        // While it waits for its own, each other tenant is served in proportion to its weight.
        let others = self.tenants.iter().filter(|(name, _)| *name != arrival.tenant).map(|(_, tenant)| {
            let share = own.saturating_mul(u64::from(tenant.weight)).div_ceil(weight);
            share.min(tenant.len() as u64)
        });
        let before = others.sum::<u64>() + own - 1;
        Duration::from_micros(before.saturating_mul(self.pace.unwrap_or(0)))
    }

    /// The newest call of the tenant that has most of the line for its weight, if that is not the newcomer.
    fn push_out(&mut self, arrival: &Arrival<'_>) -> Option<W> {
        let load = |waiting: usize, weight: u32| waiting as u64 * SCALE / u64::from(weight.max(1));
        let own = self.tenants.get(arrival.tenant).map_or(0, Tenant::len) + 1;
        let (most, name) = self.tenants.iter().map(|(name, tenant)| (load(tenant.len(), tenant.weight), name)).max()?;
        if most <= load(own, arrival.weight) {
            return None;
        }
        let ticket = *self.tenants.get(name)?.lines.iter().rev().find_map(VecDeque::back)?;
        self.take(ticket).map(|call| call.waker)
    }

    fn take(&mut self, ticket: Ticket) -> Option<Call<W>> {
        let call = self.calls.remove(&ticket)?;
        if let Some(tenant) = self.tenants.get_mut(&call.tenant) {
            tenant.line(call.urgency).retain(|other| *other != ticket);
            if tenant.is_empty() {
                self.turns.remove(&(tenant.counter, call.tenant.clone()));
            }
        }
        Some(call)
    }

    /// Counters of tenants that do not wait, and would start anew anyway.
    fn forget(&mut self) {
        if self.tenants.len() >= REMEMBERED {
            let served = self.served;
            self.tenants.retain(|_, tenant| !tenant.is_empty() || tenant.counter > served);
        }
    }
}

impl Tenant {
    fn line(&mut self, urgency: Urgency) -> &mut VecDeque<Ticket> {
        let [high, normal, low] = &mut self.lines;
        match urgency {
            Urgency::High => high,
            Urgency::Normal => normal,
            Urgency::Low => low,
        }
    }

    fn len(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules { size: 100, wait: Duration::from_secs(60) };
    const SECOND: u64 = 1_000_000;

    fn arrival(tenant: &str) -> Arrival<'_> {
        Arrival { tenant, weight: 1, urgency: Urgency::Normal, cost: 10, now: SECOND, deadline: 600 * SECOND }
    }

    /// Serves so many, a second each, and says whose they were.
    fn serve(queue: &mut Queue<String>, count: usize) -> Vec<String> {
        let mut now = SECOND;
        let mut served = Vec::new();
        for _ in 0..count {
            let Some((ticket, waker)) = queue.first() else { break };
            served.push(waker.clone());
            now += SECOND;
            queue.serve(ticket, now);
        }
        served
    }

    fn push(queue: &mut Queue<String>, arrival: &Arrival<'_>, name: &str) -> Ticket {
        queue.push(&RULES, arrival, name.to_owned()).unwrap().0
    }

    #[test]
    fn tenants_take_turns_whoever_came_first() {
        let mut queue = Queue::default();
        for n in 0..4 {
            push(&mut queue, &arrival("flood"), &format!("f{n}"));
        }
        push(&mut queue, &arrival("a"), "a0");
        push(&mut queue, &arrival("a"), "a1");
        assert_eq!(serve(&mut queue, 9), ["a0", "f0", "a1", "f1", "f2", "f3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn weights_costs_and_urgency_count() {
        let mut queue = Queue::default();
        for n in 0..6 {
            push(&mut queue, &Arrival { weight: 2, ..arrival("heavy") }, &format!("h{n}"));
            push(&mut queue, &arrival("light"), &format!("l{n}"));
        }
        let served = serve(&mut queue, 6);
        assert_eq!(served.iter().filter(|name| name.starts_with('h')).count(), 4, "{served:?}");

        let mut queue = Queue::default();
        for n in 0..6 {
            push(&mut queue, &Arrival { cost: 40, ..arrival("long") }, &format!("l{n}"));
            push(&mut queue, &arrival("short"), &format!("s{n}"));
        }
        let served = serve(&mut queue, 5);
        assert_eq!(served.iter().filter(|name| name.starts_with('s')).count(), 4, "{served:?}");

        let mut queue = Queue::default();
        for (urgency, name) in [(Urgency::Low, "low"), (Urgency::Normal, "normal"), (Urgency::High, "high")] {
            push(&mut queue, &Arrival { urgency, ..arrival("t") }, name);
        }
        assert_eq!(serve(&mut queue, 3), ["high", "normal", "low"]);
    }

    #[test]
    fn nobody_saves_up_by_staying_away() {
        let mut queue = Queue::default();
        for n in 0..50 {
            push(&mut queue, &arrival("a"), &format!("a{n}"));
        }
        serve(&mut queue, 20);
        for n in 0..10 {
            push(&mut queue, &arrival("late"), &format!("l{n}"));
        }
        let served = serve(&mut queue, 10);
        assert!((4..=6).contains(&served.iter().filter(|name| name.starts_with('l')).count()), "{served:?}");
    }

    #[test]
    fn a_full_line_loses_calls_of_those_who_fill_it() {
        let mut queue = Queue::default();
        let rules = Rules { size: 4, ..RULES };
        for n in 0..4 {
            queue.push(&rules, &arrival("flood"), format!("f{n}")).unwrap();
        }
        let own = queue.push(&rules, &arrival("flood"), "f4".to_owned());
        assert!(own.is_err(), "it fills the line itself");
        let (_, out) = queue.push(&rules, &arrival("a"), "a0".to_owned()).unwrap();
        assert_eq!(out.as_deref(), Some("f3"), "the newest of the flood");
        assert_eq!(queue.len(), 4);
        let (_, out) = queue.push(&rules, &arrival("b"), "b0".to_owned()).unwrap();
        assert_eq!(out.as_deref(), Some("f2"));
        assert!(queue.push(&Rules { size: 0, ..rules }, &arrival("c"), "c".to_owned()).is_err());
    }

    #[test]
    fn a_call_that_would_not_have_its_turn_in_time_is_told_so() {
        let mut queue = Queue::default();
        for n in 0..12 {
            push(&mut queue, &arrival("a"), &format!("a{n}"));
        }
        serve(&mut queue, 4);
        // Eight of its own are before it, at a second each.
        let late = Arrival { now: 10 * SECOND, deadline: 13 * SECOND, ..arrival("a") };
        assert_eq!(queue.push(&RULES, &late, "late".to_owned()), Err(Full { retry_after: Duration::from_secs(8) }));
        // Another tenant waits for one only.
        assert_eq!(queue.estimate(&Arrival { tenant: "b", ..late }), Duration::from_secs(1));
        assert!(queue.push(&RULES, &Arrival { tenant: "b", ..late }, "b".to_owned()).is_ok());
    }

    #[test]
    fn who_leaves_holds_nobody_up() {
        let mut queue = Queue::default();
        let first = push(&mut queue, &arrival("a"), "a");
        push(&mut queue, &arrival("b"), "b");
        queue.leave(first);
        assert!(!queue.has(first));
        assert_eq!(serve(&mut queue, 3), ["b"]);
    }

    proptest! {
        /// Whatever comes, goes and is served: the line and its index agree, and no tenant that waits all the time gets less
        /// than another by more than a call.
        #[test]
        fn the_line_holds_together(steps in prop::collection::vec((0u8..4, 0usize..5, 1u64..50), 1..300)) {
            let mut queue = Queue::default();
            let mut tickets = Vec::new();
            for (what, tenant, cost) in steps {
                let name = ["a", "b", "c", "d", "e"][tenant];
                match what {
                    0 | 1 => {
                        if let Ok((ticket, _)) = queue.push(&Rules { size: 20, ..RULES }, &Arrival { cost, ..arrival(name) }, ()) {
                            tickets.push(ticket);
                        }
                    }
                    2 => {
                        if let Some((ticket, ())) = queue.first() {
                            queue.serve(ticket, SECOND);
                            prop_assert!(!queue.has(ticket));
                        }
                    }
                    _ => {
                        if let Some(ticket) = tickets.get(usize::try_from(cost).unwrap() % tickets.len().max(1)) {
                            queue.leave(*ticket);
                        }
                    }
                }
                prop_assert!(queue.len() <= 20);
                prop_assert_eq!(queue.first().is_none(), queue.is_empty());
                prop_assert_eq!(queue.turns.len(), queue.tenants.values().filter(|tenant| !tenant.is_empty()).count());
            }
        }
    }
}
