//! Anthropic Messages.
//!
//! Source of all shapes and rules here, where no other is named: Claude Docs, API reference "Create a Message", and the
//! guides "Extended thinking", "Adaptive thinking", "Effort", "Structured outputs", "Tool use", "Streaming messages",
//! "Errors" (docs.anthropic.com and platform.claude.com, seen 2026-11-21). The base URL carries the version (`/v1`).
//!
//! The API is strict where OpenAI's is not: a token limit is demanded, turns begin with the user, results stand first in
//! the turn after their calls, text that says nothing is refused, and so are settings that thinking does not allow.
//! [`request`] and [`turns`] bring a conversation into that form and name what changed on the way.
//!
//! Callers speak it too: [`inbound`] reads their requests and writes their answers. What providers of other dialects issued
//! over their thoughts goes to such callers under [`seal`]s, and comes back from them.

use super::{Counting, Dialect, Outbound, Prefill, Sniffer, StreamDecoder, To, Unsayable};
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod counting;
mod fault;
mod inbound;
mod items;
mod media;
pub(super) mod model;
mod passthrough;
mod request;
mod response;
pub(super) mod schema;
mod seal;
mod stream;
pub(super) mod thinking;
mod tools;
mod turns;
mod usage;
mod wire;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: NAME, inbound: Some(&inbound::Face), outbound: Some(&Face) };

/// The name, as it stands in [`Origin`](crate::ir::Origin) and as issuer of signatures.
const NAME: &str = "anthropic";

struct Face;

impl Outbound for Face {
    fn path(&self, _: &To<'_>, out: &mut String) {
        out.push_str("/messages");
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
        Box::<stream::Decoder>::default()
    }

    fn counting(&self) -> Option<&'static dyn Counting> {
        Some(&counting::Count)
    }

    fn fault(&self, status: u16, body: &[u8]) -> Fault {
        fault::read(status, body)
    }

    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
        passthrough::splice(body, members, to, patch);
    }

    fn fits(&self, body: &[u8], _: &Members, _: &To<'_>) -> bool {
        !seal::is_in(body)
    }

    /// None from 4.6 on, and none where the name does not tell: it would end in a 400.
    fn prefill(&self, to: &To<'_>) -> Prefill {
        if model::Model::of(to.model).since((4, 6), true) { Prefill::None } else { Prefill::Plain }
    }

    fn sniffer(&self) -> Box<dyn Sniffer> {
        Box::<passthrough::Watch>::default()
    }
}
