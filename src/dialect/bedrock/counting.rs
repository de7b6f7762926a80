//! How many tokens a request has: `CountTokens` ("CountTokens" in the API reference, seen 2026-11-21), for Claude alone.
//!
//! It knows models by their own names only, not by the profiles that spread them over regions: so the region is taken off.

use super::push_model;
use super::request::Plan;
use crate::dialect::{Counting, To, Unsayable};
use crate::ir::{Losses, Request};
use crate::wire::json::{self, Invalid, Number};
use crate::wire::writer;

crate::shape! {
    struct Counted { tokens "inputTokens": Number<'a> }
}

/// The question.
pub(super) struct Count;

impl Counting for Count {
    fn path(&self, to: &To<'_>, out: &mut String) {
        push_model(to.model.find("anthropic.").and_then(|at| to.model.get(at..)).unwrap_or(to.model), out);
        out.push_str("/count-tokens");
    }

    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        let plan = Plan::of(request, to, losses)?;
        writer::object(out, |o| o.object("input", |o| o.object("converse", |o| plan.conversation(losses, o))));
        Ok(())
    }

    fn decode(&self, body: &[u8]) -> Result<u64, Invalid> {
        let counted: Counted<'_> = json::read(body)?;
        let missing = || Invalid { path: "inputTokens".into(), message: "expected a number of tokens".into() };
        counted.tokens.as_ref().and_then(Number::as_u64).ok_or_else(missing)
    }
}
