//! Whether an answer is none: the model declines, or a filter withholds it.
//!
//! Where the operator has such calls go on to another target ([`On`]) it is found out before anything is handed out: of a
//! stream by what comes before its first content, of a whole answer by all of it. A passed-through answer is read for
//! that as a translated one is; once its content has begun nothing is looked at any more.

use super::*;
use crate::config::snapshot::On;
use crate::ir::{Content, FinishReason};

/// Watches for the ways to decline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declining {
    on: On,
    /// Something else was said: it is an answer.
    said: bool,
}

impl Declining {
    pub fn new(on: On) -> Self {
        Declining { on, said: false }
    }

    /// Whether there is anything to watch for.
    pub fn heeds(self) -> bool {
        self.on.any()
    }

    /// The next event of a stream.
    pub fn event(&mut self, event: &Event<'_>) -> Option<Fault> {
        if self.said || !self.on.any() {
            return None;
        }
        let found = match event {
            Event::Open { content: Content::Refusal(_), .. } => Some(FinishReason::Refusal),
            // A block that is only announced says nothing yet.
            Event::Open { content, .. } if transcode::says_nothing(content) => return None,
            Event::Finish { finish, .. } => Some(finish.reason),
            Event::Open { .. } | Event::Delta { .. } => None,
            _ => return None,
        };
        let fault = found.and_then(|reason| fault(reason, self.on));
        self.said = fault.is_none();
        fault
    }

    /// A whole answer. One of several candidates is an answer.
    pub fn response(self, response: &Response<'_>) -> Option<Fault> {
        if !self.on.any() {
            return None;
        }
        let mut found = None;
        for candidate in &response.candidates {
            let refused = candidate.blocks.iter().any(|block| matches!(block.content, Content::Refusal(_)));
            let reason = candidate.finish.as_ref().map(|finish| finish.reason);
            let reason = if refused { Some(FinishReason::Refusal) } else { reason };
            found = Some(reason.and_then(|reason| fault(reason, self.on))?);
        }
        found
    }
}

fn fault(reason: FinishReason, on: On) -> Option<Fault> {
    match reason {
        FinishReason::Refusal if on.refusal => Some(Fault::new(FaultKind::Refusal, "The model declined to answer.")),
        FinishReason::ContentFilter if on.content_filter => {
            Some(Fault::new(FaultKind::ContentFilter, "The provider's filter withheld the answer."))
        }
        _ => None,
    }
}

/// Reads the beginning of a passed-through stream.
pub(super) struct Beginning {
    decoder: Box<dyn StreamDecoder>,
    declining: Declining,
}

impl Beginning {
    pub fn new(decoder: Box<dyn StreamDecoder>, on: On) -> Self {
        Beginning { decoder, declining: Declining::new(on) }
    }

    /// Whether it may still decline. The sniffer may take a frame for content that its decoder keeps to itself (a chat's
    /// reason for the end, until the end); two of them are more than that.
    pub fn waits(&self, facts: &Facts) -> bool {
        !self.declining.said && facts.pieces < 2
    }

    pub fn frame(&mut self, frame: &sse::Frame<'_>) -> Option<Fault> {
        let mut found = None;
        let declining = &mut self.declining;
        // What the decoder does not like is the sniffer's to judge.
        let _ = self.decoder.frame(frame, &mut |event| found = found.take().or_else(|| declining.event(&event)));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Block, Candidate, Finish};

    const BOTH: On = On { refusal: true, content_filter: true };

    fn finish(reason: FinishReason) -> Event<'static> {
        Event::Finish { candidate: 0, finish: Finish { reason, sequence: None, native: None } }
    }

    fn text(text: &'static str) -> Content<'static> {
        Content::Text { text: text.into(), citations: Vec::new() }
    }

    fn open(content: Content<'static>) -> Event<'static> {
        Event::Open { candidate: 0, block: 0, content }
    }

    #[test]
    fn a_stream_declines_before_it_says_anything_or_not_at_all() {
        let kinds = |on, events: &[Event<'static>]| {
            let mut declining = Declining::new(on);
            events.iter().find_map(|event| declining.event(event)).map(|fault| fault.kind)
        };
        let (refusal, filter) = (finish(FinishReason::Refusal), finish(FinishReason::ContentFilter));
        assert_eq!(kinds(BOTH, std::slice::from_ref(&refusal)), Some(FaultKind::Refusal));
        assert_eq!(kinds(BOTH, &[open(text("")), filter.clone()]), Some(FaultKind::ContentFilter));
        assert_eq!(kinds(BOTH, &[open(Content::Refusal("No".into()))]), Some(FaultKind::Refusal));
        assert_eq!(kinds(BOTH, &[open(text("Well")), filter.clone()]), None);
        assert_eq!(kinds(BOTH, &[finish(FinishReason::Stop), refusal.clone()]), None);
        assert_eq!(kinds(On { refusal: true, ..On::default() }, std::slice::from_ref(&filter)), None);
        assert_eq!(kinds(On::default(), &[refusal]), None);
    }

    #[test]
    fn a_whole_answer_declines_if_all_of_it_does() {
        let candidate = |reason, content: Content<'static>| Candidate {
            blocks: vec![Block::new(content)],
            finish: Some(Finish { reason, sequence: None, native: None }),
            ..Candidate::default()
        };
        let kind = |on, candidates: Vec<Candidate<'static>>| {
            let response = Response { candidates, ..Response::default() };
            Declining::new(on).response(&response).map(|fault| fault.kind)
        };
        let withheld = || candidate(FinishReason::ContentFilter, text("Half"));
        assert_eq!(kind(BOTH, vec![withheld()]), Some(FaultKind::ContentFilter));
        assert_eq!(kind(BOTH, vec![withheld(), candidate(FinishReason::Stop, text("Whole"))]), None);
        let refused = candidate(FinishReason::Stop, Content::Refusal("No".into()));
        assert_eq!(kind(BOTH, vec![refused]), Some(FaultKind::Refusal));
        assert_eq!(kind(On::default(), vec![withheld()]), None);
        assert_eq!(kind(BOTH, Vec::new()), None);
    }
}
