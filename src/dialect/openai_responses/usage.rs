//! Usage as this dialect counts it: both sums include their parts.

use crate::dialect::openai_chat::wire::whole;
use crate::ir::Usage;
use crate::shape;
use crate::wire::json::{Kind, Raw};
use crate::wire::writer::Object;

shape! {
    struct Counts {
        input "input_tokens": Raw<'a>,
        output "output_tokens": Raw<'a>,
        total "total_tokens": Raw<'a>,
        input_details "input_tokens_details": Raw<'a>,
        output_details "output_tokens_details": Raw<'a>,
        // Ours.
        cache_creation "cache_creation": Raw<'a>,
        tools "server_tool_use": Raw<'a>,
    }
}

shape! {
    struct InputDetails {
        cached "cached_tokens": Raw<'a>,
        cache_write "cache_write_tokens": Raw<'a>,
        audio "audio_tokens": Raw<'a>,
    }
}

shape! {
    struct OutputDetails {
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

shape! {
    struct ToolUsage { web_search "web_search": Raw<'a> }
}

shape! {
    struct Requests { count "num_requests": Raw<'a> }
}

/// Reads `usage`, and the count of searches from `tool_usage`, which stands beside it. `None` where nothing was counted.
pub fn read(usage: Option<&Raw<'_>>, tools: Option<&Raw<'_>>) -> Option<Usage> {
    let counts: Counts<'_> = usage.filter(|raw| raw.kind() == Kind::Object)?.read().ok()?;
    let (input, output) = (whole(counts.input.as_ref()), whole(counts.output.as_ref()));
    let total = whole(counts.total.as_ref());
    if input.is_none() && output.is_none() && total.is_none() {
        return None;
    }
    let count = |raw: &Option<Raw<'_>>| whole(raw.as_ref()).unwrap_or(0);
    let of_input: InputDetails<'_> = part(counts.input_details.as_ref());
    let of_output: OutputDetails<'_> = part(counts.output_details.as_ref());
    let creation: CacheCreation<'_> = part(counts.cache_creation.as_ref());
    let ours: Tools<'_> = part(counts.tools.as_ref());
    let theirs: ToolUsage<'_> = part(tools);
    let requests: Requests<'_> = part(theirs.web_search.as_ref());
    let input = input.unwrap_or(0);
    let output = output.unwrap_or_else(|| total.unwrap_or(input).saturating_sub(input));
    let hour = count(&creation.hour);
    Some(Usage {
        input,
        output,
        cached: count(&of_input.cached).min(input),
        cache_write: count(&of_input.cache_write).saturating_sub(hour),
        cache_write_1h: hour,
        audio_input: count(&of_input.audio).min(input),
        tool_prompt: 0,
        reasoning: count(&of_output.reasoning).min(output),
        audio_output: count(&of_output.audio).min(output),
        accepted_prediction: count(&of_output.accepted),
        rejected_prediction: count(&of_output.rejected),
        searches: count(&ours.searches).max(count(&requests.count)),
        stated_total: total,
    })
}

fn part<'s, T: serde::Deserialize<'s> + Default>(raw: Option<&'s Raw<'_>>) -> T {
    raw.and_then(|raw| raw.read().ok()).unwrap_or_default()
}

/// Writes the members of `usage`: OpenAI's, and of the others only those that are not zero.
pub fn write(o: &mut Object<'_>, usage: &Usage) {
    let others = |o: &mut Object<'_>, parts: &[(&str, u64)]| {
        parts.iter().filter(|(_, count)| *count > 0).for_each(|(name, count)| o.number(name, *count));
    };
    o.number("input_tokens", usage.input);
    o.object("input_tokens_details", |o| {
        o.number("cached_tokens", usage.cached);
        o.number("cache_write_tokens", usage.cache_write.saturating_add(usage.cache_write_1h));
        others(o, &[("audio_tokens", usage.audio_input)]);
    });
    o.number("output_tokens", usage.output);
    o.object("output_tokens_details", |o| {
        o.number("reasoning_tokens", usage.reasoning);
        let accepted = ("accepted_prediction_tokens", usage.accepted_prediction);
        let rejected = ("rejected_prediction_tokens", usage.rejected_prediction);
        others(o, &[("audio_tokens", usage.audio_output), accepted, rejected]);
    });
    o.number("total_tokens", usage.total());
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

    fn usage(json: &str, tools: &str) -> Option<Usage> {
        read(Some(&Raw::parse(json).unwrap()), Some(&Raw::parse(tools).unwrap()))
    }

    #[test]
    fn sums_include_their_parts() {
        let read = usage(
            r#"{"input_tokens":160,"input_tokens_details":{"cached_tokens":128,"cache_write_tokens":4},"output_tokens":249,
                "output_tokens_details":{"reasoning_tokens":186},"total_tokens":409,"num_sources_used":0}"#,
            r#"{"image_gen":{"input_tokens":0},"web_search":{"num_requests":2}}"#,
        )
        .unwrap();
        let wanted = Usage {
            input: 160,
            output: 249,
            cached: 128,
            cache_write: 4,
            reasoning: 186,
            searches: 2,
            stated_total: Some(409),
            ..Usage::default()
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn nothing_stated_is_nothing() {
        for json in ["null", "{}", "[]", "7", r#"{"input_tokens":null}"#] {
            assert_eq!(usage(json, "null"), None, "{json}");
        }
        assert_eq!(usage(r#"{"input_tokens":3.0,"total_tokens":5}"#, "[]").unwrap().output, 2);
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
        assert_eq!(read(Some(&Raw::parse(std::str::from_utf8(&out).unwrap()).unwrap()), None), Some(usage));
    }
}
