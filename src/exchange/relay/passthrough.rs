//! The same dialect on both sides: the provider's bytes are the caller's bytes; usage is found by watching.

use super::declined::Beginning;
use super::follower::Follower;
use super::*;

/// A stream passed through. A content chunk is handed on as the same `Bytes`, without an allocation.
pub struct PassStream {
    sniffer: Box<dyn Sniffer>,
    frames: sse::Decoder,
    /// We asked for usage on our own account: its frame is cut out.
    hide_usage: bool,
    /// Chunks held until the first content.
    held: Vec<Bytes>,
    held_bytes: usize,
    most_held: usize,
    /// The beginning of a frame whose end has not come yet: it may be the one to cut out, and nothing of ours (a sign of
    /// life, an error event) may fall into it.
    tail: Vec<u8>,
    /// The terminal mark was seen.
    ended: bool,
    /// Deepest nesting of an event's JSON.
    depth: usize,
    /// The sniffer checks what it looks at.
    checked: bool,
    /// Looks for an answer that declines, until content was handed out.
    beginning: Option<Box<Beginning>>,
    /// Follows what is said, where the stream is to be gone on with if it breaks.
    follower: Option<Box<Follower>>,
}

impl PassStream {
    pub fn new(
        mut sniffer: Box<dyn Sniffer>,
        frames: sse::Decoder,
        hide_usage: bool,
        most_held: usize,
        depth: usize,
    ) -> Self {
        PassStream {
            depth,
            checked: sniffer.checks(depth),
            sniffer,
            frames,
            hide_usage,
            held: Vec::new(),
            held_bytes: 0,
            most_held,
            tail: Vec::new(),
            ended: false,
            beginning: None,
            follower: None,
        }
    }

    pub fn follow(&mut self, follower: Follower) {
        self.follower = Some(Box::new(follower));
    }

    pub fn is_good(&self) -> bool {
        self.follower.as_ref().is_some_and(|follower| follower.is_good())
    }

    pub fn into_resume(self) -> Option<Resume> {
        self.follower.map(|follower| follower.into_resume())
    }

    /// Takes an answer that declines for a failure.
    pub fn heed(&mut self, decoder: Box<dyn StreamDecoder>, on: On) {
        self.beginning = Some(Box::new(Beginning::new(decoder, on)));
    }

    pub fn chunk(
        &mut self,
        chunk: Bytes,
        end: bool,
        facts: &mut Facts,
        terms: &Terms,
    ) -> Result<Option<Bytes>, Box<Broken>> {
        let mut fault = None;
        if self.ended {
            // What comes after the terminal mark is no part of the answer.
            return if end && !facts.content { Err(not_an_answer("it has no content.").into()) } else { Ok(None) };
        }
        let mut ended = false;
        let mut watch = Watch { cut: None, frame_start: 0, carried: self.tail.len(), last_end: None };
        let sniffer = &mut self.sniffer;
        let hide = self.hide_usage;
        let (depth, checked) = (self.depth, self.checked);
        let (beginning, follower) = (&mut self.beginning, &mut self.follower);
        let (mut end_at, mut bad_at) = (None, None);
        let mut each = |frame: sse::Frame<'_>| {
            if ended || fault.is_some() {
                return;
            }
            let seen = sniffer.frame(&frame);
            let seen_whole = checked && seen.fault.is_none();
            let json = !frame.data.is_empty() && !seen.end && !seen_whole;
            if json && crate::wire::scan::validate(frame.data.as_bytes(), depth).is_err() {
                // Neither this event nor what follows it is handed out.
                fault = Some(not_an_answer("an event is not JSON."));
                bad_at = Some(watch.frame_start);
                return;
            }
            if let Some(beginning) = beginning
                && let Some(declined) = beginning.frame(&frame)
            {
                // Nothing was handed out, so where it stands does not matter.
                facts.declined = true;
                fault = Some(declined);
                return;
            }
            facts.see(&seen);
            if seen.end {
                ended = true;
                end_at = Some(frame.end);
            }
            fault = seen.fault;
            if let Some(follower) = follower {
                if fault.is_some() {
                    // It may be gone on with: then nobody is to be told.
                    bad_at = Some(watch.frame_start);
                    return;
                }
                follower.frame(&frame, terms);
            }
            watch.frame(frame.end, hide && seen.usage_only);
        };
        let mut read = self.frames.push(&chunk, &mut each);
        if end && read.is_ok() {
            read = self.frames.end(&mut each);
        }
        self.ended = ended;
        facts.whole |= ended || self.sniffer.whole();
        if let (Some(at), Some(fault)) = (bad_at, fault.clone()) {
            let good = chunk.slice(..at.saturating_sub(watch.carried).min(chunk.len()));
            let before = self.whole_frames(good, &watch, false);
            return Err(Broken::after(fault, Some(before)));
        }
        let chunk = match end_at {
            Some(at) if at > 0 => chunk.slice(..at.min(chunk.len())),
            _ => chunk,
        };
        let out = self.whole_frames(chunk, &watch, ended || (end && facts.whole));
        if let Err(error) = read {
            return Err(Broken::after(broken_frame(error.into()), Some(out)));
        }
        if let Some(fault) = fault {
            // The provider's own error event is in its caller's dialect: it passes as it is.
            return Err(Box::new(Broken { fault, before: Some(out), told: true }));
        }
        if end && !facts.content {
            return Err(not_an_answer("it has no content.").into());
        }
        let out = self.hold(out, end, facts)?;
        if end && !facts.whole {
            return Err(Broken::after(truncated(), out));
        }
        Ok(out)
    }

    /// Holds chunks back until content was seen.
    fn hold(&mut self, out: Bytes, end: bool, facts: &mut Facts) -> Result<Option<Bytes>, Box<Broken>> {
        if facts.committed {
            self.beginning = None;
            return Ok((!out.is_empty()).then_some(out));
        }
        self.held_bytes += out.len();
        let over = end || self.ended;
        let waits = !over && self.beginning.as_ref().is_some_and(|beginning| beginning.waits(facts));
        if !facts.content || waits {
            if self.held_bytes > self.most_held {
                return Err(too_large(self.most_held).into());
            }
            if !out.is_empty() {
                self.held.push(out);
            }
            return Ok(None);
        }
        if self.held.is_empty() {
            facts.committed = !out.is_empty();
            return Ok(facts.committed.then_some(out));
        }
        self.held.push(out);
        facts.committed = true;
        Ok(Some(join(&mut self.held)))
    }

    /// What may be handed out of tail and chunk: whole frames but the one to cut out; an unfinished frame waits.
    fn whole_frames(&mut self, chunk: Bytes, watch: &Watch, end: bool) -> Bytes {
        let whole_to = if end { chunk.len() } else { watch.last_end.unwrap_or(0).min(chunk.len()) };
        if !end && watch.last_end.is_none() {
            // No frame ended in this chunk: all of it belongs to the unfinished one.
            self.tail.extend_from_slice(&chunk);
            return Bytes::new();
        }
        let mut tail = std::mem::take(&mut self.tail);
        if whole_to < chunk.len() {
            self.tail.extend_from_slice(chunk.get(whole_to..).unwrap_or_default());
        }
        // Most chunks are whole frames, and are handed on as they are.
        let ready = if whole_to < chunk.len() { chunk.slice(..whole_to) } else { chunk };
        match watch.cut {
            None if tail.is_empty() => ready,
            None => concat(&[&tail, &ready]),
            Some((from, to)) => {
                // Offsets of the cut count from the beginning of the tail.
                let carried = tail.len();
                if from < carried {
                    tail.truncate(from);
                    concat(&[&tail, ready.get(to.saturating_sub(carried)..).unwrap_or_default()])
                } else {
                    let before = ready.get(..from - carried).unwrap_or_default();
                    let after = ready.get(to - carried..).unwrap_or_default();
                    if tail.is_empty() && after.is_empty() {
                        ready.slice(..before.len())
                    } else {
                        concat(&[&tail, before, after])
                    }
                }
            }
        }
    }
}

/// Where frames lie in tail + chunk.
struct Watch {
    /// The frame to cut out, from the beginning of the tail.
    cut: Option<(usize, usize)>,
    frame_start: usize,
    carried: usize,
    /// End of the last whole frame, in the chunk.
    last_end: Option<usize>,
}

impl Watch {
    fn frame(&mut self, end: usize, cut: bool) {
        let to = self.carried + end;
        if cut {
            self.cut = Some((self.frame_start, to));
        }
        self.frame_start = to;
        self.last_end = Some(end);
    }
}

fn concat(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

/// A whole answer passed through. It is held until it is complete, so that one that turns out bad can still go to the
/// next target, and so that its cost is known before its head is sent.
pub struct PassWhole {
    sniffer: Box<dyn Sniffer>,
    gathered: Gathered,
}

impl PassWhole {
    pub fn new(sniffer: Box<dyn Sniffer>, most: usize) -> Self {
        PassWhole { sniffer, gathered: Gathered::new(most) }
    }

    pub fn chunk(
        &mut self,
        chunk: Bytes,
        end: bool,
        facts: &mut Facts,
        terms: &Terms,
    ) -> Result<Option<Bytes>, Box<Broken>> {
        let Some(body) = self.gathered.add(chunk, end)? else { return Ok(None) };
        let depth = terms.snapshot.limits.depth;
        let checked = self.sniffer.checks(depth);
        let seen = self.sniffer.body(&body);
        // What is no JSON at all is better told by its place.
        if (!checked || seen.fault.is_some())
            && let Err(error) = crate::wire::scan::scan(&body, depth)
        {
            return Err(not_an_answer(&error.describe(&body)).into());
        }
        facts.see(&seen);
        if let Some(fault) = seen.fault {
            return Err(fault.into());
        }
        if facts.declining.heeds()
            && let Some(declined) = terms.outbound.decode(&body).ok().and_then(|told| facts.declining.response(&told))
        {
            facts.declined = true;
            return Err(declined.into());
        }
        if !seen.content {
            return Err(not_an_answer("it has no content.").into());
        }
        facts.whole = true;
        facts.committed = true;
        if terms.snapshot.cost_in_body == CostInBody::Always {
            return Ok(Some(with_cost(&body, terms, facts.usage.as_ref())));
        }
        Ok(Some(body))
    }
}

/// The body with `cached` and the costs put before its closing brace.
fn with_cost(body: &Bytes, terms: &Terms, usage: Option<&Usage>) -> Bytes {
    let Ok(members) = crate::wire::scan::scan(body, terms.snapshot.limits.depth) else { return body.clone() };
    let mut patch = crate::wire::patch::Patch::default();
    patch.insert(&members, body, "cached", b"false");
    for (name, amount) in terms.costs(usage) {
        patch.insert(&members, body, &name, amount.as_bytes());
    }
    patch.apply(body).into()
}

/// The parts of an answer that is read whole, up to a limit.
pub(super) struct Gathered {
    parts: Vec<Bytes>,
    size: usize,
    most: usize,
}

impl Gathered {
    pub fn new(most: usize) -> Self {
        Gathered { parts: Vec::new(), size: 0, most }
    }

    /// The whole body, once its last part has come.
    pub fn add(&mut self, chunk: Bytes, end: bool) -> Result<Option<Bytes>, Fault> {
        self.size += chunk.len();
        if self.size > self.most {
            return Err(too_large(self.most));
        }
        if !chunk.is_empty() {
            self.parts.push(chunk);
        }
        Ok(end.then(|| join(&mut self.parts)))
    }
}

pub(super) fn not_an_answer(why: &str) -> Fault {
    Fault::new(FaultKind::Garbage, format!("The provider's answer is not valid: {why}"))
}
