//! How targets are chosen: strategies, arms, distances, and the live state that each target holds on to.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;

use crate::policy::price::Price;
use crate::policy::quota::Limits;
use crate::policy::route::affinity::{By, Hash};
use crate::policy::route::heartbeat::Heartbeat;
use crate::policy::route::{Rules, Strategy, Weights};
use crate::policy::{auth, quota};
use crate::provider::{Provider, Target, Timeouts};

use super::build::Build;
use super::file;
use super::problem::{Route, did_you_mean};
use super::providers::is_id;
use super::snapshot::{Beat, PricedTarget, Retry, Seat, Split};

/// What a model goes by that says nothing itself.
#[derive(Debug, Default)]
pub(super) struct Routing {
    pub rules: Rules,
    pub sticky: Vec<By>,
    /// Names of where callers are, with the distances to where targets are.
    pub homes: Vec<(String, BTreeMap<String, u32>)>,
    pub home: Option<usize>,
    /// Of targets that have none of their own, by provider.
    pub heartbeats: BTreeMap<String, Arc<Heartbeat>>,
    /// Of each provider's credentials.
    pub limits: BTreeMap<String, Limits>,
    /// Further attempts.
    pub retry: Retry,
}

/// What a model says of one of its targets.
#[derive(Default)]
pub(super) struct Place {
    pub region: Option<String>,
    pub attributes: Vec<String>,
    pub limits: Limits,
    pub tier: u32,
    pub arm: Option<usize>,
    /// There are other targets to go to.
    pub others: bool,
    pub heartbeat: Option<Beat>,
}

impl Build<'_> {
    pub(super) fn routing(&mut self, written: &file::Routing, providers: &BTreeMap<String, file::Provider>) -> Routing {
        let route = Route::default().key("routing");
        let homes: Vec<_> = written.distances.iter().map(|(name, to)| (name.clone(), to.clone())).collect();
        let home = written.home.as_ref().and_then(|home| self.home(&homes, home, &route.key("home")));
        let rules =
            Rules { strategy: strategy(written.strategy), weights: weights(&written.balanced, Weights::default()) };
        if rules.strategy == Strategy::Nearest && homes.is_empty() {
            self.wrong(&route.key("strategy"), "nearest goes by distances: add them under `routing.distances`");
        }
        let sticky = self.by(written.sticky.as_deref(), &route.key("sticky"));
        Routing {
            rules,
            sticky: sticky.unwrap_or_else(|| vec![By::Session, By::User, By::Prefix]),
            homes,
            home,
            heartbeats: self.heartbeats(providers),
            limits: providers.iter().map(|(id, provider)| (id.clone(), limits(provider.limits))).collect(),
            retry: Retry::default(),
        }
    }

    /// The place of a home among the distances.
    pub(super) fn home(
        &mut self,
        homes: &[(String, BTreeMap<String, u32>)],
        name: &str,
        route: &Route,
    ) -> Option<usize> {
        let found = homes.iter().position(|(other, _)| other == name);
        if found.is_none() {
            let hint = did_you_mean(name, homes.iter().map(|(name, _)| name.as_str()));
            self.wrong(
                route,
                format!("no distances from `{name}` are known: add them under `routing.distances`.{hint}"),
            );
        }
        found
    }

    fn by(&mut self, written: Option<&[file::By]>, route: &Route) -> Option<Vec<By>> {
        let written = written?;
        if written.is_empty() {
            self.wrong(route, "write what calls have in common: key, user, session, prefix");
        }
        for (number, by) in written.iter().enumerate() {
            if written.iter().take(number).any(|other| other == by) {
                self.wrong(&route.index(number), "this is already in the list: keep one");
            }
        }
        Some(written.iter().map(|by| self::by(*by)).collect())
    }

    /// The rules of a model, and what its calls stick by.
    pub(super) fn rules(&mut self, written: &file::Model, route: &Route) -> (Rules, Vec<By>) {
        let rules = Rules {
            strategy: written.strategy.map_or(self.routing.rules.strategy, strategy),
            weights: written
                .balanced
                .as_ref()
                .map_or(self.routing.rules.weights, |own| weights(own, self.routing.rules.weights)),
        };
        if matches!(written.strategy, Some(file::Strategy::Nearest)) && self.routing.homes.is_empty() {
            self.wrong(&route.key("strategy"), "nearest goes by distances: add them under `routing.distances`");
        }
        let sticky = self.by(written.sticky.as_deref(), &route.key("sticky"));
        (rules, sticky.unwrap_or_else(|| self.routing.sticky.clone()))
    }

    /// The arms of a model. Every arm has a target, every target an arm.
    pub(super) fn split(&mut self, name: &str, written: &file::Model, route: &Route) -> Option<Split> {
        let Some(split) = &written.split else {
            for (number, target) in written.targets.iter().enumerate() {
                if target.arm.is_some() {
                    let message = "the model has no arms: add `split: {arms: {NAME: PART}}`, or take this out";
                    self.wrong(&route.key("targets").index(number).key("arm"), message);
                }
            }
            return None;
        };
        let route = route.key("split");
        let arms: Vec<_> = split.arms.iter().map(|(name, part)| (name.clone(), *part)).collect();
        let sum: u64 = arms.iter().map(|(_, part)| u64::from(*part)).sum();
        if sum == 0 {
            self.wrong(&route.key("arms"), "write at least one arm with a part above 0: {control: 90, canary: 10}");
        }
        for (arm, _) in &arms {
            if !is_id(arm) {
                let message = "an arm's name is 1 to 64 letters, digits, dots, hyphens and underscores";
                self.wrong(&route.key("arms").key(arm), message);
            } else if !written.targets.iter().any(|target| target.arm.as_ref() == Some(arm)) {
                let message = format!("no target is in this arm: write `arm: {arm}` at one");
                self.wrong(&route.key("arms").key(arm), message);
            }
        }
        let by = split.by.iter().map(|by| self::by(*by)).collect();
        Some(Split { arms, sum, by, salt: Hash::default().with(name.as_bytes()).finish() })
    }

    /// What the model says of its target of that number.
    pub(super) fn place(
        &mut self,
        written: &file::Model,
        number: usize,
        target: &file::Target,
        model: &str,
        provider: &Provider,
        route: &Route,
    ) -> Place {
        let arm = match (&written.split, &target.arm) {
            (Some(split), Some(arm)) => {
                let found = split.arms.keys().position(|name| name == arm);
                if found.is_none() {
                    let hint = did_you_mean(arm, split.arms.keys().map(String::as_str));
                    self.wrong(&route.key("arm"), format!("the model's `split` has no arm `{arm}`.{hint}"));
                }
                found
            }
            (Some(_), None) => {
                self.wrong(route, "the model is split into arms: write this target's `arm`");
                None
            }
            (None, _) => None,
        };
        let tiered = written.targets.iter().any(|target| target.tier.is_some());
        let id = format!("{}/{model}", provider.id);
        let listed = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        let mut attributes = provider.attributes.clone();
        attributes.extend(self.attributes(&target.attributes, &route.key("attributes")));
        Place {
            region: target.region.clone().or_else(|| provider.region.clone()),
            attributes,
            limits: limits(target.limits),
            tier: target.tier.unwrap_or(if tiered { 1 } else { listed }),
            arm,
            others: written.targets.len() > 1 || !written.fallback.is_empty() || written.last_resort.is_some(),
            heartbeat: self.beat(target.heartbeat.as_ref(), provider, &id, route),
        }
    }

    /// A target with its price and its live state.
    pub(super) fn priced(
        &self,
        target: Target,
        price: Option<Price>,
        timeouts: Timeouts,
        place: Place,
    ) -> PricedTarget {
        let provider = &target.provider;
        let account_limits = self.routing.limits.get(&provider.id).copied().unwrap_or_default();
        let seat = |account: String| Seat {
            here: self.live.account(&format!("{account}/{}", target.model)),
            account: self.live.account(&account),
        };
        let seats: Box<[Seat]> = match provider.credentials.as_slice() {
            [] => [seat(format!("{}#0", provider.id))].into(),
            several => several
                .iter()
                .map(|credential| {
                    // Another key in the place of a bad one is another credential.
                    let digest = auth::digest(credential.secret.expose()).unwrap_or_default();
                    seat(format!("{}:{}", credential.name, super::hex(digest.get(..8).unwrap_or_default())))
                })
                .collect(),
        };
        let distance = |to: &BTreeMap<String, u32>| place.region.as_ref().and_then(|region| to.get(region)).copied();
        let learns = place.others || seats.len() > 1 || account_limits.any() || place.limits.any();
        PricedTarget {
            said: [&provider.id, &target.id].map(|text| HeaderValue::from_str(text).ok()),
            vitals: self.live.target(&target.id),
            heartbeat: place.heartbeat,
            salt: Hash::default().with(target.id.as_bytes()).finish(),
            distances: self.routing.homes.iter().map(|(_, to)| distance(to).unwrap_or(u32::MAX)).collect(),
            seats,
            account_limits,
            limits: place.limits,
            learns,
            region: place.region,
            attributes: place.attributes,
            tier: place.tier,
            arm: place.arm,
            target,
            rates: price.as_ref().map(|price| price.stated().into()).unwrap_or_default(),
            price,
            timeouts,
        }
    }

    /// A target of no model: it is as its provider is.
    pub(super) fn plain(&self, target: Target, price: Option<Price>) -> Arc<PricedTarget> {
        let provider = &target.provider;
        let place =
            Place { region: provider.region.clone(), attributes: provider.attributes.clone(), ..Place::default() };
        let timeouts = provider.timeouts;
        Arc::new(self.priced(target, price, timeouts, place))
    }
}

pub(super) fn strategy(written: file::Strategy) -> Strategy {
    match written {
        file::Strategy::Weighted => Strategy::Weighted,
        file::Strategy::Priority => Strategy::Priority,
        file::Strategy::LowestCost => Strategy::LowestCost,
        file::Strategy::LowestLatency => Strategy::LowestLatency,
        file::Strategy::LeastBusy => Strategy::LeastBusy,
        file::Strategy::Balanced => Strategy::Balanced,
        file::Strategy::Sticky => Strategy::Sticky,
        file::Strategy::Nearest => Strategy::Nearest,
    }
}

pub(super) fn by(written: file::By) -> By {
    match written {
        file::By::Key => By::Key,
        file::By::User => By::User,
        file::By::Session => By::Session,
        file::By::Prefix => By::Prefix,
    }
}

fn weights(written: &file::Balanced, base: Weights) -> Weights {
    let of = |own: Option<super::value::Decimal>, other| own.map_or(other, |own| (own.0 as f64 / 1e9) as f32);
    Weights {
        cost: of(written.cost, base.cost),
        latency: of(written.latency, base.latency),
        success: of(written.success, base.success),
    }
}

fn limits(written: file::Quota) -> quota::Limits {
    Limits { requests: written.rpm, tokens: written.tpm, concurrency: written.concurrency }
}
