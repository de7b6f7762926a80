//! An answer as it streams: block events.
//!
//! Order: `Start`, then for each block of each candidate `Open`, `Delta`*, `Close`, then `Finish` a candidate, `Usage`
//! (cumulative, the last one counts), `End`. Blocks of one candidate do not overlap, but candidates may interleave.
//! Decoders keep to this order whatever their provider does (a chat stream has no block marks; its decoder opens and
//! closes them); encoders may rely on it.

use super::{Content, Fault, Finish, Usage};
use crate::wire::json::{Extras, Raw, Text};

#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The answer begins. Sent once.
    Start {
        id: Text<'a>,
        model: Text<'a>,
        /// Unix seconds.
        created: Option<u64>,
        service_tier: Option<Text<'a>>,
        fingerprint: Option<Text<'a>>,
        extras: Extras<'a>,
    },
    /// A block begins. `content` says what kind it is and what is known at once (a tool call's id and name, text that
    /// came along); later deltas append to it. `block` counts from 0 within the candidate.
    Open {
        candidate: u32,
        block: u32,
        content: Content<'a>,
    },
    Delta {
        candidate: u32,
        block: u32,
        delta: Delta<'a>,
    },
    Close {
        candidate: u32,
        block: u32,
    },
    /// Log probabilities for text just sent, in OpenAI's shape (`{"content":[...]}`).
    Logprobs {
        candidate: u32,
        json: Raw<'a>,
    },
    /// A candidate is complete.
    Finish {
        candidate: u32,
        finish: Finish<'a>,
    },
    /// What has been used so far: replaces what was said before, never adds to it.
    Usage(Usage),
    /// The provider's terminal mark was seen: the answer is whole.
    End,
    /// The provider reported a failure inside the stream.
    Fault(Fault),
    /// A sign of life without content.
    Ping,
    /// Members or events that only the provider's dialect knows, named for a loss.
    Extra {
        name: Text<'a>,
        json: Raw<'a>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Delta<'a> {
    /// For text, refusal and reasoning blocks.
    Text(Text<'a>),
    /// The next piece of a tool call's argument text.
    Arguments(Text<'a>),
    /// The whole signature of a reasoning or tool call block.
    Signature(Text<'a>),
    /// Encrypted thoughts of a reasoning block, whole.
    Encrypted(Text<'a>),
    /// A citation or annotation of a text block, raw.
    Citation(Raw<'a>),
}
