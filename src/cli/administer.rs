//! `portolan keys|projects|teams|users|organisations|tokens|audit`: what the admin API does, from the command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::api::{Api, Failure, quoted};
use super::load;
use crate::config::hex;
use crate::policy::tenancy::Kind;
use crate::store::directory::{Register, Sqlite};

/// Which gateway.
#[derive(Debug, Args)]
pub struct Where {
    /// The configuration, for the address of the admin port. The token is taken from PORTOLAN_ADMIN_TOKEN.
    #[arg(long, short, default_value = super::CONFIG)]
    pub config: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What can be written of any of them; what is not written stays as it is.
#[derive(Debug, Default, Args)]
pub struct Fields {
    /// Names of models, with * for any text.
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    pub models: Vec<String>,
    /// generate, count_tokens, models, responses, usage.
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    pub functions: Vec<String>,
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    pub regions: Vec<String>,
    /// Addresses and networks that its calls may come from.
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    pub addresses: Vec<String>,
    #[arg(long)]
    pub tier: Option<String>,
    /// A date, or a date with time and zone.
    #[arg(long)]
    pub expires: Option<String>,
    /// true or false.
    #[arg(long)]
    pub disabled: Option<bool>,
    #[arg(long)]
    pub organisation: Option<String>,
    #[arg(long)]
    pub team: Option<String>,
    #[arg(long)]
    pub project: Option<String>,
    #[arg(long)]
    pub user: Option<String>,
    /// NAME=VALUE, as often as wanted.
    #[arg(long = "tag")]
    pub tags: Vec<String>,
    /// Any member, as MEMBER=JSON: weight=3, models=null.
    #[arg(long = "set")]
    pub members: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key for the configuration file: print its secret, once, and its row. Needs no gateway.
    New {
        /// Names the key in logs, metrics and usage.
        #[arg(long, default_value = "new")]
        id: String,
        /// Names it may use, with * for any text.
        #[arg(long, num_args = 1.., value_delimiter = ',', default_value = "*")]
        models: Vec<String>,
    },
    /// Make a key in a running gateway; its secret is shown only now.
    Create {
        id: Option<String>,
        #[command(flatten)]
        fields: Box<Fields>,
        #[command(flatten)]
        at: Where,
    },
    /// Give a key another secret, shown only now.
    Rotate {
        id: String,
        /// How long the former one stays good: 30m, 24h; 0s ends it at once. Default: 24h.
        #[arg(long)]
        overlap: Option<String>,
        #[command(flatten)]
        at: Where,
    },
    /// Revoke a key, for good.
    Revoke {
        id: String,
        #[command(flatten)]
        at: Where,
    },
    #[command(flatten)]
    Any(Any),
}

#[derive(Debug, Subcommand)]
pub enum Levels {
    /// Make one in a running gateway.
    Create {
        id: String,
        #[command(flatten)]
        fields: Box<Fields>,
        #[command(flatten)]
        at: Where,
    },
    /// Delete one, to which nothing belongs any more.
    Delete {
        id: String,
        #[command(flatten)]
        at: Where,
    },
    #[command(flatten)]
    Any(Any),
}

#[derive(Debug, Subcommand)]
pub enum Any {
    /// All of them, of the file and made in the gateway.
    List {
        /// Only those of this team.
        #[arg(long)]
        team: Option<String>,
        #[command(flatten)]
        at: Where,
    },
    /// One, with all that is known of it.
    Show {
        id: String,
        #[command(flatten)]
        at: Where,
    },
    /// Change some of it.
    Update {
        id: String,
        #[command(flatten)]
        fields: Box<Fields>,
        #[command(flatten)]
        at: Where,
    },
}

#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Administrators' tokens.
    List {
        #[command(flatten)]
        at: Where,
    },
    /// Make a token; it is shown only now.
    Create {
        id: String,
        /// viewer, billing, admin or owner.
        #[arg(long)]
        role: String,
        /// The only team it is for: of viewers and admins.
        #[arg(long)]
        team: Option<String>,
        #[arg(long)]
        expires: Option<String>,
        #[command(flatten)]
        at: Where,
    },
    /// End a token.
    Revoke {
        id: String,
        #[command(flatten)]
        at: Where,
    },
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The last changes, newest first.
    List {
        #[arg(long, default_value_t = 20)]
        limit: u16,
        #[command(flatten)]
        at: Where,
    },
    /// Recompute the log of changes in the state directory, and hold what is stored against it. Needs no gateway.
    Verify {
        /// A head that an earlier check told, NUMBER:HASH: it must still be there.
        #[arg(long)]
        head: Option<String>,
        #[command(flatten)]
        at: Where,
    },
}

/// What a command writes to.
pub struct Screen<'s> {
    pub out: &'s mut dyn Write,
    pub err: &'s mut dyn Write,
    /// The administrator's token.
    pub token: String,
}

pub fn keys(command: &Keys, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    match command {
        Keys::New { id, models } => {
            let mut random =
                |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()));
            super::keys::new(id, models, &mut random, screen.out, screen.err)
        }
        Keys::Create { id, fields, at } => {
            let Some(mut body) = written(fields, screen)? else { return Ok(ExitCode::from(2)) };
            body.extend(id.iter().map(|id| ("id".to_owned(), Value::from(id.as_str()))));
            tell(at, screen, "POST", "/admin/v1/keys", Some(&body.into()), secret)
        }
        Keys::Rotate { id, overlap, at } => {
            let mut body = Map::new();
            body.extend(overlap.iter().map(|overlap| ("overlap".to_owned(), Value::from(overlap.as_str()))));
            let path = format!("{}/rotate", one(Kind::Key, id));
            tell(at, screen, "POST", &path, Some(&body.into()), secret)
        }
        Keys::Revoke { id, at } => tell(at, screen, "DELETE", &one(Kind::Key, id), None, done),
        Keys::Any(any) => common(Kind::Key, any, screen),
    }
}

pub fn levels(kind: Kind, command: &Levels, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    match command {
        Levels::Create { id, fields, at } => {
            let Some(body) = written(fields, screen)? else { return Ok(ExitCode::from(2)) };
            tell(at, screen, "PUT", &one(kind, id), Some(&body.into()), entity)
        }
        Levels::Delete { id, at } => tell(at, screen, "DELETE", &one(kind, id), None, done),
        Levels::Any(any) => common(kind, any, screen),
    }
}

fn common(kind: Kind, command: &Any, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    match command {
        Any::List { team, at } => {
            let team = team.as_ref().map(|team| format!("&team={}", quoted(team))).unwrap_or_default();
            list(at, screen, &format!("/admin/v1/{}s?limit=500{team}", kind.name()))
        }
        Any::Show { id, at } => tell(at, screen, "GET", &one(kind, id), None, entity),
        Any::Update { id, fields, at } => {
            let Some(body) = written(fields, screen)? else { return Ok(ExitCode::from(2)) };
            tell(at, screen, "PATCH", &one(kind, id), Some(&body.into()), entity)
        }
    }
}

pub fn tokens(command: &Tokens, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    match command {
        Tokens::List { at } => tell(at, screen, "GET", "/admin/v1/tokens", None, |value, out| {
            rows(value, &["id", "role", "team", "status", "prefix", "created_at", "expires"], out)
        }),
        Tokens::Create { id, role, team, expires, at } => {
            let given =
                [("id", Some(id)), ("role", Some(role)), ("team", team.as_ref()), ("expires", expires.as_ref())];
            let members = given.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.as_str().into())));
            let body: Map<String, Value> = members.collect();
            tell(at, screen, "POST", "/admin/v1/tokens", Some(&body.into()), |value, out| {
                writeln!(out, "{}", text(value, "token"))
            })
        }
        Tokens::Revoke { id, at } => {
            tell(at, screen, "DELETE", &format!("/admin/v1/tokens/{}", quoted(id)), None, done)
        }
    }
}

pub fn audit(command: &Audit, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    match command {
        Audit::List { limit, at } => {
            tell(at, screen, "GET", &format!("/admin/v1/audit?limit={limit}"), None, |value, out| {
                rows(value, &["number", "at", "actor", "action", "kind", "id"], out)
            })
        }
        Audit::Verify { head, at } => verify(&at.config, head.as_deref(), at.json, screen),
    }
}

/// Reads the state directory itself: a check need not trust the process that it checks.
fn verify(config: &Path, head: Option<&str>, json: bool, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(config, screen.err)? else { return Ok(ExitCode::FAILURE) };
    let dir = snapshot.state_dir.display();
    let checked = Sqlite::read_only(&snapshot.state_dir).and_then(|register| {
        let Some(register) = register else { return Ok(None) };
        let kept = head.and_then(|head| head.split_once(':')).and_then(|(number, _)| number.parse::<u64>().ok());
        let entry = match kept {
            Some(number) => {
                register.audit(number.saturating_add(1), 1)?.into_iter().find(|entry| entry.number == number)
            }
            None => None,
        };
        Ok(Some((register.verify()?, entry)))
    });
    let (verdict, entry) = match checked {
        Ok(Some(checked)) => checked,
        Ok(None) => {
            writeln!(screen.err, "portolan: there is no register of keys in {dir}")?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => {
            writeln!(screen.err, "portolan: the register of keys in {dir} cannot be read: {error}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut flaws: Vec<String> = verdict.flaws.iter().map(ToString::to_string).collect();
    let found = entry.map(|entry| format!("{}:{}", entry.number, hex(&entry.hash)));
    if let Some(head) = head.filter(|head| found.as_deref() != Some(*head)) {
        flaws.push(format!("the log does not have {head} any more: its end was cut off, or all of it made anew"));
    }
    let now = format!("{}:{}", verdict.head.0, hex(&verdict.head.1));
    if json {
        let told = serde_json::json!({"entries": verdict.entries, "head": now, "flaws": flaws});
        writeln!(screen.out, "{told}")?;
    } else {
        for flaw in &flaws {
            writeln!(screen.out, "{flaw}")?;
        }
        writeln!(screen.out, "audit: {} entries, {} flaws, head {now}", verdict.entries, flaws.len())?;
    }
    Ok(if flaws.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The path of an entity.
pub fn one(kind: Kind, id: &str) -> String {
    format!("/admin/v1/{}s/{}", kind.name(), quoted(id))
}

/// What was written on the command line, as the members of a document. `None`: it is not well written, which was told.
fn written(fields: &Fields, screen: &mut Screen<'_>) -> io::Result<Option<Map<String, Value>>> {
    let mut body = Map::new();
    let lists = [
        ("models", &fields.models),
        ("functions", &fields.functions),
        ("regions", &fields.regions),
        ("addresses", &fields.addresses),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        body.insert(name.to_owned(), list.clone().into());
    }
    let texts = [
        ("tier", &fields.tier),
        ("expires", &fields.expires),
        ("organisation", &fields.organisation),
        ("team", &fields.team),
        ("project", &fields.project),
        ("user", &fields.user),
    ];
    for (name, text) in texts {
        body.extend(text.iter().map(|text| (name.to_owned(), Value::from(text.as_str()))));
    }
    body.extend(fields.disabled.map(|disabled| ("disabled".to_owned(), Value::from(disabled))));
    let mut tags = Map::new();
    for pair in &fields.tags {
        let Some((name, value)) = pair.split_once('=') else {
            writeln!(screen.err, "portolan: `--tag {pair}`: write NAME=VALUE")?;
            return Ok(None);
        };
        tags.insert(name.to_owned(), value.into());
    }
    if !tags.is_empty() {
        body.insert("tags".to_owned(), tags.into());
    }
    for pair in &fields.members {
        let value = pair.split_once('=').map(|(name, text)| (name, serde_json::from_str::<Value>(text)));
        match value {
            Some((name, Ok(value))) => drop(body.insert(name.to_owned(), value)),
            _ => {
                writeln!(screen.err, "portolan: `--set {pair}`: write MEMBER=JSON, such as weight=3 or home='\"eu\"'")?;
                return Ok(None);
            }
        }
    }
    Ok(Some(body))
}

pub type Show = fn(&Value, &mut dyn Write) -> io::Result<()>;

/// Asks, and tells what came of it.
///
/// # Errors
/// It cannot be told.
pub fn tell(
    at: &Where,
    screen: &mut Screen<'_>,
    method: &str,
    path: &str,
    body: Option<&Value>,
    show: Show,
) -> io::Result<ExitCode> {
    let Some(api) = api(at, screen)? else { return Ok(ExitCode::FAILURE) };
    match api.ask(method, path, body) {
        Ok(value) if at.json => writeln!(screen.out, "{value}")?,
        Ok(value) => show(&value, screen.out)?,
        Err(failure) => return failed(&failure, screen),
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages.
fn list(at: &Where, screen: &mut Screen<'_>, path: &str) -> io::Result<ExitCode> {
    let Some(api) = api(at, screen)? else { return Ok(ExitCode::FAILURE) };
    let mut all = Vec::new();
    let mut next = String::new();
    loop {
        let page = match api.ask("GET", &format!("{path}{next}"), None) {
            Ok(page) => page,
            Err(failure) => return failed(&failure, screen),
        };
        all.extend(page.get("data").and_then(Value::as_array).into_iter().flatten().cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(after) => next = format!("&after={}", quoted(after)),
            None => break,
        }
    }
    let all = serde_json::json!({ "data": all });
    if at.json {
        writeln!(screen.out, "{all}")?;
    } else {
        rows(&all, &["id", "source", "status", "organisation", "team", "created_at"], screen.out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn api(at: &Where, screen: &mut Screen<'_>) -> io::Result<Option<Api>> {
    let snapshot = load::or_tell(&at.config, screen.err)?;
    Ok(snapshot.map(|snapshot| Api { address: snapshot.admin, token: screen.token.clone() }))
}

fn failed(failure: &Failure, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    writeln!(screen.err, "portolan: {failure}")?;
    Ok(ExitCode::FAILURE)
}

fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The secret alone on a line, for scripts; what else there is to say stands above it.
fn secret(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    let key = value.get("key").unwrap_or(&Value::Null);
    writeln!(out, "key {} (its secret is shown only now)", text(key, "id"))?;
    writeln!(out, "{}", text(value, "secret"))
}

fn done(_: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "done")
}

fn entity(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    for name in ["id", "source", "status", "stopped_by", "organisation", "team", "created_at", "changed_at", "version"]
    {
        if value.get(name).is_some() {
            writeln!(out, "{name:<14}{}", text(value, name))?;
        }
    }
    for secret in value.get("secrets").and_then(Value::as_array).into_iter().flatten() {
        let (prefix, status, until) = (text(secret, "prefix"), text(secret, "status"), text(secret, "until"));
        writeln!(out, "{:<14}{prefix}... {status} until {until}", "secret")?;
    }
    for (name, value) in value.get("document").and_then(Value::as_object).into_iter().flatten() {
        writeln!(out, "  {name:<14}{value}")?;
    }
    Ok(())
}

fn rows(value: &Value, columns: &[&str], out: &mut dyn Write) -> io::Result<()> {
    rows_of(value, "data", columns, out)
}

/// A table of a member.
///
/// # Errors
/// It cannot be written.
pub fn rows_of(value: &Value, member: &str, columns: &[&str], out: &mut dyn Write) -> io::Result<()> {
    let all: Vec<Vec<String>> = value
        .get(member)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|row| columns.iter().map(|column| text(row, column)).collect())
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([name.len()]).max().unwrap_or(0)
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())
    };
    line(&mut columns.iter().copied())?;
    all.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_becomes_members() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, token: String::new() };
        let fields = Fields {
            models: vec!["gpt-*".into()],
            team: Some("t".into()),
            disabled: Some(false),
            tags: vec!["a=b=c".into()],
            members: vec!["weight=3".into(), "tier=null".into()],
            ..Fields::default()
        };
        let body = written(&fields, &mut screen).unwrap().unwrap();
        let whole = json!({"models": ["gpt-*"], "team": "t", "disabled": false, "tags": {"a": "b=c"}, "weight": 3, "tier": null});
        assert_eq!(Value::from(body), whole);
        for fields in [
            Fields { tags: vec!["x".into()], ..Fields::default() },
            Fields { members: vec!["weight=x".into()], ..Fields::default() },
        ] {
            assert!(written(&fields, &mut screen).unwrap().is_none());
        }
        assert!(String::from_utf8(err).unwrap().contains("write MEMBER=JSON"));
    }

    #[test]
    fn lists_read_as_tables() {
        let mut out = Vec::new();
        rows(&json!({"data": [{"id": "a-long-one", "n": 3}, {"id": "b"}]}), &["id", "n"], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "id          n\na-long-one  3\nb           -\n");
    }
}
