//! Usage and cost of everybody, or of one's team: the same folds over the ledger's rows that callers see of themselves.

use std::time::Duration;

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use crate::store::ledger::{self, GroupBy};
use crate::store::usage::{self, Eyes};

/// How long is waited for what was metered a moment ago.
const FRESH: Duration = Duration::from_secs(1);

pub fn show(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let wrong = |mistake: usage::Mistake| Refused::new(400, "bad_request", mistake.to_string());
    let mut query = usage::read(asked.query, &[]).map_err(wrong)?;
    if let Some(team) = &asked.caller.rights.team {
        query = query.within(GroupBy::Team, team);
    }
    if query.group_by.is_empty() {
        query.group_by.push(GroupBy::Model);
    }
    desk.ledger.flush(FRESH);
    match desk.ledger.report(&query) {
        Ok(report) => {
            let currencies = &desk.directory.snapshot().currencies;
            // A team may be a customer's.
            let eyes = if asked.caller.rights.team.is_some() { Eyes::Customer } else { Eyes::Operator };
            Ok(Answer::raw(200, usage::json(&report, &query, currencies, eyes, asked.now.unix_ms)))
        }
        Err(error @ ledger::Error::TooWide) => Err(Refused::new(400, "bad_request", error.to_string())),
        Err(error) => {
            tracing::error!(%error, "the ledger cannot be read");
            Err(Refused { retry_after: Some(1), ..Refused::new(503, "unavailable", "the ledger cannot be read now") })
        }
    }
}
