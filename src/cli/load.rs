//! Reads the configuration with the real environment, the real files and the real catalogue.

use std::path::Path;

use crate::config::{self, Catalogue, Outside, Problem, Snapshot};

/// Loads a configuration.
///
/// # Errors
/// Every problem, in the order of files and lines.
pub fn checked(file: &Path) -> Result<Snapshot, Vec<Problem>> {
    let outside = Outside { env: &|name| std::env::var(name).ok(), read: &|path| std::fs::read(path) };
    let catalogue = Catalogue::EMPTY;
    config::load(file, &outside, &catalogue)
}

/// Loads a configuration for serving.
///
/// # Errors
/// Every problem as a line: `file:line:column: path: message`.
pub fn snapshot(file: &Path) -> Result<Snapshot, Vec<String>> {
    checked(file).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}
