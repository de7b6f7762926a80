//! What a Bedrock model's name tells of it: its maker, and so what it takes.
//!
//! The catalogue's abilities go first where they say something. What one maker's models refuse ends in a 400 for the whole
//! request, so what is not known to be taken is left out and named, unless the name tells nothing (an application's own
//! inference profile): then it is sent, as its operator will know (user guide "Supported models and model features" and
//! recorded answers, seen 2026-11-21).

use crate::dialect::To;
use crate::dialect::anthropic::model::Model as Claude;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) maker: Maker,
    /// Of Claude's models alone.
    pub(super) claude: Claude,
    /// Nova's second generation, which thinks.
    pub(super) second: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Claude,
    Nova,
    /// OpenAI's open weights.
    GptOss,
    Qwen,
    Mistral,
    DeepSeek,
    Llama,
    /// Models that came in 2025 with structured output: Gemma, MiniMax, Kimi, Nemotron, GLM.
    Open,
    /// The first comers: Titan, Command, Jamba, Palmyra.
    Old,
    /// The name does not tell.
    Unknown,
}

/// Words in a model's id, and who makes it. The first that is found counts.
const WORDS: [(&str, Maker); 26] = [
    ("claude", Maker::Claude),
    ("nova-", Maker::Nova),
    ("gpt-oss", Maker::GptOss),
    ("qwen", Maker::Qwen),
    ("mistral.mistral-7b", Maker::Old),
    ("mistral.mixtral", Maker::Old),
    ("mistral", Maker::Mistral),
    ("deepseek", Maker::DeepSeek),
    ("llama", Maker::Llama),
    ("gemma", Maker::Open),
    ("minimax", Maker::Open),
    ("kimi", Maker::Open),
    ("nemotron", Maker::Open),
    ("glm-", Maker::Open),
    ("google.", Maker::Open),
    ("moonshot", Maker::Open),
    ("nvidia.", Maker::Open),
    ("zai.", Maker::Open),
    ("titan", Maker::Old),
    ("cohere.", Maker::Old),
    ("command-r", Maker::Old),
    ("ai21.", Maker::Old),
    ("jamba", Maker::Old),
    ("writer.", Maker::Old),
    ("palmyra", Maker::Old),
    ("meta.", Maker::Llama),
];

impl Model {
    /// Reads ids such as `anthropic.claude-3-haiku-20240307-v1:0`, `us.amazon.nova-2-lite-v1:0`, or an ARN that ends in one.
    pub(super) fn of(name: &str) -> Model {
        let maker = WORDS.iter().find(|(word, _)| name.contains(word)).map_or(Maker::Unknown, |(_, maker)| *maker);
        Model { maker, claude: Claude::of(name), second: name.contains("nova-2-") }
    }

    fn is(self, makers: &[Maker]) -> bool {
        makers.contains(&self.maker)
    }

    /// Takes `toolChoice.any`.
    pub(super) fn forces_some_tool(self) -> bool {
        !self.is(&[Maker::Llama, Maker::DeepSeek, Maker::Old])
    }

    /// Takes `toolChoice.tool`.
    pub(super) fn forces_one_tool(self) -> bool {
        self.is(&[Maker::Claude, Maker::Nova, Maker::Unknown])
    }

    /// Whether a tool that is forced may stand for a schema. Not where the name tells nothing: the answer must not fail for
    /// a means of ours.
    pub(super) fn answers_by_tool(self) -> bool {
        self.is(&[Maker::Claude, Maker::Nova])
    }

    /// Takes `outputConfig.textFormat`, and tools that are strict.
    pub(super) fn takes_schema(self, to: &To<'_>) -> bool {
        match self.maker {
            Maker::Claude => self.claude.takes_schema(to),
            _ if to.quirks.no_json_schema => false,
            // Pixtral and the large models before the third came too early.
            Maker::Mistral => to.abilities.structured_output.unwrap_or(
                !to.model.contains("pixtral") && !to.model.contains("mistral-large-2") && !to.model.contains("small-2"),
            ),
            Maker::DeepSeek => to.abilities.structured_output.unwrap_or(!to.model.contains("r1")),
            maker => {
                to.abilities.structured_output.unwrap_or(matches!(maker, Maker::GptOss | Maker::Qwen | Maker::Open))
            }
        }
    }

    /// Takes marks of what to cache, in the system prompt and in messages.
    pub(super) fn caches(self) -> bool {
        match self.maker {
            Maker::Claude => self.claude.since((3, 5), true),
            maker => matches!(maker, Maker::Nova | Maker::Unknown),
        }
    }

    /// Takes such marks among the tools.
    pub(super) fn caches_tools(self) -> bool {
        self.caches() && self.maker != Maker::Nova
    }

    /// Keeps what it cached for an hour if asked to.
    pub(super) fn caches_for_an_hour(self) -> bool {
        match self.maker {
            Maker::Claude => self.claude.since((4, 5), true),
            maker => maker == Maker::Unknown,
        }
    }

    /// Goes on where a last turn of the assistant ends.
    pub(super) fn takes_prefill(self) -> bool {
        match self.maker {
            Maker::Claude => self.claude.takes_prefill(),
            maker => maker == Maker::Nova,
        }
    }

    /// Takes its thoughts back.
    pub(super) fn takes_thoughts(self) -> bool {
        self.is(&[Maker::Claude, Maker::Unknown])
    }

    /// Takes the status of a tool's result.
    pub(super) fn takes_status(self) -> bool {
        self.is(&[Maker::Claude, Maker::Nova, Maker::Unknown])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_makers() {
        for (name, maker) in [
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Maker::Claude),
            ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2", Maker::Claude),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", Maker::Unknown),
            ("amazon.nova-micro-v1:0", Maker::Nova),
            ("amazon.titan-text-lite-v1", Maker::Old),
            ("openai.gpt-oss-120b-1:0", Maker::GptOss),
            ("us.meta.llama4-maverick-17b-instruct-v1:0", Maker::Llama),
            ("mistral.mistral-7b-instruct-v0:2", Maker::Old),
            ("us.mistral.pixtral-large-2502-v1:0", Maker::Mistral),
            ("mistral.devstral-2-123b", Maker::Mistral),
            ("us.deepseek.r1-v1:0", Maker::DeepSeek),
            ("zai.glm-4.7-flash", Maker::Open),
            ("google.gemma-3-27b-it", Maker::Open),
        ] {
            assert_eq!(Model::of(name).maker, maker, "{name}");
        }
        assert!(Model::of("us.amazon.nova-2-lite-v1:0").second && !Model::of("us.amazon.nova-pro-v1:0").second);
    }
}
