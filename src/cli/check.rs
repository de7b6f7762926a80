//! `portolan check`: every problem of a configuration with its place, or a summary of what it would serve.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Catalogue, Outside, Snapshot};
use crate::policy::Live;

/// Prints problems to `err` and fails, or a summary to `out`.
///
/// # Errors
/// Writing failed.
pub fn run(
    file: &Path,
    outside: &Outside<'_>,
    catalogue: &Catalogue<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    match config::load(file, outside, catalogue, &Live::default()) {
        Ok(snapshot) => {
            summary(&snapshot, out)?;
            writeln!(out, "{}: sound", file.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            for problem in &problems {
                writeln!(err, "{problem}")?;
            }
            let count = problems.len();
            writeln!(err, "{}: {count} problem{}", file.display(), if count == 1 { "" } else { "s" })?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What a snapshot serves and what it lacks, for people.
///
/// # Errors
/// Writing failed.
pub fn summary(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let listen: Vec<String> = snapshot.listen.iter().map(ToString::to_string).collect();
    writeln!(out, "listen     {} (admin {})", listen.join(", "), snapshot.admin)?;
    let live: Vec<&str> = snapshot.providers.iter().map(|provider| provider.id.as_str()).collect();
    writeln!(out, "providers  {}", listed(&live))?;
    for (provider, variables) in &snapshot.asleep {
        writeln!(out, "  asleep   {provider}: set {variables}")?;
    }
    let names: Vec<&str> = snapshot.index.names.iter().map(String::as_str).collect();
    writeln!(out, "models     {}", listed(&names))?;
    let mut asleep: Vec<_> = snapshot.index.models_asleep.iter().collect();
    asleep.sort();
    for (model, variables) in asleep {
        writeln!(out, "  asleep   {model}: set {}", variables.join(" or "))?;
    }
    let anonymous = if snapshot.anonymous.is_some() { ", and calls without a key" } else { "" };
    writeln!(out, "keys       {}{anonymous}", snapshot.keys.len())?;
    for remark in &snapshot.index.remarks {
        writeln!(out, "note       {remark}")?;
    }
    Ok(())
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (String, String) {
        let read = |_: &Path| Ok(text.as_bytes().to_vec());
        let outside = Outside { env: &|_| None, read: &read };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        run(Path::new("p.yaml"), &outside, &Catalogue::EMPTY, &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_sound_file_is_summed_up() {
        let (out, err) = checked(
            "providers: {local: {preset: ollama}, openai: {preset: openai}}\n\
             models: {llama: {targets: [{provider: local}]}, gpt-5: {targets: [{provider: openai}]}}\n\
             anonymous: {}\n",
        );
        assert_eq!(err, "");
        assert_eq!(
            out,
            "listen     127.0.0.1:8080 (admin 127.0.0.1:8081)\n\
             providers  local\n\
             \x20 asleep   openai: set OPENAI_API_KEY\n\
             models     llama\n\
             \x20 asleep   gpt-5: set OPENAI_API_KEY\n\
             keys       0, and calls without a key\n\
             p.yaml: sound\n"
        );
    }

    #[test]
    fn problems_are_printed_for_editors() {
        let (out, err) = checked("listen: nowhere\nmodels: {a: {targets: [{provider: b}]}}\n");
        assert_eq!(out, "");
        assert_eq!(
            err,
            "p.yaml:1:9: listen: write an IP address and a port, such as 127.0.0.1:8080 or 0.0.0.0:8080\n\
             p.yaml:2:25: models.a.targets[0].provider: no provider is called `b`: add it under `providers`.\n\
             p.yaml: 2 problems\n"
        );
    }
}
