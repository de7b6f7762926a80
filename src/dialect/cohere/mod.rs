//! Cohere's Chat API, version 2.
//!
//! Source of all shapes and rules here, where no other is named: Cohere documentation, API reference "Chat" and "Chat
//! with Streaming" (v2), guides "Tool use", "Structured outputs", "Reasoning", "Citations" (docs.cohere.com, seen
//! 2026-11-21), and recorded calls to api.cohere.com. The base URL carries the version (`/v2`).
//!
//! Nearly OpenAI's shape with other names, and two ideas of its own: a model that does not reason writes a `tool_plan`
//! before it calls, which is carried as a thought; and answers cite documents and tools' results by character spans.

use super::{Dialect, Outbound, Sniffer, StreamDecoder, To, Unsayable, additions};
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod fault;
mod logprobs;
mod passthrough;
mod request;
mod response;
mod stream;
mod tools;
mod turns;
mod usage;
mod wire;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: NAME, inbound: None, outbound: Some(&Face) };

/// The name, as it stands in [`Origin`](crate::ir::Origin).
const NAME: &str = "cohere";

struct Face;

impl Outbound for Face {
    /// It is part of another version of the API (Cohere's API reference, "List models", seen 2026-11-21).
    fn listing(&self) -> Option<&'static str> {
        None
    }

    fn path(&self, _: &To<'_>, out: &mut String) {
        out.push_str("/chat");
    }

    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        let start = out.len();
        request::encode(request, to, out, losses)?;
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
        fault::read(status, body)
    }

    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
        passthrough::splice(body, members, to, patch);
        additions::splice(body, members, to.quirks, patch);
    }

    fn sniffer(&self) -> Box<dyn Sniffer> {
        Box::<passthrough::Watch>::default()
    }
}
