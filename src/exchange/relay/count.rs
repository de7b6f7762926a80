//! The answer to a question for the number of input tokens: read whole, and told in the caller's dialect.

use super::passthrough::{Gathered, not_an_answer};
use super::*;

pub struct Counted {
    gathered: Gathered,
}

impl Counted {
    pub fn new(most: usize) -> Self {
        Counted { gathered: Gathered::new(most) }
    }

    pub fn chunk(
        &mut self,
        chunk: Bytes,
        end: bool,
        facts: &mut Facts,
        terms: &Terms,
    ) -> Result<Option<Bytes>, Box<Broken>> {
        let Some(body) = self.gathered.add(chunk, end)? else { return Ok(None) };
        let tokens = match terms.outbound.counting() {
            Some(counting) => counting.decode(&body).map_err(|error| not_an_answer(&error.to_string()))?,
            None => return Err(not_an_answer("its dialect has no counts.").into()),
        };
        let mut out = Vec::with_capacity(64);
        terms.inbound.count(tokens, &mut out);
        facts.content = true;
        facts.whole = true;
        facts.committed = true;
        Ok(Some(out.into()))
    }
}
