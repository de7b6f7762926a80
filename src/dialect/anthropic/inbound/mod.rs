//! The face towards callers: `POST /v1/messages` as Anthropic's own SDKs speak it.
//!
//! Requests are read as strictly as Anthropic reads what we interpret, and leniently otherwise, so that members of
//! tomorrow ride along. Answers have every member that the SDKs' types demand, whether the provider said it or not.
//!
//! Anthropic's validation messages and this module's name the same members; the paths are ours (`messages[1].content[0]`
//! for their `messages.1.content.0`), as in every other dialect.

use super::NAME;
use crate::dialect::words::Words;
use crate::dialect::{Asked, ErrorShape, Inbound, ListedModel, Reads, Shown, StreamEncoder};
use crate::ir::{Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::writer;

mod answer;
mod blocks;
mod error;
mod media;
mod messages;
mod models;
mod request;
mod stream;
mod usage;
mod words;

#[cfg(test)]
mod tests;

pub(super) struct Face;

impl Inbound for Face {
    fn reads(&self) -> &'static Reads {
        &Reads {
            in_body: true,
            usage_always: true,
            max_output: &["max_tokens"],
            prompt: &["system", "messages", "tools"],
            // Each has a price of its own (page "Pricing", seen 2026-11-21).
            single: &["service_tier", "speed", "inference_geo"],
        }
    }

    fn words(&self) -> &'static Words {
        &words::WORDS
    }

    // What the API itself sends ("Streaming messages", seen 2026-11-21).
    fn keep_alive(&self) -> &'static [u8] {
        b"event: ping\ndata: {\"type\": \"ping\"}\n\n"
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        request::decode(body)
    }

    fn decode_count<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        request::decode_count(body)
    }

    fn encode(&self, response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        answer::encode(response, shown, out, losses);
    }

    fn stream(&self, _: &Asked<'_>) -> Box<dyn StreamEncoder> {
        Box::<stream::Encoder>::default()
    }

    fn error(&self, error: &ErrorShape<'_>, out: &mut Vec<u8>) {
        error::write(error, out);
    }

    fn error_event(&self, error: &ErrorShape<'_>, _: &Asked<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        error::write(error, out);
        out.extend_from_slice(b"\n\n");
    }

    fn models(&self, models: &[ListedModel<'_>], more: bool, out: &mut Vec<u8>) {
        models::list(models, more, out);
    }

    fn model(&self, model: &ListedModel<'_>, out: &mut Vec<u8>) {
        models::show(model, out);
    }

    fn count(&self, tokens: u64, out: &mut Vec<u8>) -> bool {
        writer::object(out, |o| o.number("input_tokens", tokens));
        true
    }
}

/// A mistake in a request.
fn invalid(path: impl Into<String>, message: impl Into<String>) -> Invalid {
    Invalid { path: path.into(), message: message.into() }
}

fn required(path: impl Into<String>) -> Invalid {
    invalid(path, "a value is required")
}

/// The path of a mistake, seen from the body.
fn at(path: &str, mut invalid: Invalid) -> Invalid {
    invalid.path = match invalid.path.as_str() {
        "" | "." => path.to_owned(),
        inner if inner.starts_with('[') => format!("{path}{inner}"),
        inner => format!("{path}.{inner}"),
    };
    invalid
}
