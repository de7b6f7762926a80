//! `portolan route --explain`: where a request would go, and why, by a configuration alone: no network, no state.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;

use super::load;
use crate::config::snapshot::Key;
use crate::config::{Catalogue, Outside, Snapshot};
use crate::exchange::paths::{self, Operation};
use crate::exchange::{self, Call, Candidate, Circumstances, Decision, Plan, Refusal, Said, Step, Verdict, explain};
use crate::policy::Moment;
use crate::policy::rules::Rule;
use crate::wire::writer;

/// What is asked.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The request's body; - reads it from the standard input.
    #[arg(long, value_name = "REQUEST.JSON")]
    pub explain: std::path::PathBuf,
    /// The caller's key, by its id. Default: calls without a key, or the first key of the file.
    #[arg(long)]
    pub key: Option<String>,
    /// The model, instead of the one in the body.
    #[arg(long)]
    pub model: Option<String>,
    /// The moment: 2026-11-21T22:30:00Z. Default: now.
    #[arg(long)]
    pub at: Option<String>,
    /// The path that the request is sent to: its dialect.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    /// A header of the request, as NAME: VALUE; several times.
    #[arg(long)]
    pub header: Vec<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Tells where a request would go.
///
/// # Errors
/// Writing failed.
pub fn run(
    file: &Path,
    asked: &Asked,
    world: (&Outside<'_>, &Catalogue<'_>, u64),
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let (outside, catalogue, now_ms) = world;
    let Some(snapshot) = load::or_tell_in(outside, catalogue, file, err)? else { return Ok(ExitCode::FAILURE) };
    let told = read(asked, outside, now_ms).and_then(|given| explained(&snapshot, asked, given));
    match told {
        Ok(Told { json, text, refused }) => {
            if asked.json {
                out.write_all(&json)?;
                writeln!(out)?;
            } else {
                write!(out, "{text}")?;
            }
            Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Err(message) => {
            writeln!(err, "portolan: {message}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A request and its moment.
struct Given {
    body: Vec<u8>,
    now: Moment,
}

struct Told {
    json: Vec<u8>,
    text: String,
    refused: bool,
}

fn read(asked: &Asked, outside: &Outside<'_>, now_ms: u64) -> Result<Given, String> {
    let name = asked.explain.display();
    let body = (outside.read)(&asked.explain).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let unix_ms = match &asked.at {
        None => now_ms,
        Some(text) => {
            let at: jiff::Timestamp =
                text.parse().map_err(|_| format!("`{text}` is no moment: write 2026-11-21T22:30:00Z"))?;
            u64::try_from(at.as_millisecond()).map_err(|_| "the moment is before 1970".to_owned())?
        }
    };
    Ok(Given { body, now: Moment { mono: 1, unix_ms } })
}

/// The key that is meant.
fn key<'s>(snapshot: &'s Snapshot, name: Option<&str>) -> Result<&'s Arc<Key>, String> {
    let mut keys: Vec<_> = snapshot.keys.values().collect();
    keys.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    match name {
        Some(name) => {
            let all = keys.into_iter().chain(&snapshot.anonymous);
            all.into_iter().find(|key| key.id == name).ok_or_else(|| format!("no key is called `{name}`"))
        }
        None => snapshot
            .anonymous
            .as_ref()
            .or(keys.into_iter().next())
            .ok_or_else(|| "the configuration has no keys: no call would be let in".to_owned()),
    }
}

fn explained(snapshot: &Snapshot, asked: &Asked, given: Given) -> Result<Told, String> {
    let key = key(snapshot, asked.key.as_deref())?;
    let path = asked.path.split('?').next().unwrap_or_default();
    let found = paths::find(&Method::POST, path).map_err(|refusal| refusal.message())?;
    let dialect = found.route.dialect;
    let Some(inbound) = dialect.inbound else { return Err("no request goes to this path".to_owned()) };
    let operation = found.route.operation;
    if !matches!(operation, Operation::Generate | Operation::Stream | Operation::Count) {
        return Err("this path asks no model for anything".to_owned());
    }
    let headers: Vec<(String, &str)> = asked
        .header
        .iter()
        .map(|header| match header.split_once(':') {
            Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), value.trim())),
            None => Err(format!("`{header}` is no header: write NAME: VALUE")),
        })
        .collect::<Result<_, _>>()?;
    let header = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
    let said = Said {
        reads: inbound.reads(),
        model: asked.model.as_deref().unwrap_or(&found.name),
        stream: operation == Operation::Stream,
        array: false,
        count: operation == Operation::Count,
    };
    let mut call =
        Call::read(given.body.into(), &said, &snapshot.limits, &header).map_err(|refusal| refusal.message())?;
    if let Some(model) = &asked.model {
        call.model.clone_from(model);
    }
    let call = Arc::new(call);
    let circumstances = Circumstances { dialect: dialect.name, header: &header };
    let tried = exchange::decide(snapshot, key, &call, &circumstances, true, given.now);
    let mut way = Way::default();
    match tried {
        Ok(mut decision) => {
            way.rules = std::mem::take(&mut decision.looked);
            way.follow(snapshot, key, &call, decision, given.now);
        }
        Err(refusal) => way.refusal = Some(refusal),
    }
    Ok(Told { json: way.json(key, &call), text: way.text(snapshot, key, &call), refused: way.refusal.is_some() })
}

/// Where the call would go: first, and then where each one before has failed.
#[derive(Default)]
struct Way {
    rules: Vec<(Arc<Rule>, Verdict)>,
    plan: Option<Plan>,
    order: Vec<Candidate>,
    refusal: Option<Refusal>,
}

impl Way {
    fn follow(&mut self, snapshot: &Snapshot, key: &Arc<Key>, call: &Arc<Call>, decision: Decision, now: Moment) {
        // Seeded: what is drawn by weight is drawn alike each time, so that two answers can be compared.
        let mut dice = fastrand::Rng::with_seed(1);
        let mut plan = match Plan::make(snapshot, key, call, decision, now, &mut || dice.u64(..)) {
            Ok(plan) => plan,
            Err(refusal) => {
                self.refusal = Some(refusal);
                return;
            }
        };
        plan.watch();
        while self.order.len() < MOST {
            match plan.next(now, &mut || dice.u64(..)) {
                Step::Try { candidate, .. } => self.order.push(candidate),
                Step::Over(refusal) if self.order.is_empty() => {
                    self.refusal = Some(refusal);
                    break;
                }
                _ => break,
            }
            plan.unfit();
        }
        self.plan = Some(plan);
    }

    fn json(&self, key: &Key, call: &Call) -> Vec<u8> {
        let mut out = Vec::new();
        writer::object(&mut out, |o| {
            o.string("key", &key.id);
            explain::request(call, o);
            let plan = self.plan.as_ref();
            let looks = plan.map_or(&[][..], |plan| plan.looks());
            let first = looks.get(..1).unwrap_or_default();
            explain::told(&self.rules, plan.map(|plan| plan.decision()), first, 1, o);
            o.array("order", |a| self.order.iter().for_each(|one| a.string(&one.target.target.id)));
            if let Some(refusal) = &self.refusal {
                o.object("refusal", |o| {
                    o.string("code", refusal.code().unwrap_or_default());
                    o.string("message", &refusal.message());
                });
            }
        });
        out
    }

    fn text(&self, snapshot: &Snapshot, key: &Key, call: &Call) -> String {
        let mut text = format!("key       {}\nmodel     {}", key.id, call.model);
        let plan = self.plan.as_ref();
        if let Some(model) = plan.and_then(|plan| plan.decision().model.as_ref()) {
            let _ = write!(text, " -> {}", model.name);
        }
        let _ = writeln!(text, "\ninput     about {} tokens", call.input_estimate);
        for (number, (rule, verdict)) in self.rules.iter().enumerate() {
            let label = if number == 0 { "rules" } else { "" };
            let _ = writeln!(text, "{label:<9} {:<11} {}", verdict.name(), rule.name);
        }
        if let Some(judged) = plan.and_then(|plan| plan.decision().class.as_ref()) {
            let name = judged.class.as_deref().unwrap_or("none");
            let _ = write!(text, "class     {name} ({:.2})", judged.score);
            if let Some((name, score)) = &judged.runner_up {
                let _ = write!(text, ", then {name} ({score:.2})");
            }
            let _ = writeln!(text, "{}", if judged.shadow { ", in shadow" } else { "" });
        }
        if let Some(look) = plan.and_then(|plan| plan.looks().first()) {
            let _ = writeln!(text, "strategy  {} (by the {})", look.strategy.name(), look.strategy_from);
            for (number, one) in look.candidates.iter().enumerate() {
                let label = if number == 0 { "targets" } else { "" };
                let turn = self.order.iter().position(|other| Arc::ptr_eq(&other.target, &one.target));
                let turn = turn.map_or("-".to_owned(), |turn| format!("{}.", turn + 1));
                let _ = write!(text, "{label:<9} {turn:>3} {:<30} {:<16}", one.target.target.id, one.standing.name());
                if let Some(dollars) = one.expected_usd {
                    let _ = write!(text, " ${dollars:.6}");
                }
                if let (Some(why), Some(plan)) = (one.chosen, plan) {
                    let _ = write!(text, " {}", why.line(&one.model, plan.decision(), None));
                }
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
            if look.more != 0 {
                let _ = writeln!(text, "          and {} more", look.more);
            }
        }
        for (provider, variables) in &snapshot.asleep {
            let _ = writeln!(text, "asleep    {provider}: set {variables}");
        }
        if let Some(refusal) = &self.refusal {
            let _ = writeln!(text, "refused   {} ({})", refusal.message(), refusal.status());
        }
        text
    }
}

/// Most targets whose turn is told.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = include_str!("../../conf/examples/rules.yaml");

    fn route(body: &'static str, arguments: &[&str]) -> (ExitCode, String, String) {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            asked: Asked,
        }
        let words = ["route", "--explain", "request.json"].iter().chain(arguments);
        let asked = <Alone as clap::Parser>::parse_from(words).asked;
        let read = |path: &Path| match path.to_str() {
            Some("rules.yaml") => Ok(CONFIG.as_bytes().to_vec()),
            Some("request.json") => Ok(body.as_bytes().to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let outside = Outside { env: &|_| Some("k".to_owned()), read: &read };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let world = (&outside, &Catalogue::EMPTY, 1_795_262_400_000);
        let code = run(Path::new("rules.yaml"), &asked, world, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    const SHORT: &str = r#"{"model":"auto","messages":[{"role":"user","content":"secret prompt"}]}"#;

    #[test]
    fn people_read_where_it_goes_and_why() {
        let (code, out, err) = route(SHORT, &["--key", "trial"]);
        assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
        let head = "key       trial\nmodel     auto -> small\ninput     about 10 tokens\n\
                    rules     not_met     personal-data\n          not_met     batch\n          met         auto/free\n\
                    strategy  lowest_cost (by the key)\ntargets   ";
        assert!(out.starts_with(head), "{out}");
        // Unpriced both: either may be first, and the other is next.
        let turns: Vec<_> =
            out.lines().filter_map(|line| line.get(10..13)).filter(|turn| turn.ends_with('.')).collect();
        assert!(turns == [" 1.", " 2."] || turns == [" 2.", " 1."], "{out}");
        assert_eq!(out.matches("lowest_cost;of=2;rule=auto/free").count(), 1, "{out}");
        let (_, out, _) = route(
            SHORT,
            &[
                "--key",
                "shop",
                "--at",
                "2026-11-21T23:00:00Z",
                "--header",
                "X-Application: reports",
                "--model",
                "large",
            ],
        );
        assert!(out.contains("met         batch") && out.contains("by the rule"), "{out}");
    }

    #[test]
    fn programs_read_the_same_as_json() {
        let (_, out, _) = route(SHORT, &["--key", "trial", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&told["led_to"], &told["choices"][0]["strategy_from"]), (&"small".into(), &"key".into()), "{out}");
        assert_eq!(told["order"].as_array().unwrap().len(), 2);
        assert!(!out.contains("secret prompt"));
    }

    #[test]
    fn what_is_refused_says_why() {
        let (code, out, _) = route(r#"{"model":"none","messages":[]}"#, &["--key", "shop"]);
        assert_eq!(code, ExitCode::FAILURE);
        assert!(out.contains("refused   The model `none` does not exist here."), "{out}");
        for (arguments, part) in [
            (&["--key", "nobody"][..], "no key is called `nobody`"),
            (&["--at", "soon"], "is no moment"),
            (&["--header", "x"], "is no header"),
            (&["--path", "/v1/models"], ""),
        ] {
            let (code, _, err) = route(SHORT, arguments);
            assert!(code == ExitCode::FAILURE && err.contains(part), "{err}");
        }
    }
}
