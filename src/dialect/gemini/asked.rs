//! The shapes of requests, with the members that we give a meaning; the rest stays raw in `extras`.
//!
//! Protobuf's JSON is lenient, and Google's servers more so: names in camel or snake case, numbers as strings, one
//! object where a list is meant (recorded, and answered with 200). What they take is taken here.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::wire::{Part, Word};
use crate::shape;
use crate::wire::json::{Number, Raw, Text, TextOr, clip};

shape! {
    /// `GenerateContentRequest`, or the `CountTokensRequest` around it.
    pub(super) struct Body {
        model "model": Text<'a>,
        contents "contents": Many<Turn<'a>>,
        system "systemInstruction" | "system_instruction": TextOr<'a, Turn<'a>>,
        tools "tools": Raw<'a>,
        tool_config "toolConfig" | "tool_config": ToolConfig<'a>,
        config "generationConfig" | "generation_config": Config<'a>,
        tier "serviceTier" | "service_tier": Text<'a>,
        cached "cachedContent" | "cached_content": Raw<'a>,
        /// Of `countTokens`: the request whose tokens are to be counted.
        inner "generateContentRequest" | "generate_content_request": Raw<'a>,
    }
}

shape! {
    /// `Content`.
    pub(super) struct Turn {
        role "role": Text<'a>,
        parts "parts": Many<Part<'a>>,
    }
}

shape! {
    /// `FunctionResponse`.
    pub(super) struct Answered {
        id "id": Text<'a>,
        name "name": Text<'a>,
        response "response": Raw<'a>,
        parts "parts": Many<Part<'a>>,
    }
}

shape! {
    pub(super) struct ToolConfig {
        calling "functionCallingConfig" | "function_calling_config": Calling<'a>,
    }
}

shape! {
    pub(super) struct Calling {
        mode "mode": Word<'a>,
        names "allowedFunctionNames" | "allowed_function_names": Vec<Text<'a>>,
    }
}

shape! {
    /// `FunctionDeclaration`.
    pub(super) struct Declaration {
        name "name": Text<'a>,
        description "description": Text<'a>,
        /// Google's subset of OpenAPI.
        parameters "parameters": Raw<'a>,
        json_schema "parametersJsonSchema" | "parameters_json_schema": Raw<'a>,
    }
}

shape! {
    /// `GenerationConfig`.
    pub(super) struct Config {
        temperature "temperature": Figure<'a>,
        top_p "topP" | "top_p": Figure<'a>,
        top_k "topK" | "top_k": Figure<'a>,
        seed "seed": Figure<'a>,
        candidates "candidateCount" | "candidate_count": Figure<'a>,
        most "maxOutputTokens" | "max_output_tokens": Figure<'a>,
        stop "stopSequences" | "stop_sequences": Vec<Text<'a>>,
        presence "presencePenalty" | "presence_penalty": Figure<'a>,
        frequency "frequencyPenalty" | "frequency_penalty": Figure<'a>,
        logprobs "responseLogprobs" | "response_logprobs": bool,
        alternatives "logprobs": Figure<'a>,
        mime "responseMimeType" | "response_mime_type": Text<'a>,
        /// Google's subset of OpenAPI.
        schema "responseSchema" | "response_schema": Raw<'a>,
        json_schema "responseJsonSchema" | "response_json_schema" | "_responseJsonSchema": Raw<'a>,
        modalities "responseModalities" | "response_modalities": Raw<'a>,
        thinking "thinkingConfig" | "thinking_config": Thinking<'a>,
    }
}

shape! {
    /// `ThinkingConfig`.
    pub(super) struct Thinking {
        show "includeThoughts" | "include_thoughts": bool,
        budget "thinkingBudget" | "thinking_budget": Figure<'a>,
        level "thinkingLevel" | "thinking_level": Word<'a>,
    }
}

/// A number that may be written as a string.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure<'a>(pub(super) Number<'a>);

impl<'a> Figure<'a> {
    /// The number; one that is whole without a fraction (`40.0` is whole), as other providers want it.
    pub(super) fn whole(self) -> Number<'a> {
        match self.0.as_u64() {
            Some(whole) => whole.into(),
            None => self.0,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Figure<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |json: &str| de::Error::custom(format_args!("expected a number, got `{}`", clip(json, 40)));
        match Raw::deserialize(deserializer)?.into_text().0 {
            Cow::Borrowed(json) => match serde_json::from_str(json.trim_matches('"')) {
                Ok(number) => Ok(Figure(number)),
                Err(_) => Err(wrong(json)),
            },
            Cow::Owned(json) => Err(wrong(&json)),
        }
    }
}

/// A list of objects, or one object in place of a list of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Many(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Many(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|item| Many(vec![item]))
    }
}
