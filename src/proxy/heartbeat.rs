//! Asks targets whether they are well, so that a call need not find out: one task for each that is asked.
//!
//! A completion is an attempt like any other: it claims its target, is journalled and metered, and what comes of it is
//! learnt where a call's outcome would be. A question for a list or a path costs nothing and proves less: it ends a rest
//! early, and lets the next call decide. Nodes of a pool have checks of their own ([`super::upkeep`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::dispatch;
use super::relaying::retry_after;
use super::side::{Errand, Exchange, Unanswered};
use super::state::{Served, Shared};
use crate::config::snapshot::{Beat, Key, Model, PricedTarget};
use crate::dialect::openai_chat;
use crate::exchange::held::{self, Ready};
use crate::exchange::{Aside, Attempt, Call, Candidate, Held, Making, Said, Why};
use crate::ir::{Fault, FaultKind};
use crate::policy::Moment;
use crate::policy::route::Cooling;
use crate::policy::route::heartbeat::{Heartbeat, Question, relent};
use crate::provider::Proof;
use crate::telemetry::events;
use crate::wire::writer;

/// Whose rows of the ledger probes are. No key is called so.
pub const KEY: &str = "@probe";
/// Most of an error answer that is read.
const MOST_ERROR: usize = 64 << 10;

/// Keeps a task for each target, or provider, that is asked.
pub struct Prober {
    pub shared: Arc<Shared>,
}

struct Watch {
    rules: Arc<Heartbeat>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl BackgroundService for Prober {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut watches: HashMap<String, Watch> = HashMap::new();
        let mut swapped = self.shared.swapped.subscribe();
        loop {
            let wanted = wanted(&self.shared.served());
            // Those whose rules are the same go on; the interval of the others begins anew.
            watches.retain(|name, watch| wanted.get(name).is_some_and(|rules| *rules == watch.rules));
            for (name, rules) in wanted {
                watches.entry(name).or_insert_with_key(|name| {
                    let task = tokio::spawn(watch(self.shared.clone(), name.clone(), rules.clone()));
                    Watch { rules, task: task.abort_handle() }
                });
            }
            tokio::select! {
                // What is under way settles itself as it is dropped.
                _ = shutdown.changed() => return,
                changed = swapped.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Who is asked: a target, or a provider for all its targets.
fn name<'n>(target: &'n PricedTarget, beat: &Beat) -> &'n str {
    if beat.shared { &target.target.provider.id } else { &target.target.id }
}

fn wanted(served: &Served) -> BTreeMap<String, Arc<Heartbeat>> {
    let targets = served.snapshot.models.values().flat_map(|model| &model.targets);
    let beats = targets.filter_map(|target| Some((target, target.heartbeat.as_ref()?)));
    beats.map(|(target, beat)| (name(target, beat).to_owned(), beat.rules.clone())).collect()
}

/// A target under one of the models that have it.
struct Asked {
    model: Arc<Model>,
    target: Arc<PricedTarget>,
    beat: Beat,
}

/// Asks one target, or provider, again and again.
async fn watch(shared: Arc<Shared>, who: String, rules: Arc<Heartbeat>) {
    // Somewhere in the first interval, so that those who begin together do not ask together.
    let mut pause = rules.interval.mul_f64(fastrand::f64());
    loop {
        sleep(pause).await;
        pause = rules.pause(fastrand::u64(..));
        let served = shared.served();
        let now = shared.now();
        let mut asked: Vec<Asked> = Vec::new();
        for model in served.snapshot.models.values() {
            for target in &model.targets {
                let Some(beat) = target.heartbeat.as_ref().filter(|beat| name(target, beat) == who) else { continue };
                let known = asked.iter().any(|other| other.target.target.id == target.target.id);
                if !known && rules.wants(&target.vitals, now.mono) {
                    asked.push(Asked { model: model.clone(), target: target.clone(), beat: beat.clone() });
                }
            }
        }
        let Some(first) = asked.first() else { continue };
        let _running = shared.sides.enter();
        let answer = match &rules.ask {
            Question::Completion { tokens } => complete(&shared, &served, first, *tokens, &rules).await,
            Question::Models | Question::Path(_) => question(&shared, &served, &asked, &rules).await,
        };
        let result = match answer {
            Answer::Came(fault) => {
                note(&shared, &who, first, fault.as_ref(), now);
                continue;
            }
            Answer::Spent => "unspent",
            Answer::Full => "full",
        };
        shared.metrics.probes.with_label_values(&[&who, rules.ask.name(), result]).inc();
    }
}

/// What came of a question.
enum Answer {
    /// It was asked; the fault, if that is what came.
    Came(Option<Fault>),
    /// The day's ration is spent.
    Spent,
    /// The target has calls enough, or a call is finding out.
    Full,
}

fn note(shared: &Shared, who: &str, asked: &Asked, fault: Option<&Fault>, began: Moment) {
    let now = shared.now();
    let (pulse, wrong) = (&asked.beat.pulse, fault.map(|fault| fault.kind.name()));
    let before = pulse.beats();
    pulse.note(now, now.since(began), wrong);
    events::Probed {
        target: who,
        ask: asked.beat.rules.ask.name(),
        wrong,
        message: fault.map(|fault| fault.message.as_str()),
        changed: before.wrong.is_some() != wrong.is_some(),
    }
    .emit(&shared.metrics);
}

fn cooling(served: &Served) -> Cooling {
    Cooling { failures: served.snapshot.retry.failures, pause: served.snapshot.retry.cooldown }
}

/// Asks for a tiny completion.
async fn complete(shared: &Arc<Shared>, served: &Arc<Served>, asked: &Asked, tokens: u32, rules: &Heartbeat) -> Answer {
    let (target, now) = (&asked.target, shared.now());
    let wrong = |what: &str| Answer::Came(Some(Fault::new(FaultKind::BadRequest, what)));
    let Some(call) = ping(&asked.model.name, tokens, served) else { return wrong("No probe can be made.") };
    let random = &mut || fastrand::u64(..);
    let counted = call.input_estimate + u64::from(tokens);
    let held = match held::ready(target, now.mono, counted) {
        Ready::Now => Held::take(target, now.mono, counted, random),
        Ready::Resting { stated: false, .. } => Some(Held::force(target, now.mono, counted, random)),
        Ready::Full { .. } | Ready::Resting { .. } => None,
    };
    let Some(held) = held else { return Answer::Full };
    let id = shared.new_id(now);
    let request_id: Arc<str> = id.to_string().into();
    let call = Arc::new(call);
    let making = Making {
        snapshot: &served.snapshot,
        caller: openai_chat::DIALECT,
        call: &call,
        strict: false,
        bounded: false,
        group: None,
        request_id: &request_id,
        number: 1,
        id: shared.new_id(now),
        now,
    };
    let candidate = Candidate { model: asked.model.clone(), target: target.clone(), why: Why::default() };
    let Ok(mut attempt) = Attempt::prepare(&making, candidate, held) else {
        return wrong("The target cannot be given a probe.");
    };
    attempt.aside = Some(Aside::Probe);
    attempt.taken = asked.beat.pulse.take(rules, now, attempt.reserve().cost);
    if attempt.taken.is_none() {
        return Answer::Spent;
    }
    let errand = Errand {
        shared: shared.clone(),
        served: served.clone(),
        explanation: None,
        allotment: None,
        id,
        request_id,
        dialect: openai_chat::DIALECT,
        call,
        key: Arc::new(Key::own(KEY)),
        headers: HeaderMap::new(),
        cooling: cooling(served),
        deadline: Instant::now() + rules.timeout,
    };
    let answered = match Exchange::begin(errand, Box::new(attempt)).await {
        Ok(exchange) => exchange.drain().await,
        Err(Unanswered::Failed(fault)) => Err(fault),
        Err(Unanswered::Unmetered) => return Answer::Full,
    };
    Answer::Came(answered.err())
}

/// The call that a probe is.
fn ping(model: &str, tokens: u32, served: &Served) -> Option<Call> {
    let mut body = Vec::with_capacity(128);
    writer::object(&mut body, |o| {
        o.string("model", model);
        o.array("messages", |a| {
            a.object(|o| {
                o.string("role", "user");
                o.string("content", "ping");
            });
        });
        o.number("max_completion_tokens", u64::from(tokens));
    });
    let reads = openai_chat::DIALECT.inbound?.reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    Call::read(body.into(), &said, &served.snapshot.limits, &|_| None).ok()
}

/// Asks for something that costs nothing, on behalf of all these targets of one provider.
async fn question(shared: &Shared, served: &Served, asked: &[Asked], rules: &Heartbeat) -> Answer {
    let Some(first) = asked.first() else { return Answer::Full };
    let began = shared.now();
    if first.beat.pulse.take(rules, began, 0).is_none() {
        return Answer::Spent;
    }
    let seats = first.target.seats.len();
    let seat = fastrand::usize(..seats.max(1));
    let fault = match timeout(rules.timeout, fetch(shared, served, first, seat, rules)).await {
        Ok(fetched) => fetched.err(),
        Err(_) => Some(Fault::new(FaultKind::Timeout, "The provider did not answer in time.")),
    };
    let now = shared.now();
    for (number, Asked { target, .. }) in asked.iter().enumerate() {
        let id = &target.target.id;
        let Some(fault) = &fault else {
            if relent(&target.vitals.breaker, now.mono) {
                events::TargetRecovered { target: id }.emit(&shared.metrics);
            }
            continue;
        };
        // The credential is the same for all of them: it is charged once.
        if number > 0 && held::blames_credential(fault.kind) {
            break;
        }
        if let Some(cooled) = Held::ask(target, seat).failed(fault, now.mono, cooling(served)) {
            let credential = cooled.credential.and_then(|place| target.target.provider.credentials.get(place));
            let credential = credential.map(|credential| credential.name.as_str());
            events::TargetCooled { target: id, credential, kind: fault.kind, pause: cooled.pause }
                .emit(&shared.metrics);
        }
    }
    Answer::Came(fault)
}

async fn fetch(shared: &Shared, served: &Served, asked: &Asked, seat: usize, rules: &Heartbeat) -> Result<(), Fault> {
    let target = &asked.target;
    let provider = &target.target.provider;
    let broken = |error: Box<pingora::Error>| dispatch::classify(&error, false);
    let Some(way) = served.way(&provider.id) else {
        return Err(Fault::new(FaultKind::Connect, "There is no way to this provider."));
    };
    let mut proof = provider.credentials.get(seat).map(|credential| credential.header.clone());
    if let Some(holder) = served.holder(&provider.id) {
        let grant = holder.grant(shared, target.timeouts.connect).await;
        match grant.as_deref().map(|grant| &grant.proof) {
            Some(Proof::Bearer { header, .. }) => proof = Some(header.clone()),
            Some(Proof::Aws(_)) | None => {
                let told = "The gateway has no valid token for this provider.";
                return Err(Fault::new(FaultKind::Authentication, told));
            }
        }
    }
    let peer = way.upstream.peer(&target.timeouts, false).await;
    let peer = peer.map_err(|_| Fault::new(FaultKind::Connect, "The provider's host name does not resolve."))?;
    let path = match (&rules.ask, provider.dialect.outbound.and_then(|face| face.listing())) {
        (Question::Path(path), _) => path.clone(),
        (_, listing) => format!("{}{}", peer.place.node.path, listing.unwrap_or("/")),
    };
    let head = || {
        let mut head = RequestHeader::build("GET", path.as_bytes(), Some(8))?;
        head.insert_header(header::HOST, peer.place.node.authority.as_str())?;
        for (name, value) in &way.headers {
            if *name != header::CONTENT_TYPE && !value.is_empty() {
                head.insert_header(name.clone(), value.clone())?;
            }
        }
        head.insert_header(header::ACCEPT, HeaderValue::from_static("*/*"))?;
        if let Some((name, value)) = &proof {
            head.insert_header(name.clone(), value.clone())?;
        }
        Ok(head)
    };
    let head = head().map_err(broken)?;
    let connector = shared.sides.connector().await;
    let (mut http, _) = connector.get_http_session(&*peer.peer).await.map_err(|error| dispatch::unconnected(&error))?;
    http.write_request_header(Box::new(head)).await.map_err(broken)?;
    http.finish_request_body().await.map_err(broken)?;
    loop {
        http.read_response_header().await.map_err(broken)?;
        if http.response_header().is_none_or(|head| !head.status.is_informational()) {
            break;
        }
    }
    let Some(head) = http.response_header().cloned() else {
        return Err(Fault::new(FaultKind::Garbage, "The provider's answer has no head."));
    };
    // What a list says is of no interest: the connection goes with it.
    if head.status.is_success() {
        return Ok(());
    }
    let mut raw = Vec::new();
    while raw.len() < MOST_ERROR
        && let Ok(Some(chunk)) = http.read_response_body().await
    {
        raw.extend_from_slice(&chunk);
    }
    let status = head.status.as_u16();
    let face = provider.dialect.outbound;
    let told = || Fault::new(FaultKind::Server, format!("The provider answered with status {status}."));
    let mut fault = face.map_or_else(told, |face| face.fault(status, &raw));
    fault.retry_after = retry_after(&head, shared.now().unix_ms / 1_000).or(fault.retry_after);
    // Its own words may repeat a credential: the kind is enough.
    fault.message = format!("The provider answered with status {status}.");
    Err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_probe_is_a_small_call() {
        let snapshot = config::from_text("providers: { a: { preset: ollama } }\n", &|_| None).unwrap();
        let served = Served::new(Arc::new(snapshot), None);
        let call = ping("m\"", 3, &served).unwrap();
        assert_eq!((call.model.as_str(), call.max_output, call.stream), ("m\"", Some(3), false));
        assert!(call.input_estimate < 30, "{}", call.input_estimate);
    }

    #[test]
    fn a_provider_is_asked_once_for_its_targets_and_a_model_for_itself() {
        let text = "providers:\n  a: { preset: ollama, heartbeat: { ask: models } }\n  b: { preset: ollama, heartbeat: { ask: completion } }\n  c: { preset: ollama }\n\
            models:\n  m: { targets: [{ provider: a }, { provider: b }, { provider: c }] }\n  n: { targets: [{ provider: a }, { provider: b }, { provider: b, model: o, heartbeat: { ask: none } }] }\n";
        let snapshot = config::from_text(text, &|_| None).unwrap();
        let served = Served::new(Arc::new(snapshot), None);
        let names: Vec<_> = wanted(&served).into_keys().collect();
        assert_eq!(names, ["a", "b/m", "b/n"]);
    }
}
