//! A case: a gateway before scripted providers, calls that are each known by a number, and at its end the
//! reconciler ([`Case::close`]), which holds what callers got against what providers saw and what the ledger says.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::books::{self, Bill, Row};
use crate::callers::Caller;
use crate::client::{self, Connection, Response};
use crate::gateway::{Gateway, PROVIDER_KEY, SECRET, keys};
use crate::upstream::{Attempt, Reply, Upstream};
use crate::voices::Voice;

/// What every good provider of these tests says. An answer given as good must say all of it.
pub const ANSWER: &str = "one two three four five the end.";

/// Bounds that a test can wait for. A target that failed is asked again each time.
pub const QUICK: &str = "retry: { tries: 1, pause: 20ms, max_pause: 100ms, failures: 1000 }\n\
    timeouts: { connect: 1s, first_byte: 1s, answer: 1s, idle: 600ms, total: 8s }\n";

/// Longest that any call of these tests may take: the deadline that is configured, and a busy machine.
const LONGEST: Duration = Duration::from_secs(12);

pub fn words() -> Vec<&'static str> {
    ANSWER.split_inclusive(' ').collect()
}

/// A provider that answers well.
pub fn good(voice: Voice) -> Upstream {
    Upstream::start(move |attempt| voice.good(attempt, ANSWER))
}

/// What a caller makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of [`ANSWER`], and every mark of a good end.
    Whole,
    /// A status, and an error in the caller's own shape.
    Refused(u16, String),
    /// A stream that has begun and ends in the error event of the caller's dialect, after this text.
    Broken(String),
}

/// One call and what came of it.
#[derive(Debug)]
pub struct Told {
    pub number: usize,
    pub got: Response,
    pub outcome: Outcome,
    pub took: Duration,
}

impl Told {
    #[track_caller]
    pub fn whole_from(&self, model: &str, attempts: usize) {
        assert_eq!(self.outcome, Outcome::Whole, "{}", self.got);
        assert_eq!(self.got.header("x-portolan-model"), Some(model), "{}", self.got);
        assert_eq!(self.got.header("x-portolan-attempts"), Some(attempts.to_string().as_str()), "{}", self.got);
    }

    /// The sentence of a refusal with that status.
    #[track_caller]
    pub fn refused(&self, status: u16) -> &str {
        match &self.outcome {
            Outcome::Refused(got, message) if *got == status => message,
            _ => panic!("not refused with {status}: {}", self.got),
        }
    }

    /// What was said before a stream broke.
    #[track_caller]
    pub fn broken(&self) -> &str {
        match &self.outcome {
            Outcome::Broken(said) => said,
            _ => panic!("not a broken stream: {}", self.got),
        }
    }
}

/// Where a provider is.
enum Place<'u> {
    Up(&'u Upstream),
    /// By another address than its own.
    By(String, &'u Upstream),
    Nowhere(String),
}

struct Provider<'u> {
    name: &'static str,
    voice: Voice,
    place: Place<'u>,
    more: String,
    model: String,
    replaced: Option<(String, String)>,
}

/// A case that has not begun.
pub struct Setting<'u> {
    providers: Vec<Provider<'u>>,
    chain: bool,
    more: String,
    env: Vec<(String, String)>,
}

impl<'u> Setting<'u> {
    pub fn new() -> Setting<'u> {
        Setting { providers: Vec::new(), chain: false, more: QUICK.to_owned(), env: Vec::new() }
    }

    /// A provider and a model of that name.
    pub fn up(self, name: &'static str, voice: Voice, upstream: &'u Upstream) -> Self {
        self.row(name, voice, Place::Up(upstream), "")
    }

    /// The same, reached by that host and port.
    pub fn at(self, name: &'static str, voice: Voice, at: &str, upstream: &'u Upstream) -> Self {
        self.row(name, voice, Place::By(format!("http://{at}"), upstream), "")
    }

    /// The same, reached by TLS at that host and port; `tls` is what its row says of trust.
    pub fn secured(self, name: &'static str, voice: Voice, at: &str, tls: &str, upstream: &'u Upstream) -> Self {
        self.row(name, voice, Place::By(format!("https://{at}"), upstream), tls)
    }

    /// A provider that no request can reach.
    pub fn nowhere(self, name: &'static str, voice: Voice, at: &str) -> Self {
        self.row(name, voice, Place::Nowhere(format!("http://{at}")), "")
    }

    fn row(mut self, name: &'static str, voice: Voice, place: Place<'u>, more: &str) -> Self {
        self.providers.push(Provider {
            name,
            voice,
            place,
            more: more.to_owned(),
            model: String::new(),
            replaced: None,
        });
        self
    }

    /// Further members of the model of the provider told last.
    pub fn model(mut self, more: &str) -> Self {
        self.providers.last_mut().unwrap().model = more.to_owned();
        self
    }

    /// The row of the provider told last has another text in the place of this one.
    pub fn replacing(mut self, text: &str, other: &str) -> Self {
        self.providers.last_mut().unwrap().replaced = Some((text.to_owned(), other.to_owned()));
        self
    }

    /// The first model falls back to the others, in their order.
    pub fn chain(self) -> Self {
        Setting { chain: true, ..self }
    }

    /// In the place of [`QUICK`].
    pub fn more(self, more: &str) -> Self {
        Setting { more: more.to_owned(), ..self }
    }

    /// A variable of the gateway's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn config(&self, well: &Upstream) -> String {
        let mut providers = Voice::Chat.provider("well", well, "");
        let price = "price: { input: 10, output: 100, cached: 1 }";
        let mut models = format!("  well: {{ targets: [{{ provider: well, model: real, {price} }}] }}\n");
        let others: Vec<_> = self.providers.iter().skip(1).map(|provider| provider.name).collect();
        for (number, Provider { name, voice, place, more, model, replaced }) in self.providers.iter().enumerate() {
            let mut row = match place {
                Place::Up(upstream) => voice.provider(name, upstream, more),
                Place::By(at, _) | Place::Nowhere(at) => {
                    voice.provider(name, well, more).replace(&format!("http://{}", well.addr), at)
                }
            };
            if let Some((text, other)) = replaced {
                assert!(row.contains(text), "{row}");
                row = row.replace(text, other);
            }
            providers.push_str(&row);
            let fallback = match self.chain && number == 0 {
                true => format!(", fallback: [{}]", others.join(", ")),
                false => String::new(),
            };
            models.push_str(&format!(
                "  {name}: {{ targets: [{{ provider: {name}, model: \"{}\", {price} }}]{fallback}{model} }}\n",
                voice.model()
            ));
        }
        format!("log: {{ level: trace }}\nproviders:\n{providers}models:\n{models}{}{}", keys(), self.more)
    }

    #[track_caller]
    pub fn start(self) -> Case<'u> {
        let well = good(Voice::Chat);
        let env: Vec<_> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let gateway = Gateway::start_in(&self.config(&well), &env);
        let case = Case {
            pid: gateway.pid(),
            gateway,
            well,
            providers: self.providers,
            calls: Mutex::default(),
            next: AtomicUsize::new(1),
            fds: 0,
            longest: LONGEST,
        };
        // What is opened with the first call, and stays open, is no leak.
        case.chat("well").whole_from("well", 1);
        Case { fds: books::fds(case.pid) - case.well.open(), ..case }
    }
}

pub struct Case<'u> {
    pub gateway: Gateway,
    /// A provider that no fault touches.
    well: Upstream,
    providers: Vec<Provider<'u>>,
    calls: Mutex<Vec<Told>>,
    next: AtomicUsize,
    pid: u32,
    /// Open files of the gateway before the case, but for its connections to providers.
    fds: usize,
    longest: Duration,
}

/// What a case leaves: the rows of the ledger, and how often a provider was asked.
pub struct Books {
    pub rows: Vec<Row>,
}

impl Books {
    /// The rows of one call, in order.
    pub fn call(&self, number: usize) -> Vec<&Row> {
        let mut rows: Vec<_> = self.rows.iter().filter(|row| row.call == Some(number)).collect();
        rows.sort_by_key(|row| row.number);
        rows
    }
}

impl Case<'_> {
    /// A number for a call that a test makes by itself: its text is [`text`], and its tags [`tags`].
    pub fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    pub fn chat(&self, model: &str) -> Told {
        self.ask(Caller::Chat, model, false)
    }

    pub fn stream(&self, model: &str) -> Told {
        self.ask(Caller::Chat, model, true)
    }

    pub fn ask(&self, caller: Caller, model: &str, stream: bool) -> Told {
        self.ask_with(caller, model, stream, |_| {})
    }

    /// A call whose body is changed before it is sent.
    pub fn ask_with(&self, caller: Caller, model: &str, stream: bool, change: impl FnOnce(&mut Value)) -> Told {
        let number = self.number();
        let mut body = caller.body(model, &text(number), stream);
        change(&mut body);
        let asked = Instant::now();
        let path = caller.path(model, stream);
        let got = client::post(self.gateway.data, &path, &pairs(&headers(caller, number)), body.to_string());
        let took = asked.elapsed();
        let outcome = judge(caller, &got, stream);
        Told { number, got, outcome, took }
    }

    /// The bytes of a call, for a connection that is kept.
    pub fn request(&self, number: usize, caller: Caller, model: &str, stream: bool) -> Vec<u8> {
        let body = caller.body(model, &text(number), stream).to_string();
        let mut headers = headers(caller, number);
        headers.push(("content-type", "application/json".to_owned()));
        client::request("POST", &caller.path(model, stream), &pairs(&headers), body.as_bytes())
    }

    /// A streamed chat completion that has been sent, on a connection of its own.
    pub fn open(&self, model: &str) -> (usize, Connection) {
        let number = self.number();
        let mut connection = Connection::open(self.gateway.data);
        connection.send(&self.request(number, Caller::Chat, model, true)).unwrap();
        (number, connection)
    }

    /// Remembers what a call came to: the reconciler looks at it again.
    pub fn keep(&self, told: Told) {
        self.calls.lock().unwrap().push(told);
    }

    /// For what ends the gateway itself: nothing is reconciled.
    pub fn into_gateway(self) -> Gateway {
        self.gateway
    }

    fn attempts(&self, provider: &str) -> Option<(Voice, Vec<Attempt>)> {
        if provider == "well" {
            return Some((Voice::Chat, self.well.attempts()));
        }
        let known = self.providers.iter().find(|known| known.name == provider).unwrap();
        match known.place {
            Place::Up(upstream) | Place::By(_, upstream) => Some((known.voice, upstream.attempts())),
            Place::Nowhere(_) => None,
        }
    }

    /// The case is over, and its fault too: holds callers, providers and ledger against each other.
    #[track_caller]
    pub fn close(self) -> Books {
        self.close_but(|_| false)
    }

    /// The same; rows for which `but` says so are not held against what the provider reported, only counted.
    #[track_caller]
    pub fn close_but(mut self, but: impl Fn(&Row) -> bool) -> Books {
        // O8: what has nothing to do with the fault goes on as ever.
        let well = self.chat("well");
        well.whole_from("well", 1);
        assert!(well.took < Duration::from_secs(1), "O8: a healthy call took {:?}", well.took);
        self.keep(well);
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());

        let rows = books::settled(&self.gateway);
        let names = self.providers.iter().map(|provider| provider.name).chain(["well"]);
        for name in names {
            let mut booked: Vec<_> = rows.iter().filter(|row| row.provider == name).collect();
            // What failed before TLS was agreed on was never sent.
            for row in booked.extract_if(.., |row| row.outcome == "tls") {
                assert!(row.tokens.is_none() && row.cost == 0 && !row.served, "O3: metered and never sent: {row:?}");
            }
            booked.sort_by_key(|row| (row.call, row.number));
            let Some((voice, mut seen)) = self.attempts(name) else {
                for row in booked {
                    assert!(row.tokens.is_none() && row.cost == 0, "O3: metered and never sent: {row:?}");
                    assert!(["connect", "timeout"].contains(&row.outcome.as_str()), "O3: {row:?}");
                }
                continue;
            };
            seen.retain(|attempt| call_of(attempt).is_some());
            seen.sort_by_key(|attempt| (call_of(attempt), attempt.number));
            let asked: Vec<_> = seen.iter().map(|attempt| call_of(attempt).unwrap()).collect();
            let metered: Vec<_> = booked.iter().filter_map(|row| row.call).collect();
            let odd = metered.iter().zip(&asked).position(|(row, attempt)| row != attempt).unwrap_or(0);
            assert!(
                metered == asked,
                "O3: {} rows for {} attempts that `{name}` saw; from call {:?} on: {:#?}",
                metered.len(),
                asked.len(),
                asked.get(odd),
                booked.get(odd..(odd + 3).min(booked.len()))
            );
            for (row, attempt) in booked.iter().zip(&seen) {
                if !but(row) {
                    self.square(row, &Bill::of(voice, &attempt.sent));
                }
            }
        }
        let metered: Vec<_> = rows.iter().filter(|row| row.call.is_none()).collect();
        assert!(metered.is_empty(), "O3: rows of no call: {metered:?}");
        for call in 1..self.next.load(Ordering::SeqCst) {
            let served = rows.iter().filter(|row| row.call == Some(call) && row.served).count();
            assert!(served <= 1, "O3: call {call} was served {served} times");
        }
        for told in &calls {
            self.agree(told, &rows);
        }

        // O5
        assert!(self.gateway.is_running() && self.gateway.pid() == self.pid, "O5: it died\n{}", self.gateway.logs());
        assert_eq!(self.gateway.metric("portolan_panics_total", &[]), 0.0, "O5:\n{}", self.gateway.logs());
        self.no_secrets(&calls);
        self.no_leaks();
        Books { rows }
    }

    /// A row of the ledger against what its provider did.
    #[track_caller]
    fn square(&self, row: &Row, bill: &Bill) {
        assert_eq!(row.state, "settled", "O3: {row:?}");
        match row.tokens {
            // Nothing came of it, or of an answer that was read whole only a part, which says nothing of usage.
            None => {
                assert_eq!(row.cost, 0, "O3: {row:?}");
                assert_ne!(row.outcome, "ok", "O3: a good answer without usage: {row:?}");
            }
            Some((input, output)) => {
                assert_eq!(row.cost, input * 10_000 + output * 100_000, "O3: {row:?}");
                if row.estimated {
                    let off = output.abs_diff(bill.words);
                    assert!(off <= (bill.words / 20).max(3), "O3: {} words were said: {row:?}", bill.words);
                } else {
                    assert_eq!((Some(input), Some(output)), (bill.input, bill.output), "O3: {row:?}");
                }
            }
        }
    }

    /// What a caller got against the rows of its call.
    #[track_caller]
    fn agree(&self, told: &Told, rows: &[Row]) {
        assert!(told.took < self.longest, "O1: {:?}: {}", told.took, told.got);
        let mut rows: Vec<_> = rows.iter().filter(|row| row.call == Some(told.number)).collect();
        rows.sort_by_key(|row| row.number);
        let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers, (1..=rows.len() as u32).collect::<Vec<_>>(), "O3: {rows:?}");
        if let Some(attempts) = told.got.header("x-portolan-attempts") {
            // The head of a stream that was given signs of life went out before its last attempt.
            assert_eq!(attempts, rows.len().to_string(), "O3: {}: {rows:?}", told.got);
        }
        let last = rows.last();
        match &told.outcome {
            // O2 was judged when it came.
            Outcome::Whole => {
                let last = last.unwrap();
                assert!(last.served && last.outcome == "ok", "O3: {last:?}");
                assert_eq!(told.got.header("x-portolan-provider"), Some(last.provider.as_str()), "{}", told.got);
            }
            Outcome::Broken(_) => {
                let last = last.unwrap();
                assert!(last.outcome != "ok", "O3: {last:?}");
            }
            Outcome::Refused(..) => assert!(rows.iter().all(|row| !row.served), "O3: {rows:?}"),
        }
    }

    /// O6: no secret, nor eight characters of one, in anything that others read.
    #[track_caller]
    fn no_secrets(&self, calls: &[Told]) {
        let targets = client::get(self.gateway.admin, "/admin/targets", &[("connection", "close")]);
        let mut texts = vec![
            ("the log", self.gateway.logs()),
            ("the metrics", self.gateway.metrics()),
            ("the list of targets", targets.to_string()),
        ];
        texts.extend(calls.iter().map(|told| ("an answer", told.got.to_string())));
        let parts = windows(PROVIDER_KEY.rsplit('-').next().unwrap());
        let parts = parts.into_iter().chain(windows(SECRET.rsplit('-').next().unwrap()));
        for part in parts {
            for (what, text) in &texts {
                assert!(!text.contains(&part), "O6: {part} in {what}:\n{text}");
            }
        }
    }

    /// O7: no file, connection, call or buffer is left behind.
    #[track_caller]
    fn no_leaks(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let up = self.providers.iter().map(|provider| match provider.place {
                Place::Up(upstream) | Place::By(_, upstream) => upstream.open(),
                Place::Nowhere(_) => 0,
            });
            let pooled: usize = up.sum::<usize>() + self.well.open();
            let (now, held) = (books::fds(self.pid), self.gateway.metric("portolan_buffered_bytes", &[]));
            // The ledger opens and closes files of its own as it needs them.
            if now <= self.fds + pooled + 6 && held == 0.0 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "O7: {now} files, {} at first, {pooled} kept connections; {held} bytes of requests",
                self.fds
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a call says, by its number.
pub fn text(number: usize) -> String {
    format!("call {number:06}.")
}

/// The call that an attempt belongs to.
pub fn call_of(attempt: &Attempt) -> Option<usize> {
    let at = attempt.body.windows(5).position(|window| window == b"call ")?;
    std::str::from_utf8(attempt.body.get(at + 5..at + 11)?).ok()?.parse().ok()
}

fn headers(caller: Caller, number: usize) -> Vec<(&'static str, String)> {
    let mut headers = caller.headers(SECRET);
    headers.push(("x-portolan-tags", format!("call={number}")));
    headers
}

fn pairs<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn windows(text: &str) -> Vec<String> {
    text.as_bytes().windows(8).map(|window| String::from_utf8_lossy(window).into_owned()).collect()
}

/// O2: what looks whole must be whole, and what is not must say so in the caller's own protocol.
#[track_caller]
pub fn judge(caller: Caller, got: &Response, stream: bool) -> Outcome {
    if got.status != 200 {
        return Outcome::Refused(got.status, caller.refusal(got, got.status));
    }
    let mark = match caller {
        Caller::Chat | Caller::Completions => "[DONE]",
        Caller::Responses => "response.completed",
        Caller::Messages => "message_stop",
        Caller::Gemini | Caller::Array => "finishReason",
    };
    if !stream || got.text().contains(mark) {
        assert_eq!(caller.said(got, stream), ANSWER, "O2: a truncated answer was given as a good one: {got}");
        return Outcome::Whole;
    }
    caller.last_error(got);
    Outcome::Broken(said(caller, got))
}

/// What the events of a broken stream said.
fn said(caller: Caller, got: &Response) -> String {
    let place = match caller {
        Caller::Chat => "/choices/0/delta/content",
        Caller::Completions => "/choices/0/text",
        Caller::Responses => "/delta",
        Caller::Messages => "/delta/text",
        Caller::Gemini | Caller::Array => "/candidates/0/content/parts/0/text",
    };
    caller.events(got).iter().filter_map(|event| event.pointer(place)?.as_str()).collect()
}

/// A provider's refusal, in its own shape.
pub fn failure(voice: Voice, status: u16, code: &str, message: &str) -> Reply {
    use serde_json::json;
    let body = match voice {
        Voice::Messages => json!({"type": "error", "error": {"type": code, "message": message}}),
        Voice::Gemini => json!({"error": {"code": status, "status": code, "message": message}}),
        Voice::Bedrock | Voice::Cohere => json!({"message": message}),
        Voice::Ollama => json!({"error": message}),
        Voice::Chat | Voice::Responses => {
            json!({"error": {"message": message, "type": "error", "param": null, "code": code}})
        }
    };
    Reply::json(status, body.to_string())
}

/// A listener whose kernel drops what is sent to it: to whoever connects, the network is silent.
pub fn silent() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    crate::wire::deaf(&listener);
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Prints a figure of a case, for the summary of `make faults`.
pub fn figure(case: &str, text: &str) {
    println!("{case}: {text}");
}
