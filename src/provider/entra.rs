//! Microsoft Entra: an application's own identity, and the token it gets for its secret.
//!
//! Source: "OAuth 2.0 client credentials flow on the Microsoft identity platform", first case: access token request with a
//! shared secret (learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, seen 2026-11-21).

use std::fmt;

use zeroize::Zeroizing;

use super::{Node, Secret, source};

/// Azure OpenAI and the other Cognitive Services.
pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
/// The public cloud; national clouds have others.
pub const AUTHORITY: &str = "https://login.microsoftonline.com";

/// An application in a tenant. Prints nothing of its secret.
#[derive(PartialEq)]
pub struct App {
    tenant: String,
    client_id: String,
    pub(super) secret: Secret,
    scope: String,
    pub(super) authority: Node,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[application {} of {}]", self.client_id, self.tenant)
    }
}

impl App {
    /// # Errors
    /// The field that is wrong, and a sentence that repeats nothing of it.
    pub fn new(
        tenant: &str,
        client_id: &str,
        secret: &str,
        authority: &str,
        scope: &str,
    ) -> Result<App, (&'static str, String)> {
        let wrong = |field, told: &str| Err((field, told.to_owned()));
        let word = |text: &str| {
            (1..=255).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        };
        if !word(tenant) {
            return wrong("tenant", "a tenant is an id such as 00000000-0000-0000-0000-000000000000, or a domain");
        }
        // What is shorter was cut: ids of applications are UUIDs.
        if !word(client_id) || client_id.len() != 36 {
            return wrong("client_id", "an application's id has 36 digits and hyphens: is this one whole?");
        }
        if secret.trim() != secret || secret.is_empty() || secret.contains(char::is_control) {
            return wrong("client_secret", "a secret is one line without spaces around it");
        }
        if !scope.bytes().all(|byte| byte.is_ascii_graphic()) || !scope.ends_with("/.default") {
            return wrong("scope", "an application asks for a resource's scope that ends in /.default");
        }
        let authority = source::endpoint(authority).map_err(|told| ("authority", told))?;
        Ok(App {
            tenant: tenant.to_owned(),
            client_id: client_id.to_owned(),
            secret: Secret::new(secret.to_owned()),
            scope: scope.to_owned(),
            authority,
        })
    }

    /// The path that gives tokens.
    pub(super) fn path(&self) -> String {
        format!("{}/{}/oauth2/v2.0/token", self.authority.path, self.tenant)
    }

    /// The body that asks for a token.
    pub(super) fn request(&self) -> Zeroizing<Vec<u8>> {
        source::form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.secret.expose()),
            ("scope", &self.scope),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "contoso.onmicrosoft.com";
    const ID: &str = "11112222-bbbb-3333-cccc-4444dddd5555";

    #[test]
    fn an_application_asks_with_its_secret() {
        let app = App::new(TENANT, ID, "qWgdYAmab0YSkuL1qKv5bPX~x&=+ y", AUTHORITY, SCOPE).unwrap();
        assert_eq!(app.path(), "/contoso.onmicrosoft.com/oauth2/v2.0/token");
        assert_eq!(
            std::str::from_utf8(&app.request()).unwrap(),
            "grant_type=client_credentials&client_id=11112222-bbbb-3333-cccc-4444dddd5555\
             &client_secret=qWgdYAmab0YSkuL1qKv5bPX~x%26%3D%2B%20y\
             &scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default"
        );
        assert_eq!(format!("{app:?}"), format!("[application {ID} of {TENANT}]"));
    }

    #[test]
    fn what_is_cut_or_mixed_up_is_named() {
        for (field, found) in [
            ("tenant", App::new("", ID, "s", AUTHORITY, SCOPE)),
            ("tenant", App::new("a/b", ID, "s", AUTHORITY, SCOPE)),
            ("client_id", App::new(TENANT, &ID[..35], "s", AUTHORITY, SCOPE)),
            ("client_id", App::new(TENANT, "hunter2", "s", AUTHORITY, SCOPE)),
            ("client_secret", App::new(TENANT, ID, "", AUTHORITY, SCOPE)),
            ("client_secret", App::new(TENANT, ID, "hunter2 ", AUTHORITY, SCOPE)),
            ("client_secret", App::new(TENANT, ID, "hunter2\n", AUTHORITY, SCOPE)),
            ("scope", App::new(TENANT, ID, "s", AUTHORITY, "https://cognitiveservices.azure.com")),
            ("authority", App::new(TENANT, ID, "s", "login.microsoftonline.com", SCOPE)),
            ("authority", App::new(TENANT, ID, "s", "http://login.microsoftonline.com", SCOPE)),
        ] {
            let (named, message) = found.unwrap_err();
            assert_eq!(named, field);
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
