//! The shapes of answers, with the members that any decoder of ours gives a meaning; the rest stays raw in `extras`.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer};

use crate::ir;
use crate::shape;
use crate::wire::json::{Number, Raw, Text};
use crate::wire::scan;

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
#[derive(Clone, Debug, Default)]
pub(super) struct Counts<'a> {
    prompt: Option<u64>,
    cached: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
    tool_prompt: Option<u64>,
    total: Option<u64>,
    audio_prompt: u64,
    audio_candidates: u64,
    pub(super) tier: Option<Text<'a>>,
    pub(super) traffic: Option<Raw<'a>>,
}

impl<'a> Counts<'a> {
    /// Reads the object; what is no object counts nothing.
    pub(super) fn of(json: &'a str) -> Self {
        let mut counts = Counts::default();
        let _ = scan::walk(json, DEEPEST, &mut |name, value| match name {
            "promptTokenCount" | "prompt_token_count" => counts.prompt = count(value),
            "cachedContentTokenCount" | "cached_content_token_count" => counts.cached = count(value),
            "candidatesTokenCount" | "candidates_token_count" => counts.candidates = count(value),
            "thoughtsTokenCount" | "thoughts_token_count" => counts.thoughts = count(value),
            "toolUsePromptTokenCount" | "tool_use_prompt_token_count" => counts.tool_prompt = count(value),
            "totalTokenCount" | "total_token_count" => counts.total = count(value),
            "promptTokensDetails" | "prompt_tokens_details" => counts.audio_prompt = audio(value),
            "candidatesTokensDetails" | "candidates_tokens_details" => counts.audio_candidates = audio(value),
            "serviceTier" | "service_tier" => counts.tier = Some(bare(value).into()).filter(|_| value != "null"),
            "trafficType" | "traffic_type" => counts.traffic = Raw::parse(value).ok(),
            _ => {}
        });
        counts
    }

    /// `None` where it counts nothing: Vertex AI sends a `usageMetadata` with a traffic type alone in every frame but
    /// the last.
    ///
    /// The sums, which agree with `totalTokenCount` in all recorded answers: input is the prompt (what was cached
    /// included) and the results of tools that Google ran; output is candidates and thoughts.
    pub(super) fn usage(&self) -> Option<ir::Usage> {
        let counted = [self.prompt, self.candidates, self.thoughts, self.tool_prompt, self.total];
        counted.iter().any(Option::is_some).then(|| {
            let n = |count: Option<u64>| count.unwrap_or(0);
            ir::Usage {
                input: n(self.prompt).saturating_add(n(self.tool_prompt)),
                output: n(self.candidates).saturating_add(n(self.thoughts)),
                cached: n(self.cached),
                audio_input: self.audio_prompt,
                tool_prompt: n(self.tool_prompt),
                reasoning: n(self.thoughts),
                audio_output: self.audio_candidates,
                stated_total: self.total,
                ..ir::Usage::default()
            }
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Counts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)?.into_text().0 {
            Cow::Borrowed(json) => Ok(Counts::of(json)),
            Cow::Owned(_) => Ok(Counts::default()),
        }
    }
}

/// Deepest nesting that is looked into, as deep as `serde_json` reads.
pub(super) const DEEPEST: usize = 128;

/// A count of tokens. Protobuf JSON may write a long one as a string; null is no count, and what is not one is 0.
fn count(value: &str) -> Option<u64> {
    let digits = bare(value);
    // The cast saturates.
    (value != "null").then(|| digits.parse().unwrap_or_else(|_| digits.parse::<f64>().unwrap_or(0.0) as u64))
}

/// The audio tokens of a list of `ModalityTokenCount`; other kinds are not billed apart.
fn audio(details: &str) -> u64 {
    let mut sum = 0_u64;
    let _ = scan::walk(details, DEEPEST, &mut |_, detail| {
        let (mut is, mut tokens) = (false, 0);
        let _ = scan::walk(detail, DEEPEST, &mut |name, value| match name {
            "modality" => is = matches!(bare(value), "AUDIO" | "4"),
            "tokenCount" | "token_count" => tokens = count(value).unwrap_or(0),
            _ => {}
        });
        sum = sum.saturating_add(if is { tokens } else { 0 });
    });
    sum
}

/// A word, number or string without its quotes. Words have no escapes; what has some is none of ours, and is kept as it
/// was written.
fn bare(json: &str) -> &str {
    json.trim_matches('"')
}

/// A word of an enumeration. Protobuf JSON allows its number too, and clients built on protobuf pass that on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word<'a>(pub(super) Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Word(match Raw::deserialize(deserializer)?.into_text().0 {
            Cow::Borrowed(json) => bare(json).into(),
            Cow::Owned(json) => bare(&json).to_owned().into(),
        }))
    }
}
