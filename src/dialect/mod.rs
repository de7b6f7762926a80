//! Floor 3: how it is said. Bytes to [`ir`](crate::ir) and back, one folder a dialect, the same files in each.
//!
//! A dialect is a way to speak; *where* and with which credentials is the provider's floor. [`Outbound`] faces
//! providers, [`Inbound`] faces callers; a dialect may be either or both. The same dialect on both sides never enters
//! the IR: [`Outbound::splice`] and [`Sniffer`] serve the passthrough. What differs between providers of one dialect
//! is data ([`Quirks`]), never a subclass.

use serde::{Deserialize, Serialize};

use crate::ir::{Event, Fault, Losses, Request, Response, Usage};
use crate::wire::frames::Framing;
use crate::wire::json::{Invalid, Raw};
use crate::wire::patch::Patch;
use crate::wire::scan::Members;
use crate::wire::sse::Frame;

use self::words::Words;

pub mod additions;
pub mod anthropic;
pub mod bedrock;
pub mod cohere;
pub mod gemini;
pub mod ollama;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod template;
pub mod words;

/// Every dialect, in the order of their names. A new dialect is a folder and a line here.
pub const DIALECTS: [Dialect; 8] = [
    anthropic::DIALECT,
    bedrock::DIALECT,
    cohere::DIALECT,
    gemini::DIALECT,
    ollama::DIALECT,
    openai_chat::DIALECT,
    openai_completions::DIALECT,
    openai_responses::DIALECT,
];

/// One row of [`DIALECTS`].
#[derive(Clone, Copy)]
pub struct Dialect {
    /// The name used in configuration, metrics and [`Origin`](crate::ir::Origin).
    pub name: &'static str,
    /// `None`: callers cannot speak it.
    pub inbound: Option<&'static dyn Inbound>,
    /// `None`: providers do not.
    pub outbound: Option<&'static dyn Outbound>,
}

impl std::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Looks a dialect up by name.
pub fn named(name: &str) -> Option<Dialect> {
    DIALECTS.into_iter().find(|dialect| dialect.name == name)
}

/// Faces providers: encodes requests, decodes answers, streams and errors.
pub trait Outbound: Send + Sync {
    /// Appends path and query below the provider's base URL, for example `/chat/completions`.
    fn path(&self, to: &To<'_>, out: &mut String);

    /// Writes the body for a target. What the target cannot be told goes to `losses`.
    ///
    /// # Errors
    /// Something asked for has no counterpart at all and must not be dropped (several candidates where the provider
    /// has one): the request cannot go to this target.
    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable>;

    /// Reads a whole answer.
    ///
    /// # Errors
    /// The body is not an answer of this dialect.
    fn decode<'a>(&self, body: &'a [u8]) -> Result<Response<'a>, Invalid>;

    /// A decoder for one streamed answer.
    fn stream(&self) -> Box<dyn StreamDecoder>;

    /// Where the provider lists its models, below its base URL; `None`: not there.
    fn listing(&self) -> Option<&'static str> {
        Some("/models")
    }

    /// How the bytes of a stream are cut into frames.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// `None`: the provider has no way to count tokens beforehand.
    fn counting(&self) -> Option<&'static dyn Counting> {
        None
    }

    /// Reads an error answer. Total: whatever came, a fault comes out. `Retry-After` is read by the caller.
    fn fault(&self, status: u16, body: &[u8]) -> Fault;

    /// Whether edits alone make a caller's body of this same dialect fit the target. `false`: it asks for something in a
    /// form that the target does not take, or has something in it that this dialect's providers would refuse (proofs of
    /// other issuers, packed for the caller), and is read and written anew.
    fn fits(&self, _body: &[u8], _members: &Members, _to: &To<'_>) -> bool {
        true
    }

    /// Edits that make a caller's body of this same dialect fit the target, every other byte kept: the target's model
    /// name, renamed and removed members of its quirks, usage asked for in a stream.
    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch);

    /// Whether and how the model can be given the beginning of its answer.
    fn prefill(&self, to: &To<'_>) -> Prefill {
        to.quirks.prefill
    }

    /// An observer of one answer that is passed through.
    fn sniffer(&self) -> Box<dyn Sniffer>;
}

/// Asks a provider how many tokens a request has.
pub trait Counting: Send + Sync {
    /// As [`Outbound::path`].
    fn path(&self, to: &To<'_>, out: &mut String);

    /// As [`Outbound::encode`].
    ///
    /// # Errors
    /// As there.
    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable>;

    /// Reads the count.
    ///
    /// # Errors
    /// The body is no answer to such a question.
    fn decode(&self, body: &[u8]) -> Result<u64, Invalid>;
}

/// Turns the frames of one streamed answer into events, in the order that [`Event`] promises.
pub trait StreamDecoder: Send + Sync {
    /// # Errors
    /// The frame is not of this dialect. Faults that the provider reports in a well-formed frame are
    /// [`Event::Fault`]s instead. Unknown kinds of event are never errors: they are emitted as [`Event::Extra`].
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault>;

    /// The body ended. Emits what is still owed (`Close`, `End` for dialects without a terminal mark).
    ///
    /// # Errors
    /// The answer is not whole ([`FaultKind::Truncated`](crate::ir::FaultKind::Truncated)).
    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault>;
}

/// Watches an answer that is passed through: finds usage, content, faults and the end, and changes nothing. Must not
/// allocate for frames that only carry content.
pub trait Sniffer: Send + Sync {
    /// Tells how deep an answer may be nested. `true`: a frame or body in which no fault is seen is JSON of that depth,
    /// and need not be checked again.
    fn checks(&mut self, _depth: usize) -> bool {
        false
    }

    /// Looks at one frame of a stream.
    fn frame(&mut self, frame: &Frame<'_>) -> Seen;

    /// Looks at a whole answer.
    fn body(&mut self, body: &[u8]) -> Seen;

    /// The stream ended: whether the answer is whole.
    fn whole(&self) -> bool;
}

/// What a [`Sniffer`] saw in one frame or body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The frame carries part of the answer (text, reasoning, tool call, finish).
    pub content: bool,
    /// Usage so far; replaces what was seen before.
    pub usage: Option<Usage>,
    /// The frame carries usage and no part of the answer: it can be cut out if the caller did not ask for it.
    pub usage_only: bool,
    /// The terminal mark.
    pub end: bool,
    pub fault: Option<Fault>,
}

/// Faces callers: decodes requests, encodes answers, streams and errors.
pub trait Inbound: Send + Sync {
    /// Where its requests say what a call is routed, bounded and billed by.
    fn reads(&self) -> &'static Reads;

    /// What its callers call the parts of a request.
    fn words(&self) -> &'static Words;

    /// Reads a request. Members that are Portolan's own ([`CONTROLS`]) are left out.
    ///
    /// # Errors
    /// The body is not a request of this dialect; the path names the member.
    fn decode<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid>;

    /// Judges a request as a whole, once what the gateway remembers of its conversation stands before it.
    ///
    /// # Errors
    /// A part of it refers to another that is not there.
    fn judge(&self, _request: &Request<'_>) -> Result<(), Invalid> {
        Ok(())
    }

    /// Reads a question for the number of input tokens.
    ///
    /// # Errors
    /// As [`Inbound::decode`].
    fn decode_count<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        self.decode(body)
    }

    /// What a stream may carry at any time without meaning: sent while a provider is silent, so that proxies between
    /// here and the caller do not cut the connection.
    fn keep_alive(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    /// Edits what an answer of this very dialect, or an event of its stream, repeats of its request: the provider was sent
    /// another one than the caller's.
    fn restate(&self, _json: &str, _asked: &Asked<'_>, _patch: &mut Patch) {}

    /// Writes a whole answer. What this dialect cannot show goes to `losses`.
    fn encode(&self, response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses);

    /// An encoder for one streamed answer.
    fn stream(&self, asked: &Asked<'_>) -> Box<dyn StreamEncoder>;

    /// Whether an encoder that has followed a passed-through stream can write the rest of it: nothing in it refers to ids
    /// that the provider made.
    fn takes_over(&self) -> bool {
        true
    }

    /// Writes an error body.
    fn error(&self, error: &ErrorShape<'_>, out: &mut Vec<u8>);

    /// Writes an error as the last event of a stream that has begun, in the form that SDKs raise.
    fn error_event(&self, error: &ErrorShape<'_>, asked: &Asked<'_>, out: &mut Vec<u8>);

    /// Writes a page of the list of models; `more`: others follow the last one.
    fn models(&self, models: &[ListedModel<'_>], more: bool, out: &mut Vec<u8>);

    /// Writes one model.
    fn model(&self, model: &ListedModel<'_>, out: &mut Vec<u8>);

    /// Writes the answer to a question for the number of input tokens. `false`: the dialect has no such question.
    fn count(&self, _tokens: u64, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// Where a dialect's requests say what a call is routed, bounded and billed by.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    /// Model and stream flag are the members `model` and `stream`; else they stand in the path.
    pub in_body: bool,
    /// Usage is part of every stream; else it is shown where `stream_options.include_usage` asks for it.
    pub usage_always: bool,
    /// Members that bound the generated tokens, the first one that is there counts; a dot leads into an object
    /// (`generationConfig.maxOutputTokens`).
    pub max_output: &'static [&'static str],
    /// Members that hold the prompt.
    pub prompt: &'static [&'static str],
    /// Members, beside these and [`CONTROLS`], that must not be repeated.
    pub single: &'static [&'static str],
}

/// A model as its caller may see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListedModel<'a> {
    pub name: &'a str,
    /// Names of the providers behind it, joined by commas.
    pub owner: &'a str,
    /// Context window and most output in tokens: the least of its targets, where known.
    pub context: Option<u64>,
    pub max_output: Option<u64>,
    /// What every target of it is known to be able to, by name.
    pub abilities: &'a [&'static str],
    /// What it costs at most, by name: decimal dollars for a million tokens, or for each call.
    pub prices: &'a [(&'static str, String)],
}

/// What an answer depends on of the request it answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The request's body, for dialects whose answers repeat parts of it (Responses).
    pub body: &'a [u8],
    /// Its members; `None` only where there is no body.
    pub members: Option<&'a Members>,
    /// The model as the caller named it.
    pub model: &'a str,
    /// The caller asked to see usage in its stream.
    pub include_usage: bool,
    /// The stream is to be a growing JSON array instead of events (Gemini without `alt=sse`).
    pub array: bool,
    /// Nothing of the answer has been written yet, signs of life aside.
    pub silent: bool,
    /// 32 hexadecimal digits, unique: what ids that the provider did not give are made from.
    pub id: &'a str,
}

impl<'a> Asked<'a> {
    /// A member of the request, unless it is `null`.
    pub fn member(&self, name: &str) -> Option<Raw<'a>> {
        self.members?.raw(self.body, name).filter(|raw| !raw.is_null())
    }
}

/// Turns events into the bytes of a caller's stream, framing included.
pub trait StreamEncoder: Send + Sync {
    /// Appends the bytes for one event; none for an event that this dialect does not show.
    fn event(&mut self, event: &Event<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses);

    /// Appends an error as the last event, where that depends on what was written before (a running number). `false`:
    /// nothing was written, and [`Inbound::error_event`] serves as well.
    fn error(&mut self, _error: &ErrorShape<'_>, _shown: &Shown<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// What Portolan adds to an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// The answer came from the response cache.
    pub cached: bool,
    /// Member name (`cost_usd`) and decimal amount, one for each currency; empty where the cost is not known yet.
    pub costs: &'a [(String, String)],
    /// Unix seconds, for dialects that date their answers when the provider did not.
    pub now: u64,
    pub asked: Asked<'a>,
}

/// The target of an attempt, as far as an encoder must know it.
#[derive(Clone, Copy, Debug)]
pub struct To<'t> {
    /// The target's name for the model.
    pub model: &'t str,
    pub stream: bool,
    pub quirks: &'t Quirks,
    pub abilities: &'t Abilities,
}

/// What a model can do, from the catalogue. `None`: not known; encoders then assume that it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Abilities {
    /// Context window in tokens.
    pub context: Option<u64>,
    /// Most tokens it can generate; sent where a provider demands a limit and the caller gave none.
    pub max_output: Option<u64>,
    pub tools: Option<bool>,
    pub vision: Option<bool>,
    /// Takes thinking budgets or effort levels.
    pub reasoning: Option<bool>,
    /// Decides itself how long to think (Anthropic adaptive thinking); budgets are not accepted.
    pub adaptive_thinking: Option<bool>,
    /// Takes a JSON schema for its answer.
    pub structured_output: Option<bool>,
}

/// How a provider departs from its dialect. Data of a preset, overridable in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Request members that the provider knows under another name, as `{ours: theirs}`.
    pub rename: std::collections::BTreeMap<String, String>,
    /// Request members that the provider refuses; they are dropped and named as losses.
    pub refuses: Vec<String>,
    /// Does not take `stream_options` (and sends usage unasked, or never).
    pub no_stream_options: bool,
    /// Does not know the role `developer`: sent as `system`.
    pub no_developer_role: bool,
    /// Takes `json_object` but no `json_schema`.
    pub no_json_schema: bool,
    /// How the provider is told to think.
    pub reasoning: ReasoningStyle,
    /// Whether a last message of the assistant's is gone on with, and how it is marked.
    pub prefill: Prefill,
    /// Path and query below the base URL in place of the dialect's own ([`template`]).
    pub path: Option<String>,
    /// The same for streams; where there is none, `path` serves both.
    pub stream_path: Option<String>,
    /// What stands for `{api_version}` in them.
    pub api_version: Option<String>,
    /// The body has no `model`: the path says it.
    pub no_model: bool,
    /// Members of every request's body, unless the caller wrote them.
    pub adds: std::collections::BTreeMap<String, additions::Literal>,
    /// Whether it streams.
    pub streams: Streams,
}

/// Whether a provider streams its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// As it is asked to.
    #[default]
    AsAsked,
    /// Only: a caller that wants a whole answer gets the stream gathered.
    Always,
    /// Cannot: a caller that wants a stream gets the whole answer as one.
    Never,
}

impl Streams {
    /// Whether to ask the provider for a stream, of what the caller asked for.
    pub fn ask(self, caller: bool) -> bool {
        match self {
            Streams::AsAsked => caller,
            Streams::Always => true,
            Streams::Never => false,
        }
    }
}

/// How a model is given the beginning of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prefill {
    /// Not at all.
    #[default]
    None,
    /// As the last message.
    Plain,
    /// As the last message, with `prefix: true` (Mistral, DeepSeek's beta).
    Prefix,
    /// As the last message, with `partial: true` (Moonshot, Qwen).
    Partial,
}

impl Prefill {
    /// The member that marks the message.
    pub fn member(self) -> Option<&'static str> {
        match self {
            Prefill::None | Prefill::Plain => None,
            Prefill::Prefix => Some("prefix"),
            Prefill::Partial => Some("partial"),
        }
    }
}

/// The forms that OpenAI-compatible providers have for reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningStyle {
    /// `reasoning_effort: "high"` (OpenAI, xAI, Groq, Gemini's OpenAI endpoint).
    #[default]
    Effort,
    /// `reasoning: {"effort": "high"}` or `{"max_tokens": n}` (OpenRouter).
    Object,
    /// `thinking: {"type": "enabled"}` (DeepSeek, Zhipu, Moonshot).
    Thinking,
    /// `enable_thinking: true`, `thinking_budget: n` (Qwen, SiliconFlow).
    EnableThinking,
    /// Cannot be told.
    None,
}

/// Something a target cannot be told at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsayable {
    /// The member, in the caller's words.
    pub path: String,
    /// A sentence for the caller: what the provider lacks.
    pub message: String,
}

/// An error as every dialect can tell it.
#[derive(Clone, Copy, Debug)]
pub struct ErrorShape<'a> {
    pub class: ErrorClass,
    /// Status of the answer, where it is told by one; it may be a provider's own.
    pub status: u16,
    pub message: &'a str,
    /// Finer than the class, where there is such (`model_not_found`, `context_length_exceeded`).
    pub code: Option<&'a str>,
    /// The request member at fault.
    pub param: Option<&'a str>,
    pub request_id: &'a str,
}

/// Kinds of error that SDKs raise as types of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// 400
    InvalidRequest,
    /// 401
    Authentication,
    /// 402
    Billing,
    /// 403
    Permission,
    /// 404
    NotFound,
    /// 405
    Method,
    /// 408
    RequestTimeout,
    /// 413
    TooLarge,
    /// 429
    RateLimit,
    /// 500: ours
    Internal,
    /// 502: the providers failed
    Upstream,
    /// 503
    Overloaded,
    /// 504
    Timeout,
}

impl ErrorClass {
    pub fn status(self) -> u16 {
        match self {
            ErrorClass::InvalidRequest => 400,
            ErrorClass::Authentication => 401,
            ErrorClass::Billing => 402,
            ErrorClass::Permission => 403,
            ErrorClass::NotFound => 404,
            ErrorClass::Method => 405,
            ErrorClass::RequestTimeout => 408,
            ErrorClass::TooLarge => 413,
            ErrorClass::RateLimit => 429,
            ErrorClass::Internal => 500,
            ErrorClass::Upstream => 502,
            ErrorClass::Overloaded => 503,
            ErrorClass::Timeout => 504,
        }
    }
}

/// Members of a request body that are Portolan's own: read by the exchange, never sent to a provider.
pub const CONTROLS: [&str; 10] =
    ["fallback", "cache", "timeout", "tags", "routing", "region", "attributes", "priority", "strict", "continuation"];

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) mod golden;
    mod table;
    mod unknown;
    mod unknown_answers;
    mod words;

    #[test]
    fn names_are_unique_and_found() {
        for dialect in DIALECTS {
            assert_eq!(named(dialect.name).unwrap(), dialect);
        }
        assert!(named("esperanto").is_none());
    }
}
