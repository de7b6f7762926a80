use std::collections::VecDeque;
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn limit(of: Of, most: u64, per: Per, by: By) -> Limit {
    let state = Arc::new(State::new(per, &by));
    Limit { of, most, per, by, elastic: None, state }
}

fn requests(most: u64, per: Per, by: By) -> Limit {
    limit(Of::Requests, most, per, by)
}

fn at(mono: u64) -> At {
    At { now: Moment { mono, unix_ms: 1_795_219_200_000 + mono / 1_000 }, load: 10 }
}

fn asks(n: u64) -> Ask {
    Ask { requests: n, ..Ask::default() }
}

fn one(limit: &Limit, n: u64, mono: u64) -> Result<Box<[Part]>, Refused> {
    take(std::iter::once(limit), &asks(n), at(mono))
}

/// All ways to count so many in a time.
fn ways(most: u64) -> [By; 3] {
    [By::SlidingWindow, By::TokenBucket { burst: most }, By::FixedWindow { zone: TimeZone::UTC }]
}

#[test]
fn as_many_as_the_limit_and_then_the_truth() {
    for by in ways(6) {
        let limit = requests(6, Per::Minute, by);
        // The second half of a calendar's minute.
        let now = 40 * SECOND;
        for n in 0..6 {
            assert_eq!(limit.standing(at(now)).remaining, 6 - n, "{limit:?}");
            one(&limit, 1, now).unwrap();
        }
        let Err(Refused { place: 0, wait: Wait::Micros(wait) }) = one(&limit, 1, now) else { panic!("{limit:?}") };
        let standing = limit.standing(at(now));
        assert_eq!((standing.limit, standing.remaining), (6, 0), "{limit:?}");
        assert!(standing.reset >= Duration::from_micros(wait) && standing.reset <= Duration::from_secs(61));
        one(&limit, 1, now + wait).unwrap();
        // And no sooner than it must be.
        let longest = match limit.by {
            By::TokenBucket { .. } => 10 * SECOND,
            By::FixedWindow { .. } => 20 * SECOND,
            _ => 61 * SECOND,
        };
        assert!(wait <= longest, "{limit:?}: {wait}");
    }
}

#[test]
fn more_than_a_limit_ever_lets_through_is_said_at_once() {
    for by in ways(6) {
        let limit = requests(6, Per::Minute, by);
        assert_eq!(one(&limit, 7, SECOND), Err(Refused { place: 0, wait: Wait::Never }));
        one(&limit, 6, SECOND).unwrap();
    }
    let burst = requests(60, Per::Minute, By::TokenBucket { burst: 2 });
    assert_eq!(one(&burst, 3, SECOND).unwrap_err().wait, Wait::Never);
    one(&burst, 2, SECOND).unwrap();
    assert_eq!(one(&burst, 1, SECOND).unwrap_err().wait, Wait::Micros(SECOND), "one a second flows in");
    assert_eq!(burst.standing(at(SECOND)).limit, 2);
}

#[test]
fn of_all_or_of_none_and_the_longest_wait_is_told() {
    let limits = [
        requests(2, Per::Second, By::SlidingWindow),
        requests(3, Per::Hour, By::FixedWindow { zone: TimeZone::UTC }),
        limit(Of::Concurrency, 9, Per::Second, By::AtOnce),
    ];
    let ask = Ask { requests: 1, concurrency: 1, ..Ask::default() };
    let left = |now| limits.iter().map(|limit| limit.standing(at(now)).remaining).collect::<Vec<_>>();
    take(limits.iter(), &ask, at(SECOND)).unwrap();
    take(limits.iter(), &ask, at(SECOND)).unwrap();
    assert_eq!(take(limits.iter(), &ask, at(SECOND)).unwrap_err().place, 0);
    assert_eq!(left(SECOND), [0, 1, 7], "a refusal takes nothing");
    take(limits.iter(), &ask, at(3 * SECOND)).unwrap();
    take(limits.iter(), &ask, at(3 * SECOND)).unwrap_err();
    let refused = take(limits.iter(), &ask, at(3 * SECOND)).unwrap_err();
    assert_eq!(
        (refused.place, refused.wait),
        (1, Wait::Micros(3_597 * SECOND)),
        "though the other limit is back sooner"
    );
    assert_eq!(left(3 * SECOND), [1, 0, 6]);
}

#[test]
fn an_estimate_is_put_right() {
    let tokens = |n| Ask { input_tokens: n, ..Ask::default() };
    for by in ways(100) {
        let limits = [limit(Of::Tokens, 100, Per::Minute, by)];
        let left = |now| limits[0].standing(at(now)).remaining;
        let mut parts = take(limits.iter(), &tokens(80), at(SECOND)).unwrap();
        assert!(take(limits.iter(), &tokens(30), at(SECOND)).is_err());
        settle(limits.iter(), &mut parts, |_| true, &tokens(20), at(2 * SECOND).now);
        // What flows into a bucket meanwhile is not lost.
        assert!((80..=82).contains(&left(2 * SECOND)), "{limits:?}");
        let mut more = take(limits.iter(), &tokens(80), at(2 * SECOND)).unwrap();
        settle(limits.iter(), &mut more, |_| true, &tokens(130), at(2 * SECOND).now);
        assert_eq!(left(2 * SECOND), 0, "used is used, {limits:?}");
        let Err(Refused { wait: Wait::Micros(wait), .. }) = take(limits.iter(), &tokens(1), at(2 * SECOND)) else {
            panic!("{limits:?}")
        };
        take(limits.iter(), &tokens(1), at(2 * SECOND + wait)).unwrap();
        // What is given back twice, or too late, is given back once, and not at all.
        settle(limits.iter(), &mut parts, |_| true, &tokens(20), at(3 * SECOND).now);
        let then = 400 * SECOND;
        take(limits.iter(), &tokens(50), at(then)).unwrap();
        settle(limits.iter(), &mut more, |_| true, &tokens(0), at(then).now);
        assert!(left(then) <= 50, "{limits:?}");
    }
}

#[test]
fn what_was_never_estimated_counts_when_it_is_known() {
    for by in ways(1_000) {
        let limits = [limit(Of::Spend, 1_000, Per::Day, by)];
        let mut parts = take(limits.iter(), &Ask::default(), at(SECOND)).unwrap();
        let spend = |spend| Ask { spend, ..Ask::default() };
        settle(limits.iter(), &mut parts, |_| true, &spend(400), at(SECOND).now);
        assert_eq!(limits[0].standing(at(SECOND)).remaining, 600, "{limits:?}");
        settle(limits.iter(), &mut parts, |_| true, &spend(300), at(SECOND).now);
        assert!(limits[0].standing(at(SECOND)).remaining <= 700, "{limits:?}");
    }
}

#[test]
fn calls_at_once_come_and_go() {
    let limits = [limit(Of::Concurrency, 2, Per::Second, By::AtOnce)];
    let ask = Ask { concurrency: 1, ..Ask::default() };
    let mut first = take(limits.iter(), &ask, at(1)).unwrap();
    take(limits.iter(), &ask, at(1)).unwrap();
    assert_eq!(take(limits.iter(), &ask, at(1)).unwrap_err().wait, Wait::Unknown);
    settle(limits.iter(), &mut first, |of| of == Of::Requests, &Ask::default(), at(1).now);
    assert!(take(limits.iter(), &ask, at(1)).is_err(), "not what was given back");
    for _ in 0..2 {
        settle(limits.iter(), &mut first, |of| of == Of::Concurrency, &Ask::default(), at(1).now);
    }
    take(limits.iter(), &ask, at(1)).unwrap();
    assert!(take(limits.iter(), &ask, at(1)).is_err(), "given back once");
    assert!(!limits[0].state.is_blank(at(9).now));
}

#[test]
fn who_may_borrow_is_the_first_to_go_without() {
    for by in ways(10) {
        let limit = Limit { elastic: Some(Elastic { most: 20, calls: 3 }), ..requests(10, Per::Minute, by) };
        let other = requests(10, Per::Minute, limit.by.clone());
        let idle = |load| At { load, ..at(SECOND) };
        let ask = |limit: &Limit, load| take(std::iter::once(limit), &asks(1), idle(load)).is_ok();
        let borrowed = (0..30).filter(|_| ask(&limit, 3)).count();
        assert_eq!(borrowed, 20, "{limit:?}");
        assert_eq!((0..5).filter(|_| ask(&other, 3)).count(), 5);
        // Under load what was borrowed counts, and who borrowed nothing goes on.
        assert!(!ask(&limit, 4) && ask(&other, 4));
        assert!(!ask(&limit, u64::MAX) && ask(&other, u64::MAX));
    }
}

#[test]
fn a_window_of_the_calendar_begins_where_the_calendar_says() {
    let berlin = TimeZone::posix(BERLIN).unwrap();
    let millis = |text: &str| u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap();
    // 23 hours, 25 hours, 24 hours.
    for (now, start, end) in [
        ("2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ("2026-11-21T23:30:00Z", "2026-11-21T23:00:00Z", "2026-11-22T23:00:00Z"),
    ] {
        let limit = requests(1, Per::Day, By::FixedWindow { zone: berlin.clone() });
        let ask = |unix_ms| take(std::iter::once(&limit), &asks(1), At { now: Moment { mono: 1, unix_ms }, load: 1 });
        ask(millis(now)).unwrap();
        let Err(Refused { wait: Wait::Micros(wait), .. }) = ask(millis(end) - 1) else { panic!("{limit:?}") };
        assert_eq!(wait, 1_000, "{now}");
        ask(millis(end)).unwrap();
        // The clock is put back: nothing is forgiven.
        assert!(ask(millis(start)).is_err() && ask(millis(start) - 86_400_000).is_err(), "{now}");
        assert!(ask(millis(start)).is_ok(), "and a day later all is well again");
    }
    let nepal = TimeZone::fixed(jiff::tz::Offset::from_seconds(5 * 3_600 + 45 * 60).unwrap());
    let limit = requests(1, Per::Hour, By::FixedWindow { zone: nepal });
    let now = Moment { mono: 1, unix_ms: millis("2026-11-21T12:14:59Z") };
    take(std::iter::once(&limit), &asks(1), At { now, load: 1 }).unwrap();
    assert_eq!(limit.standing(At { now, load: 1 }).reset, Duration::from_secs(1));
}

#[test]
fn states_are_blank_when_nothing_of_them_counts() {
    for by in ways(5) {
        let limit = requests(5, Per::Minute, by);
        one(&limit, 5, SECOND).unwrap();
        assert!(!limit.state.is_blank(at(2 * SECOND).now), "{limit:?}");
        assert!(limit.state.is_blank(at(200 * SECOND).now), "{limit:?}");
    }
}

#[test]
fn limits_say_what_they_are() {
    let told = |limit: &Limit| (limit.name(), limit.words());
    let both = |name: &str, words: &str| (name.to_owned(), words.to_owned());
    assert_eq!(
        told(&requests(60, Per::Minute, By::SlidingWindow)),
        both("requests_per_minute", "60 requests a minute")
    );
    let spend = limit(Of::Spend, 2_500_000_000, Per::Hour, By::SlidingWindow);
    assert_eq!(told(&spend), both("spend_per_hour", "2.5 US dollars an hour"));
    assert_eq!(told(&limit(Of::Concurrency, 5, Per::Day, By::AtOnce)), both("concurrency", "5 calls at once"));
    assert_eq!(Limit::id(Of::Tokens, Per::Day, &By::SlidingWindow), "tokens/day/sliding_window");
}

/// Threads that want twice as much as there is, where half of what they take first has to be given back.
#[test]
fn whoever_comes_at_once_nobody_is_refused_for_what_another_gives_back() {
    for _ in 0..20 {
        let all = requests(3_000, Per::Hour, By::SlidingWindow);
        let own: Vec<Limit> = (0..4).map(|_| requests(1_000, Per::Hour, By::SlidingWindow)).collect();
        let start = Barrier::new(8);
        let admitted: usize = thread::scope(|scope| {
            let threads = (0..8usize).map(|n| {
                let (own, all, start) = (&own[n % 4], &all, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..1_000).filter(|_| take([own, all].into_iter(), &asks(1), at(SECOND)).is_ok()).count()
                })
            });
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 3_000);
        let taken: u64 = own.iter().map(|limit| 1_000 - limit.standing(at(SECOND)).remaining).sum();
        assert_eq!(taken, 3_000, "what was refused was given back");
    }
}

/// Threads whose time goes on: nothing leaks, and no window holds more than the limit.
#[test]
fn windows_that_move_on_under_load_keep_count() {
    let limit = requests(500, Per::Second, By::SlidingWindow);
    let taken: Vec<u64> = thread::scope(|scope| {
        let threads = (0..4).map(|_| {
            scope.spawn(|| {
                let ticks = (0..60_000u64).map(|n| SECOND + n * 100);
                ticks.filter(|now| one(&limit, 1, *now).is_ok()).collect::<Vec<u64>>()
            })
        });
        threads.collect::<Vec<_>>().into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // Each thread has a clock of its own here, so this is what the six seconds together may hold.
    assert!((2_500..=3_500).contains(&taken.len()), "{}", taken.len());
    let end = 20 * SECOND;
    assert!(limit.state.is_blank(at(end).now), "{limit:?}");
}

#[derive(Clone, Debug)]
struct Step {
    pause: u64,
    n: u64,
    /// Of what was taken, in percent.
    used: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![3 => 0u64..20_000, 2 => 0u64..400_000, 1 => 900_000u64..2_500_000];
    let step = (pause, 1u64..8, 0u64..=100).prop_map(|(pause, n, used)| Step { pause, n, used });
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// Whatever comes: no window holds more than the limit; who is refused had to be, but for the part that a window is
    /// longer; and the wait is true.
    #[test]
    fn a_sliding_window_is_never_exceeded(steps in steps(), most in 1u64..40) {
        let limits = [requests(most, Per::Second, By::SlidingWindow)];
        let mut window: VecDeque<(u64, u64)> = VecDeque::new();
        let mut now = SECOND;
        let held = |window: &VecDeque<(u64, u64)>, since: u64| {
            window.iter().filter(|(at, _)| *at >= since).map(|(_, n)| *n).sum::<u64>()
        };
        for step in steps {
            now += step.pause;
            match take(limits.iter(), &asks(step.n), at(now)) {
                Ok(mut parts) => {
                    let used = step.n * step.used / 100;
                    settle(limits.iter(), &mut parts, |_| true, &asks(used), at(now).now);
                    window.push_back((now, used));
                    prop_assert!(held(&window, now - SECOND + 1) <= most);
                }
                Err(Refused { wait: Wait::Never, .. }) => prop_assert!(step.n > most),
                Err(Refused { wait: Wait::Micros(wait), .. }) => {
                    let longer = SECOND + SECOND / 320;
                    prop_assert!(held(&window, now.saturating_sub(longer)) + step.n > most, "a false refusal");
                    prop_assert!(limits[0].state.room(&limits[0], step.n, most, at(now + wait - 1).now).is_err());
                    prop_assert!(limits[0].state.room(&limits[0], step.n, most, at(now + wait).now).is_ok());
                    // The window has moved on by that look.
                    now += wait;
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }

    /// In any time: no more than what can be saved up and what flows in.
    #[test]
    fn a_bucket_gives_what_flows_in(steps in steps(), most in 1u64..40, burst in 1u64..20) {
        let limits = [requests(most, Per::Second, By::TokenBucket { burst })];
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let mut now = SECOND;
        for step in steps {
            now += step.pause;
            match take(limits.iter(), &asks(step.n), at(now)) {
                Ok(_) => taken.push((now, step.n)),
                Err(Refused { wait: Wait::Never, .. }) => prop_assert!(step.n > burst),
                Err(Refused { wait: Wait::Micros(wait), .. }) => {
                    prop_assert!(limits[0].state.room(&limits[0], step.n, most, at(now + wait - 1).now).is_err());
                    prop_assert!(limits[0].state.room(&limits[0], step.n, most, at(now + wait).now).is_ok());
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        for (first, (start, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for (end, n) in &taken[first..] {
                sum += n;
                prop_assert!(sum * SECOND <= burst * SECOND + most * (end - start) + SECOND);
            }
        }
    }

    /// Windows of the calendar follow one another without a gap, and each moment lies in its own.
    #[test]
    fn windows_of_the_calendar_meet(minute in 0u64..3_000_000, per in 0usize..4) {
        let per = [Per::Second, Per::Minute, Per::Hour, Per::Day][per];
        let zone = TimeZone::posix(BERLIN).unwrap();
        let now = 1_767_225_600_000 + minute * 60_000 + 7;
        let (start, end) = state::window(per, &zone, now);
        prop_assert!(start <= now && now < end);
        prop_assert_eq!(state::window(per, &zone, end).0, end);
        prop_assert_eq!(state::window(per, &zone, start), (start, end));
    }
}
