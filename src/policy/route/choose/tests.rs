//! Choices, against what each strategy promises.

use std::time::Duration;

use super::super::{Answered, Cooling};
use super::*;
use crate::policy::price::Rates;

const SECOND: u64 = 1_000_000;

/// A target of a test.
struct Made {
    vitals: Vitals,
    price: Option<Price>,
    weight: u32,
    tier: u32,
    open: bool,
}

fn made(weight: u32) -> Made {
    Made { vitals: Vitals::default(), price: None, weight, tier: 0, open: true }
}

fn priced(input: u64, output: u64) -> Made {
    let rates = Rates { input: input * 1_000_000_000, output: output * 1_000_000_000, ..Rates::default() };
    let rates = Rates { cached: rates.input / 10, ..rates };
    Made { price: Some(Price { rates, ..Price::default() }), ..made(1) }
}

fn slow(first_ms: u64) -> Made {
    let made = made(1);
    let answered = Answered { first_us: first_ms * 1_000, total_us: first_ms * 4_000, ..Answered::default() };
    made.vitals.succeeded(SECOND, &answered);
    made
}

fn pick(strategy: Strategy, ask: &Ask, targets: &[Made], random: &mut dyn FnMut() -> u64) -> Option<usize> {
    let shares = Shares::new(targets.iter().map(|target| target.weight));
    let entry = |place: usize| {
        let target = targets.get(place)?;
        let Made { vitals, weight, tier, open, price } = target;
        let salt = affinity::Hash::default().with(&place.to_le_bytes()).finish();
        open.then_some(Entry { vitals, price: price.as_ref(), weight: *weight, tier: *tier, salt })
    };
    let rules = Rules { strategy, ..Rules::default() };
    choose(&rules, ask, &shares, entry, random).map(|chosen| chosen.place)
}

/// How often each was chosen of so many times.
fn counts(strategy: Strategy, ask: &Ask, targets: &[Made], times: u32) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; targets.len()];
    for _ in 0..times {
        counts[pick(strategy, ask, targets, &mut || rng.u64(..)).unwrap()] += 1;
    }
    counts
}

#[test]
fn every_strategy_finds_the_only_one_left_and_nothing_where_none_is() {
    for strategy in Strategy::ALL {
        for many in [2, 10, 100] {
            let mut targets: Vec<_> = (0..many).map(|_| Made { open: false, ..made(1) }).collect();
            let mut rng = fastrand::Rng::with_seed(3);
            assert_eq!(pick(strategy, &Ask::default(), &targets, &mut || rng.u64(..)), None, "{strategy:?}");
            targets[many / 2].open = true;
            for _ in 0..50 {
                let found = pick(strategy, &Ask::default(), &targets, &mut || rng.u64(..));
                assert_eq!(found, Some(many / 2), "{strategy:?} of {many}");
            }
        }
    }
}

#[test]
fn shares_follow_weights_with_and_without_the_others() {
    let mut targets = vec![made(3), made(1), made(6)];
    let counts_of_three = counts(Strategy::Weighted, &Ask::default(), &targets, 40_000);
    assert!((11_500..12_500).contains(&counts_of_three[0]), "{counts_of_three:?}");
    assert!((3_700..4_300).contains(&counts_of_three[1]), "{counts_of_three:?}");
    targets[2].open = false;
    let counts_of_two = counts(Strategy::Weighted, &Ask::default(), &targets, 40_000);
    assert!((29_400..30_600).contains(&counts_of_two[0]), "{counts_of_two:?}");
}

#[test]
fn what_has_come_back_is_trusted_slowly() {
    let targets = vec![made(1), made(1)];
    let rule = Cooling { failures: 1, pause: Duration::from_secs(1) };
    targets[0].vitals.breaker.failed(SECOND, rule, None);
    targets[0].vitals.breaker.succeeded(3 * SECOND);
    for strategy in [Strategy::Weighted, Strategy::Priority, Strategy::LeastBusy, Strategy::LowestCost] {
        let share = |now: u64| counts(strategy, &Ask { now: now * SECOND, ..Ask::default() }, &targets, 10_000)[0];
        let (soon, later, at_last) = (share(3), share(8), share(14));
        assert!((300..1_300).contains(&soon), "{strategy:?} {soon}");
        assert!((2_200..3_900).contains(&later), "{strategy:?} {later}");
        assert!((4_700..5_300).contains(&at_last), "{strategy:?} {at_last}");
    }
}

#[test]
fn tiers_come_in_order_and_spill_over() {
    let mut targets =
        vec![Made { tier: 2, ..made(1) }, Made { tier: 1, ..made(1) }, Made { tier: 1, ..made(3) }, made(1)];
    targets[3].open = false;
    let first = counts(Strategy::Priority, &Ask::default(), &targets, 10_000);
    assert_eq!(first[0], 0);
    assert!((2_300..2_700).contains(&first[1]), "{first:?}");
    targets[1].open = false;
    targets[2].open = false;
    assert_eq!(counts(Strategy::Priority, &Ask::default(), &targets, 10), [10, 0, 0, 0]);
}

#[test]
fn cost_is_that_of_this_request() {
    // Cheap to read and dear to write, and the other way round.
    let targets = vec![priced(1, 20), priced(5, 5), made(1)];
    let ask = |input, output: u16| Ask { input, output: output.into(), now: 1, ..Ask::default() };
    let mut random = || 1;
    assert_eq!(pick(Strategy::LowestCost, &ask(100_000, 100), &targets, &mut random), Some(0));
    assert_eq!(pick(Strategy::LowestCost, &ask(100, 400), &targets, &mut random), Some(1));
    // A warm cache makes the other one cheaper.
    let warm = Answered { input: 1_000, cached: 1_000, total_us: 1, ..Answered::default() };
    targets[1].vitals.succeeded(1, &warm);
    assert_eq!(pick(Strategy::LowestCost, &ask(100_000, 100), &targets, &mut random), Some(1));
    // Equal prices share.
    let equal = vec![priced(1, 1), priced(1, 1)];
    let shared = counts(Strategy::LowestCost, &ask(10, 10), &equal, 1_000);
    assert!(shared.iter().all(|count| *count > 400), "{shared:?}");
}

#[test]
fn latency_is_measured_explored_and_forgotten() {
    let mut targets = vec![slow(900), slow(300), slow(600)];
    let at = |seconds: u64| Ask { stream: true, now: seconds * SECOND, ..Ask::default() };
    assert_eq!(counts(Strategy::LowestLatency, &at(1), &targets, 50), [0, 50, 0]);
    // Among equals, the less busy one.
    targets[2] = slow(305);
    targets[1].vitals.begin();
    assert_eq!(counts(Strategy::LowestLatency, &at(1), &targets, 50), [0, 0, 50]);
    // One that nobody knows is tried, but not by everyone at once.
    targets.push(made(1));
    assert_eq!(counts(Strategy::LowestLatency, &at(1), &targets, 50), [0, 0, 0, 50]);
    for _ in 0..4 {
        targets[3].vitals.begin();
    }
    assert_eq!(counts(Strategy::LowestLatency, &at(1), &targets, 50), [0, 0, 50, 0]);
    // The slow one is tried again after a while in which only the others were.
    let quick = Answered { first_us: 300_000, total_us: 1_200_000, ..Answered::default() };
    for place in [1, 2, 3] {
        targets[place].vitals.succeeded(120 * SECOND, &quick);
    }
    assert_eq!(counts(Strategy::LowestLatency, &at(121), &targets, 50), [50, 0, 0, 0]);
}

#[test]
fn many_are_sampled_and_the_good_ones_still_win() {
    let targets: Vec<_> = (0..200).map(|n| slow(if n % 2 == 0 { 2_000 } else { 200 })).collect();
    let counts = counts(Strategy::LowestLatency, &Ask { stream: true, now: SECOND, ..Ask::default() }, &targets, 5_000);
    let slow: u32 = counts.iter().step_by(2).sum();
    assert!(slow < 100, "{slow} of 5,000 to the slow half");
}

#[test]
fn the_least_busy_is_so_for_its_weight() {
    let targets = vec![made(1), made(4)];
    for _ in 0..3 {
        targets[1].vitals.begin();
    }
    targets[0].vitals.begin();
    assert_eq!(pick(Strategy::LeastBusy, &Ask::default(), &targets, &mut || 0), Some(1));
    for _ in 0..6 {
        targets[1].vitals.begin();
    }
    assert_eq!(pick(Strategy::LeastBusy, &Ask::default(), &targets, &mut || 0), Some(0));
}

#[test]
fn balance_weighs_price_time_and_success() {
    let with = |input, first_ms: u64| {
        let made = priced(input, input);
        let answered = Answered { first_us: first_ms * 1_000, total_us: 1, ..Answered::default() };
        made.vitals.succeeded(SECOND, &answered);
        made
    };
    let ask = Ask { stream: true, input: 1_000, output: 100.0, now: SECOND, ..Ask::default() };
    let best = |targets: &[Made]| pick(Strategy::Balanced, &ask, targets, &mut || 1);
    assert_eq!(best(&[with(2, 400), with(1, 800)]), Some(1), "half the price for twice the time");
    assert_eq!(best(&[with(10, 100), with(9, 3_000)]), Some(0), "a tenth for thirty times the time");
    let failing = with(1, 400);
    for _ in 0..8 {
        failing.vitals.failed(SECOND);
    }
    assert_eq!(best(&[with(2, 400), failing]), Some(0), "half the price, and a third fails");
    assert_eq!(best(&[with(2, 400), made(1)]), Some(0), "no price is not a low one");
}

#[test]
fn calls_stick_to_a_target_and_come_back_to_it() {
    let mut targets: Vec<_> = (0..5).map(|_| made(1)).collect();
    let of =
        |user: u64| Ask { affinity: affinity::Hash::default().with(&user.to_le_bytes()).finish(), ..Ask::default() };
    let mut rng = fastrand::Rng::with_seed(1);
    let own = pick(Strategy::Sticky, &of(1), &targets, &mut || rng.u64(..)).unwrap();
    for _ in 0..20 {
        assert_eq!(pick(Strategy::Sticky, &of(1), &targets, &mut || rng.u64(..)), Some(own));
    }
    targets[own].open = false;
    let other = pick(Strategy::Sticky, &of(1), &targets, &mut || rng.u64(..)).unwrap();
    assert_ne!(own, other);
    targets[own].open = true;
    assert_eq!(pick(Strategy::Sticky, &of(1), &targets, &mut || rng.u64(..)), Some(own));
    let used: std::collections::HashSet<_> =
        (0..50).filter_map(|user| pick(Strategy::Sticky, &of(user), &targets, &mut || 0)).collect();
    assert_eq!(used.len(), 5, "users spread");
}
