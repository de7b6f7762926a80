//! What a passed-through stream says, followed beside it, so that its rest can be written by us if it breaks.
//!
//! The caller is given the provider's bytes; the caller's encoder writes the same events into nothing, and so stands where
//! the caller does.

use super::*;

pub(super) struct Follower {
    decoder: Box<dyn StreamDecoder>,
    resume: Resume,
    scrap: Vec<u8>,
}

impl Follower {
    pub fn new(decoder: Box<dyn StreamDecoder>, resume: Resume) -> Self {
        Follower { decoder, resume, scrap: Vec::new() }
    }

    /// A frame that is handed out.
    pub fn frame(&mut self, frame: &sse::Frame<'_>, terms: &Terms) {
        let Follower { decoder, resume: Resume { encoder, seam }, scrap } = self;
        let shown = Shown { cached: false, costs: &[], now: terms.now, asked: terms.asked() };
        let mut losses = Losses::default();
        let mut each = |event: Event<'_>| {
            seam.event(&event, &mut |event| encoder.event(event, &shown, scrap, &mut losses));
        };
        let read = decoder.frame(frame, &mut each);
        if read.is_err() {
            seam.spoil();
        }
        scrap.clear();
    }

    pub fn is_good(&self) -> bool {
        self.resume.seam.is_good()
    }

    pub fn into_resume(self) -> Resume {
        self.resume
    }
}
