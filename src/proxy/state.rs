//! What all calls share: the snapshot that is swapped, and the live state that is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio::sync::watch;

use super::bearers::{Inquiry, KeyHolder};
use super::flight::Flights;
use super::heads;
use super::intake::Buffered;
use super::peer::Upstream;
use super::side::Sides;
use super::tokens::Holder;
use super::waiting::Lines;
use crate::config::Snapshot;
use crate::config::directory::Directory;
use crate::exchange::record::Id;
use crate::policy::{Live, Moment};
use crate::provider::Provider;
use crate::store::journal::Journal;
use crate::store::ledger::Ledger;
use crate::store::responses::Responses;
use crate::telemetry::{Explanations, Metrics};

/// One process's state.
pub struct Shared {
    served: ArcSwap<Served>,
    pub live: Arc<Live>,
    /// Keys that are stored, and whom they belong to.
    pub directory: Arc<Directory>,
    pub journal: Arc<Journal>,
    pub ledger: Arc<Ledger>,
    pub responses: Arc<Responses>,
    pub metrics: Arc<Metrics>,
    /// Why the last calls went where they went.
    pub explanations: Explanations,
    pub buffered: Arc<Buffered>,
    /// Calls that wait for room at providers.
    pub lines: Lines,
    clock: Clock,
    in_flight: Arc<AtomicUsize>,
    /// Answers that are read on for nobody.
    pub read_on: Arc<AtomicUsize>,
    /// Turns true when the patience with streams is over.
    pub cut: watch::Sender<bool>,
    /// Turns true when the process has been told to stop: no new calls.
    pub stopping: watch::Sender<bool>,
    /// Turns true when another process has taken the listeners over: this one ends its calls and leaves.
    pub succeeded: watch::Sender<bool>,
    /// The number that the last question for life brought.
    pub probed: AtomicU64,
    /// Calls that identical ones may join.
    pub flights: Arc<Flights>,
    /// Attempts beside the calls.
    pub sides: Sides,
    /// Questions about tokens.
    pub inquiry: Inquiry,
    /// Told each time a new snapshot is in place.
    pub swapped: watch::Sender<()>,
}

/// A snapshot with what was made from it for connecting and for proving who we are.
pub struct Served {
    pub snapshot: Arc<Snapshot>,
    ways: HashMap<String, Arc<Way>>,
    holders: HashMap<String, Arc<Holder>>,
    issuer_keys: HashMap<String, Arc<KeyHolder>>,
}

/// How one provider is reached.
pub struct Way {
    /// Outlives a reload.
    pub upstream: Arc<Upstream>,
    /// Those that all its requests have.
    pub headers: HeaderMap,
}

impl Served {
    /// Upstreams of providers that did not change are kept, with their addresses, pools and health; so are credentials
    /// whose source did not change.
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&Served>) -> Served {
        let way = |provider: &Arc<Provider>| {
            let kept = before
                .and_then(|before| before.way(&provider.id))
                .map(|way| &way.upstream)
                .filter(|kept| kept.provider().connects_like(provider));
            let upstream = kept.cloned().unwrap_or_else(|| Arc::new(Upstream::new(provider.clone())));
            (provider.id.clone(), Arc::new(Way { upstream, headers: heads::common(provider) }))
        };
        let ways = snapshot.providers.iter().map(way).collect();
        let holders = snapshot
            .providers
            .iter()
            .filter_map(|provider| {
                let kept =
                    before.and_then(|before| before.holders.get(&provider.id)).filter(|kept| kept.serves(provider));
                Some((provider.id.clone(), kept.cloned().or_else(|| Holder::new(provider))?))
            })
            .collect();
        let issuer_keys = KeyHolder::all(&snapshot.issuers.all, before);
        Served { snapshot, ways, holders, issuer_keys }
    }

    pub fn way(&self, provider: &str) -> Option<&Arc<Way>> {
        self.ways.get(provider)
    }

    /// What holds the credential of a provider, where that is more than a key.
    pub fn holder(&self, provider: &str) -> Option<&Arc<Holder>> {
        self.holders.get(provider)
    }

    pub fn holders(&self) -> impl Iterator<Item = &Arc<Holder>> {
        self.holders.values()
    }

    /// The public keys of an issuer.
    pub fn keys_of(&self, issuer: &str) -> Option<&Arc<KeyHolder>> {
        self.issuer_keys.get(issuer)
    }

    pub fn all_keys(&self) -> impl Iterator<Item = &Arc<KeyHolder>> {
        self.issuer_keys.values()
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.ways.values().map(|way| &way.upstream)
    }
}

impl Shared {
    pub fn new(
        snapshot: Arc<Snapshot>,
        live: Arc<Live>,
        directory: Arc<Directory>,
        journal: Arc<Journal>,
        ledger: Arc<Ledger>,
        responses: Arc<Responses>,
        metrics: Arc<Metrics>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            served: ArcSwap::from_pointee(Served::new(snapshot, None)),
            live,
            directory,
            journal,
            ledger,
            responses,
            metrics,
            explanations: Explanations::default(),
            buffered: Arc::default(),
            lines: Lines::default(),
            clock: Clock::default(),
            in_flight: Arc::default(),
            read_on: Arc::default(),
            cut: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            succeeded: watch::Sender::new(false),
            probed: AtomicU64::new(0),
            flights: Arc::default(),
            sides: Sides::default(),
            inquiry: Inquiry::default(),
            swapped: watch::Sender::new(()),
        })
    }

    pub fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }

    /// Puts a new snapshot in place; calls in progress keep theirs.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.directory.rebase(snapshot.clone());
        let next = Served::new(snapshot, Some(&self.served.load()));
        self.served.store(Arc::new(next));
        self.live.forget(self.now());
        self.swapped.send_replace(());
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// A moment's place on the runtime's clock.
    pub fn instant(&self, mono: u64) -> tokio::time::Instant {
        (self.clock.start + Duration::from_micros(mono)).into()
    }

    /// A new id, ordered by its time.
    pub fn new_id(&self, now: Moment) -> Id {
        id(now.unix_ms, fastrand::u128(..))
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Counts a call as in flight until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.in_flight.clone())
    }
}

/// One call in flight.
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: Instant::now() }
    }
}

impl Clock {
    fn now(&self) -> Moment {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Moment {
            // From 1, so that 0 can mean "never".
            mono: u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1),
            unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
        }
    }
}

/// UUID version 7 (RFC 9562 section 5.7): milliseconds first, then random bits.
fn id(unix_ms: u64, random: u128) -> Id {
    let time = u128::from(unix_ms & 0xffff_ffff_ffff) << 80;
    let low = random & ((1 << 80) - 1);
    let version = 0x7 << 76;
    let variant = 0b10 << 62;
    Id(time | version | variant | (low & !(0xf << 76) & !(0b11 << 62)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_in_order() {
        let early = id(1_700_000_000_000, u128::MAX);
        let late = id(1_700_000_000_001, 0);
        assert!(early < late);
        let text = early.to_string();
        assert_eq!(text.as_bytes()[14], b'7', "{text}");
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
        assert_eq!(text.len(), 36);
    }
}
