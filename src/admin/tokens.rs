//! Administrators' tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use super::entities::{instant, stamp};
use super::gate::ENVIRONMENT;
use super::secret;
use crate::config::value::Moment;
use crate::config::{file, is_id};
use crate::policy::auth;
use crate::policy::role::Rights;
use crate::policy::tenancy::Kind;
use crate::store::directory::{Change, Fresh};

#[derive(Debug, Serialize, JsonSchema)]
pub struct List {
    pub data: Vec<Token>,
}

/// A token, as far as anybody knows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Token {
    pub id: String,
    /// How it begins.
    pub prefix: String,
    pub role: file::Role,
    /// The only team it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    pub created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// good, expired or revoked.
    pub status: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct New {
    /// Names who has it, in the log of changes. Never used again.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
    pub id: String,
    pub role: file::Role,
    /// The only team that it is for; for viewer and admin.
    pub team: Option<String>,
    pub expires: Option<Moment>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Made {
    pub id: String,
    /// Shown only now.
    pub token: String,
    pub prefix: String,
}

pub fn list(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let now = asked.seconds();
    let data = desk.register().tokens()?.into_iter().map(|token| Token {
        status: match token.expires {
            _ if token.gone => "revoked",
            Some(expires) if now >= expires => "expired",
            _ => "good",
        }
        .to_owned(),
        id: token.id,
        prefix: token.prefix,
        role: token.rights.role.into(),
        team: token.rights.team,
        created_at: stamp(token.created_at),
        expires: token.expires.map(instant),
    });
    Answer::json(200, &List { data: data.collect() })
}

pub fn create(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let new: New = asked.json()?;
    if !is_id(&new.id) || new.id == ENVIRONMENT {
        return Err(Refused::invalid("an id is 1 to 64 letters, digits, dots, hyphens and underscores"));
    }
    let rights = Rights { role: new.role.into(), team: new.team };
    if let Some(team) = &rights.team {
        if !rights.role.suits_a_team() {
            return Err(Refused::invalid("for one team there are only viewers and admins"));
        }
        if !desk.directory.tenants().has(Kind::Team, team) {
            return Err(Refused::invalid(format!("there is no team `{team}`")));
        }
    }
    let expires = new.expires.map(|moment| moment.0);
    if expires.is_some_and(|expires| expires <= asked.seconds()) {
        return Err(Refused::invalid("it would have expired already: write a later moment"));
    }
    let token = secret::token()?;
    let digest = auth::digest(&token).ok_or_else(|| Refused::bug("a token without a digest"))?;
    let fresh = Fresh { digest, prefix: secret::prefix(&token) };
    desk.write(&Change::Mint { id: &new.id, secret: fresh, rights: &rights, expires, first: false }, asked)?;
    Answer::json(201, &Made { prefix: fresh.prefix.to_owned(), id: new.id, token: token.clone() })
}

pub fn revoke(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    desk.write(&Change::Revoke { id: asked.id()? }, asked)?;
    Ok(Answer::raw(204, ""))
}
