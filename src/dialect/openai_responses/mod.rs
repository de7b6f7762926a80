//! OpenAI Responses, spoken by callers and by OpenAI, Azure, xAI, DeepSeek and others.
//!
//! Source of all shapes and rules here, where no other is named: OpenAI API reference ("Create a model response",
//! "Responses streaming events") and the guides "Migrate to the Responses API", "Reasoning models" and "Conversation
//! state" (platform.openai.com, seen 2026-11-21).
//!
//! A conversation is a flat list of items where the IR has messages of blocks: what the model said, thought and called
//! in one go becomes one message, and is spread out again for a provider. State is ours to keep: what callers refer to
//! by id was put in its place before a body is read here, and providers are told to store nothing.

use super::openai_chat::{fault as chat_fault, models};
use super::{
    Asked, Dialect, ErrorShape, Inbound, ListedModel, Outbound, Reads, Shown, Sniffer, StreamDecoder, StreamEncoder,
    To, Unsayable, additions,
};
use crate::dialect::words::Words;
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod active;
mod answer;
mod body;
mod carry;
mod events;
mod frames;
mod items;
mod output;
mod passthrough;
mod request;
mod response;
mod sniff;
mod stream;
mod turns;
mod usage;
mod wire;
mod words;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: wire::NAME, inbound: Some(&Face), outbound: Some(&Face) };

struct Face;

impl Outbound for Face {
    fn path(&self, _: &To<'_>, out: &mut String) {
        out.push_str("/responses");
    }

    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        let start = out.len();
        body::encode(request, to, out, losses)?;
        additions::complete(to.quirks, start, out);
        Ok(())
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Response<'a>, Invalid> {
        response::decode(body)
    }

    fn stream(&self) -> Box<dyn StreamDecoder> {
        Box::<stream::Decoder>::default()
    }

    fn fault(&self, status: u16, body: &[u8]) -> Fault {
        chat_fault::read(status, body)
    }

    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
        passthrough::splice(body, members, to, patch);
        additions::splice(body, members, to.quirks, patch);
    }

    fn sniffer(&self) -> Box<dyn Sniffer> {
        Box::<sniff::Watch>::default()
    }
}

impl Inbound for Face {
    fn reads(&self) -> &'static Reads {
        &Reads {
            in_body: true,
            usage_always: true,
            max_output: &["max_output_tokens"],
            prompt: &["input", "instructions"],
            single: &["previous_response_id", "conversation", "store", "background"],
        }
    }

    fn takes_over(&self) -> bool {
        false
    }

    fn restate(&self, json: &str, asked: &Asked<'_>, patch: &mut Patch) {
        passthrough::restate(json, asked, patch);
    }

    fn words(&self) -> &'static Words {
        &words::WORDS
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        request::decode(body)
    }

    fn judge(&self, request: &Request<'_>) -> Result<(), Invalid> {
        request::judge(request)
    }

    fn encode(&self, response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        answer::encode(response, shown, out, losses);
    }

    fn stream(&self, _: &Asked<'_>) -> Box<dyn StreamEncoder> {
        Box::<events::Encoder>::default()
    }

    fn error(&self, error: &ErrorShape<'_>, out: &mut Vec<u8>) {
        chat_fault::write(error, out);
    }

    fn error_event(&self, error: &ErrorShape<'_>, _: &Asked<'_>, out: &mut Vec<u8>) {
        frames::write_error(error, 0, out);
    }

    fn models(&self, models: &[ListedModel<'_>], _: bool, out: &mut Vec<u8>) {
        models::list(models, out);
    }

    fn model(&self, model: &ListedModel<'_>, out: &mut Vec<u8>) {
        models::show(model, out);
    }
}
