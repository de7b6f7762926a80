//! `POST /messages/count_tokens`: the same conversation, without what only sampling needs ("Count tokens in a Message",
//! API reference, seen 2026-11-21).

use super::request;
use crate::dialect::{Counting, To, Unsayable};
use crate::ir::{Losses, Request};
use crate::shape;
use crate::wire::json::{self, Invalid, Number};

pub(super) struct Count;

shape! {
    struct Answer { input "input_tokens": Number<'a> }
}

impl Counting for Count {
    fn path(&self, _: &To<'_>, out: &mut String) {
        out.push_str("/messages/count_tokens");
    }

    fn encode(
        &self,
        request: &Request<'_>,
        to: &To<'_>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
    ) -> Result<(), Unsayable> {
        request::encode_count(request, to, out, losses)
    }

    fn decode(&self, body: &[u8]) -> Result<u64, Invalid> {
        let answer: Answer<'_> = json::read(body)?;
        answer
            .input
            .and_then(|n| n.as_u64())
            .ok_or_else(|| Invalid { path: "input_tokens".into(), message: "expected a whole number".into() })
    }
}
