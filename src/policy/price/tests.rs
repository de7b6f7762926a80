use proptest::prelude::*;

use super::*;

const DOLLAR: u64 = 1_000_000_000;

fn anthropic_like() -> Price {
    let rates = Rates {
        input: 3 * DOLLAR,
        output: 15 * DOLLAR,
        cached: DOLLAR * 3 / 10,
        cache_write: DOLLAR * 15 / 4,
        cache_write_1h: 6 * DOLLAR,
        audio_input: 3 * DOLLAR,
        audio_output: 15 * DOLLAR,
        reasoning: 15 * DOLLAR,
        request: 0,
        search: DOLLAR / 100,
    };
    Price { rates, tiers: Vec::new(), version: "test".into() }
}

#[test]
fn every_part_of_the_input_has_its_own_rate_once() {
    // 1000 fresh, 90000 read, 500 and 200 written, and a search: by hand 0.003 + 0.027 + 0.001875 + 0.0012 + 0.01.
    let usage =
        Usage { input: 91_700, cached: 90_000, cache_write: 500, cache_write_1h: 200, searches: 1, ..Usage::default() };
    assert_eq!(cost_decimal(anthropic_like().cost(&usage)), "0.043075");
}

#[test]
fn reasoning_and_audio_are_parts_of_the_output() {
    let mut price = anthropic_like();
    price.rates.reasoning = 40 * DOLLAR;
    price.rates.audio_output = 80 * DOLLAR;
    let usage = Usage { output: 1000, reasoning: 100, audio_output: 10, ..Usage::default() };
    // 890 * 15 + 100 * 40 + 10 * 80 dollars for a million.
    assert_eq!(cost_decimal(price.cost(&usage)), "0.01815");
}

#[test]
fn parts_beyond_their_whole_are_clamped() {
    let price = anthropic_like();
    let told_twice = Usage { input: 100, cached: 80, cache_write: 80, audio_input: 80, ..Usage::default() };
    assert_eq!(price.cost(&told_twice), 80 * 300 + 20 * 3750);
    let nothing_but_parts = Usage { cached: 80, reasoning: 5, ..Usage::default() };
    assert_eq!(price.cost(&nothing_but_parts), 0);
}

#[test]
fn a_tier_holds_for_the_whole_call_above_its_length() {
    let dear = Rates { input: 6 * DOLLAR, output: 22 * DOLLAR, cached: 6 * DOLLAR, ..Rates::default() };
    let dearest = Rates { input: 9 * DOLLAR, output: 30 * DOLLAR, cached: 9 * DOLLAR, ..Rates::default() };
    let price = Price { tiers: vec![(200_000, dear), (500_000, dearest)], ..anthropic_like() };
    let cost = |input| price.cost(&Usage { input, output: 10, ..Usage::default() });
    assert_eq!(cost(200_000), 200_000 * 3_000 + 10 * 15_000, "up to and with the length, the plain rates hold");
    assert_eq!(cost(200_001), 200_001 * 6_000 + 10 * 22_000);
    assert_eq!(cost(500_001), 500_001 * 9_000 + 10 * 30_000);
    assert_eq!(price.worst_case(&Extent::any(200_001, 10)), 200_001 * 6_000 + 10 * 22_000);
}

#[test]
fn it_rounds_half_up_and_once() {
    let price = |input| Price { rates: Rates { input, output: input, ..Rates::default() }, ..Price::default() };
    let one = Usage { input: 1, ..Usage::default() };
    assert_eq!(price(499_999).cost(&one), 0);
    assert_eq!(price(500_000).cost(&one), 1);
    let both = Usage { input: 1, output: 1, ..Usage::default() };
    assert_eq!(price(499_999).cost(&both), 1, "0.999998, not twice nothing");
}

#[test]
fn it_saturates() {
    let all = Rates { input: u64::MAX, output: u64::MAX, request: u64::MAX, search: u64::MAX, ..Rates::default() };
    let price = Price { rates: all, ..Price::default() };
    let usage = Usage { input: u64::MAX, output: u64::MAX, searches: u64::MAX, ..Usage::default() };
    assert_eq!(price.cost(&usage), u64::MAX);
    assert_eq!(price.worst_case(&Extent::any(u64::MAX, u64::MAX)), u64::MAX);
    assert_eq!(convert(u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn decimals_read_and_print() {
    let printed: [(u64, &str); 5] =
        [(0, "0"), (1_230_000, "0.00123"), (1, "0.000000001"), (25 * DOLLAR, "25"), (1_500_000_000, "1.5")];
    for (nano, text) in printed {
        assert_eq!(cost_decimal(nano), text);
        assert_eq!(parse_per_million(text), Some(nano));
    }
    let read = [
        ("0.075", Some(75_000_000)),
        ("7.5e-2", Some(75_000_000)),
        ("15E+0", Some(15 * DOLLAR)),
        ("00.1000000000", Some(100_000_000)),
        ("0e999", Some(0)),
        ("18446744073.709551615", Some(u64::MAX)),
        ("18446744073.709551616", None),
        ("0.0000000001", None),
        ("1.5e-9", None),
        ("1e11", None),
        ("1e999999999", None),
        ("1e-999999999", None),
        ("-1", None),
        ("-0", None),
        ("+1", None),
        ("", None),
        (".5", None),
        ("5.", None),
        ("1.2.3", None),
        ("1e", None),
        ("1e+-2", None),
        ("1_0", None),
        ("٣", None),
        (" 1", None),
        ("NaN", None),
    ];
    for (text, nano) in read {
        assert_eq!(parse_per_million(text), nano, "{text}");
    }
    assert_eq!(parse_per_million(&"0".repeat(65)), None);
}

#[test]
fn currencies_round_half_up() {
    assert_eq!(convert(DOLLAR, 7_120_000), 7_120_000_000);
    assert_eq!(convert(1, 500_000), 1);
    assert_eq!(convert(1, 499_999), 0);
}

/// Prices up to far above any real one, tiers that only get dearer.
fn prices() -> impl Strategy<Value = Price> {
    let rate = 0..200_000_000_000u64;
    (prop::array::uniform10(rate), prop::collection::btree_map(1..400u64, 0..5_000_000_000u64, 0..3)).prop_map(
        |(r, raises)| {
            let rates = |more: u64| Rates {
                input: r[0] + more,
                output: r[1] + more,
                cached: r[2] + more,
                cache_write: r[3] + more,
                cache_write_1h: r[4] + more,
                audio_input: r[5] + more,
                audio_output: r[6] + more,
                reasoning: r[7] + more,
                request: r[8],
                search: r[9],
            };
            let mut sum = 0;
            let tiers = raises
                .into_iter()
                .map(|(above, raise)| {
                    sum += raise;
                    (above, rates(sum))
                })
                .collect();
            Price { rates: rates(0), tiers, version: String::new() }
        },
    )
}

/// Counts up to `most`, parts free to exceed their whole.
fn usages(most: u64) -> impl Strategy<Value = Usage> {
    prop::array::uniform9(0..=most).prop_map(|c| Usage {
        input: c[0],
        output: c[1],
        cached: c[2],
        cache_write: c[3],
        cache_write_1h: c[4],
        audio_input: c[5],
        audio_output: c[6],
        reasoning: c[7],
        searches: c[8],
        ..Usage::default()
    })
}

/// Usage whose parts fit into their wholes.
fn sound_usages(most: u64) -> impl Strategy<Value = Usage> {
    usages(most).prop_map(|usage| Usage {
        input: usage.input + usage.cached + usage.cache_write + usage.cache_write_1h + usage.audio_input,
        output: usage.output + usage.audio_output + usage.reasoning,
        ..usage
    })
}

fn sum(a: &Usage, b: &Usage) -> Usage {
    Usage {
        input: a.input + b.input,
        output: a.output + b.output,
        cached: a.cached + b.cached,
        cache_write: a.cache_write + b.cache_write,
        cache_write_1h: a.cache_write_1h + b.cache_write_1h,
        audio_input: a.audio_input + b.audio_input,
        audio_output: a.audio_output + b.audio_output,
        reasoning: a.reasoning + b.reasoning,
        searches: a.searches + b.searches,
        ..Usage::default()
    }
}

/// The cost as a fraction, told independently: tokens are dealt out one by one, each to the first part that still
/// wants one, and the fraction is rounded by asking which whole number is nearest.
fn dealt(price: &Price, usage: &Usage) -> u128 {
    let rates = price
        .tiers
        .iter()
        .filter(|(above, _)| usage.input > *above)
        .map(|tier| tier.1)
        .next_back()
        .unwrap_or(price.rates);
    let deal = |count: u64, wants: &[(u64, u64)], rest: u64| {
        let mut queue: Vec<u64> = Vec::new();
        for (want, rate) in wants {
            queue.extend(std::iter::repeat_n(*rate, *want as usize));
        }
        let mut queue = queue.into_iter();
        (0..count).map(|_| u128::from(queue.next().unwrap_or(rest))).sum::<u128>()
    };
    let input = [
        (usage.cached, rates.cached),
        (usage.cache_write_1h, rates.cache_write_1h),
        (usage.cache_write, rates.cache_write),
        (usage.audio_input, rates.audio_input),
    ];
    let output = [(usage.audio_output, rates.audio_output), (usage.reasoning, rates.reasoning)];
    let numerator = deal(usage.input, &input, rates.input)
        + deal(usage.output, &output, rates.output)
        + 1_000_000 * (u128::from(rates.request) + u128::from(usage.searches) * u128::from(rates.search));
    let below = numerator / 1_000_000;
    if 2 * (numerator - below * 1_000_000) >= 1_000_000 { below + 1 } else { below }
}

proptest! {
    #[test]
    fn cost_is_the_fraction_dealt_token_by_token(price in prices(), usage in usages(500)) {
        prop_assert_eq!(u128::from(price.cost(&usage)), dealt(&price, &usage));
    }

    #[test]
    fn more_tokens_never_cost_less(price in prices(), usage in usages(500), more in 0..500u64) {
        let longer = [
            Usage { input: usage.input + more, ..usage },
            Usage { output: usage.output + more, ..usage },
            Usage { searches: usage.searches + more, ..usage },
        ];
        for usage_of_more in &longer {
            prop_assert!(price.cost(usage_of_more) >= price.cost(&usage));
        }
    }

    #[test]
    fn splitting_a_call_changes_nothing_but_rounding(
        price in prices(), a in sound_usages(1 << 22), b in sound_usages(1 << 22),
    ) {
        let price = Price { rates: Rates { request: 0, ..price.rates }, tiers: Vec::new(), ..price };
        let apart = u128::from(price.cost(&a)) + u128::from(price.cost(&b));
        let whole = u128::from(price.cost(&sum(&a, &b)));
        prop_assert!(apart.abs_diff(whole) <= 1, "{} and {}", apart, whole);
    }

    #[test]
    fn no_call_costs_more_than_its_reservation(
        price in prices(), usage in usages(500), spare in (0..500u64, 0..500u64),
    ) {
        let most = Extent { searches: usage.searches, ..Extent::any(usage.input + spare.0, usage.output + spare.1) };
        prop_assert!(price.cost(&usage) <= price.worst_case(&most));
        let plain = Usage { input: usage.input, output: usage.output, ..Usage::default() };
        let text = Extent { input: usage.input, output: usage.output, ..Extent::default() };
        prop_assert!(price.cost(&plain) <= price.worst_case(&text));
    }

    #[test]
    fn any_counts_have_a_cost(price in prices(), usage in usages(u64::MAX)) {
        price.cost(&usage);
        price.worst_case(&Extent::any(usage.input, usage.output));
    }

    #[test]
    fn a_printed_amount_reads_back(nano: u64) {
        let text = cost_decimal(nano);
        prop_assert_eq!(parse_per_million(&text), Some(nano));
        prop_assert!(!text.contains('.') || !text.ends_with('0'));
    }

    #[test]
    fn exponents_only_move_the_point(nano in 0..1_000_000_000_000u64, by in 0..9u32) {
        let shifted = format!("{nano}e-{}", 9 - by);
        prop_assert_eq!(parse_per_million(&shifted), nano.checked_mul(10u64.pow(by)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-+0-9.eE_ ]{0,30}") {
        if let Some(nano) = parse_per_million(&text) {
            prop_assert_eq!(parse_per_million(&cost_decimal(nano)), Some(nano));
        }
    }
}
