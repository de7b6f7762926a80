//! Floor 6: text in, snapshot out.
//!
//! [`load`] is the whole of it: read (through a function that is handed in), parse with places, expand variables, check
//! against the schema, merge what is included, then build. Every step goes on as far as it can, so that an operator
//! sees all problems at once; what is damaged is left out of later steps rather than complained about twice.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::dialect::Abilities;
use crate::policy::Live;
use crate::policy::price::Price;
use crate::provider::catalog::{Catalog, Row};
use crate::wire::yaml::{self, Node, Value};

mod auth;
mod beside;
pub mod budgets;
mod build;
mod classes;
pub mod directory;
pub mod document;
pub mod file;
mod health;
pub mod issuers;
mod limits;
mod models;
mod prices;
pub mod problem;
mod providers;
mod quirks;
mod resale;
mod routing;
mod rules;
pub mod schema;
pub mod secret;
pub mod snapshot;
pub mod tenancy;
mod tiers;
pub mod value;

pub use problem::Problem;
pub use providers::is_id;
pub use snapshot::Snapshot;

use problem::{Problems, Route};

/// Most bytes of all files together.
const BYTES: usize = 50 << 20;
/// Most included files.
const INCLUDES: usize = 64;

/// The world outside, handed in.
pub struct Outside<'o> {
    /// An environment variable.
    pub env: &'o dyn Fn(&str) -> Option<String>,
    /// The content of a file.
    pub read: &'o dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
}

/// Abilities and price of a model, by preset (or the provider's name, without one) and model.
pub type Find<'c> = &'c dyn Fn(&str, &str) -> Option<Listed>;

/// What a catalogue says of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub abilities: Abilities,
    pub price: Price,
    /// Unix seconds since when it costs that; 0: since it is known.
    pub since: u64,
    /// From when it costs something else, as far as that is known.
    pub until: Option<u64>,
}

impl Listed {
    pub fn of(row: Row<'_>) -> Listed {
        Listed { abilities: row.abilities, price: row.price, since: row.since, until: row.until }
    }
}

/// What is known of models without the operator's help.
pub struct Catalogue<'c> {
    pub find: Find<'c>,
    /// The models known of a preset: each can be called as `provider/model`.
    pub models: &'c dyn Fn(&str) -> Vec<String>,
    /// The moment whose prices count, in Unix seconds.
    pub now: u64,
}

impl Catalogue<'static> {
    /// Knows nothing.
    pub const EMPTY: Catalogue<'static> = Catalogue { find: &|_, _| None, models: &|_| Vec::new(), now: 0 };
}

/// Reads a configuration. Its targets hold on to their state in `live`.
///
/// # Errors
/// Everything that is wrong with it, in the order of files and lines; never empty.
pub fn load(
    path: &Path,
    outside: &Outside<'_>,
    catalogue: &Catalogue<'_>,
    live: &Live,
) -> Result<Snapshot, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut texts = Texts { outside, hash: Sha256::new(), bytes: 0, files: Vec::new() };
    let schema = schema::schema();
    let Some(mut root) = texts.tree(path, &schema, &mut problems) else {
        return Err(problems.into_sorted());
    };
    for (name, route) in included(&root) {
        let file = beside(path, &name);
        if texts.files.contains(&file) {
            problems.on(&root, &route, "this file is included twice: keep one");
        } else if texts.files.len() > INCLUDES {
            problems.on(&root, &route, "more than 64 files are included: join some");
        } else if let Some(part) = texts.tree(&file, &schema, &mut problems) {
            merge(&mut root, part, &mut problems);
        }
    }
    let known = Known::of(&root);
    let (sound, key_numbers) = without_damage(&root, &problems.damaged());
    let file: file::File = match serde_path_to_error::deserialize(sound.to_json()) {
        Ok(file) => file,
        Err(error) => {
            // The schema is meant to catch everything; what it misses is still a problem with a path, never a panic.
            problems.on(&root, &Route::default(), format!("{}: {}", error.path(), error.inner()));
            return Err(problems.into_sorted());
        }
    };
    let own = prices::text(file.catalog.as_deref(), path, &mut texts, &root, &mut problems);
    let own = own.as_deref().map(|text| Catalog::read(text).unwrap_or_default());
    let hash = texts.hash.clone();
    let files = texts.files;
    let remarks = Vec::new();
    let build = build::Build {
        root: &root,
        known,
        key_numbers,
        outside,
        catalogue,
        pricing: prices::Pricing::with(own),
        hash,
        live,
        routing: routing::Routing::default(),
        ground: budgets::Ground::default(),
        estimates: false,
        at: path,
        problems: &mut problems,
        remarks,
    };
    let snapshot = build.snapshot(file, files);
    if problems.is_empty() { Ok(snapshot) } else { Err(problems.into_sorted()) }
}

/// Reads a configuration that is one text, for tests and tools.
///
/// # Errors
/// As [`load`].
pub fn from_text(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Snapshot, Vec<Problem>> {
    let path = Path::new("portolan.yaml");
    let read = |asked: &Path| {
        if asked == path { Ok(text.as_bytes().to_vec()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    };
    load(path, &Outside { env, read: &read }, &Catalogue::EMPTY, &Live::default())
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A path as written in a file, which is relative to that file.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

/// Largest file beside the configuration.
const PLAIN: usize = 8 << 20;

/// The files as they are read.
struct Texts<'o> {
    outside: &'o Outside<'o>,
    hash: Sha256,
    bytes: usize,
    files: Vec<PathBuf>,
}

impl Texts<'_> {
    /// A file beside the configuration that is no YAML.
    fn plain(&mut self, path: &Path) -> Result<String, String> {
        self.files.push(path.to_owned());
        let bytes = (self.outside.read)(path).map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() > PLAIN {
            return Err("larger than 8 MiB".to_owned());
        }
        self.hash.update(bytes.len().to_le_bytes());
        self.hash.update(&bytes);
        String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
    }

    /// One file as an expanded tree, checked against the schema. Nothing when there is no tree.
    fn tree(&mut self, path: &Path, schema: &serde_json::Value, problems: &mut Problems) -> Option<Node> {
        let source = problems.file(path);
        self.files.push(path.to_owned());
        let bytes = match (self.outside.read)(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                problems.whole(path, format!("cannot be read: {error}"));
                return None;
            }
        };
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > BYTES {
            problems.whole(path, "the configuration is larger than 50 MiB: split off what is no configuration");
            return None;
        }
        self.hash.update(bytes.len().to_le_bytes());
        self.hash.update(&bytes);
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
                let mark = yaml::Mark { source, line, column: 1 };
                problems.at(mark, &Route::default(), "not UTF-8 from here on: save the file as UTF-8");
                return None;
            }
        };
        let mut flaws = Vec::new();
        let root = yaml::read(text, source, &mut flaws);
        for flaw in flaws {
            // The commonest slip of all: in `{...}` and `[...]` the braces of a variable are YAML's own.
            let line = text.lines().nth(flaw.at.line.saturating_sub(1)).unwrap_or_default();
            let hint = if line.contains("${") { ". Is a `${NAME}` in this line not in quotes?" } else { "" };
            problems.at(flaw.at, &Route::default(), flaw.message + hint);
        }
        let mut root = root?;
        if !matches!(root.value, Value::Map(_) | Value::Null) {
            problems.at(root.at, &Route::default(), "a configuration is a map of fields, such as `listen: ...`");
            return None;
        }
        secret::expand_tree(&mut root, self.outside.env, problems);
        schema::check(&root, schema, problems);
        Some(root)
    }
}

/// Fields of the root whose members are entries with names of the operator's choice.
const NAMED: [&str; 8] = ["providers", "models", "tiers", "organisations", "teams", "projects", "users", "issuers"];

/// The files that a tree includes, and where it says so.
fn included(root: &Node) -> Vec<(String, Route)> {
    let route = Route::default().key("include");
    match root.member("include").map(|node| &node.value) {
        Some(Value::List(items)) => items
            .iter()
            .enumerate()
            .filter_map(|(number, item)| match &item.value {
                Value::Text(name) => Some((name.clone(), route.index(number))),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Adds an included file to the tree.
fn merge(root: &mut Node, part: Node, problems: &mut Problems) {
    let Value::Map(added) = part.value else { return };
    if root.value == Value::Null {
        root.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut root.value else { return };
    for entry in added {
        let route = Route::default().key(&entry.key);
        if entry.key == "include" {
            problems.at(entry.at, &route, "an included file includes no others: name them in the first file");
            continue;
        }
        let Some(old) = entries.iter_mut().find(|old| old.key == entry.key) else {
            entries.push(entry);
            continue;
        };
        match (&mut old.value.value, entry.value.value) {
            (_, Value::Null) => {}
            (place @ Value::Null, value) => *place = value,
            (Value::List(items), Value::List(more)) if entry.key == "keys" => items.extend(more),
            (Value::Map(named), Value::Map(more)) if NAMED.contains(&&*entry.key) || entry.key == "currencies" => {
                let taken: HashSet<String> = named.iter().map(|other| other.key.clone()).collect();
                for one in more {
                    if taken.contains(&one.key) {
                        problems.at(one.at, &route.key(&one.key), "this name is already in another file: keep one");
                    } else {
                        named.push(one);
                    }
                }
            }
            _ => problems.at(entry.at, &route, "this field already stands in another file: keep one"),
        }
    }
}

/// The names in the file, damaged or not: a reference to a damaged provider is no second problem.
struct Known {
    /// In the order of the file.
    providers: Vec<String>,
    /// In the order of the file.
    models: Vec<String>,
    set: HashSet<(&'static str, String)>,
}

impl Known {
    fn of(root: &Node) -> Known {
        let mut set = HashSet::new();
        let mut names = |field: &'static str| match root.member(field).map(|node| &node.value) {
            Some(Value::Map(entries)) => {
                let new = entries.iter().filter(|entry| set.insert((field, entry.key.clone())));
                new.map(|entry| entry.key.clone()).collect()
            }
            _ => Vec::new(),
        };
        Known { providers: names("providers"), models: names("models"), set }
    }

    fn provider(&self, name: &str) -> bool {
        self.set.contains(&("providers", name.to_owned()))
    }

    fn model(&self, name: &str) -> bool {
        self.set.contains(&("models", name.to_owned()))
    }
}

/// The tree without the entries that have problems, and which number each remaining key has in the file. An entry is
/// one provider, one model, one key, or else a field of the root.
fn without_damage(root: &Node, damaged: &BTreeSet<(String, String)>) -> (Node, Vec<usize>) {
    let mut sound = root.clone();
    let mut key_numbers = Vec::new();
    if sound.value == Value::Null {
        sound.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut sound.value else { return (sound, key_numbers) };
    for entry in entries.iter_mut() {
        let is_damaged = |inner: &str| damaged.contains(&(entry.key.clone(), inner.to_owned()));
        match &mut entry.value.value {
            _ if is_damaged("") => entry.value.value = Value::Null,
            Value::Map(named) if NAMED.contains(&&*entry.key) => {
                named.retain(|one| !is_damaged(&one.key));
            }
            Value::List(items) if entry.key == "keys" => {
                key_numbers = (0..items.len()).filter(|number| !is_damaged(&number.to_string())).collect();
                let mut number = 0..;
                items.retain(|_| number.next().is_some_and(|number| key_numbers.binary_search(&number).is_ok()));
            }
            _ if damaged.iter().any(|(field, _)| *field == entry.key) => entry.value.value = Value::Null,
            _ => {}
        }
    }
    let known = |key: &str| !damaged.contains(&(key.to_owned(), String::new()));
    entries.retain(|entry| known(&entry.key));
    (sound, key_numbers)
}

#[cfg(test)]
mod tests;
