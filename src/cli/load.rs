//! Reads the configuration with the real environment, the real files and the real catalogue.

use std::path::Path;

use crate::config::{self, Catalogue, Snapshot};
use crate::provider::catalog;

/// What the built-in catalogue knows.
pub fn catalogue() -> Catalogue<'static> {
    Catalogue {
        find: &|preset, model| catalog::lookup(preset, model).map(|row| (row.abilities, row.price)),
        models: &|preset| catalog::models(preset),
    }
}

/// Loads a configuration for serving.
///
/// # Errors
/// Every problem as a line: `file:line:column: path: message`.
pub fn snapshot(file: &Path) -> Result<Snapshot, Vec<String>> {
    config::load(file, &super::outside(), &catalogue())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}
