//! Tokens that others sign: JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, verified in memory with the keys of
//! an issuer that the operator trusts (RFC 8725 for what to look at).
//!
//! With `ring`, which TLS brings along, instead of a crate for tokens: what is left to write is the reading of three parts
//! and a dozen comparisons, and no algorithm that would have to be forbidden is there at all.

pub mod cache;
mod keys;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use keys::{Algorithm, Keyring};

/// Longest token that is looked at.
pub const LONGEST: usize = 16 << 10;
/// Longest subject (RFC 7519 sets no bound; OpenID Connect Core 1.0 section 2: 255 ASCII characters).
const LONGEST_SUBJECT: usize = 255;

/// What an issuer's tokens must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// As tokens say it in `iss`.
    pub issuer: String,
    /// One of them must be meant (`aud`).
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// Seconds that clocks may differ by.
    pub skew: u64,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Not three parts that can be read.
    Malformed,
    /// None, or one that is not allowed here.
    Algorithm,
    /// Signed by a key that its issuer does not show.
    UnknownKey,
    Signature,
    /// Of nobody whom the operator trusts.
    Issuer,
    /// Meant for others.
    Audience,
    Expired,
    NotYet,
    /// Something is missing that must be there.
    Incomplete,
}

impl Flaw {
    /// Label of logs, and what the caller is told.
    pub fn name(self) -> &'static str {
        match self {
            Flaw::Malformed => "malformed",
            Flaw::Algorithm => "algorithm not allowed",
            Flaw::UnknownKey => "unknown key",
            Flaw::Signature => "wrong signature",
            Flaw::Issuer => "unknown issuer",
            Flaw::Audience => "meant for another audience",
            Flaw::Expired => "expired",
            Flaw::NotYet => "not valid yet",
            Flaw::Incomplete => "without subject or expiry",
        }
    }
}

/// SHA-256 of a text.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether a credential looks like a token: a JSON object in base64, and two points.
pub fn is_like(credential: &str) -> bool {
    credential.starts_with("eyJ") && credential.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A token that is not believed yet.
#[derive(Debug)]
pub struct Token<'t> {
    algorithm: Option<Algorithm>,
    key: Option<String>,
    /// Header and claims as they stand there.
    signed: &'t str,
    signature: Vec<u8>,
    claims: Claims,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// What a token says of its bearer.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Claims {
    iss: Option<String>,
    pub sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// Reads what an issuer says of a token that only it can read (RFC 7662 section 2.2); nothing where it is not active.
    ///
    /// `until`: Unix seconds until when they are believed, where they do not say less.
    pub fn introspected(json: &[u8], until: u64) -> Option<Claims> {
        let mut claims: Claims = serde_json::from_slice(json).ok()?;
        claims.exp = Some(claims.exp.map_or(until as f64, |exp| exp.min(until as f64)));
        (claims.others.remove("active") == Some(Value::Bool(true))).then_some(claims)
    }

    /// The texts of a claim, where it is one or a list of them; `a.b` is the member `b` of `a`.
    pub fn texts<'c>(&'c self, name: &str) -> Vec<&'c str> {
        let plain = self.others.get(name);
        let found = plain.or_else(|| {
            let mut path = name.split('.');
            let first = self.others.get(path.next()?)?;
            path.try_fold(first, |value, name| value.get(name))
        });
        match found {
            _ if name == "sub" => self.sub.as_deref().into_iter().collect(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Unix seconds from which it is nothing.
    pub fn expires(&self) -> Option<u64> {
        self.exp.filter(|exp| *exp >= 0.0).map(|exp| exp as u64)
    }

    /// Whether they hold now (Unix seconds) and here.
    ///
    /// # Errors
    /// They do not.
    pub fn hold(&self, rules: &Rules, now: u64) -> Result<(), Flaw> {
        if self.iss.as_deref().is_some_and(|issuer| issuer != rules.issuer) {
            return Err(Flaw::Issuer);
        }
        let meant = |audience: &String| rules.audiences.contains(audience);
        let here = match &self.aud {
            None => false,
            Some(Audience::One(one)) => meant(one),
            Some(Audience::Many(many)) => many.iter().any(meant),
        };
        if !here {
            return Err(Flaw::Audience);
        }
        if self.sub.as_ref().is_none_or(|sub| sub.is_empty() || sub.len() > LONGEST_SUBJECT) {
            return Err(Flaw::Incomplete);
        }
        let skew = rules.skew;
        if now >= self.expires().ok_or(Flaw::Incomplete)?.saturating_add(skew) {
            return Err(Flaw::Expired);
        }
        let later = |moment: Option<f64>| moment.is_some_and(|moment| moment > now.saturating_add(skew) as f64);
        if later(self.nbf) || later(self.iat) {
            return Err(Flaw::NotYet);
        }
        Ok(())
    }
}

impl<'t> Token<'t> {
    /// Takes a token apart; nothing of it is believed yet.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &'t str) -> Result<Token<'t>, Flaw> {
        if text.len() > LONGEST {
            return Err(Flaw::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Flaw::Malformed);
        let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| Flaw::Malformed)?;
        // What must be understood is not (RFC 7515 section 4.1.11); a token for something else is not for this.
        let kind = header.typ.as_deref().map(|kind| kind.to_ascii_lowercase());
        let fit = kind.is_none_or(|kind| matches!(kind.as_str(), "jwt" | "at+jwt" | "application/at+jwt"));
        if header.crit.is_some() || !fit {
            return Err(Flaw::Malformed);
        }
        Ok(Token {
            algorithm: Algorithm::named(&header.alg),
            key: header.kid,
            signed,
            signature: part(signature)?,
            claims: serde_json::from_slice(&part(claims)?).map_err(|_| Flaw::Malformed)?,
        })
    }

    /// Whose it claims to be.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.iss.as_deref()
    }

    /// What it says, if it is believed. `now` is Unix seconds.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(self, rules: &Rules, keys: &Keyring, now: u64) -> Result<Claims, Flaw> {
        let algorithm = self.algorithm.filter(|one| rules.algorithms.contains(one)).ok_or(Flaw::Algorithm)?;
        if self.claims.iss.as_deref() != Some(&rules.issuer) {
            return Err(Flaw::Issuer);
        }
        if !keys.has(self.key.as_deref()) {
            return Err(Flaw::UnknownKey);
        }
        if !keys.verifies(self.key.as_deref(), algorithm, self.signed.as_bytes(), &self.signature) {
            return Err(Flaw::Signature);
        }
        self.claims.hold(rules, now)?;
        Ok(self.claims)
    }
}
