//! Floor 7: the life of one call, as values and decisions, without I/O.
//!
//! In order: [`paths::find`] says what is asked for; [`admit`] who asks; [`Call::read`] what is wanted;
//! [`decide`] what the operator's rules choose; [`Plan::make`] whereto; then, until one works, [`Plan::next`] and [`Attempt::prepare`]; the answer goes through a
//! [`Relay`] chunk by chunk; [`Attempt::settlement`] tells what it cost. Each step takes the value of the one before,
//! so a wrong order does not compile. Bytes, time and randomness come as arguments: a whole call runs in a test.

mod affinity;
pub mod allotment;
pub mod allowance;
pub mod attempt;
pub mod call;
pub mod compare;
pub mod conversation;
mod decide;
pub mod estimate;
pub mod explain;
mod facts;
pub mod framing;
pub mod held;
pub mod identity;
pub mod models;
mod needs;
pub mod paths;
mod plan;
mod prompt;
pub mod record;
mod refusal;
pub mod relay;
pub mod resume;
pub mod worst;

use std::net::IpAddr;
use std::sync::Arc;

pub use allotment::Allotment;
pub use attempt::{Aside, Attempt, Making, Unfit};
pub use call::{Call, Controls, Earlier, Said};
pub use decide::{Circumstances, Decision, Verdict, decide, degrade};
pub use held::Held;
pub use plan::{Candidate, Plan, Step, Why, attribute};
pub use refusal::{Refusal, Tried};
pub use relay::{Form, Relay, Sent, Terms};
pub use resume::Resume;

use crate::config::Snapshot;
use crate::config::directory::Directory;
use crate::config::snapshot::Key;
use crate::policy::auth;
use crate::policy::tenancy::{Function, Kind, Level, Standing};

/// Who asks: finds the caller's key by the credential its SDK sent, among those of the file, then among those that are stored.
///
/// # Errors
/// There is none, or it is not a key that may be used now (`now`: Unix seconds).
pub fn admit(
    snapshot: &Snapshot,
    directory: &Directory,
    credential: Option<&str>,
    now: u64,
) -> Result<Arc<Key>, Refusal> {
    let key = match credential.filter(|secret| !secret.is_empty()) {
        Some(secret) => {
            let digest = auth::digest(secret).ok_or(Refusal::BadKey)?;
            let any_loose = !snapshot.index.loose.is_empty();
            let held = |key: &Arc<Key>| if any_loose { directory.held(&digest, key) } else { key.clone() };
            let of_file = snapshot.key_of(&digest).map(held);
            of_file.or_else(|| directory.key(&digest)).ok_or(Refusal::BadKey)?
        }
        None => snapshot.anonymous.clone().ok_or(Refusal::NoKey)?,
    };
    stands(&key, now)?;
    Ok(key)
}

/// Whether a key, and those it belongs to, may be used now (Unix seconds).
///
/// # Errors
/// One of them may not.
pub fn stands(key: &Key, now: u64) -> Result<(), Refusal> {
    match key.standing(now) {
        Ok(()) => Ok(()),
        Err((Level { kind: Kind::Key, .. }, Standing::Expired)) => Err(Refusal::KeyExpired),
        Err((Level { kind: Kind::Key, .. }, _)) => Err(Refusal::KeyDisabled),
        Err((level, standing)) => Err(Refusal::TenantBarred {
            kind: level.kind,
            id: level.id.clone(),
            expired: standing == Standing::Expired,
        }),
    }
}

/// Whether a key may do this, from there.
///
/// # Errors
/// One of its levels forbids the function, or the address.
pub fn permit(key: &Key, function: Option<Function>, from: Option<IpAddr>) -> Result<(), Refusal> {
    if !key.guarded {
        return Ok(());
    }
    for level in &key.levels {
        if let Some(function) = function.filter(|function| !level.functions.has(*function)) {
            return Err(Refusal::FunctionForbidden { kind: level.kind, function });
        }
        if !level.admits(from) {
            return Err(Refusal::AddressForbidden { kind: level.kind });
        }
    }
    Ok(())
}

/// The credential among the places an SDK may put it, in one order of precedence: `authorization: Bearer`, `x-api-key`,
/// `x-goog-api-key`, `api-key`, and `key` of the query.
pub fn credential<'h>(header: &dyn Fn(&str) -> Option<&'h str>, query: Option<&'h str>) -> Option<&'h str> {
    let bearer = header("authorization").and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    bearer
        .or_else(|| ["x-api-key", "x-goog-api-key", "api-key"].into_iter().find_map(header).map(str::trim))
        .or_else(|| query?.split('&').find_map(|pair| pair.strip_prefix("key=")))
}
