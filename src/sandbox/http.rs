//! HTTP/1.1 on a bare socket: requests in, answers out, byte by byte.
//!
//! Bare, because the sandbox must do what an HTTP library takes care never to do: reset before the head, stall between
//! two chunks, close without the last chunk. Everything read is bounded in size, count and time.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Largest request line and headers together.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 128;
/// Above the gateway's own default of 50 MiB, so that the gateway's limit is the one that speaks.
const BODY_BYTES: usize = 64 * 1024 * 1024;
const CHUNK_LINE_BYTES: usize = 1024;
/// How long a kept-alive connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(120);
/// How long one request may take to arrive, once it has begun.
const ARRIVAL: Duration = Duration::from_secs(120);
/// How long the peer may refuse to take what is written.
const WRITE: Duration = Duration::from_secs(60);

/// One request, read whole.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The peer means to use the connection again.
    pub keep_alive: bool,
}

impl Request {
    /// Value of the first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Why no request came.
#[derive(Debug)]
pub enum Unread {
    /// The peer left, or said nothing for too long.
    Gone,
    /// What came is not a request that can be answered otherwise than by this status; the connection is then unusable.
    Refused(u16, &'static str),
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Self {
        Unread::Gone
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// One accepted connection.
pub struct Connection {
    stream: TcpStream,
    /// What was read and not yet used.
    unused: BytesMut,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        // Refused only on a socket that is gone; the next read tells.
        let _ = stream.set_nodelay(true);
        Connection { stream, unused: BytesMut::new() }
    }

    /// Reads the next request, head and body.
    ///
    /// # Errors
    /// The peer left, or what it sent is not HTTP/1.1 within the bounds.
    pub async fn request(&mut self) -> Result<Request, Unread> {
        if self.unused.is_empty() {
            timeout(IDLE, self.more()).await.map_err(|_| Unread::Gone)??;
        }
        let deadline = Instant::now() + ARRIVAL;
        timeout_at(deadline, self.arriving()).await.map_err(|_| Unread::Refused(408, "Request Timeout"))?
    }

    async fn arriving(&mut self) -> Result<Request, Unread> {
        let (mut request, framing) = loop {
            if let Some((length, request, framing)) = head(&self.unused)? {
                self.unused.advance(length);
                break (request, framing);
            }
            if self.unused.len() > HEAD_BYTES {
                return Err(Unread::Refused(431, "Request Header Fields Too Large"));
            }
            self.more().await?;
        };
        let expects = request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && self.unused.is_empty() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match framing {
            Framing::Length(length) => {
                if length > BODY_BYTES {
                    return Err(Unread::Refused(413, "Content Too Large"));
                }
                self.take(length, &mut request.body).await?;
            }
            Framing::Chunked => self.chunks(&mut request.body).await?,
        }
        Ok(request)
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Result<(), Unread> {
        const BAD: Unread = Unread::Refused(400, "Bad Request");
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.unused) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        self.unused.advance(line);
                        break usize::try_from(size).map_err(|_| BAD)?;
                    }
                    Ok(httparse::Status::Partial) if self.unused.len() < CHUNK_LINE_BYTES => self.more().await?,
                    _ => return Err(BAD),
                }
            };
            if size == 0 {
                return self.trailers().await;
            }
            if size > BODY_BYTES.saturating_sub(body.len()) {
                return Err(Unread::Refused(413, "Content Too Large"));
            }
            self.take(size, body).await?;
            let mut end = Vec::with_capacity(2);
            self.take(2, &mut end).await?;
            if end != b"\r\n" {
                return Err(BAD);
            }
        }
    }

    /// Reads and drops what follows the last chunk, up to its empty line.
    async fn trailers(&mut self) -> Result<(), Unread> {
        let mut read = 0;
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.unused) {
                let empty = self.unused.get(..end).is_some_and(|line| line.is_empty() || line == b"\r");
                self.unused.advance(end + 1);
                if empty {
                    return Ok(());
                }
                read += end;
            }
            if read + self.unused.len() > HEAD_BYTES {
                return Err(Unread::Refused(431, "Request Header Fields Too Large"));
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), Unread> {
        let mut left = length;
        loop {
            let now = left.min(self.unused.len());
            into.extend_from_slice(&self.unused.split_to(now));
            left -= now;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Unread> {
        self.unused.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.unused).await? {
            0 => Err(Unread::Gone),
            _ => Ok(()),
        }
    }

    /// Writes a whole answer.
    ///
    /// # Errors
    /// The peer left.
    pub async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        let mut bytes = self::head_of(reply.status, reply.content_type, &reply.headers, Some(reply.body.len()));
        bytes.extend_from_slice(&reply.body);
        self.write(&bytes).await
    }

    /// Writes the head of an answer whose body of `length` bytes is written with [`raw`](Self::raw), or of a chunked
    /// one, whose body is written with [`chunk`](Self::chunk) and ended with [`last_chunk`](Self::last_chunk).
    ///
    /// # Errors
    /// The peer left.
    pub async fn head(
        &mut self,
        content_type: &'static str,
        headers: &[(&'static str, String)],
        length: Option<usize>,
    ) -> io::Result<()> {
        let bytes = head_of(200, content_type, headers, length);
        self.write(&bytes).await
    }

    /// # Errors
    /// The peer left.
    pub async fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        // An empty chunk would be the last one.
        if data.is_empty() {
            return Ok(());
        }
        let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
        self.write(&bytes).await
    }

    /// # Errors
    /// The peer left.
    pub async fn last_chunk(&mut self) -> io::Result<()> {
        self.write(b"0\r\n\r\n").await
    }

    /// Writes bytes of a body with a length.
    ///
    /// # Errors
    /// The peer left.
    pub async fn raw(&mut self, data: &[u8]) -> io::Result<()> {
        self.write(data).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(WRITE, self.stream.write_all(bytes)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Waits, but not for a peer that has left.
    ///
    /// # Errors
    /// The peer left.
    pub async fn pause(&mut self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let mut byte = [0];
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = async {
                // A byte that is there belongs to the next request: the peer is alive.
                if let Ok(1..) = self.stream.peek(&mut byte).await {
                    std::future::pending::<()>().await;
                }
            } => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Breaks the connection with a reset instead of an orderly end.
    pub fn reset(&self) {
        // The reset is sent when the socket is dropped. Fails only on a socket that is gone.
        let _ = self.stream.set_zero_linger();
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// Parses a head once it is whole: its length, the request without its body, and how the body is framed.
fn head(bytes: &[u8]) -> Result<Option<(usize, Request, Framing)>, Unread> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Unread::Refused(431, "Request Header Fields Too Large")),
        Err(_) => return Err(Unread::Refused(400, "Bad Request")),
    };
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        keep_alive: parsed.version == Some(1),
        ..Request::default()
    };
    let mut framing = Framing::Length(0);
    for header in parsed.headers.iter() {
        let name = header.name.to_ascii_lowercase();
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        match name.as_str() {
            "connection" => request.keep_alive &= !value.to_ascii_lowercase().contains("close"),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => framing = Framing::Chunked,
            "transfer-encoding" => return Err(Unread::Refused(501, "Not Implemented")),
            "content-length" if !matches!(framing, Framing::Chunked) => {
                let length = value.parse().map_err(|_| Unread::Refused(400, "Bad Request"))?;
                framing = Framing::Length(length);
            }
            _ => {}
        }
        request.headers.push((name, value));
    }
    Ok(Some((length, request, framing)))
}

fn head_of(status: u16, content_type: &str, headers: &[(&'static str, String)], length: Option<usize>) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Error");
    let mut head = format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = b"POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: Close\r\n\r\nhello";
        let end = text.len() - 5;
        assert!(head(&text[..end - 1]).unwrap().is_none());
        let (length, request, framing) = head(text).unwrap().unwrap();
        assert_eq!(length, end);
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/a/b", "c=d"));
        assert_eq!(request.header("host"), Some("x"));
        assert!(!request.keep_alive);
        assert!(matches!(framing, Framing::Length(5)));
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, status) in [
            (&b"\x16\x03\x01\x00"[..], 400),
            (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        ] {
            match head(text) {
                Err(Unread::Refused(got, _)) => assert_eq!(got, status),
                _ => panic!("{:?} passed", String::from_utf8_lossy(text)),
            }
        }
    }
}
