//! Organisations, teams, projects, users and keys: those of the file, which are shown and not changed here, and those
//! that are stored.
//!
//! Who has rights for one team finds that team's alone; what others have is for them as if it were not there.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use crate::config::document::Document;
use crate::config::is_id;
use crate::config::tenancy::Tenants;
use crate::policy::role::Rights;
use crate::policy::tenancy::{Kind, Standing};
use crate::store::directory::{Change, Error, Expect, Fresh, Query, Stored};

/// How often a change is made anew where somebody else was first and the caller has not said that it minds.
const TRIES: u32 = 5;

/// An entity, with its document as it would stand in the file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Entity<T> {
    pub id: String,
    pub source: Source,
    /// It stands in the configuration file: change it there.
    pub read_only: bool,
    /// good, disabled, expired or revoked; of a key also by what is above it.
    pub status: String,
    /// What stops it, where that is above it: team platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// What `ETag` says, and `If-Match` may demand. Not of what stands in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Of a key that is shown alone: those that were made for it, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<Secret>>,
    pub document: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    File,
    Api,
}

/// A secret, as far as anybody knows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Secret {
    /// How it begins.
    pub prefix: String,
    pub created_at: String,
    /// From then on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// good, ended or revoked.
    pub status: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    pub data: Vec<Entity<T>>,
    /// Write it as `after` for those after these; `null`: there are none.
    pub next: Option<String>,
}

/// An entity that was looked up.
pub struct Found {
    pub document: Document,
    /// `None`: it is the file's.
    pub stored: Option<Stored>,
}

impl Found {
    pub fn shown(&self, id: &str, tenants: &Tenants, now: u64) -> Result<Entity<Value>, Refused> {
        let document = serde_json::to_value(&self.document).map_err(|_| Refused::bug("a document that is no JSON"))?;
        let stored = self.stored.as_ref();
        let (status, stopped_by) = match self.document.standing(tenants, now) {
            _ if stored.is_some_and(|stored| stored.gone) => ("revoked", None),
            (Standing::Good, _) => ("good", None),
            (Standing::Disabled, by) => ("disabled", by),
            (Standing::Expired, by) => ("expired", by),
        };
        let (team, organisation) = self.document.place(id, tenants);
        Ok(Entity {
            id: id.to_owned(),
            source: if stored.is_some() { Source::Api } else { Source::File },
            read_only: stored.is_none(),
            status: status.to_owned(),
            stopped_by,
            version: stored.map(|stored| stored.version),
            created_at: stored.map(|stored| stamp(stored.created_at)),
            changed_at: stored.map(|stored| stamp(stored.changed_at)),
            team,
            organisation,
            secrets: None,
            document,
        })
    }
}

/// Unix milliseconds as people and programs read them (RFC 3339).
pub fn stamp(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// Unix seconds likewise.
pub fn instant(unix: u64) -> String {
    stamp(unix.saturating_mul(1_000))
}

pub fn list(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let kind = kind(asked)?;
    let (limit, after) = (asked.limit()?, asked.parameter("after")?.unwrap_or_default());
    let tenants = desk.directory.tenants();
    let wanted = match (asked.parameter("team")?, &asked.caller.rights.team) {
        (Some(team), Some(own)) if team != *own => return Answer::json(200, &none()),
        (team, own) => team.or_else(|| own.clone()),
    };
    let (project, user, prefix) = (asked.parameter("project")?, asked.parameter("user")?, asked.parameter("prefix")?);
    let revoked = asked.flag("revoked")?;

    let snapshot = desk.directory.snapshot();
    let fits = |id: &str, document: &Document| {
        let own = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        own(&wanted, document.place(id, &tenants).0.as_deref())
            && own(&project, document.parent().filter(|_| kind == Kind::Key).map(|(_, id)| id))
            && own(&user, document.user())
    };
    let mut found: Vec<(String, Found)> = Vec::new();
    if prefix.is_none() {
        let of_file = Document::of_file(&snapshot, kind, &after).filter(|(id, document)| fits(id, document));
        found.extend(of_file.take(limit + 1).map(|(id, document)| (id, Found { document, stored: None })));
    }
    let (parents, users) = match (&wanted, &project, kind) {
        (_, Some(project), Kind::Key) => (Some(vec![project.clone()]), None),
        (Some(team), None, Kind::Key) => {
            (Some(tenants.below(Kind::Project, team)), Some(tenants.below(Kind::User, team)))
        }
        (Some(team), _, Kind::Project | Kind::User) => (Some(vec![team.clone()]), None),
        _ => (None, None),
    };
    let query = Query {
        after: &after,
        parents: parents.as_deref(),
        users: users.as_deref(),
        user: user.as_deref().filter(|_| kind == Kind::Key),
        prefix: prefix.as_deref(),
        gone: revoked,
        ..Query::all(kind, limit + 1)
    };
    if let (Kind::Team, Some(team)) = (kind, &wanted) {
        // A team is all that there is of it.
        let found = find(desk, kind, team, &asked.caller.rights).ok().filter(|_| *team > after);
        let data = found.iter().map(|found| found.shown(team, &tenants, asked.seconds())).collect::<Result<_, _>>()?;
        return Answer::json(200, &Page { data, next: None });
    }
    let stored = desk.register().list(&query)?;
    // Some of them may not be shown: where there may be more, the page ends with the last one that was looked at.
    let seen = stored.last().filter(|_| stored.len() > limit).map(|last| last.id.clone());
    for stored in stored {
        let Ok(document) = Document::parse(kind, &stored.document) else { continue };
        if !desk.directory.in_file(kind, &stored.id) && fits(&stored.id, &document) {
            found.push((stored.id.clone(), Found { document, stored: Some(stored) }));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    if let Some(seen) = &seen {
        found.retain(|(id, _)| id <= seen);
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|(id, _)| id.clone()) } else { seen };
    let data = found.iter().map(|(id, found)| found.shown(id, &tenants, asked.seconds())).collect::<Result<_, _>>()?;
    Answer::json(200, &Page { data, next })
}

fn none() -> Page<Value> {
    Page { data: Vec::new(), next: None }
}

pub fn show(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (kind(asked)?, asked.id()?);
    let found = find(desk, kind, id, &asked.caller.rights)?;
    answer(desk, asked, 200, id, &found)
}

/// Makes one, or writes it anew.
pub fn put(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (kind(asked)?, asked.id()?);
    let value: Value = asked.json()?;
    let before = match find(desk, kind, id, &asked.caller.rights) {
        Ok(found) => Some(found),
        // What others have is not to be told from what is free, but by who may not have it: it is refused all the same.
        Err(refused) if refused.status == 404 && is_free(desk, kind, id)? => None,
        Err(refused) => return Err(refused),
    };
    let expect = match (&before, asked.if_match()?) {
        (None, None) => Expect::New,
        (None, Some(_)) => return Err(Refused::new(412, "changed", "there is none yet: leave `If-Match` out")),
        (Some(found), version) => {
            writable(found, kind, id)?;
            let needed = "there is one already: send `If-Match` with its `ETag` to write it anew, or PATCH it";
            let version = version.ok_or_else(|| Refused::new(428, "precondition_required", needed))?;
            Expect::Version(version)
        }
    };
    let document = checked(desk, asked, kind, id, &value, before.as_ref())?;
    let status = if expect == Expect::New { 201 } else { 200 };
    write(desk, asked, id, &document, expect, None)?;
    answer(desk, asked, status, id, &find(desk, kind, id, &asked.caller.rights)?)
}

/// Changes members of one (RFC 7396).
pub fn patch(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (kind(asked)?, asked.id()?);
    let changes: Value = asked.json()?;
    if !changes.is_object() {
        return Err(Refused::invalid("write an object with the members that are to change"));
    }
    let wanted = asked.if_match()?;
    for attempt in 1.. {
        let found = find(desk, kind, id, &asked.caller.rights)?;
        let now = writable(&found, kind, id)?;
        let mut value =
            serde_json::to_value(&found.document).map_err(|_| Refused::bug("a document that is no JSON"))?;
        merge(&mut value, &changes);
        let document = checked(desk, asked, kind, id, &value, Some(&found))?;
        let version = wanted.unwrap_or(now);
        match write(desk, asked, id, &document, Expect::Version(version), None) {
            // Somebody else changed it meanwhile: these members are put into what they made of it.
            Err(refused) if refused.status == 412 && wanted.is_none() && attempt < TRIES => {}
            Err(refused) => return Err(refused),
            Ok(_) => return answer(desk, asked, 200, id, &find(desk, kind, id, &asked.caller.rights)?),
        }
    }
    Err(Refused::bug("a loop without an end"))
}

pub fn delete(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (kind(asked)?, asked.id()?);
    let wanted = asked.if_match()?;
    for attempt in 1.. {
        let found = find(desk, kind, id, &asked.caller.rights)?;
        let now = writable(&found, kind, id)?;
        if let Some(key) = desk.directory.needs(id).filter(|_| kind == Kind::Project) {
            let message =
                format!("the key `{}` of the configuration file belongs to it: change it there first", key.id);
            return Err(Refused::new(409, "in_use", message));
        }
        let rules = found.document.rules();
        if asked.caller.rights.team.is_some() && (rules.price_group.is_some() || rules.prepaid.is_some()) {
            // Made anew it would have neither.
            let message = "it says what is charged, or is paid beforehand: who has rights for everything deletes it";
            return Err(Refused::forbidden_field(message));
        }
        match desk.write(&Change::Delete { kind, id, version: wanted.unwrap_or(now) }, asked) {
            Err(refused) if refused.status == 412 && wanted.is_none() && attempt < TRIES => {}
            Err(refused) => return Err(refused),
            Ok(_) => return Ok(Answer::raw(204, "")),
        }
    }
    Err(Refused::bug("a loop without an end"))
}

/// Whether nobody has this id.
fn is_free(desk: &Desk, kind: Kind, id: &str) -> Result<bool, Refused> {
    Ok(!desk.directory.in_file(kind, id) && desk.register().one(kind, id)?.is_none())
}

/// One that the caller may see.
///
/// # Errors
/// There is none for them.
pub fn find(desk: &Desk, kind: Kind, id: &str, rights: &Rights) -> Result<Found, Refused> {
    let snapshot = desk.directory.snapshot();
    let missing = || Refused::not_found(kind.name());
    let found = match Document::one_of_file(&snapshot, kind, id) {
        Some(document) => Found { document, stored: None },
        None => {
            let stored = desk.register().one(kind, id)?.ok_or_else(missing)?;
            let document = Document::parse(kind, &stored.document)
                .map_err(|_| Refused::new(503, "unavailable", "it was written by a newer version of the gateway"))?;
            Found { document, stored: Some(stored) }
        }
    };
    let (team, _) = found.document.place(id, &desk.directory.tenants());
    if rights.covers(team.as_deref()) { Ok(found) } else { Err(missing()) }
}

/// The version of what may be changed here.
///
/// # Errors
/// It stands in the file, or was revoked.
pub fn writable(found: &Found, kind: Kind, id: &str) -> Result<u64, Refused> {
    match &found.stored {
        None => Err(Refused::read_only(kind.name(), id)),
        Some(stored) if stored.gone => Err(Refused::new(409, "revoked", "it was revoked: make another key")),
        Some(stored) => Ok(stored.version),
    }
}

/// A document as it may be stored by this caller.
///
/// # Errors
/// All that is wrong with it.
pub fn checked(
    desk: &Desk,
    asked: &Asked<'_>,
    kind: Kind,
    id: &str,
    value: &Value,
    before: Option<&Found>,
) -> Result<Document, Refused> {
    if !is_id(id) {
        return Err(Refused::invalid("an id is 1 to 64 letters, digits, dots, hyphens and underscores"));
    }
    let tenants = desk.directory.tenants();
    let rights = &asked.caller.rights;
    if rights.team.is_some() {
        // Whatever it is put under must be the team's own, each on its own account. Before anything else is said of it: what
        // others have is not to be told by way of a hint.
        for (field, above) in [("team", Kind::Team), ("project", Kind::Project), ("user", Kind::User)] {
            let Some(named) = value.get(field).and_then(Value::as_str) else { continue };
            let own = match above {
                Kind::Team => rights.covers(Some(named)),
                above => find(desk, above, named, rights).is_ok(),
            };
            if !own {
                return Err(Refused::not_found(above.name()));
            }
        }
    }
    let document = Document::read(kind, id, value, &desk.directory.snapshot(), &tenants).map_err(Refused::wrong)?;
    if rights.team.is_some() {
        if !rights.covers(document.place(id, &tenants).0.as_deref()) {
            return Err(Refused::forbidden_field("it must belong to your team"));
        }
        let was = before.map(|found| &found.document);
        if let Some(field) = document.favours(was) {
            let message = format!("`{field}` takes from what all teams share: who has rights for everything sets it");
            return Err(Refused::forbidden_field(message));
        }
    }
    // Where what is above was narrowed meanwhile, all else can be changed still.
    let was = before.map(|found| found.document.wider(&tenants)).unwrap_or_default();
    let mut wider = document.wider(&tenants);
    wider.retain(|wrong| !was.contains(wrong));
    if wider.is_empty() { Ok(document) } else { Err(Refused::wrong(wider)) }
}

/// Writes a document, with the secret of a new key.
///
/// # Errors
/// It was not written.
pub fn write(
    desk: &Desk,
    asked: &Asked<'_>,
    id: &str,
    document: &Document,
    expect: Expect,
    secret: Option<Fresh<'_>>,
) -> Result<u64, Refused> {
    let kind = document.kind();
    let text = serde_json::to_string(document).map_err(|_| Refused::bug("a document that is no JSON"))?;
    let needs: Vec<_> = document.above().filter(|(kind, id)| !desk.directory.in_file(*kind, id)).collect();
    let (parent, user) = (document.parent().map(|(_, id)| id), document.user());
    desk.write(&Change::Put { kind, id, document: &text, parent, user, expect, needs: &needs, secret }, asked)
}

pub fn answer(desk: &Desk, asked: &Asked<'_>, status: u16, id: &str, found: &Found) -> Result<Answer, Refused> {
    let mut shown = found.shown(id, &desk.directory.tenants(), asked.seconds())?;
    if found.document.kind() == Kind::Key && found.stored.is_some() {
        shown.secrets = Some(secrets(desk, id, asked.seconds())?);
    }
    let version = shown.version;
    Ok(Answer::json(status, &shown)?.at(version))
}

pub fn secrets(desk: &Desk, key: &str, now: u64) -> Result<Vec<Secret>, Error> {
    let all = desk.register().secrets(key)?.into_iter().map(|secret| Secret {
        status: match secret.until {
            _ if secret.gone => "revoked",
            Some(until) if now >= until => "ended",
            _ => "good",
        }
        .to_owned(),
        prefix: secret.prefix,
        created_at: stamp(secret.created_at),
        until: secret.until.map(instant),
    });
    Ok(all.collect())
}

/// What kind of entity a route is about.
///
/// # Errors
/// It is about none, which is our fault.
pub fn kind(asked: &Asked<'_>) -> Result<Kind, Refused> {
    asked.route.kind.ok_or_else(|| Refused::bug("a route of no kind of entity"))
}

/// RFC 7396 section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_merge_as_the_rfc_says() {
        // RFC 7396 appendix A.
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, result, "{target} {patch}");
        }
    }

    #[test]
    fn moments_are_written_for_all() {
        assert_eq!(instant(1_795_219_200), "2026-11-21T00:00:00Z");
        assert_eq!(stamp(u64::MAX), jiff::Timestamp::MAX.to_string());
    }
}
