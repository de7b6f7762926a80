//! The shapes of answers, with the members that any decoder of ours gives a meaning; the rest stays raw in `extras`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::ir;
use crate::shape;
use crate::wire::json::{Number, Raw, Text};

shape! {
    /// `GenerateContentResponse`: a whole answer, or one frame of a stream.
    pub(super) struct Answer {
        candidates "candidates": Vec<Candidate<'a>>,
        feedback "promptFeedback" | "prompt_feedback": Raw<'a>,
        usage "usageMetadata" | "usage_metadata": Counts<'a>,
        model "modelVersion" | "model_version": Text<'a>,
        id "responseId" | "response_id": Text<'a>,
        /// RFC 3339; Vertex AI only.
        created "createTime" | "create_time": Text<'a>,
        error "error": Raw<'a>,
    }
}

shape! {
    pub(super) struct Candidate {
        index "index": Number<'a>,
        content "content": Turn<'a>,
        finish "finishReason" | "finish_reason": Word<'a>,
        logprobs "logprobsResult" | "logprobs_result": Logprobs<'a>,
    }
}

shape! {
    /// `PromptFeedback`: present where the prompt was judged; `blocked` where it was refused.
    pub(super) struct Feedback {
        blocked "blockReason" | "block_reason": Word<'a>,
    }
}

shape! {
    /// `Content`.
    pub(super) struct Turn {
        role "role": Text<'a>,
        parts "parts": Vec<Part<'a>>,
    }
}

shape! {
    /// `Part`: at most one of the kinds, plus what is said about it.
    pub(super) struct Part {
        text "text": Text<'a>,
        /// The text is a thought.
        thought "thought": bool,
        signature "thoughtSignature" | "thought_signature": Text<'a>,
        inline "inlineData" | "inline_data": Blob<'a>,
        file "fileData" | "file_data": File<'a>,
        call "functionCall" | "function_call": Call<'a>,
    }
}

shape! {
    pub(super) struct Blob {
        mime "mimeType" | "mime_type": Text<'a>,
        data "data": Text<'a>,
        name "displayName" | "display_name": Text<'a>,
    }
}

shape! {
    pub(super) struct File {
        mime "mimeType" | "mime_type": Text<'a>,
        uri "fileUri" | "file_uri": Text<'a>,
        name "displayName" | "display_name": Text<'a>,
    }
}

shape! {
    pub(super) struct Call {
        id "id": Text<'a>,
        name "name": Text<'a>,
        args "args": Raw<'a>,
        /// Vertex AI, where `streamFunctionCallArguments` was asked for: the arguments come in pieces.
        partial "partialArgs" | "partial_args": Vec<Partial<'a>>,
        more "willContinue" | "will_continue": bool,
    }
}

shape! {
    /// One piece of an argument: which (JSONPath, RFC 9535), and what is to be put or appended there.
    pub(super) struct Partial {
        path "jsonPath" | "json_path": Text<'a>,
        string "stringValue" | "string_value": Text<'a>,
        number "numberValue" | "number_value": Number<'a>,
        bool "boolValue" | "bool_value": bool,
    }
}

shape! {
    pub(super) struct Logprobs {
        chosen "chosenCandidates" | "chosen_candidates": Vec<Token<'a>>,
        top "topCandidates" | "top_candidates": Vec<Tokens<'a>>,
    }
}

shape! {
    pub(super) struct Tokens {
        candidates "candidates": Vec<Token<'a>>,
    }
}

shape! {
    pub(super) struct Token {
        token "token": Text<'a>,
        logprob "logProbability" | "log_probability": Number<'a>,
    }
}

shape! {
    /// Any object, for its members.
    pub(super) struct Bag {}
}

/// `UsageMetadata`. Read without allocation, since every frame of a stream has one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Counts<'a> {
    #[serde(rename = "promptTokenCount", alias = "prompt_token_count")]
    prompt: Option<Count>,
    #[serde(rename = "cachedContentTokenCount", alias = "cached_content_token_count")]
    cached: Option<Count>,
    #[serde(rename = "candidatesTokenCount", alias = "candidates_token_count")]
    candidates: Option<Count>,
    #[serde(rename = "thoughtsTokenCount", alias = "thoughts_token_count")]
    thoughts: Option<Count>,
    #[serde(rename = "toolUsePromptTokenCount", alias = "tool_use_prompt_token_count")]
    tool_prompt: Option<Count>,
    #[serde(rename = "totalTokenCount", alias = "total_token_count")]
    total: Option<Count>,
    #[serde(rename = "promptTokensDetails", alias = "prompt_tokens_details")]
    prompt_details: Option<Audio>,
    #[serde(rename = "candidatesTokensDetails", alias = "candidates_tokens_details")]
    candidates_details: Option<Audio>,
    #[serde(borrow, rename = "serviceTier", alias = "service_tier")]
    pub(super) tier: Option<Text<'a>>,
    #[serde(borrow, rename = "trafficType", alias = "traffic_type")]
    pub(super) traffic: Option<Raw<'a>>,
}

impl Counts<'_> {
    /// `None` where it counts nothing: Vertex AI sends a `usageMetadata` with a traffic type alone in every frame but
    /// the last.
    ///
    /// The sums, which agree with `totalTokenCount` in all recorded answers: input is the prompt (what was cached
    /// included) and the results of tools that Google ran; output is candidates and thoughts.
    pub(super) fn usage(&self) -> Option<ir::Usage> {
        let counted = [self.prompt, self.candidates, self.thoughts, self.tool_prompt, self.total];
        counted.iter().any(Option::is_some).then(|| {
            let n = |count: Option<Count>| count.map_or(0, |count| count.0);
            ir::Usage {
                input: n(self.prompt).saturating_add(n(self.tool_prompt)),
                output: n(self.candidates).saturating_add(n(self.thoughts)),
                cached: n(self.cached),
                audio_input: self.prompt_details.map_or(0, |audio| audio.0),
                tool_prompt: n(self.tool_prompt),
                reasoning: n(self.thoughts),
                audio_output: self.candidates_details.map_or(0, |audio| audio.0),
                stated_total: self.total.map(|count| count.0),
                ..ir::Usage::default()
            }
        })
    }
}

/// A count of tokens. Protobuf JSON may write a long one as a string; what is no count is nothing.
#[derive(Clone, Copy, Debug)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count")
            }
            fn visit_u64<E>(self, n: u64) -> Result<Count, E> {
                Ok(Count(n))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(n).unwrap_or(0)))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Count, E> {
                // Saturates, and takes what is not a number as 0.
                Ok(Count(n as u64))
            }
            fn visit_str<E>(self, text: &str) -> Result<Count, E> {
                Ok(Count(text.parse().unwrap_or(0)))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// The audio tokens of a list of `ModalityTokenCount`; other kinds are not billed apart.
#[derive(Clone, Copy, Debug)]
struct Audio(u64);

impl<'de> Deserialize<'de> for Audio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Detail<'a> {
            #[serde(borrow)]
            modality: Option<Word<'a>>,
            #[serde(rename = "tokenCount", alias = "token_count")]
            count: Option<Count>,
        }
        struct Sum;
        impl<'de> Visitor<'de> for Sum {
            type Value = Audio;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of counts by modality")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Audio, A::Error> {
                let mut sum = 0_u64;
                while let Some(Detail { modality, count }) = list.next_element()? {
                    if matches!(modality.as_ref().map(Word::as_str), Some("AUDIO" | "4")) {
                        sum = sum.saturating_add(count.map_or(0, |count| count.0));
                    }
                }
                Ok(Audio(sum))
            }
        }
        deserializer.deserialize_seq(Sum)
    }
}

/// A word of an enumeration. Protobuf JSON allows its number too, and clients built on protobuf pass that on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word<'a>(pub(super) Text<'a>);

impl Word<'_> {
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A word has no escapes; what has some is none of ours, and is kept as it was written.
        Ok(Word(match Raw::deserialize(deserializer)?.into_text().0 {
            Cow::Borrowed(json) => json.trim_matches('"').into(),
            Cow::Owned(json) => json.trim_matches('"').to_owned().into(),
        }))
    }
}

/// What the sniffer needs of a frame, found without allocation.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Glance<'a> {
    pub(super) candidates: Option<Lanes>,
    #[serde(rename = "promptFeedback", alias = "prompt_feedback")]
    pub(super) feedback: Option<Judged>,
    #[serde(borrow, rename = "usageMetadata", alias = "usage_metadata")]
    pub(super) usage: Option<Counts<'a>>,
    pub(super) error: Option<IgnoredAny>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Judged {
    #[serde(rename = "blockReason", alias = "block_reason")]
    pub(super) blocked: Option<IgnoredAny>,
}

/// Which candidates a frame speaks of, a bit each; from the 64th on they share one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lanes {
    pub(super) seen: u64,
    pub(super) finished: u64,
    /// Some candidate has a part.
    pub(super) content: bool,
}

impl<'de> Deserialize<'de> for Lanes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Lane {
            index: Option<Count>,
            content: Option<Parts>,
            #[serde(rename = "finishReason", alias = "finish_reason")]
            finish: Option<IgnoredAny>,
        }
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Parts {
            parts: Option<Filled>,
        }
        struct Fold;
        impl<'de> Visitor<'de> for Fold {
            type Value = Lanes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of candidates")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lanes, A::Error> {
                let mut lanes = Lanes::default();
                while let Some(Lane { index, content, finish }) = list.next_element()? {
                    let bit = 1_u64 << index.map_or(0, |index| index.0.min(63));
                    lanes.seen |= bit;
                    lanes.finished |= if finish.is_some() { bit } else { 0 };
                    lanes.content |= content.and_then(|content| content.parts).is_some_and(|filled| filled.0);
                }
                Ok(lanes)
            }
        }
        deserializer.deserialize_seq(Fold)
    }
}

/// Whether a list has anything in it.
struct Filled(bool);

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Filled;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Filled, A::Error> {
                let mut filled = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    filled = true;
                }
                Ok(Filled(filled))
            }
        }
        deserializer.deserialize_seq(Any)
    }
}
