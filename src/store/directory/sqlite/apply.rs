//! One change, made in a transaction that its log entry belongs to.

use std::borrow::Cow;

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::json;

use super::super::audit::fingerprint;
use super::super::{By, Change, Error, Expect, Fresh, Paying};
use super::{natural, positive, whole};
use crate::policy::role::Rights;
use crate::policy::tenancy::Kind;

/// What the log calls the sum of payments.
pub const BALANCE: &str = "balance";
/// Nano-dollars that a balance may have, either way: far from where whole numbers end.
const MOST_BALANCE: u64 = 2_000_000_000_000_000_000;
/// Most secrets that a key has at once.
const SECRETS: i64 = 8;

/// What the log says of a change.
pub struct Said<'c> {
    pub action: &'static str,
    pub kind: &'static str,
    pub id: Cow<'c, str>,
    pub before: Option<String>,
    pub after: Option<String>,
    pub detail: Option<String>,
}

pub fn apply<'c>(tx: &Transaction<'_>, change: &Change<'c>, number: u64, by: &By<'_>) -> Result<Said<'c>, Error> {
    let at = by.at;
    match *change {
        Change::Put { kind, id, document, parent, user, expect, needs, secret } => {
            for (kind, id) in needs {
                if now(tx, *kind, id)?.is_none_or(|found| found.gone) {
                    return Err(Error::Needs(*kind, (*id).to_owned()));
                }
            }
            let found = now(tx, kind, id)?;
            let live = found.as_ref().filter(|found| !found.gone);
            match (expect, live) {
                (Expect::New, Some(_)) => return Err(Error::Exists),
                (Expect::New, None) if found.is_some() && kind == Kind::Key => return Err(Error::Used),
                (Expect::Version(_), None) => return Err(Error::Missing),
                (Expect::Version(version), Some(found)) if found.change != version => {
                    return Err(Error::Changed(found.change));
                }
                _ => {}
            }
            let mut put = tx.prepare_cached(
                "INSERT INTO entities (kind, id, parent, user, document, created_at, changed_at, change, logged)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?7)
                 ON CONFLICT (kind, id) DO UPDATE SET parent = ?3, user = ?4, document = ?5, changed_at = ?6, change = ?7,
                     logged = ?7, created_at = CASE WHEN gone THEN ?6 ELSE created_at END, gone = 0",
            )?;
            put.execute(params![kind.name(), id, parent, user, document, whole(at), whole(number)])?;
            if kind == Kind::Key {
                tx.execute("UPDATE secrets SET change = ?2 WHERE key = ?1 AND NOT gone", params![id, whole(number)])?;
            }
            let detail = secret.map(|secret| {
                add_secret(tx, id, secret, number, at)?;
                Ok::<_, Error>(told(secret))
            });
            Ok(Said {
                action: if live.is_some() { "update" } else { "create" },
                kind: kind.name(),
                id: id.into(),
                before: live.map(|found| found.document.clone()),
                after: Some(document.to_owned()),
                detail: detail.transpose()?,
            })
        }
        Change::Delete { kind, id, version } => {
            let found = at_version(tx, kind, id, version)?;
            in_use(tx, kind, id)?;
            tx.execute(
                "UPDATE entities SET gone = 1, changed_at = ?3, change = ?4, logged = ?4 WHERE kind = ?1 AND id = ?2",
                params![kind.name(), id, whole(at), whole(number)],
            )?;
            if kind == Kind::Key {
                let revoke = "UPDATE secrets SET gone = 1, change = ?2 WHERE key = ?1 AND NOT gone";
                tx.execute(revoke, params![id, whole(number)])?;
            }
            let action = if kind == Kind::Key { "revoke" } else { "delete" };
            Ok(Said {
                action,
                kind: kind.name(),
                id: id.into(),
                before: Some(found.document),
                after: None,
                detail: None,
            })
        }
        Change::Rotate { key, secret, until, version } => {
            at_version(tx, Kind::Key, key, version)?;
            let live: i64 = tx.query_row(
                "SELECT count(*) FROM secrets WHERE key = ?1 AND NOT gone AND (until IS NULL OR until > ?2)",
                params![key, whole(at / 1_000)],
                |row| row.get(0),
            )?;
            if live >= SECRETS {
                return Err(Error::TooManySecrets);
            }
            tx.execute(
                "UPDATE secrets SET until = min(coalesce(until, ?2), ?2), change = ?3 WHERE key = ?1 AND NOT gone",
                params![key, whole(until), whole(number)],
            )?;
            tx.execute(
                "UPDATE entities SET change = ?2, changed_at = ?3 WHERE kind = 'key' AND id = ?1",
                params![key, whole(number), whole(at)],
            )?;
            add_secret(tx, key, secret, number, at)?;
            let (prefix, mark) = (secret.prefix, fingerprint(&secret.digest));
            let detail = json!({"prefix": prefix, "fingerprint": mark, "until": until}).to_string();
            Ok(Said { action: "rotate", kind: "key", id: key.into(), before: None, after: None, detail: Some(detail) })
        }
        Change::Mint { id, secret, rights, expires, first } => {
            let taken = "SELECT count(*) FROM tokens WHERE ?1 OR id = ?2";
            if tx.query_row(taken, params![first, id], |row| row.get::<_, i64>(0))? > 0 {
                return Err(Error::Used);
            }
            free(tx, secret)?;
            tx.execute(
                "INSERT INTO tokens (id, digest, prefix, role, team, created_at, expires, change, made)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
                params![
                    id,
                    secret.digest,
                    secret.prefix,
                    rights.role.name(),
                    rights.team,
                    whole(at),
                    expires.map(whole),
                    whole(number)
                ],
            )?;
            let after = Some(of_token(rights, expires));
            Ok(Said { action: "create", kind: "token", id: id.into(), before: None, after, detail: Some(told(secret)) })
        }
        Change::Revoke { id } => {
            let select = "SELECT role, team, expires FROM tokens WHERE id = ?1 AND NOT gone";
            let found = tx
                .query_row(select, [id], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, natural(row.get(2)?)))
                })
                .optional()?;
            let Some((role, team, expires)) = found else { return Err(Error::Missing) };
            let others = "SELECT count(*) FROM tokens WHERE NOT gone AND role = 'owner' AND id <> ?1
                          AND (expires IS NULL OR expires > ?2)";
            let others: i64 = tx.query_row(others, params![id, whole(at / 1_000)], |row| row.get(0))?;
            if role == "owner" && others == 0 {
                return Err(Error::LastOwner);
            }
            tx.execute("UPDATE tokens SET gone = 1, change = ?2 WHERE id = ?1", params![id, whole(number)])?;
            let before = json!({"role": role, "team": team, "expires": expires}).to_string();
            Ok(Said { action: "revoke", kind: "token", id: id.into(), before: Some(before), after: None, detail: None })
        }
        Change::Pay { kind, level, payment } => {
            let Paying { id, cause, amount, written, note } = payment;
            let made = "SELECT count(*) FROM payments WHERE kind = ?1 AND level = ?2 AND id = ?3";
            if tx.query_row(made, params![kind.name(), level, id], |row| row.get::<_, i64>(0))? > 0 {
                return Err(Error::Paid);
            }
            let sum = "SELECT coalesce(sum(amount), 0) FROM payments WHERE kind = ?1 AND level = ?2";
            let before: i64 = tx.query_row(sum, [kind.name(), level], |row| row.get(0))?;
            let after = before.checked_add(amount).filter(|after| after.unsigned_abs() <= MOST_BALANCE);
            let after = after.ok_or(Error::Balance)?;
            tx.execute(
                "INSERT INTO payments (change, kind, level, id, cause, amount, written, note, at, actor)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    whole(number),
                    kind.name(),
                    level,
                    id,
                    cause.name(),
                    amount,
                    written,
                    note,
                    whole(at),
                    by.actor
                ],
            )?;
            Ok(Said {
                action: cause.name(),
                kind: BALANCE,
                id: format!("{}:{level}", kind.name()).into(),
                before: Some(json!({"paid_in_nano_usd": before}).to_string()),
                after: Some(json!({"paid_in_nano_usd": after}).to_string()),
                detail: Some(of_payment(id, amount, written, note)),
            })
        }
    }
}

/// What the log says of a payment.
pub fn of_payment(id: &str, amount: i64, written: &str, note: &str) -> String {
    json!({"id": id, "nano_usd": amount, "written": written, "note": note}).to_string()
}

/// What the log says that a token is.
pub fn of_token(rights: &Rights, expires: Option<u64>) -> String {
    json!({"role": rights.role.name(), "team": rights.team, "expires": expires}).to_string()
}

/// What the log says of a secret.
pub fn told(secret: Fresh<'_>) -> String {
    json!({"prefix": secret.prefix, "fingerprint": fingerprint(&secret.digest)}).to_string()
}

struct Now {
    document: String,
    change: u64,
    gone: bool,
}

fn now(tx: &Transaction<'_>, kind: Kind, id: &str) -> Result<Option<Now>, Error> {
    let mut select = tx.prepare_cached("SELECT document, change, gone FROM entities WHERE kind = ?1 AND id = ?2")?;
    let found = select.query_row([kind.name(), id], |row| {
        Ok(Now { document: row.get(0)?, change: positive(row.get(1)?), gone: row.get(2)? })
    });
    Ok(found.optional()?)
}

fn at_version(tx: &Transaction<'_>, kind: Kind, id: &str, version: u64) -> Result<Now, Error> {
    match now(tx, kind, id)?.filter(|found| !found.gone) {
        None => Err(Error::Missing),
        Some(found) if found.change != version => Err(Error::Changed(found.change)),
        Some(found) => Ok(found),
    }
}

/// Nothing may belong to what goes.
fn in_use(tx: &Transaction<'_>, kind: Kind, id: &str) -> Result<(), Error> {
    let below: &[(Kind, &str)] = match kind {
        Kind::Organisation => &[(Kind::Team, "parent")],
        Kind::Team => &[(Kind::Project, "parent"), (Kind::User, "parent")],
        Kind::Project => &[(Kind::Key, "parent")],
        Kind::User => &[(Kind::Key, "user")],
        Kind::Key => &[],
    };
    for (below, column) in below {
        let count = format!("SELECT count(*) FROM entities WHERE kind = ?1 AND {column} = ?2 AND NOT gone");
        let count: i64 = tx.query_row(&count, [below.name(), id], |row| row.get(0))?;
        if count > 0 {
            return Err(Error::InUse(*below, positive(count)));
        }
    }
    if kind == Kind::Team {
        // A team that is made again by somebody else must not be theirs.
        let tokens = "SELECT count(*) FROM tokens WHERE team = ?1 AND NOT gone";
        let tokens: i64 = tx.query_row(tokens, [id], |row| row.get(0))?;
        if tokens > 0 {
            return Err(Error::HasTokens(positive(tokens)));
        }
    }
    Ok(())
}

fn add_secret(tx: &Transaction<'_>, key: &str, secret: Fresh<'_>, number: u64, at: u64) -> Result<(), Error> {
    free(tx, secret)?;
    tx.execute(
        "INSERT INTO secrets (digest, key, prefix, created_at, change, made) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        params![secret.digest, key, secret.prefix, whole(at), whole(number)],
    )?;
    Ok(())
}

/// No secret is given out twice, also where the first one is good no more.
fn free(tx: &Transaction<'_>, secret: Fresh<'_>) -> Result<(), Error> {
    let taken =
        "SELECT (SELECT count(*) FROM secrets WHERE digest = ?1) + (SELECT count(*) FROM tokens WHERE digest = ?1)";
    let taken: i64 = tx.query_row(taken, [secret.digest], |row| row.get(0))?;
    if taken > 0 { Err(Error::SecretTaken) } else { Ok(()) }
}
