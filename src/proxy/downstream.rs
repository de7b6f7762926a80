//! The stand-in for the client's session while Pingora's proxy loop runs: the only file that knows the trick.
//!
//! Pingora lets `Session::downstream_session` be replaced by a `Custom` session, whose answers steer the loop. This one
//!
//! - says that the request's body is there and can be replayed, so that every attempt asks `request_body_filter` for a
//!   body, piece by piece and of any size (Pingora's own retry buffer ends at 64 KiB, and beyond it an upstream waits for ever);
//! - holds the response's head until the first body byte, so that an attempt that fails before its first good event
//!   leaves no trace at the client, and so that headers known only then (cost) can still be added;
//! - lets a further attempt go on with a stream that has begun: its head is swallowed, and what ended the attempt before does
//!   not end the caller's stream;
//! - runs the clocks that Pingora has not: first content, idle, the whole call's deadline, and the drain of a stop. A
//!   caller that takes nothing for as long as a provider may say nothing is cut: behind a write that waits, no other
//!   clock runs;
//! - listens for another attempt that may have content first ([`super::hedge`]), and passes what it writes on to identical
//!   calls ([`super::flight`]), without its own client where that has left them.
//!
//! It must be gone again before `Session::finish`: a `Custom` session is never kept alive. [`restore`] does that, in
//! `logging`. All of this rests on undocumented behaviour of pingora 0.9.1, hence the exact pin and the tests in
//! `tests/gateway`.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::flight::Lead;
use super::gate::{Gate, Reading};

/// How often it is looked whether anybody still follows a call whose client has left.
const ORPHANED: Duration = Duration::from_millis(250);

/// No content in time.
pub const FIRST_BYTE_TIMEOUT: ErrorType = ErrorType::Custom("FirstByteTimeout");
/// No further chunk in time.
pub const IDLE_TIMEOUT: ErrorType = ErrorType::Custom("IdleTimeout");
/// The whole call's deadline.
pub const DEADLINE: ErrorType = ErrorType::Custom("Deadline");
/// This process stops, and its patience with streams is over.
pub const DRAINING: ErrorType = ErrorType::Custom("Draining");
/// Another attempt has content first.
pub const HEDGED: ErrorType = ErrorType::Custom("Hedged");
/// Another attempt, which was waited for, has failed too.
pub const OUT_OF_RACE: ErrorType = ErrorType::Custom("OutOfRace");
/// A stream that has begun broke, and may be gone on with.
pub const BROKEN_OFF: ErrorType = ErrorType::Custom("BrokenOff");
/// A head without the body that it must have.
pub const EMPTY_ANSWER: ErrorType = ErrorType::Custom("EmptyAnswer");

/// A marker: `request_body_filter` puts the attempt's body, or the next piece of it, in its place.
const PIECE: Bytes = Bytes::from_static(b"-");

/// Bytes a millisecond that the slowest caller takes of a whole answer.
const SLOWEST: usize = 16;

/// Puts the stand-in in the place of the client's session.
pub fn install(session: &mut Session, gate: Arc<Gate>, mut cut: watch::Receiver<bool>, lead: Option<Lead>) {
    let inner = mem::replace(&mut session.downstream_session, Box::new(absent()));
    // One future for the whole call, since each new one has to be put into a list of those that wait.
    let cut = Some(Box::pin(async move {
        let _ = cut.wait_for(|over| *over).await;
    }) as Pin<Box<dyn Future<Output = ()> + Send + Sync>>);
    let stand_in = Downstream {
        inner,
        held: None,
        hold: true,
        going_on: false,
        last_write: Instant::now(),
        last_sign: Instant::now(),
        timer: None,
        cut,
        gate,
        lead,
        orphaned: None,
        reading: None,
    };
    *session.downstream_session = ServerSession::new_custom(Box::new(stand_in));
}

/// Puts the client's session back, if the stand-in is installed.
pub fn restore(session: &mut Session, gate: &Gate) {
    if !session.downstream_session.is_custom() {
        return;
    }
    // Dropping the stand-in makes it hand its session to the gate.
    *session.downstream_session = absent();
    if let Some(inner) = gate.lock().returned.take() {
        session.downstream_session = inner;
    }
}

/// A session that is not there: holds the place for the length of one assignment.
fn absent() -> ServerSession {
    ServerSession::new_custom(Box::new(()))
}

struct Downstream {
    inner: Box<ServerSession>,
    /// The head of this attempt's answer, while it waits for the first body byte.
    held: Option<HttpTask>,
    /// Nothing has been sent to the client yet.
    hold: bool,
    /// A further attempt is to go on with what was sent, and nothing of it has come yet.
    going_on: bool,
    last_write: Instant,
    /// When the caller was last given anything, a sign of life too.
    last_sign: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// Ready when this process ends the calls that are left; `None` from then on.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    gate: Arc<Gate>,
    /// Others who are told the same.
    lead: Option<Lead>,
    /// The client has left, and others are still told, or the answer is read on: why it left.
    orphaned: Option<Box<Error>>,
    /// How far it is read on.
    reading: Option<Reading>,
}

/// What ended a wait.
enum Woken {
    Client(Result<Option<Bytes>>),
    Cut,
    Clock,
    /// Another attempt is over, and what that means here.
    Race(Option<ErrorType>),
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.gate.lock().returned = Some(mem::replace(&mut self.inner, Box::new(absent())));
    }
}

impl Downstream {
    /// The next instant at which patience ends, and what it is to be called then.
    fn patience(&self) -> (Instant, ErrorType) {
        let state = self.gate.lock();
        let (by, what) = if self.hold || self.going_on {
            (state.first_by, FIRST_BYTE_TIMEOUT)
        } else {
            (self.last_write + state.idle, IDLE_TIMEOUT)
        };
        if state.total_by <= by { (state.total_by, DEADLINE) } else { (by, what) }
    }

    /// When the caller is to be given a sign of life, if nothing else is written before.
    fn silent_until(&self) -> Option<Instant> {
        let keep_alive = self.gate.keep_alive.as_ref()?;
        self.last_write.max(self.last_sign).checked_add(keep_alive.every)
    }

    /// Gives the caller a sign of life, and before the first content a head too.
    ///
    /// The loop may drop this while it waits for the socket. Nothing is torn by that: the client's buffer was flushed
    /// after the last write and takes these few bytes whole before anything is awaited, and whatever is written next
    /// flushes them.
    async fn keep_alive(&mut self) -> Result<()> {
        self.last_sign = Instant::now();
        let Some(keep_alive) = &self.gate.keep_alive else { return Ok(()) };
        let text = Bytes::from_static(keep_alive.text);
        if self.hold && !mem::replace(&mut self.gate.lock().early, true) {
            let mut head = ResponseHeader::build(200, Some(4))?;
            head.insert_header(header::CONTENT_TYPE, keep_alive.content_type)?;
            head.insert_header(header::CACHE_CONTROL, "no-cache")?;
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            head.insert_header(super::reply::REQUEST_ID, &*keep_alive.request_id)?;
            for (name, value) in &keep_alive.headers {
                head.insert_header(name, value)?;
            }
            self.inner.write_response_header(Box::new(head)).await?;
        }
        self.inner.write_response_body(text, false).await
    }

    /// The client has left: goes on without it, for others or to the end of the answer.
    ///
    /// # Errors
    /// There is no reason to.
    fn go_on_without(&mut self, left: Box<Error>) -> Result<()> {
        if !self.lead.as_ref().is_some_and(Lead::is_followed) {
            let Some(reading) = self.gate.leave() else { return Err(left) };
            self.reading = Some(reading);
            self.inner.set_keepalive(None);
        }
        self.orphaned = Some(left);
        Ok(())
    }

    /// Whether there is still a reason to go on.
    fn is_wanted(&self) -> bool {
        let reading = |reading: &Reading| reading.left > 0 && Instant::now() < reading.until;
        self.lead.as_ref().is_some_and(Lead::is_followed) || self.reading.as_ref().is_some_and(reading)
    }

    /// Takes what nobody is given.
    fn swallow(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let ended = tasks.iter().any(HttpTask::is_end);
        for task in tasks {
            match task {
                HttpTask::Failed(error) => return Err(error),
                HttpTask::Body(Some(body), _) => {
                    if let Some(reading) = &mut self.reading {
                        reading.left = reading.left.saturating_sub(body.len());
                    }
                }
                _ => {}
            }
        }
        Ok(ended)
    }

    /// Writes to the client, and tells the others.
    async fn write(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        let Some(lead) = &self.lead else {
            if self.orphaned.is_some() {
                return self.swallow(tasks);
            }
            let ended = tasks.iter().any(HttpTask::is_end);
            let failed = tasks.iter().any(|task| matches!(task, HttpTask::Failed(_)));
            return match self.inner.response_duplex_vec(tasks).await {
                Err(left) if !failed => self.go_on_without(left).map(|()| ended),
                written => written,
            };
        };
        lead.tell(&tasks);
        let ended = tasks.iter().any(HttpTask::is_end);
        let failed = tasks.iter().position(|task| matches!(task, HttpTask::Failed(_)));
        if self.orphaned.is_none() {
            return match self.inner.response_duplex_vec(tasks).await {
                Err(left) if failed.is_none() && lead.is_followed() => {
                    self.orphaned = Some(left);
                    Ok(ended)
                }
                written => written,
            };
        }
        match failed.map(|at| tasks.swap_remove(at)) {
            Some(HttpTask::Failed(error)) => Err(error),
            _ => Ok(ended),
        }
    }

    /// Writes more of an answer that has begun, of the attempt that began it or of another.
    async fn go_on(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        if self.going_on {
            // The caller has had a head.
            tasks.retain(|task| !matches!(task, HttpTask::Header(..)));
            self.going_on = !tasks.iter().any(|task| match task {
                HttpTask::Body(body, _) => body.as_ref().is_some_and(|body| !body.is_empty()),
                _ => false,
            });
        }
        let failed = tasks.iter().position(|task| matches!(task, HttpTask::Failed(_)));
        let cut = self.gate.cut.swap(false, Relaxed);
        // Those who follow are to hear of a failure; a call that is followed is not gone on with.
        if !cut && (failed.is_none() || self.lead.is_some()) {
            if self.going_on && !tasks.iter().any(HttpTask::is_end) {
                return Ok(false);
            }
            self.last_write = Instant::now();
            return self.write(tasks).await;
        }
        let error = match failed.and_then(|at| tasks.drain(at..).next()) {
            Some(HttpTask::Failed(error)) => error,
            _ => Error::explain(BROKEN_OFF, "the answer broke off"),
        };
        // What came before the end is the caller's; the end is not.
        let open = tasks.into_iter().filter_map(|task| match task {
            HttpTask::Body(body, _) => Some(HttpTask::Body(Some(body.filter(|body| !body.is_empty())?), false)),
            _ => None,
        });
        let open: Vec<_> = open.collect();
        if !open.is_empty() {
            self.last_write = Instant::now();
            self.write(open).await?;
        }
        Err(error)
    }

    /// Lets the held head go, with what has become known since: the length too if the whole body is there, so that head
    /// and body leave as one write instead of three.
    fn release(&mut self, mut tasks: Vec<HttpTask>) -> Vec<HttpTask> {
        self.hold = false;
        let length = whole_length(&tasks);
        if let Some(length) = length {
            // One write, which a slow line may take its time for.
            let idle = self.gate.lock().idle;
            let taken = Duration::from_millis(u64::try_from(length / SLOWEST).unwrap_or(u64::MAX));
            self.inner.set_write_timeout(Some(idle.saturating_add(taken)));
        }
        if let Some(head) = self.held.take() {
            tasks.insert(0, head);
        }
        let mut state = self.gate.lock();
        // Whoever has content first answers.
        state.race = None;
        self.gate.racing.store(false, Relaxed);
        if state.close {
            self.inner.set_keepalive(None);
        }
        if mem::take(&mut state.early) {
            tasks.retain(|task| !matches!(task, HttpTask::Header(..)));
        }
        if let Some(HttpTask::Header(head, _)) = tasks.iter_mut().find(|task| matches!(task, HttpTask::Header(..))) {
            if let Some(replacement) = state.replacement.take() {
                *head = replacement;
            }
            if let Some(length) = length
                && head.headers.contains_key(header::TRANSFER_ENCODING)
            {
                head.remove_header(&header::TRANSFER_ENCODING);
                let _ = head.insert_header(header::CONTENT_LENGTH, length);
            }
            for (name, value) in state.late.drain(..) {
                // Fails only for what is no header at all, and these were made as headers.
                let _ = head.insert_header(name, value);
            }
        }
        tasks
    }
}

/// Bytes of the body, if all of it is in these tasks.
fn whole_length(tasks: &[HttpTask]) -> Option<usize> {
    let (mut length, mut ended) = (0, false);
    for task in tasks {
        match task {
            HttpTask::Body(body, end) => {
                length += body.as_ref().map_or(0, Bytes::len);
                ended |= end;
            }
            HttpTask::Done => ended = true,
            HttpTask::Header(..) => {}
            HttpTask::UpgradedBody(..) | HttpTask::Trailer(_) | HttpTask::Failed(_) => return None,
        }
    }
    ended.then_some(length)
}

#[async_trait]
impl CustomSession for Downstream {
    // What steers the loop.

    fn is_body_done(&mut self) -> bool {
        self.gate.more.load(Relaxed) == 0
    }

    fn is_body_empty(&mut self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        Some(PIECE)
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn enable_retry_buffering(&mut self) {
        // Called at the start of every attempt.
        self.held = None;
        self.going_on = !self.hold;
        self.gate.cut.store(false, Relaxed);
        let idle = self.gate.lock().idle;
        self.inner.set_write_timeout(Some(idle));
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let more = self.gate.more.load(Relaxed);
        if !no_body_expected && more > 0 {
            self.gate.more.store(more - 1, Relaxed);
            return Ok(Some(PIECE));
        }
        loop {
            let (mut by, what) = self.patience();
            let sign = self.silent_until().filter(|sign| *sign < by && self.orphaned.is_none());
            by = sign.unwrap_or(by);
            if self.orphaned.is_some() {
                if !self.is_wanted()
                    && let Some(left) = self.orphaned.take()
                {
                    return Err(left);
                }
                by = by.min(Instant::now() + ORPHANED);
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(by)));
            // Only an earlier end needs the timer at once; a later one is found when the timer fires.
            if timer.deadline() > by || timer.is_elapsed() {
                timer.as_mut().reset(by);
            }
            let woken = {
                let orphaned = self.orphaned.is_some();
                let (cut, gate, mut client) = (&mut self.cut, &self.gate, pin!(self.inner.read_body_or_idle(true)));
                poll_fn(|context| {
                    if !orphaned && let Poll::Ready(read) = client.as_mut().poll(context) {
                        return Poll::Ready(Woken::Client(read));
                    }
                    if cut.as_mut().is_none_or(|cut| cut.as_mut().poll(context).is_ready()) {
                        *cut = None;
                        return Poll::Ready(Woken::Cut);
                    }
                    if gate.is_racing()
                        && let Poll::Ready(over) = gate.poll_race(context)
                    {
                        return Poll::Ready(Woken::Race(over));
                    }
                    timer.as_mut().poll(context).map(|()| Woken::Clock)
                })
                .await
            };
            match woken {
                Woken::Client(Err(left)) => {
                    self.go_on_without(left)?;
                    continue;
                }
                Woken::Client(read) => return read,
                Woken::Cut => return Error::e_explain(DRAINING, "the process stops"),
                Woken::Race(Some(what)) => {
                    // Of an answer that nobody gets.
                    self.held = None;
                    return Error::e_explain(what, "another attempt is over");
                }
                Woken::Race(None) => continue,
                Woken::Clock => {}
            }
            match sign {
                _ if Instant::now() < by || self.patience().0 > Instant::now() && self.orphaned.is_some() => {}
                Some(_) => self.keep_alive().await?,
                None => return Error::e_explain(what, "patience is over"),
            }
        }
    }

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        if let Some(task) = tasks.iter_mut().find(|task| matches!(task, HttpTask::Failed(_)))
            && self.gate.lock().whole
        {
            *task = HttpTask::Done;
        }
        if !self.hold {
            return self.go_on(tasks).await;
        }
        if self.gate.cut.swap(false, Relaxed) {
            // Nothing of it has left: it can as well be begun anew.
            return Error::e_explain(BROKEN_OFF, "the answer broke off");
        }
        // Informational heads are between the provider and us, however many there are.
        tasks.retain(|task| !matches!(task, HttpTask::Header(head, false) if head.status.is_informational()));
        if let Some(at) = tasks.iter().position(|task| matches!(task, HttpTask::Failed(_)))
            && let HttpTask::Failed(error) = tasks.swap_remove(at)
        {
            return Err(error);
        }
        if tasks.iter().any(|task| matches!(task, HttpTask::Header(_, true))) {
            return Error::e_explain(EMPTY_ANSWER, "the answer has no body");
        }
        let ready = tasks.iter().any(|task| match task {
            HttpTask::Body(body, end) => *end || body.as_ref().is_some_and(|body| !body.is_empty()),
            HttpTask::Header(..) => false,
            _ => true,
        });
        if !ready {
            let head = tasks.into_iter().find(|task| matches!(task, HttpTask::Header(..)));
            self.held = head.or(self.held.take());
            return Ok(false);
        }
        let tasks = self.release(tasks);
        self.last_write = Instant::now();
        self.write(tasks).await
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    // What is handed on.

    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.hold = false;
        self.inner.write_response_header(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        self.hold = false;
        self.inner.write_response_header_ref(head).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.last_write = Instant::now();
        if let Some(lead) = &self.lead {
            lead.tell(&[HttpTask::Body(Some(data.clone()), end)]);
        }
        self.inner.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_response_trailers(trailers).await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.inner.shutdown().await;
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish_body().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }
}
