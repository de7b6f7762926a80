//! From heartbeats as written to the questions that targets are asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::ration::Bounds;
use crate::policy::route::heartbeat::{Heartbeat, Question, When};
use crate::provider::{Provider, Source};

use super::build::Build;
use super::file;
use super::problem::Route;
use super::snapshot::Beat;

/// As long as the shortest idle limits of what stands between here and a provider.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
/// One every half a minute.
const COMPLETIONS: u64 = 2_880;
/// In nano-dollars.
const SPEND: u64 = 100_000_000;

impl Build<'_> {
    /// The heartbeats of providers.
    pub(super) fn heartbeats(
        &mut self,
        written: &BTreeMap<String, file::Provider>,
    ) -> BTreeMap<String, Arc<Heartbeat>> {
        let mut all = BTreeMap::new();
        for (id, provider) in written {
            let Some(heartbeat) = &provider.heartbeat else { continue };
            let route = Route::default().key("providers").key(id).key("heartbeat");
            let asks_nodes = !matches!(heartbeat.ask, file::Question::Completion | file::Question::None);
            if asks_nodes && provider.health_check.is_some() {
                self.wrong(
                    &route,
                    "`health_check` asks the nodes already: ask for a completion, or take one of the two out",
                );
            }
            all.extend(self.heartbeat(heartbeat, &route).map(|heartbeat| (id.clone(), Arc::new(heartbeat))));
        }
        all
    }

    /// How a target is asked: in its own way, or in its provider's.
    pub(super) fn beat(
        &mut self,
        written: Option<&file::Heartbeat>,
        provider: &Provider,
        target: &str,
        route: &Route,
    ) -> Option<Beat> {
        let own = route.key("heartbeat");
        let (rules, from) = match written {
            Some(written) => (Arc::new(self.heartbeat(written, &own)?), own),
            None => {
                let route = Route::default().key("providers").key(&provider.id).key("heartbeat");
                (self.routing.heartbeats.get(&provider.id)?.clone(), route)
            }
        };
        let signed = matches!(provider.source.as_deref(), Some(Source::Aws(_)));
        let completes = matches!(rules.ask, Question::Completion { .. });
        if signed && !completes {
            self.wrong(&from.key("ask"), "requests to AWS are signed as calls are: ask for a completion");
        }
        let listed =
            provider.dialect.outbound.is_some_and(|face| face.listing().is_some()) && provider.quirks.path.is_none();
        if rules.ask == Question::Models && !listed {
            self.wrong(&from.key("ask"), "this API has no list of models: ask for a path or a completion");
        }
        // A provider is asked once for all its targets; what a model answers is its own.
        let shared = written.is_none() && !completes;
        let pulse = self.live.pulse(if shared { &provider.id } else { target });
        Some(Beat { rules, pulse, shared })
    }

    fn heartbeat(&mut self, written: &file::Heartbeat, route: &Route) -> Option<Heartbeat> {
        let path = written.path.as_deref();
        if path.is_some() != (written.ask == file::Question::Path) {
            self.wrong(route, "`path` goes with `ask: path`: write both, or neither");
        }
        let ask = match written.ask {
            file::Question::None => return None,
            file::Question::Models => Question::Models,
            file::Question::Path => {
                let path = path.unwrap_or("/");
                if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
                    self.wrong(&route.key("path"), "write a path from the root of the node, such as /health");
                }
                Question::Path(path.to_owned())
            }
            file::Question::Completion => Question::Completion { tokens: written.tokens.unwrap_or(1) },
        };
        let completes = matches!(ask, Question::Completion { .. });
        if !completes && (written.tokens.is_some() || written.usd_per_day.is_some()) {
            self.wrong(route, "`tokens` and `usd_per_day` go with `ask: completion`: the others cost nothing");
        }
        Some(Heartbeat {
            ask,
            interval: self.some_time(written.interval, INTERVAL, &route.key("interval")),
            timeout: self.some_time(written.timeout, TIMEOUT, &route.key("timeout")),
            when: match written.when {
                file::When::Idle => When::Idle,
                file::When::Resting => When::Resting,
                file::When::Always => When::Always,
            },
            bounds: Bounds {
                window: DAY,
                calls: written.calls_per_day.or(completes.then_some(COMPLETIONS)),
                nano: completes.then(|| written.usd_per_day.map_or(SPEND, |usd| usd.0)),
            },
        })
    }
}
