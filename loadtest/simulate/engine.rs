//! Events in the order of their time, and the calls between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use portolan::config::Snapshot;
use portolan::config::snapshot::Key;
use portolan::exchange::{self, Call, Candidate, Decision, Held, Plan, Step};
use portolan::ir::Usage;
use portolan::policy::Moment;
use portolan::policy::queue::{Arrival, Queue, Rules, Ticket, Urgency};
use portolan::policy::route::{Answered, Strategy};

use super::setup::{call, snapshot};
use super::world::{Answer, State, World};

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
/// Calls a second, over the day's mean.
const RATE: f64 = 2.0;
/// Tries of a blind call, as many as a planned one has.
const TRIES: usize = 6;

/// Who chooses.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Plan(Strategy),
    /// Any target, and then any other.
    Blind,
    /// The cheapest that is well and has room.
    Oracle,
}

/// What came of a day.
#[derive(Default)]
pub struct Outcome {
    pub calls: u64,
    pub tries: u64,
    answered: u64,
    /// Nano-dollars.
    cost: u64,
    /// Microseconds to the first token, of those that were answered.
    firsts: Vec<u64>,
}

impl Outcome {
    pub fn usd(&self) -> f64 {
        self.cost as f64 / 1e9
    }

    /// Cost of an answer above another's, in percent.
    pub fn above(&self, other: &Outcome) -> f64 {
        let each = |outcome: &Outcome| outcome.usd() / outcome.answered as f64;
        (each(self) / each(other) - 1.0) * 100.0
    }

    pub fn success(&self) -> f64 {
        self.answered as f64 / self.calls as f64 * 100.0
    }

    /// Seconds to the first token that this part of the answers does not exceed.
    pub fn first(&self, part: f64) -> f64 {
        let place = (self.firsts.len() as f64 * part) as usize;
        self.firsts.get(place.min(self.firsts.len().saturating_sub(1))).map_or(0.0, |first| *first as f64 / 1e6)
    }
}

/// One tenant of a flood.
pub struct Tenant {
    pub name: String,
    pub asked: u64,
    pub served: u64,
    /// Calls that are its part of what there is (the fairest division, by progressive filling).
    share: f64,
}

impl Tenant {
    pub fn of_share(&self) -> f64 {
        self.served as f64 / self.share
    }
}

/// A day of calls.
pub fn day(world: &World, way: Way, seed: u64) -> Outcome {
    let snapshot = snapshot(world, 0, &["day"]);
    let routing = if let Way::Plan(strategy) = way { strategy.name() } else { "weighted" };
    let mut sim = Sim::new(world, &snapshot, way, seed, routing);
    sim.run(DAY, &[RATE], |now| {
        // Twice the mean in the afternoon, hardly any at night.
        let hour = now as f64 / 3_600e6;
        1.0 - 0.7 * ((hour - 3.0) / 24.0 * std::f64::consts::TAU).cos()
    });
    let mut outcome = sim.outcome;
    outcome.firsts.sort_unstable();
    outcome
}

/// An hour in which nothing works.
pub fn outage(seed: u64) -> Outcome {
    let world = World::dark();
    let snapshot = snapshot(&world, 0, &["dark"]);
    let mut sim = Sim::new(&world, &snapshot, Way::Plan(Strategy::Weighted), seed, "weighted");
    // Until then what was saved up is spent.
    sim.since = 60 * SECOND;
    sim.run(3_600 * SECOND, &[10.0], |_| 1.0);
    sim.outcome
}

/// An hour in which one of five tenants asks for twenty times what there is.
pub fn flood(seed: u64) -> Vec<Tenant> {
    let world = World::narrow();
    let names = ["flood", "a", "b", "c", "d"];
    let snapshot = snapshot(&world, 8, &names);
    let mut sim = Sim::new(&world, &snapshot, Way::Plan(Strategy::Weighted), seed, "weighted");
    // Some want more than their part, some less.
    let rates = [30.0, 0.6, 0.6, 0.2, 0.05];
    let hour = 3_600 * SECOND;
    sim.run(hour, &rates, |_| 1.0);
    let served: u64 = sim.tenants.iter().map(|(_, served)| served).sum();
    let asked: Vec<f64> = sim.tenants.iter().map(|(asked, _)| *asked as f64).collect();
    let level = level(&asked, served as f64);
    let tenants = names.iter().zip(&sim.tenants);
    tenants
        .map(|(name, (asked, served))| Tenant {
            name: (*name).to_owned(),
            asked: *asked,
            served: *served,
            share: (*asked as f64).min(level),
        })
        .collect()
}

/// The level at which the fairest division gives nobody more than he asks for, and all of `all`.
fn level(asked: &[f64], all: f64) -> f64 {
    let mut asked = asked.to_vec();
    asked.sort_unstable_by(f64::total_cmp);
    let mut left = all;
    for (place, wish) in asked.iter().enumerate() {
        let part = left / (asked.len() - place) as f64;
        if *wish >= part {
            return part;
        }
        left -= wish;
    }
    f64::INFINITY
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive {
        tenant: usize,
    },
    Begin {
        job: usize,
    },
    End {
        job: usize,
    },
    /// There may be room.
    Look,
    Expire {
        job: usize,
        ticket: Ticket,
    },
}

struct Job {
    tenant: usize,
    arrived: u64,
    begun: u64,
    input: u64,
    output: u64,
    plan: Option<Plan>,
    /// Places that a blind call has tried.
    tried: Vec<usize>,
    attempt: Option<(usize, Option<(Candidate, Held)>)>,
    answer: Option<Answer>,
    ticket: Option<Ticket>,
}

struct Sim<'w> {
    world: &'w World,
    snapshot: Arc<Snapshot>,
    way: Way,
    keys: Vec<Arc<Key>>,
    calls: Vec<Arc<Call>>,
    places: BTreeMap<String, usize>,
    now: u64,
    /// Of the calls, and of all else: every way has the same calls.
    coming: Rng,
    dice: Rng,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    jobs: Vec<Option<Job>>,
    free: Vec<usize>,
    state: State,
    queue: Queue<usize>,
    /// When the next look for room is due.
    looks: u64,
    rules: Rules,
    /// Calls and tries count from then on.
    since: u64,
    outcome: Outcome,
    /// Asked and served.
    tenants: Vec<(u64, u64)>,
}

impl<'w> Sim<'w> {
    fn new(world: &'w World, snapshot: &Arc<Snapshot>, way: Way, seed: u64, routing: &str) -> Sim<'w> {
        let mut keys: Vec<_> = snapshot.keys.iter().collect();
        keys.sort_unstable_by_key(|(digest, _)| **digest);
        let keys: Vec<_> = keys.into_iter().map(|(_, key)| key.clone()).collect();
        let calls = (0..64).map(|number| call(snapshot, routing, number)).collect();
        let places = world.real.iter().enumerate().map(|(place, real)| (real.name.to_owned(), place)).collect();
        Sim {
            world,
            snapshot: snapshot.clone(),
            way,
            tenants: vec![(0, 0); keys.len()],
            keys,
            calls,
            places,
            now: 0,
            coming: Rng::with_seed(seed),
            dice: Rng::with_seed(seed ^ 0xd1ce),
            events: BinaryHeap::new(),
            count: 0,
            jobs: Vec::new(),
            free: Vec::new(),
            state: world.state(),
            queue: Queue::default(),
            looks: u64::MAX,
            rules: snapshot.queue,
            since: 0,
            outcome: Outcome::default(),
        }
    }

    /// Calls of each tenant at its rate a second, which a day's course changes, until that time; then to their ends.
    fn run(&mut self, until: u64, rates: &[f64], course: impl Fn(u64) -> f64) {
        for tenant in 0..rates.len() {
            self.at(1, Event::Arrive { tenant });
        }
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            self.now = now;
            match event {
                Event::Arrive { tenant } => {
                    let gap = -self.coming.f64().max(1e-12).ln() / (rates[tenant] * course(now).max(0.01));
                    let next = now + (gap * 1e6) as u64 + 1;
                    if next < until {
                        self.at(next, Event::Arrive { tenant });
                    }
                    self.arrive(tenant);
                }
                Event::Begin { job } => self.begin(job),
                Event::End { job } => self.end(job),
                Event::Look => {
                    self.looks = u64::MAX;
                    self.look();
                }
                Event::Expire { job, ticket } => {
                    let waits = self.jobs[job].as_ref().is_some_and(|job| job.ticket == Some(ticket));
                    if waits {
                        self.over(job);
                    }
                }
            }
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((time.max(self.now), self.count, event)));
    }

    fn look_at(&mut self, until: u64) {
        if until < self.looks {
            self.looks = until;
            self.at(until, Event::Look);
        }
    }

    fn moment(&self) -> Moment {
        Moment { mono: self.now, unix_ms: self.now / 1_000 }
    }

    fn arrive(&mut self, tenant: usize) {
        self.outcome.calls += u64::from(self.now >= self.since);
        self.tenants[tenant].0 += 1;
        let number = self.coming.usize(..self.calls.len());
        // Half of the answers are short.
        let output = (40.0 * (self.coming.f64() * 4.0).exp()) as u64;
        let call = self.calls[number].clone();
        let now = self.moment();
        let plan = match self.way {
            Way::Plan(_) => {
                let dice = &mut self.dice;
                let made = Plan::make(&self.snapshot, &self.keys[tenant], &call, Decision::default(), now, &mut || {
                    dice.u64(..)
                });
                Some(made.expect("the model is there"))
            }
            _ => None,
        };
        let job = Job {
            tenant,
            arrived: self.now,
            begun: 0,
            input: call.input_estimate,
            output,
            plan,
            tried: Vec::new(),
            attempt: None,
            answer: None,
            ticket: None,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        self.jobs[place] = Some(job);
        if self.queue.is_empty() { self.advance(place) } else { self.wait(place) }
    }

    /// The next attempt of a call, now.
    fn advance(&mut self, place: usize) {
        let now = self.moment();
        match self.way {
            Way::Plan(_) => {
                let dice = &mut self.dice;
                let Some(plan) = self.jobs[place].as_mut().and_then(|job| job.plan.as_mut()) else { return };
                match plan.next(now, &mut || dice.u64(..)) {
                    Step::Try { candidate, held, wait } => self.go(place, candidate, held, wait),
                    Step::Wait { until } => {
                        self.wait(place);
                        self.look_at(until);
                    }
                    Step::Over(_) => self.over(place),
                }
            }
            Way::Blind => {
                let tried = self.jobs[place].as_ref().map_or(&[][..], |job| job.tried.as_slice());
                let left: Vec<_> = (0..self.world.real.len()).filter(|target| !tried.contains(target)).collect();
                if tried.len() >= TRIES || left.is_empty() {
                    return self.over(place);
                }
                let target = left[self.dice.usize(..left.len())];
                self.try_at(place, target, Duration::ZERO);
            }
            Way::Oracle => {
                let job = self.jobs[place].as_ref().expect("a call");
                let (input, output) = (job.input as f64, job.output as f64);
                let (world, state) = (self.world, &mut self.state);
                let well = (0..world.real.len()).filter(|target| world.is_well(state, *target, now.mono));
                let cost = |target: &usize| world.real[*target].input * input + world.real[*target].output * output;
                match well.min_by(|one, other| cost(one).total_cmp(&cost(other))) {
                    Some(target) => self.try_at(place, target, Duration::ZERO),
                    None => self.over(place),
                }
            }
        }
    }

    fn go(&mut self, place: usize, candidate: Candidate, mut held: Held, wait: Duration) {
        held.sent();
        let target = self.places[&candidate.target.target.provider.id];
        if let Some(job) = &mut self.jobs[place] {
            job.attempt = Some((target, Some((candidate, held))));
        }
        self.at(self.now + micros(wait), Event::Begin { job: place });
    }

    fn try_at(&mut self, place: usize, target: usize, wait: Duration) {
        if let Some(job) = &mut self.jobs[place] {
            job.tried.push(target);
            job.attempt = Some((target, None));
        }
        self.at(self.now + micros(wait), Event::Begin { job: place });
    }

    fn begin(&mut self, place: usize) {
        let now = self.now;
        let Some(job) = &mut self.jobs[place] else { return };
        let Some((target, _)) = job.attempt else { return };
        self.outcome.tries += u64::from(now >= self.since);
        job.begun = now;
        // The oracle knows what chance brings.
        let chance = self.way != Way::Oracle;
        let answer = self.world.answer(&mut self.state, target, now, job.output, chance, &mut self.dice);
        let end = now + answer.total;
        job.answer = Some(answer);
        self.at(end, Event::End { job: place });
    }

    fn end(&mut self, place: usize) {
        let now = self.moment();
        let Some(job) = &mut self.jobs[place] else { return };
        let (Some(answer), Some((target, held))) = (job.answer.take(), job.attempt.take()) else { return };
        let usage = Usage { input: job.input, output: job.output, ..Usage::default() };
        let Some((candidate, mut held)) = held else {
            if answer.fault.is_some() {
                return self.advance(place);
            }
            let real = &self.world.real[target];
            self.outcome.cost += ((usage.input as f64 * real.input + usage.output as f64 * real.output) * 1e3) as u64;
            return self.well(place, answer.first);
        };
        held.learn(now.mono, answer.said, None);
        let Some(plan) = &mut job.plan else { return };
        match answer.fault {
            Some(fault) => {
                exchange::attribute(&mut held, &fault, now, plan);
                drop(held);
                let more = plan.failed(fault, now, self.dice.u64(..));
                if more { self.advance(place) } else { self.over(place) }
            }
            None => {
                let answered = Answered {
                    first_us: answer.first,
                    total_us: answer.total,
                    input: usage.input,
                    output: usage.output,
                    cached: 0,
                };
                held.worked(now.mono, &answered);
                held.used(usage.total());
                candidate.model.usual.add(now.mono, usage.output as f32);
                drop(held);
                self.outcome.cost += candidate.target.price.as_ref().map_or(0, |price| price.cost(&usage));
                self.well(place, answer.first);
            }
        }
        self.look();
    }

    fn well(&mut self, place: usize, first: u64) {
        if let Some(job) = &self.jobs[place] {
            self.outcome.firsts.push(job.begun + first - job.arrived);
            self.outcome.answered += 1;
            self.tenants[job.tenant].1 += 1;
        }
        self.over(place);
    }

    fn over(&mut self, place: usize) {
        if let Some(ticket) = self.jobs[place].take().and_then(|job| job.ticket) {
            self.queue.leave(ticket);
        }
        self.free.push(place);
    }

    /// A place in the line, as the data plane takes one.
    fn wait(&mut self, place: usize) {
        let (now, rules) = (self.now, self.rules);
        let Some(job) = &mut self.jobs[place] else { return };
        let Some(plan) = job.plan.as_ref().filter(|_| job.ticket.is_none()) else { return };
        let key = &self.keys[job.tenant];
        let arrival = Arrival {
            tenant: &key.id,
            weight: key.weight,
            urgency: Urgency::Normal,
            cost: plan.tokens(),
            now,
            deadline: plan.deadline,
        };
        match self.queue.push(&rules, &arrival, place) {
            Ok((ticket, pushed_out)) => {
                job.ticket = Some(ticket);
                self.at(now + micros(rules.wait), Event::Expire { job: place, ticket });
                if let Some(other) = pushed_out {
                    if let Some(job) = &mut self.jobs[other] {
                        job.ticket = None;
                    }
                    self.over(other);
                }
            }
            Err(_) => self.over(place),
        }
    }

    /// Those whose turn it is go, as far as there is room.
    fn look(&mut self) {
        let now = self.moment();
        while let Some((ticket, place)) = self.queue.first().map(|(ticket, place)| (ticket, *place)) {
            let dice = &mut self.dice;
            let Some(plan) = self.jobs[place].as_mut().and_then(|job| job.plan.as_mut()) else { return };
            match plan.next(now, &mut || dice.u64(..)) {
                Step::Try { candidate, held, wait } => {
                    self.queue.serve(ticket, now.mono);
                    if let Some(job) = &mut self.jobs[place] {
                        job.ticket = None;
                    }
                    self.go(place, candidate, held, wait);
                }
                Step::Wait { until } => {
                    self.look_at(until);
                    return;
                }
                Step::Over(_) => self.over(place),
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
