//! What is stored of organisations, teams, projects, users, keys and administrators, in memory: calls are let in by this
//! alone, so they go on when the store is gone.
//!
//! Most keys are not in use at any one time. So a key is kept as its document, in a row of some hundred bytes under the
//! digest of its secret, and becomes what a call is held to ([`Key`]) when it is first used; that is kept until
//! something above it changes, in the file or in the store. What the file says wins: a stored entity with an id that the
//! file has is as if it were not there. And whatever cannot be made out shuts: a key or level of a newer version, one that
//! belongs to something that is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use serde::de::DeserializeOwned;

use super::file::{self, Tenancy};
use super::snapshot::{Key, Snapshot};
use super::tenancy::Tenants;
use super::value::Moment;
use crate::policy::budget::{Balance, Level};
use crate::policy::role::Rights;
use crate::policy::tenancy::Kind;

/// What is stored, as calls see it.
#[derive(Debug)]
pub struct Directory {
    keys: ArcSwap<Keys>,
    administrators: ArcSwap<HashMap<[u8; 32], Arc<Administrator>>>,
    standing: ArcSwap<Standing>,
    /// Documents of what is above the keys. Who holds it changes the directory.
    levels: Mutex<Levels>,
}

type Levels = BTreeMap<(Kind, String), Box<str>>;
type Keys = DashMap<[u8; 32], Arc<Row>>;

/// A secret of a key.
#[derive(Debug)]
struct Row {
    document: Box<str>,
    /// Unix seconds from which it is good no more; 0: no end of its own.
    until: u64,
    made: ArcSwapOption<Made>,
}

/// A key made of its document.
#[derive(Debug)]
struct Made {
    generation: u64,
    /// `None`: it cannot be used as things stand.
    key: Option<Arc<Key>>,
}

/// What keys are made against.
#[derive(Debug)]
struct Standing {
    generation: u64,
    snapshot: Arc<Snapshot>,
    /// The file's, and those that are stored.
    tenants: Arc<Tenants>,
    /// Keys of the file that name a project which is stored, held to it.
    adopted: HashMap<[u8; 32], Arc<Key>>,
}

/// Who may use the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    pub id: String,
    pub rights: Rights,
    /// Unix seconds.
    pub expires: Option<u64>,
}

impl Directory {
    pub fn new(snapshot: Arc<Snapshot>) -> Directory {
        Directory {
            keys: ArcSwap::default(),
            administrators: ArcSwap::default(),
            standing: ArcSwap::from_pointee(Standing::new(0, snapshot, &BTreeMap::new())),
            levels: Mutex::default(),
        }
    }

    /// The key of a stored secret, whatever its standing.
    pub fn key(&self, digest: &[u8; 32]) -> Option<Arc<Key>> {
        let keys = self.keys.load();
        if keys.is_empty() {
            return None;
        }
        let row = Arc::clone(keys.get(digest)?.value());
        let standing = self.standing.load();
        if let Some(made) = row.made.load().as_deref()
            && made.generation == standing.generation
        {
            return made.key.clone();
        }
        let key = standing.make(&row).map(Arc::new);
        row.made.store(Some(Arc::new(Made { generation: standing.generation, key: key.clone() })));
        key
    }

    /// A key of the file as it is held to the project that it names, where only the store has that; else as it is.
    pub fn held(&self, digest: &[u8; 32], key: &Arc<Key>) -> Arc<Key> {
        let standing = self.standing.load();
        let adopted = if standing.adopted.is_empty() { None } else { standing.adopted.get(digest) };
        adopted.unwrap_or(key).clone()
    }

    /// A key of the file that names a project which only the store has.
    pub fn needs(&self, project: &str) -> Option<Arc<Key>> {
        let standing = self.standing.load();
        let named = |key: &&Arc<Key>| key.project.as_deref() == Some(project);
        standing.adopted.values().find(named).cloned()
    }

    /// How many secrets are stored.
    pub fn len(&self) -> usize {
        self.keys.load().len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    pub fn administrator(&self, digest: &[u8; 32]) -> Option<Arc<Administrator>> {
        self.administrators.load().get(digest).cloned()
    }

    /// Everybody above the keys, in the file or stored.
    pub fn tenants(&self) -> Arc<Tenants> {
        self.standing.load().tenants.clone()
    }

    /// The configuration that stored keys are held to.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.standing.load().snapshot.clone()
    }

    /// Whether the file has one of this id.
    pub fn in_file(&self, kind: Kind, id: &str) -> bool {
        let standing = self.standing.load();
        match kind {
            Kind::Key => standing.snapshot.index.keys.contains_key(id),
            _ => standing.snapshot.tenants.has(kind, id),
        }
    }

    /// Takes another configuration; what is stored stays, and is held to that one from now on.
    pub fn rebase(&self, snapshot: Arc<Snapshot>) {
        let levels = self.lock();
        self.stand(snapshot, &levels);
    }

    /// Begins to change what is stored; `anew`: none of it holds any more.
    pub fn edit(&self, anew: bool) -> Edit<'_> {
        let levels = self.lock();
        let administrators = if anew { HashMap::new() } else { (**self.administrators.load()).clone() };
        let fresh = anew.then(|| (Keys::default(), BTreeMap::new()));
        Edit {
            directory: self,
            levels,
            anew,
            fresh,
            administrators,
            administrators_changed: anew,
            levels_changed: anew,
            paid: Vec::new(),
        }
    }

    fn stand(&self, snapshot: Arc<Snapshot>, levels: &Levels) {
        let generation = self.standing.load().generation + 1;
        self.standing.store(Arc::new(Standing::new(generation, snapshot, levels)));
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes to a directory. Keys and their ends count at once, all else when it is [finished](Edit::finish).
pub struct Edit<'d> {
    directory: &'d Directory,
    levels: MutexGuard<'d, Levels>,
    anew: bool,
    /// Instead of what there is.
    fresh: Option<(Keys, Levels)>,
    administrators: HashMap<[u8; 32], Arc<Administrator>>,
    administrators_changed: bool,
    levels_changed: bool,
    paid: Vec<(Level, Balance)>,
}

impl Edit<'_> {
    /// An organisation, team, project or user; `None`: there is none.
    pub fn level(&mut self, kind: Kind, id: &str, document: Option<&str>) {
        self.levels_changed = true;
        let levels = self.fresh.as_mut().map_or(&mut *self.levels, |(_, levels)| levels);
        match document {
            Some(document) => levels.insert((kind, id.to_owned()), document.into()),
            None => levels.remove(&(kind, id.to_owned())),
        };
    }

    /// A secret of a key, with the key's document; `None`: there is none.
    pub fn secret(&mut self, digest: [u8; 32], until: Option<u64>, document: Option<&str>) {
        let now = self.directory.keys.load();
        let keys = self.fresh.as_ref().map_or(&**now, |(keys, _)| keys);
        match document {
            Some(document) => {
                let row = Row { document: document.into(), until: until.unwrap_or(0), made: ArcSwapOption::empty() };
                keys.insert(digest, Arc::new(row));
            }
            None => drop(keys.remove(&digest)),
        }
    }

    /// What was paid in for a level.
    pub fn paid(&mut self, kind: Kind, id: &str, balance: Balance) {
        self.paid.push((Level { kind: kind.name(), id: id.to_owned() }, balance));
    }

    /// An administrator's token; `None`: there is none.
    pub fn administrator(&mut self, digest: [u8; 32], who: Option<Administrator>) {
        self.administrators_changed = true;
        match who {
            Some(who) => drop(self.administrators.insert(digest, Arc::new(who))),
            None => drop(self.administrators.remove(&digest)),
        }
    }

    pub fn finish(mut self) {
        let keys = self.fresh.take().map(|(keys, levels)| {
            *self.levels = levels;
            keys
        });
        // What was paid in outlives every snapshot.
        let standing = self.directory.standing.load();
        standing.snapshot.tenants.ground().spendings.pay(std::mem::take(&mut self.paid), self.anew);
        // Levels before keys: no key is made against levels older than itself.
        if self.levels_changed {
            self.directory.stand(self.directory.snapshot(), &self.levels);
        }
        if let Some(keys) = keys {
            self.directory.keys.store(Arc::new(keys));
        }
        if self.administrators_changed {
            self.directory.administrators.store(Arc::new(self.administrators));
        }
    }
}

impl Standing {
    fn new(generation: u64, snapshot: Arc<Snapshot>, levels: &Levels) -> Standing {
        let mut stored = Tenancy::default();
        for ((kind, id), document) in levels {
            match kind {
                Kind::Organisation => drop(stored.organisations.insert(id.clone(), read(document))),
                Kind::Team => drop(stored.teams.insert(id.clone(), read(document))),
                Kind::Project => drop(stored.projects.insert(id.clone(), read(document))),
                Kind::User => drop(stored.users.insert(id.clone(), read(document))),
                Kind::Key => {}
            }
        }
        let tenants = Arc::new(snapshot.tenants.and(stored));
        let adopted = snapshot.index.loose.iter().filter_map(|digest| {
            let written = snapshot.index.keys.get(&snapshot.key_of(digest)?.id)?;
            let written: file::Key = serde_json::from_str(written).ok()?;
            let stored = tenants.has(Kind::Project, written.project.as_deref()?);
            stored.then(|| (*digest, Arc::new(tenants.key(&written))))
        });
        let adopted = adopted.collect();
        Standing { generation, snapshot, tenants, adopted }
    }

    fn make(&self, row: &Row) -> Option<Key> {
        let mut written: file::Key = serde_json::from_str(&row.document).ok()?;
        let known = |kind, id: &Option<String>| id.as_ref().is_none_or(|id| self.tenants.has(kind, id));
        if self.snapshot.index.keys.contains_key(&written.id)
            || !known(Kind::Project, &written.project)
            || !known(Kind::User, &written.user)
        {
            return None;
        }
        if row.until > 0 {
            let own = written.expires.map_or(u64::MAX, |moment| moment.0);
            written.expires = Some(Moment(own.min(row.until)));
        }
        Some(self.tenants.key(&written))
    }
}

/// A stored level; one that cannot be read lets nobody through.
fn read<T: Shut + DeserializeOwned>(document: &str) -> T {
    serde_json::from_str(document).unwrap_or_else(|_| T::shut())
}

/// A level that lets nobody through.
pub(super) trait Shut: Default {
    fn shut() -> Self;
}

macro_rules! shut {
    ($($name:ident)*) => {
        $(impl Shut for file::$name {
            fn shut() -> Self {
                file::$name { disabled: true, ..Self::default() }
            }
        })*
    };
}

shut!(Organisation Team Project User);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;
    use crate::policy::auth;
    use crate::policy::role::Role;

    const FILE: &str = "
teams: { platform: { models: [\"gpt-*\"] } }
projects: { web: { team: platform } }
keys: [{ id: taken, secret_sha256: \"0000000000000000000000000000000000000000000000000000000000000001\" }]
";

    fn snapshot(text: &str) -> Arc<Snapshot> {
        Arc::new(from_text(text, &|_| None).unwrap())
    }

    fn digest(secret: &str) -> [u8; 32] {
        auth::digest(secret).unwrap()
    }

    fn put(directory: &Directory, secret: &str, until: Option<u64>, document: &str) {
        let mut edit = directory.edit(false);
        edit.secret(digest(secret), until, Some(document));
        edit.finish();
    }

    fn level(directory: &Directory, kind: Kind, id: &str, document: Option<&str>) {
        let mut edit = directory.edit(false);
        edit.level(kind, id, document);
        edit.finish();
    }

    #[test]
    fn a_stored_key_is_held_to_levels_of_the_file_and_of_the_store() {
        let directory = Directory::new(snapshot(FILE));
        put(&directory, "a", None, r#"{"id":"a","project":"web"}"#);
        put(&directory, "b", None, r#"{"id":"b","project":"own"}"#);
        let key = directory.key(&digest("a")).unwrap();
        assert!(key.may_use("gpt-5") && !key.may_use("claude"));
        assert_eq!(key.team.as_deref(), Some("platform"));
        assert!(Arc::ptr_eq(&key, &directory.key(&digest("a")).unwrap()), "made once");
        assert!(directory.key(&digest("b")).is_none(), "its project is not there");
        level(&directory, Kind::Project, "own", Some(r#"{"team":"platform","models":["gpt-5"]}"#));
        let key = directory.key(&digest("b")).unwrap();
        assert!(key.may_use("gpt-5") && !key.may_use("gpt-4"));
        level(&directory, Kind::Project, "own", Some(r#"{"team":"platform"}"#));
        assert!(directory.key(&digest("b")).unwrap().may_use("gpt-4"), "a change of its project reaches it");
        level(&directory, Kind::Project, "own", None);
        assert!(directory.key(&digest("b")).is_none());
        assert!(directory.key(&digest("c")).is_none());
    }

    #[test]
    fn what_the_file_says_wins() {
        let directory = Directory::new(snapshot(FILE));
        level(&directory, Kind::Team, "platform", Some(r#"{"models":["*"]}"#));
        put(&directory, "a", None, r#"{"id":"a","project":"web"}"#);
        put(&directory, "t", None, r#"{"id":"taken"}"#);
        assert!(!directory.key(&digest("a")).unwrap().may_use("claude"));
        assert!(directory.key(&digest("t")).is_none(), "the file has another key of this id");
        // Without the file's, the stored one is there.
        directory.rebase(snapshot("projects: { web: { team: platform } }\nteams: { platform: {} }"));
        assert!(directory.key(&digest("t")).is_some());
        assert!(directory.key(&digest("a")).unwrap().may_use("claude"));
        directory.rebase(snapshot("listen: 127.0.0.1:1"));
        assert!(directory.key(&digest("a")).is_none(), "its project went with the file");
    }

    #[test]
    fn a_key_of_the_file_is_held_to_a_project_that_only_the_store_has() {
        let file = |fields: &str| {
            let secret = auth::digest("f").unwrap().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            snapshot(&format!("keys: [{{ id: f, secret_sha256: \"{secret}\", models: [\"gpt-*\"]{fields} }}]"))
        };
        let directory = Directory::new(file(", project: own"));
        let key = || {
            let of_file = directory.snapshot().key("f").unwrap().clone();
            directory.held(&digest("f"), &of_file)
        };
        assert!(key().may_use("gpt-4") && directory.needs("own").is_none(), "a mere name, while nobody knows it");
        level(&directory, Kind::Project, "own", Some(r#"{"models":["gpt-5"]}"#));
        assert!(key().may_use("gpt-5") && !key().may_use("gpt-4"));
        assert_eq!(directory.needs("own").unwrap().id, "f");
        level(&directory, Kind::Project, "own", Some(r#"{"unheard_of":1}"#));
        assert!(key().standing(0).is_err(), "what cannot be made out shuts");
        directory.rebase(file(""));
        assert!(key().may_use("gpt-4") && directory.needs("own").is_none());
    }

    #[test]
    fn what_cannot_be_made_out_shuts() {
        let directory = Directory::new(snapshot(FILE));
        level(&directory, Kind::Project, "new", Some(r#"{"team":"platform","unheard_of":1}"#));
        level(&directory, Kind::Project, "lost", Some(r#"{"team":"gone"}"#));
        for (secret, document) in [
            ("a", r#"{"id":"a","project":"new"}"#),
            ("b", r#"{"id":"b","project":"lost"}"#),
            ("c", r#"{"id":"c","unheard_of":1}"#),
            ("d", r#"{"id":"d","user":"nobody"}"#),
        ] {
            put(&directory, secret, None, document);
            let key = directory.key(&digest(secret));
            assert!(key.is_none_or(|key| key.standing(0).is_err()), "{document}");
        }
    }

    #[test]
    fn a_secret_ends_and_a_directory_begins_anew() {
        let directory = Directory::new(snapshot(FILE));
        put(&directory, "old", Some(100), r#"{"id":"a","expires":"2026-11-21"}"#);
        put(&directory, "new", None, r#"{"id":"a","expires":"2026-11-21"}"#);
        let (old, new) = (directory.key(&digest("old")).unwrap(), directory.key(&digest("new")).unwrap());
        assert!(old.standing(99).is_ok() && old.standing(100).is_err() && new.standing(100).is_ok());
        let who = Administrator { id: "x".into(), rights: Rights { role: Role::Owner, team: None }, expires: None };
        let mut edit = directory.edit(false);
        edit.administrator(digest("x"), Some(who.clone()));
        edit.finish();
        assert_eq!(directory.administrator(&digest("x")).as_deref(), Some(&who));
        let mut edit = directory.edit(true);
        edit.secret(digest("other"), None, Some(r#"{"id":"b"}"#));
        assert!(directory.key(&digest("old")).is_some(), "the former one serves until the new one is whole");
        edit.finish();
        assert!(directory.key(&digest("old")).is_none() && directory.key(&digest("other")).is_some());
        assert!(directory.administrator(&digest("x")).is_none());
        assert_eq!(directory.len(), 1);
    }
}
