//! A running gateway's admin API, as the command line asks it: one request a connection, to the port that the configuration
//! names.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// For the gateway's answer, connection included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer.
const BYTES: u64 = 64 << 20;

pub struct Api {
    pub address: SocketAddr,
    /// Empty: none is sent.
    pub token: String,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum Failure {
    /// Nobody answers, or what answers is no gateway.
    Nobody(String),
    /// The gateway says no.
    Refused { status: u16, body: Value },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Nobody(why) => f.write_str(why),
            Failure::Refused { status, body } => {
                let error = body.get("error");
                let text = |name: &str| error.and_then(|error| error.get(name)?.as_str()).unwrap_or_default();
                write!(f, "{} ({status} {})", text("message"), text("code"))?;
                let problems = error.and_then(|error| error.get("problems")?.as_array()).into_iter().flatten();
                for problem in problems {
                    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
                    write!(f, "\n  {}: {}", text("path"), text("message"))?;
                }
                if *status == 401 {
                    f.write_str("\n  set PORTOLAN_ADMIN_TOKEN to an administrator's token")?;
                }
                Ok(())
            }
        }
    }
}

impl Api {
    /// The answer as JSON; `null` where there is no more to say than that it is done.
    ///
    /// # Errors
    /// There is no good answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let nobody = |error: io::Error| Failure::Nobody(format!("no gateway answers on {}: {error}", self.address));
        let (status, text) = self.exchange(method, path, body).map_err(nobody)?;
        let value = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
        match value {
            Ok(value) if (200..300).contains(&status) => Ok(value),
            Ok(body) => Err(Failure::Refused { status, body }),
            Err(error) => Err(Failure::Nobody(format!("what answers on {} is no gateway: {error}", self.address))),
        }
    }

    /// Status and body.
    ///
    /// # Errors
    /// Nobody answers in time, or not in HTTP.
    pub fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, String)> {
        // Who listens on every address is asked on this machine's own.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(ip, self.address.port());
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        if !self.token.is_empty() {
            let _ = write!(head, "authorization: Bearer {}\r\n", self.token);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        if !text.is_empty() {
            let _ = write!(head, "content-type: application/json\r\ncontent-length: {}\r\n", text.len());
        }
        stream.write_all(format!("{head}\r\n{text}").as_bytes())?;
        let mut answer = String::new();
        stream.take(BYTES).read_to_string(&mut answer)?;
        let no_http = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).ok_or_else(no_http)?;
        Ok((status, body.to_owned()))
    }
}

/// A text as a part of a path or a query.
pub fn quoted(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let body = json!({"error": {"code": "invalid", "message": "2 things are wrong",
            "problems": [{"path": "models", "message": "write names"}]}});
        let told = Failure::Refused { status: 422, body }.to_string();
        assert_eq!(told, "2 things are wrong (422 invalid)\n  models: write names");
        assert_eq!(quoted("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
