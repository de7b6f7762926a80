//! Rules as they are written, made ready for calls: conditions compiled, names given, and all mistakes with their places.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::policy::classes::Classes;
use crate::policy::queue::Urgency;
use crate::policy::rules::{Expression, Rule, Set, Then};

use super::build::Build;
use super::file;
use super::problem::Route;
use super::providers::is_id;
use super::routing;
use super::snapshot::Model;

/// Most rules of one list: what a call may have to be looked at for.
const MOST: usize = 256;
/// Where systems keep the zones (tzfile(5)).
const ZONES: &str = "/usr/share/zoneinfo";

impl Build<'_> {
    /// A list of rules: those for all calls, or a model's.
    pub(super) fn rulebook(&mut self, written: &[file::Rule], model: Option<&str>, route: &Route) -> Vec<Arc<Rule>> {
        if written.len() > MOST {
            self.wrong(route, format!("more than {MOST} rules: let their conditions do more"));
        }
        let rules = written.iter().enumerate();
        rules.map(|(number, rule)| Arc::new(self.rule(written, number, rule, model, &route.index(number)))).collect()
    }

    fn rule(
        &mut self,
        all: &[file::Rule],
        number: usize,
        rule: &file::Rule,
        model: Option<&str>,
        route: &Route,
    ) -> Rule {
        let name = match &rule.name {
            Some(name) => {
                if !is_id(name) {
                    let message = "a rule's name is 1 to 64 letters, digits, dots, hyphens and underscores";
                    self.wrong(&route.key("name"), message);
                } else if all.iter().take(number).any(|other| other.name.as_ref() == Some(name)) {
                    self.wrong(&route.key("name"), format!("another rule is called `{name}`: take another name"));
                }
                name.clone()
            }
            None => format!("#{}", number + 1),
        };
        let name = model.map_or(name.clone(), |model| format!("{model}/{name}"));
        let when = rule.when.as_ref().and_then(|source| match Expression::compile(source) {
            Ok(expression) => Some(expression),
            Err(mistakes) => {
                for mistake in mistakes {
                    let (line, column) = mistake.place;
                    let place = if source.contains('\n') { format!("{line}:{column}") } else { column.to_string() };
                    self.wrong(&route.key("when"), format!("at {place}: {}", mistake.message));
                }
                None
            }
        });
        let chooses = rule.model.is_some()
            || rule.strategy.is_some()
            || rule.targets.is_some()
            || rule.fallback.is_some()
            || rule.priority.is_some();
        if !chooses {
            self.wrong(route, "this rule chooses nothing: add model, strategy, targets, fallback or priority");
        }
        if rule.when.is_none() && !rule.go_on && number + 1 < all.len() {
            self.wrong(
                route,
                "no rule after this one is ever looked at: add `when` or `continue: true`, or put it last",
            );
        }
        if matches!(rule.strategy, Some(file::Strategy::Nearest)) && self.routing.homes.is_empty() {
            self.wrong(&route.key("strategy"), "nearest goes by distances: add them under `routing.distances`");
        }
        let targets = rule.targets.as_ref().map(|set| {
            let route = route.key("targets");
            if !set.names.is_empty() {
                self.patterns(&set.names, &route.key("names"));
            }
            Set {
                regions: set.regions.clone(),
                attributes: self.attributes(&set.attributes, &route.key("attributes")),
                names: set.names.clone(),
            }
        });
        let then = Then {
            model: rule.model.clone(),
            strategy: rule.strategy.map(routing::strategy),
            targets,
            fallback: rule.fallback.clone(),
            urgency: rule.priority.map(urgency),
        };
        Rule { name, when, then, go_on: rule.go_on }
    }

    /// What conditions go by is there.
    pub(super) fn conditions(
        &mut self,
        rules: &[Arc<Rule>],
        models: &HashMap<String, Arc<Model>>,
        classes: Option<&Classes>,
    ) {
        let root = Route::default();
        let of_models =
            models.values().map(|model| (root.key("models").key(&model.name).key("rules"), &*model.rulebook));
        for (route, rules) in std::iter::once((root.key("rules"), rules)).chain(of_models) {
            for (number, rule) in rules.iter().enumerate() {
                let named = rule.when.as_ref().map_or(&[][..], |when| when.classes());
                self.named_classes(classes, named, &route.index(number).key("when"));
            }
        }
    }

    /// The zone of a name, UTC for none.
    pub(super) fn zone(&mut self, name: Option<&str>, route: &Route) -> TimeZone {
        let Some(name) = name.filter(|name| *name != "UTC") else { return TimeZone::UTC };
        let sound = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+');
            !part.is_empty() && part.bytes().all(known)
        };
        if name.len() > 64 || !name.split('/').all(sound) {
            self.wrong(route, "write a zone such as Europe/Berlin, or UTC");
            return TimeZone::UTC;
        }
        let found = (self.outside.read)(&Path::new(ZONES).join(name));
        let zone = found.ok().and_then(|data| TimeZone::tzif(name, &data).ok());
        zone.unwrap_or_else(|| {
            self.wrong(
                route,
                format!("{ZONES} has no zone `{name}`: write it as there, such as Europe/Berlin, or UTC"),
            );
            TimeZone::UTC
        })
    }
}

pub(super) fn urgency(written: file::Priority) -> Urgency {
    match written {
        file::Priority::High => Urgency::High,
        file::Priority::Normal => Urgency::Normal,
        file::Priority::Low => Urgency::Low,
    }
}
