//! Tokens used, as Converse counts them: `inputTokens` leaves out what was read from and written to the cache, while
//! `totalTokens` has it (recorded answers, seen 2026-11-21).

use super::wire::Counts;
use crate::ir::Usage;
use crate::wire::json::Number;

pub(super) fn usage(counts: &Counts<'_>) -> Usage {
    let count = |said: &Option<Number<'_>>| said.as_ref().and_then(Number::as_u64).unwrap_or(0);
    let (read, written) = (count(&counts.read), count(&counts.written));
    let details = counts.details.as_deref().unwrap_or_default();
    let long = details
        .iter()
        .filter(|detail| detail.ttl.as_deref() == Some("1h"))
        .fold(0_u64, |sum, detail| sum.saturating_add(count(&detail.tokens)))
        .min(written);
    Usage {
        input: count(&counts.input).saturating_add(read).saturating_add(written),
        output: count(&counts.output),
        cached: read,
        cache_write: written.saturating_sub(long),
        cache_write_1h: long,
        stated_total: counts.total.as_ref().and_then(Number::as_u64),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    #[test]
    fn cache_is_part_of_the_input() {
        let counts: Counts<'_> = json::read(
            br#"{"inputTokens":3,"outputTokens":121,"totalTokens":2072,"cacheReadInputTokens":1712,
                "cacheWriteInputTokens":236,"cacheDetails":[{"ttl":"1h","inputTokens":200},{"ttl":"5m","inputTokens":36}]}"#,
        )
        .unwrap();
        let usage = usage(&counts);
        assert_eq!((usage.input, usage.output, usage.total()), (1951, 121, 2072));
        assert_eq!((usage.cached, usage.cache_write, usage.cache_write_1h, usage.fresh_input()), (1712, 36, 200, 3));
    }
}
