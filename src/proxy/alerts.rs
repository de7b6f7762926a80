//! Who is told when parts of budgets are spent: webhooks, beside the calls.
//!
//! Once a second the budgets are looked over. A part that is spent is an event, whose id is the same in every process and after
//! every restart; it is sent to each webhook until that one has taken it, and then noted. So each is told at least once, and
//! whoever remembers ids hears of it once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use http::{HeaderName, HeaderValue, header};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::{MissedTickBehavior, interval, sleep};
use zeroize::Zeroizing;

use super::fetch::Fetcher;
use super::state::Shared;
use crate::config::snapshot::{Webhook, WebhookForm};
use crate::policy::budget::{Percent, Span, Spending};
use crate::policy::price::{Nano, cost_decimal};
use crate::provider::source::Ask;
use crate::store::alerts::Alerts;
use crate::telemetry::events;
use crate::wire::writer;

/// How often budgets are looked over.
const TURN: Duration = Duration::from_secs(1);
/// Pauses between tries; doubles.
const PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(300);
/// Most events that are being told at once; others wait.
const MOST: usize = 64;
/// How long it is known what was told: longer than any window but one that never ends.
const KEPT: u64 = 400 * 86_400;
/// Hexadecimal digits of an event's id.
const ID: usize = 32;

pub struct Teller {
    shared: Arc<Shared>,
    told: Arc<Alerts>,
    fetcher: Arc<OnceCell<Fetcher>>,
    /// Events that were told, or are being told.
    seen: Arc<Mutex<HashSet<String>>>,
    running: Arc<()>,
}

/// A part of a budget that is spent.
struct Event {
    id: String,
    kind: &'static str,
    level: String,
    budget: String,
    written: String,
    hard: bool,
    mark: Mark,
    spent: Nano,
    limit: Nano,
    span: Span,
}

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// So many percent are spent.
    Spent(Percent),
    /// No more than so much is left of what was paid in, in so many entries.
    Low { below: Nano, entries: u64 },
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mark::Spent(percent) => write!(f, "{percent}"),
            Mark::Low { below, entries } => write!(f, "{entries} {below}"),
        }
    }
}

impl Teller {
    pub fn new(shared: Arc<Shared>, told: Arc<Alerts>) -> Teller {
        Teller { shared, told, fetcher: Arc::default(), seen: Arc::default(), running: Arc::default() }
    }

    fn seen(&self) -> MutexGuard<'_, HashSet<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let now = self.shared.now().unix_ms;
        let spendings = self.shared.live.spendings().all();
        let known = spendings.iter().filter(|spending| spending.known());
        for event in known.flat_map(|spending| due(spending, now)) {
            if Arc::strong_count(&self.running) > MOST {
                return;
            }
            if self.seen().insert(event.id.clone()) {
                let teller = Teller {
                    shared: self.shared.clone(),
                    told: self.told.clone(),
                    fetcher: self.fetcher.clone(),
                    seen: self.seen.clone(),
                    running: self.running.clone(),
                };
                tokio::spawn(async move { teller.tell(event).await });
            }
        }
    }

    async fn tell(self, event: Event) {
        let (told, id) = (self.told.clone(), event.id.clone());
        match tokio::task::spawn_blocking(move || told.is_told(&id)).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => {}
            // It is not known: rather twice than never.
            Ok(Err(error)) => tracing::warn!(%error, "it cannot be read which alerts were told"),
            Err(_) => return,
        }
        let webhooks = self.shared.served().snapshot.webhooks.clone();
        let result = if webhooks.is_empty() { "untold" } else { "sent" };
        // Side by side: one that does not answer keeps no other from being told.
        futures::future::join_all(webhooks.iter().map(|webhook| self.send(webhook, &event))).await;
        events::BudgetAlert {
            level: event.kind,
            id: &event.level,
            budget: &event.budget,
            percent: match event.mark {
                Mark::Spent(percent) => percent,
                Mark::Low { .. } => event.percent(),
            },
            spent: event.spent,
            limit: event.limit,
            result,
        }
        .emit(&self.shared.metrics);
        let now = self.shared.now().unix_ms / 1_000;
        let (told, id) = (self.told.clone(), event.id);
        let noted = tokio::task::spawn_blocking(move || told.told(&id, now, now.saturating_sub(KEPT))).await;
        if let Ok(Err(error)) = noted {
            tracing::warn!(%error, "it cannot be noted that an alert was told: it may be told again");
        }
    }

    /// Sends an event until it is taken, or the webhook is in the configuration no more.
    async fn send(&self, webhook: &Webhook, event: &Event) {
        let body = match webhook.form {
            WebhookForm::Json => event.json(),
            WebhookForm::Slack => event.slack(),
        };
        let fetcher = self.fetcher.get_or_init(|| async { Fetcher::new() }).await;
        let mut pause = PAUSE;
        loop {
            let ask = ask(webhook, &event.id, &body, self.shared.now().unix_ms / 1_000);
            let failed = match fetcher.fetch(&ask).await {
                Ok(answer) if (200..300).contains(&answer.status) => return,
                Ok(answer) => format!("{}: status {}", webhook.node.authority, answer.status),
                Err(told) => told,
            };
            self.shared.metrics.budget_alerts.with_label_values(&["failed"]).inc();
            tracing::warn!(event = event.id, why = failed, "an alert was not taken: it is sent again");
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(MOST_PAUSE);
            if !self.shared.served().snapshot.webhooks.contains(webhook) {
                return;
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Teller {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(TURN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = ticks.tick() => self.look(),
            }
        }
    }
}

/// The parts of a budget that are spent in the window of an instant.
fn due(spending: &Spending, now: u64) -> Vec<Event> {
    let Some(rule) = spending.rule() else { return Vec::new() };
    let (span, figures) = spending.now(now);
    let (spent, limit) = (figures.spent(), u128::from(rule.limit()));
    // Of nothing no part is spent before anything is.
    let passed = |percent: &&Percent| spent > 0 && spent * 100 >= limit * u128::from(**percent);
    let parts = rule.alerts.iter().filter(passed).map(|percent| Mark::Spent(*percent));
    // Told once for what was paid in so far: after a top-up, once more.
    let balance = rule.prepaid.as_ref().and_then(|prepaid| prepaid.paid.balance()).filter(|paid| paid.entries > 0);
    let low = rule.prepaid.iter().flat_map(|prepaid| prepaid.low.iter()).filter_map(|below| {
        let entries = balance?.entries;
        (limit <= spent + u128::from(*below)).then_some(Mark::Low { below: *below, entries })
    });
    let level = spending.level();
    let event = |mark: Mark| Event {
        id: id(&spending.name(), span, mark),
        kind: level.kind,
        level: level.id.clone(),
        budget: spending.window().name(),
        written: rule.written.clone(),
        hard: rule.hard,
        mark,
        spent: Nano::try_from(spent).unwrap_or(Nano::MAX),
        limit: rule.limit(),
        span,
    };
    parts.chain(low).map(event).collect()
}

/// The same in every process and after every restart.
fn id(budget: &str, span: Span, mark: Mark) -> String {
    let digest = Sha256::digest(format!("{budget}\n{}\n{mark}", span.from));
    hex(&digest).chars().take(ID).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Event {
    fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        writer::object(&mut out, |o| {
            o.string(
                "event",
                match self.mark {
                    Mark::Spent(_) => "budget.threshold",
                    Mark::Low { .. } => "balance.low",
                },
            );
            o.string("id", &self.id);
            o.string("level", self.kind);
            o.string("name", &self.level);
            o.string("budget", &self.budget);
            o.string("written", &self.written);
            o.bool("hard", self.hard);
            match self.mark {
                Mark::Spent(percent) => o.number("percent", u64::from(percent)),
                Mark::Low { below, .. } => {
                    o.string("left_usd", &cost_decimal(self.left()));
                    o.string("below_usd", &cost_decimal(below));
                }
            }
            o.string("spent_usd", &cost_decimal(self.spent));
            o.string("limit_usd", &cost_decimal(self.limit));
            o.number("from", self.span.from);
            if self.span.to != u64::MAX {
                o.number("to", self.span.to);
            }
            o.string("text", &self.text());
        });
        out
    }

    fn slack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        writer::object(&mut out, |o| o.string("text", &self.text()));
        out
    }

    /// Of what was paid in.
    fn left(&self) -> Nano {
        self.limit.saturating_sub(self.spent)
    }

    /// How much is spent, in whole percent.
    fn percent(&self) -> Percent {
        let percent = (u128::from(self.spent) * 100).checked_div(u128::from(self.limit)).unwrap_or(100);
        Percent::try_from(percent).unwrap_or(Percent::MAX)
    }

    fn text(&self) -> String {
        let Event { kind, level, budget, written, spent, limit, .. } = self;
        let (spent, limit) = (cost_decimal(*spent), cost_decimal(*limit));
        let percent = match self.mark {
            Mark::Spent(percent) => percent,
            Mark::Low { .. } => {
                let left = cost_decimal(self.left());
                return format!("The balance of the {kind} {level} is low: {left} USD are left of {limit} paid in.");
            }
        };
        format!(
            "{percent} % of the budget of the {kind} {level} ({written}, {budget}) are spent: {spent} of {limit} USD."
        )
    }
}

/// The request that tells of an event. `now` is in Unix seconds.
fn ask(webhook: &Webhook, event: &str, body: &[u8], now: u64) -> Ask {
    let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    if let Ok(event) = HeaderValue::from_str(event) {
        headers.push((HeaderName::from_static("x-portolan-event"), event));
    }
    if let Some(secret) = &webhook.secret
        && let Some(signed) = signature(secret.expose(), body, now)
    {
        headers.push((HeaderName::from_static("x-portolan-signature"), signed));
    }
    Ask {
        method: "POST",
        node: webhook.node.clone(),
        path: webhook.path.clone(),
        headers,
        body: Zeroizing::new(body.to_vec()),
        authorization_file: None,
        secrets: Vec::new(),
    }
}

/// `t=SECONDS,v1=HMAC` over `SECONDS.BODY`: whoever knows the secret knows that it is from here, and not from long ago.
fn signature(secret: &str, body: &[u8], now: u64) -> Option<HeaderValue> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(format!("{now}.").as_bytes());
    mac.update(body);
    HeaderValue::from_str(&format!("t={now},v1={}", hex(&mac.finalize().into_bytes()))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_budget_window_and_part_alone() {
        let span = |from| Span { from, to: from + 1 };
        let part = Mark::Spent(80);
        let one = id("key:a month UTC", span(5), part);
        assert_eq!((one.len(), &one), (ID, &id("key:a month UTC", Span { from: 5, to: 99 }, part)));
        for other in [
            id("key:b month UTC", span(5), part),
            id("key:a month UTC", span(6), part),
            id("key:a month UTC", span(5), Mark::Spent(50)),
        ] {
            assert_ne!(one, other);
        }
        let low = |entries| id("project:a prepaid UTC", Span::ALWAYS, Mark::Low { below: 5, entries });
        assert_ne!(low(1), low(2), "after a top-up it is told again");
    }

    #[test]
    fn signatures_are_those_of_the_algorithm() {
        // RFC 4231, test case 2, with its data split at the point that we put there.
        let signed = signature("Jefe", b"what do ya want for nothing?", 7).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"7.what do ya want for nothing?");
        assert_eq!(signed, format!("t=7,v1={}", hex(&mac.finalize().into_bytes())).as_str());
    }
}
