//! Two dialects: the provider's bytes become events or a whole answer, and those the caller's bytes.

use super::passthrough::{Gathered, not_an_answer};
use super::*;
use crate::wire::scan;

/// A stream translated frame by frame.
pub struct TransStream {
    frames: sse::Decoder,
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    /// Written, and not yet handed out.
    out: Vec<u8>,
    /// Costs of the usage last reported.
    costs: Costs,
}

/// Member names and decimal amounts.
type Costs = Vec<(String, String)>;

impl TransStream {
    pub fn new(frames: sse::Decoder, decoder: Box<dyn StreamDecoder>, encoder: Box<dyn StreamEncoder>) -> Self {
        TransStream { frames, decoder, encoder, out: Vec::new(), costs: Costs::new() }
    }

    pub fn chunk(
        &mut self,
        chunk: &[u8],
        end: bool,
        facts: &mut Facts,
        terms: &Terms,
    ) -> Result<Option<Bytes>, Box<Broken>> {
        let mut fault: Option<Fault> = None;
        let (decoder, encoder, out, costs) = (&mut self.decoder, &mut self.encoder, &mut self.out, &mut self.costs);
        let mut each = |frame: sse::Frame<'_>| {
            if fault.is_some() || frame.comment {
                return;
            }
            let mut emit = |event: Event<'_>| show(&event, encoder.as_mut(), out, facts, terms, costs, &mut fault);
            if let Err(error) = decoder.frame(&frame, &mut emit) {
                fault.get_or_insert(error);
            }
        };
        let mut read = self.frames.push(chunk, &mut each);
        if end && read.is_ok() {
            read = self.frames.end(&mut each);
        }
        if let Err(error) = read {
            fault.get_or_insert(broken_frame(&error));
        }
        if end && fault.is_none() {
            let mut emit = |event: Event<'_>| {
                show(&event, self.encoder.as_mut(), &mut self.out, facts, terms, &mut self.costs, &mut fault)
            };
            if let Err(error) = self.decoder.end(&mut emit) {
                fault.get_or_insert(error);
            }
        }
        if end && fault.is_none() && !facts.whole {
            fault = Some(truncated());
        }
        facts.committed |= facts.content;
        let bytes = (facts.committed && !self.out.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.out)));
        match fault {
            Some(fault) => Err(Broken::after(fault, bytes)),
            None => Ok(bytes),
        }
    }
}

/// Notes what an event tells, and writes it for the caller.
fn show(
    event: &Event<'_>,
    encoder: &mut dyn StreamEncoder,
    out: &mut Vec<u8>,
    facts: &mut Facts,
    terms: &Terms,
    costs: &mut Costs,
    fault: &mut Option<Fault>,
) {
    if fault.is_some() {
        return;
    }
    match event {
        Event::Open { .. } | Event::Delta { .. } | Event::Finish { .. } => {
            facts.content = true;
            facts.pieces += 1;
        }
        Event::Usage(usage) => {
            facts.usage = Some(*usage);
            if terms.snapshot.cost_in_body != CostInBody::Never {
                *costs = terms.costs(Some(usage));
            }
        }
        Event::End => facts.whole = true,
        Event::Fault(told) => {
            *fault = Some(told.clone());
            return;
        }
        _ => {}
    }
    let shown = Shown { cached: false, costs, now: terms.now, asked: terms.asked() };
    encoder.event(event, &shown, out, &mut facts.losses);
}

/// A whole answer translated at its end. A caller that asked for a stream gets one.
pub struct TransWhole {
    gathered: Gathered,
}

impl TransWhole {
    pub fn new(most: usize) -> Self {
        TransWhole { gathered: Gathered::new(most) }
    }

    pub fn chunk(
        &mut self,
        chunk: Bytes,
        end: bool,
        facts: &mut Facts,
        terms: &Terms,
    ) -> Result<Option<Bytes>, Box<Broken>> {
        let Some(body) = self.gathered.add(chunk, end)? else { return Ok(None) };
        let members = match scan::scan(&body, terms.snapshot.limits.depth) {
            Ok(members) => members,
            Err(error) => return Err(not_an_answer(&error.describe(&body)).into()),
        };
        // An error under a good status: what it says is worth more than that it is no answer.
        if members.raw(&body, "error").is_some_and(|error| !error.is_null()) {
            return Err(terms.outbound.fault(200, &body).into());
        }
        let response = terms.outbound.decode(&body).map_err(|error| not_an_answer(&error.to_string()))?;
        if response.candidates.is_empty() {
            return Err(not_an_answer("it has no content.").into());
        }
        let mut out = Vec::with_capacity(body.len() + 256);
        if terms.call.stream {
            let mut encoder = terms.inbound.stream(&terms.asked());
            let (mut fault, mut costs) = (None, Costs::new());
            response
                .events(&mut |event| show(&event, encoder.as_mut(), &mut out, facts, terms, &mut costs, &mut fault));
        } else {
            facts.usage = response.usage;
            let costs = match terms.snapshot.cost_in_body {
                CostInBody::Never => Vec::new(),
                _ => terms.costs(response.usage.as_ref()),
            };
            let shown = Shown { cached: false, costs: &costs, now: terms.now, asked: terms.asked() };
            terms.inbound.encode(&response, &shown, &mut out, &mut facts.losses);
            facts.pieces = pieces(&response);
        }
        facts.content = true;
        facts.whole = true;
        facts.committed = true;
        Ok(Some(out.into()))
    }
}

/// Four characters of text a token: the estimate where a whole answer reports no usage.
fn pieces(response: &Response<'_>) -> u64 {
    use crate::ir::Content;
    let bytes: usize = response
        .candidates
        .iter()
        .flat_map(|candidate| &candidate.blocks)
        .map(|block| match &block.content {
            Content::Text { text, .. } | Content::Refusal(text) => text.len(),
            Content::ToolCall(call) => call.arguments.len() + call.name.len(),
            Content::Reasoning(reasoning) => reasoning.text.as_ref().map_or(0, |text| text.len()),
            _ => 0,
        })
        .sum();
    bytes.div_ceil(4) as u64
}
