//! AWS: where the keys of an account are, and what their keepers answer.
//!
//! Source: "AWS SDKs and Tools Reference Guide", chapters "Container credential provider" and "IMDS credential provider",
//! and "Use IMDS" of the EC2 user guide (docs.aws.amazon.com, seen 2026-11-21). Of the instance's service only its second
//! version is used: each request shows a session that was put there first.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use serde::Deserialize;

use super::grant::{Grant, Proof};
use super::source::{Answer, Ask};
use super::{Node, Secret, sigv4};

/// Where containers of ECS find theirs, below which a relative address is meant.
pub const CONTAINER: &str = "http://169.254.170.2";
/// Where instances of EC2 find theirs.
pub const INSTANCE: &str = "http://169.254.169.254";
/// Addresses that may give keys without TLS, beside loopback: those of ECS and of EKS Pod Identity.
const NEAR: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// How long keys are used whose keeper says nothing of an end.
const UNKNOWN: Duration = Duration::from_secs(900);

/// An account: what its requests are signed for, and with what.
#[derive(Debug, PartialEq)]
pub struct Account {
    pub region: String,
    /// The service's name for signing.
    pub service: String,
    pub keys: Keys,
}

/// Where keys come from.
#[derive(Debug, PartialEq)]
pub enum Keys {
    Own(sigv4::Credentials),
    /// The service beside a container.
    Container {
        endpoint: Node,
        authorization: Authorization,
    },
    /// The service beside an instance.
    Instance {
        endpoint: Node,
    },
}

/// What a container shows to get its keys.
#[derive(Debug, PartialEq)]
pub enum Authorization {
    None,
    Token(Secret),
    /// A file whose content is the token and changes.
    File(PathBuf),
}

impl Account {
    /// Signs a request; `now` is in Unix seconds.
    ///
    /// # Errors
    /// A value that no header can carry.
    pub fn sign(
        &self,
        keys: &sigv4::Credentials,
        request: &sigv4::Unsigned<'_>,
        now: u64,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let scope = sigv4::Scope { region: &self.region, service: &self.service };
        sigv4::sign(keys, &scope, request, now)
    }
}

/// Checks the address of a container's service: keys cross it, and without TLS only a short way.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn container(url: &str) -> Result<Node, String> {
    let node = Node::parse(url, 1)?;
    let near = match node.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || NEAR.iter().any(|known| known.parse() == Ok(ip)),
        Err(_) => node.host == "localhost",
    };
    if !node.tls && !near {
        return Err("keys come over https, or from this machine, 169.254.170.2 or 169.254.170.23".to_owned());
    }
    Ok(node)
}

/// The region in the host name of a service of AWS: `us-east-1` of `bedrock-runtime.us-east-1.amazonaws.com`.
pub fn region(host: &str) -> Option<&str> {
    let is_region = |label: &&str| {
        let mut words = label.split('-');
        let letters = |word: &str| word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let number = words.next_back().is_some_and(|word| word.len() == 1 && word.bytes().all(|b| b.is_ascii_digit()));
        let country = words.next().is_some_and(|word| word.len() == 2 && letters(word));
        number && country && words.clone().next().is_some() && words.all(letters)
    };
    let name = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().find_map(|end| host.strip_suffix(end))?;
    name.split('.').find(is_region)
}

pub(super) fn ask_container(endpoint: &Node, authorization: &Authorization) -> Result<Ask, String> {
    let mut ask = Ask::new("GET", endpoint, own_path(endpoint));
    match authorization {
        Authorization::None => {}
        Authorization::Token(token) => ask.show(AUTHORIZATION, token.expose())?,
        Authorization::File(file) => ask.authorization_file = Some(file.clone()),
    }
    Ok(ask)
}

/// Opens a session.
pub(super) fn ask_session(endpoint: &Node) -> Result<Ask, String> {
    let mut ask = Ask::new("PUT", endpoint, format!("{}/latest/api/token", endpoint.path));
    // The most that is granted: six hours. It is used once.
    ask.show(HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds"), "21600")?;
    Ok(ask)
}

/// Asks for the name of the instance's role, or for the keys of that role.
pub(super) fn ask_role(endpoint: &Node, session: &Secret, role: &str) -> Result<Ask, String> {
    let path = format!("{}/latest/meta-data/iam/security-credentials/{role}", endpoint.path);
    let mut ask = Ask::new("GET", endpoint, path);
    ask.show(HeaderName::from_static("x-aws-ec2-metadata-token"), session.expose())?;
    Ok(ask)
}

/// The session of an answer.
pub(super) fn session(answer: &Answer) -> Result<Secret, String> {
    let text = answer.good_text()?.trim();
    if text.is_empty() {
        return Err("the instance's session is empty".to_owned());
    }
    Ok(Secret::new(text.to_owned()))
}

/// The role of an answer.
pub(super) fn role(answer: &Answer) -> Result<String, String> {
    if answer.status == 404 {
        return Err("the instance has no role: attach an instance profile".to_owned());
    }
    let name = answer.good_text()?.lines().next().unwrap_or_default().trim();
    // IAM user guide, "IAM and AWS STS quotas": names of roles.
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(known) {
        return Err("the instance names no role".to_owned());
    }
    Ok(name.to_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

/// The keys of an answer; `now` is in Unix milliseconds.
pub(super) fn keys(answer: &Answer, now: u64) -> Result<Grant, String> {
    let given: Given = answer.good_json()?;
    if given.code.as_deref().is_some_and(|code| code != "Success") {
        return Err("the keys are not there (their `Code` is not `Success`)".to_owned());
    }
    let lacks = |name: &str| format!("`{name}` is missing in the answer");
    let access = given.access_key_id.ok_or_else(|| lacks("AccessKeyId"))?;
    let secret = Secret::new(given.secret_access_key.ok_or_else(|| lacks("SecretAccessKey"))?);
    let token = given.token.map(Secret::new);
    let keys = sigv4::Credentials::parse(&access, secret.expose(), token.as_ref().map(Secret::expose))
        .map_err(|flaw| flaw.to_string())?;
    let life = match given.expiration {
        None => UNKNOWN,
        Some(text) => {
            let end: jiff::Timestamp = text.parse().map_err(|_| "`Expiration` is no date".to_owned())?;
            let end = u64::try_from(end.as_millisecond()).unwrap_or(0);
            Duration::from_millis(end.saturating_sub(now))
        }
    };
    Grant::new(Proof::Aws(keys), now, life)
}

fn own_path(endpoint: &Node) -> String {
    if endpoint.path.is_empty() { "/".to_owned() } else { endpoint.path.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cross_only_short_ways_without_tls() {
        for url in [
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:9/c",
            "http://[::1]/c",
            "http://localhost/c",
            "https://keys.example.com/c",
        ] {
            assert!(container(url).is_ok(), "{url}");
        }
        for url in ["http://keys.example.com/c", "http://169.254.169.254/c", "http://10.0.0.1/c", "keys", ""] {
            assert!(container(url).is_err(), "{url}");
        }
    }

    #[test]
    fn hosts_tell_their_region() {
        for (host, wanted) in [
            ("bedrock-runtime.us-east-1.amazonaws.com", Some("us-east-1")),
            ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("bedrock-runtime.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("vpce-0a1-b2c3.bedrock-runtime.eu-central-1.vpce.amazonaws.com", Some("eu-central-1")),
            ("bedrock-mantle.us-west-2.api.aws", Some("us-west-2")),
            ("bedrock-runtime.amazonaws.com", None),
            ("us-east-1.example.com", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(region(host), wanted, "{host}");
        }
    }
}
