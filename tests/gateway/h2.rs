//! A scripted provider that speaks HTTP/2, frame by frame (RFC 9113): what a library would never send, it sends.

use std::collections::HashMap;
use std::io::{Read, Write};

use super::upstream::{Attempt, Line, Reply, Step, Upstream};

/// Codes of RST_STREAM and GOAWAY (RFC 9113, section 7).
pub const NO_ERROR: u32 = 0;
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;

/// Settings (RFC 9113, section 6.5.2).
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END: u8 = 1;

/// What happens on a connection.
pub enum Event {
    /// The head of a request came, and not yet its body.
    Head(u32),
    /// All of a request.
    Asked(u32, Vec<u8>),
}

/// One connection.
pub struct Talk {
    line: Line,
    /// Answers that the script has begun, and goes on with later.
    pub held: Vec<(u32, Attempt)>,
}

/// A provider with these settings; the script is given each event of each connection, and blocks only that one.
pub fn upstream(
    settings: &'static [(u16, u32)],
    script: impl Fn(&mut Talk, Event) + Send + Sync + 'static,
) -> Upstream {
    Upstream::speaking(move |line| {
        // An error of the socket: the peer left.
        let _ = Talk { line, held: Vec::new() }.serve(settings, &script);
    })
}

impl Talk {
    fn serve(&mut self, settings: &[(u16, u32)], script: &dyn Fn(&mut Talk, Event)) -> std::io::Result<()> {
        let _ = self.line.stream.set_nodelay(true);
        let mut preface = [0; PREFACE.len()];
        self.line.stream.read_exact(&mut preface)?;
        assert_eq!(preface, PREFACE, "prior knowledge");
        let told = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        self.frame(4, 0, 0, &told.collect::<Vec<_>>());
        let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
        loop {
            let mut head = [0; 9];
            self.line.stream.read_exact(&mut head)?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.line.stream.read_exact(&mut payload)?;
            match kind {
                0 | 1 => {
                    let body = bodies.entry(stream).or_default();
                    if kind == 0 {
                        body.extend(&payload);
                        if !payload.is_empty() {
                            self.open_window(0, u32::try_from(payload.len()).unwrap());
                        }
                    } else {
                        script(self, Event::Head(stream));
                    }
                    if flags & END != 0 {
                        let body = bodies.remove(&stream).unwrap_or_default();
                        script(self, Event::Asked(stream, body));
                    }
                }
                // SETTINGS and PING are acknowledged.
                4 if flags & 1 == 0 => self.frame(4, 1, 0, &[]),
                6 if flags & 1 == 0 => self.frame(6, 1, 0, &payload),
                _ => {}
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // Whether the peer is there is seen when it is read from.
        let _ = self.line.stream.write_all(&frame);
    }

    /// Which connection this is; counts from 0.
    pub fn number(&self) -> usize {
        self.line.number
    }

    /// Takes a request on: from here on the provider would bill it.
    pub fn take(&self, body: Vec<u8>) -> Attempt {
        self.line.note("/v1/chat/completions", body)
    }

    /// The head of an answer: `:status: 200`, and what follows is of that type (RFC 7541, appendix A: 8 and 31).
    pub fn head(&mut self, stream: u32, reply: &Reply) {
        let (_, kind) = reply.headers.iter().find(|(name, _)| name == "content-type").unwrap();
        let mut block = vec![0x88, 0x0f, 0x10, u8::try_from(kind.len()).unwrap()];
        block.extend(kind.as_bytes());
        self.frame(1, 4, stream, &block);
    }

    pub fn data(&mut self, stream: u32, attempt: &Attempt, steps: &[Step]) {
        for step in steps {
            if let Step::Bytes(bytes) = step {
                self.frame(0, 0, stream, bytes);
                self.line.sent(attempt.number, bytes);
            }
        }
    }

    pub fn end(&mut self, stream: u32) {
        self.frame(0, END, stream, &[]);
    }

    /// A whole answer.
    pub fn answer(&mut self, stream: u32, attempt: &Attempt, reply: &Reply) {
        self.head(stream, reply);
        self.data(stream, attempt, &reply.steps);
        self.end(stream);
    }

    pub fn reset(&mut self, stream: u32, code: u32) {
        self.frame(3, 0, stream, &code.to_be_bytes());
    }

    /// Streams above `last` were not looked at, and no new ones will be.
    pub fn go_away(&mut self, last: u32, code: u32) {
        self.frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    }

    pub fn open_window(&mut self, stream: u32, bytes: u32) {
        self.frame(8, 0, stream, &bytes.to_be_bytes());
    }
}
