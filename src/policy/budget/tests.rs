use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400_000;

fn window(period: Period) -> Window {
    Window { period, zone: TimeZone::UTC, zone_name: "UTC".to_owned() }
}

fn unread(kind: &'static str, period: Period, limit: Nano) -> Budget {
    let level = Level { kind, id: "x".to_owned() };
    Budget {
        limit,
        written: "9 USD".to_owned(),
        hard: true,
        alerts: Arc::default(),
        degrade: None,
        spending: Arc::new(Spending::new(level, window(period))),
        prepaid: None,
    }
}

fn budget(kind: &'static str, period: Period, limit: Nano) -> Budget {
    let budget = unread(kind, period, limit);
    budget.spending.begin(budget.spending.window().span(0), 0, 0, 0);
    budget
}

fn take(budget: &Budget, at: u64, most: Nano) -> Result<Reservation, Box<Short>> {
    reserve(std::iter::once(budget), at, most).map(Option::unwrap)
}

#[test]
fn a_budget_for_n_calls_admits_n() {
    let budget = budget("key", Period::Month, 500);
    for call in 0..50 {
        take(&budget, call, 10).unwrap().settle(10);
    }
    let short = take(&budget, 50, 10).unwrap_err();
    assert_eq!(short.why, Why::Spent);
    assert_eq!(
        short.to_string(),
        "The monthly budget of the key `x` (9 USD) is spent. It begins anew on 1970-02-01 00:00 UTC."
    );
    assert!(take(&budget, 31 * DAY, 10).is_ok(), "the next month");
    assert_eq!(take(&self::budget("key", Period::Total, 0), 1, 0).unwrap_err().anew, None);
}

#[test]
fn what_is_under_way_is_reserved_and_comes_back() {
    let budget = budget("key", Period::Day, 100);
    let hold = take(&budget, 1, 60).unwrap();
    assert_eq!(take(&budget, 2, 60).unwrap_err().why, Why::Reserved);
    assert_eq!(take(&budget, 2, 101).unwrap_err().why, Why::TooDear { most: 101, left: 100 });
    hold.settle(30);
    let mut sent = take(&budget, 3, 60).unwrap();
    drop(take(&budget, 3, 10).unwrap());
    assert_eq!(budget.figures(3), Figures { own: 30, others: 0, held: 60, under_way: 1 });
    sent.dispatched();
    drop(sent);
    assert_eq!(budget.figures(3), Figures { own: 90, others: 0, held: 0, under_way: 0 }, "nobody knows what it cost");
}

#[test]
fn a_refused_call_is_in_no_budget() {
    let (inner, outer) = (budget("key", Period::Day, 100), budget("organisation", Period::Total, 5));
    let short = reserve([&inner, &outer].into_iter(), 1, 6).unwrap_err();
    assert_eq!((short.level.kind, short.period), ("organisation", Period::Total));
    assert_eq!(inner.figures(1), Figures::default());
    assert!(reserve([&inner, &outer].into_iter(), 1, 5).is_ok());
    assert!(reserve(std::iter::empty(), 1, 5).unwrap().is_none());
}

#[test]
fn a_soft_budget_counts_and_refuses_nothing() {
    let soft = Budget { hard: false, ..budget("team", Period::Week, 10) };
    take(&soft, 1, 50).unwrap().settle(40);
    take(&soft, 1, 50).unwrap().settle(40);
    assert_eq!(soft.figures(1).spent(), 80);
}

#[test]
fn what_was_spent_before_must_be_known() {
    let hard = unread("key", Period::Day, 100);
    assert_eq!(take(&hard, 5, 1).unwrap_err().why, Why::Unknown);
    let soft = Budget { hard: false, ..unread("key", Period::Day, 100) };
    assert!(reserve(std::iter::once(&soft), 5, 1).unwrap().is_none());
    hard.spending.begin(hard.spending.window().span(5), 99, 5, 5);
    assert!(take(&hard, 5, 2).is_err() && take(&hard, 5, 1).is_ok());
}

#[test]
fn an_attempt_counts_where_it_began_and_a_clock_put_back_forgets_nothing() {
    let budget = budget("key", Period::Day, 100);
    let late = take(&budget, DAY - 1, 90).unwrap();
    assert!(take(&budget, DAY, 90).is_ok(), "another day");
    late.settle(80);
    assert_eq!((budget.figures(DAY).spent(), budget.figures(DAY - 1).spent()), (0, 80));
    assert!(take(&budget, DAY - 5, 21).is_err(), "the clock was put back");
    for day in 2..9 {
        take(&budget, day * DAY, 7).unwrap().settle(7);
    }
    assert_eq!(budget.figures(8 * DAY).spent(), 7);
}

#[test]
fn the_ledger_tells_what_others_spent() {
    let budget = budget("key", Period::Day, 100);
    let spending = &budget.spending;
    let mark = spending.mark(1);
    take(&budget, 1, 10).unwrap().settle(10);
    assert_eq!(spending.learn(mark, 30, 999), 0, "changed meanwhile: only the others' part is taken");
    assert_eq!(budget.figures(1).spent(), 40);
    let mark = spending.mark(1);
    assert_eq!(spending.learn(mark, 30, 45), -5, "an attempt of ours that was not counted");
    assert_eq!(budget.figures(1).spent(), 45);
    let hold = take(&budget, 1, 10).unwrap();
    let mark = spending.mark(1);
    assert_eq!((mark.quiet(), spending.learn(mark, 31, 0)), (false, 0));
    drop(hold);
    assert_eq!(budget.figures(1), Figures { own: 15, others: 31, held: 0, under_way: 0 });
}

#[test]
fn a_cheaper_model_comes_above_its_part() {
    let to = Box::from([("dear-*".to_owned(), "cheap".to_owned())]);
    let budget = Budget { degrade: Some(Degrade { above: 80, to }), ..budget("key", Period::Day, 100) };
    take(&budget, 1, 79).unwrap().settle(79);
    assert_eq!(budget.degraded("dear-1", 1), None);
    take(&budget, 1, 1).unwrap().settle(1);
    assert_eq!(budget.degraded("dear-1", 1), Some("cheap"));
    assert_eq!((budget.degraded("other", 1), budget.degraded("dear-1", DAY)), (None, None));
}

#[test]
fn many_at_once_take_no_more_than_there_is() {
    let (key, team) = (budget("key", Period::Month, 5_000), budget("team", Period::Total, u64::MAX));
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (key, team, admitted) = (&key, &team, &admitted);
            scope.spawn(move || {
                for call in 0..2_000u64 {
                    let Ok(Some(mut hold)) = reserve([key, team].into_iter(), call, 100) else { continue };
                    let figures = key.figures(call);
                    assert!(figures.spent() + figures.held <= 5_000);
                    match (thread + call) % 3 {
                        0 => drop(hold),
                        1 => hold.settle(0),
                        _ => {
                            hold.dispatched();
                            admitted.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(admitted.load(Relaxed), 50);
    assert_eq!(key.figures(0), Figures { own: 5_000, others: 0, held: 0, under_way: 0 });
    assert_eq!(team.figures(0), key.figures(0));
}

proptest! {
    /// Whatever is reserved, settled and dropped in whatever order: a budget is the plain sum of what its window's attempts
    /// cost, and of what those reserved that are under way.
    #[test]
    fn any_interleaving_is_a_plain_fold(
        steps in prop::collection::vec((0u64..(3 * DAY), 0u64..40, 0u64..60, 0usize..8, 0u8..4), 0..200),
        limit in 0u64..400,
    ) {
        let budget = budget("key", Period::Day, limit);
        let mut rows: Vec<(u64, Nano, Option<Reservation>)> = Vec::new();
        for (at, most, cost, which, step) in steps {
            match step {
                0 | 1 => if let Ok(hold) = take(&budget, at, most) {
                    let day = |other: &u64| other / DAY == at / DAY;
                    let spent: u64 = rows.iter().filter(|(other, ..)| day(other)).map(|(_, counts, _)| counts).sum();
                    prop_assert!(spent + most <= limit);
                    rows.push((at, most, Some(hold)));
                } else {
                    let day = |other: &u64| other / DAY == at / DAY;
                    let spent: u64 = rows.iter().filter(|(other, ..)| day(other)).map(|(_, counts, _)| counts).sum();
                    prop_assert!(spent + most > limit || spent >= limit, "refused for nothing");
                },
                2 => if let Some((_, counts, hold)) = rows.get_mut(which) && let Some(hold) = hold.take() {
                    *counts = cost;
                    hold.settle(cost);
                },
                _ => if let Some((_, counts, hold)) = rows.get_mut(which) && let Some(mut hold) = hold.take() {
                    if cost % 2 == 0 {
                        hold.dispatched();
                    } else {
                        *counts = 0;
                    }
                    drop(hold);
                },
            }
        }
        for day in 0..3 {
            let of_day = || rows.iter().filter(|(at, ..)| at / DAY == day);
            let (over, under): (Vec<_>, Vec<_>) = of_day().partition(|(.., hold)| hold.is_none());
            let figures = budget.figures(day * DAY);
            prop_assert_eq!(figures.spent(), over.iter().map(|(_, cost, _)| u128::from(*cost)).sum::<u128>());
            prop_assert_eq!(figures.held, under.iter().map(|(_, most, _)| u128::from(*most)).sum::<u128>());
        }
        rows.clear();
        prop_assert_eq!(budget.figures(0).held + budget.figures(DAY).held + budget.figures(2 * DAY).held, 0);
    }
}
