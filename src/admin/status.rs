//! How the gateway is, and who asks.

use schemars::JsonSchema;
use serde::Serialize;

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};

/// Content type of the text format, version 0.0.4 (Prometheus, "Exposition formats", seen 2026-11-21).
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn live(_: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    Ok(Answer::raw(200, r#"{"status":"ok"}"#))
}

pub fn ready(desk: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    Ok(match desk.view.ready() {
        Ok(()) => Answer::raw(200, r#"{"status":"ok"}"#),
        Err(why) => Answer::raw(503, format!(r#"{{"status":"{why}"}}"#)),
    })
}

pub fn metrics(desk: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    Ok(Answer { content_type: METRICS, ..Answer::raw(200, desk.view.metrics()) })
}

pub fn targets(desk: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    Ok(Answer::raw(200, desk.view.targets()))
}

pub fn request(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    const UNKNOWN: &str = "no such request is kept; admin: { explain: {} } keeps the last ones";
    match desk.view.request(asked.id()?) {
        Some(told) => Ok(Answer::raw(200, told)),
        None => Err(Refused::new(404, "not_found", UNKNOWN)),
    }
}

/// Who asks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Myself {
    /// Of the token, or `jwt:ISSUER:SUBJECT`.
    pub id: String,
    pub role: String,
    /// The only team it is for; without one it is for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

pub fn myself(_: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let caller = asked.caller;
    let (role, team) = (caller.rights.role.name().to_owned(), caller.rights.team.clone());
    Answer::json(200, &Myself { id: caller.id.clone(), role, team })
}

/// What callers may name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Models {
    pub data: Vec<Model>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Model {
    pub id: String,
    /// `provider/model` of each; none where rules lead on to other models.
    pub targets: Vec<String>,
    pub fallback: Vec<String>,
}

pub fn models(desk: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    let snapshot = desk.directory.snapshot();
    let all = snapshot.index.names.iter().filter_map(|name| snapshot.models.get(name));
    let data = all.map(|model| Model {
        id: model.name.clone(),
        targets: model.targets.iter().map(|target| target.target.id.clone()).collect(),
        fallback: model.fallback.clone(),
    });
    Answer::json(200, &Models { data: data.collect() })
}
