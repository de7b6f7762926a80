//! One try at one target: the request as this target is sent it, and what came of it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::relay::{Facts, Terms};
use super::{Call, Candidate, Held, Refusal, Relay, Resume, resume, worst};
use crate::config::Snapshot;
use crate::config::snapshot::Key;
use crate::dialect::words::Teller;
use crate::dialect::{Dialect, Inbound, To, Unsayable, template};
use crate::exchange::record::{self, Charged, Id, Intent, Settlement};
use crate::ir::{Fault, Loss, Losses, Origin, Request, Usage};
use crate::policy::Moment;
use crate::policy::budget::Reservation;
use crate::policy::coalesce::Cost;
use crate::policy::price::{Amount, Charge, Extent, Nano, PriceGroup};
use crate::policy::ration::Taken;
use crate::policy::route::Answered;
use crate::policy::rules::Rule;
use crate::provider::Target;
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::pieces::Pieces;

/// Output tokens assumed where neither caller nor catalogue bounds them, and nobody has a budget.
const UNBOUNDED_OUTPUT: u64 = 16_384;

/// One try, from its preparation to its settlement.
pub struct Attempt {
    pub id: Id,
    /// Counts from 1 within the call.
    pub number: u32,
    pub candidate: Candidate,
    /// Its claim on target and credential, until it is settled.
    pub held: Option<Held>,
    /// Path and query at the provider, base path included but for the node's.
    pub path: String,
    /// As it is sent: what stays as the caller wrote it is shared with the call.
    pub body: Pieces,
    pub terms: Terms,
    /// When the journal was told of it.
    pub begun: Moment,
    /// When it was dispatched; once more where a pooled connection had to be replaced.
    pub started: Moment,
    /// Status of the provider's answer; 0 until there is one.
    pub status: u16,
    /// When the first content came.
    pub first: Option<Moment>,
    /// `None` until a good head was seen.
    pub relay: Option<Relay>,
    /// What the request lost on its way to this target.
    pub losses: Losses,
    /// Set when the attempt has failed.
    pub fault: Option<Fault>,
    /// It goes on with a stream that broke.
    pub continues: bool,
    /// What it is made for, where that is not a call's own answer.
    pub aside: Option<Aside>,
    /// We left while the provider was at work: what it was given to read counts, though nobody heard what came of it.
    pub abandoned: bool,
    /// Its part of what the gateway may spend of its own accord.
    pub taken: Option<Taken>,
    /// The most that it can cost, and that its caller can be charged.
    reserve: Amount,
    /// Its part of the budgets of whoever pays for it.
    pub reservation: Option<Reservation>,
    /// Where several calls are told its answer: who pays, and how many they are.
    pub shares: Option<(Cost, u32)>,
}

/// Why an attempt is made beside those of a call's own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// To see whether a target is well.
    Probe,
    /// Another was late: the first of the two to have content answers.
    Hedge,
    /// Its answer is only compared with the call's own.
    Shadow,
}

impl Aside {
    /// The value of the tag `side` in usage.
    pub fn name(self) -> &'static str {
        match self {
            Aside::Probe => "probe",
            Aside::Hedge => "hedge",
            Aside::Shadow => "shadow",
        }
    }
}

/// Why a target cannot be given this request.
#[derive(Debug)]
pub enum Unfit {
    /// The request itself is at fault: no target will do.
    Request(Refusal),
    /// This target cannot take it; another may.
    Target(Refusal),
}

/// What an attempt is made from, beside its candidate.
pub struct Making<'a> {
    pub snapshot: &'a Arc<Snapshot>,
    /// The caller's dialect.
    pub caller: Dialect,
    pub call: &'a Arc<Call>,
    /// The key demands that nothing is lost.
    pub strict: bool,
    /// Somebody has a budget for it: the most that it can cost is looked for.
    pub bounded: bool,
    /// By which its caller is charged; `None`: what it costs.
    pub group: Option<&'a Arc<PriceGroup>>,
    pub request_id: &'a Arc<str>,
    pub number: u32,
    pub id: Id,
    pub now: Moment,
}

impl Attempt {
    /// Splices or transcodes the call for a candidate.
    ///
    /// # Errors
    /// [`Unfit`] says whether another candidate may do.
    pub fn prepare(making: &Making<'_>, candidate: Candidate, held: Held) -> Result<Attempt, Unfit> {
        let mut attempt = Attempt::going_on(making, None, candidate, held)?;
        attempt.terms.continues = false;
        Ok(attempt)
    }

    /// The same for an attempt whose stream can be gone on with if it breaks, or that goes on with one.
    ///
    /// # Errors
    /// As there.
    pub fn going_on(
        making: &Making<'_>,
        resume: Option<&Resume>,
        candidate: Candidate,
        held: Held,
    ) -> Result<Attempt, Unfit> {
        let Making { snapshot, caller, call, .. } = *making;
        let target = &candidate.target.target;
        let provider = &target.provider;
        let Some(inbound) = caller.inbound else {
            return Err(Unfit::Request(Refusal::Bug { what: "a caller's dialect without a caller's face" }));
        };
        let Some(outbound) = provider.dialect.outbound else {
            return Err(Unfit::Request(Refusal::Bug { what: "a provider's dialect without a provider's face" }));
        };
        let same_dialect = caller == provider.dialect;
        let to = To {
            model: &target.model,
            stream: provider.quirks.streams.ask(call.stream),
            quirks: &provider.quirks,
            abilities: &target.abilities,
        };

        let mut losses = Losses::default();
        // Both are told in the caller's words, which takes a look at the body: only where there is something to tell.
        let encoded = |request: &Request<'_>, losses: &mut Losses, done: Result<(), Unsayable>| {
            if done.is_ok() && losses.is_empty() {
                return Ok(());
            }
            let mut teller = Teller::new(inbound.words(), request, &call.body);
            *losses = losses.told(&mut |path| call.own(teller.tell(path)));
            done.map_err(|unsayable| {
                let path = call.own(teller.tell(&unsayable.path));
                Unfit::Target(Refusal::Unsayable(Unsayable { path, ..unsayable }))
            })
        };
        let mistaken =
            |invalid: Invalid| Unfit::Request(Refusal::Invalid(Invalid { path: call.own(invalid.path), ..invalid }));
        // A path of the operator's own leads to answers: where counts are to be had beside it is not known.
        let counting = outbound.counting().filter(|_| call.count && provider.quirks.path.is_none());
        let mut rewritten = call.earlier.is_some();
        let body = if call.count {
            let Some(counting) = counting else { return Err(Unfit::Target(Refusal::Uncounted)) };
            let request = inbound.decode_count(&call.body).map_err(mistaken)?;
            let mut body = Vec::with_capacity(call.body.len() + 512);
            let done = counting.encode(&request, &to, &mut body, &mut losses);
            encoded(&request, &mut losses, done)?;
            body.into()
        } else if resume.is_none()
            && same_dialect
            && to.stream == call.stream
            && outbound.fits(&call.body, &call.members, &to)
        {
            for name in &provider.quirks.refuses {
                if call.members.get(&call.body, name).is_some() {
                    losses.dropped(name.clone());
                }
            }
            let mut patch = Patch::default();
            outbound.splice(&call.body, &call.members, &to, &mut patch);
            if patch.is_empty() { call.body.clone().into() } else { patch.pieces(&call.body) }
        } else {
            rewritten = true;
            let mut request = inbound.decode(&call.body).map_err(mistaken)?;
            // In some dialects these stand in the path.
            request.model = call.model.as_str().into();
            request.stream = call.stream;
            inbound.judge(&request).map_err(|invalid| Unfit::Request(Refusal::Invalid(invalid)))?;
            if !same_dialect && request.is_silent() {
                // Each provider refuses it in words of its own, which name members that the caller did not send.
                let mut members = inbound.reads().prompt.iter();
                let path = members.find(|member| !member.starts_with("system")).copied().unwrap_or_default().to_owned();
                let message = "nothing is said: every message is empty".to_owned();
                return Err(Unfit::Request(Refusal::Invalid(Invalid { path, message })));
            }
            let mark = resume.and_then(|resume| resume.seam.ask(&mut request, outbound.prefill(&to)));
            let mut body = Vec::with_capacity(call.body.len() + 512);
            let done = outbound.encode(&request, &to, &mut body, &mut losses);
            encoded(&request, &mut losses, done)?;
            match mark {
                Some(mark) => resume::marked(body, mark, snapshot.limits.depth).into(),
                None => body.into(),
            }
        };
        for name in &call.controls.unheeded {
            losses.dropped(*name);
        }
        let strict = candidate.model.strict || call.controls.strict || making.strict;
        if strict && losses.lasting().next().is_some() {
            return Err(Unfit::Target(Refusal::Strict { model: call.model.clone(), losses }));
        }
        let mut path = String::with_capacity(64);
        match counting {
            Some(counting) => counting.path(&to, &mut path),
            None => template::path(outbound, &to, &mut path),
        }

        let wished = call.controls.continuation.unwrap_or(candidate.model.retry.continuation);
        let continues = wished && call.stream && !call.count;
        let passes = same_dialect && !call.array && resume.is_none() && (!continues || inbound.takes_over());
        let charge = making.group.map(|group| candidate.model.charge(snapshot, group, &candidate.target));
        let terms = Terms {
            snapshot: snapshot.clone(),
            target: candidate.target.clone(),
            charge,
            inbound,
            outbound,
            origin: Origin(provider.dialect.name),
            same_dialect: passes,
            rewritten,
            continues,
            request_id: making.request_id.clone(),
            answer_id: OnceLock::new(),
            call: call.clone(),
            now: making.now.unix_ms / 1_000,
        };
        let reserve = Attempt::worst_case(call, inbound, &terms, &body, making.bounded);
        Ok(Attempt {
            reserve,
            reservation: None,
            id: making.id,
            number: making.number,
            candidate,
            held: Some(held),
            path,
            body,
            terms,
            begun: making.now,
            started: making.now,
            status: 0,
            first: None,
            relay: None,
            losses,
            fault: None,
            continues: resume.is_some(),
            aside: None,
            abandoned: false,
            taken: None,
            shares: None,
        })
    }

    /// The most that it can cost where its caller has a budget, and else about so much; 0 where no price is known.
    pub fn reserve(&self) -> Amount {
        self.reserve
    }

    fn worst_case(call: &Call, inbound: &dyn Inbound, terms: &Terms, body: &Pieces, bounded: bool) -> Amount {
        let target = &*terms.target;
        if target.price.is_none() && !matches!(terms.charge, Some(Some(_))) {
            return Amount::default();
        }
        let Target { abilities, model, provider, .. } = &target.target;
        let most = if bounded {
            worst::extent(call, inbound, &worst::To { dialect: provider.dialect.name, model, abilities, body })
        } else {
            let output = call.max_output.or(abilities.max_output).unwrap_or(UNBOUNDED_OUTPUT);
            Extent::any(call.input_estimate, output)
        };
        terms.amount(&mut |price| price.worst_case(&most))
    }

    /// What the journal is told before dispatch; `dialect` is the caller's, and `rules` led the call there.
    pub fn intent<'a>(
        &'a self,
        request: Id,
        key: &'a Key,
        dialect: Dialect,
        call: &'a Call,
        rules: &[Arc<Rule>],
    ) -> Intent<'a> {
        let target = &self.candidate.target;
        let lent = |name: &'a Option<String>| name.as_deref().map(Cow::Borrowed).unwrap_or_default();
        Intent {
            attempt: self.id,
            request,
            at: self.begun.unix_ms,
            number: self.number,
            key: Cow::Borrowed(&key.id),
            project: key.project.as_deref().map(Cow::Borrowed),
            asked: Cow::Borrowed(&call.model),
            model: Cow::Borrowed(&self.candidate.model.name),
            provider: Cow::Borrowed(&target.target.provider.id),
            target: Cow::Borrowed(&target.target.id),
            stream: call.stream,
            price_version: target.price.as_ref().map(|price| Cow::Borrowed(&*price.version)).unwrap_or_default(),
            reserve: self.reserve.cost,
            input_estimate: call.input_estimate,
            config_version: Cow::Borrowed(&self.terms.snapshot.version),
            tags: self.tags(key, call),
            team: lent(&key.team),
            organisation: lent(&key.organisation),
            user: lent(&key.user),
            region: target.region.as_deref().map(Cow::Borrowed).unwrap_or_default(),
            dialect: Cow::Borrowed(dialect.name),
            route: self.candidate.why.kept(rules),
            rates: Cow::Borrowed(&target.rates),
            charge: self.terms.charge.as_ref().map(|charge| {
                let (version, rates) = charge.as_deref().map_or(("", ""), Charge::said);
                let (version, rates) = (Cow::Borrowed(version), Cow::Borrowed(rates));
                Box::new(Charged { reserve: self.reserve.charge, version, rates })
            }),
        }
    }

    /// The arm that the target is in, and what the attempt is made for beside the call's own way; the key's tags, and the
    /// caller's where nobody else says the same.
    fn tags(&self, key: &Key, call: &Call) -> Cow<'static, str> {
        let continued = self.continues.then_some("true");
        let own = [("arm", self.candidate.arm()), ("side", self.aside.map(Aside::name)), ("continued", continued)];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        record::tags(own.chain(key.and_caller(&call.controls.tags)))
    }

    /// Facts of the answer so far.
    pub fn facts(&self) -> Option<&Facts> {
        self.relay.as_ref().map(Relay::facts)
    }

    /// The end of a stream that has begun and cannot go on; nothing where none has begun.
    pub fn last_words(&mut self, refusal: &Refusal) -> Option<Vec<u8>> {
        Some(self.relay.as_mut()?.last_words(refusal, &self.terms))
    }

    /// Whether content has been handed to the caller.
    pub fn committed(&self) -> bool {
        self.facts().is_some_and(|facts| facts.committed)
    }

    /// Usage as reported, where that can be, else our estimate (and `true`); `None` where the provider did no work that we know of.
    pub fn usage(&self, call: &Call) -> Option<(Usage, bool)> {
        let estimate = |output| (Usage { input: call.input_estimate, output, ..Usage::default() }, true);
        let Some(facts) = self.facts() else { return self.abandoned.then(|| estimate(0)) };
        if let Some(usage) = facts.usage.filter(Usage::is_plausible) {
            // A stream that broke off may have reported its input alone (Anthropic's `message_start`).
            let output = usage.output.max(if facts.whole { 0 } else { facts.pieces });
            let estimated = output != usage.output;
            return Some((
                Usage { output, stated_total: usage.stated_total.filter(|_| !estimated), ..usage },
                estimated,
            ));
        }
        (facts.content || facts.whole || facts.declined || self.abandoned).then(|| estimate(facts.pieces))
    }

    /// What was lost so far, on the way there and back.
    pub fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.losses.iter().chain(self.facts().into_iter().flat_map(|facts| facts.losses.iter()))
    }

    /// An answer came through, and teaches something of its target; `whole`: its end is the answer's. Says whether that
    /// ended a cooling.
    pub fn worked(&mut self, call: &Call, whole: bool, now: Moment) -> bool {
        let answered = self.answered(call, whole, now);
        if answered.output != 0 && whole {
            self.candidate.model.usual.add(now.mono, answered.output as f32);
        }
        self.held.as_mut().is_some_and(|held| held.worked(now.mono, &answered))
    }

    fn answered(&self, call: &Call, whole: bool, now: Moment) -> Answered {
        // A count says nothing of how long an answer takes, and a probe's answer is shorter than any other.
        if call.count || self.aside == Some(Aside::Probe) {
            return Answered::default();
        }
        let usage = self.usage(call).map(|(usage, _)| usage).unwrap_or_default();
        Answered {
            first_us: self.first.filter(|_| call.stream).map_or(0, |first| first.since(self.started)),
            total_us: if whole { now.since(self.started) } else { 0 },
            input: usage.input,
            output: usage.output,
            cached: usage.cached,
        }
    }

    /// What the journal is told when the attempt is over.
    pub fn settlement<'a>(&self, outcome: &'a str, served: bool, call: &Call, now: Moment) -> Settlement<'a> {
        let usage = self.usage(call);
        let whole = usage.map(|(usage, _)| self.terms.amount(&mut |price| price.cost(&usage))).unwrap_or_default();
        let part = |whole: Nano| self.shares.map_or(whole, |(policy, shares)| policy.of_leader(whole, shares));
        let (cost, charge) = (part(whole.cost), part(whole.charge));
        let divided = cost != whole.cost || charge != whole.charge;
        let share = self.shares.filter(|_| divided).map(|(_, shares)| format!("split {shares}").into());
        let mut losses = Losses::default();
        self.losses().for_each(|loss| losses.add(loss.how, loss.path.clone()));
        Settlement {
            attempt: self.id,
            begun: self.begun.unix_ms,
            at: now.unix_ms,
            outcome: outcome.into(),
            status: self.status,
            usage: usage.map(|(usage, _)| usage),
            estimated: usage.is_some_and(|(_, estimated)| estimated),
            cost,
            charge: self.terms.charge.as_ref().map(|_| charge),
            unpriced: self.terms.unpriced() && usage.is_some(),
            latency_us: now.since(self.started),
            ttft_us: self.first.map_or(0, |first| first.since(self.started)),
            served,
            losses: losses.to_string().into(),
            share: share.unwrap_or_default(),
        }
    }
}
