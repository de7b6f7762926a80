//! Usage as Messages count it: `input_tokens` without what was read from or written to a cache.

use crate::dialect::Shown;
use crate::ir::{Losses, Usage};
use crate::wire::json::Number;
use crate::wire::writer::Object;

/// Writes the counts of an answer. `split`: with the lifetimes of what was written to the cache, as a whole answer and a
/// stream's start have them.
pub(super) fn write(o: &mut Object<'_>, usage: &Usage, split: bool) {
    o.number("input_tokens", usage.fresh_input());
    o.number("cache_creation_input_tokens", usage.cache_write.saturating_add(usage.cache_write_1h));
    o.number("cache_read_input_tokens", usage.cached);
    if split || usage.cache_write_1h > 0 {
        o.object("cache_creation", |o| {
            o.number("ephemeral_5m_input_tokens", usage.cache_write);
            o.number("ephemeral_1h_input_tokens", usage.cache_write_1h);
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
