//! Floor 9: the data plane's glue to Pingora, its hooks in the order they fire, a few lines each.
//!
//! What a hook decides it asks the exchange; what it sends or reads it does here. The client's session is replaced by
//! [`downstream`]'s stand-in for the length of the proxy loop.

mod admission;
pub mod alerts;
pub mod bearers;
pub mod budgets;
mod context;
mod cork;
mod dedup;
mod dispatch;
mod downstream;
mod explaining;
mod fetch;
mod flight;
mod gate;
mod heads;
pub mod heartbeat;
mod hedge;
mod intake;
pub mod keeping;
mod limiting;
pub mod lingering;
mod peer;
mod relaying;
pub mod reply;
mod responses;
mod settling;
mod shadow;
mod side;
mod state;
pub mod tokens;
pub mod upkeep;
mod waiting;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::protocols::tls::ALPN;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

pub use context::Ctx;
pub use state::{Served, Shared};

use self::cork::Cork;
use crate::exchange::Refusal;
use crate::telemetry::access_log;

/// The data plane.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    pub fn new(shared: Arc<Shared>) -> Gateway {
        Gateway { shared }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it from future to future.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(self.shared.clone()))
    }

    /// None: Pingora would add one for compression, which an answer passes through untouched but not for nothing.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        admission::request(session, ctx).await
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Box<HttpPeer>> {
        dispatch::peer(session, ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        dispatch::head(session, head, ctx)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        peer: &HttpPeer,
        socket: RawFd,
        _: Option<&Digest>,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        // A connection of HTTP/2 may have others' frames to send.
        ctx.cork = if peer.options.alpn == ALPN::H1 { Cork::put(socket) } else { None };
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        let cork = if end { ctx.cork.take() } else { None };
        let Some(current) = &mut ctx.current else { return Ok(()) };
        if let Some(piece) = current.attempt.body.get(current.written) {
            current.written += 1;
            *body = Some(match cork {
                Some(cork) => cork.until_written(piece.clone()),
                None => piece.clone(),
            });
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        relaying::upstream_head(head, ctx)
    }

    async fn response_filter(&self, _: &mut Session, head: &mut ResponseHeader, ctx: &mut Box<Ctx>) -> Result<()> {
        relaying::head(head, ctx)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        relaying::chunk(body, end, ctx)?;
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        _: &mut HeaderMap,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Bytes>> {
        // Trailers end the body without a last chunk: what is still owed goes out in their place.
        let mut body = None;
        relaying::chunk(&mut body, true, ctx)?;
        Ok(body)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Box<Ctx>, error: Box<Error>) -> Box<Error> {
        dispatch::connect_failed(ctx, error)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<Ctx>,
        reused: bool,
    ) -> Box<Error> {
        dispatch::attempt_failed(session, ctx, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Box<Ctx>) -> FailToProxy {
        let error_code = dispatch::call_failed(session, error, ctx).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Box<Ctx>, _: &Error) -> bool {
        // The attempt's and the call's own events tell it, without the peer's address or a caller's text.
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Box<Ctx>, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<Ctx>) {
        if let Some(gate) = ctx.gate.take() {
            ctx.gone |= gate.is_left();
            downstream::restore(session, &gate);
        }
        let gone = ctx.gone || error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        relaying::finish(ctx, gone);
        limiting::over(ctx);
        shadow::end(ctx);
        let status = session.response_written().map_or(0, |head| head.status.as_u16());
        let finished = dispatch::finished(session, ctx, status, gone);
        access_log::write(&finished, &ctx.shared.metrics);
        if ctx.explanation.is_some() {
            let outcome = finished.outcome;
            explaining::keep(ctx, status, outcome);
        }
    }
}

/// An error of ours for Pingora's loop; the refusal beside it in the context is what the caller is told.
fn stop(ctx: &mut Ctx, refusal: Refusal) -> Box<Error> {
    ctx.refusal.get_or_insert(refusal);
    let mut error = Error::explain(ErrorType::InternalError, "the call is refused");
    error.as_in();
    error.set_retry(false);
    error
}
