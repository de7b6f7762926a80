//! Tokens used, as Cohere counts them.
//!
//! It counts twice: `tokens` is what the model read and wrote, with the template that Cohere puts around a conversation;
//! `billed_units` is what is charged (Cohere documentation, "How does Cohere's pricing work?", seen 2026-11-21), and may be
//! far less. Usage is what is paid for, so the latter counts, and `tokens` stand in where it is not stated.
//! `cached_tokens` are parts of `tokens` alone: beside a bill they would be taken off twice. Images stand beside
//! `input_tokens`, not in them (a recorded call with two images has 501 and 518).

use super::wire::whole;
use crate::ir::Usage;
use crate::shape;
use crate::wire::json::Raw;

shape! {
    struct Counts { tokens "tokens": Tokens<'a>, billed "billed_units": Tokens<'a>, cached "cached_tokens": Raw<'a> }
}

shape! {
    struct Tokens {
        input "input_tokens": Raw<'a>,
        output "output_tokens": Raw<'a>,
        image "image_tokens": Raw<'a>,
        reasoning "reasoning_tokens": Raw<'a>,
    }
}

/// Reads a `usage` object. `None` where nothing was counted.
pub(super) fn read(raw: Option<&Raw<'_>>) -> Option<Usage> {
    let counts: Counts<'_> = raw?.read().ok()?;
    let said = |tokens: &Option<Tokens<'_>>| {
        let tokens = tokens.as_ref()?;
        let (input, output) = (whole(tokens.input.as_ref()), whole(tokens.output.as_ref()));
        let image = whole(tokens.image.as_ref()).unwrap_or(0);
        let reasoning = whole(tokens.reasoning.as_ref()).unwrap_or(0);
        (input.is_some() || output.is_some()).then(|| Usage {
            input: input.unwrap_or(0).saturating_add(image),
            output: output.unwrap_or(0),
            reasoning: reasoning.min(output.unwrap_or(0)),
            ..Usage::default()
        })
    };
    let reasoning = said(&counts.tokens).map_or(0, |tokens| tokens.reasoning);
    if let Some(billed) = said(&counts.billed) {
        return Some(Usage { reasoning: billed.reasoning.max(reasoning.min(billed.output)), ..billed });
    }
    let mut usage = said(&counts.tokens)?;
    usage.cached = whole(counts.cached.as_ref()).unwrap_or(0).min(usage.input);
    Some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Option<Usage> {
        read(Some(&Raw::parse(json).unwrap()))
    }

    #[test]
    fn billed_units_count_and_tokens_stand_in() {
        let both = usage(
            r#"{"billed_units":{"input_tokens":84,"output_tokens":314},"cached_tokens":1008,
                "tokens":{"input_tokens":1501.0,"output_tokens":346,"reasoning_tokens":304}}"#,
        );
        let wanted = Usage { input: 84, output: 314, reasoning: 304, ..Usage::default() };
        assert_eq!(both, Some(wanted));
        let billed = usage(r#"{"billed_units":{"input_tokens":9,"output_tokens":3},"tokens":{}}"#).unwrap();
        assert_eq!((billed.input, billed.output), (9, 3));
        let counted = usage(r#"{"tokens":{"input_tokens":20,"output_tokens":3},"cached_tokens":8}"#).unwrap();
        assert_eq!((counted.input, counted.cached), (20, 8));
        assert_eq!(usage("{}"), None);
        assert_eq!(usage(r#"{"tokens":{"input_tokens":"x"}}"#), None);
    }

    #[test]
    fn images_are_added_and_parts_stay_within_their_sums() {
        let images =
            usage(r#"{"tokens":{"input_tokens":501,"output_tokens":65,"image_tokens":518},"cached_tokens":480}"#);
        assert_eq!(images.unwrap().input, 1_019);
        let odd = usage(r#"{"tokens":{"input_tokens":5,"output_tokens":2,"reasoning_tokens":9},"cached_tokens":70}"#);
        assert_eq!(odd.map(|usage| (usage.cached, usage.reasoning)), Some((5, 2)));
    }
}
