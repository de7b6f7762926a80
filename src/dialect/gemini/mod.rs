//! Gemini `generateContent`, as spoken by the Gemini API and by Vertex AI.
//!
//! Source of all shapes and rules here: Google AI for Developers, API reference `v1beta` ("Generating content",
//! "Caching", seen 2026-11-21) and Vertex AI reference `v1` (same date). The model stands in the path, not in the
//! body, and the base URL carries the version (`/v1beta`). Both spellings of names are read (`thoughtSignature`,
//! `thought_signature`: protobuf JSON allows either); camel case is written.

use super::{Dialect, Outbound, Sniffer, StreamDecoder, To, Unsayable};
use crate::ir::{Fault, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

mod contents;
mod fault;
mod name;
mod partial;
mod passthrough;
mod request;
mod response;
mod schema;
mod stream;
mod thinking;
mod wire;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: NAME, inbound: None, outbound: Some(&Face) };

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

/// Appends a model's resource name, safe in a path: `models/gemini-2.5-pro`. A name that begins with a collection
/// (`tunedModels/x`, `publishers/google/models/x`) keeps it.
fn resource(model: &str, out: &mut String) {
    const COLLECTIONS: [&str; 5] = ["models/", "tunedModels/", "publishers/", "projects/", "endpoints/"];
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

/// One segment of a path (RFC 3986 section 3.3). The colon is encoded too, since it parts the model from the method,
/// and so are the dots of `.` and `..`, which a server would take as steps.
fn segment(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let step = matches!(text, "." | "..");
    for byte in text.bytes() {
        match byte {
            b'.' if step => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
                }
            }
        }
    }
}
