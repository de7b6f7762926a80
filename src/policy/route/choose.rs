//! One choice among targets that can take a call.
//!
//! Whoever asks hands in a look at each target by its place, and nothing where the target is out of the question; no list
//! is made and nothing is sorted, so that a choice among a thousand allocates no more than one among two. Where the best
//! must be found all are looked at; where good ones will do, a few at random are (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 2001).

use super::affinity;
use super::{Rules, Strategy, Vitals, Weights};
use crate::policy::price::Price;

/// Draws by weight before all are looked at: most targets can take a call most of the time.
const DRAWS: u32 = 4;
/// As many are all looked at; of more, a few.
const FEW: usize = 16;
/// How many are looked at of many.
const SAMPLE: usize = 8;
/// Latencies that differ by less are the same.
const SAME: f32 = 0.05;
/// What a call costs where nobody knows the price, in nano-dollars: unknown is never cheap.
const UNPRICED: f32 = 1e9;
/// Added to a latency, in seconds: below it no difference is worth money.
const INSTANT: f32 = 0.05;

/// One target, as far as a choice goes by it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'t> {
    pub vitals: &'t Vitals,
    /// `None`: unknown.
    pub price: Option<&'t Price>,
    pub weight: u32,
    /// Of `priority`: lower first. Of `nearest`: the distance.
    pub tier: u32,
    /// Tells it from others where calls stick.
    pub salt: u64,
}

/// The call, as far as a choice goes by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    pub stream: bool,
    /// Estimated tokens.
    pub input: u64,
    /// Expected tokens of its answer.
    pub output: f32,
    /// What it has in common with the calls that it sticks to.
    pub affinity: u64,
    /// Monotonic microseconds.
    pub now: u64,
}

/// What was chosen, and by what figure of its strategy: dollars, seconds, calls under way, or a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    pub place: usize,
    pub score: f32,
}

/// The weights of targets, summed up from the first on, so that a draw is a search.
#[derive(Clone, Debug, Default)]
pub struct Shares(Box<[u64]>);

impl Shares {
    pub fn new(weights: impl Iterator<Item = u32>) -> Shares {
        let summed = weights.scan(0u64, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        });
        Shares(summed.collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of a uniform number; nothing where all weights are 0.
    fn at(&self, random: u64) -> Option<usize> {
        let sum = self.0.last().copied().unwrap_or(0);
        let drawn = random.checked_rem(sum)?;
        Some(self.0.partition_point(|end| *end <= drawn))
    }
}

/// Chooses one; nothing where none can take the call.
///
/// `entry` gives the target of a place below `shares.len()`, or nothing where it is not to be chosen. `random` yields
/// uniform 64-bit numbers.
pub fn choose<'t>(
    rules: &Rules,
    ask: &Ask,
    shares: &Shares,
    entry: impl Fn(usize) -> Option<Entry<'t>>,
    random: &mut dyn FnMut() -> u64,
) -> Option<Chosen> {
    if shares.len() == 1 {
        return entry(0).map(|_| Chosen { place: 0, score: 0.0 });
    }
    let now = ask.now;
    let all = usize::MAX;
    let by = |entry: &Entry<'_>| figure(rules, ask, entry).unwrap_or(0.0);
    match rules.strategy {
        Strategy::Weighted => {
            for _ in 0..DRAWS {
                let Some(place) = shares.at(random()) else { break };
                if entry(place).is_some_and(|entry| trusted(&entry, now, random)) {
                    return Some(Chosen { place, score: 0.0 });
                }
            }
            drawn(shares.len(), now, entry, random, |_| 0)
        }
        Strategy::Priority | Strategy::Nearest => drawn(shares.len(), now, entry, random, |entry| entry.tier),
        Strategy::LowestCost => least(shares.len(), all, now, 0.0, entry, random, by),
        Strategy::LowestLatency => least(shares.len(), SAMPLE, now, SAME, entry, random, by),
        Strategy::LeastBusy => least(shares.len(), 2, now, 0.0, entry, random, by),
        Strategy::Balanced => least(shares.len(), SAMPLE, now, 0.0, entry, random, by),
        Strategy::Sticky => least(shares.len(), all, now, 0.0, entry, random, by),
    }
}

/// A strategy's figure for a target, the least is best: dollars, seconds, calls under way, a score, a tier; nothing where
/// it goes by weight alone.
pub fn figure(rules: &Rules, ask: &Ask, entry: &Entry<'_>) -> Option<f32> {
    Some(match rules.strategy {
        Strategy::Weighted => return None,
        Strategy::Priority | Strategy::Nearest => entry.tier as f32,
        Strategy::LowestCost => cost(entry, ask).map_or(f32::INFINITY, |nano| nano / 1e9),
        Strategy::LowestLatency => entry.vitals.latency(ask.stream, ask.now),
        Strategy::LeastBusy => (entry.vitals.in_flight() + 1) as f32 / entry.weight.max(1) as f32,
        Strategy::Balanced => balance(entry, ask, &rules.weights),
        Strategy::Sticky => -affinity::pull(ask.affinity, entry.salt, entry.weight),
    })
}

/// By weight, among those of the lowest tier.
fn drawn<'t>(
    count: usize,
    now: u64,
    entry: impl Fn(usize) -> Option<Entry<'t>>,
    random: &mut dyn FnMut() -> u64,
    tier: impl Fn(&Entry<'_>) -> u32,
) -> Option<Chosen> {
    let (mut lowest, mut sum, mut found) = (u32::MAX, 0u64, None);
    for place in 0..count {
        let Some(entry) = entry(place) else { continue };
        let tier = tier(&entry);
        if tier > lowest {
            continue;
        }
        if tier < lowest {
            (lowest, sum, found) = (tier, 0, None);
        }
        let share = (f64::from(entry.weight) * f64::from(entry.vitals.breaker.ramp(now)) * 1e3) as u64;
        sum += share;
        // Each takes the place of those before it with its own part of the sum so far.
        if found.is_none() || (share != 0 && random() % sum < share) {
            found = Some(place);
        }
    }
    found.map(|place| Chosen { place, score: lowest as f32 })
}

/// The one with the least figure; among those that differ by no more than a part of `near`, the one with the fewest calls
/// under way; among those, any.
fn least<'t>(
    count: usize,
    sample: usize,
    now: u64,
    near: f32,
    entry: impl Fn(usize) -> Option<Entry<'t>>,
    random: &mut dyn FnMut() -> u64,
    figure: impl Fn(&Entry<'_>) -> f32,
) -> Option<Chosen> {
    // The best so far, and the best of those that are still to win trust.
    let (mut best, mut doubted): (Option<Best>, Option<Best>) = (None, None);
    let mut look = |place: usize, random: &mut dyn FnMut() -> u64| {
        let Some(entry) = entry(place) else { return };
        let new = Best { place, figure: figure(&entry), busy: entry.vitals.in_flight(), equals: 1 };
        let rank = if trusted(&entry, now, random) { &mut best } else { &mut doubted };
        match rank {
            None => *rank = Some(new),
            Some(old) => old.against(new, near, random),
        }
    };
    if count <= FEW || sample >= count {
        for place in 0..count {
            look(place, random);
        }
    } else {
        for _ in 0..sample {
            let place = usize::try_from(random() % count as u64).unwrap_or(0);
            look(place, random);
        }
    }
    let found = best.or(doubted);
    if found.is_none() && count > FEW && sample < count {
        // None of those few can take it: any that can will do.
        let start = usize::try_from(random() % count as u64).unwrap_or(0);
        let place = (0..count).map(|step| (start + step) % count).find(|place| entry(*place).is_some())?;
        let score = entry(place).map_or(0.0, |entry| figure(&entry));
        return Some(Chosen { place, score });
    }
    found.map(|best| Chosen { place: best.place, score: best.figure })
}

struct Best {
    place: usize,
    figure: f32,
    busy: u32,
    equals: u64,
}

impl Best {
    fn against(&mut self, new: Best, near: f32, random: &mut dyn FnMut() -> u64) {
        let apart = (self.figure - new.figure).abs();
        // Two infinities are not apart, and their difference is no number.
        let same = self.figure == new.figure || apart <= near * self.figure.abs().min(new.figure.abs());
        if !same {
            if new.figure < self.figure {
                *self = new;
            }
        } else if new.busy < self.busy {
            *self = new;
        } else if new.busy == self.busy {
            self.equals += 1;
            if random().is_multiple_of(self.equals) {
                *self = Best { equals: self.equals, ..new };
            }
        }
    }
}

/// Whether a target that has just come back gets this call.
fn trusted(entry: &Entry<'_>, now: u64, random: &mut dyn FnMut() -> u64) -> bool {
    let ramp = entry.vitals.breaker.ramp(now);
    ramp >= 1.0 || ((random() >> 40) as f32) < ramp * (1u32 << 24) as f32
}

/// Expected cost of the call in nano-dollars.
fn cost(entry: &Entry<'_>, ask: &Ask) -> Option<f32> {
    let price = entry.price?;
    Some(price.expected(ask.input as f32, entry.vitals.cached(), ask.output))
}

/// The logarithm of cost x latency / success, each to its power.
fn balance(entry: &Entry<'_>, ask: &Ask, weights: &Weights) -> f32 {
    let cost = cost(entry, ask).unwrap_or(UNPRICED).max(1.0);
    let latency = entry.vitals.latency(ask.stream, ask.now) + INSTANT;
    let success = entry.vitals.success(ask.now).max(0.01);
    weights.cost * cost.ln() + weights.latency * latency.ln() - weights.success * success.ln()
}

#[cfg(test)]
mod tests;
