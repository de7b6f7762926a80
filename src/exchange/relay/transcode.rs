//! Two dialects: the provider's bytes become events or a whole answer, and those the caller's bytes.

use super::passthrough::{Gathered, not_an_answer};
use super::*;
use crate::ir::Content;
use crate::wire::json::Text;
use crate::wire::scan;

/// A stream translated frame by frame.
pub struct TransStream {
    frames: frames::Decoder,
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    /// Written, and not yet handed out.
    out: Vec<u8>,
    /// Costs of the usage last reported.
    costs: Costs,
    /// Follows what is said, where the stream is to be gone on with if it breaks; joins what goes on with it.
    seam: Option<Box<Seam>>,
}

/// Member names and decimal amounts.
type Costs = Vec<(String, String)>;

impl TransStream {
    pub fn new(frames: frames::Decoder, decoder: Box<dyn StreamDecoder>, encoder: Box<dyn StreamEncoder>) -> Self {
        TransStream { frames, decoder, encoder, out: Vec::new(), costs: Costs::new(), seam: None }
    }

    /// Goes on with a stream that broke.
    pub fn going_on(frames: frames::Decoder, decoder: Box<dyn StreamDecoder>, resume: Resume, terms: &Terms) -> Self {
        let Resume { encoder, seam } = resume;
        TransStream { frames, decoder, encoder, out: mark(terms), costs: Costs::new(), seam: Some(seam) }
    }

    pub fn follow(&mut self, seam: Box<Seam>) {
        self.seam = Some(seam);
    }

    pub fn is_good(&self) -> bool {
        self.seam.as_ref().is_some_and(|seam| seam.is_good())
    }

    pub fn into_resume(self) -> Option<Resume> {
        Some(Resume { encoder: self.encoder, seam: self.seam? })
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
        let seam = &mut self.seam;
        let mut each = |frame: sse::Frame<'_>| {
            if fault.is_some() || frame.comment {
                return;
            }
            let mut telling = Telling { encoder: encoder.as_mut(), out, costs, seam };
            let mut emit = |event: Event<'_>| show(&event, &mut telling, facts, terms, &mut fault);
            if let Err(error) = decoder.frame(&frame, &mut emit) {
                fault.get_or_insert(error);
            }
        };
        let mut read = self.frames.push(chunk, &mut each);
        if end && read.is_ok() {
            read = self.frames.end(&mut each);
        }
        if let Err(error) = read {
            fault.get_or_insert(broken_frame(error));
        }
        if end && fault.is_none() {
            let (encoder, seam) = (self.encoder.as_mut(), &mut self.seam);
            let mut telling = Telling { encoder, out: &mut self.out, costs: &mut self.costs, seam };
            let mut emit = |event: Event<'_>| show(&event, &mut telling, facts, terms, &mut fault);
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

    /// The caller's stream ends in an error, in the form that its dialect has for that.
    pub fn last_words(&mut self, refusal: &Refusal, terms: &Terms) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let shown = Shown { cached: false, costs: &self.costs, now: terms.now, asked: terms.asked() };
        let told = refusal.shaped(&terms.request_id, |shape| self.encoder.error(shape, &shown, &mut out));
        if told { out } else { refusal.event(terms.inbound, &terms.asked(), &terms.request_id) }
    }
}

/// Says in the stream itself that it goes on elsewhere: a comment, which no client reads, where there are such.
fn mark(terms: &Terms) -> Vec<u8> {
    if terms.call.array {
        return Vec::new();
    }
    format!(": portolan continued at {}\n\n", terms.target.target.id).into_bytes()
}

/// What a caller's stream is written with.
struct Telling<'t> {
    encoder: &'t mut dyn StreamEncoder,
    out: &'t mut Vec<u8>,
    costs: &'t mut Costs,
    seam: &'t mut Option<Box<Seam>>,
}

/// A stream gathered, and told whole at its end.
pub struct TransGather {
    frames: frames::Decoder,
    decoder: Box<dyn StreamDecoder>,
    collector: Collector,
    size: usize,
    most: usize,
}

impl TransGather {
    pub fn new(frames: frames::Decoder, decoder: Box<dyn StreamDecoder>, origin: Origin, most: usize) -> Self {
        TransGather { frames, decoder, collector: Collector::new(origin), size: 0, most }
    }

    pub fn chunk(
        &mut self,
        chunk: &[u8],
        end: bool,
        facts: &mut Facts,
        terms: &Terms,
    ) -> Result<Option<Bytes>, Box<Broken>> {
        self.size += chunk.len();
        if self.size > self.most {
            return Err(too_large(self.most).into());
        }
        let mut fault: Option<Fault> = None;
        let (decoder, collector) = (&mut self.decoder, &mut self.collector);
        let mut take = |event: Event<'_>, fault: &mut Option<Fault>| {
            if fault.is_none() {
                note(&event, facts, fault);
                collector.event(&event);
            }
        };
        let mut each = |frame: sse::Frame<'_>| {
            if fault.is_some() || frame.comment {
                return;
            }
            let mut told = None;
            let read = decoder.frame(&frame, &mut |event| take(event, &mut told));
            fault = told.or(read.err());
        };
        let mut read = self.frames.push(chunk, &mut each);
        if end && read.is_ok() {
            read = self.frames.end(&mut each);
        }
        if let Err(error) = read {
            fault.get_or_insert(broken_frame(error));
        }
        if end && fault.is_none() {
            let mut told = None;
            let read = self.decoder.end(&mut |event| take(event, &mut told));
            fault = told.or(read.err());
        }
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        if !end {
            return Ok(None);
        }
        if !facts.whole {
            return Err(truncated().into());
        }
        let mut response = std::mem::take(&mut self.collector).into_response();
        declined(&response, facts)?;
        complete(&mut response, terms);
        if response.candidates.is_empty() {
            return Err(not_an_answer("it has no content.").into());
        }
        let mut out = Vec::with_capacity(self.size);
        tell(&response, &mut out, facts, terms);
        Ok(Some(out.into()))
    }
}

/// A whole answer that declines is a failure, where the operator wants it so. What it cost is known all the same.
fn declined(response: &Response<'_>, facts: &mut Facts) -> Result<(), Fault> {
    let Some(fault) = facts.declining.response(response) else { return Ok(()) };
    facts.usage = response.usage.or(facts.usage);
    facts.declined = true;
    Err(fault)
}

/// Names the answer and its model where the provider did not (Bedrock, Cohere).
fn complete(response: &mut Response<'_>, terms: &Terms) {
    if response.id.is_empty() {
        response.id = terms.answer_id().to_owned().into();
    }
    if response.model.is_empty() {
        response.model = terms.target.target.model.clone().into();
    }
}

pub(super) fn says_nothing(content: &Content<'_>) -> bool {
    match content {
        Content::Text { text, .. } | Content::Refusal(text) => text.is_empty(),
        Content::Reasoning(thought) => {
            thought.text.as_ref().is_none_or(|text| text.is_empty())
                && thought.encrypted.is_none()
                && thought.signature.is_none()
        }
        _ => false,
    }
}

/// Notes what an event tells of the answer.
fn note(event: &Event<'_>, facts: &mut Facts, fault: &mut Option<Fault>) {
    if let Some(declined) = facts.declining.event(event) {
        facts.declined = true;
        *fault = Some(declined);
        return;
    }
    match event {
        // A block that is only announced says nothing yet.
        Event::Open { content, .. } if says_nothing(content) => {}
        Event::Open { .. } | Event::Delta { .. } | Event::Finish { .. } => {
            facts.content = true;
            facts.pieces += 1;
        }
        Event::Usage(usage) => facts.usage = Some(*usage),
        Event::End => facts.whole = true,
        Event::Fault(told) => *fault = Some(told.clone()),
        _ => {}
    }
}

/// What the provider says, or else what we know.
fn named<'t>(theirs: &'t Text<'_>, ours: &'t str) -> Text<'t> {
    if theirs.is_empty() { ours.into() } else { theirs.reborrow() }
}

/// Writes a whole answer for the caller.
fn tell(response: &Response<'_>, out: &mut Vec<u8>, facts: &mut Facts, terms: &Terms) {
    facts.usage = response.usage;
    let costs = match terms.snapshot.cost_in_body {
        CostInBody::Never => Vec::new(),
        _ => terms.costs(response.usage.as_ref()),
    };
    let shown = Shown { cached: false, costs: &costs, now: terms.now, asked: terms.asked() };
    terms.inbound.encode(response, &shown, out, &mut facts.losses);
    facts.pieces = pieces(response);
    facts.content = true;
    facts.whole = true;
    facts.committed = true;
}

/// Notes what an event tells, and writes it for the caller.
fn show(event: &Event<'_>, telling: &mut Telling<'_>, facts: &mut Facts, terms: &Terms, fault: &mut Option<Fault>) {
    if fault.is_some() {
        return;
    }
    note(event, facts, fault);
    if fault.is_some() {
        return;
    }
    // Some providers name neither the answer nor the model (Bedrock, Cohere).
    let whole;
    let event = match event {
        Event::Start { id, model, created, service_tier, fingerprint, extras } if id.is_empty() || model.is_empty() => {
            whole = Event::Start {
                id: named(id, terms.answer_id()),
                model: named(model, &terms.target.target.model),
                created: *created,
                service_tier: service_tier.clone(),
                fingerprint: fingerprint.clone(),
                extras: extras.clone(),
            };
            &whole
        }
        other => other,
    };
    match event {
        Event::Usage(usage) if terms.snapshot.cost_in_body != CostInBody::Never => {
            let before = telling.seam.as_ref().map_or((0, 0), |seam| (seam.times, seam.cost));
            *telling.costs = terms.costs_after(Some(usage), before.1);
            if before.0 > 0 {
                telling.costs.push(("continued".to_owned(), before.0.to_string()));
            }
        }
        _ => {}
    }
    let Telling { encoder, out, costs, seam } = telling;
    let shown = Shown { cached: false, costs: costs.as_slice(), now: terms.now, asked: terms.asked() };
    match seam {
        None => encoder.event(event, &shown, out, &mut facts.losses),
        Some(seam) => seam.event(event, &mut |event| encoder.event(event, &shown, out, &mut facts.losses)),
    }
}

/// A whole answer translated at its end. A caller that asked for a stream gets one.
pub struct TransWhole {
    gathered: Gathered,
    /// The stream that it goes on with.
    resume: Option<Box<Resume>>,
}

impl TransWhole {
    pub fn new(most: usize) -> Self {
        TransWhole { gathered: Gathered::new(most), resume: None }
    }

    /// Goes on with a stream that broke.
    pub fn going_on(most: usize, resume: Box<Resume>) -> Self {
        TransWhole { gathered: Gathered::new(most), resume: Some(resume) }
    }

    pub fn into_resume(self) -> Option<Resume> {
        self.resume.map(|resume| *resume)
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
        let mut response = terms.outbound.decode(&body).map_err(|error| not_an_answer(&error.to_string()))?;
        declined(&response, facts)?;
        complete(&mut response, terms);
        if response.candidates.is_empty() {
            return Err(not_an_answer("it has no content.").into());
        }
        let mut out = Vec::with_capacity(body.len() + 256);
        if terms.call.stream {
            let (mut encoder, mut seam) = match self.resume.take() {
                Some(resume) => {
                    out = mark(terms);
                    (resume.encoder, Some(resume.seam))
                }
                None => (terms.inbound.stream(&terms.asked()), None),
            };
            let (mut fault, mut costs) = (None, Costs::new());
            let (encoder, seam) = (encoder.as_mut(), &mut seam);
            let mut telling = Telling { encoder, out: &mut out, costs: &mut costs, seam };
            response.events(&mut |event| show(&event, &mut telling, facts, terms, &mut fault));
        } else {
            tell(&response, &mut out, facts, terms);
        }
        facts.content = true;
        facts.whole = true;
        facts.committed = true;
        Ok(Some(out.into()))
    }
}

/// Four characters of text a token: the estimate where a whole answer reports no usage.
fn pieces(response: &Response<'_>) -> u64 {
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
