//! Keys: made, and given other secrets.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use super::entities::{self, Entity};
use super::secret;
use crate::config::file;
use crate::config::value::{Moment, Sha256, Span};
use crate::policy::auth;
use crate::policy::tenancy::Kind;
use crate::store::directory::{Change, Expect, Fresh};

/// How long former secrets stay good where nothing is said: a working day to bring the new one everywhere.
const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// A key with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Made {
    /// Shown only now. None where the request brought the digest of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How the secret begins; empty where nobody here knows.
    pub prefix: String,
    pub key: Entity<file::Key>,
}

/// The same, with the document as it was stored.
#[derive(Serialize)]
struct Written<'m> {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'m str>,
    prefix: &'m str,
    key: Entity<Value>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// How long the former secrets stay good. Default: 24h; 0s ends them at once.
    pub overlap: Option<Span>,
    /// The same as a moment, instead.
    pub until: Option<Moment>,
    /// SHA-256 of a secret that was made elsewhere, instead of one that is made here.
    pub secret_sha256: Option<Sha256>,
}

/// A key as it is to be made: nothing in it is needed.
pub fn new_key(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = file::Key::json_schema(generator);
    schema.remove("required");
    schema
}

/// Members of a document, each as it is to be, or `null` where it is to go.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "object"})
}

/// A secret that was just made, or the digest of one that was brought.
struct Secret {
    text: Option<String>,
    digest: [u8; 32],
}

impl Secret {
    fn of(brought: Option<Sha256>) -> Result<Secret, Refused> {
        if let Some(Sha256(digest)) = brought {
            return Ok(Secret { text: None, digest });
        }
        let text = secret::key()?;
        let digest = auth::digest(&text).ok_or_else(|| Refused::bug("a secret without a digest"))?;
        Ok(Secret { text: Some(text), digest })
    }

    fn fresh(&self) -> Fresh<'_> {
        Fresh { digest: self.digest, prefix: self.text.as_deref().map_or("", secret::prefix) }
    }
}

pub fn create(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let mut value: Value = asked.json()?;
    let Some(members) = value.as_object_mut() else { return Err(Refused::invalid("write an object: a key")) };
    let id = match members.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Null) | None => secret::name("key-")?,
        Some(_) => return Err(Refused::invalid("id: expected text")),
    };
    members.insert("id".to_owned(), json!(id));
    let brought = match members.remove("secret_sha256") {
        None | Some(Value::Null) => None,
        Some(written) => {
            let read = serde_json::from_value(written);
            Some(read.map_err(|error| Refused::invalid(format!("secret_sha256: {error}")))?)
        }
    };
    let brought: Option<Sha256> = brought;
    if desk.directory.in_file(Kind::Key, &id) {
        return Err(match entities::find(desk, Kind::Key, &id, &asked.caller.rights) {
            Ok(_) => Refused::read_only("key", &id),
            Err(_) => Refused::new(409, "exists", "this id is taken"),
        });
    }
    if brought.is_some_and(|brought| desk.directory.snapshot().keys.contains_key(&brought.0)) {
        return Err(Refused::new(409, "secret_taken", "a key of the configuration file has this secret"));
    }
    let document = entities::checked(desk, asked, Kind::Key, &id, &value, None)?;
    let made = Secret::of(brought)?;
    entities::write(desk, asked, &id, &document, Expect::New, Some(made.fresh()))?;
    answer(desk, asked, &id, &made)
}

pub fn rotate(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let id = asked.id()?;
    let rotation: Rotation = if asked.body.is_empty() { Rotation::default() } else { asked.json()? };
    let until = match (rotation.overlap, rotation.until) {
        (Some(_), Some(_)) => return Err(Refused::invalid("write either `overlap` or `until`")),
        (None, Some(until)) => until.0,
        (overlap, None) => asked.seconds().saturating_add(overlap.map_or(OVERLAP, |span| span.0).as_secs()),
    };
    let found = entities::find(desk, Kind::Key, id, &asked.caller.rights)?;
    let now = entities::writable(&found, Kind::Key, id)?;
    let version = asked.if_match()?.unwrap_or(now);
    if rotation.secret_sha256.is_some_and(|brought| desk.directory.snapshot().keys.contains_key(&brought.0)) {
        return Err(Refused::new(409, "secret_taken", "a key of the configuration file has this secret"));
    }
    let made = Secret::of(rotation.secret_sha256)?;
    desk.write(&Change::Rotate { key: id, secret: made.fresh(), until, version }, asked)?;
    answer(desk, asked, id, &made)
}

fn answer(desk: &Desk, asked: &Asked<'_>, id: &str, made: &Secret) -> Result<Answer, Refused> {
    let found = entities::find(desk, Kind::Key, id, &asked.caller.rights)?;
    let mut key = found.shown(id, &desk.directory.tenants(), asked.seconds())?;
    key.secrets = Some(entities::secrets(desk, id, asked.seconds())?);
    let version = key.version;
    let fresh = made.fresh();
    Ok(Answer::json(201, &Written { secret: made.text.as_deref(), prefix: fresh.prefix, key })?.at(version))
}
