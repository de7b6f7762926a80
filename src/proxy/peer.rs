//! Where an attempt connects to: names resolved off Pingora's own path, pools of equal nodes, TLS and timeouts.
//!
//! Pingora's `HttpPeer::new` resolves names blocking and panics when that fails, so it is only ever given a socket
//! address. Addresses are resolved here, kept, and refreshed by upkeep; the last good ones stay when a resolver fails.
//! Several equal nodes are a `pingora-load-balancing` pool with its health checks; it takes addresses only, so our
//! discovery does the resolving, and the node rides along in the backend's extensions.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::HeaderValue;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::{HealthCheck as _, HttpHealthCheck};
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, Extensions, LoadBalancer};
use pingora::protocols::ALPN;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora::{Error, ErrorType, Result};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::provider::{HttpVersions, Node, Provider, Timeouts};

/// Streams of one HTTP/2 connection to a provider (Pingora's own default is 1: no multiplexing).
const H2_STREAMS: usize = 100;
/// How long an unused connection to a provider is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// One write to a provider; a body of 50 MiB is one write.
const WRITE: Duration = Duration::from_secs(120);

/// Connections that were asked for beside the pool.
static FRESH: AtomicU64 = AtomicU64::new(1);

/// The addresses of one provider.
pub struct Upstream {
    provider: Arc<Provider>,
    places: Vec<Arc<Place>>,
    /// Several equal nodes, chosen among by weight and health.
    pool: Option<LoadBalancer<RoundRobin>>,
    ca: Option<Arc<CaType>>,
    group: u64,
}

/// A chosen node.
pub struct Peer {
    pub peer: Box<HttpPeer>,
    pub place: Arc<Place>,
}

/// A node and its addresses.
pub struct Place {
    pub node: Node,
    /// Value of the `host` header; the configuration has checked that there is one.
    pub host: Option<HeaderValue>,
    resolved: ArcSwap<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Upstream {
    pub fn new(provider: Arc<Provider>) -> Upstream {
        let places: Vec<_> = provider.nodes.iter().map(|node| Arc::new(Place::new(node.clone()))).collect();
        let pool = (places.len() > 1 || provider.health_check.is_some()).then(|| pool(&provider, &places));
        let ca = provider.tls.ca.as_ref().and_then(|pem| authorities(pem));
        let group = group(&provider);
        Upstream { provider, places, pool, ca, group }
    }

    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// The first of the nodes, to name where none can be reached.
    pub fn first(&self) -> Option<&Arc<Place>> {
        self.places.first()
    }

    /// The peer for one attempt; `fresh`: on a connection of its own, that no other call has used or will use.
    ///
    /// # Errors
    /// No node has an address: its name never resolved.
    pub async fn peer(&self, timeouts: &Timeouts, fresh: bool) -> Result<Peer> {
        let (address, place) = self.choose().await?;
        let node = &place.node;
        let sni = if node.tls {
            self.provider.tls.server_name.clone().unwrap_or_else(|| node.host.clone())
        } else {
            String::new()
        };
        let mut peer = Box::new(HttpPeer::new(address, node.tls, sni));
        // Pingora has no way to be told to leave its pool alone, but nothing is kept under a key of its own.
        let turn = if fresh { FRESH.fetch_add(1, Relaxed).max(1) } else { 0 };
        peer.group_key = self.group.wrapping_add(turn);
        let options = &mut peer.options;
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        // No time to read: the stand-in's clocks (first content, idle, deadline) run as long as anything is read.
        options.write_timeout = Some(WRITE);
        options.idle_timeout = Some(if fresh { Duration::ZERO } else { POOL_IDLE });
        options.max_h2_streams = H2_STREAMS;
        options.verify_cert = self.provider.tls.verify;
        options.verify_hostname = self.provider.tls.verify;
        options.ca = self.ca.clone();
        options.alpn = match (self.provider.http, node.tls) {
            (HttpVersions::Http1, _) | (HttpVersions::Auto, false) => ALPN::H1,
            (HttpVersions::Auto, true) => ALPN::H2H1,
            (HttpVersions::Http2, _) => ALPN::H2,
        };
        Ok(Peer { peer, place })
    }

    /// Resolves again, and checks the health of pools that have checks. Called now and then by upkeep.
    pub async fn refresh(&self) {
        for place in &self.places {
            // A resolver that fails leaves the last good addresses in place.
            let _ = place.resolve().await;
        }
        if let Some(pool) = &self.pool {
            let _ = pool.update().await;
        }
    }

    /// Runs the pool's health checks once, where it has any; their interval.
    pub async fn check(&self) {
        if let (Some(pool), Some(_)) = (&self.pool, &self.provider.health_check) {
            pool.backends().run_health_check(true).await;
        }
    }

    pub fn check_interval(&self) -> Option<Duration> {
        self.provider.health_check.as_ref().map(|check| check.interval)
    }

    async fn choose(&self) -> Result<(SocketAddr, Arc<Place>)> {
        if let Some(pool) = &self.pool {
            if pool.backends().get_backend().is_empty() {
                pool.update().await?;
            }
            // When every node is ill, an ill one is still better than a refusal of ours.
            let backend = pool.select(b"", 256).or_else(|| pool.select_with(b"", 256, |_, _| true));
            if let Some(backend) = backend {
                let place = backend.ext.get::<Arc<Place>>().cloned();
                if let (Some(place), Some(address)) = (place, backend.addr.as_inet()) {
                    return Ok((*address, place));
                }
            }
        }
        match self.places.first() {
            Some(place) => Ok((place.address().await?, place.clone())),
            None => Error::e_explain(ErrorType::InternalError, "a provider without nodes"),
        }
    }
}

impl Place {
    fn new(node: Node) -> Place {
        let literal = node.host.parse::<IpAddr>().ok().map(|ip| vec![SocketAddr::new(ip, node.port)]);
        Place {
            host: HeaderValue::from_str(&node.authority).ok(),
            node,
            resolved: ArcSwap::from_pointee(literal.unwrap_or_default()),
            turn: AtomicUsize::new(0),
        }
    }

    /// The next address in turn, so that a try after a failed one goes to another address of the same name.
    async fn address(&self) -> Result<SocketAddr> {
        if self.resolved.load().is_empty() {
            self.resolve().await?;
        }
        let addresses = self.resolved.load();
        let turn = self.turn.fetch_add(1, Relaxed);
        addresses
            .get(turn.checked_rem(addresses.len()).unwrap_or(0))
            .copied()
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "the provider's name has no address"))
    }

    async fn resolve(&self) -> Result<()> {
        if self.node.host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let found = tokio::time::timeout(
            Duration::from_secs(5),
            tokio::net::lookup_host((self.node.host.as_str(), self.node.port)),
        )
        .await;
        match found {
            Ok(Ok(addresses)) => {
                // IPv4 first: a host without IPv6 routes would lose a try on each IPv6 address.
                let mut addresses: Vec<_> = addresses.collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                addresses.dedup();
                if !addresses.is_empty() {
                    self.resolved.store(Arc::new(addresses));
                }
                Ok(())
            }
            Ok(Err(error)) => Error::e_because(
                ErrorType::ConnectNoRoute,
                format!("the name {} does not resolve", self.node.host),
                error,
            ),
            Err(_) => Error::e_explain(
                ErrorType::ConnectTimedout,
                format!("the name {} did not resolve in time", self.node.host),
            ),
        }
    }
}

/// Finds the backends of a pool by resolving its nodes.
struct Discovery(Vec<Arc<Place>>);

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for place in &self.0 {
            if place.resolved.load().is_empty() {
                let _ = place.resolve().await;
            }
            for address in place.resolved.load().iter() {
                let mut ext = Extensions::new();
                ext.insert(place.clone());
                backends.insert(Backend {
                    addr: pingora::protocols::l4::socket::SocketAddr::Inet(*address),
                    weight: usize::try_from(place.node.weight).unwrap_or(1).max(1),
                    ext,
                });
            }
        }
        Ok((backends, HashMap::new()))
    }
}

fn pool(provider: &Provider, places: &[Arc<Place>]) -> LoadBalancer<RoundRobin> {
    let mut pool = LoadBalancer::from_backends(Backends::new(Box::new(Discovery(places.to_vec()))));
    if let (Some(rule), Some(first)) = (&provider.health_check, places.first()) {
        // One check template for all nodes: they are equal, so the first one's host stands for all.
        let mut check = HttpHealthCheck::new(&first.node.authority, first.node.tls);
        check.consecutive_failure = rule.unhealthy_after as usize;
        check.consecutive_success = rule.healthy_after as usize;
        check.peer_template.options.connection_timeout = Some(rule.timeout);
        check.peer_template.options.read_timeout = Some(rule.timeout);
        if let Ok(uri) = rule.path.parse() {
            check.req.set_uri(uri);
        }
        debug_assert!(check.health_threshold(true) > 0);
        pool.set_health_check(Box::new(check));
    }
    pool
}

/// Connections are shared only among providers that are the same in all that matters to a connection: Pingora's own
/// pool key leaves out the authority's certificate and ALPN.
fn group(provider: &Provider) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    provider.id.hash(&mut hasher);
    provider.tls.ca.hash(&mut hasher);
    matches!(provider.http, HttpVersions::Http1).hash(&mut hasher);
    matches!(provider.http, HttpVersions::Http2).hash(&mut hasher);
    hasher.finish()
}

/// The certificates of a PEM file. The configuration has checked that there are some.
fn authorities(pem: &[u8]) -> Option<Arc<CaType>> {
    let found: Vec<WrappedX509> = CertificateDer::pem_slice_iter(pem)
        .filter_map(std::result::Result::ok)
        .filter(|der| x509_parser::parse_x509_certificate(der).is_ok())
        .map(|der| WrappedX509::new(der.to_vec(), parse_x509))
        .collect();
    (!found.is_empty()).then(|| Arc::from(found))
}
