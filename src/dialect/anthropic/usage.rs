//! Tokens used, as Messages counts them: `input_tokens` leaves out what was read from and written to the cache.
//!
//! A stream counts twice, at its start and (cumulatively, and not always with all members) at its end; what a later count
//! says replaces the earlier, member by member. Where `iterations` shows that the provider summarised the conversation
//! on the way (compaction), that sampling is billed at the model's prices and not part of the top-level counts, so it is
//! added; iterations of another model (`advisor_message`) are not, since this answer's prices do not hold for them (guides
//! "Compaction" and "Advisor tool", seen 2026-11-21).

use super::wire::{Counts, Iteration, Lifetimes};
use crate::ir::Usage;
use crate::wire::json::Number;

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    said: bool,
    main: Sampling,
    reasoning: Option<u64>,
    searches: Option<u64>,
    /// Summaries made on the way.
    compaction: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sampling {
    input: Option<u64>,
    output: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    short: Option<u64>,
    long: Option<u64>,
}

impl Tally {
    pub(super) fn of(counts: &Counts<'_>) -> Tally {
        let mut tally = Tally::default();
        tally.take(counts);
        tally
    }

    /// Takes a later count over an earlier one.
    pub(super) fn take(&mut self, counts: &Counts<'_>) {
        self.said = true;
        self.main.take([&counts.input, &counts.output, &counts.read, &counts.written], counts.split.as_ref());
        set(&mut self.reasoning, counts.details.as_ref().and_then(|details| details.thinking.as_ref()));
        set(&mut self.searches, counts.tools.as_ref().and_then(|tools| tools.searches.as_ref()));
        if let Some(iterations) = &counts.iterations {
            self.compaction = compaction(iterations);
        }
    }

    /// The sums; `None` where nothing was counted.
    pub(super) fn usage(&self) -> Option<Usage> {
        let mut usage = self.said.then(|| self.main.usage())?;
        usage.reasoning = self.reasoning.unwrap_or(0);
        usage.searches = self.searches.unwrap_or(0);
        if let Some(more) = self.compaction {
            usage.input = usage.input.saturating_add(more.input);
            usage.output = usage.output.saturating_add(more.output);
            usage.cached = usage.cached.saturating_add(more.cached);
            usage.cache_write = usage.cache_write.saturating_add(more.cache_write);
            usage.cache_write_1h = usage.cache_write_1h.saturating_add(more.cache_write_1h);
        }
        Some(usage)
    }
}

impl Sampling {
    fn take(&mut self, counts: [&Option<Number<'_>>; 4], split: Option<&Lifetimes<'_>>) {
        let [input, output, read, written] = counts;
        set(&mut self.input, input.as_ref());
        set(&mut self.output, output.as_ref());
        set(&mut self.read, read.as_ref());
        set(&mut self.written, written.as_ref());
        if let Some(split) = split {
            set(&mut self.short, split.short.as_ref());
            set(&mut self.long, split.long.as_ref());
        }
    }

    fn usage(&self) -> Usage {
        let read = self.read.unwrap_or(0);
        let long = self.long.unwrap_or(0);
        let written = self.written.unwrap_or_else(|| self.short.unwrap_or(0).saturating_add(long));
        let long = long.min(written);
        Usage {
            input: self.input.unwrap_or(0).saturating_add(read).saturating_add(written),
            output: self.output.unwrap_or(0),
            cached: read,
            cache_write: written.saturating_sub(long),
            cache_write_1h: long,
            ..Usage::default()
        }
    }
}

fn compaction(iterations: &[Iteration<'_>]) -> Option<Usage> {
    let made = iterations.iter().filter(|iteration| iteration.kind.as_ref().is_some_and(|kind| kind == "compaction"));
    made.map(|iteration| {
        let mut sampling = Sampling::default();
        let counts = [&iteration.input, &iteration.output, &iteration.read, &iteration.written];
        sampling.take(counts, iteration.split.as_ref());
        sampling.usage()
    })
    .reduce(|sum, next| Usage {
        input: sum.input.saturating_add(next.input),
        output: sum.output.saturating_add(next.output),
        cached: sum.cached.saturating_add(next.cached),
        cache_write: sum.cache_write.saturating_add(next.cache_write),
        cache_write_1h: sum.cache_write_1h.saturating_add(next.cache_write_1h),
        ..Usage::default()
    })
}

fn set(count: &mut Option<u64>, said: Option<&Number<'_>>) {
    if let Some(n) = said.and_then(Number::as_u64) {
        *count = Some(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn tally(counts: &[&str]) -> Usage {
        let mut tally = Tally::default();
        for json in counts {
            tally.take(&json::read(json.as_bytes()).unwrap());
        }
        tally.usage().unwrap()
    }

    #[test]
    fn cache_is_part_of_the_input() {
        let usage = tally(&[r#"{"input_tokens":10,"output_tokens":5,"cache_read_input_tokens":100,
            "cache_creation_input_tokens":50,"cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},
            "output_tokens_details":{"thinking_tokens":3},"server_tool_use":{"web_search_requests":2}}"#]);
        let wanted = Usage {
            input: 160,
            output: 5,
            cached: 100,
            cache_write: 20,
            cache_write_1h: 30,
            reasoning: 3,
            searches: 2,
            ..Usage::default()
        };
        assert_eq!(usage, wanted);
        assert_eq!(usage.fresh_input(), 10);
    }

    #[test]
    fn later_counts_replace_earlier_ones_member_by_member() {
        let start = r#"{"input_tokens":10,"output_tokens":1,"cache_creation_input_tokens":50,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30}}"#;
        let usage = tally(&[start, r#"{"output_tokens":227,"input_tokens":null}"#]);
        assert_eq!((usage.input, usage.output, usage.cache_write, usage.cache_write_1h), (60, 227, 20, 30));
        let usage = tally(&[start, r#"{"output_tokens":9,"input_tokens":12,"cache_creation_input_tokens":70}"#]);
        assert_eq!((usage.input, usage.output, usage.cache_write, usage.cache_write_1h), (82, 9, 40, 30));
        assert_eq!(Tally::default().usage(), None);
    }

    #[test]
    fn summaries_are_added_and_other_models_are_not() {
        let usage = tally(&[r#"{"input_tokens":181,"output_tokens":8,"iterations":[
            {"type":"compaction","input_tokens":100,"output_tokens":83,"cache_read_input_tokens":900},
            {"type":"advisor_message","input_tokens":5000,"output_tokens":5000},
            {"type":"message","input_tokens":181,"output_tokens":8}]}"#]);
        assert_eq!((usage.input, usage.output, usage.cached), (1181, 91, 900));
    }
}
