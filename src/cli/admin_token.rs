//! The first administrator's token: given by whoever starts the process, or made at the first start and shown once. There
//! is no default.

use std::path::Path;

use crate::admin::secret;
use crate::config::Outside;
use crate::policy::auth;
use crate::policy::role::{Rights, Role};
use crate::store::directory::{By, Change, Error, Fresh, Register};

const VARIABLE: &str = "PORTOLAN_ADMIN_TOKEN";
/// Where systemd lays credentials (systemd.exec(5), `LoadCredential=`, seen 2026-11-21).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "admin_token";
/// Anything shorter is a word.
const SHORTEST: usize = 16;

/// The digest of the token that is good as long as this process runs: of the variable `PORTOLAN_ADMIN_TOKEN`, else of
/// systemd's credential `admin_token`.
///
/// # Errors
/// It is there, but no token. An empty one never means that none is needed.
pub fn given(outside: &Outside<'_>) -> Result<Option<[u8; 32]>, String> {
    let token = |text: String, from: &str| {
        let plain = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        let digest = plain.then(|| auth::digest(&text)).flatten();
        digest
            .map(Some)
            .ok_or_else(|| format!("{from}: a token has {SHORTEST} or more visible characters, and no blanks"))
    };
    if let Some(text) = (outside.env)(VARIABLE) {
        return token(text, VARIABLE);
    }
    let Some(dir) = (outside.env)(CREDENTIALS) else { return Ok(None) };
    let path = Path::new(&dir).join(CREDENTIAL);
    match (outside.read)(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            token(text, &path.display().to_string())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Makes the first token, an owner's, where there never was one. `now` is Unix milliseconds.
///
/// # Errors
/// It cannot be made or kept.
pub fn bootstrap(register: &dyn Register, now: u64) -> Result<Option<String>, String> {
    if !register.tokens().map_err(|error| error.to_string())?.is_empty() {
        return Ok(None);
    }
    let token = secret::token().map_err(|refused| refused.message)?;
    let digest = auth::digest(&token).ok_or("a token without a digest")?;
    let fresh = Fresh { digest, prefix: secret::prefix(&token) };
    let rights = Rights { role: Role::Owner, team: None };
    let mint = Change::Mint { id: "bootstrap", secret: fresh, rights: &rights, expires: None, first: true };
    match register.write(&mint, &By { actor: "start", request: "", at: now }) {
        Ok(_) => Ok(Some(token)),
        // Another process that began at the same time was first.
        Err(Error::Used) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::Sqlite;

    #[test]
    fn a_given_token_is_a_good_one_or_none_at_all() {
        let with = |variable: Option<&str>, file: Option<&str>| {
            let env = |name: &str| match name {
                VARIABLE => variable.map(str::to_owned),
                CREDENTIALS => file.map(|_| "/run/credentials".to_owned()),
                _ => None,
            };
            let read = |path: &Path| {
                assert_eq!(path, Path::new("/run/credentials/admin_token"));
                Ok(file.unwrap_or_default().as_bytes().to_vec())
            };
            given(&Outside { env: &env, read: &read })
        };
        let good = "pa-0123456789abcdef";
        assert_eq!(with(None, None).unwrap(), None);
        assert_eq!(with(Some(good), None).unwrap(), auth::digest(good));
        assert_eq!(with(None, Some("pa-0123456789abcdef\n")).unwrap(), auth::digest(good));
        for bad in ["", " ", "short", "pa-0123456789 abcdef", "pa-0123456789abcdef\n\nx"] {
            assert!(with(Some(bad), None).is_err(), "{bad:?}");
            assert!(with(None, Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let (register, _) = Sqlite::open(dir.path(), 0).unwrap();
        let token = bootstrap(&register, 1_000).unwrap().expect("there was none");
        assert!(token.starts_with("pa-"));
        assert_eq!(bootstrap(&register, 2_000).unwrap(), None);
        assert_eq!(register.tokens().unwrap()[0].rights, Rights { role: Role::Owner, team: None });
    }
}
