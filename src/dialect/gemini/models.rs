//! Models in Google's shape (`models.list`, Gemini API reference, seen 2026-11-21).

use crate::dialect::ListedModel;
use crate::wire::writer::{self, Object};

/// Writes a page. Its token is the name of its last model, behind which the next page begins.
pub(super) fn list(models: &[ListedModel<'_>], more: bool, out: &mut Vec<u8>) {
    writer::object(out, |o| {
        o.array("models", |a| {
            for model in models {
                a.object(|o| write(model, o));
            }
        });
        if let Some(last) = models.last().filter(|_| more) {
            o.string("nextPageToken", last.name);
        }
    });
}

pub(super) fn show(model: &ListedModel<'_>, out: &mut Vec<u8>) {
    writer::object(out, |o| write(model, o));
}

fn write(model: &ListedModel<'_>, o: &mut Object<'_>) {
    o.string("name", &format!("models/{}", model.name));
    o.string("displayName", model.name);
    if !model.owner.is_empty() {
        o.string("description", &format!("Served by {}.", model.owner));
    }
    for (name, limit) in [("inputTokenLimit", model.context), ("outputTokenLimit", model.max_output)] {
        if let Some(limit) = limit {
            o.number(name, limit);
        }
    }
    o.array("supportedGenerationMethods", |a| {
        a.string("generateContent");
        a.string("countTokens");
    });
}
