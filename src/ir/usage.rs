//! Tokens used, in one shape for all providers.
//!
//! Providers disagree on what includes what: OpenAI's prompt tokens include cached ones, Anthropic's `input_tokens` do
//! not; Gemini's candidate tokens do not include thoughts. Decoders settle that here, so that prices are applied once:
//! `input` and `output` are whole sums, the others are parts *of* them.

use serde::Deserialize;

use crate::wire::writer::Object;

/// Counts of one answer. All zero is a statement ("nothing was used"), absence is `Option::None` at the holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens: fresh, cached, written to cache, audio, tool-use prompts.
    pub input: u64,
    /// All output tokens: text, reasoning, audio, tool arguments.
    pub output: u64,
    /// Of `input`: read from a prompt cache.
    pub cached: u64,
    /// Of `input`: written to a prompt cache for the short time to live (5 minutes), or of unstated time.
    pub cache_write: u64,
    /// Of `input`: written to a prompt cache for an hour.
    pub cache_write_1h: u64,
    /// Of `input`: audio.
    pub audio_input: u64,
    /// Of `input`: results of tools that the provider ran itself (Gemini `toolUsePromptTokenCount`).
    pub tool_prompt: u64,
    /// Of `output`: reasoning.
    pub reasoning: u64,
    /// Of `output`: audio.
    pub audio_output: u64,
    /// Of `output`: predicted tokens that were used (OpenAI predicted outputs).
    pub accepted_prediction: u64,
    /// Of `output`: predicted tokens that were not used but are billed.
    pub rejected_prediction: u64,
    /// Billed searches of the provider's own web search tool.
    pub searches: u64,
    /// Total as the provider stated it, where it did; it may differ from `input + output`.
    pub stated_total: Option<u64>,
}

/// More than any answer can have used: the longest contexts are of some ten million tokens.
const ABSURD: u64 = 1 << 30;

impl Usage {
    /// Whether an answer can have used this. What cannot be is no statement of usage, and never a bill.
    pub fn is_plausible(&self) -> bool {
        self.parts().iter().all(|(_, count)| *count < ABSURD) && self.stated_total.is_none_or(|total| total < ABSURD)
    }

    pub fn total(&self) -> u64 {
        self.stated_total.unwrap_or_else(|| self.input.saturating_add(self.output))
    }

    /// What two attempts have used together.
    #[must_use]
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached: self.cached.saturating_add(other.cached),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            audio_input: self.audio_input.saturating_add(other.audio_input),
            tool_prompt: self.tool_prompt.saturating_add(other.tool_prompt),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            audio_output: self.audio_output.saturating_add(other.audio_output),
            accepted_prediction: self.accepted_prediction.saturating_add(other.accepted_prediction),
            rejected_prediction: self.rejected_prediction.saturating_add(other.rejected_prediction),
            searches: self.searches.saturating_add(other.searches),
            stated_total: None,
        }
    }

    /// Input tokens at the plain price: neither read from nor written to a cache.
    pub fn fresh_input(&self) -> u64 {
        self.input.saturating_sub(self.cached).saturating_sub(self.cache_write).saturating_sub(self.cache_write_1h)
    }
}

impl Usage {
    /// Each part by its name, for the journal; parts that are zero are left out.
    pub fn parts(&self) -> [(&'static str, u64); 12] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cached", self.cached),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("audio_input", self.audio_input),
            ("tool_prompt", self.tool_prompt),
            ("reasoning", self.reasoning),
            ("audio_output", self.audio_output),
            ("accepted_prediction", self.accepted_prediction),
            ("rejected_prediction", self.rejected_prediction),
            ("searches", self.searches),
        ]
    }

    pub fn write(&self, o: &mut Object<'_>) {
        for (name, count) in self.parts() {
            if count != 0 {
                o.number(name, count);
            }
        }
        if let Some(total) = self.stated_total {
            o.number("stated_total", total);
        }
    }
}
