//! Reads a request's body whole, within bounds of size, time and memory held by all calls together.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header;
use pingora::proxy::Session;

use crate::config::snapshot::Limits;
use crate::exchange::Refusal;

/// Bytes of request bodies that all calls hold at this moment.
#[derive(Debug, Default)]
pub struct Buffered(AtomicUsize);

impl Buffered {
    pub fn bytes(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A call's share of [`Buffered`], given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    all: Arc<Buffered>,
    bytes: usize,
}

impl Share {
    fn new(all: Arc<Buffered>) -> Share {
        Share { all, bytes: 0 }
    }

    /// A share of so many bytes.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn of(all: &Arc<Buffered>, bytes: usize, most: usize) -> Result<Share, Refusal> {
        let mut share = Share::new(all.clone());
        share.grow(bytes, most)?;
        Ok(share)
    }

    fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Refusal> {
        let before = self.all.0.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > most {
            return Err(Refusal::Overloaded { retry_after: Duration::from_secs(1) });
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// Reads the body. A client that waits for `100 Continue` is told to go on.
///
/// # Errors
/// Too large (told before reading where the length is stated), too slow, or cut off; `Err(None)`: the client is gone.
pub async fn body(
    session: &mut Session,
    limits: &Limits,
    buffered: &Arc<Buffered>,
) -> Result<(Bytes, Share), Option<Refusal>> {
    let stated = session
        .get_header(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if stated.is_some_and(|length| length > limits.body_bytes) {
        return Err(Some(Refusal::TooLarge { limit: limits.body_bytes }));
    }
    let expects =
        session.get_header(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects && session.write_continue_response().await.is_err() {
        return Err(None);
    }
    let mut share = Share::new(buffered.clone());
    let body = {
        let mut reading = pin!(read(session, limits, stated, &mut share));
        // Most bodies have come with their heads: a clock is set only for those that are waited for.
        match reading.as_mut().now_or_never() {
            Some(body) => body,
            None => tokio::time::timeout(limits.body_time, reading).await.unwrap_or(Err(Some(Refusal::BodyTimeout))),
        }
    };
    body.map(|body| (body, share))
}

async fn read(
    session: &mut Session,
    limits: &Limits,
    stated: Option<usize>,
    share: &mut Share,
) -> Result<Bytes, Option<Refusal>> {
    let mut first: Option<Bytes> = None;
    let mut whole: Option<BytesMut> = None;
    loop {
        let chunk = match session.downstream_session.read_request_body().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // A body that ends before its stated length, or a client that went away: nobody is there to be told much.
            Err(_) => return Err(Some(Refusal::BodyIncomplete)),
        };
        let held = whole.as_ref().map_or(first.as_ref().map_or(0, Bytes::len), BytesMut::len);
        if held + chunk.len() > limits.body_bytes {
            return Err(Some(Refusal::TooLarge { limit: limits.body_bytes }));
        }
        share.grow(chunk.len(), limits.buffered_bytes).map_err(Some)?;
        // A body that comes in one read, as most do, is never copied.
        match (first.take(), &mut whole) {
            (None, None) => first = Some(chunk),
            (Some(begun), None) => {
                // What the client states is reserved at once, but never more than a megabyte on its word alone.
                let room = stated.unwrap_or(0).min(1 << 20).max(begun.len() + chunk.len());
                let mut buffer = BytesMut::with_capacity(room);
                buffer.extend_from_slice(&begun);
                buffer.extend_from_slice(&chunk);
                whole = Some(buffer);
            }
            (_, Some(buffer)) => buffer.extend_from_slice(&chunk),
        }
    }
    Ok(whole.map(BytesMut::freeze).or(first).unwrap_or_default())
}
