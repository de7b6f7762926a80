//! Where credentials that hold for a while come from, as requests to make and answers to read.
//!
//! No request is made here: an [`Errand`] says what to ask next, is told what came, and ends in a [`Grant`].

use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ring::rand::SecureRandom;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::aws::{self, Keys};
use super::entra::App;
use super::google::ServiceAccount;
use super::grant::Grant;
use super::{Node, Secret};

/// How long a token is used whose giver says nothing of its end.
const UNKNOWN: Duration = Duration::from_secs(300);
/// Most of a refusal's own words that is told.
const WORDS: usize = 300;

/// Where a provider's credentials come from.
#[derive(Debug, PartialEq)]
pub enum Source {
    Google(Box<ServiceAccount>),
    Entra(App),
    Aws(aws::Account),
}

/// A request to a giver of credentials.
#[derive(Debug)]
pub struct Ask {
    pub method: &'static str,
    pub node: Node,
    /// From the node's root.
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Zeroizing<Vec<u8>>,
    /// A file whose content goes into `authorization`; it changes, so it is read for each request.
    pub authorization_file: Option<PathBuf>,
    /// What of this must not be told should the answer repeat it.
    pub secrets: Vec<Secret>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub body: Zeroizing<Vec<u8>>,
}

/// What an errand does next.
pub enum Next {
    Ask(Box<Ask>),
    Done(Grant),
}

/// One way to a credential.
pub struct Errand<'s> {
    source: &'s Source,
    step: Step,
}

enum Step {
    Begin,
    /// The answer is the credential.
    Last,
    /// The answer is an instance's session.
    Session,
    /// The answer names the instance's role.
    Role(Secret),
}

impl Source {
    /// A way to the next credential.
    pub fn errand(&self) -> Errand<'_> {
        Errand { source: self, step: Step::Begin }
    }

    /// The credential that stands in the configuration itself and never changes.
    pub fn lasting(&self) -> Option<Grant> {
        match self {
            Source::Aws(aws::Account { keys: Keys::Own(keys), .. }) => Some(Grant::lasting(keys.clone())),
            _ => None,
        }
    }
}

impl Errand<'_> {
    /// The next step, with the answer to the one before. `now` is in Unix milliseconds.
    ///
    /// # Errors
    /// A sentence for the operator about why there is no credential. Holds no secret.
    pub fn next(&mut self, answer: Option<&Answer>, now: u64, random: &dyn SecureRandom) -> Result<Next, String> {
        let step = std::mem::replace(&mut self.step, Step::Last);
        let ask = match (self.source, step, answer) {
            (Source::Google(_) | Source::Entra(_), Step::Last, Some(answer)) => {
                return token(answer, now).map(Next::Done);
            }
            (Source::Aws(_), Step::Last, Some(answer)) => return aws::keys(answer, now).map(Next::Done),
            (Source::Google(account), ..) => {
                let path = account.endpoint.path.clone();
                Ask::form(&account.endpoint, path, account.request(now / 1_000, random)?, None)
            }
            (Source::Entra(app), ..) => Ask::form(&app.authority, app.path(), app.request(), Some(&app.secret)),
            (Source::Aws(account), step, answer) => match (&account.keys, step, answer) {
                (Keys::Own(keys), ..) => return Ok(Next::Done(Grant::lasting(keys.clone()))),
                (Keys::Container { endpoint, authorization }, ..) => aws::ask_container(endpoint, authorization)?,
                (Keys::Instance { endpoint }, Step::Session, Some(answer)) => {
                    let session = aws::session(answer)?;
                    let ask = aws::ask_role(endpoint, &session, "")?;
                    self.step = Step::Role(session);
                    ask
                }
                (Keys::Instance { endpoint }, Step::Role(session), Some(answer)) => {
                    aws::ask_role(endpoint, &session, &aws::role(answer)?)?
                }
                (Keys::Instance { endpoint }, ..) => {
                    self.step = Step::Session;
                    aws::ask_session(endpoint)?
                }
            },
        };
        Ok(Next::Ask(Box::new(ask)))
    }
}

impl Ask {
    pub(super) fn new(method: &'static str, node: &Node, path: String) -> Ask {
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let (headers, body) = (Vec::new(), Zeroizing::default());
        Ask { method, node: node.clone(), path, headers, body, authorization_file: None, secrets: Vec::new() }
    }

    fn form(node: &Node, path: String, body: Zeroizing<Vec<u8>>, secret: Option<&Secret>) -> Ask {
        let mut ask = Ask::new("POST", node, path);
        ask.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
        ask.body = body;
        ask.secrets.extend(secret.cloned());
        ask
    }

    /// Adds a header that no log shows.
    ///
    /// # Errors
    /// No header can carry the value.
    pub fn show(&mut self, name: HeaderName, value: &str) -> Result<(), String> {
        self.secrets.push(Secret::new(value.to_owned()));
        let mut value =
            HeaderValue::from_str(value).map_err(|_| format!("no header can carry what is for `{name}`"))?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(())
    }
}

impl Answer {
    /// The body of a good answer.
    pub(super) fn good_text(&self) -> Result<&str, String> {
        if self.status != 200 {
            return Err(self.refusal());
        }
        std::str::from_utf8(&self.body).map_err(|_| "the answer is not text".to_owned())
    }

    pub(super) fn good_json<T: DeserializeOwned>(&self) -> Result<T, String> {
        // What serde says of a mistake may repeat a value.
        serde_json::from_str(self.good_text()?).map_err(|_| "the answer is not the JSON that was expected".to_owned())
    }

    /// What a refusal says: OAuth's `error` and `error_description` (RFC 6749 section 5.2), AWS's `code` and `message`.
    fn refusal(&self) -> String {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Told {
            error: Option<String>,
            error_description: Option<String>,
            #[serde(alias = "Code")]
            code: Option<String>,
            #[serde(alias = "Message")]
            message: Option<String>,
        }
        let told: Told = serde_json::from_slice(&self.body).unwrap_or_default();
        let words = [told.error, told.error_description, told.code, told.message];
        let words: Vec<String> = words.into_iter().flatten().collect();
        let words: String = words.join(": ").chars().take(WORDS).collect();
        let separator = if words.is_empty() { "" } else { ": " };
        format!("status {}{separator}{words}", self.status)
    }
}

/// A token of OAuth (RFC 6749 section 5.1).
fn token(answer: &Answer, now: u64) -> Result<Grant, String> {
    #[derive(Deserialize)]
    struct Given {
        access_token: Option<String>,
        expires_in: Option<Seconds>,
    }
    /// A number; some write it as text.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(f64),
        Text(String),
    }
    let given: Given = answer.good_json()?;
    let token = given.access_token.ok_or("`access_token` is missing in the answer")?;
    let seconds = match given.expires_in {
        None => None,
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => Some(text.trim().parse().map_err(|_| "`expires_in` is no number")?),
    };
    let life = match seconds {
        None => UNKNOWN,
        Some(seconds) => Duration::try_from_secs_f64(seconds.min(1e9)).unwrap_or_default(),
    };
    Grant::bearer(token, now, life)
}

/// An address that secrets are sent to: over TLS, or to this machine.
///
/// # Errors
/// A sentence that says what to write.
pub(super) fn endpoint(url: &str) -> Result<Node, String> {
    let node = Node::parse(url, 1)?;
    let here = node.host == "localhost" || node.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !node.tls && !here {
        return Err("a secret is sent there: write https".to_owned());
    }
    Ok(node)
}

/// A form's body (`application/x-www-form-urlencoded`).
pub(super) fn form(pairs: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    // Room for all, so that no half-written secret is left behind by growing.
    let size = pairs.iter().map(|(name, value)| name.len() + 2 + 3 * value.len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(byte);
            } else {
                out.push(b'%');
                out.extend([byte >> 4, byte & 15].iter().filter_map(|nibble| HEX.get(usize::from(*nibble))));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
