//! AWS Signature Version 4: the headers that prove who sends a request, and that it is this one.
//!
//! Source: AWS IAM user guide, "Create a signed AWS API request" and "Signature calculation examples" (seen 2026-11-21).
//! The path is taken as it goes on the wire, percent-encoded, and is encoded once more for the signature, as every
//! service but S3 demands: the `%3A` of a Bedrock model's name is signed as `%253A`. Each attempt is signed for itself,
//! since a signature holds for its body, host and five minutes.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, Mac};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: &str = "x-amz-date";
const BODY: &str = "x-amz-content-sha256";
const TOKEN: &str = "x-amz-security-token";

/// An AWS access key. Prints nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key_id: String,
    secret: Secret,
    session_token: Option<Secret>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[aws credentials]")
    }
}

impl Credentials {
    /// Takes a key as the operator wrote it, so that one which was cut or mixed up is found before the first call.
    ///
    /// Access key ids have 16 to 128 letters and digits (IAM API reference, "AccessKey"); secrets have been 40 characters
    /// of base64 as long as there have been any.
    ///
    /// # Errors
    /// What is wrong with which of the three; it repeats nothing of them.
    pub fn parse(access: &str, secret: &str, token: Option<&str>) -> Result<Credentials, Flaw> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+' | b'=');
        if !(16..=128).contains(&access.len()) || !access.bytes().all(word) {
            let told = "the access key id is not one: it has 16 to 128 letters and digits, such as `AKIA...`";
            return Err(Flaw { field: "access_key_id", message: told.to_owned() });
        }
        if !(40..=128).contains(&secret.len()) || !secret.bytes().all(base64) {
            let told =
                "the secret access key is not one: it has 40 letters, digits, `/`, `+` and `=`, without white space";
            let message = format!("{told}; this one has {} characters", secret.chars().count());
            return Err(Flaw { field: "secret_access_key", message });
        }
        match token {
            Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                let told = "the session token is empty, or has characters that no header can carry";
                return Err(Flaw { field: "session_token", message: told.to_owned() });
            }
            None if access.starts_with("ASIA") => {
                let told = "an access key id that begins with ASIA is temporary: give its session token too";
                return Err(Flaw { field: "session_token", message: told.to_owned() });
            }
            _ => {}
        }
        Ok(Credentials {
            access_key_id: access.to_owned(),
            secret: Secret::new(secret.to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
        })
    }

    /// What must not stand in any text that others read.
    pub fn secrets(&self) -> impl Iterator<Item = &str> + Clone {
        std::iter::once(&self.secret).chain(&self.session_token).map(Secret::expose)
    }
}

/// What is wrong with an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// `access_key_id`, `secret_access_key` or `session_token`.
    pub field: &'static str,
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a signature is good for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Such as `us-east-1`.
    pub region: &'a str,
    /// The service's name for signing: `bedrock`, though its hosts begin with `bedrock-runtime`.
    pub service: &'a str,
}

/// A request that is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// Value of the `host` header, with the port where it is sent.
    pub host: &'a str,
    /// The path as it is sent, percent-encoded.
    pub path: &'a str,
    /// The query as it is sent, without the question mark; mostly empty.
    pub query: &'a str,
    pub body: &'a [u8],
}

/// The headers to send with the request: `authorization`, `x-amz-date`, `x-amz-content-sha256` and, with temporary
/// credentials, `x-amz-security-token`. `now` is in Unix seconds.
///
/// # Errors
/// The scope has characters that no header can carry.
pub fn sign(
    credentials: &Credentials,
    scope: &Scope<'_>,
    request: &Unsigned<'_>,
    now: u64,
) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
    let date = date(now);
    let body = hex(&Sha256::digest(request.body));
    // In the order of their names, as they are signed.
    let mut signed = vec![("host", request.host), (BODY, body.as_str()), (DATE, date.as_str())];
    if let Some(token) = &credentials.session_token {
        signed.push((TOKEN, token.expose()));
    }
    let mut authorization = HeaderValue::from_str(&authorization(credentials, scope, request, &signed, &date, &body))?;
    authorization.set_sensitive(true);
    let mut headers = vec![
        (AUTHORIZATION, authorization),
        (HeaderName::from_static(DATE), HeaderValue::from_str(&date)?),
        (HeaderName::from_static(BODY), HeaderValue::from_str(&body)?),
    ];
    if let Some(token) = &credentials.session_token {
        let mut value = HeaderValue::from_str(token.expose())?;
        value.set_sensitive(true);
        headers.push((HeaderName::from_static(TOKEN), value));
    }
    Ok(headers)
}

/// The `authorization` header over these headers, which are in the order of their names. `body` is the body's hash.
fn authorization(
    credentials: &Credentials,
    scope: &Scope<'_>,
    request: &Unsigned<'_>,
    headers: &[(&str, &str)],
    date: &str,
    body: &str,
) -> String {
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: Zeroizing<String> =
        Zeroizing::new(headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect());
    let path = if request.path.is_empty() { Cow::Borrowed("/") } else { encode(request.path.as_bytes(), b"/") };
    let query = canonical_query(request.query);
    let canonical = Zeroizing::new(format!("{}\n{path}\n{query}\n{}\n{names}\n{body}", request.method, lines.as_str()));
    let day = date.get(..8).unwrap_or(date);
    let Scope { region, service } = *scope;
    let place = format!("{day}/{region}/{service}/aws4_request");
    let told = format!("{ALGORITHM}\n{date}\n{place}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let key = key(&credentials.secret, day, scope);
    let signature = hex(&*mac(&*key, told.as_bytes()));
    let id = &credentials.access_key_id;
    format!("{ALGORITHM} Credential={id}/{place}, SignedHeaders={names}, Signature={signature}")
}

/// The key of one day, region and service.
fn key(secret: &Secret, day: &str, scope: &Scope<'_>) -> Zeroizing<[u8; 32]> {
    let first = Zeroizing::new([b"AWS4", secret.expose().as_bytes()].concat());
    let words = [scope.region, scope.service, "aws4_request"];
    words.iter().fold(mac(&first, day.as_bytes()), |key, word| mac(&*key, word.as_bytes()))
}

fn mac(key: &[u8], text: &[u8]) -> Zeroizing<[u8; 32]> {
    // Keys of any length are taken: there is no other error.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Zeroizing::default() };
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Parameters in the order of their names and then their values, each percent-encoded in the one way that counts.
fn canonical_query(query: &str) -> String {
    let whole = |text: &str| encode(&decode(text), b"").into_owned();
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (whole(name), whole(value)))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3) and those of `kept`.
fn encode<'t>(text: &'t [u8], kept: &[u8]) -> Cow<'t, str> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || kept.contains(&byte);
    match std::str::from_utf8(text) {
        Ok(text) if text.bytes().all(plain) => Cow::Borrowed(text),
        _ => {
            let mut out = String::with_capacity(text.len() + 16);
            for &byte in text {
                if plain(byte) {
                    out.push(char::from(byte));
                } else {
                    out.push('%');
                    digits(byte, b"0123456789ABCDEF", &mut out);
                }
            }
            Cow::Owned(out)
        }
    }
}

/// Undoes percent-encoding; what is none stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let escaped = (byte == b'%').then(|| Some(digit(0)? * 16 + digit(1)?)).flatten();
        match escaped.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                out.push(code);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| digits(*byte, b"0123456789abcdef", &mut out));
    out
}

fn digits(byte: u8, alphabet: &[u8; 16], out: &mut String) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(alphabet.get(usize::from(nibble)).copied().map_or('0', char::from));
    }
}

/// `20150830T123600Z`.
fn date(now: u64) -> String {
    let seconds = i64::try_from(now).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-08-30T12:36:00Z, the day of all of AWS's examples.
    const NOW: u64 = 1_440_938_160;
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn example(token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new(SECRET.to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
        }
    }

    /// The cases of AWS's "Signature Version 4 test suite", which sign no more than host and date.
    #[track_caller]
    fn suite(method: &str, path: &str, query: &str, token: Option<&str>, signature: &str) {
        let scope = Scope { region: "us-east-1", service: "service" };
        let host = "example.amazonaws.com";
        let request = Unsigned { method, host, path, query, body: b"" };
        let date = date(NOW);
        let headers: Vec<_> = [("host", host), ("x-amz-date", &date)]
            .into_iter()
            .chain(token.map(|token| ("x-amz-security-token", token)))
            .collect();
        let told = authorization(&example(None), &scope, &request, &headers, &date, EMPTY);
        assert_eq!(told.rsplit_once('=').unwrap().1, signature, "{told}");
    }

    #[test]
    fn the_test_suite_of_aws() {
        suite("GET", "/", "", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        suite("POST", "/", "", None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        let ordered = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        suite("GET", "/", "Param2=value2&Param1=value1", None, ordered);
        suite("GET", "/", "%50aram1=v%61lue1&Param2=value2", None, ordered);
        suite("GET", "/\u{1234}", "", None, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
        let spaced = "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741";
        suite("GET", "/example space/", "", None, spaced);
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let with_token = "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead";
        suite("POST", "/", "", Some(token), with_token);
    }

    /// The worked example of the user guide: `ListUsers` of IAM, and the key derived on the way.
    #[test]
    fn the_example_of_the_guide() {
        let scope = Scope { region: "us-east-1", service: "iam" };
        let key = key(&Secret::new(SECRET.to_owned()), "20150830", &scope);
        assert_eq!(hex(&*key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
        let host = "iam.amazonaws.com";
        let query = "Action=ListUsers&Version=2010-05-08";
        let request = Unsigned { method: "GET", host, path: "/", query, body: b"" };
        let date = date(NOW);
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let headers = [("content-type", form), ("host", host), ("x-amz-date", date.as_str())];
        let told = authorization(&example(None), &scope, &request, &headers, &date, EMPTY);
        let wanted = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(told, wanted);
    }

    /// Signatures made by AWS's own SDK for Python (botocore 1.43) for the same requests.
    #[test]
    fn bedrock_requests_are_signed_as_by_the_sdk() {
        let scope = Scope { region: "us-east-1", service: "bedrock" };
        let request = Unsigned {
            method: "POST",
            host: "bedrock-runtime.us-east-1.amazonaws.com",
            path: "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
            query: "",
            body: br#"{"messages":[]}"#,
        };
        let body = "5e4ce7b36ba37b78a5d5f9fd08e6b7b54ba6879d651aa46ec9e1d6fa24ebe30a";
        let token = "IQoJb3JpZ2luX2VjEXAMPLE/token==";
        for (token, names, signature) in [
            (None, "", "a6c1329155708f931b8541e07fd306b4d40ac54714fb27437acfc0e6d24da9f9"),
            (Some(token), ";x-amz-security-token", "c964221f1b525f0769612a1fd0f595806315f6f8a2b5951f0fb5ed7912cd2933"),
        ] {
            let headers = sign(&example(token), &scope, &request, NOW).unwrap();
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date{names}, Signature={signature}"
            );
            let told: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap().to_owned())).collect();
            let mut wanted = vec![
                ("authorization", authorization),
                ("x-amz-date", "20150830T123600Z".to_owned()),
                ("x-amz-content-sha256", body.to_owned()),
            ];
            wanted.extend(token.map(|token| ("x-amz-security-token", token.to_owned())));
            assert_eq!(told, wanted);
            let shown = format!("{headers:?} {:?}", example(Some(token.unwrap_or("tok"))));
            assert!(!shown.contains("Signature") && !shown.contains("EXAMPLE"), "{shown}");
        }
        let odd = Scope { region: "a\nb", service: "bedrock" };
        assert!(sign(&example(None), &odd, &request, NOW).is_err());
    }

    #[test]
    fn credentials_that_are_none_are_refused_without_repeating_them() {
        let id = "AKIAIOSFODNN7EXAMPLE";
        assert_eq!(Credentials::parse(id, SECRET, None).unwrap().access_key_id, id);
        assert!(Credentials::parse("ASIAIOSFODNN7EXAMPLE", SECRET, Some("IQoJ/b3+=")).is_ok());
        for (access, secret, token, told) in [
            ("", SECRET, None, "access key id"),
            ("AKIAIOSFODNN7E", SECRET, None, "access key id"),
            ("AKIAIOSFODNN7EXAMPLE\n", SECRET, None, "access key id"),
            (SECRET, id, None, "access key id"),
            (id, "", None, "0 characters"),
            (id, &SECRET[..39], None, "39 characters"),
            (id, "wJalrXUtnFEMI K7MDENG+bPxRfiCYEXAMPLEKEYs", None, "secret access key"),
            (id, SECRET, Some(""), "session token"),
            (id, SECRET, Some("a b"), "session token"),
            ("ASIAIOSFODNN7EXAMPLE", SECRET, None, "begins with ASIA"),
        ] {
            let message = Credentials::parse(access, secret, token).unwrap_err().to_string();
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("wJal") && !message.contains("IOSFODNN"), "{message}");
        }
    }

    #[test]
    fn days_far_away_are_dates() {
        assert_eq!(date(0), "19700101T000000Z");
        assert_eq!(date(1_795_219_200), "20261121T000000Z");
        assert!(date(u64::MAX).starts_with("9999"));
    }
}
