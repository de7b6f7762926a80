//! What a Claude model's name tells of it: its generation, and so what it takes.
//!
//! The catalogue's abilities go first where they say something. But operators name new models before any catalogue does,
//! and generations differ in ways that end in a 400 (guides "Migration guide" and "Adaptive thinking", seen 2026-11-21):
//! from 4.6 on a model decides itself how long to think and takes no prefilled answer; from 4.7 on it takes neither
//! budgets nor temperatures. A name that is no Claude's is another maker's model behind this API, and is taken to be
//! able.

use crate::dialect::To;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Model {
    /// Major and minor version; `None` where the name tells none.
    version: Option<(u32, u32)>,
}

impl Model {
    /// Reads names such as `claude-opus-4-7-20260416`, `claude-3-5-haiku-latest`, `anthropic/claude-sonnet-4.5`,
    /// `us.anthropic.claude-opus-4-1-20250805-v1:0`.
    pub(in crate::dialect) fn of(name: &str) -> Model {
        let Some((_, rest)) = name.split_once("claude") else { return Model { version: None } };
        let mut numbers = rest
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .skip_while(|word| word.parse::<u32>().is_err());
        // Dates have eight digits.
        let version = |word: Option<&str>| word.and_then(|word| word.parse().ok()).filter(|n: &u32| *n < 100);
        let version = version(numbers.next()).map(|major| (major, version(numbers.next()).unwrap_or(0)));
        // Came between 4.6 and 5, and is of the same make as 4.7.
        let version = version.or(name.contains("claude-mythos").then_some((4, 7)));
        Model { version }
    }

    /// Whether the model is of a generation or later; `unknown` where the name does not tell.
    pub(in crate::dialect) fn since(self, version: (u32, u32), unknown: bool) -> bool {
        self.version.map_or(unknown, |own| own >= version)
    }

    /// Has the member `thinking` at all.
    pub(in crate::dialect) fn thinks(self, to: &To<'_>) -> bool {
        to.abilities.reasoning.unwrap_or(self.since((3, 7), true))
    }

    /// Decides itself how long to think, guided by `effort`.
    pub(in crate::dialect) fn is_adaptive(self, to: &To<'_>) -> bool {
        to.abilities.adaptive_thinking.unwrap_or(self.since((4, 6), false))
    }

    /// Has the effort level `xhigh`.
    pub(in crate::dialect) fn has_xhigh(self) -> bool {
        self.since((4, 7), true)
    }

    /// Shows no thoughts unless asked to.
    pub(in crate::dialect) fn hides_thoughts(self) -> bool {
        self.since((4, 7), false)
    }

    /// Takes a JSON Schema for its answer.
    pub(in crate::dialect) fn takes_schema(self, to: &To<'_>) -> bool {
        // Opus 4.1 took them as well, from a beta on; it is retired.
        !to.quirks.no_json_schema && to.abilities.structured_output.unwrap_or(self.since((4, 5), true))
    }

    /// Takes a temperature other than 1, `top_p` and `top_k`.
    pub(in crate::dialect) fn takes_sampling(self) -> bool {
        !self.since((4, 7), false)
    }

    /// Takes `temperature` and `top_p` together.
    pub(in crate::dialect) fn takes_both(self) -> bool {
        !self.since((4, 1), false)
    }

    /// Goes on where a last turn of the assistant ends.
    pub(in crate::dialect) fn takes_prefill(self) -> bool {
        !self.since((4, 6), false)
    }

    /// The token limit where the caller set none and the catalogue knows none. Anthropic demands one; this is as much as
    /// any model since 3.5 takes, and enough that an answer is seldom cut.
    pub(in crate::dialect) fn default_limit(self) -> u64 {
        if self.since((3, 5), true) { 8_192 } else { 4_096 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_versions() {
        for (name, version) in [
            ("claude-opus-4-7-20260416", Some((4, 7))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-3-5-sonnet-20241022", Some((3, 5))),
            ("claude-3-opus-20240229", Some((3, 0))),
            ("claude-3-7-sonnet-latest", Some((3, 7))),
            ("anthropic/claude-haiku-4.5", Some((4, 5))),
            ("us.anthropic.claude-opus-4-1-20250805-v1:0", Some((4, 1))),
            ("claude-sonnet-4-5@20250929", Some((4, 5))),
            ("claude-mythos-preview", Some((4, 7))),
            ("claude-mythos-5-1", Some((5, 1))),
            ("claude-latest", None),
            ("deepseek-chat", None),
        ] {
            assert_eq!(Model::of(name).version, version, "{name}");
        }
    }
}
