//! Attempts that no caller's connection carries, by Pingora's own client: probes of targets, and the hedges and shadows of
//! calls.
//!
//! They are the same attempts, with the same claims, journal and relay as those of the proxy loop, and end in the same
//! [`settling`]; only who drives them differs. Whoever drops an [`Exchange`] has left: the connection is closed, and the
//! attempt is settled with what we know it cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora::connectors::http::Connector;
use pingora::http::ResponseHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::context::Dispatched;
use super::dispatch::{self, reach};
use super::settling::{self, Cause, Settled};
use super::state::{Served, Shared};
use crate::config::Snapshot;
use crate::config::snapshot::{Key, Model};
use crate::dialect::Dialect;
use crate::exchange::explain::Explanation;
use crate::exchange::record::Id;
use crate::exchange::{Allotment, Attempt, Call};
use crate::ir::{Fault, FaultKind};
use crate::policy::route::Cooling;
use crate::telemetry::events;

/// Most interim answers (1xx) before the one that counts.
const INTERIM: usize = 8;

/// What all attempts beside the calls share: Pingora's client with its pool, where any may be made.
#[derive(Default)]
pub struct Sides {
    connector: OnceCell<Connector>,
    running: Arc<AtomicUsize>,
}

impl Sides {
    /// Exchanges under way.
    pub fn running(&self) -> usize {
        self.running.load(Relaxed)
    }

    /// Makes the client where a configuration asks for anything beside the calls, before it is in force: it reads the system's
    /// authorities from the disk, which can take longer than a hedge may be late. Blocks.
    pub fn prepare(&self, snapshot: &Snapshot) {
        let beats = |model: &Model| model.targets.iter().any(|target| target.heartbeat.is_some());
        let beside = |model: &Arc<Model>| model.hedge.is_some() || model.shadow.is_some() || beats(model);
        if !self.connector.initialized() && snapshot.models.values().any(beside) {
            // Only whoever else was quicker stands in the way.
            let _ = self.connector.set(Connector::new(None));
        }
    }

    pub async fn connector(&self) -> &Connector {
        let made = || async { tokio::task::spawn_blocking(|| Connector::new(None)).await };
        match self.connector.get_or_try_init(made).await {
            Ok(connector) => connector,
            Err(_) => self.connector.get_or_init(|| async { Connector::new(None) }).await,
        }
    }

    /// Counts something as under way until the guard is dropped: the drain waits for it.
    pub fn enter(&self) -> Running {
        self.running.fetch_add(1, Relaxed);
        Running(self.running.clone())
    }
}

/// One exchange under way.
pub struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// For whom and for what an attempt is made.
pub struct Errand {
    pub shared: Arc<Shared>,
    pub served: Arc<Served>,
    pub id: Id,
    /// `id` as text.
    pub request_id: Arc<str>,
    /// Of whom the call came.
    pub dialect: Dialect,
    pub call: Arc<Call>,
    /// Whose row of the ledger it is.
    pub key: Arc<Key>,
    /// The caller's headers, as far as providers may see them.
    pub headers: HeaderMap,
    /// When failing becomes cooling.
    pub cooling: Cooling,
    /// When it must be over, whatever its target's own times are.
    pub deadline: Instant,
    /// What is told of the call, where that is kept.
    pub explanation: Option<Arc<Explanation>>,
    /// What the call has taken of its key's limits, where this attempt is for its caller.
    pub allotment: Option<Arc<Allotment>>,
}

impl Errand {
    pub fn cause(&self) -> Cause<'_> {
        let explanation = self.explanation.as_deref();
        Cause {
            shared: &self.shared,
            request: &self.request_id,
            dialect: self.dialect,
            call: &self.call,
            explanation,
            allotment: self.allotment.as_deref(),
        }
    }
}

/// An attempt whose answer goes to a caller.
pub struct Adopted {
    pub current: Dispatched,
    pub line: Line,
    /// Relayed already.
    pub ready: Bytes,
    /// The provider has said all.
    pub ended: bool,
}

/// The provider's end of an exchange.
pub struct Line {
    http: HttpSession,
    peer: Box<HttpPeer>,
}

impl Line {
    /// The head of the provider's answer.
    pub fn head(&self) -> Option<ResponseHeader> {
        self.http.response_header().cloned()
    }

    /// The next chunk as it came, and whether it was the last.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read(&mut self) -> pingora::Result<(Option<Bytes>, bool)> {
        let read = self.http.read_response_body().await?;
        let end = read.is_none() || self.http.response_done();
        Ok((read, end))
    }

    /// Keeps the connection for others, where its answer is over.
    pub async fn release(mut self, shared: &Shared) {
        if self.http.response_done() {
            let idle = self.peer.options.idle_timeout;
            shared.sides.connector().await.release_http_session(self.http, &*self.peer, idle).await;
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The provider failed; the attempt is settled, and its target was charged.
    Failed(Fault),
    /// The journal cannot be written: what cannot be metered is not begun.
    Unmetered,
}

/// An attempt under way.
pub struct Exchange {
    errand: Errand,
    /// `None` once it is settled.
    current: Option<Dispatched>,
    http: Option<(HttpSession, Box<HttpPeer>)>,
    /// The request is on its way: the provider may charge for it.
    sent: bool,
    /// Relayed, and taken by nobody yet.
    ready: Option<Bytes>,
    /// The provider has said all.
    ended: bool,
    _running: Running,
}

impl Exchange {
    /// Journals an attempt, sends it, and comes back with its answer's first content.
    ///
    /// # Errors
    /// There is none.
    pub async fn begin(errand: Errand, mut attempt: Box<Attempt>) -> Result<Exchange, Unanswered> {
        let Errand { shared, call, .. } = &errand;
        if !call.count {
            let intent = attempt.intent(errand.id, &errand.key, errand.dialect, call, &[]);
            if let Err(error) = shared.journal.append_intent(&intent) {
                events::JournalFailed { what: "intent", error: &error }.emit(&shared.metrics);
                return Err(Unanswered::Unmetered);
            }
            if let Some(reservation) = &mut attempt.reservation {
                reservation.dispatched();
            }
        }
        let running = shared.sides.enter();
        let timeouts = attempt.candidate.target.timeouts;
        let first_by = if attempt.terms.call.stream { timeouts.first_byte } else { timeouts.answer };
        let by = errand.deadline.min(Instant::now() + first_by);
        let current = Some(Dispatched::new(attempt, false));
        let mut exchange =
            Exchange { errand, current, http: None, sent: false, ready: None, ended: false, _running: running };
        match timeout_at(by, exchange.first()).await {
            Ok(Ok(())) => Ok(exchange),
            Ok(Err(fault)) => Err(exchange.failed(fault)),
            Err(_) => {
                let told = "The provider did not begin its answer in time.";
                Err(exchange.failed(Fault::new(FaultKind::Timeout, told)))
            }
        }
    }

    /// The attempt, until it is over.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.current.as_ref().map(|current| &*current.attempt)
    }

    /// What there is for the caller next; nothing at the end.
    ///
    /// # Errors
    /// The answer broke; the attempt is settled.
    pub async fn more(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(ready) = self.ready.take() {
            return Ok(Some(ready));
        }
        let idle = self.attempt().map_or(Duration::ZERO, |attempt| attempt.candidate.target.timeouts.idle);
        while !self.ended {
            let by = self.errand.deadline.min(Instant::now() + idle);
            let relayed = match timeout_at(by, self.chunk()).await {
                Ok(relayed) => relayed,
                Err(_) => Err(Fault::new(FaultKind::Timeout, "The provider's stream stood still for too long.")),
            };
            match relayed {
                Ok(Some(bytes)) if !bytes.is_empty() => return Ok(Some(bytes)),
                Ok(_) => {}
                Err(fault) => {
                    self.settle_failed(&fault);
                    return Err(fault);
                }
            }
        }
        Ok(None)
    }

    /// Reads the answer to its end and settles the attempt, which nobody is given.
    ///
    /// # Errors
    /// The answer broke; the attempt is settled.
    pub async fn drain(mut self) -> Result<Settled, Fault> {
        while self.more().await?.is_some() {}
        let broken = self.current.as_mut().and_then(|current| current.attempt.fault.take());
        let whole = self.attempt().and_then(Attempt::facts).is_some_and(|facts| facts.whole);
        let truncated = || Fault::new(FaultKind::Truncated, "The answer ended before it was complete.");
        if let Some(fault) = broken.or_else(|| (!whole).then(truncated)) {
            self.settle_failed(&fault);
            return Err(fault);
        }
        let Some(mut current) = self.current.take() else {
            return Err(Fault::new(FaultKind::Truncated, "The attempt is over already."));
        };
        let now = self.errand.shared.now();
        let cause = self.errand.cause();
        settling::praise(&cause, &mut current.attempt, true, now);
        let settled = settling::settle(&cause, &mut current.attempt, "ok", false, now);
        self.release().await;
        Ok(settled)
    }

    /// The attempt with what is left of its answer, for whoever gives it to a caller and settles it.
    pub fn adopt(mut self) -> Option<Adopted> {
        let current = self.current.take()?;
        let (http, peer) = self.http.take()?;
        let ready = self.ready.take().unwrap_or_default();
        Some(Adopted { current, line: Line { http, peer }, ready, ended: self.ended })
    }

    /// Connects, sends, and reads up to the first content.
    async fn first(&mut self) -> Result<(), Fault> {
        let told = |error: Box<pingora::Error>, answered| dispatch::classify(&error, answered);
        let mut renewed = false;
        loop {
            let reused = self.connect().await?;
            match self.ask().await {
                Ok(()) => break,
                // A pooled connection that the provider had closed already: once more on a new one.
                Err(_) if reused && !renewed => renewed = true,
                Err(error) => return Err(told(error, false)),
            }
        }
        let Some(head) = self.http.as_ref().and_then(|(http, _)| http.response_header()).cloned() else {
            return Err(Fault::new(FaultKind::Garbage, "The provider's answer has no head."));
        };
        let (Some(current), Errand { shared, .. }) = (&mut self.current, &self.errand) else { return Err(gone()) };
        super::relaying::judge(&head, current, shared)?;
        if current.error.is_some() {
            return Err(self.error(&head).await);
        }
        while self.ready.is_none() && !self.ended {
            self.ready = self.chunk().await?.filter(|bytes| !bytes.is_empty());
        }
        Ok(())
    }

    /// A connection to the provider; says whether it was used before.
    async fn connect(&mut self) -> Result<bool, Fault> {
        let (Some(current), Errand { shared, served, .. }) = (&mut self.current, &self.errand) else {
            return Err(gone());
        };
        let peer = reach(current, shared, served).await?;
        match shared.sides.connector().await.get_http_session(&*peer).await {
            Ok((http, reused)) => {
                self.http = Some((http, peer));
                Ok(reused)
            }
            Err(error) => {
                let target = &current.attempt.candidate.target.target.id;
                let request = &self.errand.request_id;
                events::ConnectFailed { request, target, cause: &error.to_string() }.emit();
                Err(dispatch::unconnected(&error))
            }
        }
    }

    /// Sends the request and reads the head of its answer.
    async fn ask(&mut self) -> pingora::Result<()> {
        let (Some(current), Some((http, _))) = (&self.current, &mut self.http) else { return Ok(()) };
        let now = self.errand.shared.now().unix_ms / 1_000;
        let Some(head) = dispatch::own_head(current, &self.errand.headers, now)? else { return Ok(()) };
        self.sent = true;
        http.write_request_header(Box::new(head)).await?;
        let last = current.attempt.body.count() - 1;
        for (number, piece) in current.attempt.body.iter().enumerate() {
            http.write_request_body(piece.clone(), number == last).await?;
        }
        http.finish_request_body().await?;
        for _ in 0..=INTERIM {
            http.read_response_header().await?;
            if http.response_header().is_some_and(|head| !head.status.is_informational()) {
                break;
            }
        }
        Ok(())
    }

    /// The provider's next chunk, relayed.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some((http, _)) = &mut self.http else { return Err(gone()) };
        let read = http.read_response_body().await.map_err(|error| dispatch::classify(&error, true))?;
        let end = read.is_none() || http.response_done();
        self.ended = end;
        let Some(current) = &mut self.current else { return Err(gone()) };
        current.relay(read, end, &self.errand.shared)
    }

    /// What an error answer says.
    async fn error(&mut self, head: &ResponseHeader) -> Fault {
        let (Some(current), Some((http, _))) = (&mut self.current, &mut self.http) else { return gone() };
        let mut error = current.error.take().unwrap_or_default();
        // What can be read of it is enough.
        while let Ok(Some(chunk)) = http.read_response_body().await {
            if !error.collect(Some(chunk)) || http.response_done() {
                break;
            }
        }
        let Errand { shared, served, .. } = &self.errand;
        current.told(Some(head), &error.parts.concat(), shared, served, shared.now().unix_ms / 1_000)
    }

    fn failed(mut self, fault: Fault) -> Unanswered {
        self.settle_failed(&fault);
        Unanswered::Failed(fault)
    }

    fn settle_failed(&mut self, fault: &Fault) {
        let Some(mut current) = self.current.take() else { return };
        let now = self.errand.shared.now();
        settling::blame(&self.errand.shared, &mut current.attempt, fault, self.errand.cooling, now);
        settling::settle(&self.errand.cause(), &mut current.attempt, fault.kind.name(), false, now);
    }

    /// Keeps the connection for others, where its answer is over.
    async fn release(&mut self) {
        if let Some((mut http, peer)) = self.http.take()
            && http.response_done()
        {
            let idle = peer.options.idle_timeout;
            self.errand.shared.sides.connector().await.release_http_session(http, &*peer, idle).await;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        current.attempt.abandoned = self.sent;
        let now = self.errand.shared.now();
        settling::settle(&self.errand.cause(), &mut current.attempt, "cancelled", false, now);
    }
}

fn gone() -> Fault {
    Fault::new(FaultKind::Truncated, "The attempt is over already.")
}
