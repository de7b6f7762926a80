//! Floor 9: the operator's port: metrics, health, the state of targets, what became of calls. Answers are whole and small.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Response, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

/// What this port can show; filled by whoever runs the data plane.
pub trait View: Send + Sync + 'static {
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// The targets' state as JSON.
    fn targets(&self) -> Vec<u8>;
    /// Why a call went where it went, as JSON; nothing for one that is not kept.
    fn request(&self, id: &str) -> Option<Vec<u8>>;
    /// `Err` says why this process should get no traffic.
    fn ready(&self) -> Result<(), &'static str>;
}

const UNKNOWN: &[u8] = br#"{"error":"no such request is kept; admin: { explain: {} } keeps the last ones"}"#;
const NOTHING: &[u8] =
    br#"{"error":"there is nothing here; try /metrics, /health/ready, /admin/targets or /admin/requests/ID"}"#;

pub struct Admin {
    view: Arc<dyn View>,
}

impl Admin {
    pub fn new(view: Arc<dyn View>) -> Admin {
        Admin { view }
    }

    fn answer(&self, method: &str, path: &str) -> (u16, &'static str, Vec<u8>) {
        const JSON: &str = "application/json";
        if method != "GET" && method != "HEAD" {
            return (405, JSON, br#"{"error":"this port takes GET only"}"#.to_vec());
        }
        match path {
            // Content type of the text format, version 0.0.4 (Prometheus, "Exposition formats", seen 2026-11-21).
            "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", self.view.metrics().into_bytes()),
            "/admin/targets" => (200, JSON, self.view.targets()),
            "/health/live" => (200, JSON, br#"{"status":"ok"}"#.to_vec()),
            "/health/ready" => match self.view.ready() {
                Ok(()) => (200, JSON, br#"{"status":"ok"}"#.to_vec()),
                Err(why) => (503, JSON, format!(r#"{{"status":"{why}"}}"#).into_bytes()),
            },
            _ => match path.strip_prefix("/admin/requests/").map(|id| self.view.request(id)) {
                Some(Some(told)) => (200, JSON, told),
                Some(None) => (404, JSON, UNKNOWN.to_vec()),
                None => (404, JSON, NOTHING.to_vec()),
            },
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let (status, kind, body) = self.answer(head.method.as_str(), head.uri.path());
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let length = response.body().len();
        response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CONTENT_LENGTH, http::HeaderValue::from(length));
        response
    }
}
