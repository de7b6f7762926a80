//! Reads the configuration with the real environment, the real files and the real catalogue.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Catalogue, Snapshot};
use crate::policy::Live;
use crate::provider::catalog;

/// What the built-in catalogue knows.
pub fn catalogue() -> Catalogue<'static> {
    Catalogue {
        find: &|preset, model| catalog::lookup(preset, model).map(|row| (row.abilities, row.price)),
        models: &|preset| catalog::models(preset),
    }
}

/// Loads a configuration for serving; its targets hold on to their state in `live`.
///
/// # Errors
/// Every problem as a line: `file:line:column: path: message`.
pub fn snapshot(file: &Path, live: &Live) -> Result<Snapshot, Vec<String>> {
    config::load(file, &super::outside(), &catalogue(), live)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Loads a configuration for a look at it. `None`: its problems have been told.
///
/// # Errors
/// They cannot be written.
pub fn or_tell(file: &Path, err: &mut dyn Write) -> io::Result<Option<Snapshot>> {
    match snapshot(file, &Live::default()) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(lines) => {
            lines.iter().try_for_each(|line| writeln!(err, "{line}"))?;
            Ok(None)
        }
    }
}
