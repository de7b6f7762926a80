//! What is fetched and renewed beside the calls: a task for each, as long as somebody holds it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::fetch::Fetcher;
use super::state::{Served, Shared};

/// Something that is kept fresh.
pub trait Kept: Send + Sync + Sized + 'static {
    /// All that a snapshot in force holds.
    fn all(served: &Served) -> Vec<Arc<Self>>;

    /// Takes it on: `true` the first time.
    fn take(&self) -> bool;

    /// Fetches it again and again, until nobody else holds it any more.
    fn keep(self: Arc<Self>, shared: Arc<Shared>, fetcher: Arc<Fetcher>) -> impl Future<Output = ()> + Send;
}

/// Keeps all of a kind.
pub struct Keeping<K> {
    shared: Arc<Shared>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Keeping<K> {
    pub fn new(shared: Arc<Shared>) -> Keeping<K> {
        Keeping { shared, kind: PhantomData }
    }
}

#[async_trait]
impl<K: Kept> BackgroundService for Keeping<K> {
    async fn start(&self, _: ShutdownWatch) {
        let mut fetcher = None;
        let mut swapped = self.shared.swapped.subscribe();
        // It goes on while the gateway drains: calls that still run may try another target.
        loop {
            for kept in K::all(&self.shared.served()) {
                if kept.take() {
                    let fetcher = fetcher.get_or_insert_with(|| Arc::new(Fetcher::new()));
                    tokio::spawn(kept.keep(self.shared.clone(), fetcher.clone()));
                }
            }
            if swapped.changed().await.is_err() {
                return;
            }
        }
    }
}

pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
