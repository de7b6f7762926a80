//! Ten providers of a made-up day, and how they answer.

use std::time::Duration;

use fastrand::Rng;
use portolan::ir::{Fault, FaultKind};
use portolan::policy::quota::Said;

const HOUR: f64 = 3_600e6;
/// The gateway's own patience with a provider that does not begin.
const PATIENCE: u64 = 10_000_000;

/// One provider.
pub struct Real {
    pub name: &'static str,
    /// Dollars for a million tokens.
    pub input: f64,
    pub output: f64,
    /// Median seconds to the first token.
    first: f64,
    /// Tokens a second after it.
    speed: f64,
    /// Requests a minute that it takes, and whether the operator knows.
    pub rpm: Option<(f64, bool)>,
    /// Hours from and to, and what happens in them.
    spells: Vec<(f64, f64, Spell)>,
    /// Part of the calls that fail at any time.
    errors: f64,
    pub region: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Spell {
    /// Connections are refused.
    Down,
    /// Errors, at once.
    Errors,
    /// It takes the request and says nothing.
    Silent,
    /// Times are so much longer.
    Slow(f64),
}

/// How an attempt goes.
pub struct Answer {
    pub fault: Option<Fault>,
    /// Microseconds to the first token, and to the end, of the answer or of the failure.
    pub first: u64,
    pub total: u64,
    /// What the provider says of its limit.
    pub said: Option<Said>,
}

pub struct World {
    pub real: Vec<Real>,
}

/// What changes in a world while it is called: each provider's own count of requests.
pub struct State {
    buckets: Vec<(f64, u64)>,
}

impl World {
    /// Ten providers of one model.
    pub fn day() -> World {
        let real = |name, input, output, first, speed| Real {
            name,
            input,
            output,
            first,
            speed,
            rpm: None,
            spells: Vec::new(),
            errors: 0.003,
            region: "eu",
        };
        let real = vec![
            // Cheapest, with room for half of the calls; the operator knows its limit.
            Real {
                rpm: Some((60.0, true)),
                spells: vec![(3.0, 3.7, Spell::Errors), (15.0, 15.5, Spell::Silent)],
                ..real("basement", 0.40, 1.60, 0.70, 70.0)
            },
            // Hardly dearer, and slow for three hours of the day.
            Real {
                spells: vec![(9.0, 12.0, Spell::Slow(5.0)), (20.0, 20.6, Spell::Down)],
                ..real("harbour", 0.42, 1.70, 0.80, 55.0)
            },
            // Its limit is known from its answers only.
            Real { rpm: Some((45.0, false)), errors: 0.01, ..real("market", 0.43, 1.75, 0.60, 80.0) },
            Real { spells: vec![(12.0, 12.4, Spell::Errors)], ..real("mill", 0.50, 2.00, 0.55, 90.0) },
            Real {
                spells: vec![(0.0, 24.0, Spell::Slow(1.5))],
                region: "us",
                ..real("prairie", 0.55, 2.10, 0.50, 60.0)
            },
            Real { errors: 0.15, ..real("gambler", 0.45, 1.80, 0.60, 70.0) },
            Real { spells: vec![(6.0, 18.0, Spell::Slow(2.0))], ..real("office", 0.70, 2.80, 0.45, 100.0) },
            Real { region: "us", ..real("coast", 0.90, 3.60, 0.35, 110.0) },
            Real { spells: vec![(15.0, 16.0, Spell::Down)], ..real("tower", 1.20, 4.80, 0.25, 140.0) },
            Real { errors: 0.0005, region: "us", ..real("palace", 2.50, 10.00, 0.22, 160.0) },
        ];
        World { real }
    }

    /// One narrow provider.
    pub fn narrow() -> World {
        let mut world = World::day();
        world.real.truncate(1);
        if let Some(real) = world.real.first_mut() {
            (real.rpm, real.errors) = (None, 0.0);
            real.spells.clear();
        }
        world
    }

    /// All providers of the day, and none of them works.
    pub fn dark() -> World {
        let mut world = World::day();
        for (place, real) in world.real.iter_mut().enumerate() {
            real.rpm = None;
            real.spells = vec![(0.0, 24.0, if place % 2 == 0 { Spell::Errors } else { Spell::Down })];
        }
        world
    }

    pub fn state(&self) -> State {
        State { buckets: self.real.iter().map(|real| (real.rpm.map_or(0.0, |(rpm, _)| rpm), 0)).collect() }
    }

    /// Whether a call that begins now would be answered, but for chance.
    pub fn is_well(&self, state: &mut State, place: usize, now: u64) -> bool {
        let real = &self.real[place];
        let ill = matches!(self.spell(place, now), Some(Spell::Down | Spell::Errors | Spell::Silent));
        !ill && (real.rpm.is_none() || state.flow(real, place, now) >= 1.0)
    }

    /// An attempt that begins now; `chance`: also what fails at any time may.
    pub fn answer(
        &self,
        state: &mut State,
        place: usize,
        now: u64,
        output: u64,
        chance: bool,
        dice: &mut Rng,
    ) -> Answer {
        let real = &self.real[place];
        let spell = self.spell(place, now);
        let failed = |kind, status, total: u64| {
            let mut fault = Fault::new(kind, "scripted");
            fault.status = status;
            Answer { fault: Some(fault), first: 0, total, said: None }
        };
        match spell {
            Some(Spell::Down) => return failed(FaultKind::Connect, None, 40_000),
            Some(Spell::Errors) => return failed(FaultKind::Server, Some(500), 150_000),
            Some(Spell::Silent) => return failed(FaultKind::Timeout, None, PATIENCE),
            _ => {}
        }
        let mut said = None;
        if let Some((rpm, _)) = real.rpm {
            if state.flow(real, place, now) < 1.0 {
                let mut answer = failed(FaultKind::RateLimited, Some(429), 60_000);
                let wait = Duration::from_secs_f64(60.0 / rpm);
                answer.fault = answer.fault.map(|fault| Fault { retry_after: Some(wait), ..fault });
                return answer;
            }
            let left = &mut state.buckets[place].0;
            *left -= 1.0;
            let (limit, remaining) = (rpm as u64, *left as u64);
            let reset = Duration::from_secs_f64((rpm - *left) * 60.0 / rpm);
            said = Some(Said { limit: Some(limit), remaining, reset });
        }
        if chance && dice.f64() < real.errors {
            return Answer { said, ..failed(FaultKind::Server, Some(502), 300_000) };
        }
        let factor = if let Some(Spell::Slow(factor)) = spell { factor } else { 1.0 };
        // The logarithm of times is normal: the sum of dice comes near enough.
        let normal = (0..12).map(|_| dice.f64()).sum::<f64>() - 6.0;
        let first = real.first * factor * (normal * 0.4).exp();
        let total = first + output as f64 / real.speed * factor;
        Answer { fault: None, first: (first * 1e6) as u64, total: (total * 1e6) as u64, said }
    }

    fn spell(&self, place: usize, now: u64) -> Option<Spell> {
        let hour = now as f64 / HOUR;
        let found = self.real[place].spells.iter().find(|(from, to, _)| (*from..*to).contains(&hour));
        found.map(|(_, _, spell)| *spell)
    }
}

impl State {
    /// Requests that the provider takes now.
    fn flow(&mut self, real: &Real, place: usize, now: u64) -> f64 {
        let (left, at) = &mut self.buckets[place];
        if let Some((rpm, _)) = real.rpm {
            *left = (*left + now.saturating_sub(*at) as f64 * rpm / 60e6).min(rpm);
            *at = now.max(*at);
        }
        *left
    }
}
