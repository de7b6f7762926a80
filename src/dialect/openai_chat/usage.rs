//! Usage as OpenAI and its relatives count it, settled into [`Usage`].
//!
//! OpenAI's `prompt_tokens` include cached ones and its `completion_tokens` include reasoning. Some relatives count
//! parts beside the sums instead: xAI reasoning, Mistral audio, Google's OpenAI endpoint thoughts it does not even
//! name. The stated total gives them away, so the gap is folded into the sum it belongs to.

use crate::ir::Usage;
use crate::wire::json::Raw;
use crate::wire::scan::{Cursor, ScanError};
use crate::wire::writer::Object;

use super::wire::whole_json;

/// Deepest nesting that is looked at; the answer's own limit is settled elsewhere.
const DEPTH: usize = 128;

/// What a `usage` object states; of parts that it states under several names the most.
#[derive(Default)]
struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: u64,
    written: u64,
    /// Of `written`: for an hour.
    hour: u64,
    audio_input: u64,
    reasoning: u64,
    audio_output: u64,
    accepted: u64,
    rejected: u64,
    searches: u64,
}

impl Counts {
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScanError> {
        cursor.members(|name, at| {
            match name {
                "prompt_tokens" => self.prompt = stated(at)?,
                "completion_tokens" => self.completion = stated(at)?,
                "total_tokens" => self.total = stated(at)?,
                "prompt_tokens_details" if at.is_object() => at.members(|name, at| match name {
                    "cached_tokens" => most(&mut self.cached, at),
                    "cache_write_tokens" | "cache_creation_tokens" => most(&mut self.written, at),
                    "audio_tokens" => most(&mut self.audio_input, at),
                    _ => Ok(()),
                })?,
                "completion_tokens_details" if at.is_object() => at.members(|name, at| match name {
                    "reasoning_tokens" => most(&mut self.reasoning, at),
                    "audio_tokens" => most(&mut self.audio_output, at),
                    "accepted_prediction_tokens" => most(&mut self.accepted, at),
                    "rejected_prediction_tokens" => most(&mut self.rejected, at),
                    _ => Ok(()),
                })?,
                // DeepSeek; Moonshot, Together, Hugging Face; Mistral's older models; Venice and others that front
                // Anthropic.
                "prompt_cache_hit_tokens" | "cached_tokens" | "num_cached_tokens" | "cache_read_input_tokens" => {
                    most(&mut self.cached, at)?
                }
                "cache_creation_input_tokens" => most(&mut self.written, at)?,
                "cache_creation" if at.is_object() => at.members(|name, at| match name {
                    "ephemeral_1h_input_tokens" => most(&mut self.hour, at),
                    _ => Ok(()),
                })?,
                // Copilot, Perplexity.
                "reasoning_tokens" => most(&mut self.reasoning, at)?,
                // OpenRouter, in its two spellings.
                "server_tool_use" | "server_tool_use_details" if at.is_object() => {
                    at.members(|name, at| match name {
                        "web_search_requests" => most(&mut self.searches, at),
                        _ => Ok(()),
                    })?
                }
                // Perplexity.
                "num_search_queries" => most(&mut self.searches, at)?,
                _ => {}
            }
            Ok(())
        })
    }
}

/// Reads a `usage` object. `None` where there is none, or none with a count in it.
pub fn read(raw: Option<&Raw<'_>>) -> Option<Usage> {
    count(raw?.get())
}

/// As [`read`], of JSON as it is written.
pub fn count(json: &str) -> Option<Usage> {
    let mut counts = Counts::default();
    counts.read(&mut Cursor::new(json, DEPTH)).ok()?;
    if counts.prompt.is_none() && counts.completion.is_none() && counts.total.is_none() {
        return None;
    }
    let input = counts.prompt.unwrap_or(0);
    let mut usage = Usage {
        input,
        output: counts.completion.unwrap_or_else(|| counts.total.unwrap_or(input).saturating_sub(input)),
        cached: counts.cached,
        cache_write: counts.written.saturating_sub(counts.hour),
        cache_write_1h: counts.hour,
        audio_input: counts.audio_input,
        tool_prompt: 0,
        reasoning: counts.reasoning,
        audio_output: counts.audio_output,
        accepted_prediction: counts.accepted,
        rejected_prediction: counts.rejected,
        searches: counts.searches,
        stated_total: counts.total,
    };
    settle(&mut usage);
    Some(usage)
}

fn stated(at: &mut Cursor<'_>) -> Result<Option<u64>, ScanError> {
    Ok(whole_json(at.value()?))
}

fn most(sum: &mut u64, at: &mut Cursor<'_>) -> Result<(), ScanError> {
    *sum = (*sum).max(stated(at)?.unwrap_or(0));
    Ok(())
}

/// Folds what was counted beside the sums into them, as far as the stated total proves it, and keeps parts within
/// their wholes (one host of open models states more reasoning than completion tokens; money follows the sum).
fn settle(usage: &mut Usage) {
    let sum = usage.input.saturating_add(usage.output);
    let gap = usage.stated_total.unwrap_or(sum).saturating_sub(sum);
    let cache = usage.cached.saturating_add(usage.cache_write).saturating_add(usage.cache_write_1h);
    if gap > 0 {
        if gap == usage.reasoning {
            usage.output = usage.output.saturating_add(gap);
        } else if gap == cache || gap == usage.audio_input {
            usage.input = usage.input.saturating_add(gap);
        } else if usage.reasoning == 0 {
            // Google's OpenAI endpoint: thoughts are in the total and nowhere else, and billed as output.
            usage.output = usage.output.saturating_add(gap);
            usage.reasoning = gap;
        }
    }
    usage.reasoning = usage.reasoning.min(usage.output);
    usage.audio_output = usage.audio_output.min(usage.output);
    usage.audio_input = usage.audio_input.min(usage.input);
    usage.cached = usage.cached.min(usage.input);
}

/// Writes `usage` for a caller: OpenAI's members, and of the others only those that are not zero.
pub fn write(o: &mut Object<'_>, usage: &Usage) {
    o.number("prompt_tokens", usage.input);
    o.number("completion_tokens", usage.output);
    o.number("total_tokens", usage.total());
    o.object("prompt_tokens_details", |o| {
        o.number("cached_tokens", usage.cached);
        o.number("audio_tokens", usage.audio_input);
        let written = usage.cache_write.saturating_add(usage.cache_write_1h);
        if written > 0 {
            // OpenRouter's name; OpenAI has none.
            o.number("cache_write_tokens", written);
        }
    });
    o.object("completion_tokens_details", |o| {
        o.number("reasoning_tokens", usage.reasoning);
        o.number("audio_tokens", usage.audio_output);
        o.number("accepted_prediction_tokens", usage.accepted_prediction);
        o.number("rejected_prediction_tokens", usage.rejected_prediction);
    });
    if usage.cache_write_1h > 0 {
        o.object("cache_creation", |o| o.number("ephemeral_1h_input_tokens", usage.cache_write_1h));
    }
    if usage.searches > 0 {
        o.object("server_tool_use", |o| o.number("web_search_requests", usage.searches));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::writer;

    fn usage(json: &str) -> Usage {
        read(Some(&Raw::parse(json).unwrap())).unwrap()
    }

    #[test]
    fn parts_stay_parts_of_their_sums() {
        let openai = usage(
            r#"{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,
                "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":null},
                "completion_tokens_details":{"reasoning_tokens":15}}"#,
        );
        assert_eq!((openai.input, openai.output, openai.cached, openai.reasoning), (100, 20, 60, 15));
        assert_eq!(openai.fresh_input(), 40);
        let deepseek = usage(
            r#"{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":4}"#,
        );
        assert_eq!(deepseek.cached, 8);
        let moonshot = usage(r#"{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50,"cached_tokens":10}"#);
        assert_eq!(moonshot.cached, 10);
        let written = usage(
            r#"{"prompt_tokens":50,"completion_tokens":1,"total_tokens":51,"prompt_tokens_details":{"cache_write_tokens":40},
                "cache_creation":{"ephemeral_1h_input_tokens":30,"ephemeral_5m_input_tokens":10}}"#,
        );
        assert_eq!((written.cache_write, written.cache_write_1h), (10, 30));
    }

    #[test]
    fn what_is_counted_beside_the_sums_is_folded_in() {
        let xai = usage(
            r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":241,"completion_tokens_details":{"reasoning_tokens":228}}"#,
        );
        assert_eq!((xai.input, xai.output, xai.reasoning, xai.total()), (12, 229, 228, 241));
        let google = usage(r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#);
        assert_eq!((google.output, google.reasoning), (74, 62));
        let mistral = usage(
            r#"{"prompt_tokens":11,"completion_tokens":15,"total_tokens":401,"prompt_tokens_details":{"audio_tokens":375,"cached_tokens":9}}"#,
        );
        assert_eq!((mistral.input, mistral.output, mistral.audio_input, mistral.cached), (386, 15, 375, 9));
        let exclusive =
            usage(r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":95,"cache_read_input_tokens":80}"#);
        assert_eq!((exclusive.input, exclusive.cached), (90, 80));
        let odd = usage(
            r#"{"prompt_tokens":42,"completion_tokens":2298,"total_tokens":2340,"completion_tokens_details":{"reasoning_tokens":2948}}"#,
        );
        assert_eq!((odd.output, odd.reasoning), (2298, 2298));
    }

    #[test]
    fn nothing_stated_is_nothing() {
        assert_eq!(read(None), None);
        for json in ["null", "{}", "[]", "7", r#"{"prompt_tokens":null}"#] {
            assert_eq!(read(Some(&Raw::parse(json).unwrap())), None, "{json}");
        }
        assert_eq!(usage(r#"{"prompt_tokens":"x","completion_tokens":2.0}"#).output, 2);
    }

    #[test]
    fn written_usage_reads_back() {
        let usage = Usage {
            input: 500,
            output: 300,
            cached: 100,
            cache_write: 20,
            cache_write_1h: 30,
            audio_input: 7,
            tool_prompt: 0,
            reasoning: 90,
            audio_output: 3,
            accepted_prediction: 2,
            rejected_prediction: 1,
            searches: 4,
            stated_total: Some(800),
        };
        let mut out = Vec::new();
        writer::object(&mut out, |o| write(o, &usage));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(read(Some(&Raw::parse(&text).unwrap())), Some(usage));
    }
}
