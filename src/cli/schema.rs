//! `portolan schema`: the JSON Schema of the configuration, for editors and for other tools.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::schema;

/// Prints the schema.
///
/// # Errors
/// Writing failed.
pub fn run(out: &mut dyn Write) -> io::Result<ExitCode> {
    out.write_all(text().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The schema as it stands in `conf/portolan.schema.json`.
pub fn text() -> String {
    format!("{:#}\n", schema::schema())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_schema_is_fresh() {
        let published = include_str!("../../conf/portolan.schema.json");
        assert!(super::text() == published, "stale: run `portolan schema > conf/portolan.schema.json`");
    }
}
