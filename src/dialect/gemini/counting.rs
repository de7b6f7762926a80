//! `countTokens`: how many tokens a request has, asked of the provider.
//!
//! The Gemini API counts all of a request if it comes as a `generateContentRequest`, and contents alone otherwise.
//! Vertex AI has no such member; it takes the parts of the request that are counted as they are (Gemini API reference
//! and Vertex AI reference, "countTokens", seen 2026-11-21). Which one it is, the target's name tells, or a
//! `generateContentRequest` among what the provider refuses.

use super::asked::Figure;
use super::wire::Bag;
use super::{name_of, request, resource};
use crate::dialect::{Counting, To, Unsayable};
use crate::ir::{Losses, Request};
use crate::shape;
use crate::wire::json::{self, Invalid};
use crate::wire::writer::{self, Object};

pub(super) struct Counter;

pub(super) const WHOLE: &str = "generateContentRequest";
/// What Vertex AI counts.
const COUNTED: [&str; 4] = ["contents", "systemInstruction", "tools", "generationConfig"];

shape! {
    struct Count { total "totalTokens" | "total_tokens": Figure<'a> }
}

impl Counting for Counter {
    fn path(&self, to: &To<'_>, out: &mut String) {
        out.push('/');
        resource(to.model, out);
        out.push_str(":countTokens");
    }

    fn encode(
        &self,
        asked: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        let mut body = Vec::new();
        request::encode(asked, to, &mut body, losses)?;
        let vertex = ["publishers/", "projects/", "endpoints/"].iter().any(|place| to.model.starts_with(place))
            || to.quirks.refuses.iter().any(|refused| refused == WHOLE);
        let members: Bag<'_> = json::read(&body).unwrap_or_default();
        writer::object(out, |o| {
            if vertex {
                return write_counted(&members, o);
            }
            o.object(WHOLE, |o| {
                o.string("model", &name_of(to.model));
                o.extras(&members.extras);
            });
        });
        Ok(())
    }

    fn decode(&self, body: &[u8]) -> Result<u64, Invalid> {
        let Count { total, .. } = json::read(body)?;
        let total = total.and_then(|Figure(total)| total.as_u64());
        total.ok_or_else(|| Invalid { path: "totalTokens".into(), message: "a whole number is required".into() })
    }
}

/// Writes the members of a request that Vertex AI counts.
pub(super) fn write_counted(request: &Bag<'_>, o: &mut Object<'_>) {
    for (name, json) in request.extras.iter().filter(|(name, _)| COUNTED.contains(name)) {
        o.raw(name, json);
    }
}
