//! One organisation, team, project, user or key on its own: read and checked by the very code that reads the file.

use std::collections::BTreeMap;
use std::collections::Bound::{Excluded, Unbounded};
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::Sha256;

use super::build::Build;
use super::file::{self, File, LevelRules};
use super::limits;
use super::prices::Pricing;
use super::problem::{Problems, Route, did_you_mean};
use super::routing::Routing;
use super::schema;
use super::snapshot::Snapshot;
use super::tenancy::Tenants;
use super::{Catalogue, Known, Outside};
use crate::policy::Live;
use crate::policy::auth;
use crate::policy::tenancy::{Kind, Network, Standing};
use crate::wire::yaml::{Entry, Mark, Node, Value};

/// A document of any kind.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Document {
    Organisation(file::Organisation),
    Team(file::Team),
    Project(file::Project),
    User(file::User),
    Key(Box<file::Key>),
}

/// Something that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wrong {
    /// For example `addresses[0]`; empty where all of it is meant.
    pub path: String,
    /// A sentence that says what to do.
    pub message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

static SCHEMA: LazyLock<Json> = LazyLock::new(schema::schema);

impl Document {
    /// Reads one that is stored.
    ///
    /// # Errors
    /// It was written by a version that knows more.
    pub fn parse(kind: Kind, text: &str) -> Result<Document, serde_json::Error> {
        fn typed<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, serde_json::Error> {
            serde_json::from_str(text)
        }
        Ok(match kind {
            Kind::Organisation => Document::Organisation(typed(text)?),
            Kind::Team => Document::Team(typed(text)?),
            Kind::Project => Document::Project(typed(text)?),
            Kind::User => Document::User(typed(text)?),
            Kind::Key => Document::Key(Box::new(typed(text)?)),
        })
    }

    /// Reads and checks one that is to be stored, against the configuration and everybody above the keys.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(
        kind: Kind,
        id: &str,
        value: &Json,
        snapshot: &Snapshot,
        tenants: &Tenants,
    ) -> Result<Document, Vec<Wrong>> {
        let field = format!("{}s", kind.name());
        let mut value = value.clone();
        if let (Kind::Key, Some(members)) = (kind, value.as_object_mut()) {
            if members.get("id").is_some_and(|written| written != id) {
                return Err(vec![wrong("id", "a key keeps its id: leave it as it is")]);
            }
            if members.contains_key("secret_sha256") {
                return Err(vec![wrong("secret_sha256", "a key gets another secret by being rotated")]);
            }
            members.insert("id".to_owned(), json!(id));
            // The schema of the file demands one.
            members.insert("secret_sha256".to_owned(), json!("0".repeat(64)));
        }
        let own = Node { at: Mark::default(), value: node(&value, 0) };
        let (list, route) = match kind {
            Kind::Key => (Value::List(vec![own]), Route::default().key(&field).index(0)),
            _ => (Value::Map(vec![entry(id, own)]), Route::default().key(&field).key(id)),
        };
        let list = Node { at: Mark::default(), value: list };
        let root = Node { at: Mark::default(), value: Value::Map(vec![entry(&field, list)]) };
        let mut problems = Problems::default();
        schema::check(&root, &SCHEMA, &mut problems);
        if !problems.is_empty() {
            return Err(told(problems, &route));
        }
        let found = match kind {
            Kind::Key => root.member(&field).and_then(|list| match &list.value {
                Value::List(items) => items.first(),
                _ => None,
            }),
            _ => root.member(&field).and_then(|list| list.member(id)),
        };
        let text = found.map(|found| found.to_json().to_string()).unwrap_or_default();
        let mut document = Document::parse(kind, &text).map_err(|error| vec![wrong("", error.to_string())])?;
        if let Document::Key(key) = &mut document {
            key.secret_sha256 = None;
        }
        document.check(id, &root, &route, snapshot, tenants, problems)?;
        Ok(document)
    }

    /// What only the rest of the configuration can tell.
    fn check(
        &self,
        id: &str,
        root: &Node,
        route: &Route,
        snapshot: &Snapshot,
        tenants: &Tenants,
        mut problems: Problems,
    ) -> Result<(), Vec<Wrong>> {
        let (live, at) = (Live::default(), Path::new(""));
        let outside = Outside { env: &|_| None, read: &|_| Err(std::io::ErrorKind::NotFound.into()) };
        let homes = tenants.homes().iter().map(|name| (name.clone(), BTreeMap::new())).collect();
        let mut build = Build {
            root,
            known: Known::of(root),
            key_numbers: Vec::new(),
            outside: &outside,
            catalogue: &Catalogue::EMPTY,
            live: &live,
            routing: Routing { homes, ..Routing::default() },
            ground: tenants.ground().clone(),
            estimates: false,
            pricing: Pricing::default(),
            hash: Sha256::default(),
            at,
            problems: &mut problems,
            remarks: Vec::new(),
        };
        let file = File { tiers: tenants.tiers().clone(), ..File::default() };
        let written = tenants.written();
        match self {
            Document::Organisation(own) => build.organisation(id, own, &file, route),
            Document::Team(own) => build.team(id, own, &file, written, route),
            Document::Project(own) => build.project(id, own, &file, written, route),
            Document::User(own) => build.user(id, own, &file, written, route),
            Document::Key(own) => {
                build.key(own, &file, tenants, route);
                let unknown = own.project.as_ref().filter(|project| !tenants.has(Kind::Project, project));
                if let Some(project) = unknown.filter(|_| written.projects.is_empty()) {
                    build.wrong(&route.key("project"), format!("there is no project `{project}`: make it first"));
                }
                for (number, model) in own.fallback.iter().flatten().enumerate() {
                    if snapshot.model(model).is_none() {
                        let hint = did_you_mean(model, snapshot.index.names.iter().map(String::as_str));
                        let message = format!("no model is called `{model}`.{hint}");
                        build.wrong(&route.key("fallback").index(number), message);
                    }
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(told(problems, route)) }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Document::Organisation(_) => Kind::Organisation,
            Document::Team(_) => Kind::Team,
            Document::Project(_) => Kind::Project,
            Document::User(_) => Kind::User,
            Document::Key(_) => Kind::Key,
        }
    }

    pub fn rules(&self) -> LevelRules<'_> {
        match self {
            Document::Organisation(own) => own.rules(),
            Document::Team(own) => own.rules(),
            Document::Project(own) => own.rules(),
            Document::User(own) => own.rules(),
            Document::Key(own) => own.rules(),
        }
    }

    /// What it belongs to, on the next level.
    pub fn parent(&self) -> Option<(Kind, &str)> {
        let (kind, id) = match self {
            Document::Organisation(_) => return None,
            Document::Team(own) => (Kind::Organisation, &own.organisation),
            Document::Project(own) => (Kind::Team, &own.team),
            Document::User(own) => (Kind::Team, &own.team),
            Document::Key(own) => (Kind::Project, &own.project),
        };
        id.as_deref().map(|id| (kind, id))
    }

    /// The user of a key.
    pub fn user(&self) -> Option<&str> {
        match self {
            Document::Key(own) => own.user.as_deref(),
            _ => None,
        }
    }

    /// All that it names as above it.
    pub fn above(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.parent().into_iter().chain(self.user().map(|id| (Kind::User, id)))
    }

    /// Team and organisation that it is or belongs to.
    pub fn place(&self, id: &str, tenants: &Tenants) -> (Option<String>, Option<String>) {
        let teams = &tenants.written().teams;
        let of_team = |team: &Option<String>| {
            let organisation = team.as_ref().and_then(|id| teams.get(id)?.organisation.clone());
            (team.clone(), organisation)
        };
        match self {
            Document::Organisation(_) => (None, Some(id.to_owned())),
            Document::Team(own) => (Some(id.to_owned()), own.organisation.clone()),
            Document::Project(own) => of_team(&own.team),
            Document::User(own) => of_team(&own.team),
            Document::Key(own) => {
                let (_, team, organisation) = tenants.above(own);
                (team.map(str::to_owned), organisation.map(str::to_owned))
            }
        }
    }

    /// Whether it may be used now (`now`: Unix seconds); of a key also by what is above it, which is named.
    pub fn standing(&self, tenants: &Tenants, now: u64) -> (Standing, Option<String>) {
        let rules = self.rules();
        let standing = match rules.expires {
            _ if rules.disabled => Standing::Disabled,
            Some(expires) if now >= expires.0 => Standing::Expired,
            _ => Standing::Good,
        };
        if let (Document::Key(own), Standing::Good) = (self, standing) {
            let above = tenants.above(own).0.into_iter().map(|level| (level, level.standing(now)));
            if let Some((level, standing)) = { above }.find(|(_, standing)| *standing != Standing::Good) {
                return (standing, Some(format!("{} {}", level.kind.name(), level.id)));
            }
        }
        (standing, None)
    }

    /// A member by which it gets more of what everybody shares than it had.
    pub fn favours(&self, before: Option<&Document>) -> Option<&'static str> {
        let weight = |document: &Document| match document {
            Document::Key(key) => key.weight,
            _ => None,
        };
        if self.rules().tier != before.and_then(|before| before.rules().tier) {
            return Some("tier");
        }
        let price = |document: &Document| {
            let rules = document.rules();
            (rules.price_group.map(str::to_owned), rules.prepaid.cloned())
        };
        if price(self) != before.map(price).unwrap_or_default() {
            return Some("price_group and prepaid");
        }
        (weight(self) != before.and_then(weight)).then_some("weight")
    }

    /// Where it says more than what is above it allows. That would give nobody more, for every level is asked of a call on
    /// its own; but it would say what is not so.
    pub fn wider(&self, tenants: &Tenants) -> Vec<Wrong> {
        let own = self.rules();
        let ground = tenants.ground();
        let own_limits = limits::ceilings(own.limits);
        let mut found = Vec::new();
        for (kind, id, above) in self.chain(tenants) {
            let mut say = |field: &str, what: &str| {
                let message = format!("{what} is more than the {} `{id}` allows", kind.name());
                found.push(wrong(field, message));
            };
            if let (Some(own), Some(above)) = (own.models, above.models) {
                // A pattern is within another one that fits it as it is written.
                for name in own.iter().filter(|own| !above.iter().any(|above| auth::fits(above, own))) {
                    say("models", name);
                }
            }
            if let (Some(own), Some(above)) = (own.functions, above.functions) {
                for function in own.iter().filter(|function| !above.contains(function)) {
                    say("functions", &json!(function).to_string());
                }
            }
            for region in own.regions.iter().filter(|own| !above.regions.is_empty() && !above.regions.contains(own)) {
                say("regions", region);
            }
            let networks: Vec<Network> = above.addresses.iter().filter_map(|text| Network::parse(text)).collect();
            for text in own.addresses {
                let within = |network: Network| networks.iter().any(|above| network.is_within(*above));
                if !networks.is_empty() && !Network::parse(text).is_some_and(within) {
                    say("addresses", text);
                }
            }
            if let (Some(own), Some(above)) = (own.expires, above.expires)
                && own.0 > above.0
            {
                say("expires", "a later end");
            }
            let above_limits = limits::ceilings(above.limits);
            for own in own_limits.iter().filter(|own| above_limits.iter().any(|above| own.exceeds(above))) {
                say("limits", &own.to_string());
            }
            let above_budgets: Vec<_> = ground.amounts(&above).into_iter().filter(|above| above.hard).collect();
            for own in ground.amounts(&own).iter().filter(|own| above_budgets.iter().any(|above| own.exceeds(above))) {
                say("budget", &own.to_string());
            }
        }
        found
    }

    /// The rules of everything above it.
    fn chain<'t>(&'t self, tenants: &'t Tenants) -> Vec<(Kind, &'t str, LevelRules<'t>)> {
        let all = tenants.written();
        let mut chain = Vec::new();
        let mut next: Vec<(Kind, &str)> = self.above().collect();
        while let Some((kind, id)) = next.pop() {
            match kind {
                Kind::Organisation => {
                    chain.extend(all.organisations.get(id).map(|level| (kind, id, level.rules())));
                }
                Kind::Team => {
                    let Some(level) = all.teams.get(id) else { continue };
                    chain.push((kind, id, level.rules()));
                    next.extend(level.organisation.as_deref().map(|id| (Kind::Organisation, id)));
                }
                Kind::Project => {
                    let Some(level) = all.projects.get(id) else { continue };
                    chain.push((kind, id, level.rules()));
                    next.extend(level.team.as_deref().map(|id| (Kind::Team, id)));
                }
                Kind::User => {
                    let Some(level) = all.users.get(id) else { continue };
                    chain.push((kind, id, level.rules()));
                    // A key of a project counts for the project's team, whoever uses it.
                    if self.parent().is_none() {
                        next.extend(level.team.as_deref().map(|id| (Kind::Team, id)));
                    }
                }
                Kind::Key => {}
            }
        }
        chain
    }

    /// One that the file has.
    pub fn one_of_file(snapshot: &Snapshot, kind: Kind, id: &str) -> Option<Document> {
        let all = snapshot.tenants.written();
        match kind {
            Kind::Organisation => all.organisations.get(id).cloned().map(Document::Organisation),
            Kind::Team => all.teams.get(id).cloned().map(Document::Team),
            Kind::Project => all.projects.get(id).cloned().map(Document::Project),
            Kind::User => all.users.get(id).cloned().map(Document::User),
            Kind::Key => snapshot.index.keys.get(id).and_then(|text| Document::parse(kind, text).ok()),
        }
    }

    /// Those that the file has after an id, by their ids.
    pub fn of_file<'s>(
        snapshot: &'s Snapshot,
        kind: Kind,
        after: &str,
    ) -> Box<dyn Iterator<Item = (String, Document)> + 's> {
        fn ids<'s, T>(all: &'s BTreeMap<String, T>, after: &str) -> Box<dyn Iterator<Item = &'s String> + 's> {
            let range = all.range::<str, _>((Excluded(after), Unbounded));
            Box::new(range.map(|(id, _)| id))
        }
        let all = snapshot.tenants.written();
        let ids = match kind {
            Kind::Organisation => ids(&all.organisations, after),
            Kind::Team => ids(&all.teams, after),
            Kind::Project => ids(&all.projects, after),
            Kind::User => ids(&all.users, after),
            Kind::Key => ids(&snapshot.index.keys, after),
        };
        Box::new(ids.filter_map(move |id| Some((id.clone(), Document::one_of_file(snapshot, kind, id)?))))
    }
}

fn wrong(path: &str, message: impl Into<String>) -> Wrong {
    Wrong { path: path.to_owned(), message: message.into() }
}

/// Problems with their paths counted from the document.
fn told(problems: Problems, route: &Route) -> Vec<Wrong> {
    let before = route.to_string();
    let cut = |path: String| {
        let rest = path.strip_prefix(&before).map(|rest| rest.trim_start_matches('.').to_owned());
        rest.unwrap_or(path)
    };
    problems.into_sorted().into_iter().map(|problem| wrong(&cut(problem.path), problem.message)).collect()
}

fn entry(key: &str, value: Node) -> Entry {
    Entry { key: key.to_owned(), at: Mark::default(), value }
}

/// Deepest nesting that is looked at: far more than a document has.
const DEPTH: usize = 32;

fn node(value: &Json, depth: usize) -> Value {
    let inner = |value: &Json| Node { at: Mark::default(), value: node(value, depth + 1) };
    match value {
        _ if depth > DEPTH => Value::Null,
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) if number.is_f64() => Value::Float(number.to_string()),
        Json::Number(number) => Value::Int(number.to_string()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(inner).collect()),
        Json::Object(members) => Value::Map(members.iter().map(|(key, value)| entry(key, inner(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    const FILE: &str = "
providers: { p: { preset: ollama } }
models: { one: { targets: [{ provider: p }] } }
tiers: { gold: { weight: 9 } }
organisations: { acme: { regions: [eu] } }
currencies: { eur: 0.5 }
teams: { search: { organisation: acme, models: [\"gpt-*\"], addresses: [10.0.0.0/8], expires: 2027-01-01 } }
projects:
  web: { team: search, functions: [generate, models], limits: { rpm: 60, concurrency: 4 }, budget: { usd: 10 } }
  loose: { budget: { usd: 1, hard: false }, limits: [{ of: requests, most: 6, per: hour, elastic: { most: 9, calls: 1 } }] }
users: { ann: { team: search } }
keys: [{ id: own, project: web, secret_sha256: \"0000000000000000000000000000000000000000000000000000000000000001\" }]
";

    fn read(kind: Kind, id: &str, value: Json) -> Result<Document, Vec<String>> {
        let snapshot = from_text(FILE, &|_| None).unwrap();
        let read = Document::read(kind, id, &value, &snapshot, &snapshot.tenants);
        read.map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_document_reads_as_it_would_in_the_file() {
        let key = json!({"project": "web", "user": "ann", "models": ["gpt-5"], "fallback": ["one"], "weight": 2,
                         "expires": "2026-12-01", "tags": {"a": "b"}});
        let document = read(Kind::Key, "k", key).unwrap();
        let text = serde_json::to_string(&document).unwrap();
        assert!(text.contains(r#""id":"k""#) && !text.contains("secret"), "{text}");
        let again = Document::parse(Kind::Key, &text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert_eq!(document.above().collect::<Vec<_>>(), [(Kind::Project, "web"), (Kind::User, "ann")]);
        let snapshot = from_text(FILE, &|_| None).unwrap();
        assert_eq!(document.place("k", &snapshot.tenants), (Some("search".into()), Some("acme".into())));
        let of_file: Vec<_> = Document::of_file(&snapshot, Kind::Key, "").map(|(id, _)| id).collect();
        assert_eq!(of_file, ["own"]);
        assert_eq!(Document::of_file(&snapshot, Kind::Key, "own").count(), 0);
    }

    #[test]
    fn every_mistake_is_told_in_its_place() {
        let told = read(
            Kind::Key,
            "k",
            json!({"project": "wbe", "models": [], "addresses": ["x"], "tier": "silver", "fallback": ["two"],
                   "home": "mars", "tags": {"a b": "c"}}),
        )
        .unwrap_err();
        for path in ["project: ", "models: ", "addresses[0]: ", "tier: ", "fallback[0]: ", "home: ", "tags[\"a b\"]: "]
        {
            assert!(told.iter().any(|told| told.starts_with(path)), "{path} {told:?}");
        }
        assert!(read(Kind::Team, "t", json!({"organisation": "amce"})).unwrap_err()[0].contains("acme"));
        assert!(read(Kind::Team, "t", json!({"organization": "acme"})).unwrap_err()[0].starts_with("organization: "));
        assert!(read(Kind::Team, "t t", json!({})).unwrap_err()[0].contains("64 letters"));
        assert!(read(Kind::User, "u", json!([])).is_err());
        assert!(read(Kind::Key, "k", json!({"id": "other"})).unwrap_err()[0].starts_with("id: "));
        assert!(read(Kind::Key, "k", json!({"secret_sha256": "0".repeat(64)})).is_err());
        // What the file would expand is text here.
        let team = read(Kind::Team, "t", json!({"metadata": {"a": "${HOME}", "b": "file:/etc/passwd"}})).unwrap();
        assert!(serde_json::to_string(&team).unwrap().contains("${HOME}"));
    }

    #[test]
    fn no_child_says_more_than_its_parents() {
        let snapshot = from_text(FILE, &|_| None).unwrap();
        let wider = |value: Json| {
            let document = Document::read(Kind::Key, "k", &value, &snapshot, &snapshot.tenants).unwrap();
            document.wider(&snapshot.tenants).into_iter().map(|wrong| wrong.path).collect::<Vec<_>>()
        };
        assert_eq!(wider(json!({"project": "web"})), [""; 0]);
        let within = json!({"project": "web", "models": ["gpt-5", "gpt-5*"], "functions": ["generate"],
            "addresses": ["10.1.0.0/16", "10.0.0.1"], "expires": "2026-12-31", "regions": ["eu"]});
        assert_eq!(wider(within), [""; 0]);
        let more = json!({"project": "web", "models": ["*", "gpt-5"], "functions": ["generate", "usage"],
            "addresses": ["0.0.0.0/0"], "expires": "2027-01-02"});
        let mut found = wider(more);
        found.sort_unstable();
        assert_eq!(found, ["addresses", "expires", "functions", "models"]);
        assert_eq!(wider(json!({"user": "ann", "models": ["claude"]})), ["models"]);
        // Of the same thing in no longer a time, and of hard budgets in any currency.
        for (more, path) in [
            (json!({"limits": {"rpm": 60, "rps": 60, "rpd": 100_000, "tpm": 1_000_000, "concurrency": 4}}), ""),
            (json!({"limits": {"rpm": 61}}), "limits"),
            (json!({"limits": {"rps": 61}}), "limits"),
            (json!({"limits": {"concurrency": 5}}), "limits"),
            (
                json!({"limits": [{"of": "requests", "most": 60, "per": "minute", "by": "token_bucket", "burst": 61}]}),
                "limits",
            ),
            (
                json!({"limits": [{"of": "requests", "most": 9, "per": "minute", "elastic": {"most": 61, "calls": 1}}]}),
                "limits",
            ),
            (json!({"budget": {"usd": 10}}), ""),
            (json!({"budget": {"usd": 20, "per": "total"}}), ""),
            (json!({"budget": {"amount": 5, "currency": "eur"}}), ""),
            (json!({"budget": {"amount": 5.01, "currency": "eur"}}), "budget"),
            (json!({"budget": {"usd": 10.01, "per": "day", "hard": false}}), "budget"),
            (json!({"budgets": [{"usd": 1}, {"usd": 11, "per": "week"}]}), "budget"),
            (json!({"project": "loose", "budget": {"usd": 2}, "limits": {"rpm": 9}}), ""),
            (json!({"project": "loose", "limits": {"rph": 10}}), "limits"),
        ] {
            let mut more = more;
            more["project"] = more.get("project").cloned().unwrap_or_else(|| json!("web"));
            assert_eq!(wider(more.clone()).concat(), path, "{more}");
        }
    }
}
