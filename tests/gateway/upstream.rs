//! A scripted provider: for each request a closure decides what is answered, step by step; every attempt is kept.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a hanging step holds its connection, should nobody leave.
const HANG: Duration = Duration::from_secs(60);
/// Bytes of an answer that the journal keeps.
const KEPT: usize = 2 << 20;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Counts from 0 over the upstream's life.
    pub number: usize,
    /// Counts connections from 0: equal for requests on one connection.
    pub connection: usize,
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    /// When the peer went away before the answer was over.
    pub gone: Option<Instant>,
    /// What was sent of the answer's body, without its framing: the last [`KEPT`] bytes of it.
    pub sent: Vec<u8>,
    /// How many there were.
    pub sent_bytes: usize,
}

impl Attempt {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A content length: of all bytes of the steps, or of as many as stated here.
    Length(Option<usize>),
    /// Each step of bytes is one chunk.
    Chunked,
    /// By closing the connection.
    Close,
}

#[derive(Clone, Debug)]
pub enum Step {
    Bytes(Vec<u8>),
    /// Bytes as they are, outside of the answer's framing.
    Raw(Vec<u8>),
    /// Milliseconds.
    Sleep(u64),
    /// Closes the connection here, in order.
    Close,
    /// Breaks the connection here with a reset.
    Reset,
    /// Does nothing more until the peer leaves.
    Hang,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub framing: Framing,
    pub steps: Vec<Step>,
    /// What is done before anything is written.
    pub before_head: Vec<Step>,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: vec![("content-type".into(), content_type.into())],
            framing: Framing::Length(None),
            steps: vec![Step::Bytes(body.into())],
            before_head: Vec::new(),
        }
    }

    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(status, "application/json", body)
    }

    /// A stream of events, each step of bytes one chunk.
    pub fn stream(steps: Vec<Step>) -> Reply {
        Reply { steps, framing: Framing::Chunked, ..Reply::new(200, "text/event-stream; charset=utf-8", "") }
    }

    /// No head at all, only this.
    pub fn instead(step: Step) -> Reply {
        Reply { before_head: vec![step], ..Reply::json(200, "") }
    }

    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn framing(self, framing: Framing) -> Reply {
        Reply { framing, ..self }
    }

    /// A further step at the end.
    pub fn then(mut self, step: Step) -> Reply {
        self.steps.push(step);
        self
    }
}

type Script = dyn Fn(&Attempt) -> Reply + Send + Sync;

/// A provider on a port of its own; it stops with the value.
pub struct Upstream {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    journal: Mutex<Vec<Attempt>>,
    changed: Condvar,
    connections: AtomicUsize,
    /// Connections that are open now.
    open: AtomicUsize,
    stopped: AtomicBool,
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    pub fn start(script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static) -> Upstream {
        Upstream::serving(script, |Line { stream, number, shared }| {
            Peer { stream, unread: Vec::new(), number, current: 0, shared }.serve();
        })
    }

    /// One that speaks another protocol on its connections.
    pub fn speaking(serve: impl Fn(Line) + Send + Sync + 'static) -> Upstream {
        Upstream::serving(|_| panic!("it has no script"), serve)
    }

    fn serving(
        script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static,
        serve: impl Fn(Line) + Send + Sync + 'static,
    ) -> Upstream {
        let serve = Arc::new(serve);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            journal: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = serving.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, serve) = (Arc::clone(&serving), Arc::clone(&serve));
                serving.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    serve(Line { stream, number, shared: Arc::clone(&shared) });
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Upstream { addr, shared }
    }

    /// Always the same answer.
    pub fn always(reply: Reply) -> Upstream {
        Upstream::start(move |_| reply.clone())
    }

    /// The first answer for the first attempt, and so on; the last one for all further attempts.
    pub fn each(replies: Vec<Reply>) -> Upstream {
        Upstream::start(move |attempt| replies.get(attempt.number).or(replies.last()).unwrap().clone())
    }

    /// Answers by another script from now on.
    pub fn set(&self, script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// The same answer from now on.
    pub fn set_reply(&self, reply: Reply) {
        self.set(move |_| reply.clone());
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections that there ever were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The base URL for a provider of an OpenAI dialect.
    pub fn v1(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.journal().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.journal().len()
    }

    /// The only attempt there was.
    pub fn only(&self) -> Attempt {
        let mut attempts = self.attempts();
        assert_eq!(attempts.len(), 1, "attempts at {}", self.addr);
        attempts.remove(0)
    }

    /// Waits until the journal is as wished.
    pub fn wait(&self, what: &str, time: Duration, wish: impl Fn(&[Attempt]) -> bool) -> Vec<Attempt> {
        let deadline = Instant::now() + time;
        let mut journal = self.shared.journal();
        while !wish(&journal) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "upstream never saw {what}: {journal:?}");
            journal = self.shared.changed.wait_timeout(journal, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        journal.clone()
    }

    /// Waits until the peer of the only attempt has gone away.
    pub fn wait_gone(&self, time: Duration) -> Attempt {
        self.wait("the peer going away", time, |journal| journal.first().is_some_and(|attempt| attempt.gone.is_some()))
            .remove(0)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.addr);
    }
}

/// A connection, and the journal of the provider that it is to.
pub struct Line {
    pub stream: TcpStream,
    /// Counts from 0.
    pub number: usize,
    shared: Arc<Shared>,
}

impl Line {
    /// Puts a request into the journal.
    pub fn note(&self, path: &str, body: Vec<u8>) -> Attempt {
        let mut journal = self.shared.journal();
        let attempt = Attempt {
            number: journal.len(),
            connection: self.number,
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body,
            at: Instant::now(),
            gone: None,
            sent: Vec::new(),
            sent_bytes: 0,
        };
        journal.push(attempt.clone());
        self.shared.changed.notify_all();
        attempt
    }

    /// Some of that request's answer was sent.
    pub fn sent(&self, number: usize, bytes: &[u8]) {
        let mut journal = self.shared.journal();
        journal[number].sent_bytes += bytes.len();
        journal[number].sent.extend_from_slice(bytes);
    }
}

/// The peer left.
struct Gone;

struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
    number: usize,
    /// The attempt that is answered.
    current: usize,
    shared: Arc<Shared>,
}

impl Peer {
    fn serve(mut self) {
        let _ = self.stream.set_nodelay(true);
        while let Some(mut attempt) = self.request() {
            {
                let mut journal = self.shared.journal();
                attempt.number = journal.len();
                journal.push(attempt.clone());
            }
            self.shared.changed.notify_all();
            let number = attempt.number;
            self.current = number;
            let script = Arc::clone(&self.shared.script.lock().unwrap());
            let answered = self.answer(&script(&attempt));
            match answered {
                Ok(true) => {}
                Ok(false) => return,
                Err(Gone) => {
                    self.shared.journal()[number].gone = Some(Instant::now());
                    self.shared.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// Reads a request; none if the peer left or sent nonsense.
    fn request(&mut self) -> Option<Attempt> {
        let (end, head) = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break (end + 4, String::from_utf8_lossy(&self.unread[..end]).into_owned());
            }
            self.more()?;
        };
        self.unread.drain(..end);
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let body = if value("transfer-encoding").is_some() {
            self.chunks()?
        } else {
            self.take(value("content-length").map_or(Some(0), |length| length.parse().ok())?)?
        };
        let connection = self.number;
        // The number is given when it enters the journal.
        Some(Attempt {
            number: 0,
            connection,
            method,
            path,
            headers,
            body,
            at: Instant::now(),
            gone: None,
            sent: Vec::new(),
            sent_bytes: 0,
        })
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.unread.windows(2).position(|window| window == b"\r\n") {
                    Some(end) => break end,
                    None => self.more()?,
                }
            };
            let line = String::from_utf8(self.take(end + 2)?).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            body.extend(self.take(size)?);
            self.take(2)?;
            if size == 0 {
                return Some(body);
            }
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            self.more()?;
        }
        Some(self.unread.drain(..length).collect())
    }

    fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 65536];
        let n = self.stream.read(&mut bytes).ok().filter(|n| *n > 0)?;
        self.unread.extend_from_slice(&bytes[..n]);
        Some(())
    }

    /// Plays an answer; whether the connection can be used again.
    fn answer(&mut self, reply: &Reply) -> Result<bool, Gone> {
        for step in &reply.before_head {
            if !self.step(step, false)? {
                return Ok(false);
            }
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match reply.framing {
            Framing::Length(stated) => {
                let sum =
                    reply.steps.iter().map(|step| if let Step::Bytes(bytes) = step { bytes.len() } else { 0 }).sum();
                head.push_str(&format!("content-length: {}\r\n", stated.unwrap_or(sum)));
            }
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Close => head.push_str("connection: close\r\n"),
        }
        head.push_str("\r\n");
        self.write(head.as_bytes())?;
        for step in &reply.steps {
            if !self.step(step, reply.framing == Framing::Chunked)? {
                return Ok(false);
            }
        }
        if reply.framing == Framing::Chunked {
            self.write(b"0\r\n\r\n")?;
        }
        Ok(reply.framing != Framing::Close)
    }

    /// Plays a step; `false` ends the connection.
    fn step(&mut self, step: &Step, chunked: bool) -> Result<bool, Gone> {
        match step {
            Step::Bytes(bytes) if bytes.is_empty() => {}
            Step::Bytes(bytes) if chunked => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(bytes);
                chunk.extend_from_slice(b"\r\n");
                self.write(&chunk)?;
                self.keep(bytes);
            }
            Step::Bytes(bytes) => {
                self.write(bytes)?;
                self.keep(bytes);
            }
            Step::Raw(bytes) => self.write(bytes)?,
            Step::Sleep(ms) => self.pause(Duration::from_millis(*ms))?,
            Step::Close => return Ok(false),
            Step::Reset => {
                super::wire::resets(&self.stream);
                return Ok(false);
            }
            Step::Hang => self.pause(HANG)?,
        }
        Ok(true)
    }

    fn keep(&self, bytes: &[u8]) {
        let mut journal = self.shared.journal();
        let attempt = &mut journal[self.current];
        attempt.sent_bytes += bytes.len();
        attempt.sent.extend_from_slice(bytes);
        let more = attempt.sent.len().saturating_sub(KEPT);
        attempt.sent.drain(..more);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.stream.write_all(bytes).map_err(|_| Gone)
    }

    /// Waits, but not for a peer that has left.
    fn pause(&mut self, time: Duration) -> Result<(), Gone> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.stream.set_read_timeout(None).map_err(|_| Gone)?;
                return Ok(());
            }
            self.stream.set_read_timeout(Some(left.min(Duration::from_millis(100)))).map_err(|_| Gone)?;
            match self.stream.peek(&mut [0]) {
                Ok(0) => return Err(Gone),
                // The next request is there already: the peer is alive.
                Ok(_) => thread::sleep(left.min(Duration::from_millis(10))),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Err(Gone),
            }
        }
    }
}
