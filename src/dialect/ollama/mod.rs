//! Ollama's own chat API, for what its OpenAI-compatible one falls short of: the size of the context, how long a model
//! stays loaded, and samplers that OpenAI has no names for.
//!
//! Source of all shapes and rules here: Ollama documentation, "API" and "Modelfile" (docs.ollama.com, seen 2026-11-21),
//! and recorded calls to `/api/chat`. The base URL ends in `/api`. A stream is one JSON object a line, and it is the
//! default: a request that wants a whole answer has to say so.
//!
//! No caller speaks this dialect, so what only Ollama has is taken from callers of any other, by its own names: see
//! [`options`].

use super::{Dialect, Outbound, Sniffer, StreamDecoder, To, Unsayable, additions};
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::frames::Framing;
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod fault;
mod options;
mod passthrough;
mod request;
mod response;
mod stream;
mod turns;
mod wire;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: NAME, inbound: None, outbound: Some(&Face) };

/// The name, as it stands in [`Origin`](crate::ir::Origin).
const NAME: &str = "ollama";

struct Face;

impl Outbound for Face {
    /// `GET /api/tags` (Ollama's API, "List models", seen 2026-11-21).
    fn listing(&self) -> Option<&'static str> {
        Some("/tags")
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

    fn framing(&self) -> Framing {
        Framing::Lines
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
