//! Models in OpenAI's shape ("List models", OpenAI API reference, seen 2026-11-21).

use crate::dialect::ListedModel;
use crate::wire::writer::{self, Object};

pub fn list(models: &[ListedModel<'_>], out: &mut Vec<u8>) {
    writer::object(out, |o| {
        o.string("object", "list");
        o.array("data", |a| {
            for model in models {
                a.object(|o| write(model, o));
            }
        });
    });
}

pub fn show(model: &ListedModel<'_>, out: &mut Vec<u8>) {
    writer::object(out, |o| write(model, o));
}

fn write(model: &ListedModel<'_>, o: &mut Object<'_>) {
    o.string("id", model.name);
    o.string("object", "model");
    // The shape demands a date; a name in a configuration has none.
    o.number("created", 0);
    o.string("owned_by", model.owner);
    // Members that the shape does not have: SDKs keep what they do not know.
    if let Some(context) = model.context {
        o.number("context_window", context);
    }
    if let Some(most) = model.max_output {
        o.number("max_output_tokens", most);
    }
    if !model.abilities.is_empty() {
        o.array("abilities", |a| model.abilities.iter().for_each(|ability| a.string(ability)));
    }
    if !model.prices.is_empty() {
        o.object("usd_per_million_tokens", |o| {
            model.prices.iter().for_each(|(part, price)| o.value(part).extend_from_slice(price.as_bytes()));
        });
    }
}
