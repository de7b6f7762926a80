//! Pingora's proxy, but that connections which wait for a request are not closed in the instant in which the process is told
//! to leave.
//!
//! Pingora stops accepting and closes them at once. A request that is on its way then meets a closed connection, and so does
//! one on a connection that was accepted just before and has sent nothing yet. Between the two there is a moment here, in
//! which such requests are served and their connections closed in order (`Connection: close`).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;

use super::Gateway;

/// How long connections wait for a request when no new ones are taken. Those that are in use move elsewhere meanwhile: one
/// that is closed under a request was idle for this long.
pub const LINGER: Duration = Duration::from_secs(3);

pub struct Lingering {
    proxy: Arc<HttpProxy<Gateway>>,
}

impl Lingering {
    pub fn new(conf: &Arc<ServerConf>, gateway: Gateway) -> Lingering {
        Lingering { proxy: Arc::new(http_proxy(conf, gateway)) }
    }
}

#[async_trait]
impl HttpServerApp for Lingering {
    // Written out: another future around Pingora's would be another allocation for each request.
    fn process_new_http<'own, 'watch, 'call>(
        self: &'own Arc<Self>,
        session: ServerSession,
        shutdown: &'watch ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'call>>
    where
        'own: 'call,
        'watch: 'call,
        Self: 'call,
    {
        self.proxy.process_new_http(session, shutdown)
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        tokio::time::sleep(LINGER).await;
        self.proxy.http_cleanup().await;
    }
}
