//! Who decides what: the rules that a call meets, before any target is looked at.
//!
//! Of the rules for all calls the first that is met counts, then of the model's own; where one leads to another model,
//! that one's own come next. No rule gives a key what it may not have: sets of targets only narrow, and one that leads to a
//! model the key may not use is gone past, but for its set: what must stay in one place stays there.

use std::sync::Arc;

use super::facts::Seen;
use super::plan::find;
use super::{Call, Refusal};
use crate::config::Snapshot;
use crate::config::snapshot::{Key, Model, PricedTarget};
use crate::policy::Moment;
use crate::policy::classes::Judged;
use crate::policy::queue::Urgency;
use crate::policy::route::Strategy;
use crate::policy::rules::{Failure, Rule, Then};

/// Most models that a call is led through.
const MOST_HOPS: usize = 4;

/// What is said of a call beside its body, as far as rules may know it.
pub struct Circumstances<'h> {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// A request's header by its name in small letters.
    pub header: &'h dyn Fn(&str) -> Option<&'h str>,
}

/// What the rules chose for a call.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The rules that it met, in order. The first that says something counts.
    pub rules: Vec<Arc<Rule>>,
    /// Those whose sets of targets hold: of the rules that it met, and of those that were barred.
    sets: Vec<Arc<Rule>>,
    /// The model that they led to; `None`: the one that was asked for.
    pub model: Option<Arc<Model>>,
    /// Rules that could not be judged.
    pub failed: Vec<(Arc<Rule>, Failure)>,
    /// The class of task, where a rule asked for it or classes are in shadow.
    pub class: Option<Judged>,
    /// Every rule that was looked at, where that is to be told.
    pub looked: Vec<(Arc<Rule>, Verdict)>,
}

/// What came of a look at a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    NotMet,
    Failed(Failure),
    /// It is met, and leads to a model that the key may not use, or that does not serve: only its set holds.
    Barred,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::NotMet => "not_met",
            Verdict::Failed(failure) => failure.name(),
            Verdict::Barred => "barred",
        }
    }
}

impl Decision {
    pub fn strategy(&self) -> Option<Strategy> {
        self.rules.iter().find_map(|rule| rule.then.strategy)
    }

    pub fn fallback(&self) -> Option<&[String]> {
        self.rules.iter().find_map(|rule| rule.then.fallback.as_deref())
    }

    pub fn urgency(&self) -> Option<Urgency> {
        self.rules.iter().find_map(|rule| rule.then.urgency)
    }

    /// Whether a target is in all of the sets.
    pub fn allows(&self, target: &PricedTarget) -> bool {
        self.barring(target).is_none()
    }

    /// The rule whose set a target is not in.
    pub fn barring(&self, target: &PricedTarget) -> Option<&Rule> {
        let within = |rule: &Rule| {
            let set = rule.then.targets.as_ref();
            set.is_none_or(|set| set.has(&target.target.id, target.region.as_deref(), &target.attributes))
        };
        self.sets.iter().map(|rule| &**rule).find(|rule| !within(rule))
    }

    /// Whether some rule has a set of targets.
    pub fn narrows(&self) -> bool {
        !self.sets.is_empty()
    }
}

/// Looks at the rules. `tell`: each look is kept.
///
/// # Errors
/// The model does not exist, is not allowed to this key, or no rule leads from it to one that is.
pub fn decide<'a>(
    snapshot: &'a Snapshot,
    key: &'a Key,
    call: &'a Call,
    circumstances: &Circumstances<'a>,
    tell: bool,
    now: Moment,
) -> Result<Decision, Refusal> {
    let mut decision = Decision::default();
    if !snapshot.rulebook.any {
        return Ok(decision);
    }
    let asked = find(snapshot, key, &call.model)?;
    let mut model = asked;
    let seen = Seen::new(snapshot, key, call, circumstances, &model.name, now);
    if let Some(next) = look(&snapshot.rulebook.rules, snapshot, key, &seen, tell, &mut decision) {
        model = next;
    }
    let mut been: Vec<&Arc<Model>> = Vec::new();
    while !model.rulebook.is_empty() && been.len() < MOST_HOPS && !been.iter().any(|other| Arc::ptr_eq(other, model)) {
        been.push(model);
        seen.model.set(&model.name);
        match look(&model.rulebook, snapshot, key, &seen, tell, &mut decision) {
            Some(next) => model = next,
            None => break,
        }
    }
    if snapshot.classes.as_ref().is_some_and(|classes| classes.shadow) {
        seen.judged();
    }
    decision.class = seen.into_judged();
    if model.targets.is_empty() {
        // Rules were to lead on, and each of theirs is asleep or barred to this key.
        let leads = || model.rulebook.iter().filter_map(|rule| rule.then.model.as_deref());
        let forbidden = leads().filter_map(|name| snapshot.model(name)).any(|model| !key.may_use(&model.name));
        let asleep = leads().find_map(|name| snapshot.model_asleep(name)).map(|variables| variables.join(" or "));
        let model = call.model.clone();
        return Err(if forbidden {
            Refusal::ModelForbidden { model }
        } else {
            Refusal::UnknownModel { model, asleep }
        });
    }
    if !Arc::ptr_eq(model, asked) {
        decision.model = Some(Arc::clone(model));
    }
    Ok(decision)
}

/// Leads a call to a cheaper model, as a rule would, where a budget of its key is spent so far that this is wished; only to one
/// that the key may use.
pub fn degrade(snapshot: &Snapshot, key: &Key, call: &Call, decision: &mut Decision, now: Moment) {
    if !key.budgeted || call.count {
        return;
    }
    let asked = match &decision.model {
        Some(model) => &model.name,
        None => match find(snapshot, key, &call.model) {
            Ok(model) => &model.name,
            Err(_) => return,
        },
    };
    let mut wishes = key.budgets().filter_map(|budget| Some((budget, budget.degraded(asked, now.unix_ms)?)));
    let Some((budget, to)) = wishes.next() else { return };
    let cheaper = find(snapshot, key, to).ok().filter(|model| !model.targets.is_empty() && model.name != *asked);
    let Some(cheaper) = cheaper.cloned() else { return };
    // By the kind of level alone: names are labels of metrics.
    let name = format!("budget:{}", budget.spending.level().kind);
    let then = Then { model: Some(to.to_owned()), ..Then::default() };
    decision.rules.push(Arc::new(Rule { name, then, ..Rule::default() }));
    decision.model = Some(cheaper);
}

/// Looks at one list of rules, and says where it leads to.
fn look<'s>(
    rules: &[Arc<Rule>],
    snapshot: &'s Snapshot,
    key: &Key,
    seen: &Seen<'_>,
    tell: bool,
    decision: &mut Decision,
) -> Option<&'s Arc<Model>> {
    let mut led = None;
    for rule in rules {
        let judged = rule.when.as_ref().map_or(Ok(true), |when| when.holds(seen));
        let target = rule.then.model.as_ref().filter(|_| judged == Ok(true) && led.is_none());
        let found = target.map(|name| find(snapshot, key, name));
        let verdict = match (judged, &found) {
            (Err(failure), _) => {
                decision.failed.push((Arc::clone(rule), failure));
                Verdict::Failed(failure)
            }
            (Ok(false), _) => Verdict::NotMet,
            (Ok(true), Some(Err(_))) => Verdict::Barred,
            (Ok(true), _) => Verdict::Met,
        };
        if tell {
            decision.looked.push((Arc::clone(rule), verdict));
        }
        if judged == Ok(true) && rule.then.targets.is_some() {
            decision.sets.push(Arc::clone(rule));
        }
        if verdict == Verdict::Met {
            decision.rules.push(Arc::clone(rule));
            if let Some(Ok(model)) = found {
                led = Some(model);
            }
            if !rule.go_on {
                break;
            }
        }
    }
    led
}

#[cfg(test)]
mod tests;
