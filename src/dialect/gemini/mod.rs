//! Gemini `generateContent`, as spoken by the Gemini API and by Vertex AI.
//!
//! Source of all shapes and rules here: Google AI for Developers, API reference `v1beta` ("Generating content",
//! "Caching", seen 2026-11-21) and Vertex AI reference `v1` (same date). The model stands in the path, not in the
//! body, and the base URL carries the version (`/v1beta`). Both spellings of names are read (`thoughtSignature`,
//! `thought_signature`: protobuf JSON allows either); camel case is written.
//!
//! Towards providers: [`request`] and [`contents`] write, [`response`] and [`stream`] read. Towards callers: [`decode`]
//! and [`history`] read, [`answer`] and [`chunks`] write.

use super::template::segment;
use super::{
    Asked, Counting, Dialect, ErrorShape, Inbound, ListedModel, Outbound, Reads, Shown, Sniffer, StreamDecoder,
    StreamEncoder, To, Unsayable,
};
use crate::dialect::words::Words;
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;
use crate::wire::writer;

mod answer;
mod asked;
mod chunks;
mod contents;
mod counting;
mod decode;
mod fault;
mod history;
mod media;
mod models;
mod name;
mod openapi;
mod partial;
mod parts;
mod passthrough;
mod request;
mod response;
mod schema;
mod signature;
mod stream;
mod thinking;
mod wire;
mod words;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: NAME, inbound: Some(&Face), outbound: Some(&Face) };

/// The name, as it stands in [`Origin`](crate::ir::Origin) and as issuer of signatures.
const NAME: &str = "gemini";

struct Face;

impl Outbound for Face {
    fn path(&self, to: &To<'_>, out: &mut String) {
        out.push('/');
        resource(to.model, out);
        // Without `alt=sse` a stream is one JSON array that grows.
        out.push_str(if to.stream { ":streamGenerateContent?alt=sse" } else { ":generateContent" });
    }

    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        request::encode(request, to, out, losses)
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Response<'a>, Invalid> {
        response::decode(body)
    }

    fn stream(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::default())
    }

    fn counting(&self) -> Option<&'static dyn Counting> {
        Some(&counting::Counter)
    }

    fn fault(&self, status: u16, body: &[u8]) -> Fault {
        fault::read(status, body)
    }

    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
        passthrough::splice(body, members, to, patch);
    }

    fn sniffer(&self) -> Box<dyn Sniffer> {
        Box::new(passthrough::Watch::default())
    }
}

impl Inbound for Face {
    fn reads(&self) -> &'static Reads {
        &Reads {
            in_body: false,
            usage_always: true,
            max_output: &[
                "generationConfig.maxOutputTokens",
                "generationConfig.max_output_tokens",
                "generation_config.maxOutputTokens",
                "generation_config.max_output_tokens",
            ],
            prompt: &[
                "systemInstruction",
                "system_instruction",
                "contents",
                "tools",
                "generateContentRequest",
                "generate_content_request",
            ],
            single: &[
                "systemInstruction",
                "system_instruction",
                "contents",
                "tools",
                "toolConfig",
                "tool_config",
                "generationConfig",
                "generation_config",
                "cachedContent",
                "cached_content",
                "generateContentRequest",
                "generate_content_request",
                "model",
            ],
        }
    }

    fn words(&self) -> &'static Words {
        &words::WORDS
    }

    // The SDKs read what is no `data:` line as JSON, but take blank lines, between events and between members.
    fn keep_alive(&self) -> &'static [u8] {
        b"\r\n"
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        decode::decode(body)
    }

    fn encode(&self, response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        answer::encode(response, shown, out, losses);
    }

    fn stream(&self, asked: &Asked<'_>) -> Box<dyn StreamEncoder> {
        Box::new(chunks::Encoder::new(asked.array))
    }

    fn error(&self, error: &ErrorShape<'_>, out: &mut Vec<u8>) {
        fault::write(error, out);
    }

    fn error_event(&self, error: &ErrorShape<'_>, asked: &Asked<'_>, out: &mut Vec<u8>) {
        chunks::framed(asked.array, &mut !asked.silent, out, |out| fault::write(error, out));
        if asked.array {
            out.push(b']');
        }
    }

    fn models(&self, models: &[ListedModel<'_>], more: bool, out: &mut Vec<u8>) {
        models::list(models, more, out);
    }

    fn model(&self, model: &ListedModel<'_>, out: &mut Vec<u8>) {
        models::show(model, out);
    }

    fn count(&self, tokens: u64, out: &mut Vec<u8>) -> bool {
        writer::object(out, |o| o.number("totalTokens", tokens));
        true
    }
}

/// Collections that a model's name may begin with.
const COLLECTIONS: [&str; 5] = ["models/", "tunedModels/", "publishers/", "projects/", "endpoints/"];

/// A model's resource name as it stands in bodies, not escaped.
fn name_of(model: &str) -> String {
    if COLLECTIONS.iter().any(|collection| model.starts_with(collection)) {
        model.to_owned()
    } else {
        format!("models/{model}")
    }
}

/// Appends a model's resource name, safe in a path: `models/gemini-2.5-pro`. A name that begins with a collection
/// (`tunedModels/x`, `publishers/google/models/x`) keeps it.
fn resource(model: &str, out: &mut String) {
    if !COLLECTIONS.iter().any(|collection| model.starts_with(collection)) {
        out.push_str("models/");
        segment(model, out);
        return;
    }
    for (i, part) in model.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        segment(part, out);
    }
}
