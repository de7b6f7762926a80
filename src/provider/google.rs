//! Google service accounts: a key file, and the token that its owner gets for a signed statement.
//!
//! Source: "Using OAuth 2.0 for Server to Server Applications" (developers.google.com/identity/protocols/oauth2/service-account,
//! seen 2026-11-21) and RFC 7523: a JSON Web Token, signed with the account's RSA key, goes to the file's `token_uri`, and
//! an access token for an hour comes back.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{Node, source};
use crate::wire::writer;

/// The scope of everything that the account may do; its roles say what that is.
pub const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where tokens come from when a key file does not say.
const TOKENS: &str = "https://oauth2.googleapis.com/token";
/// Longest life that Google grants, in seconds.
const LIFE: u64 = 3600;

/// An account with its key. Prints nothing of the key.
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    token_uri: String,
    scope: String,
    /// Where `token_uri` leads.
    pub(super) endpoint: Node,
    key: RsaKeyPair,
    /// SHA-256 of the key, to tell two of them apart.
    digest: [u8; 32],
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[service account {}]", self.email)
    }
}

impl PartialEq for ServiceAccount {
    fn eq(&self, other: &Self) -> bool {
        let parts = |account: &Self| {
            let texts = [&account.email, &account.token_uri, &account.scope].map(Clone::clone);
            (texts, account.key_id.clone(), account.digest)
        };
        parts(self) == parts(other)
    }
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Reads a key file, as it can be downloaded once.
    ///
    /// # Errors
    /// A sentence that names what is wrong; it repeats nothing of the file.
    pub fn parse(json: &str, scope: &str) -> Result<ServiceAccount, String> {
        let file: KeyFile = serde_json::from_str(json).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            format!("not the whole JSON key file of a service account: it cannot be read on from {at}")
        })?;
        if let Some(kind) = file.kind.filter(|kind| kind != "service_account") {
            let known = ["authorized_user", "external_account", "impersonated_service_account"];
            let told = if known.contains(&kind.as_str()) { format!(" (`{kind}`)") } else { String::new() };
            return Err(format!("`type` in the key file is not `service_account`{told}: no other kind is supported"));
        }
        let lacks = |name: &str| format!("`{name}` is missing in the key file: is it whole?");
        let email = file.client_email.filter(|email| email.contains('@')).ok_or_else(|| lacks("client_email"))?;
        let pem = Zeroizing::new(file.private_key.ok_or_else(|| lacks("private_key"))?);
        let token_uri = file.token_uri.unwrap_or_else(|| TOKENS.to_owned());
        let endpoint = source::endpoint(&token_uri).map_err(|told| format!("`token_uri` in the key file: {told}"))?;
        if !scope.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') || scope.trim().is_empty() {
            return Err("the scope is a URL, or several with spaces between".to_owned());
        }
        Ok(ServiceAccount {
            key: key(&pem)?,
            digest: Sha256::digest(pem.as_bytes()).into(),
            key_id: file.private_key_id,
            scope: scope.to_owned(),
            email,
            token_uri,
            endpoint,
        })
    }

    /// The body that asks for a token. `now` is in Unix seconds.
    pub(super) fn request(&self, now: u64, random: &dyn SecureRandom) -> Result<Zeroizing<Vec<u8>>, String> {
        let assertion = self.assertion(now, random)?;
        let mut body =
            Zeroizing::new(b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=".to_vec());
        // Base64url and dots need no escapes.
        body.extend_from_slice(assertion.as_bytes());
        Ok(body)
    }

    fn assertion(&self, now: u64, random: &dyn SecureRandom) -> Result<Zeroizing<String>, String> {
        let (mut header, mut claims) = (Vec::new(), Vec::new());
        writer::object(&mut header, |o| {
            o.string("alg", "RS256");
            o.string("typ", "JWT");
            if let Some(id) = &self.key_id {
                o.string("kid", id);
            }
        });
        writer::object(&mut claims, |o| {
            o.string("iss", &self.email);
            o.string("scope", &self.scope);
            o.string("aud", &self.token_uri);
            o.number("iat", now);
            o.number("exp", now.saturating_add(LIFE));
        });
        let mut token = Zeroizing::new(String::with_capacity(1024));
        BASE64_URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, random, token.as_bytes(), &mut signature)
            .map_err(|_| "the account's key does not sign: it is damaged".to_owned())?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// The key of a PEM text, in either of the forms that RSA keys have there.
fn key(pem: &str) -> Result<RsaKeyPair, String> {
    let wrong = |told: &str| format!("`private_key` in the key file {told}: is it whole?");
    let mut der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong("is no PEM private key"))?;
    let read = match &der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(wrong("is no RSA key")),
    };
    der.zeroize();
    read.map_err(|_| wrong("is no RSA key of 2048 to 4096 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::{Value, json};

    const FILE: &str = include_str!("cases/service-account.json");
    const NOW: u64 = 1_795_219_200;

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_statement_says_who_asks_whom_for_what_and_is_signed() {
        let account = ServiceAccount::parse(FILE, SCOPE).unwrap();
        let random = SystemRandom::new();
        let body = account.request(NOW, &random).unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        let assertion =
            text.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=").unwrap();
        let parts: Vec<&str> = assertion.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("{assertion}") };
        assert_eq!(
            decoded(header),
            json!({"alg": "RS256", "typ": "JWT", "kid": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"})
        );
        assert_eq!(
            decoded(claims),
            json!({
                "iss": "portolan@made-for-tests.iam.gserviceaccount.com",
                "scope": "https://www.googleapis.com/auth/cloud-platform",
                "aud": "https://oauth2.googleapis.com/token",
                "iat": NOW,
                "exp": NOW + 3600,
            })
        );
        let signed = &assertion[..assertion.rfind('.').unwrap()];
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.key.public().as_ref());
        public.verify(signed.as_bytes(), &signature).unwrap();
        assert!(public.verify(format!("{signed}x").as_bytes(), &signature).is_err());
        // A signature of this kind has no chance in it: OpenSSL makes the same of the same text.
        assert_eq!(assertion, include_str!("cases/assertion.txt").trim());
    }

    #[test]
    fn files_that_are_none_are_refused_without_repeating_them() {
        let whole: Value = serde_json::from_str(FILE).unwrap();
        let with = |name: &str, value: Value| {
            let mut file = whole.clone();
            file[name] = value;
            file.to_string()
        };
        let pem = whole["private_key"].as_str().unwrap();
        let middle = &pem[200..240];
        for (file, told) in [
            (String::new(), "not the whole JSON"),
            (FILE[..FILE.len() / 2].to_owned(), "not the whole JSON"),
            ("[]".to_owned(), "not the whole JSON"),
            (with("type", json!("authorized_user")), "(`authorized_user`)"),
            (with("type", json!("hunter2")), "`type`"),
            (with("client_email", json!(null)), "`client_email`"),
            (with("client_email", json!("hunter2")), "`client_email`"),
            (with("private_key", json!(null)), "`private_key`"),
            (with("private_key", json!("hunter2")), "`private_key`"),
            (with("private_key", json!(pem[..pem.len() / 2])), "`private_key`"),
            (with("private_key", json!(pem.replace(middle, ""))), "`private_key`"),
            (with("token_uri", json!("oauth2.googleapis.com")), "`token_uri`"),
            (with("token_uri", json!("http://oauth2.googleapis.com/token")), "https"),
        ] {
            let message = ServiceAccount::parse(&file, SCOPE).unwrap_err();
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("hunter2") && !message.contains(middle), "{message}");
        }
        assert!(ServiceAccount::parse(FILE, "").is_err());
        let account = ServiceAccount::parse(&with("token_uri", json!(null)), SCOPE).unwrap();
        assert_eq!((account.endpoint.host.as_str(), account.endpoint.tls), ("oauth2.googleapis.com", true));
        let shown = format!("{account:?}");
        assert_eq!(shown, "[service account portolan@made-for-tests.iam.gserviceaccount.com]");
    }

    #[test]
    fn accounts_are_told_apart() {
        let account = |file: &str, scope| ServiceAccount::parse(file, scope).unwrap();
        assert_eq!(account(FILE, SCOPE), account(FILE, SCOPE));
        assert_ne!(account(FILE, SCOPE), account(FILE, "https://www.googleapis.com/auth/devstorage.read_only"));
        assert_ne!(account(FILE, SCOPE), account(&FILE.replace("portolan@", "other@"), SCOPE));
    }
}
