//! Models in Anthropic's shape ("List Models" and "Get a Model", API reference, seen 2026-11-21).

use crate::dialect::ListedModel;
use crate::wire::writer::{self, Object};

/// What Anthropic itself writes where it does not know when a model came out; a name in a configuration has no date.
const UNKNOWN: &str = "1970-01-01T00:00:00Z";

pub(super) fn list(models: &[ListedModel<'_>], more: bool, out: &mut Vec<u8>) {
    writer::object(out, |o| {
        o.array("data", |a| {
            for model in models {
                a.object(|o| write(model, o));
            }
        });
        o.bool("has_more", more);
        for (name, end) in [("first_id", models.first()), ("last_id", models.last())] {
            match end {
                Some(model) => o.string(name, model.name),
                None => o.null(name),
            }
        }
    });
}

pub(super) fn show(model: &ListedModel<'_>, out: &mut Vec<u8>) {
    writer::object(out, |o| write(model, o));
}

fn write(model: &ListedModel<'_>, o: &mut Object<'_>) {
    o.string("type", "model");
    o.string("id", model.name);
    o.string("display_name", model.name);
    o.string("created_at", UNKNOWN);
    for (name, tokens) in [("max_input_tokens", model.context), ("max_tokens", model.max_output)] {
        if let Some(tokens) = tokens {
            o.number(name, tokens);
        }
    }
}
