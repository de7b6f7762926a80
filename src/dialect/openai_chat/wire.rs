//! The shapes of Chat Completions bodies, as OpenAI and the providers compatible with it write them.
//!
//! Members are typed only as far as we interpret them; what differs from provider to provider is kept raw and judged
//! where it is used, so that an odd member never spoils a whole answer. Sources, all seen 2026-11-21: OpenAI API
//! reference (Chat Completions), OpenRouter (reasoning tokens), DeepSeek, Mistral, Groq, xAI and Moonshot references,
//! Google's OpenAI compatibility page.

use crate::ir::{Finish, FinishReason, Losses, Origin};
use crate::shape;
use crate::wire::json::{Extras, Invalid, Kind, Number, Raw, Text, TextOr};
use crate::wire::writer::Object;

/// The owner of this dialect's extras.
pub const ORIGIN: Origin = Origin("openai_chat");

shape! {
    pub struct RequestBody {
        model "model": Text<'a>,
        messages "messages": Vec<Message<'a>>,
        tools "tools": Vec<Raw<'a>>,
        tool_choice "tool_choice": Raw<'a>,
        functions "functions": Vec<Raw<'a>>,
        function_call "function_call": Raw<'a>,
        parallel "parallel_tool_calls": bool,
        format "response_format": Raw<'a>,
        effort "reasoning_effort": Raw<'a>,
        reasoning "reasoning": Raw<'a>,
        thinking "thinking": Raw<'a>,
        enable_thinking "enable_thinking": bool,
        thinking_budget "thinking_budget": Number<'a>,
        temperature "temperature": Number<'a>,
        top_p "top_p": Number<'a>,
        top_k "top_k": Number<'a>,
        seed "seed": Number<'a>,
        frequency_penalty "frequency_penalty": Number<'a>,
        presence_penalty "presence_penalty": Number<'a>,
        logit_bias "logit_bias": Raw<'a>,
        logprobs "logprobs": bool,
        top_logprobs "top_logprobs": Number<'a>,
        n "n": Number<'a>,
        max_tokens "max_tokens": Number<'a>,
        max_completion_tokens "max_completion_tokens": Number<'a>,
        stop "stop": TextOr<'a, Vec<Text<'a>>>,
        stream "stream": bool,
        stream_options "stream_options": StreamOptions<'a>,
        user "user": Text<'a>,
        metadata "metadata": Raw<'a>,
        service_tier "service_tier": Text<'a>,
        cache_key "prompt_cache_key": Text<'a>,
    }
}

shape! {
    pub struct StreamOptions { include_usage "include_usage": bool }
}

shape! {
    /// A message of a request or of an answer.
    pub struct Message {
        role "role": Text<'a>,
        content "content": TextOr<'a, Vec<Raw<'a>>>,
        name "name": Text<'a>,
        tool_calls "tool_calls": Vec<Call<'a>>,
        function_call "function_call": CallFunction<'a>,
        tool_call_id "tool_call_id": Text<'a>,
        refusal "refusal": Text<'a>,
        reasoning_content "reasoning_content": Text<'a>,
        reasoning "reasoning": Text<'a>,
        reasoning_details "reasoning_details": Vec<Detail<'a>>,
        audio "audio": Audio<'a>,
        images "images": Vec<Raw<'a>>,
        extra_content "extra_content": Raw<'a>,
        cache "cache_control": Raw<'a>,
    }
}

shape! {
    pub struct Part {
        kind "type": Text<'a>,
        text "text": Text<'a>,
        image_url "image_url": Raw<'a>,
        video_url "video_url": Raw<'a>,
        input_audio "input_audio": Raw<'a>,
        file "file": Raw<'a>,
        refusal "refusal": Text<'a>,
        thinking "thinking": Raw<'a>,
        cache "cache_control": Raw<'a>,
    }
}

shape! {
    pub struct Url { url "url": Text<'a>, detail "detail": Text<'a> }
}

shape! {
    pub struct InputAudio { data "data": Text<'a>, format "format": Text<'a> }
}

shape! {
    pub struct File { data "file_data": Text<'a>, id "file_id": Text<'a>, name "filename": Text<'a> }
}

shape! {
    /// Audio of an answer, or (the id alone) of an earlier one.
    pub struct Audio { id "id": Text<'a>, data "data": Text<'a> }
}

shape! {
    /// A tool call, whole or (in a stream) a piece of one.
    pub struct Call {
        index "index": Raw<'a>,
        id "id": Text<'a>,
        kind "type": Text<'a>,
        function "function": CallFunction<'a>,
        custom "custom": CallCustom<'a>,
        extra_content "extra_content": Raw<'a>,
        cache "cache_control": Raw<'a>,
    }
}

shape! {
    pub struct CallFunction { name "name": Text<'a>, arguments "arguments": Raw<'a> }
}

shape! {
    pub struct CallCustom { name "name": Text<'a>, input "input": Text<'a> }
}

shape! {
    /// One entry of OpenRouter's `reasoning_details`.
    pub struct Detail {
        kind "type": Text<'a>,
        text "text": Text<'a>,
        summary "summary": Text<'a>,
        data "data": Text<'a>,
        signature "signature": Text<'a>,
        format "format": Text<'a>,
        id "id": Text<'a>,
        index "index": Raw<'a>,
    }
}

shape! {
    /// `extra_content` as Google's OpenAI endpoint writes it.
    pub struct ExtraContent { google "google": Google<'a> }
}

shape! {
    pub struct Google { signature "thought_signature": Text<'a> }
}

shape! {
    pub struct ToolDef { kind "type": Text<'a>, function "function": FunctionDef<'a>, cache "cache_control": Raw<'a> }
}

shape! {
    pub struct FunctionDef {
        name "name": Text<'a>,
        description "description": Text<'a>,
        parameters "parameters": Raw<'a>,
        strict "strict": bool,
    }
}

shape! {
    pub struct ToolChoiceObject { kind "type": Text<'a>, function "function": Named<'a>, allowed "allowed_tools": Allowed<'a> }
}

shape! {
    pub struct Named { name "name": Text<'a> }
}

shape! {
    pub struct Allowed { mode "mode": Text<'a>, tools "tools": Vec<ToolDef<'a>> }
}

shape! {
    pub struct ResponseFormat { kind "type": Text<'a>, schema "schema": Raw<'a>, named "json_schema": JsonSchema<'a> }
}

shape! {
    pub struct JsonSchema {
        name "name": Text<'a>,
        description "description": Text<'a>,
        schema "schema": Raw<'a>,
        strict "strict": bool,
    }
}

shape! {
    /// `reasoning` of a request, as OpenRouter takes it.
    pub struct ReasoningObject {
        effort "effort": Text<'a>,
        max_tokens "max_tokens": Number<'a>,
        exclude "exclude": bool,
        enabled "enabled": bool,
        summary "summary": Text<'a>,
    }
}

shape! {
    /// `thinking` of a request, as DeepSeek, Zhipu and Moonshot take it.
    pub struct Thinking { kind "type": Text<'a>, budget "budget_tokens": Number<'a> }
}

shape! {
    /// A whole answer, and also one chunk of a stream.
    pub struct Answer {
        id "id": Text<'a>,
        object "object": Raw<'a>,
        created "created": Raw<'a>,
        model "model": Text<'a>,
        choices "choices": Vec<Choice<'a>>,
        usage "usage": Raw<'a>,
        service_tier "service_tier": Text<'a>,
        fingerprint "system_fingerprint": Text<'a>,
        error "error": Raw<'a>,
    }
}

shape! {
    pub struct Choice {
        index "index": Raw<'a>,
        message "message": Message<'a>,
        delta "delta": Message<'a>,
        finish "finish_reason": Text<'a>,
        logprobs "logprobs": Raw<'a>,
        usage "usage": Raw<'a>,
    }
}

/// The path of a mistake, seen from the body.
pub fn at(path: &str, mut invalid: Invalid) -> Invalid {
    invalid.path = match invalid.path.as_str() {
        "" | "." => path.to_owned(),
        inner if inner.starts_with('[') => format!("{path}{inner}"),
        inner => format!("{path}.{inner}"),
    };
    invalid
}

pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Invalid {
    Invalid { path: path.into(), message: message.into() }
}

/// A whole number that a sloppy provider may have written otherwise; what is not one reads as absent.
pub fn whole(raw: Option<&Raw<'_>>) -> Option<u64> {
    whole_json(raw?.get())
}

/// As [`whole`], of JSON as it is written.
pub fn whole_json(json: &str) -> Option<u64> {
    match json.as_bytes().first()? {
        b'0'..=b'9' => json.parse().ok().or_else(|| Raw::parse(json).ok()?.read::<Number<'_>>().ok()?.as_u64()),
        b'-' => Raw::parse(json).ok()?.read::<Number<'_>>().ok()?.as_u64(),
        _ => None,
    }
}

/// Text, unless it is empty: several providers write `""` where they have nothing to say.
pub fn some(text: Option<Text<'_>>) -> Option<Text<'_>> {
    text.filter(|text| !text.is_empty())
}

/// Adds unknown members of an inner object to the extras of an outer one, as `prefix.name`; `null` is nothing.
pub fn adopt<'a>(into: &mut Extras<'a>, prefix: &str, inner: Extras<'a>) {
    for (name, json) in inner.0 {
        if json.is_null() {
            continue;
        }
        let name = if prefix.is_empty() { name } else { Text::from(format!("{prefix}.{name}")) };
        into.0.push((name, json));
    }
}

/// Writes the extras that [`adopt`] put under `prefix`.
pub fn write_nested(o: &mut Object<'_>, extras: &Extras<'_>, prefix: &str) {
    for (name, json) in nested(extras, prefix) {
        o.raw(name, json);
    }
}

/// The extras under `prefix`, by the names they had there; what lies deeper is not of them.
pub fn nested<'e, 'a>(extras: &'e Extras<'a>, prefix: &'e str) -> impl Iterator<Item = (&'e str, &'e Raw<'a>)> {
    extras.iter().filter_map(move |(name, json)| {
        let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
        (!name.contains('.')).then_some((name, json))
    })
}

/// Whether an extra was adopted from an inner object named one of `prefixes`.
pub fn is_nested(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')))
}

/// Arguments of a call: a JSON string by rule; some providers send the object itself.
pub fn arguments<'a>(raw: Option<Raw<'a>>) -> Text<'a> {
    let Some(raw) = raw else { return Text::default() };
    match raw.kind() {
        Kind::String => raw.open().unwrap_or_default(),
        Kind::Null => Text::default(),
        _ => Text::from(raw.get().to_owned()),
    }
}

/// Gemini's thought signature out of an `extra_content`.
pub fn google_signature<'a>(extra: Option<&Raw<'a>>) -> Option<Text<'a>> {
    let extra: ExtraContent<'a> = extra?.open().ok()?;
    some(extra.google?.signature)
}

/// Writes `extra_content` with Gemini's thought signature.
pub fn write_google_signature(o: &mut Object<'_>, signature: &str) {
    o.object("extra_content", |o| o.object("google", |o| o.string("thought_signature", signature)));
}

/// An annotation in the shape of Chat Completions: an object whose `type` names the member that holds the rest.
pub fn is_annotation(json: &Raw<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    let Ok(annotation) = json.read::<Kind<'_>>() else { return false };
    json.read::<AnyObject<'_>>().is_ok_and(|members| members.extras.get(&annotation.kind).is_some())
}

shape! {
    /// Any object, by its members.
    struct AnyObject {}
}

/// Why the model stopped, from the provider's word; `None` for the empty word.
pub fn finish(word: Text<'_>) -> Option<Finish<'_>> {
    let reason = match word.as_str() {
        "" => return None,
        "stop" | "eos" | "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        // `model_length`: Mistral. `model_context_window_exceeded`: Zhipu.
        "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        // `sensitive`: Zhipu.
        "content_filter" | "safety" | "sensitive" | "recitation" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Pause,
        // OpenRouter; Zhipu; DeepSeek; vLLM.
        "error" | "network_error" | "insufficient_system_resource" | "abort" => FinishReason::Error,
        _ => FinishReason::Other,
    };
    Some(Finish { reason, sequence: None, native: Some(word) })
}

/// The word for callers. The second is whether it says less than was meant.
pub fn finish_word(reason: FinishReason, called: bool) -> (&'static str, bool) {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence => ("stop", false),
        FinishReason::Length => ("length", false),
        FinishReason::ToolCalls => ("tool_calls", false),
        // Anthropic's `refusal` is its classifiers' doing, and often comes without a word: `stop` would hide that.
        FinishReason::ContentFilter | FinishReason::Refusal => ("content_filter", false),
        FinishReason::Pause => ("stop", true),
        FinishReason::Error | FinishReason::Other if called => ("tool_calls", true),
        FinishReason::Error | FinishReason::Other => ("stop", true),
    }
}

shape! {
    struct Scored { refusal "refusal": Raw<'a>, reasoning "reasoning_content": Raw<'a> }
}

/// Names the lists of log probabilities beside that of the text (DeepSeek's of the thoughts), for dialects that have a
/// place for no other.
pub fn unscored(json: &Raw<'_>, losses: &mut Losses) {
    let scored: Scored<'_> = json.read().unwrap_or_default();
    for (name, list) in [("logprobs.refusal", scored.refusal), ("logprobs.reasoning_content", scored.reasoning)] {
        if list.is_some_and(|list| list.kind() == Kind::Array && list.get().len() > 2) {
            losses.dropped(name);
        }
    }
}
