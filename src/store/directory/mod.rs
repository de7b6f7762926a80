//! The register: organisations, teams, projects, users, keys and administrators' tokens as they are stored, with the log
//! of every change.
//!
//! Documents are the JSON of the very types that the configuration file has (`config::file`). A change and the entry
//! that tells of it are one transaction, so there is neither without the other, wherever a crash falls. The entry's
//! number is the change's number: who has seen the register up to a number asks for what came after it, which is how every
//! process on a state directory keeps up ([`Follower`]). No call of a caller waits for the register: it is read into
//! memory ([`crate::config::directory`]), and what is there serves when the register is gone.

mod audit;
mod follow;
mod sqlite;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::policy::budget::Balance;
use crate::policy::role::Rights;
use crate::policy::tenancy::Kind;
use crate::store::books;

pub use audit::{Entry, Flaw, Verdict};
pub use follow::Follower;
pub use sqlite::Sqlite;

/// What is stored, and who changed it. SQLite today ([`Sqlite`]); whatever else orders its changes can stand here.
///
/// Everything blocks.
pub trait Register: Send + Sync {
    /// Where the register stands: another `epoch` is another register, and nothing seen before holds.
    ///
    /// # Errors
    /// It cannot be read.
    fn head(&self) -> Result<Head, Error>;

    /// What came after a change, in no order, and the number of the last. From 0 on: all there is. `now` is Unix seconds.
    ///
    /// # Errors
    /// It cannot be read.
    fn since(&self, number: u64, now: u64, each: &mut dyn FnMut(Changed<'_>)) -> Result<Head, Error>;

    /// One entity; a revoked key too.
    ///
    /// # Errors
    /// It cannot be read.
    fn one(&self, kind: Kind, id: &str) -> Result<Option<Stored>, Error>;

    /// Entities in the order of their ids.
    ///
    /// # Errors
    /// It cannot be read.
    fn list(&self, query: &Query<'_>) -> Result<Vec<Stored>, Error>;

    /// The secrets of a key that are good now or will not be any more; newest first.
    ///
    /// # Errors
    /// It cannot be read.
    fn secrets(&self, key: &str) -> Result<Vec<Secret>, Error>;

    /// Administrators' tokens in the order of their ids.
    ///
    /// # Errors
    /// It cannot be read.
    fn tokens(&self) -> Result<Vec<Token>, Error>;

    /// What was paid in for a level, in the order in which it was; and what was corrected.
    ///
    /// # Errors
    /// It cannot be read.
    fn payments(&self, kind: Kind, id: &str) -> Result<Vec<Payment>, Error>;

    /// Makes a change and its entry in the log, both or neither; returns the number.
    ///
    /// # Errors
    /// It does not go with what is stored, or nothing can be written now.
    fn write(&self, change: &Change<'_>, by: &By<'_>) -> Result<u64, Error>;

    /// Entries of the log below a number (0: the newest), newest first.
    ///
    /// # Errors
    /// It cannot be read.
    fn audit(&self, below: u64, limit: usize) -> Result<Vec<Entry>, Error>;

    /// Recomputes the log and holds what is stored against it.
    ///
    /// # Errors
    /// It cannot be read.
    fn verify(&self) -> Result<Verdict, Error>;
}

/// Where a register stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub epoch: u64,
    /// Of the last change; 0: there was none.
    pub number: u64,
}

/// One thing as it is now.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed<'c> {
    /// `None`: it is gone.
    Level { kind: Kind, id: &'c str, document: Option<&'c str> },
    /// A key's secret with the key's document; `None`: it is good no more.
    Secret { digest: [u8; 32], until: Option<u64>, document: Option<&'c str> },
    /// All that was paid in for a level.
    Paid { kind: Kind, id: &'c str, balance: Balance },
    /// An administrator's; `None`: it is good no more.
    Token { digest: [u8; 32], token: Option<Token> },
}

/// An entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub kind: Kind,
    pub id: String,
    /// JSON of the type of the configuration file.
    pub document: String,
    /// Number of the change that made it so: what `ETag` says.
    pub version: u64,
    /// Unix milliseconds.
    pub created_at: u64,
    pub changed_at: u64,
    /// A key that was revoked: it stays to be seen, and its id and secrets are never given out again.
    pub gone: bool,
}

/// A secret of a key, as far as anybody knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// How it begins.
    pub prefix: String,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix seconds from which it is good no more.
    pub until: Option<u64>,
    pub gone: bool,
}

/// An administrator's token, as far as anybody knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub prefix: String,
    pub rights: Rights,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix seconds.
    pub expires: Option<u64>,
    pub gone: bool,
}

/// Something that was paid in for a level, or that puts such a thing right. It is never altered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Of the change.
    pub number: u64,
    /// Named by who made it: the same one is made once, however often it is asked for.
    pub id: String,
    pub cause: Cause,
    /// Nano-dollars; less than nothing takes away.
    pub amount: i64,
    /// As it was written: `50 EUR`.
    pub written: String,
    pub note: String,
    /// Unix milliseconds.
    pub at: u64,
    /// Id of the token of who made it.
    pub actor: String,
}

/// Why a balance changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    TopUp,
    Correction,
}

impl Cause {
    pub const ALL: [Cause; 2] = [Cause::TopUp, Cause::Correction];

    pub fn name(self) -> &'static str {
        match self {
            Cause::TopUp => "top_up",
            Cause::Correction => "correction",
        }
    }
}

/// Which entities.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    pub kind: Kind,
    /// Those after this id.
    pub after: &'q str,
    pub limit: usize,
    /// Only those that belong to one of these of the next level: of a team projects and users, of a project keys.
    pub parents: Option<&'q [String]>,
    /// Keys: those too that belong to one of these users and to no project.
    pub users: Option<&'q [String]>,
    /// Keys: only those of this user.
    pub user: Option<&'q str>,
    /// Keys: only those one of whose secrets begins so, as [`Secret::prefix`] has it.
    pub prefix: Option<&'q str>,
    /// Revoked keys too.
    pub gone: bool,
}

impl<'q> Query<'q> {
    /// All of a kind from the first on.
    pub fn all(kind: Kind, limit: usize) -> Query<'q> {
        Query { kind, after: "", limit, parents: None, users: None, user: None, prefix: None, gone: false }
    }
}

/// Who makes a change, and when.
#[derive(Clone, Copy, Debug)]
pub struct By<'b> {
    /// Id of the token.
    pub actor: &'b str,
    /// Id of the request that asked for it.
    pub request: &'b str,
    /// Unix milliseconds.
    pub at: u64,
}

/// What an entity must be for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Not there.
    New,
    /// At this version.
    Version(u64),
}

/// The secret of a key or a token, as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'f> {
    pub digest: [u8; 32],
    pub prefix: &'f str,
}

/// A change.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// Writes an entity, new or as it is to be.
    Put {
        kind: Kind,
        id: &'c str,
        document: &'c str,
        /// What it belongs to: organisation, team or project.
        parent: Option<&'c str>,
        /// Of a key.
        user: Option<&'c str>,
        expect: Expect,
        /// Entities that must be stored (what is in the file needs no looking up).
        needs: &'c [(Kind, &'c str)],
        /// Of a new key.
        secret: Option<Fresh<'c>>,
    },
    /// Removes an entity to which nothing belongs any more; a key is revoked.
    Delete { kind: Kind, id: &'c str, version: u64 },
    /// Gives a key another secret; the ones it has end then (Unix seconds), or sooner where they do already.
    Rotate { key: &'c str, secret: Fresh<'c>, until: u64, version: u64 },
    /// Makes a token. `first`: only if there never was one.
    Mint { id: &'c str, secret: Fresh<'c>, rights: &'c Rights, expires: Option<u64>, first: bool },
    /// Ends a token.
    Revoke { id: &'c str },
    /// Pays in for a level, or puts that right.
    Pay { kind: Kind, level: &'c str, payment: Paying<'c> },
}

/// A payment that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Paying<'c> {
    pub id: &'c str,
    pub cause: Cause,
    /// Nano-dollars.
    pub amount: i64,
    pub written: &'c str,
    pub note: &'c str,
}

/// Why nothing was read or written.
#[derive(Debug)]
pub enum Error {
    /// The database.
    Store(books::Error),
    /// Its file is not where it was.
    Gone,
    /// There is one of that name.
    Exists,
    /// There was a key or token of that name: its id would tell of two in ledger and log.
    Used,
    Missing,
    /// Somebody else was first; it has this version now.
    Changed(u64),
    /// What it is to belong to is not there (any more).
    Needs(Kind, String),
    /// These belong to it still.
    InUse(Kind, u64),
    /// These tokens are for it alone.
    HasTokens(u64),
    /// Another key or token has this secret, or had it.
    SecretTaken,
    /// A key has as many secrets as it may have at once.
    TooManySecrets,
    /// Without it nobody could administer any more.
    LastOwner,
    /// A payment of this id was made.
    Paid,
    /// More than a balance can hold, or less.
    Balance,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store(error) => write!(f, "{error}"),
            Error::Gone => f.write_str("its file is gone: put it back, or start anew, and what was stored is no more"),
            Error::Exists => f.write_str("there is one already"),
            Error::Used => f.write_str("this id was used before"),
            Error::Missing => f.write_str("there is none"),
            Error::Changed(version) => write!(f, "it was changed meanwhile: it has version {version} now"),
            Error::Needs(kind, id) => write!(f, "there is no {} `{id}`", kind.name()),
            Error::InUse(kind, count) => write!(f, "{count} {}s belong to it", kind.name()),
            Error::HasTokens(count) => write!(f, "{count} tokens are for it alone: revoke them first"),
            Error::SecretTaken => f.write_str("another one has this secret, or had it"),
            Error::TooManySecrets => f.write_str("it has too many secrets at once"),
            Error::LastOwner => f.write_str("it is the last owner's"),
            Error::Paid => f.write_str("another payment has this id: take one that was not used for this balance"),
            Error::Balance => f.write_str("a balance is two thousand million dollars at most, either way"),
        }
    }
}

impl std::error::Error for Error {}

impl From<books::Error> for Error {
    fn from(error: books::Error) -> Error {
        Error::Store(error)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Store(error.into())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Store(error.into())
    }
}
