//! What providers say of their limits in the heads of their answers.
//!
//! OpenAI and those like it: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a time to go such as
//! `6m0s` ("Rate limits", seen 2026-11-21). Anthropic: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`,
//! the reset as a moment of RFC 3339 ("Rate limits", seen 2026-11-21).

use std::time::Duration;

use crate::policy::quota::Said;

/// What was said of requests and of tokens. `now` is in Unix milliseconds.
pub fn read<'h>(header: &dyn Fn(&str) -> Option<&'h str>, now: u64) -> (Option<Said>, Option<Said>) {
    let openai = |limit, remaining, reset| {
        let remaining = header(remaining)?.parse().ok()?;
        Some(Said { limit: number(header(limit)), remaining, reset: time(header(reset)?)? })
    };
    let requests = openai("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests");
    let tokens = openai("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
    if requests.is_some() || tokens.is_some() {
        return (requests, tokens);
    }
    let anthropic = |limit, remaining, reset| {
        let remaining = header(remaining)?.parse().ok()?;
        let at: jiff::Timestamp = header(reset)?.parse().ok()?;
        let left = u64::try_from(at.as_millisecond()).ok()?.saturating_sub(now);
        Some(Said { limit: number(header(limit)), remaining, reset: Duration::from_millis(left) })
    };
    (
        anthropic(
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ),
        anthropic(
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ),
    )
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.trim().parse().ok()
}

/// `1s`, `6m0s`, `1h2m3.5s`, `120ms`, or bare seconds.
fn time(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let scale = match unit {
            "ms" => 0.001,
            "s" | "" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(limit: Option<u64>, remaining: u64, millis: u64) -> Option<Said> {
        Some(Said { limit, remaining, reset: Duration::from_millis(millis) })
    }

    #[test]
    fn both_ways_of_saying_it_are_read() {
        let openai = |name: &str| match name {
            "x-ratelimit-limit-requests" => Some("60"),
            "x-ratelimit-remaining-requests" => Some("59"),
            "x-ratelimit-reset-requests" => Some("1s"),
            "x-ratelimit-remaining-tokens" => Some("149984"),
            "x-ratelimit-reset-tokens" => Some("6m0.5s"),
            _ => None,
        };
        assert_eq!(read(&openai, 0), (said(Some(60), 59, 1_000), said(None, 149_984, 360_500)));
        let anthropic = |name: &str| match name {
            "anthropic-ratelimit-tokens-limit" => Some("80000"),
            "anthropic-ratelimit-tokens-remaining" => Some("0"),
            "anthropic-ratelimit-tokens-reset" => Some("2026-11-21T00:00:30Z"),
            "anthropic-ratelimit-requests-remaining" => Some("5"),
            "anthropic-ratelimit-requests-reset" => Some("2020-01-01T00:00:00Z"),
            _ => None,
        };
        assert_eq!(read(&anthropic, 1_795_219_200_000), (said(None, 5, 0), said(Some(80_000), 0, 30_000)));
        assert_eq!(read(&|_| None, 0), (None, None));
    }

    #[test]
    fn times_are_read_or_not() {
        let good =
            [("1s", 1_000), ("120ms", 120), ("1h2m3.5s", 3_723_500), ("2", 2_000), ("0s", 0), ("1d", 86_400_000)];
        for (text, millis) in good {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "1..2s", "-1s", "99999999999999999999999d", "1s!", "\u{e9}"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[0-9a-z.\u{e9} ]{0,12}") {
            let _ = time(&text);
        }
    }
}
