//! Reads the configuration with the real environment, the real files and the real catalogue.

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{self, Catalogue, Listed, Outside, Snapshot};
use crate::policy::Live;
use crate::provider::catalog;

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What the built-in catalogue knows today.
pub fn catalogue() -> Catalogue<'static> {
    Catalogue {
        find: &|preset, model| catalog::builtin().lookup(preset, model, now()).map(Listed::of),
        models: &|preset| catalog::builtin().models(preset),
        now: now(),
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
    or_tell_in(&super::outside(), &catalogue(), file, err)
}

/// The same in a given world.
///
/// # Errors
/// As [`or_tell`].
pub fn or_tell_in(
    outside: &Outside<'_>,
    catalogue: &Catalogue<'_>,
    file: &Path,
    err: &mut dyn Write,
) -> io::Result<Option<Snapshot>> {
    match config::load(file, outside, catalogue, &Live::default()) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(problems) => {
            problems.iter().try_for_each(|problem| writeln!(err, "{problem}"))?;
            Ok(None)
        }
    }
}
