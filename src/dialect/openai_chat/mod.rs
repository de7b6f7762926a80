//! OpenAI Chat Completions, spoken by callers and by every provider that calls itself compatible.

use super::{
    Asked, Dialect, ErrorShape, Inbound, ListedModel, Outbound, Reads, Shown, Sniffer, StreamDecoder, StreamEncoder,
    To, Unsayable,
};
use crate::dialect::words::Words;
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod body;
mod chunks;
pub(in crate::dialect) mod fault;
pub(in crate::dialect) mod message;
pub(in crate::dialect) mod models;
mod passthrough;
pub(in crate::dialect) mod reasoning;
mod request;
pub(in crate::dialect) mod response;
mod sniff;
mod stream;
pub(in crate::dialect) mod turns;
pub(in crate::dialect) mod usage;
pub(in crate::dialect) mod wire;
mod words;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: wire::ORIGIN.0, inbound: Some(&Face), outbound: Some(&Face) };

struct Face;

impl Outbound for Face {
    fn path(&self, _: &To<'_>, out: &mut String) {
        out.push_str("/chat/completions");
    }

    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        body::encode(request, to, out, losses)
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Response<'a>, Invalid> {
        response::decode(body)
    }

    fn stream(&self) -> Box<dyn StreamDecoder> {
        Box::<stream::Decoder>::default()
    }

    fn fault(&self, status: u16, body: &[u8]) -> Fault {
        fault::read(status, body)
    }

    fn fits(&self, body: &[u8], members: &Members, to: &To<'_>) -> bool {
        passthrough::fits(body, members, to)
    }

    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
        passthrough::splice(body, members, to, patch);
    }

    fn sniffer(&self) -> Box<dyn Sniffer> {
        Box::<sniff::Watch>::default()
    }
}

impl Inbound for Face {
    fn reads(&self) -> &'static Reads {
        &Reads {
            in_body: true,
            usage_always: false,
            max_output: &["max_completion_tokens", "max_tokens"],
            prompt: &["messages"],
            single: &[],
        }
    }

    fn words(&self) -> &'static Words {
        &words::WORDS
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        request::decode(body)
    }

    fn encode(&self, response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        response::encode(response, shown, out, losses);
    }

    fn stream(&self, asked: &Asked<'_>) -> Box<dyn StreamEncoder> {
        Box::new(chunks::Encoder::new(asked.include_usage))
    }

    fn error(&self, error: &ErrorShape<'_>, out: &mut Vec<u8>) {
        fault::write(error, out);
    }

    fn error_event(&self, error: &ErrorShape<'_>, _: &Asked<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        fault::write(error, out);
        out.extend_from_slice(b"\n\n");
    }

    fn models(&self, models: &[ListedModel<'_>], _: bool, out: &mut Vec<u8>) {
        models::list(models, out);
    }

    fn model(&self, model: &ListedModel<'_>, out: &mut Vec<u8>) {
        models::show(model, out);
    }
}
