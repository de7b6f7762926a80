//! The register on a disk: all or nothing, one order, and a log that shows what was done to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::config::directory::Directory;
use crate::config::from_text;
use crate::policy::auth;
use crate::policy::role::Role;

fn open(dir: &TempDir) -> Sqlite {
    let (register, aside) = Sqlite::open(dir.path(), 0).unwrap();
    assert_eq!(aside, None);
    register
}

fn by(at: u64) -> By<'static> {
    By { actor: "ann", request: "r", at }
}

fn fresh(secret: &str) -> Fresh<'_> {
    Fresh { digest: auth::digest(secret).unwrap(), prefix: &secret[..4] }
}

fn put<'c>(kind: Kind, id: &'c str, document: &'c str, parent: Option<&'c str>, expect: Expect) -> Change<'c> {
    Change::Put { kind, id, document, parent, user: None, expect, needs: &[], secret: None }
}

fn key<'c>(id: &'c str, secret: &'c str) -> Change<'c> {
    Change::Put {
        kind: Kind::Key,
        id,
        document: "{}",
        parent: Some("p"),
        user: None,
        expect: Expect::New,
        needs: &[],
        secret: Some(fresh(secret)),
    }
}

#[test]
fn a_key_lives_from_its_making_to_its_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let register = open(&dir);
    let mode = fs::metadata(dir.path().join("directory.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(register.write(&key("k", "pk-one"), &by(1_000)).unwrap(), 1);
    let stored = register.one(Kind::Key, "k").unwrap().unwrap();
    assert_eq!((stored.version, stored.created_at, stored.gone), (1, 1_000, false));
    assert!(matches!(register.write(&key("k", "pk-two"), &by(2)), Err(Error::Exists)));
    assert!(matches!(register.write(&key("l", "pk-one"), &by(2)), Err(Error::SecretTaken)));
    let change = put(Kind::Key, "k", r#"{"a":1}"#, None, Expect::Version(7));
    assert!(matches!(register.write(&change, &by(2)), Err(Error::Changed(1))));
    let change = put(Kind::Key, "k", r#"{"a":1}"#, None, Expect::Version(1));
    assert_eq!(register.write(&change, &by(2_000)).unwrap(), 2);
    let rotate = Change::Rotate { key: "k", secret: fresh("pk-two"), until: 50, version: 2 };
    assert_eq!(register.write(&rotate, &by(3_000)).unwrap(), 3);
    let secrets = register.secrets("k").unwrap();
    assert_eq!(secrets.iter().map(|secret| secret.until).collect::<Vec<_>>(), [None, Some(50)]);
    assert_eq!(register.write(&Change::Delete { kind: Kind::Key, id: "k", version: 3 }, &by(4_000)).unwrap(), 4);
    assert!(register.one(Kind::Key, "k").unwrap().unwrap().gone);
    assert!(matches!(register.write(&key("k", "pk-new"), &by(5)), Err(Error::Used)));
    assert!(matches!(register.write(&key("m", "pk-two"), &by(5)), Err(Error::SecretTaken)), "revoked for good");
    let actions: Vec<_> = register.audit(0, 10).unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["revoke", "rotate", "update", "create"]);
    let entry = register.audit(4, 1).unwrap().remove(0);
    assert!(entry.detail.as_ref().unwrap().contains("pk-t") && !entry.detail.unwrap().contains("pk-tw"));
    assert_eq!(register.verify().unwrap().flaws, []);
}

#[test]
fn nothing_is_removed_from_under_others() {
    let dir = tempfile::tempdir().unwrap();
    let register = open(&dir);
    for (kind, id, parent) in
        [(Kind::Organisation, "o", None), (Kind::Team, "t", Some("o")), (Kind::Project, "p", Some("t"))]
    {
        register.write(&put(kind, id, "{}", parent, Expect::New), &by(1)).unwrap();
    }
    register.write(&key("k", "pk-one"), &by(1)).unwrap();
    let delete = |kind, id, version| register.write(&Change::Delete { kind, id, version }, &by(2));
    assert!(matches!(delete(Kind::Project, "p", 3), Err(Error::InUse(Kind::Key, 1))));
    assert!(matches!(delete(Kind::Team, "t", 2), Err(Error::InUse(Kind::Project, 1))));
    assert!(matches!(delete(Kind::Organisation, "o", 1), Err(Error::InUse(Kind::Team, 1))));
    delete(Kind::Key, "k", 4).unwrap();
    delete(Kind::Project, "p", 3).unwrap();
    assert_eq!(register.one(Kind::Project, "p").unwrap(), None);
    // A name of a level may be used again; what needs one that is gone is refused.
    let needs = [(Kind::Team, "gone")];
    let mut change = put(Kind::Project, "p", "{}", None, Expect::New);
    register.write(&change, &by(3)).unwrap();
    if let Change::Put { id, needs: needed, .. } = &mut change {
        *id = "q";
        *needed = &needs;
    }
    assert!(matches!(register.write(&change, &by(3)), Err(Error::Needs(Kind::Team, id)) if id == "gone"));
    assert_eq!(register.verify().unwrap().flaws, []);
}

#[test]
fn pages_come_in_order_and_filters_hold() {
    let dir = tempfile::tempdir().unwrap();
    let register = open(&dir);
    for n in 0..7 {
        let (id, secret) = (format!("k{n}"), format!("pk-{n}"));
        let parent = if n % 2 == 0 { "even" } else { "odd" };
        let mut change = key(&id, &secret);
        if let Change::Put { parent: above, user, .. } = &mut change {
            *above = (n < 6).then_some(parent);
            *user = Some("ann");
        }
        register.write(&change, &by(1)).unwrap();
    }
    let ids = |query: &Query<'_>| -> Vec<String> {
        register.list(query).unwrap().into_iter().map(|stored| stored.id).collect()
    };
    assert_eq!(ids(&Query { after: "k1", ..Query::all(Kind::Key, 2) }), ["k2", "k3"]);
    let (even, ann) = (["even".to_owned()], ["ann".to_owned()]);
    let query = Query { parents: Some(&even), ..Query::all(Kind::Key, 10) };
    assert_eq!(ids(&query), ["k0", "k2", "k4"]);
    assert_eq!(ids(&Query { users: Some(&ann), ..query }), ["k0", "k2", "k4", "k6"], "without a project by the user");
    assert_eq!(ids(&Query { prefix: Some("pk-3"), ..Query::all(Kind::Key, 10) }), ["k3"]);
    assert_eq!(ids(&Query { user: Some("bob' OR 1=1 --"), ..Query::all(Kind::Key, 10) }), [""; 0]);
}

#[test]
fn the_last_owner_stays() {
    let dir = tempfile::tempdir().unwrap();
    let register = open(&dir);
    let owner = Rights { role: Role::Owner, team: None };
    let mint = |id, secret, expires| {
        let secret = fresh(secret);
        register.write(&Change::Mint { id, secret, rights: &owner, expires, first: false }, &by(1_000))
    };
    mint("one", "pa-one", None).unwrap();
    mint("soon", "pa-two", Some(1)).unwrap();
    let revoke = |id| register.write(&Change::Revoke { id }, &by(2_000));
    assert!(matches!(revoke("one"), Err(Error::LastOwner)), "the other one has expired");
    mint("next", "pa-three", None).unwrap();
    revoke("one").unwrap();
    assert!(matches!(revoke("one"), Err(Error::Missing)));
    assert!(matches!(mint("one", "pa-four", None), Err(Error::Used)));
    let first = Change::Mint { id: "b", secret: fresh("pa-five"), rights: &owner, expires: None, first: true };
    assert!(matches!(register.write(&first, &by(3)), Err(Error::Used)));
    assert_eq!(register.verify().unwrap().flaws, []);
}

#[test]
fn what_was_done_behind_the_logs_back_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let register = open(&dir);
    let owner = Rights { role: Role::Owner, team: None };
    register.write(&put(Kind::Project, "p", "{}", None, Expect::New), &by(1)).unwrap();
    register.write(&key("k", "pk-one"), &by(1)).unwrap();
    register.write(&Change::Rotate { key: "k", secret: fresh("pk-two"), until: 9, version: 2 }, &by(1)).unwrap();
    register.write(&key("gone", "pk-old"), &by(1)).unwrap();
    register.write(&Change::Delete { kind: Kind::Key, id: "gone", version: 4 }, &by(1)).unwrap();
    let token = |id, secret| Change::Mint { id, secret, rights: &owner, expires: None, first: false };
    register.write(&token("t", fresh("pa-one")), &by(1)).unwrap();
    register.write(&token("u", fresh("pa-two")), &by(1)).unwrap();
    register.write(&Change::Revoke { id: "u" }, &by(1)).unwrap();
    drop(register);
    let path = dir.path().join("directory.sqlite");
    let whole = {
        let conn = Connection::open(&path).unwrap();
        conn.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
        drop(conn);
        fs::read(&path).unwrap()
    };
    let planted = "INSERT INTO secrets (digest, key, prefix, created_at, change, made) VALUES (zeroblob(32), 'k', 'pk-', 1, 2, 2)";
    let deeds = [
        "UPDATE audit SET actor = 'eve' WHERE number = 3",
        "UPDATE audit SET after = '{\"a\":1}' WHERE number = 2",
        "DELETE FROM audit WHERE number = 4",
        "DELETE FROM audit WHERE number = 8",
        "DELETE FROM audit WHERE number > 5",
        "UPDATE audit SET number = 99 WHERE number = 2; UPDATE audit SET number = 2 WHERE number = 3; UPDATE audit SET number = 3 WHERE number = 99",
        "UPDATE entities SET document = '{\"models\":[\"*\"]}' WHERE id = 'p'",
        "UPDATE entities SET gone = 0 WHERE id = 'gone'",
        "DELETE FROM entities WHERE id = 'p'",
        "INSERT INTO entities (kind, id, document, created_at, changed_at, change, logged) VALUES ('key', 'x', '{}', 1, 1, 1, 1)",
        "UPDATE secrets SET gone = 0 WHERE key = 'gone'",
        "UPDATE secrets SET until = NULL WHERE key = 'k'",
        "UPDATE secrets SET key = 'k' WHERE key = 'gone'",
        "DELETE FROM secrets WHERE key = 'k' AND until IS NULL",
        planted,
        "UPDATE tokens SET role = 'owner', gone = 0 WHERE id = 'u'",
        "UPDATE tokens SET digest = zeroblob(32) WHERE id = 't'",
        "UPDATE tokens SET team = 'x' WHERE id = 't'",
        "DELETE FROM tokens WHERE id = 't'",
    ];
    for deed in deeds {
        for part in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{part}", path.display()));
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(open(&dir).verify().unwrap().flaws, [], "as it was");
        let conn = Connection::open(&path).unwrap();
        let guarded = conn.execute_batch(deed);
        if deed.contains("audit SET") || deed.contains("FROM audit") {
            assert!(guarded.is_err(), "{deed}: the log is only added to");
        }
        conn.execute_batch("DROP TRIGGER audit_stays; DROP TRIGGER audit_keeps;").unwrap();
        conn.execute_batch(deed).or(guarded).unwrap();
        drop(conn);
        let flaws = open(&dir).verify().unwrap().flaws;
        assert!(!flaws.is_empty(), "{deed}");
    }
}

#[test]
fn who_follows_sees_what_any_process_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (open(&dir), open(&dir));
    let snapshot = Arc::new(from_text("listen: 127.0.0.1:1", &|_| None).unwrap());
    let follower = Follower::new(Arc::new(ours), Arc::new(Directory::new(snapshot)));
    let directory = follower.directory.clone();
    let digest = |secret: &str| auth::digest(secret).unwrap();
    let known = |secret: &str| directory.key(&digest(secret)).is_some_and(|key| key.standing(100).is_ok());
    assert!(follower.catch_up(0).unwrap());
    assert!(!follower.catch_up(0).unwrap(), "nothing new");
    let mut change = key("k", "pk-one");
    if let Change::Put { document, .. } = &mut change {
        *document = r#"{"id":"k"}"#;
    }
    theirs.write(&change, &by(1)).unwrap();
    assert!(!known("pk-one"));
    assert!(follower.catch_up(0).unwrap());
    assert!(known("pk-one"));
    theirs.write(&Change::Rotate { key: "k", secret: fresh("pk-two"), until: 100, version: 1 }, &by(1)).unwrap();
    follower.catch_up(0).unwrap();
    assert!(!known("pk-one") && known("pk-two"));
    theirs.write(&Change::Delete { kind: Kind::Key, id: "k", version: 2 }, &by(1)).unwrap();
    follower.catch_up(0).unwrap();
    assert!(!known("pk-two"));
    assert_eq!(directory.len(), 0);
}

#[test]
fn a_register_that_is_gone_or_another_one_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = Arc::new(from_text("listen: 127.0.0.1:1", &|_| None).unwrap());
    let follower = Follower::new(Arc::new(open(&dir)), Arc::new(Directory::new(snapshot)));
    let mut change = key("k", "pk-one");
    if let Change::Put { document, .. } = &mut change {
        *document = r#"{"id":"k"}"#;
    }
    follower.register.write(&change, &by(1)).unwrap();
    follower.catch_up(0).unwrap();
    let path = dir.path().join("directory.sqlite");
    let away = dir.path().join("away");
    fs::rename(&path, &away).unwrap();
    assert!(matches!(follower.catch_up(0), Err(Error::Gone)));
    assert!(matches!(follower.register.write(&key("l", "pk-two"), &by(1)), Err(Error::Gone)));
    assert_eq!(follower.directory.len(), 1, "what was read stays");
    fs::rename(&away, &path).unwrap();
    assert!(!follower.catch_up(0).unwrap());
    // Another register in its place: only what that one says holds.
    for part in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{part}", path.display()));
    }
    open(&dir);
    assert!(follower.catch_up(0).unwrap());
    assert_eq!(follower.directory.len(), 0);
}

#[test]
fn a_damaged_register_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).write(&key("k", "pk-one"), &by(1)).unwrap();
    fs::write(dir.path().join("directory.sqlite"), b"this is no database, and never was one, as anybody can see")
        .unwrap();
    for part in ["-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("directory.sqlite{part}")));
    }
    let (register, aside) = Sqlite::open(dir.path(), 77).unwrap();
    assert_eq!(aside, Some(dir.path().join("directory.sqlite.corrupt-77")));
    assert_eq!(register.one(Kind::Key, "k").unwrap(), None);
    assert!(Sqlite::read_only(dir.path()).unwrap().is_some());
}

#[test]
fn a_change_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let register = open(&dir);
    register.write(&key("k", "pk-one"), &by(1)).unwrap();
    // The document is written before the secret is found to be taken.
    assert!(matches!(register.write(&key("l", "pk-one"), &by(1)), Err(Error::SecretTaken)));
    assert_eq!(register.one(Kind::Key, "l").unwrap(), None);
    assert_eq!(register.head().unwrap().number, 1);
    // Another process holds the lock: nothing is half done, and reading goes on.
    let conn = Connection::open(dir.path().join("directory.sqlite")).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(register.write(&key("m", "pk-m"), &by(1)), Err(Error::Store(error)) if error.is_busy()));
    assert!(register.one(Kind::Key, "k").unwrap().is_some());
    let (beside, _) = Sqlite::open(dir.path(), 0).unwrap();
    assert!(beside.one(Kind::Key, "k").unwrap().is_some(), "opening needs no lock either");
    conn.execute_batch("ROLLBACK").unwrap();
    register.write(&key("m", "pk-m"), &by(1)).unwrap();
    assert_eq!(register.verify().unwrap().flaws, []);
}
