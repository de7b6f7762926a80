//! `portolan balance` and `portolan statement`: what customers paid in, and what they were charged for.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use super::administer::{self, Screen, Where};
use super::load;
use crate::config::Snapshot;
use crate::config::document::Document;
use crate::policy::tenancy::Kind;
use crate::store::directory::{self, Payment, Register, Sqlite};
use crate::store::ledger::{Error, Ledger};
use crate::store::statement::{self, Heading};

/// Whose.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("level").required(true).args(["project", "team", "organisation", "user", "key"])))]
pub struct Whose {
    #[arg(long)]
    project: Option<String>,
    #[arg(long)]
    team: Option<String>,
    #[arg(long)]
    organisation: Option<String>,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    key: Option<String>,
}

impl Whose {
    fn level(&self) -> Option<(Kind, &str)> {
        let all = [
            (Kind::Project, &self.project),
            (Kind::Team, &self.team),
            (Kind::Organisation, &self.organisation),
            (Kind::User, &self.user),
            (Kind::Key, &self.key),
        ];
        all.into_iter().find_map(|(kind, id)| Some((kind, id.as_deref()?)))
    }
}

#[derive(Debug, Subcommand)]
pub enum Balance {
    /// What was paid in, and what is left.
    Show {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        at: Where,
    },
    /// Pay in: calls can be made from it at once.
    TopUp {
        #[command(flatten)]
        payment: Paid,
    },
    /// Put right what was paid in; an amount below nothing takes away.
    Correct {
        #[command(flatten)]
        payment: Paid,
    },
}

/// A payment.
#[derive(Debug, Args)]
pub struct Paid {
    /// How much: 50, 12.50.
    #[arg(allow_hyphen_values = true)]
    amount: String,
    #[command(flatten)]
    whose: Whose,
    /// Names the payment, such as by its invoice: the same one pays once, however often it is sent.
    #[arg(long)]
    id: String,
    /// usd, or a code of `currencies`. Default: usd.
    #[arg(long)]
    currency: Option<String>,
    /// A line that stands on statements.
    #[arg(long)]
    note: Option<String>,
    #[command(flatten)]
    at: Where,
}

pub fn balance(command: &Balance, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    match command {
        Balance::Show { whose, at } => administer::tell(at, screen, "GET", &path(whose), None, |value, out| {
            let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
            for name in ["paid_in_usd", "charged_usd", "balance_usd"] {
                writeln!(out, "{name:<14}{}", text(name))?;
            }
            administer::rows_of(value, "payments", &["at", "cause", "amount_usd", "id", "note", "actor"], out)
        }),
        Balance::TopUp { payment } => pay("top_up", payment, screen),
        Balance::Correct { payment } => pay("correction", payment, screen),
    }
}

fn pay(cause: &str, paid: &Paid, screen: &mut Screen<'_>) -> io::Result<ExitCode> {
    let mut body = Map::new();
    for (name, text) in [
        ("id", Some(&paid.id)),
        ("amount", Some(&paid.amount)),
        ("currency", paid.currency.as_ref()),
        ("note", paid.note.as_ref()),
    ] {
        body.extend(text.map(|text| (name.to_owned(), Value::from(text.as_str()))));
    }
    body.insert("cause".to_owned(), cause.into());
    administer::tell(&paid.at, screen, "POST", &path(&paid.whose), Some(&body.into()), |value, out| {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        writeln!(out, "{} {} USD ({}), {}", text("cause"), text("amount_usd"), text("written"), text("at"))
    })
}

fn path(whose: &Whose) -> String {
    // The command line has exactly one of them.
    let (kind, id) = whose.level().unwrap_or((Kind::Project, ""));
    format!("{}/balance", administer::one(kind, id))
}

/// What was asked for.
#[derive(Debug, Args)]
pub struct Asked {
    #[command(flatten)]
    whose: Whose,
    /// Such as 2026-11. Default: this one.
    #[arg(long)]
    month: Option<String>,
    /// Instead of a month: from this moment on, RFC 3339, a date, or Unix milliseconds.
    #[arg(long)]
    from: Option<String>,
    /// Up to this moment.
    #[arg(long)]
    to: Option<String>,
    /// Whose days they are. Default: UTC.
    #[arg(long)]
    time_zone: Option<String>,
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The configuration, for the state directory.
    #[arg(long, short, default_value = super::CONFIG)]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// RFC 4180.
    Csv,
    /// A page to be printed.
    Html,
    Json,
}

/// Draws a statement from the state directory, beside a process that may be serving.
///
/// # Errors
/// The output cannot be written.
pub fn statement(asked: &Asked, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(&asked.config, err)? else { return Ok(ExitCode::FAILURE) };
    let level = asked.whose.level().unwrap_or((Kind::Project, ""));
    let now = super::now();
    let (from, to) = (asked.from.as_deref(), asked.to.as_deref());
    let read = statement::Asked::read(level, asked.month.as_deref(), (from, to), asked.time_zone.as_deref(), now);
    let of = match read {
        Ok(of) => of,
        Err(mistake) => {
            writeln!(err, "portolan: {}", mistake.0)?;
            return Ok(ExitCode::from(2));
        }
    };
    let drawn = stored(&snapshot, level).and_then(|(payments, customer)| {
        let heading = Heading::new(&snapshot.statements, customer);
        let ledger = Ledger::read_only(&snapshot.state_dir)?;
        Ok(statement::draw(&ledger, payments, of, heading, now)?)
    });
    let drawn = match drawn {
        Ok(drawn) => drawn,
        Err(error) => return unreadable(&snapshot.state_dir, &error, err),
    };
    let mut out = BufWriter::with_capacity(1 << 16, out);
    match asked.format {
        Format::Csv => drawn.csv(&mut out)?,
        Format::Html => drawn.html(&mut out)?,
        Format::Json => {
            out.write_all(&drawn.json())?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What was paid in for a level, and whom its statements are for.
fn stored(snapshot: &Snapshot, (kind, id): (Kind, &str)) -> Result<(Vec<Payment>, Vec<String>), directory::Error> {
    let bill_to = |document: &Document| statement::customer(document.rules().metadata.get("bill_to"));
    let in_file = Document::one_of_file(snapshot, kind, id);
    let Some(register) = Sqlite::read_only(&snapshot.state_dir)? else {
        return Ok((Vec::new(), in_file.as_ref().map(bill_to).unwrap_or_default()));
    };
    let document = match in_file {
        Some(document) => Some(document),
        None => register.one(kind, id)?.and_then(|stored| Document::parse(kind, &stored.document).ok()),
    };
    Ok((register.payments(kind, id)?, document.as_ref().map(bill_to).unwrap_or_default()))
}

fn unreadable(state_dir: &Path, error: &directory::Error, err: &mut dyn Write) -> io::Result<ExitCode> {
    let what = match error {
        directory::Error::Store(Error::Miscounted) => "what is there does not add up".to_owned(),
        other => other.to_string(),
    };
    writeln!(err, "portolan: no statement can be drawn from {}: {what}", state_dir.display())?;
    Ok(ExitCode::FAILURE)
}
