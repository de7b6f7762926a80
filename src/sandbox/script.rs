//! What the sandbox is told to do, by the name of the model that is asked for.
//!
//! The name is the one thing that every dialect, client and gateway carries untouched, so it is the remote control: no
//! header, no side channel, and a failing target is one line of configuration.

use std::time::Duration;

/// One behaviour. The names are listed in [`sandbox`](crate::sandbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    Plain,
    /// Waits before the first token (a streamed answer's head is sent at once).
    Slow(Duration),
    /// Answers with this status and an error of the dialect.
    Fail(u16),
    /// 429 with `Retry-After` of so many seconds.
    RateLimit(u64),
    /// Of each `n + 1` calls the first `n` fail with a 500.
    Flaky(u32),
    /// Closes the connection, without any mark of an end, after so many events (`None`: half of them).
    Cut(Option<usize>),
    /// Resets the connection before the head.
    Reset,
    /// Sends the head, then nothing more.
    Stall,
    /// Status 200, and the first event (or the body) is an error.
    ErrorFirst,
    /// Half an answer, then an error event; not streamed, the same as `ErrorFirst`.
    ErrorMid,
    /// Status 200 and no body.
    Empty,
    /// Status 200 and a page of HTML.
    Garbage,
    /// An answer of so many words.
    Long(usize),
}

/// Longest wait that a name can ask for.
const SLOWEST: u64 = 600_000;
/// Most words that a name can ask for: an answer is composed in memory.
const LONGEST: usize = 20_000;
const MOST_FAILURES: u32 = 1_000;

impl Script {
    /// Reads a model's name; `None` if it is not one of the sandbox's. A name that is not understood beyond its first
    /// word is plain, so that `sandbox-mini` or `sandbox-2026` can stand for anything.
    pub fn of(model: &str) -> Option<Script> {
        let rest = model.strip_prefix("sandbox")?;
        let rest = rest.strip_prefix('-').unwrap_or("");
        let known = |word: &str| match rest.strip_prefix(word)? {
            "" => Some(None),
            more => more.strip_prefix('-')?.parse::<u64>().ok().map(Some),
        };
        let script = match rest {
            "reset" => Script::Reset,
            "stall" => Script::Stall,
            "error-first" => Script::ErrorFirst,
            "error-mid" => Script::ErrorMid,
            "empty" => Script::Empty,
            "garbage" => Script::Garbage,
            _ => {
                if let Some(ms) = known("slow") {
                    Script::Slow(Duration::from_millis(ms.unwrap_or(2_000).min(SLOWEST)))
                } else if let Some(Some(status @ 400..=599)) = known("fail") {
                    Script::Fail(u16::try_from(status).unwrap_or(500))
                } else if let Some(seconds) = known("429") {
                    Script::RateLimit(seconds.unwrap_or(1))
                } else if let Some(times) = known("flaky") {
                    let times = u32::try_from(times.unwrap_or(1)).unwrap_or(MOST_FAILURES);
                    Script::Flaky(times.min(MOST_FAILURES))
                } else if let Some(events) = known("cut") {
                    Script::Cut(events.and_then(|n| usize::try_from(n).ok()))
                } else if let Some(Some(words)) = known("long") {
                    Script::Long(usize::try_from(words).unwrap_or(LONGEST).min(LONGEST))
                } else {
                    Script::Plain
                }
            }
        };
        Some(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, script) in [
            ("sandbox", Script::Plain),
            ("sandbox-mini", Script::Plain),
            ("sandbox-slow", Script::Slow(Duration::from_secs(2))),
            ("sandbox-slow-75", Script::Slow(Duration::from_millis(75))),
            ("sandbox-slowly", Script::Plain),
            ("sandbox-fail-529", Script::Fail(529)),
            ("sandbox-fail-200", Script::Plain),
            ("sandbox-429", Script::RateLimit(1)),
            ("sandbox-429-7", Script::RateLimit(7)),
            ("sandbox-flaky-2", Script::Flaky(2)),
            ("sandbox-cut", Script::Cut(None)),
            ("sandbox-cut-0", Script::Cut(Some(0))),
            ("sandbox-reset", Script::Reset),
            ("sandbox-stall", Script::Stall),
            ("sandbox-error-first", Script::ErrorFirst),
            ("sandbox-error-mid", Script::ErrorMid),
            ("sandbox-empty", Script::Empty),
            ("sandbox-garbage", Script::Garbage),
            ("sandbox-long-12", Script::Long(12)),
            ("sandbox-long-99999999999", Script::Long(LONGEST)),
        ] {
            assert_eq!(Script::of(name), Some(script), "{name}");
        }
        assert_eq!(Script::of("gpt-5"), None);
    }
}
