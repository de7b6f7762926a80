//! Requests, read: a caller's body into the IR. As strict as OpenAI on what we interpret, lenient on the rest.

use crate::dialect::CONTROLS;
use crate::dialect::openai_chat::wire::{StreamOptions, adopt, at, invalid};
use crate::ir::{Block, Message, Request, Role, Sampling};
use crate::shape;
use crate::wire::json::{self, Extras, Invalid, Kind, Number, Raw, Text, TextOr, clip};

use super::{MAX_TOKENS, ORIGIN};

shape! {
    struct Body {
        model "model": Text<'a>,
        prompt "prompt": Raw<'a>,
        suffix "suffix": Text<'a>,
        echo "echo": bool,
        best_of "best_of": Number<'a>,
        logprobs "logprobs": Number<'a>,
        n "n": Number<'a>,
        stop "stop": TextOr<'a, Vec<Text<'a>>>,
        max_tokens "max_tokens": Number<'a>,
        temperature "temperature": Number<'a>,
        top_p "top_p": Number<'a>,
        top_k "top_k": Number<'a>,
        frequency_penalty "frequency_penalty": Number<'a>,
        presence_penalty "presence_penalty": Number<'a>,
        seed "seed": Number<'a>,
        logit_bias "logit_bias": Raw<'a>,
        stream "stream": bool,
        stream_options "stream_options": StreamOptions<'a>,
        user "user": Text<'a>,
    }
}

/// Most log probabilities a token, by OpenAI's rule.
const MOST_LOGPROBS: u64 = 5;

/// Reads a caller's request.
///
/// # Errors
/// A member that we interpret is missing or of the wrong type, or asks for what no chat model can do and what must not
/// be left out.
pub(super) fn decode(body: &[u8]) -> Result<Request<'_>, Invalid> {
    let body: Body<'_> = json::read(body)?;
    let mut extras = Extras::default();
    adopt(&mut extras, "", body.extras);
    extras.0.retain(|(name, _)| !CONTROLS.contains(&name.as_str()));
    let model = body.model.ok_or_else(|| invalid("model", "a value is required"))?;
    let raw = body.prompt.ok_or_else(|| invalid("prompt", "a value is required"))?;
    let prompt = prompt(&raw)?;
    if body.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        let message = "text cannot be inserted before a suffix: this model answers a prompt, it does not fill a gap";
        return Err(invalid("suffix", message));
    }
    let candidates = count(body.n, "n", 1)?;
    if let Some(best) = count(body.best_of, "best_of", 1)? {
        let wanted = candidates.unwrap_or(1);
        if best < wanted {
            return Err(invalid("best_of", format!("expected at least as many as `n`, which is {wanted}")));
        }
        if best > wanted {
            // Fewer are drawn to choose from: worse on average, and still an answer.
            extras.push("best_of", Raw::trusted(best.to_string()));
        }
    }
    let logprobs = count(body.logprobs, "logprobs", 0)?;
    if logprobs.is_some_and(|most| most > MOST_LOGPROBS) {
        return Err(invalid("logprobs", format!("expected at most {MOST_LOGPROBS}")));
    }
    let mut include_usage = false;
    if let Some(options) = body.stream_options {
        include_usage = options.include_usage == Some(true);
        adopt(&mut extras, "stream_options", options.extras);
    }
    Ok(Request {
        origin: ORIGIN,
        model,
        messages: vec![Message { role: Role::User, blocks: vec![Block::text(prompt)], ..Message::default() }],
        sampling: Sampling {
            temperature: body.temperature,
            top_p: body.top_p,
            top_k: body.top_k,
            seed: body.seed,
            frequency_penalty: body.frequency_penalty,
            presence_penalty: body.presence_penalty,
            logit_bias: body.logit_bias.map(|raw| object(raw, "logit_bias")).transpose()?,
            logprobs: logprobs.map(|_| true),
            top_logprobs: logprobs,
            candidates,
        },
        max_tokens: Some(count(body.max_tokens, "max_tokens", 1)?.unwrap_or(MAX_TOKENS)),
        stop: match body.stop {
            None => Vec::new(),
            Some(TextOr::Text(text)) => vec![text],
            Some(TextOr::Full(texts)) => texts,
        },
        stream: body.stream == Some(true),
        include_usage,
        user: body.user,
        extras,
        ..Request::default()
    })
}

/// The one text of a prompt.
///
/// # Errors
/// There are several, or token ids, which mean something only to the model that they were made for.
pub(super) fn prompt<'a>(raw: &Raw<'a>) -> Result<Text<'a>, Invalid> {
    const TOKENS: &str = "token ids are not taken: send the prompt as text";
    let path = "prompt";
    match raw.kind() {
        Kind::String => raw.open().map_err(|e| at(path, e)),
        Kind::Array => {
            let items: Vec<Raw<'a>> = raw.open().map_err(|e| at(path, e))?;
            match items.as_slice() {
                [] => Err(invalid(path, "expected a text, got an empty list")),
                [first, ..] if matches!(first.kind(), Kind::Number | Kind::Array) => Err(invalid(path, TOKENS)),
                [one] => one.open().map_err(|e| at("prompt[0]", e)),
                several => Err(invalid(
                    path,
                    format!("expected one prompt a request, got {}: send one after the other", several.len()),
                )),
            }
        }
        Kind::Number => Err(invalid(path, TOKENS)),
        _ => Err(invalid(path, "expected a text, or a list of one text")),
    }
}

fn count(n: Option<Number<'_>>, path: &str, least: u64) -> Result<Option<u64>, Invalid> {
    let Some(n) = n else { return Ok(None) };
    match n.as_u64() {
        Some(n) if n >= least => Ok(Some(n)),
        _ => Err(invalid(path, format!("expected a whole number of at least {least}, got `{}`", clip(n.get(), 40)))),
    }
}

fn object<'a>(raw: Raw<'a>, path: &str) -> Result<Raw<'a>, Invalid> {
    if raw.kind() == Kind::Object { Ok(raw) } else { Err(invalid(path, "expected an object")) }
}
