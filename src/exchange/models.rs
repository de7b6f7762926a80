//! The list of models, limited to what the key may use, in the caller's dialect.

use crate::config::Snapshot;
use crate::config::snapshot::{Key, Model};
use crate::dialect::{Inbound, ListedModel};

/// The list, in order of names.
pub fn list(snapshot: &Snapshot, key: &Key, inbound: &dyn Inbound, out: &mut Vec<u8>) {
    let mut models: Vec<_> = snapshot.models.values().filter(|model| key.may_use(&model.name)).collect();
    models.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    models.dedup_by(|a, b| a.name == b.name);
    let owners: Vec<_> = models.iter().map(|model| owner(model)).collect();
    let listed: Vec<_> = models.iter().zip(&owners).map(|(model, owner)| listed(model, owner)).collect();
    inbound.models(&listed, false, out);
}

/// One model.
pub fn show(model: &Model, inbound: &dyn Inbound, out: &mut Vec<u8>) {
    inbound.model(&listed(model, &owner(model)), out);
}

fn owner(model: &Model) -> String {
    let mut providers: Vec<_> = model.targets.iter().map(|target| target.target.provider.id.as_str()).collect();
    providers.dedup();
    if providers.is_empty() {
        // Rules lead from it to others.
        return "portolan".to_owned();
    }
    providers.join(",")
}

fn listed<'m>(model: &'m Model, owner: &'m str) -> ListedModel<'m> {
    let abilities = || model.targets.iter().map(|target| &target.target.abilities);
    ListedModel {
        name: &model.name,
        owner,
        context: abilities().filter_map(|abilities| abilities.context).min(),
        max_output: abilities().filter_map(|abilities| abilities.max_output).min(),
    }
}
