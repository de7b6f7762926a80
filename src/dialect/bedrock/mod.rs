//! Amazon Bedrock: Converse and ConverseStream, one API over the models of many makers.
//!
//! Source of all shapes and rules here, where no other is named: Amazon Bedrock API reference, "Converse",
//! "ConverseStream" and their data types, and the user guide's "Carry out a conversation with the Converse API", "Prompt
//! caching" and "Get validated JSON results from models" (docs.aws.amazon.com, seen 2026-11-21). The base URL is the
//! runtime's (`https://bedrock-runtime.us-east-1.amazonaws.com`); requests are signed
//! (`provider::sigv4`) or carry a bearer key.
//!
//! The API is one, but what it passes on is not: makers differ in whether a tool can be forced, how thinking is asked
//! for, what is cached. What a model's name tells of that is in [`model`]. For Claude the rules are those of its own API,
//! and so is the code that keeps them. Callers do not speak this dialect.

use super::{Counting, Dialect, Outbound, Prefill, Sniffer, StreamDecoder, To, Unsayable, additions};
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::frames::Framing;
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod blocks;
mod counting;
mod fault;
mod format;
mod media;
mod model;
mod passthrough;
mod request;
mod response;
mod stream;
mod thinking;
mod tools;
mod turns;
mod usage;
mod wire;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: NAME, inbound: None, outbound: Some(&Face) };

/// The name, as it stands in [`Origin`](crate::ir::Origin).
const NAME: &str = "bedrock";

/// Who issues the signatures and encryptions of thoughts. Only Claude's thoughts have any, and they hold on every platform
/// that serves it (guide "Extended thinking" of Claude's docs, seen 2026-11-21): so they go to Anthropic's own API too.
const ISSUER: &str = "anthropic";

struct Face;

impl Outbound for Face {
    /// It is at another host (Amazon Bedrock API reference, "ListFoundationModels", seen 2026-11-21).
    fn listing(&self) -> Option<&'static str> {
        None
    }

    fn path(&self, to: &To<'_>, out: &mut String) {
        push_model(to.model, out);
        out.push_str(if to.stream { "/converse-stream" } else { "/converse" });
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
        Framing::EventStream
    }

    fn counting(&self) -> Option<&'static dyn Counting> {
        Some(&counting::Count)
    }

    fn fault(&self, status: u16, body: &[u8]) -> Fault {
        fault::read(status, body)
    }

    fn splice(&self, body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
        passthrough::splice(body, members, to, patch);
        additions::splice(body, members, to.quirks, patch);
    }

    fn prefill(&self, to: &To<'_>) -> Prefill {
        if model::Model::of(to.model).takes_prefill() { Prefill::Plain } else { Prefill::None }
    }

    fn sniffer(&self) -> Box<dyn Sniffer> {
        Box::<passthrough::Watch>::default()
    }
}

/// Appends the part of the path that names the model: its id, or the ARN of a profile, as one segment.
fn push_model(model: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push_str("/model/");
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
            }
        }
    }
}
