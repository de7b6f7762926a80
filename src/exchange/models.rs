//! `GET /v1/models` in OpenAI's shape, limited to what the key may use.

use crate::config::Snapshot;
use crate::config::snapshot::{Key, Model};
use crate::wire::writer::{self, Object};

/// The list, in order of names.
pub fn list(snapshot: &Snapshot, key: &Key, out: &mut Vec<u8>) {
    let mut models: Vec<_> = snapshot.models.values().filter(|model| key.may_use(&model.name)).collect();
    models.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    models.dedup_by(|a, b| a.name == b.name);
    writer::object(out, |o| {
        o.string("object", "list");
        o.array("data", |a| {
            for model in models {
                a.object(|o| write(model, o));
            }
        });
    });
}

/// One model.
pub fn show(model: &Model, out: &mut Vec<u8>) {
    writer::object(out, |o| write(model, o));
}

fn write(model: &Model, o: &mut Object<'_>) {
    o.string("id", &model.name);
    o.string("object", "model");
    // OpenAI's shape demands a date; a name in a configuration has none.
    o.number("created", 0);
    let mut providers: Vec<_> = model.targets.iter().map(|target| target.target.provider.id.as_str()).collect();
    providers.dedup();
    o.string("owned_by", &providers.join(","));
    let context = model.targets.iter().filter_map(|target| target.target.abilities.context).min();
    if let Some(context) = context {
        o.number("context_window", context);
    }
}
