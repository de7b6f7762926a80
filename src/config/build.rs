//! From the file as written to the snapshot: references, defaults, and everything a schema cannot say.
//!
//! Checks note their problems and go on; the snapshot is given out only when none were noted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::policy::tenancy::Kind;
use crate::policy::{Live, queue, retry};
use crate::provider::Timeouts;
use crate::wire::yaml::Node;

use super::budgets::Ground;
use super::file::{self, Door, File, OneOrMany};
use super::models::overridden;
use super::prices::Pricing;
use super::problem::{Problem, Problems, Route};
use super::providers::{Account, is_id};
use super::routing::Routing;
use super::snapshot::{
    CostInBody, Currency, Doors, Explain, Index, Key, Ledger, Limits, Log, On, ReadOn, Retry, Rulebook, Snapshot,
    Unpriced, tracing_level::Level,
};
use super::tenancy::Tenants;
use super::value::{Decimal, Size, Span};
use super::{Catalogue, Known, Outside, beside, hex};

/// Largest certificate or secret file.
const FILE_BYTES: usize = 1 << 20;

/// Bounds in time where nothing is written. A whole answer of a thinking model takes minutes, and cutting one short costs
/// what it has cost so far: hence the long wait for an answer that is not streamed.
const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(60),
    answer: Duration::from_secs(300),
    idle: Duration::from_secs(120),
    total: Duration::from_secs(600),
};

/// Below the idle limits that proxies commonly have (60 s), with room for a lost one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Shortest time that rows of the ledger are kept.
const LEAST_KEPT: Duration = Duration::from_secs(2 * 86_400);
/// As OpenAI keeps them ("Conversation state", seen 2026-11-21).
const KEEP_RESPONSES: Duration = Duration::from_secs(30 * 86_400);

/// Who calls without a key, where that is allowed.
const ANONYMOUS: &str = "anonymous";

/// What building needs beside the file.
pub(super) struct Build<'b> {
    /// The whole tree: where things stand.
    pub root: &'b Node,
    pub known: Known,
    /// The number in the file of each key that is left.
    pub key_numbers: Vec<usize>,
    pub outside: &'b Outside<'b>,
    pub catalogue: &'b Catalogue<'b>,
    pub pricing: Pricing<'b>,
    /// Of all that was read.
    pub hash: Sha256,
    pub live: &'b Live,
    pub routing: Routing,
    /// What limits and budgets are made with.
    pub ground: Ground,
    /// A target without a price is given one.
    pub estimates: bool,
    pub at: &'b Path,
    pub problems: &'b mut Problems,
    pub remarks: Vec<Problem>,
}

impl Build<'_> {
    /// The snapshot; of use only when no problem was noted.
    pub fn snapshot(mut self, file: File, files: Vec<PathBuf>) -> Snapshot {
        let (listen, admin, sandbox) = self.addresses(&file);
        let timeouts = self.timeouts(&file.timeouts, DEFAULT_TIMEOUTS, &Route::default().key("timeouts"));
        self.routing = self.routing(&file.routing, &file.providers);
        let retry = self.retry(&file.retry, Retry::default(), &Route::default().key("retry"));
        self.routing.retry = retry;
        let catalog = file.catalog.as_ref().map(|name| beside(self.at, name));
        let mut index = Index { files, catalog, ..Index::default() };

        let mut accounts = BTreeMap::new();
        let mut providers = Vec::new();
        let mut asleep = Vec::new();
        for id in self.known.providers.clone() {
            let Some(written) = file.providers.get(&id) else { continue };
            let account = self.provider(&id, written, timeouts, sandbox);
            self.terms(&id, written);
            match &account {
                Account::Live(provider) => providers.push(Arc::clone(provider)),
                Account::Asleep(variables) => asleep.push((id.clone(), variables.join(", "))),
                Account::Broken => {}
            }
            accounts.insert(id, account);
        }

        let rules = self.rulebook(&file.rules, None, &Route::default().key("rules"));
        let zone = self.zone(file.routing.time_zone.as_deref(), &Route::default().key("routing").key("time_zone"));
        self.estimates = file.unpriced == Some(file::Unpriced::Estimate);
        let price_groups = self.price_groups(&file);
        self.ground.groups = price_groups.clone();
        let models = self.models(&file, &accounts, timeouts, &mut index);
        self.led_to(&file, &accounts, &index);
        let classes = self.classes(file.classes.as_ref());
        self.conditions(&rules, &models, classes.as_ref());
        let any = !rules.is_empty()
            || models.values().any(|model| !model.rulebook.is_empty())
            || classes.as_ref().is_some_and(|classes| classes.shadow);
        let currencies = self.currencies(&file.currencies);
        self.ground = Ground {
            spendings: self.live.spendings(),
            currencies: currencies.clone(),
            groups: price_groups.clone(),
            limits: self.live.limits(),
        };
        let webhooks = self.webhooks(&file.alerts);
        let tenants = self.tenants(&file);
        let keys = self.keys(&file, &tenants, &mut index);
        let anonymous = self.anonymous(&file, &tenants, &listen);
        let issuers = self.issuers(&file);
        let limits = self.limits(&file.limits);
        let explain = file.admin.as_ref().and_then(|admin| admin.explain.as_ref()).map(|written| Explain {
            calls: written.calls.unwrap_or(1_000),
            bytes: written.bytes.map_or(16 << 20, |size| size.0),
        });
        let doors = self.doors(&file, admin);
        let state_dir = file.state_dir.unwrap_or_else(|| "/var/lib/portolan".to_owned());
        if state_dir.is_empty() {
            self.wrong(&Route::default().key("state_dir"), "write a directory, such as /var/lib/portolan");
        }
        let ledger = self.ledger(&file.ledger);
        let drain = file.shutdown.drain.map_or(Duration::from_secs(60), |span| span.0);
        index.remarks = std::mem::take(&mut self.remarks);
        index.repriced = self.pricing.days.until;
        if self.pricing.days.since != 0 {
            // Another price is another configuration, though no file has changed.
            self.hash.update(self.pricing.days.since.to_le_bytes());
        }
        let version = hex(&self.hash.finalize()).chars().take(12).collect();
        Snapshot {
            version,
            listen,
            admin,
            doors,
            explain,
            state_dir: state_dir.into(),
            threads: file.threads,
            limits,
            retry,
            budget: self.live.overall_budget(),
            queue: queue::Rules {
                size: file.queue.size.unwrap_or(256),
                wait: file.queue.wait.map_or(Duration::from_secs(30), |span| span.0),
            },
            home: self.routing.home,
            homes: self.routing.homes.iter().map(|(name, _)| name.clone()).collect(),
            ledger,
            drain,
            cost_in_body: match file.response.cost_in_body {
                file::CostInBody::Never => CostInBody::Never,
                file::CostInBody::Transcoded => CostInBody::Transcoded,
                file::CostInBody::Always => CostInBody::Always,
            },
            keep_alive: match file.response.keep_alive {
                None => Some(KEEP_ALIVE),
                Some(Span(time)) => Some(time).filter(|time| !time.is_zero()),
            },
            keep_responses: match file.response.keep_responses {
                None => Some(KEEP_RESPONSES),
                Some(Span(time)) => Some(time).filter(|time| !time.is_zero()),
            },
            read_on: file.response.read_on.time.map(|span| span.0).filter(|time| !time.is_zero()).map(|time| ReadOn {
                time,
                bytes: file.response.read_on.bytes.map_or(1 << 20, |size| size.0),
                calls: file.response.read_on.calls.unwrap_or(64),
            }),
            currencies,
            price_groups,
            statements: file.statements,
            webhooks,
            unpriced: match file.unpriced {
                None => Unpriced::Judged,
                Some(file::Unpriced::Refuse) => Unpriced::Refused,
                Some(file::Unpriced::Warn | file::Unpriced::Estimate) => Unpriced::Served,
            },
            log: Log {
                json: matches!(file.log.format, file::LogFormat::Json),
                level: match file.log.level {
                    file::LogLevel::Error => Level::Error,
                    file::LogLevel::Warn => Level::Warn,
                    file::LogLevel::Info => Level::Info,
                    file::LogLevel::Debug => Level::Debug,
                    file::LogLevel::Trace => Level::Trace,
                },
            },
            sandbox,
            providers,
            asleep,
            models,
            rulebook: Rulebook { rules, any, zone },
            classes,
            tenants,
            issuers,
            keys,
            anonymous,
            index,
        }
    }

    /// Notes a problem with what stands at a route.
    pub fn wrong(&mut self, route: &Route, message: impl Into<String>) {
        self.problems.on(self.root, route, message);
    }

    /// Notes something that is allowed, but worth telling.
    pub fn remark(&mut self, route: &Route, message: impl Into<String>) {
        let remark = self.problems.remark(self.root, route, message);
        self.remarks.push(remark);
    }

    /// A file that the configuration names, relative to the configuration's own.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = beside(self.at, name);
        let shown = path.display();
        let bytes = (self.outside.read)(&path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        if bytes.len() > FILE_BYTES {
            return Err(format!("{shown} is larger than 1 MiB: that is no key or certificate"));
        }
        Ok(bytes)
    }

    /// Timeouts where some are written anew, none of them zero.
    pub fn timeouts(&mut self, written: &file::Timeouts, base: Timeouts, route: &Route) -> Timeouts {
        let all = [
            ("connect", written.connect),
            ("first_byte", written.first_byte),
            ("answer", written.answer),
            ("idle", written.idle),
            ("total", written.total),
        ];
        for (name, span) in all {
            self.some_time(span, Duration::ZERO, &route.key(name));
        }
        overridden(written, base)
    }

    /// A duration that must not be zero.
    pub fn some_time(&mut self, span: Option<Span>, default: Duration, route: &Route) -> Duration {
        match span {
            Some(Span(time)) if time.is_zero() => {
                self.wrong(route, "nothing can happen in no time: write more than 0");
                default
            }
            Some(Span(time)) => time,
            None => default,
        }
    }

    /// Where calls, administration and the sandbox listen.
    fn addresses(&mut self, file: &File) -> (Vec<SocketAddr>, SocketAddr, Option<SocketAddr>) {
        let root = Route::default();
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let mut used: Vec<(SocketAddr, Route)> = Vec::new();
        match &file.listen {
            None => used.push((local(8080), root.key("listen"))),
            Some(OneOrMany::One(address)) => used.push((address.0, root.key("listen"))),
            Some(OneOrMany::Many(addresses)) => {
                if addresses.is_empty() {
                    self.wrong(&root.key("listen"), "write at least one address, such as 127.0.0.1:8080");
                }
                let list = addresses.iter().enumerate();
                used.extend(list.map(|(number, address)| (address.0, root.key("listen").index(number))));
            }
        }
        let listen: Vec<SocketAddr> = used.iter().map(|(address, _)| *address).collect();
        let admin = file.admin.as_ref().and_then(|admin| admin.listen).map_or(local(8081), |listen| listen.0);
        used.push((admin, root.key("admin").key("listen")));
        let sandbox = file.sandbox.as_ref().map(|sandbox| sandbox.listen.0);
        used.extend(sandbox.map(|address| (address, root.key("sandbox").key("listen"))));
        for (number, (address, route)) in used.iter().enumerate() {
            if let Some((other, _)) = used.iter().take(number).find(|(other, _)| overlap(*address, *other)) {
                self.wrong(
                    route,
                    format!("{address} collides with {other}, which is listened on too: take another port"),
                );
            }
        }
        for (address, route) in used.iter().skip(listen.len()) {
            if !address.ip().is_loopback() {
                self.remark(route, "others than this machine can connect here: keep it behind a firewall");
            }
        }
        (listen, admin, sandbox)
    }

    /// What of the admin port needs no token.
    fn doors(&mut self, file: &File, admin: SocketAddr) -> Doors {
        let local = admin.ip().is_loopback();
        let written = file.admin.as_ref().and_then(|admin| admin.open.as_ref());
        if written.is_some_and(|open| !open.is_empty()) && !local {
            let route = Route::default().key("admin").key("open");
            self.remark(&route, "others than this machine can connect here, and see this without a token");
        }
        let open = |door: Door| written.map_or(local, |open| open.contains(&door));
        Doors { metrics: open(Door::Metrics), targets: open(Door::Targets), requests: open(Door::Requests) }
    }

    fn keys(&mut self, file: &File, tenants: &Tenants, index: &mut Index) -> HashMap<[u8; 32], Arc<Key>> {
        let mut keys: HashMap<[u8; 32], Arc<Key>> = HashMap::new();
        let mut ids: BTreeSet<&str> = BTreeSet::new();
        let numbers = std::mem::take(&mut self.key_numbers);
        for (key, number) in file.keys.iter().zip(numbers) {
            let route = Route::default().key("keys").index(number);
            if !is_id(&key.id) {
                self.wrong(&route.key("id"), "a key's id is 1 to 64 letters, digits, dots, hyphens and underscores");
            } else if key.id == ANONYMOUS {
                self.wrong(&route.key("id"), "this id stands for calls without a key: take another");
            } else if !ids.insert(&key.id) {
                self.wrong(&route.key("id"), format!("another key is called `{}`: take another id", key.id));
            }
            let made = self.key(key, file, tenants, &route);
            let document = serde_json::to_string(&file::Key { secret_sha256: None, ..key.clone() });
            index.keys.insert(key.id.clone(), document.unwrap_or_default().into());
            // That it is not there has been complained of by the schema.
            let Some(digest) = key.secret_sha256 else { continue };
            if key.project.as_ref().is_some_and(|project| !tenants.has(Kind::Project, project)) {
                index.loose.push(digest.0);
            }
            if let Some(other) = keys.insert(digest.0, Arc::new(made)) {
                let message =
                    format!("the key `{}` has the same secret: make another with `portolan keys new`", other.id);
                self.wrong(&route.key("secret_sha256"), message);
            }
        }
        keys
    }

    fn anonymous(&mut self, file: &File, tenants: &Tenants, listen: &[SocketAddr]) -> Option<Arc<Key>> {
        let written = file.anonymous.as_ref()?;
        let route = Route::default().key("anonymous");
        self.patterns(&written.models, &route.key("models"));
        if listen.iter().any(|address| !address.ip().is_loopback()) {
            self.remark(&route, "calls without a key are served, and others than this machine can connect");
        }
        self.tier(&file.tiers, written.tier.as_deref(), &route.key("tier"));
        let written = file::Key {
            id: ANONYMOUS.to_owned(),
            models: Some(written.models.clone()),
            tier: written.tier.clone(),
            ..file::Key::default()
        };
        Some(Arc::new(tenants.key(&written)))
    }

    /// Patterns of model names: some, none empty, each able to fit something.
    pub(super) fn patterns(&mut self, patterns: &[String], route: &Route) {
        if patterns.is_empty() {
            self.wrong(
                route,
                "with no name in the list nothing may be used: write names, or \"*\" for all, or `disabled: true`",
            );
        }
        for (number, pattern) in patterns.iter().enumerate() {
            if pattern.is_empty()
                || pattern.len() > 256
                || pattern.contains(|c: char| c.is_whitespace() || c.is_control())
            {
                self.wrong(&route.index(number), "write a model's name, with * for any text: gpt-5, claude-*, *");
            } else if pattern.contains(['?', '[', ']', '{', '}']) {
                self.wrong(&route.index(number), "only * stands for other text here: write the names out");
            }
        }
    }

    fn limits(&mut self, written: &file::Limits) -> Limits {
        let route = Route::default().key("limits");
        let mut bytes = |name: &str, size: Option<Size>, default: usize| match size {
            Some(Size(bytes)) if bytes < 1024 => {
                self.wrong(&route.key(name), "too small for any call: write 1KiB or more");
                default
            }
            Some(Size(bytes)) => bytes,
            None => default,
        };
        let limits = Limits {
            body_bytes: bytes("body_bytes", written.body_bytes, 50 << 20),
            answer_bytes: bytes("answer_bytes", written.answer_bytes, 50 << 20),
            continuation_bytes: bytes("continuation_bytes", written.continuation_bytes, 256 << 10),
            event_bytes: bytes("event_bytes", written.event_bytes, 16 << 20),
            depth: written.depth.unwrap_or(64),
            header_bytes: bytes("header_bytes", written.header_bytes, 64 << 10),
            headers: written.headers.unwrap_or(128),
            buffered_bytes: bytes("buffered_bytes", written.buffered_bytes, 512 << 20),
            body_time: self.some_time(written.body_time, Duration::from_secs(60), &route.key("body_time")),
        };
        if limits.buffered_bytes < limits.body_bytes {
            self.wrong(
                &route.key("buffered_bytes"),
                "less than body_bytes: a body of the largest size could never come in",
            );
        }
        limits
    }

    /// What is said of further attempts, where some of it is written anew.
    pub fn retry(&mut self, written: &file::Retry, base: Retry, route: &Route) -> Retry {
        let span = |own: Option<Span>, other| own.map_or(other, |span| span.0);
        let on = written.on.as_ref().map_or(base.on, |on| On {
            refusal: on.contains(&file::RetryOn::Refusal),
            content_filter: on.contains(&file::RetryOn::ContentFilter),
        });
        let budget = written.budget.unwrap_or_default();
        if budget.ratio.is_some_and(|ratio| ratio.0 > 100 * 1_000_000_000 || ratio.0 % 1_000_000 != 0) {
            self.wrong(
                &route.key("budget").key("ratio"),
                "write 100 or less, with three digits after the point at most",
            );
        }
        let retry = Retry {
            tries: written.tries.unwrap_or(base.tries),
            total_tries: written.total_tries.unwrap_or(base.total_tries),
            pause: span(written.pause, base.pause),
            max_pause: span(written.max_pause, base.max_pause),
            fallback_pause: span(written.fallback_pause, base.fallback_pause),
            on,
            continuation: written.continuation.unwrap_or(base.continuation),
            budget: retry::Rules {
                ratio: budget.ratio.map_or(base.budget.ratio, |ratio| ratio.0 / 1_000_000),
                per_minute: budget.per_minute.unwrap_or(base.budget.per_minute),
                burst: budget.burst.unwrap_or(base.budget.burst),
            },
            cooldown: span(written.cooldown, base.cooldown),
            failures: written.failures.unwrap_or(base.failures),
        };
        if retry.max_pause < retry.pause && (written.pause.is_some() || written.max_pause.is_some()) {
            self.wrong(route, "`max_pause` is shorter than `pause`: raise it or lower the other");
        }
        retry
    }

    fn ledger(&mut self, written: &file::Ledger) -> Ledger {
        let route = Route::default().key("ledger");
        let keep = written.keep.map(|span| span.0);
        if keep.is_some_and(|keep| keep < LEAST_KEPT) {
            self.wrong(&route.key("keep"), "rows are kept for 2d at least: attempts may still be under way");
        }
        Ledger { keep, zone: self.zone(written.time_zone.as_deref(), &route.key("time_zone")) }
    }

    fn currencies(&mut self, written: &BTreeMap<String, Decimal>) -> Vec<Currency> {
        let mut currencies = Vec::new();
        for (code, rate) in written {
            let route = Route::default().key("currencies").key(code);
            if code == "usd" {
                self.wrong(&route, "US dollars are always there: take it out");
            } else if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_lowercase()) {
                self.wrong(&route, "write a currency as three small letters, such as cny");
            }
            // Millionths are what the snapshot keeps; a rate that needs more digits would be wrong without a word.
            if rate.0 % 1000 != 0 {
                self.wrong(&route, "write at most six digits after the point");
            } else if rate.0 == 0 {
                self.wrong(&route, "write how many units make one US dollar: more than 0");
            }
            currencies.push(Currency { code: code.clone(), per_usd_micro: rate.0 / 1000 });
        }
        currencies
    }
}

/// Whether two addresses cannot both be listened on. Port 0 asks for any free port; `[::]` takes IPv4 too (ipv6(7),
/// `IPV6_V6ONLY`).
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let ips = one.ip() == other.ip() || takes(one.ip(), other.ip()) || takes(other.ip(), one.ip());
    one.port() == other.port() && one.port() != 0 && ips
}
