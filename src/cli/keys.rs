//! `portolan keys new`: a secret for a caller, and the row that lets it in.
//!
//! Only the SHA-256 goes into the configuration. The secret has 256 random bits, so a plain digest needs no salt and no
//! slowness: there is nothing to guess.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::admin::secret::{self, Random};
use crate::config::hex;
use crate::policy::auth;

/// Prints the secret and its row to `out`, and what to do with them to `err`.
///
/// # Errors
/// The system has no randomness to give, or writing failed.
pub fn new(
    id: &str,
    models: &[String],
    random: Random<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let secret = secret::make("pk-", secret::LENGTH, random)?;
    let digest = auth::digest(&secret).ok_or_else(|| io::Error::other("no secret was made"))?;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let models: Vec<String> = models.iter().map(|model| quoted(model)).collect();
    writeln!(err, "Give the first line to the caller; it is shown only now. Put the second under `keys:`.")?;
    writeln!(out, "{secret}")?;
    writeln!(
        out,
        "  - {{ id: {}, secret_sha256: \"{}\", models: [{}] }}",
        quoted(id),
        hex(&digest),
        models.join(", ")
    )?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_row_lets_the_secret_in() {
        let mut random = |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()));
        let mut out = Vec::new();
        new("ci", &["gpt-*".into()], &mut random, &mut out, &mut Vec::new()).unwrap();
        let out = String::from_utf8(out).unwrap();
        let (secret, row) = out.split_once('\n').unwrap();
        assert!(secret.starts_with("pk-") && secret.len() == 46, "{secret}");
        let snapshot = config::from_text(&format!("keys:\n{row}"), &|_| None).unwrap();
        let key = snapshot.key(secret).expect("the secret finds its key");
        assert_eq!(key.id, "ci");
        assert!(key.may_use("gpt-5") && !key.may_use("claude"));
        assert!(snapshot.key("pk-other").is_none());
    }
}
