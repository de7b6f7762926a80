//! From what is made beside calls, as written, to its rules.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::coalesce::{Coalesce, Cost};
use crate::policy::ration::Bounds;
use crate::policy::route::affinity::Hash;
use crate::policy::route::hedge::{Hedge, Hedges};
use crate::policy::route::shadow::Shadow;

use super::build::Build;
use super::file;
use super::problem::Route;
use super::routing;
use super::value::Decimal;

/// Quicker than people notice, and slower than most first tokens.
const FLOOR: Duration = Duration::from_millis(200);
const HOUR: Duration = Duration::from_secs(3_600);
const SHADOWS: u32 = 16;
/// Of a long answer's stream a few times over.
const BUFFER: usize = 1 << 20;
/// Millionths.
const SHARE: u64 = 50_000;

impl Build<'_> {
    /// How a model's calls are hedged.
    pub(super) fn hedge(
        &mut self,
        name: &str,
        written: &file::Model,
        route: &Route,
    ) -> Option<(Arc<Hedge>, Arc<Hedges>)> {
        let hedge = written.hedge.as_ref()?;
        let route = route.key("hedge");
        if written.targets.len() < 2 && (!hedge.fallback || written.fallback.is_empty()) {
            self.wrong(
                &route,
                "there is no other target to ask: add one, or `fallback: true` with `fallback` of the model",
            );
        }
        let delay = hedge.delay.map(|delay| self.some_time(Some(delay), Duration::ZERO, &route.key("delay")));
        let share = self.share(hedge.percent, &route.key("percent")).unwrap_or(SHARE);
        let rules = Hedge {
            delay,
            floor: hedge.floor.map_or(if delay.is_some() { Duration::ZERO } else { FLOOR }, |floor| floor.0),
            share,
            bounds: Bounds { window: HOUR, calls: None, nano: hedge.usd_per_hour.map(|usd| usd.0) },
            fallback: hedge.fallback,
        };
        Some((Arc::new(rules), self.live.hedges(name)))
    }

    /// Whereto a model's calls are copied. That the other model exists is checked with the other references.
    pub(super) fn shadow(&mut self, name: &str, written: &file::Model, route: &Route) -> Option<Arc<Shadow>> {
        let shadow = written.shadow.as_ref()?;
        let share = self.share(Some(shadow.percent), &route.key("shadow").key("percent"))?;
        Some(Arc::new(Shadow {
            to: shadow.to.clone(),
            share,
            by: shadow.by.iter().map(|by| routing::by(*by)).collect(),
            salt: Hash::default().with(b"shadow").with(name.as_bytes()).finish(),
            most: shadow.in_flight.unwrap_or(SHADOWS),
            running: self.live.shadows(name),
        }))
    }

    /// How identical calls of a model become one.
    pub(super) fn dedup(&mut self, written: &file::Model, route: &Route) -> Option<Arc<Coalesce>> {
        let dedup = written.dedup.as_ref()?;
        let route = route.key("dedup");
        let window = dedup.window.map(|window| self.some_time(Some(window), Duration::ZERO, &route.key("window")));
        Some(Arc::new(Coalesce {
            any: dedup.any,
            window,
            buffer: dedup.buffer.map_or(BUFFER, |size| size.0),
            cost: match dedup.cost {
                file::Cost::Leader => Cost::Leader,
                file::Cost::Split => Cost::Split,
                file::Cost::Each => Cost::Each,
            },
        }))
    }

    /// Millionths of so many per cent.
    fn share(&mut self, percent: Option<Decimal>, route: &Route) -> Option<u64> {
        let millionths = percent?.0 / 100_000;
        if millionths == 0 || millionths > 1_000_000 {
            self.wrong(route, "write more than 0 and at most 100 per cent");
        }
        Some(millionths)
    }
}
