//! What the hooks tell the stand-in ([`super::downstream`]) while it runs, and what it tells them.
//!
//! The stand-in is Pingora's for the length of the proxy loop, and the hooks see it only as a session: they share this with
//! it. A lock is held for the length of a look, never across a wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::time::Instant;

use super::downstream::{HEDGED, OUT_OF_RACE};
use super::hedge::Race;
use super::side::Exchange;
use crate::config::snapshot::ReadOn;

/// What the hooks tell the stand-in, and what it hands back when it goes.
pub struct Gate {
    /// The attempt ends with what is written next, and the caller's stream does not.
    pub(super) cut: AtomicBool,
    pub(super) keep_alive: Option<KeepAlive>,
    /// Whether there is a `race`: looked at each time something is waited for.
    pub(super) racing: AtomicBool,
    /// Pieces of the attempt's body that Pingora is still to ask for.
    pub(super) more: AtomicUsize,
    /// The client has left.
    pub(super) left: AtomicBool,
    /// How far the answer is read on then, and those that are read on now.
    read_on: Option<(ReadOn, Arc<AtomicUsize>)>,
    state: Mutex<GateState>,
}

pub(super) struct GateState {
    pub(super) first_by: Instant,
    pub(super) idle: Duration,
    pub(super) total_by: Instant,
    pub(super) late: Vec<(&'static str, HeaderValue)>,
    pub(super) replacement: Option<Box<ResponseHeader>>,
    /// The caller has a head and signs of life, but no content.
    pub(super) early: bool,
    /// Another attempt that may have content first.
    pub(super) race: Option<Race>,
    /// Its answer, when it had.
    pub(super) won: Option<Box<Exchange>>,
    /// Nothing else is waited for.
    pub(super) race_only: bool,
    /// A provider is at work, and not only something waited for.
    pub(super) working: bool,
    /// The client's connection is not kept.
    pub(super) close: bool,
    /// The end of a stream was seen: all of it has been handed out.
    pub(super) whole: bool,
    pub(super) returned: Option<Box<ServerSession>>,
}

/// An answer that is read on for nobody.
pub(super) struct Reading {
    pub until: Instant,
    /// Bytes that may still come.
    pub left: usize,
    _slot: Slot,
}

struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How a streaming caller is told that the call still lives while the provider is silent.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    /// What is sent: nothing, in the meaning of the caller's dialect.
    pub text: &'static [u8],
    pub every: Duration,
    pub content_type: &'static str,
    pub request_id: Arc<str>,
    /// What else stands in the head that it may bring.
    pub headers: HeaderMap,
}

impl Gate {
    pub fn new(
        total_by: Instant,
        keep_alive: Option<KeepAlive>,
        read_on: Option<(ReadOn, Arc<AtomicUsize>)>,
    ) -> Arc<Gate> {
        Arc::new(Gate {
            cut: AtomicBool::new(false),
            keep_alive,
            racing: AtomicBool::new(false),
            more: AtomicUsize::new(0),
            left: AtomicBool::new(false),
            read_on,
            state: Mutex::new(GateState {
                first_by: total_by,
                idle: Duration::from_secs(60),
                total_by,
                late: Vec::new(),
                replacement: None,
                early: false,
                race: None,
                won: None,
                race_only: false,
                working: false,
                close: false,
                whole: false,
                returned: None,
            }),
        })
    }

    /// Sets the clocks of an attempt that begins.
    pub fn begin(&self, first_by: Instant, idle: Duration) {
        let mut state = self.lock();
        state.first_by = first_by;
        state.idle = idle;
        state.late.clear();
        state.replacement = None;
        state.race_only = false;
        state.whole = false;
        state.working = true;
    }

    /// The attempt's body is in so many pieces: Pingora asks for the first by itself.
    pub fn send(&self, pieces: usize) {
        self.more.store(pieces.saturating_sub(1), Relaxed);
    }

    /// No provider is at work: only the client and the call's own clocks are listened to.
    pub fn rest(&self) {
        const LONG: Duration = Duration::from_secs(86_400);
        self.begin(Instant::now() + LONG, LONG);
        self.lock().working = false;
    }

    /// The client has left, though its provider's answer may be read on.
    pub fn is_left(&self) -> bool {
        self.left.load(Relaxed)
    }

    /// The client has left: the bounds within which the answer is read on; nothing where it is not.
    pub(super) fn leave(&self) -> Option<Reading> {
        let (bounds, running) = self.read_on.as_ref()?;
        if !self.lock().working {
            return None;
        }
        let slot = Slot(running.clone());
        // The slot gives back what is added, whether it is had or not.
        if running.fetch_add(1, Relaxed) >= bounds.calls {
            return None;
        }
        self.left.store(true, Relaxed);
        Some(Reading { until: Instant::now() + bounds.time, left: bounds.bytes, _slot: slot })
    }

    /// Whether all of a stream has been handed out, its end too: a connection that is lost behind that loses nothing.
    pub fn set_whole(&self, whole: bool) {
        self.lock().whole = whole;
    }

    /// Ends the attempt, in an error of the kind [`BROKEN_OFF`], once what is on its way to the caller is written.
    pub fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// Headers to add to the held head when it is let go.
    pub fn add_headers(&self, headers: impl IntoIterator<Item = (&'static str, HeaderValue)>) {
        self.lock().late.extend(headers);
    }

    /// A head to send in place of the held one.
    pub fn replace_head(&self, head: Box<ResponseHeader>) {
        self.lock().replacement = Some(head);
    }

    /// Whether the caller has a head already, and yet no content: another attempt may still be made, but a failure can
    /// only be told in the stream.
    pub fn early(&self) -> bool {
        self.lock().early
    }

    /// From now on, another attempt may have content first.
    pub fn race(&self, race: Race) {
        self.lock().race = Some(race);
        self.racing.store(true, Relaxed);
    }

    pub fn is_racing(&self) -> bool {
        self.racing.load(Relaxed)
    }

    /// Whether another attempt is under way, or has content.
    pub fn is_hedged(&self) -> bool {
        let state = self.lock();
        state.won.is_some() || state.race.as_ref().is_some_and(Race::is_on)
    }

    /// The current attempt is over: what was not begun beside it is given up, and `keep` says whether what was is kept.
    /// Says whether something is still under way.
    pub fn keep_race(&self, keep: bool) -> bool {
        if !self.is_racing() && !keep {
            return false;
        }
        let mut state = self.lock();
        if state.race.as_ref().is_some_and(|race| !(keep && race.is_on())) {
            state.race = None;
            self.racing.store(false, Relaxed);
        }
        state.race.is_some() || (keep && state.won.is_some())
    }

    /// Nothing but the other attempt is waited for.
    pub fn wait_for_race(&self) {
        let mut state = self.lock();
        state.race_only = true;
        state.first_by = state.total_by;
    }

    /// The answer of another attempt, if it was quicker.
    pub fn won(&self) -> Option<Box<Exchange>> {
        self.lock().won.take()
    }

    /// The client's connection ends with the answer.
    pub fn close_after(&self) {
        self.lock().close = true;
    }

    /// The other attempt: whether it has content, or will never have any.
    pub(super) fn poll_race(&self, context: &mut Context<'_>) -> Poll<Option<ErrorType>> {
        let mut state = self.lock();
        let Some(race) = &mut state.race else { return Poll::Pending };
        let Poll::Ready(came) = race.poll(context) else { return Poll::Pending };
        state.race = None;
        self.racing.store(false, Relaxed);
        let (won, only) = (came.is_some(), state.race_only);
        state.won = came;
        Poll::Ready(match (won, only) {
            (true, _) => Some(HEDGED),
            (false, true) => Some(OUT_OF_RACE),
            (false, false) => None,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
