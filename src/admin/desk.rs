//! What the admin port works with, and what is asked of it.

use std::sync::Arc;

use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::View;
use super::answer::Refused;
use super::gate::Caller;
use crate::config::directory::Directory;
use crate::policy::Moment;
use crate::store::directory::{By, Change, Follower, Register};
use crate::store::ledger::Ledger;

pub struct Desk {
    pub view: Arc<dyn View>,
    pub directory: Arc<Directory>,
    pub follower: Arc<Follower>,
    pub ledger: Arc<Ledger>,
}

/// A request that was let in.
pub struct Asked<'a> {
    pub route: &'static super::table::Route,
    pub id: Option<&'a str>,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub caller: &'a Caller,
    pub request_id: &'a str,
    pub now: Moment,
}

impl Desk {
    pub fn register(&self) -> &dyn Register {
        &*self.follower.register
    }

    /// Makes a change, and has this process hold to it before anybody is told.
    ///
    /// # Errors
    /// It was not made.
    pub fn write(&self, change: &Change<'_>, asked: &Asked<'_>) -> Result<u64, Refused> {
        let by = By { actor: &asked.caller.id, request: asked.request_id, at: asked.now.unix_ms };
        let number = self.register().write(change, &by)?;
        if let Err(error) = self.follower.catch_up(asked.seconds()) {
            // It is made all the same; who follows the register will see it.
            tracing::warn!(%error, "a change is not in force yet in this process");
        }
        Ok(number)
    }
}

impl Asked<'_> {
    /// Unix seconds.
    pub fn seconds(&self) -> u64 {
        self.now.unix_ms / 1_000
    }

    /// What stands for `{id}`.
    ///
    /// # Errors
    /// The path has none, which is our fault.
    pub fn id(&self) -> Result<&str, Refused> {
        self.id.ok_or_else(|| Refused::bug("a path without an id"))
    }

    /// A parameter of the query, decoded; of several the last.
    ///
    /// # Errors
    /// It is not text.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Refused> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.rfind(|(key, _)| *key == name).map(|(_, value)| decoded(value));
        let wrong = || Refused::new(400, "bad_request", format!("`{name}` is no text"));
        found.map(|value| value.filter(|text| text.len() <= 256).ok_or_else(wrong)).transpose()
    }

    /// A number of the query.
    ///
    /// # Errors
    /// It is none, or not within these two.
    pub fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Refused> {
        let Some(text) = self.parameter(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let wrong = || Refused::new(400, "bad_request", format!("`{name}` is a number from {least} to {most}"));
        number.map(Some).ok_or_else(wrong)
    }

    /// A yes or no of the query.
    ///
    /// # Errors
    /// It is neither.
    pub fn flag(&self, name: &str) -> Result<bool, Refused> {
        match self.parameter(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refused::new(400, "bad_request", format!("`{name}` is true or false"))),
        }
    }

    /// How many are to be listed.
    ///
    /// # Errors
    /// More than can be.
    pub fn limit(&self) -> Result<usize, Refused> {
        let limit = self.number("limit", 1, 500)?.unwrap_or(100);
        Ok(usize::try_from(limit).unwrap_or(100))
    }

    /// The body.
    ///
    /// # Errors
    /// It is not what it should be.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        let mut reader = serde_json::Deserializer::from_slice(self.body);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let status = if error.inner().is_data() { 422 } else { 400 };
            let code = if status == 422 { "invalid" } else { "bad_request" };
            let path = error.path().to_string();
            let at = if path == "." { String::new() } else { format!("{path}: ") };
            Refused::new(status, code, format!("{at}{}", error.inner()))
        })?;
        reader.end().map_err(|error| Refused::new(400, "bad_request", error.to_string()))?;
        Ok(value)
    }

    /// The version that `If-Match` demands (RFC 9110 section 13.1.1), as `ETag` told it.
    ///
    /// # Errors
    /// It names something else.
    pub fn if_match(&self) -> Result<Option<u64>, Refused> {
        let Some(value) = self.headers.get(http::header::IF_MATCH) else { return Ok(None) };
        let version =
            value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok());
        let wrong = || Refused::new(412, "changed", "`If-Match` is no version of it: write what `ETag` said");
        version.map(Some).ok_or_else(wrong)
    }
}

/// `%`-encoding and `+` undone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decoded("a%20b+c%C3%A9").as_deref(), Some("a b cé"));
        for bad in ["%", "%1", "%zz", "%ff", "%00"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
