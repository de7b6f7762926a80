//! Usage as OpenAI and its relatives count it, settled into [`Usage`].
//!
//! OpenAI's `prompt_tokens` include cached ones and its `completion_tokens` include reasoning. Some relatives count
//! parts beside the sums instead: xAI reasoning, Mistral audio, Google's OpenAI endpoint thoughts it does not even
//! name. The stated total gives them away, so the gap is folded into the sum it belongs to.

use crate::ir::Usage;
use crate::shape;
use crate::wire::json::{Kind, Raw};
use crate::wire::writer::Object;

use super::wire::whole;

shape! {
    struct Counts {
        prompt "prompt_tokens": Raw<'a>,
        completion "completion_tokens": Raw<'a>,
        total "total_tokens": Raw<'a>,
        prompt_details "prompt_tokens_details": Raw<'a>,
        completion_details "completion_tokens_details": Raw<'a>,
        // DeepSeek.
        cache_hit "prompt_cache_hit_tokens": Raw<'a>,
        // Moonshot, Together, Hugging Face.
        cached "cached_tokens": Raw<'a>,
        // Mistral's older models.
        num_cached "num_cached_tokens": Raw<'a>,
        // Venice and others that front Anthropic.
        cache_read "cache_read_input_tokens": Raw<'a>,
        cache_creation_tokens "cache_creation_input_tokens": Raw<'a>,
        cache_creation "cache_creation": Raw<'a>,
        // Copilot, Perplexity.
        reasoning "reasoning_tokens": Raw<'a>,
        // OpenRouter, in its two spellings.
        tools "server_tool_use" | "server_tool_use_details": Raw<'a>,
        // Perplexity.
        searches "num_search_queries": Raw<'a>,
    }
}

shape! {
    struct PromptDetails {
        cached "cached_tokens": Raw<'a>,
        cache_write "cache_write_tokens" | "cache_creation_tokens": Raw<'a>,
        audio "audio_tokens": Raw<'a>,
    }
}

shape! {
    struct CompletionDetails {
        reasoning "reasoning_tokens": Raw<'a>,
        audio "audio_tokens": Raw<'a>,
        accepted "accepted_prediction_tokens": Raw<'a>,
        rejected "rejected_prediction_tokens": Raw<'a>,
    }
}

shape! {
    struct CacheCreation { hour "ephemeral_1h_input_tokens": Raw<'a> }
}

shape! {
    struct Tools { searches "web_search_requests": Raw<'a> }
}

/// Reads a `usage` object. `None` where there is none, or none with a count in it.
pub fn read(raw: Option<&Raw<'_>>) -> Option<Usage> {
    let counts: Counts<'_> = raw.filter(|raw| raw.kind() == Kind::Object)?.read().ok()?;
    let (prompt, completion) = (whole(counts.prompt.as_ref()), whole(counts.completion.as_ref()));
    let total = whole(counts.total.as_ref());
    if prompt.is_none() && completion.is_none() && total.is_none() {
        return None;
    }
    let input = prompt.unwrap_or(0);
    let output = completion.unwrap_or_else(|| total.unwrap_or(input).saturating_sub(input));
    let prompt: PromptDetails<'_> = part(counts.prompt_details.as_ref());
    let completion: CompletionDetails<'_> = part(counts.completion_details.as_ref());
    let creation: CacheCreation<'_> = part(counts.cache_creation.as_ref());
    let tools: Tools<'_> = part(counts.tools.as_ref());

    let most = |counts: &[&Option<Raw<'_>>]| counts.iter().filter_map(|c| whole(c.as_ref())).max().unwrap_or(0);
    let written = most(&[&prompt.cache_write, &counts.cache_creation_tokens]);
    let hour = most(&[&creation.hour]);
    let mut usage = Usage {
        input,
        output,
        cached: most(&[&prompt.cached, &counts.cache_hit, &counts.cached, &counts.num_cached, &counts.cache_read]),
        cache_write: written.saturating_sub(hour),
        cache_write_1h: hour,
        audio_input: most(&[&prompt.audio]),
        tool_prompt: 0,
        reasoning: most(&[&completion.reasoning, &counts.reasoning]),
        audio_output: most(&[&completion.audio]),
        accepted_prediction: most(&[&completion.accepted]),
        rejected_prediction: most(&[&completion.rejected]),
        searches: most(&[&tools.searches, &counts.searches]),
        stated_total: total,
    };
    settle(&mut usage);
    Some(usage)
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

fn part<'s, T: serde::Deserialize<'s> + Default>(raw: Option<&'s Raw<'_>>) -> T {
    raw.and_then(|raw| raw.read().ok()).unwrap_or_default()
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
