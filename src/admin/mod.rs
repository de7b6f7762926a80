//! Floor 9: the operator's port: metrics, health, the state of targets, what became of calls; and under `/admin/v1` who
//! may call, and who may say so.
//!
//! A request goes one way, whatever it asks for: the table says what it is and who may ([`table`]), the gate who asks
//! ([`gate`]), then its body is read, within bounds, and it is done. Answers are whole and small.

pub mod answer;
mod audit;
mod desk;
mod entities;
mod gate;
mod keys;
mod money;
mod openapi;
pub mod secret;
mod status;
pub mod table;
mod tokens;
mod usage;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use answer::{Answer, HTML, JSON, Refused};
use desk::{Asked, Desk};
use gate::{Caller, Gate, Shown};
use table::{Access, Door, Route, Run};

use crate::config::directory::{Administrator, Directory};
use crate::exchange::framing;
use crate::policy::Moment;
use crate::policy::role::{Denied, Reach, Rights, Role};
use crate::store::directory::Follower;
use crate::store::ledger::Ledger;
use crate::store::statement;

/// What this port can show; filled by whoever runs the data plane.
#[async_trait]
pub trait View: Send + Sync + 'static {
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// The targets' state as JSON.
    fn targets(&self) -> Vec<u8>;
    /// Why a call went where it went, as JSON; nothing for one that is not kept.
    fn request(&self, id: &str) -> Option<Vec<u8>>;
    /// `Err` says why this process should get no traffic.
    fn ready(&self) -> Result<(), &'static str>;
    fn now(&self) -> Moment;
    /// A new id for a request.
    fn new_id(&self) -> String;
    /// Who administers with a token that is none of ours.
    async fn administrator(&self, credential: &str) -> Result<Administrator, Denied>;
}

/// Nothing that is shown here brings anything along (W3C Content Security Policy level 3).
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// A statement brings its own looks, and no others.
static PAGE_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = BASE64_STANDARD.encode(Sha256::digest(statement::style()));
    let policy = format!("{POLICY}; style-src 'sha256-{digest}'");
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY))
});
/// Largest body.
const BODY: usize = 1 << 20;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Most requests at once that may wait for the disk.
const AT_ONCE: usize = 16;

pub struct Admin {
    desk: Arc<Desk>,
    gate: Gate,
    disk: Arc<Semaphore>,
}

impl Admin {
    /// `given`: digest of a token that is good as long as this process runs.
    pub fn new(
        view: Arc<dyn View>,
        directory: Arc<Directory>,
        follower: Arc<Follower>,
        ledger: Arc<Ledger>,
        listen: SocketAddr,
        given: Option<[u8; 32]>,
    ) -> Admin {
        let local = listen.ip().is_loopback();
        let gate = Gate::new(directory.clone(), given, local);
        let desk = Arc::new(Desk { view, directory, follower, ledger });
        Admin { desk, gate, disk: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    async fn answer(&self, session: &mut ServerSession, request_id: &str) -> Result<Answer, Refused> {
        let head = session.req_header();
        if let Some(h1) = session.as_http1()
            && let Some(what) = framing::wrong(&h1.get_headers_raw_bytes(), &head.headers, head.version)
        {
            session.set_keepalive(None);
            return Err(Refused::new(
                400,
                "bad_request",
                format!("this is no request that has one reading alone: {what}"),
            ));
        }
        let headers = head.headers.clone();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        let found = table::find(head.method.as_str(), &path);
        let now = self.desk.view.now();
        let caller = self.let_in(&found, &headers, now).await?;
        let (route, id) = found?;
        let body = if route.body.is_some() { body(session, &headers).await? } else { Bytes::new() };
        let (desk, run) = (self.desk.clone(), route.run);
        let (id, request_id) = (id.map(str::to_owned), request_id.to_owned());
        let work = move |run: fn(&Desk, &Asked<'_>) -> Result<Answer, Refused>| {
            let asked = Asked {
                route,
                id: id.as_deref(),
                query: &query,
                headers: &headers,
                body: &body,
                caller: &caller,
                request_id: &request_id,
                now,
            };
            run(&desk, &asked)
        };
        match run {
            Run::Now(run) => work(run),
            Run::Store(run) => {
                let Ok(_place) = self.disk.clone().acquire_owned().await else {
                    return Err(Refused::bug("a closed semaphore"));
                };
                let done = tokio::task::spawn_blocking(move || work(run)).await;
                done.unwrap_or_else(|_| Err(Refused::bug("a request that panicked")))
            }
        }
    }

    /// Who asks, where they may. Who shows no good token is not told what there is.
    async fn let_in(
        &self,
        found: &Result<(&'static Route, Option<&str>), Refused>,
        headers: &HeaderMap,
        now: Moment,
    ) -> Result<Caller, Refused> {
        let access = found.as_ref().map_or(Access::Least(Role::Viewer, Reach::Team), |(route, _)| route.access);
        let nobody = || Caller { id: String::new(), rights: Rights { role: Role::Viewer, team: None } };
        let (least, reach) = match access {
            Access::Public => return Ok(nobody()),
            Access::Open(door) if self.is_open(door) && headers.get(header::AUTHORIZATION).is_none() => {
                if self.gate.answers_to(headers) {
                    return Ok(nobody());
                }
                let message =
                    "without a token this port answers to addresses and to localhost alone: `Host` is another name";
                return Err(Refused::new(421, "misdirected", message));
            }
            Access::Open(_) => (Role::Viewer, Reach::Whole),
            Access::Least(least, reach) => (least, reach),
        };
        let who = match self.gate.shown(headers, now.unix_ms / 1_000) {
            Ok(Shown::Ours(caller)) => Ok(caller),
            // Without a token nothing is guessed.
            Ok(Shown::Nothing) => match found {
                Err(nothing) => return Err(nothing.clone()),
                Ok(_) => return Err(Refused::unauthorized()),
            },
            Ok(Shown::Other(token)) => match self.desk.view.administrator(token).await {
                Ok(Administrator { id, rights, .. }) => Ok(Caller { id, rights }),
                Err(Denied::Nobody) => Err(Refused::unauthorized()),
                Err(Denied::NoRole) => Err(Refused::new(403, "forbidden", "the token gives no role here")),
                Err(Denied::Unknown) => {
                    let message = "its issuer does not say now whether the token is good: try again";
                    Err(Refused { retry_after: Some(2), ..Refused::new(503, "issuer_unavailable", message) })
                }
            },
            Err(refused) => Err(refused),
        };
        match who {
            Ok(caller) if caller.rights.may(least, reach) => Ok(caller),
            Ok(_) => Err(Refused::forbidden()),
            Err(refused) => {
                self.gate.slow(now.unix_ms).await?;
                Err(refused)
            }
        }
    }

    fn is_open(&self, door: Door) -> bool {
        let doors = self.desk.directory.snapshot().doors;
        match door {
            Door::Metrics => doors.metrics,
            Door::Targets => doors.targets,
            Door::Requests => doors.requests,
        }
    }
}

/// The body, whole.
async fn body(session: &mut ServerSession, headers: &HeaderMap) -> Result<Bytes, Refused> {
    let mut whole = Vec::new();
    let read = async {
        loop {
            match session.read_request_body().await {
                Ok(Some(part)) if whole.len() + part.len() > BODY => {
                    return Err(Refused::new(413, "too_large", "a body has 1 MiB at most"));
                }
                Ok(Some(part)) => whole.extend_from_slice(&part),
                Ok(None) => return Ok(()),
                Err(_) => return Err(Refused::new(400, "bad_request", "the body is not whole")),
            }
        }
    };
    let late = || Refused::new(408, "timeout", "the body did not come in time");
    tokio::time::timeout(BODY_TIME, read).await.map_err(|_| late())??;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let json = kind.eq_ignore_ascii_case(JSON) || kind.eq_ignore_ascii_case("application/merge-patch+json");
    if !json && !whole.is_empty() {
        return Err(Refused::new(415, "unsupported_media_type", "write JSON, and `Content-Type: application/json`"));
    }
    Ok(whole.into())
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request_id = self.desk.view.new_id();
        let done = self.answer(session, &request_id).await;
        if !session.is_body_done() {
            // Nobody reads the rest: the next request would be looked for in it.
            session.set_keepalive(None);
        }
        let page = done.as_ref().is_ok_and(|answer| answer.content_type == HTML);
        let mut response = match done {
            Ok(answer) => {
                let mut response = Response::new(answer.body);
                *response.status_mut() =
                    http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
                let headers = response.headers_mut();
                if answer.status != 204 {
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
                }
                if let Some(tag) = answer.version.and_then(|version| format!("\"{version}\"").parse().ok()) {
                    headers.insert(header::ETAG, tag);
                }
                response
            }
            Err(refused) => refusal(&refused, &request_id),
        };
        let length = response.body().len();
        let head_only = session.req_header().method == http::Method::HEAD;
        let bare = response.status() == http::StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if !bare {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Nothing here is to be kept, framed or guessed at by a browser.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let policy = if page { PAGE_POLICY.clone() } else { HeaderValue::from_static(POLICY) };
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert("x-portolan-request-id", id);
        }
        if head_only {
            response.body_mut().clear();
        }
        response
    }
}

fn refusal(refused: &Refused, request_id: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(refused.body(request_id));
    *response.status_mut() = refused.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    if refused.status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = refused.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refused.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(header::ALLOW, allow);
    }
    response
}
