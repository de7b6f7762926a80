//! The log of changes as a chain: each entry's hash is over the one before it and all that it says, so that nothing in it
//! can be altered, removed or put elsewhere without the rest being computed anew.
//!
//! What a chain cannot show is that its end was cut off, or that all of it was computed anew. Against the first, what is
//! stored knows the number of its last change; against both, each entry's hash goes to the process's log, and
//! [`Verdict::head`] can be kept elsewhere.

use sha2::{Digest, Sha256};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1 on.
    pub number: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// Id of the token.
    pub actor: String,
    pub request: String,
    /// `create`, `update`, `delete`, `revoke`, `rotate`.
    pub action: String,
    /// `key`, `token`, ...
    pub kind: String,
    pub id: String,
    /// JSON without secrets; `None`: there was, or is, nothing.
    pub before: Option<String>,
    pub after: Option<String>,
    /// JSON of what else is worth telling: how a secret begins, and its [`fingerprint`].
    pub detail: Option<String>,
    pub hash: [u8; 32],
}

/// Tells a secret from others to who has its digest; nobody gets from it to the secret or to the digest.
pub fn fingerprint(digest: &[u8; 32]) -> String {
    let twice = Sha256::digest(digest);
    twice.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

impl Entry {
    /// What its hash should be after the one before it.
    pub fn expected(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(previous);
        hash.update(self.number.to_le_bytes());
        hash.update(self.at.to_le_bytes());
        let mut part = |text: Option<&str>| {
            // With the lengths no two entries write the same bytes; `None` has one that no text has.
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hash.update(length.to_le_bytes());
            hash.update(text.unwrap_or_default());
        };
        for text in [&self.actor, &self.request, &self.action, &self.kind, &self.id] {
            part(Some(text));
        }
        part(self.before.as_deref());
        part(self.after.as_deref());
        part(self.detail.as_deref());
        hash.finalize().into()
    }
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The entry does not say what it said, or does not stand where it stood.
    Altered(u64),
    /// These entries are not there.
    Missing { from: u64, to: u64 },
    /// What is stored is not what the log says of it.
    Stored { kind: String, id: String },
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flaw::Altered(number) => write!(f, "entry {number} was altered or moved"),
            Flaw::Missing { from, to } if from == to => write!(f, "entry {from} was removed"),
            Flaw::Missing { from, to } => write!(f, "entries {from} to {to} were removed"),
            Flaw::Stored { kind, id } => write!(f, "{kind} `{id}` is not stored as the log says"),
        }
    }
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub entries: u64,
    /// Number and hash of the last entry. Who keeps them elsewhere can tell whether it is still there.
    pub head: (u64, [u8; 32]),
    /// The first ones; there may be more where there are [`FLAWS`].
    pub flaws: Vec<Flaw>,
}

/// Most that are told.
pub const FLAWS: usize = 100;

/// Goes through a log in its order.
pub struct Chain {
    previous: [u8; 32],
    next: u64,
    entries: u64,
    flaws: Vec<Flaw>,
}

impl Chain {
    pub fn new() -> Chain {
        Chain { previous: [0; 32], next: 1, entries: 0, flaws: Vec::new() }
    }

    pub fn see(&mut self, entry: &Entry) {
        self.entries += 1;
        if entry.number > self.next {
            self.flaw(Flaw::Missing { from: self.next, to: entry.number - 1 });
        }
        // After a gap there is nothing to hold the entry's hash against; the next one is held against it.
        if entry.number <= self.next && entry.expected(&self.previous) != entry.hash {
            self.flaw(Flaw::Altered(entry.number));
        }
        self.previous = entry.hash;
        self.next = entry.number.saturating_add(1);
    }

    pub fn flaw(&mut self, flaw: Flaw) {
        if self.flaws.len() < FLAWS {
            self.flaws.push(flaw);
        }
    }

    /// `last`: the number of the last change that anything knows of.
    pub fn end(mut self, last: u64) -> Verdict {
        if last >= self.next {
            self.flaw(Flaw::Missing { from: self.next, to: last });
        }
        Verdict { entries: self.entries, head: (self.next - 1, self.previous), flaws: self.flaws }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(count: u64) -> Vec<Entry> {
        let mut previous = [0; 32];
        (1..=count)
            .map(|number| {
                let mut entry = Entry {
                    number,
                    at: 1_000 + number,
                    actor: "a".into(),
                    request: "r".into(),
                    action: "create".into(),
                    kind: "key".into(),
                    id: format!("k{number}"),
                    before: None,
                    after: Some("{}".into()),
                    detail: None,
                    hash: [0; 32],
                };
                entry.hash = entry.expected(&previous);
                previous = entry.hash;
                entry
            })
            .collect()
    }

    fn flaws(entries: &[Entry], last: u64) -> Vec<Flaw> {
        let mut chain = Chain::new();
        entries.iter().for_each(|entry| chain.see(entry));
        chain.end(last).flaws
    }

    #[test]
    fn what_was_done_to_a_log_is_named() {
        let whole = log(5);
        assert_eq!(flaws(&whole, 5), []);
        assert_eq!(flaws(&whole[..4], 5), [Flaw::Missing { from: 5, to: 5 }]);
        assert_eq!(flaws(&whole[2..], 5), [Flaw::Missing { from: 1, to: 2 }]);
        let without: Vec<_> = whole.iter().filter(|entry| entry.number != 3).cloned().collect();
        assert_eq!(flaws(&without, 5), [Flaw::Missing { from: 3, to: 3 }]);
        let mut moved = whole.clone();
        moved.swap(1, 2);
        moved[1].number = 2;
        moved[2].number = 3;
        assert_eq!(flaws(&moved, 5), [Flaw::Altered(2), Flaw::Altered(3), Flaw::Altered(4)]);
        // One that was altered with its hash breaks the next one.
        let mut rewritten = whole;
        rewritten[1].id = "other".into();
        rewritten[1].hash = rewritten[1].expected(&rewritten[0].hash);
        assert_eq!(flaws(&rewritten, 5), [Flaw::Altered(3)]);
    }

    proptest! {
        #[test]
        fn no_alteration_goes_unseen(count in 1u64..6, at in any::<prop::sample::Index>(), field in 0usize..10) {
            let mut entries = log(count);
            let entry = at.get(&entries).number as usize - 1;
            let entry = &mut entries[entry];
            match field {
                0 => entry.at += 1,
                1 => entry.actor.push('x'),
                2 => entry.request.push('x'),
                3 => entry.action.push('x'),
                4 => entry.kind.push('x'),
                5 => entry.id.push('x'),
                6 => entry.before = Some(String::new()),
                7 => entry.after = None,
                8 => entry.detail = Some(String::new()),
                _ => entry.hash[31] ^= 1,
            }
            prop_assert!(!flaws(&entries, count).is_empty());
        }
    }
}
