//! Usage as Messages count it: `input_tokens` without what was read from or written to a cache.

use crate::dialect::Shown;
use crate::ir::{Losses, Usage};
use crate::wire::json::Number;
use crate::wire::writer::Object;

/// Writes the counts of an answer. `split`: with the lifetimes of what was written to the cache, as a whole answer and a
/// stream's start have them.
pub(super) fn write(o: &mut Object<'_>, usage: &Usage, split: bool) {
    // The three are added up by callers, and some providers count tokens as both read and written (OpenRouter).
    let uncached = usage.input.saturating_sub(usage.cached);
    let hour = usage.cache_write_1h.min(uncached);
    let short = usage.cache_write.min(uncached.saturating_sub(hour));
    o.number("input_tokens", usage.fresh_input());
    o.number("cache_creation_input_tokens", short.saturating_add(hour));
    o.number("cache_read_input_tokens", usage.cached);
    if split || hour > 0 {
        o.object("cache_creation", |o| {
            o.number("ephemeral_5m_input_tokens", short);
            o.number("ephemeral_1h_input_tokens", hour);
        });
    }
    o.number("output_tokens", usage.output);
    if usage.reasoning > 0 {
        o.object("output_tokens_details", |o| o.number("thinking_tokens", usage.reasoning));
    }
    if usage.searches > 0 {
        o.object("server_tool_use", |o| o.number("web_search_requests", usage.searches));
    }
}

/// The tier in Anthropic's words. What it has no word for is a loss.
pub(super) fn tier(tier: Option<&str>, losses: &mut Losses) -> Option<&'static str> {
    Some(match tier? {
        // OpenAI's word for no priority.
        "standard" | "default" => "standard",
        "priority" => "priority",
        "batch" => "batch",
        _ => {
            losses.dropped("service_tier");
            return None;
        }
    })
}

/// Writes what Portolan adds, where the cost is known.
pub(super) fn costs(o: &mut Object<'_>, shown: &Shown<'_>) {
    if shown.costs.is_empty() {
        return;
    }
    o.bool("cached", shown.cached);
    for (name, amount) in shown.costs {
        match serde_json::from_str::<Number<'_>>(amount) {
            Ok(number) => o.digits(name, &number),
            Err(_) => o.string(name, amount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::writer;

    #[test]
    fn the_parts_of_the_input_add_up_to_it() {
        let usage = Usage { input: 2_168, output: 1, cached: 2_161, cache_write: 2_161, ..Usage::default() };
        let mut out = Vec::new();
        writer::object(&mut out, |o| write(o, &usage, false));
        let wanted =
            r#"{"input_tokens":0,"cache_creation_input_tokens":7,"cache_read_input_tokens":2161,"output_tokens":1}"#;
        assert_eq!(String::from_utf8_lossy(&out), wanted);
    }
}
