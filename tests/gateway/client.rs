//! A caller on a raw socket: requests as bytes, answers with the time at which each piece came.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No test waits longer than this for a single read: what is not there by then is hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// One answer, read to its end.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body as it arrived: when, and how long it was by then.
    pub arrivals: Vec<(Instant, usize)>,
    /// The body came to the end that its framing promised.
    pub whole: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The frames of a stream of events, each without its closing empty line.
    pub fn frames(&self) -> Vec<String> {
        frames(self.text())
    }

    /// The data of each frame, which must be JSON; `[DONE]` is left out.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let frames = self.frames();
        let data = frames.iter().filter_map(|frame| data(frame)).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {self}"))).collect()
    }

    /// The error that a stream ends in.
    #[track_caller]
    pub fn last_error(&self) -> Value {
        assert!(!self.text().contains("[DONE]"), "a broken stream looks whole: {self}");
        let frames = self.frames();
        let last = frames.last().and_then(|frame| data(frame)).unwrap_or_default();
        let last: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("the last frame: {error}: {self}"));
        assert!(last["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{self}");
        last["error"].clone()
    }

    /// The text that a streamed chat completion says.
    pub fn said(&self) -> String {
        let events = self.events();
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
    }

    /// Holds an error to the shape that OpenAI's SDKs expect, and gives its `error` member.
    #[track_caller]
    pub fn refusal(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        assert!(self.whole, "{self}");
        assert!(self.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{self}");
        assert!(self.header("x-portolan-request-id").is_some_and(|id| !id.is_empty()), "{self}");
        let error = self.json()["error"].clone();
        for member in ["message", "type", "param", "code"] {
            assert!(error.get(member).is_some(), "the error has no `{member}`: {self}");
        }
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self}");
        assert!(error["type"].is_string(), "{self}");
        error
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.whole { "" } else { " (cut)" };
        write!(f, "{} {:?}{end}: {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

fn data(frame: &str) -> Option<&str> {
    frame.lines().find_map(|line| line.strip_prefix("data: "))
}

pub fn frames(text: &str) -> Vec<String> {
    text.split("\n\n").filter(|frame| !frame.trim().is_empty()).map(str::to_owned).collect()
}

/// Text of a request. A content length is added unless the headers have one or say `transfer-encoding`.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed =
        |name: &str| name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding");
    if !headers.iter().any(|(name, _)| framed(name)) && (!body.is_empty() || method == "POST") {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A body in chunks of that size, with the last one.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// One request on a connection of its own.
#[track_caller]
pub fn post(addr: SocketAddr, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
    let mut all = vec![("content-type", "application/json"), ("connection", "close")];
    all.extend_from_slice(headers);
    Connection::open(addr).exchange(&request("POST", path, &all, body.as_ref()))
}

#[track_caller]
pub fn get(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    Connection::open(addr).exchange(&request("GET", path, headers, b""))
}

/// A connection that is written and read by hand.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What ends a body.
enum End {
    Length(usize),
    Chunks,
    Close,
}

/// An answer whose body is being read.
pub struct Reading<'c> {
    connection: &'c mut Connection,
    end: End,
    /// The head, and what of the body was read so far.
    pub response: Response,
}

impl Connection {
    #[track_caller]
    pub fn open(addr: SocketAddr) -> Connection {
        let stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, unread: Vec::new() }
    }

    /// The same to a peer that may not be there.
    ///
    /// # Errors
    /// It is not.
    pub fn try_open(addr: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, unread: Vec::new() })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// # Errors
    /// The peer has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn exchange(&mut self, request: &[u8]) -> Response {
        // A peer that refuses early closes while we write; its answer is there all the same.
        let sent = self.send(request);
        self.response().unwrap_or_else(|error| panic!("no answer ({error}); the request was sent: {sent:?}"))
    }

    /// Reads one answer to its end.
    ///
    /// # Errors
    /// No whole head came, or nothing more came in time.
    pub fn response(&mut self) -> io::Result<Response> {
        let mut reading = self.head()?;
        while reading.piece()? {}
        Ok(reading.response)
    }

    /// Reads a head and nothing behind it, as text.
    ///
    /// # Errors
    /// As [`response`](Self::response).
    pub fn interim(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            if self.more()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads the head of an answer, past any `100 Continue`.
    ///
    /// # Errors
    /// As [`response`](Self::response).
    pub fn head(&mut self) -> io::Result<Reading<'_>> {
        loop {
            let head = self.interim()?;
            let mut lines = head.trim_end().split("\r\n");
            let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
            let status: u16 = status.ok_or_else(|| io::Error::other(format!("not a status line: {head}")))?;
            if status == 100 {
                continue;
            }
            let headers: Vec<_> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
            let end = if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
                End::Chunks
            } else if let Some(length) = value("content-length") {
                End::Length(length.parse().map_err(|_| io::Error::other("content-length"))?)
            } else if matches!(status, 204 | 304) {
                End::Length(0)
            } else {
                End::Close
            };
            let whole = matches!(end, End::Length(0));
            let response = Response { status, headers, body: Vec::new(), arrivals: Vec::new(), whole };
            return Ok(Reading { connection: self, end, response });
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16384];
        let n = match self.stream.read(&mut bytes) {
            // A reset is an end like another: what counts is whether the body was whole.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            read => read?,
        };
        self.unread.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// Whether the peer has closed the connection, or does so within that time.
    pub fn closed_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let closed = matches!(self.more(), Ok(0));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        closed
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl Reading<'_> {
    /// Reads the next piece of the body into the response; `false` at its end, whole or not.
    ///
    /// # Errors
    /// Nothing came in time.
    pub fn piece(&mut self) -> io::Result<bool> {
        if self.response.whole {
            return Ok(false);
        }
        let piece = match self.end {
            End::Chunks => match self.chunk()? {
                Some(piece) => piece,
                None => return Ok(false),
            },
            End::Length(length) => {
                if self.connection.unread.is_empty() && self.connection.more()? == 0 {
                    return Ok(false);
                }
                let missing = length - self.response.body.len();
                let here = self.connection.unread.len().min(missing);
                self.response.whole = here == missing;
                self.connection.unread.drain(..here).collect()
            }
            End::Close => {
                if self.connection.unread.is_empty() && self.connection.more()? == 0 {
                    self.response.whole = true;
                    return Ok(false);
                }
                std::mem::take(&mut self.connection.unread)
            }
        };
        self.response.body.extend_from_slice(&piece);
        self.response.arrivals.push((Instant::now(), self.response.body.len()));
        Ok(true)
    }

    /// The next chunk; none if it was the last one or the connection ended.
    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let unread = &mut self.connection.unread;
            if let Some(line) = unread.windows(2).position(|window| window == b"\r\n") {
                let size = String::from_utf8_lossy(&unread[..line]).into_owned();
                let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16)
                    .map_err(|_| io::Error::other(format!("not the size of a chunk: {size:?}")))?;
                if unread.len() >= line + 2 + size + 2 {
                    unread.drain(..line + 2);
                    let chunk = unread.drain(..size).collect();
                    unread.drain(..2);
                    if size == 0 {
                        self.response.whole = true;
                        return Ok(None);
                    }
                    return Ok(Some(chunk));
                }
            }
            if self.connection.more()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads until the body has so many frames of a stream, or ends.
    pub fn until_frames(&mut self, count: usize) -> io::Result<()> {
        while self.response.text().matches("\n\n").count() < count && self.piece()? {}
        Ok(())
    }
}
