//! What is said of limits in the heads of answers: by providers of theirs, and to callers of ours.
//!
//! OpenAI and those like it: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a time to go such as
//! `6m0s` ("Rate limits", seen 2026-11-21). Anthropic: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`,
//! the reset as a moment of RFC 3339 ("Rate limits", seen 2026-11-21).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::allotment::Left;
use crate::dialect::{Dialect, anthropic};
use crate::policy::limit::Standing;
use crate::policy::quota::Said;

/// How all such headers begin.
const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// Whether a header tells of limits.
pub fn tells(name: &str) -> bool {
    PREFIXES.iter().any(|begin| name.starts_with(begin))
}

/// Tells a caller what is left of its limits, in its dialect's words, and nothing of a provider's. `now` is in Unix
/// milliseconds.
pub fn tell(headers: &mut HeaderMap, left: &Left, caller: Dialect, now: u64) {
    if headers.keys().any(|name| tells(name.as_str())) {
        let told: Vec<HeaderName> = headers.keys().filter(|name| tells(name.as_str())).cloned().collect();
        for name in told {
            headers.remove(name);
        }
    }
    let [requests, tokens, input, output] =
        if caller == anthropic::DIALECT { &names::ANTHROPIC } else { &names::OPENAI };
    let mut say = |names: &'static [HeaderName; 3], standing: Option<Standing>| {
        let Some(Standing { limit, remaining, reset }) = standing else { return };
        let reset = if caller == anthropic::DIALECT { moment(now, reset) } else { span(reset) };
        let [of_limit, of_remaining, of_reset] = names;
        headers.insert(of_limit, limit.into());
        headers.insert(of_remaining, remaining.into());
        if let Ok(reset) = HeaderValue::from_maybe_shared(bytes::Bytes::from(reset)) {
            headers.insert(of_reset, reset);
        }
    };
    say(requests, left.requests);
    say(tokens, left.tokens);
    say(input, left.input_tokens);
    say(output, left.output_tokens);
}

/// Limit, what remains, and reset; of requests, tokens, input and output tokens. OpenAI has no names for the last two: they
/// are made as the others are.
mod names {
    use http::HeaderName;

    macro_rules! three {
        ($($name:literal),*) => { [$(HeaderName::from_static($name)),*] };
    }

    pub static OPENAI: [[HeaderName; 3]; 4] = [
        three!("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        three!("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        three!(
            "x-ratelimit-limit-input-tokens",
            "x-ratelimit-remaining-input-tokens",
            "x-ratelimit-reset-input-tokens"
        ),
        three!(
            "x-ratelimit-limit-output-tokens",
            "x-ratelimit-remaining-output-tokens",
            "x-ratelimit-reset-output-tokens"
        ),
    ];
    pub static ANTHROPIC: [[HeaderName; 3]; 4] = [
        three!(
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset"
        ),
        three!(
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset"
        ),
        three!(
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset"
        ),
        three!(
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset"
        ),
    ];
}

/// A time to go, as OpenAI writes it: `120ms`, `1.5s`, `6m0s`, `1h2m3s`.
fn span(time: Duration) -> String {
    let millis = time.as_micros().div_ceil(1_000);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, part) = (millis / 1_000 % 60, millis % 1_000);
    let part = if part == 0 { String::new() } else { format!(".{part:03}").trim_end_matches('0').to_owned() };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{part}s"),
        (0, minutes) => format!("{minutes}m{seconds}{part}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{part}s"),
    }
}

/// The full second of RFC 3339 at which that time is over, as Anthropic writes it.
fn moment(now: u64, time: Duration) -> String {
    let millis = u128::from(now).saturating_add(time.as_millis());
    let seconds = i64::try_from(millis.div_ceil(1_000)).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

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
    fn callers_are_told_of_their_limits_and_of_nobody_elses() {
        let standing =
            |limit, remaining, millis| Some(Standing { limit, remaining, reset: Duration::from_millis(millis) });
        let left = Left { requests: standing(60, 59, 1_000), tokens: standing(100_000, 7, 360_500), ..Left::default() };
        let now = 1_795_219_200_001;
        for (caller, theirs) in [
            (crate::dialect::openai_chat::DIALECT, "anthropic-ratelimit-input-tokens-remaining"),
            (anthropic::DIALECT, "x-ratelimit-remaining-project-tokens"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(theirs, HeaderValue::from_static("1"));
            headers.insert("x-other", HeaderValue::from_static("1"));
            tell(&mut headers, &left, caller, now);
            assert_eq!(headers.len(), 7, "{headers:?}");
            // As the providers' are read.
            let header = |name: &str| headers.get(name)?.to_str().ok();
            let (requests, tokens) = read(&header, now);
            let near = |said: Option<Said>, limit, remaining, millis: u64| {
                let said = said.unwrap();
                assert_eq!((said.limit, said.remaining), (Some(limit), remaining));
                let late = said.reset.checked_sub(Duration::from_millis(millis)).unwrap();
                assert!(late <= Duration::from_secs(1), "{said:?}");
            };
            near(requests, 60, 59, 1_000);
            near(tokens, 100_000, 7, 360_500);
        }
    }

    proptest! {
        #[test]
        fn a_time_that_is_told_is_read_again(millis in 0u64..200_000_000) {
            prop_assert_eq!(time(&span(Duration::from_millis(millis))), Some(Duration::from_millis(millis)));
        }
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
