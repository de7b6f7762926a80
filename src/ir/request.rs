//! One call for a generated answer.

use super::{Content, Message, Origin, Tool, ToolChoice};
use crate::wire::json::{Extras, Number, Raw, Text};

#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Whose extras these are.
    pub origin: Origin,
    /// The model as the caller named it; encoders write the target's name instead.
    pub model: Text<'a>,
    /// The conversation in order; system and developer messages stand where the caller put them.
    pub messages: Vec<Message<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<ToolChoice<'a>>,
    /// `Some(false)`: at most one tool call an answer.
    pub parallel_tool_calls: Option<bool>,
    pub format: Format<'a>,
    pub reasoning: Option<ReasoningWish<'a>>,
    pub sampling: Sampling<'a>,
    /// Upper bound of generated tokens, reasoning included.
    pub max_tokens: Option<u64>,
    pub stop: Vec<Text<'a>>,
    pub stream: bool,
    /// The caller asked to see usage at the end of its stream.
    pub include_usage: bool,
    /// The caller's own end user (`user`, `metadata.user_id`).
    pub user: Option<Text<'a>>,
    /// Free string pairs the provider stores with the call: a JSON object.
    pub metadata: Option<Raw<'a>>,
    pub service_tier: Option<Text<'a>>,
    /// Hint that requests with one prefix belong together (`prompt_cache_key`).
    pub cache_key: Option<Text<'a>>,
    pub extras: Extras<'a>,
}

impl Request<'_> {
    /// Whether nobody says anything in the whole conversation: no message has more than white space.
    pub fn is_silent(&self) -> bool {
        let silent = |content: &Content<'_>| matches!(content, Content::Text { text, .. } if text.trim().is_empty());
        self.messages.iter().flat_map(|message| &message.blocks).all(|block| silent(&block.content))
    }
}

/// How tokens are drawn. Numbers as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling<'a> {
    /// 0..=2 in OpenAI's and Gemini's scale; Anthropic takes 0..=1.
    pub temperature: Option<Number<'a>>,
    pub top_p: Option<Number<'a>>,
    pub top_k: Option<Number<'a>>,
    pub seed: Option<Number<'a>>,
    pub frequency_penalty: Option<Number<'a>>,
    pub presence_penalty: Option<Number<'a>>,
    /// Object of token id -> bias.
    pub logit_bias: Option<Raw<'a>>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u64>,
    /// How many candidates (`n`, `candidateCount`).
    pub candidates: Option<u64>,
}

/// The form the answer must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format<'a> {
    /// Nothing was asked for.
    #[default]
    Free,
    /// Plain text, asked for by name.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that satisfies a schema.
    JsonSchema { name: Option<Text<'a>>, description: Option<Text<'a>>, schema: Raw<'a>, strict: Option<bool> },
}

/// How much the model should think before it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReasoningWish<'a> {
    pub effort: Option<Effort>,
    /// Tokens to think with; `Some(0)` is "none".
    pub budget: Option<u64>,
    /// Whether the caller wants to read the thoughts; `None` leaves it to the provider's default.
    pub show: Option<bool>,
    /// Kind of summary asked for (`auto`, `concise`, `detailed`).
    pub summary: Option<Text<'a>>,
    /// The model decides (Anthropic `adaptive`, Gemini budget -1).
    pub adaptive: bool,
}

/// The levels of OpenAI's `reasoning_effort` (API reference, seen 2026-11-21), lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    const NAMES: [(&'static str, Effort, u64); 7] = [
        ("none", Effort::None, 0),
        ("minimal", Effort::Minimal, 1_024),
        ("low", Effort::Low, 2_048),
        ("medium", Effort::Medium, 8_192),
        ("high", Effort::High, 24_576),
        ("xhigh", Effort::XHigh, 32_768),
        ("max", Effort::Max, 65_536),
    ];

    pub fn parse(name: &str) -> Option<Effort> {
        Self::NAMES.iter().find(|(n, ..)| *n == name).map(|(_, effort, _)| *effort)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, e, _)| *e == self).map_or("medium", |(n, ..)| n)
    }

    /// The thinking budget in tokens that stands for this level where a provider takes only budgets. Minimal to high
    /// are those of Google's OpenAI-compatibility page (1,024 / 1,024 / 8,192 / 24,576, seen 2026-11-21), with `low`
    /// raised so that the levels stay distinct.
    pub fn budget(self) -> u64 {
        Self::NAMES.iter().find(|(_, e, _)| *e == self).map_or(8_192, |(.., budget)| *budget)
    }

    /// The level nearest above a budget, where a provider takes only levels.
    pub fn from_budget(tokens: u64) -> Effort {
        Self::NAMES.iter().find(|(.., budget)| tokens <= *budget).map_or(Effort::Max, |(_, effort, _)| *effort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_budgets_agree() {
        for (name, effort, budget) in Effort::NAMES {
            assert_eq!(Effort::parse(name), Some(effort));
            assert_eq!(effort.name(), name);
            assert_eq!(Effort::from_budget(budget), effort);
        }
        assert_eq!(Effort::from_budget(5_000), Effort::Medium);
        assert_eq!(Effort::from_budget(1 << 40), Effort::Max);
    }
}
