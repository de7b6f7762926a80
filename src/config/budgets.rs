//! Budgets as they are written, made ready for calls.
//!
//! Checking and making are apart, as in [`tenancy`](super::tenancy): levels are also made long after the file was read.

use std::fmt;
use std::sync::Arc;

use super::build::Build;
use super::file;
use super::problem::Route;
use super::snapshot::{Currency, Webhook, WebhookForm};
use super::value::zone;
use crate::policy::budget::{Budget, Degrade, Level, Period, Prepaid, Spendings, Window};
use crate::policy::limit::States;
use crate::policy::price::{Nano, PriceGroup, cost_decimal};
use crate::provider::{Node, Secret};

/// Parts that are told of where nothing is written.
const ALERTS: [u32; 3] = [50, 80, 100];
/// Most budgets of one level.
const MOST: usize = 8;
/// Most parts of one budget that are told of.
const MOST_ALERTS: usize = 16;
/// Longest line that callers are told.
const LONGEST_TOLD: usize = 256;
/// Most who are told.
const MOST_WEBHOOKS: usize = 16;
/// Millionths of a unit.
const MICRO: u128 = 1_000_000;

/// What limits and budgets are made with.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// What is spent. Outlives them.
    pub spendings: Arc<Spendings>,
    pub currencies: Vec<Currency>,
    /// What customers are charged.
    pub groups: Vec<Arc<PriceGroup>>,
    /// What was taken of limits. Outlives them.
    pub limits: Arc<States>,
}

impl Ground {
    /// The budgets of a level, in an order that all snapshots share. What makes no sense is taken as not written.
    pub fn budgets<'f>(
        &self,
        kind: &'static str,
        id: &str,
        written: impl Iterator<Item = &'f file::Budget>,
        prepaid: Option<&file::Prepaid>,
    ) -> Box<[Budget]> {
        let level = Level { kind, id: id.to_owned() };
        let mut made: Vec<(String, Budget)> = written
            .filter_map(|written| {
                let budget = self.budget(&level, written)?;
                Some((budget.spending.name(), budget))
            })
            .collect();
        made.extend(prepaid.map(|written| {
            let budget = self.prepaid(&level, written);
            (budget.spending.name(), budget)
        }));
        made.sort_by(|(one, _), (other, _)| one.cmp(other));
        made.dedup_by(|(one, _), (other, _)| one == other);
        made.into_iter().map(|(_, budget)| budget).collect()
    }

    fn budget(&self, level: &Level, written: &file::Budget) -> Option<Budget> {
        let (amount, code) = amount(written)?;
        let zone_name = written.time_zone.as_deref().unwrap_or("UTC");
        let period = match written.per {
            file::BudgetPer::Day => Period::Day,
            file::BudgetPer::Week => Period::Week,
            file::BudgetPer::Month => Period::Month,
            file::BudgetPer::Total => Period::Total,
        };
        let window = Window { period, zone: zone(zone_name).ok()?, zone_name: zone_name.to_owned() };
        let mut alerts = written.alerts.clone().unwrap_or_else(|| ALERTS.to_vec());
        alerts.sort_unstable();
        alerts.dedup();
        let degrade = written.degrade.as_ref().map(|degrade| {
            let mut to: Vec<(String, String)> = degrade.to.clone().into_iter().collect();
            // A name before the patterns that fit it too, and longer patterns before shorter ones.
            to.sort_by_key(|(from, _)| (from.contains('*'), std::cmp::Reverse(from.len())));
            Degrade { above: degrade.above, to: to.into() }
        });
        Some(Budget {
            limit: self.dollars(amount, code)?,
            written: format!("{} {}", cost_decimal(amount), code.to_uppercase()),
            hard: written.hard.unwrap_or(true),
            alerts: alerts.into(),
            degrade,
            spending: self.spendings.of(level, &window),
            prepaid: None,
        })
    }

    /// What the budgets of a level come to.
    pub(super) fn amounts(&self, rules: &file::LevelRules<'_>) -> Vec<Amount> {
        let all = rules.budget.into_iter().chain(rules.budgets);
        let made = all.filter_map(|written| {
            let (amount, code) = amount(written)?;
            let dollars = self.dollars(amount, code)?;
            Some(Amount { dollars, per: written.per, hard: written.hard.unwrap_or(true) })
        });
        made.collect()
    }

    /// What was paid in for a level, as a budget of what its calls are charged.
    fn prepaid(&self, level: &Level, written: &file::Prepaid) -> Budget {
        let window = Window { period: Period::Prepaid, zone: jiff::tz::TimeZone::UTC, zone_name: "UTC".to_owned() };
        let mut low: Vec<Nano> = written.low.iter().map(|amount| amount.0).collect();
        low.sort_unstable_by(|one, other| other.cmp(one));
        low.dedup();
        Budget {
            limit: 0,
            written: "prepaid".to_owned(),
            hard: true,
            alerts: Arc::default(),
            degrade: None,
            spending: self.spendings.of(level, &window),
            prepaid: Some(Prepaid {
                paid: self.spendings.paid(level),
                low: low.into(),
                top_up: written.top_up.clone(),
            }),
        }
    }

    /// The price group of that name.
    pub fn group(&self, name: &str) -> Option<&Arc<PriceGroup>> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Nano-dollars of an amount, never more than it is worth.
    pub fn dollars(&self, amount: Nano, code: &str) -> Option<Nano> {
        if code == "usd" {
            return Some(amount);
        }
        let currency = self.currencies.iter().find(|currency| currency.code == code)?;
        let rate = u128::from(currency.per_usd_micro);
        Nano::try_from((u128::from(amount) * MICRO).checked_div(rate)?).ok()
    }
}

/// What a budget comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    dollars: Nano,
    per: file::BudgetPer,
    pub hard: bool,
}

impl Amount {
    /// Whether it is more in no longer a time, whoever's midnight that goes by.
    pub fn exceeds(&self, above: &Amount) -> bool {
        self.per <= above.per && self.dollars > above.dollars
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            file::BudgetPer::Day => "a day",
            file::BudgetPer::Week => "a week",
            file::BudgetPer::Month => "a month",
            file::BudgetPer::Total => "in total",
        };
        write!(f, "{} US dollars {per}", cost_decimal(self.dollars))
    }
}

/// The amount of a budget and its currency.
fn amount(written: &file::Budget) -> Option<(Nano, &str)> {
    match (written.usd, written.amount) {
        (Some(usd), None) if written.currency.is_none() => Some((usd.0, "usd")),
        (None, Some(amount)) => Some((amount.0, written.currency.as_deref().unwrap_or("usd"))),
        _ => None,
    }
}

impl Build<'_> {
    /// Who is told when parts of budgets are spent.
    pub(super) fn webhooks(&mut self, written: &file::Alerts) -> Arc<[Webhook]> {
        let route = Route::default().key("alerts").key("webhooks");
        if written.webhooks.len() > MOST_WEBHOOKS {
            self.wrong(&route, format!("{MOST_WEBHOOKS} webhooks at most"));
        }
        let all = written.webhooks.iter().enumerate();
        all.filter_map(|(number, webhook)| self.webhook(webhook, &route.index(number))).collect()
    }

    fn webhook(&mut self, written: &file::Webhook, route: &Route) -> Option<Webhook> {
        let url = self.kept(&written.url, &route.key("url"))?;
        let secret = match &written.secret {
            Some(secret) => Some(self.kept(secret, &route.key("secret"))?),
            None => None,
        };
        if secret.as_ref().is_some_and(|secret| secret.trim().is_empty()) {
            // Anybody could sign with it (J-11).
            self.wrong(&route.key("secret"), "an empty secret proves nothing: write one, or take it out");
        }
        // What stands behind the host is taken apart here: a base URL has no query.
        let (base, query) = url.split_once('?').map_or((url.as_str(), None), |(base, query)| (base, Some(query)));
        let node = match Node::parse(base, 1) {
            Ok(node) => node,
            Err(told) => {
                self.wrong(&route.key("url"), told);
                return None;
            }
        };
        let path = if node.path.is_empty() { "/".to_owned() } else { node.path.clone() };
        let path = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        let form = match written.form {
            file::WebhookForm::Json => WebhookForm::Json,
            file::WebhookForm::Slack => WebhookForm::Slack,
        };
        Some(Webhook { node, path, secret: secret.map(Secret::new), form })
    }

    /// A text that may lie in a file.
    fn kept(&mut self, text: &str, route: &Route) -> Option<String> {
        let Some(name) = text.strip_prefix("file:") else { return Some(text.to_owned()) };
        match self.read(name).map(String::from_utf8) {
            Ok(Ok(text)) => Some(text.trim().to_owned()),
            Ok(Err(_)) => {
                self.wrong(route, "this file is not text");
                None
            }
            Err(told) => {
                self.wrong(route, told);
                None
            }
        }
    }

    /// The budgets of a level, checked.
    pub(super) fn budgets(&mut self, one: Option<&file::Budget>, several: &[file::Budget], route: &Route) {
        if one.is_some() && !several.is_empty() {
            self.wrong(&route.key("budget"), "there are `budgets` too: write it there");
        }
        if several.len() > MOST {
            self.wrong(&route.key("budgets"), format!("{MOST} budgets at most"));
        }
        let several = several.iter().enumerate().map(|(number, budget)| (budget, route.key("budgets").index(number)));
        let mut seen: Vec<(file::BudgetPer, &str)> = Vec::new();
        for (budget, route) in one.map(|budget| (budget, route.key("budget"))).into_iter().chain(several) {
            self.budget(budget, &route);
            let window = (budget.per, budget.time_zone.as_deref().unwrap_or("UTC"));
            if seen.contains(&window) {
                self.wrong(&route, "another budget here has the same period and zone: keep one");
            }
            seen.push(window);
        }
    }

    /// What was paid in for a level, checked.
    pub(super) fn prepaid(&mut self, written: &file::Prepaid, route: &Route) {
        if written.low.len() > MOST_ALERTS {
            self.wrong(&route.key("low"), format!("{MOST_ALERTS} of them at most"));
        }
        if written.top_up.as_ref().is_some_and(|told| told.len() > LONGEST_TOLD || told.contains(char::is_control)) {
            self.wrong(&route.key("top_up"), format!("write an address, or a line of up to {LONGEST_TOLD} bytes"));
        }
    }

    fn budget(&mut self, written: &file::Budget, route: &Route) {
        match amount(written) {
            None => self.wrong(route, "write how much: `usd: 20`, or `amount: 20` with `currency: eur`"),
            Some((amount, code)) if self.ground.dollars(amount, code).is_none() => {
                let message = format!("there is no rate for `{code}` under `currencies`: add it there, or write usd");
                self.wrong(&route.key("currency"), message);
            }
            Some(_) => {}
        }
        if let Some(Err(told)) = written.time_zone.as_deref().map(zone) {
            self.wrong(&route.key("time_zone"), told);
        }
        if written.alerts.as_ref().is_some_and(|alerts| alerts.len() > MOST_ALERTS) {
            self.wrong(&route.key("alerts"), format!("{MOST_ALERTS} of them at most"));
        }
        if let Some(degrade) = &written.degrade {
            if degrade.to.is_empty() {
                self.wrong(&route.key("degrade").key("to"), "write which model serves instead of which");
                return;
            }
            let route = route.key("degrade").key("to");
            let names: Vec<String> = degrade.to.keys().cloned().collect();
            self.patterns(&names, &route);
            for (from, to) in &degrade.to {
                if !self.known.model(to) && !to.contains('/') {
                    let hint = super::problem::did_you_mean(to, self.known.models.iter().map(String::as_str));
                    self.wrong(&route.key(from), format!("there is no model `{to}`.{hint}"));
                }
            }
        }
    }
}
