//! What is stored, held against what the log says of it: a row that was put in, altered or taken away behind the log's
//! back is named.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::super::audit::{Chain, Flaw, fingerprint};
use super::super::{Error, Fresh};
use super::apply::{BALANCE, of_payment, of_token, told};
use super::{positive, token};

/// Notes what is not as the log says; returns the number of the last change that anything knows of.
pub fn stored(conn: &Connection, chain: &mut Chain) -> Result<u64, Error> {
    entities(conn, chain)?;
    secrets(conn, chain)?;
    tokens(conn, chain)?;
    payments(conn, chain)?;
    let last: i64 = conn.query_row(
        "SELECT max(coalesce((SELECT value FROM meta WHERE name = 'last'), 0),
                    coalesce((SELECT max(change) FROM entities), 0),
                    coalesce((SELECT max(change) FROM secrets), 0), coalesce((SELECT max(change) FROM tokens), 0))",
        [],
        |row| row.get(0),
    )?;
    Ok(positive(last))
}

fn entities(conn: &Connection, chain: &mut Chain) -> Result<(), Error> {
    // The log's last word on each, rotations aside, which say nothing of the document.
    let mut select = conn.prepare(
        "SELECT e.kind, e.id FROM entities e
         LEFT JOIN audit a ON a.number = (
             SELECT max(number) FROM audit WHERE kind = e.kind AND id = e.id AND action <> 'rotate')
         WHERE a.number IS NOT e.logged OR (CASE WHEN e.gone THEN a.after IS NOT NULL ELSE a.after IS NOT e.document END)
         UNION
         SELECT a.kind, a.id FROM audit a WHERE a.kind NOT IN ('token', 'balance')
             AND NOT EXISTS (SELECT 1 FROM entities e WHERE e.kind = a.kind AND e.id = a.id)
         ORDER BY 1, 2",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        chain.flaw(Flaw::Stored { kind: row.get(0)?, id: row.get(1)? });
    }
    Ok(())
}

fn secrets(conn: &Connection, chain: &mut Chain) -> Result<(), Error> {
    let mut select = conn.prepare(
        "SELECT s.key, s.digest, s.until, s.gone, s.made, a.detail, coalesce(e.gone, 1) FROM secrets s
         LEFT JOIN audit a ON a.number = s.made AND a.kind = 'key' AND a.id = s.key
         LEFT JOIN entities e ON e.kind = 'key' AND e.id = s.key",
    )?;
    let mut ended = conn.prepare(
        "SELECT min(detail ->> 'until') FROM audit WHERE kind = 'key' AND id = ?1 AND action = 'rotate' AND number > ?2",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let digest: [u8; 32] = row.get(1)?;
        let (gone, key_gone): (bool, bool) = (row.get(3)?, row.get(6)?);
        let detail = row.get::<_, Option<String>>(5)?.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let known =
            detail.as_ref().and_then(|detail| detail.get("fingerprint")?.as_str()) == Some(&*fingerprint(&digest));
        let until: Option<i64> = row.get(2)?;
        let said: Option<i64> = ended.query_row(params![key, row.get::<_, i64>(4)?], |row| row.get(0))?;
        if !known || gone != key_gone || until != said {
            chain.flaw(Flaw::Stored { kind: "secret of the key".to_owned(), id: key });
        }
    }
    // One that the log knows and that is not there locks its caller out.
    let mut select = conn.prepare(
        "SELECT a.id FROM audit a WHERE a.kind = 'key' AND a.detail IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM secrets s WHERE s.made = a.number AND s.key = a.id)",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        chain.flaw(Flaw::Stored { kind: "secret of the key".to_owned(), id: row.get(0)? });
    }
    Ok(())
}

fn tokens(conn: &Connection, chain: &mut Chain) -> Result<(), Error> {
    let mut select = conn.prepare(
        "SELECT t.id, t.prefix, t.role, t.team, t.created_at, t.expires, t.gone, t.digest, a.after, a.detail,
             EXISTS (SELECT 1 FROM audit r WHERE r.kind = 'token' AND r.id = t.id AND r.action = 'revoke')
         FROM tokens t LEFT JOIN audit a ON a.number = t.made AND a.kind = 'token' AND a.id = t.id",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let revoked: bool = row.get(10)?;
        let digest: [u8; 32] = row.get(7)?;
        let (after, detail): (Option<String>, Option<String>) = (row.get(8)?, row.get(9)?);
        let good = token(row, 0)?.is_some_and(|token| {
            after.as_deref() == Some(&*of_token(&token.rights, token.expires))
                && detail.as_deref() == Some(&*told(Fresh { digest, prefix: &token.prefix }))
                && token.gone == revoked
        });
        if !good {
            chain.flaw(Flaw::Stored { kind: "token".to_owned(), id: row.get(0)? });
        }
    }
    let mut select = conn.prepare(
        "SELECT a.id FROM audit a WHERE a.kind = 'token' AND NOT EXISTS (SELECT 1 FROM tokens t WHERE t.id = a.id)",
    )?;
    let missing = select.query_row([], |row| row.get::<_, String>(0)).optional()?;
    if let Some(id) = missing {
        chain.flaw(Flaw::Stored { kind: "token".to_owned(), id });
    }
    Ok(())
}

/// Each payment is an entry of the log, and each such entry a payment.
fn payments(conn: &Connection, chain: &mut Chain) -> Result<(), Error> {
    let mut select = conn.prepare(
        "SELECT p.kind, p.level, p.id, p.amount, p.written, p.note, a.detail,
             a.action IS p.cause AND a.at IS p.at AND a.actor IS p.actor
         FROM payments p LEFT JOIN audit a ON a.number = p.change AND a.kind = ?1 AND a.id = p.kind || ':' || p.level",
    )?;
    let mut rows = select.query([BALANCE])?;
    while let Some(row) = rows.next()? {
        let text = |place| row.get::<_, String>(place);
        let (id, written, note) = (text(2)?, text(4)?, text(5)?);
        let said: Option<String> = row.get(6)?;
        if said != Some(of_payment(&id, row.get(3)?, &written, &note)) || !row.get::<_, bool>(7)? {
            chain.flaw(Flaw::Stored { kind: BALANCE.to_owned(), id: format!("{}:{}", text(0)?, text(1)?) });
        }
    }
    let mut select = conn.prepare(
        "SELECT a.id FROM audit a WHERE a.kind = ?1 AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.change = a.number)",
    )?;
    let mut rows = select.query([BALANCE])?;
    while let Some(row) = rows.next()? {
        chain.flaw(Flaw::Stored { kind: BALANCE.to_owned(), id: row.get(0)? });
    }
    Ok(())
}
