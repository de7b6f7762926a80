//! The same dialect on both sides. No caller speaks this one; what is here serves whoever watches its answers, and reads
//! them by the decoders, which is as much as needs to be written for it.

use super::{response, stream};
use crate::dialect::{CONTROLS, Seen, Sniffer, StreamDecoder, To};
use crate::ir::{Event, Fault, FaultKind};
use crate::wire::patch::Patch;
use crate::wire::scan::Members;
use crate::wire::sse::Frame;

/// Our own controls and what the target refuses taken out. Model and stream stand in the path.
pub(super) fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    let ours = CONTROLS.into_iter().chain(["model", "stream"]);
    for name in ours.chain(to.quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &to.quirks.rename {
        patch.rename(members, body, ours, theirs);
    }
}

/// Watches one answer.
#[derive(Debug, Default)]
pub(super) struct Watch {
    decoder: stream::Decoder,
    ended: bool,
    failed: bool,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let mut seen = Seen::default();
        let read = self.decoder.frame(frame, &mut |event| see(event, &mut seen));
        self.close(read, seen)
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        match response::decode(body) {
            Ok(response) => {
                self.ended = true;
                Seen { content: true, usage: response.usage, end: true, ..Seen::default() }
            }
            Err(invalid) => self.close(Err(Fault::new(FaultKind::Garbage, invalid.to_string())), Seen::default()),
        }
    }

    fn whole(&self) -> bool {
        self.ended && !self.failed
    }
}

impl Watch {
    fn close(&mut self, read: Result<(), Fault>, mut seen: Seen) -> Seen {
        if let Err(fault) = read {
            seen.fault = Some(fault);
        }
        // Its usage comes in an event of its own, the last one; but it is asked for by nobody, and so shown to all.
        self.ended |= seen.end;
        self.failed |= seen.fault.is_some();
        seen
    }
}

fn see(event: Event<'_>, seen: &mut Seen) {
    match event {
        Event::Open { .. } | Event::Delta { .. } | Event::Finish { .. } => {
            seen.content = true;
            // An answer is whole with its stop; what follows is its usage.
            seen.end |= matches!(event, Event::Finish { .. });
        }
        Event::Usage(usage) => seen.usage = Some(usage),
        Event::End => seen.end = true,
        Event::Fault(fault) => seen.fault = Some(fault),
        _ => {}
    }
}
