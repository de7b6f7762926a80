//! What was tried and what became of it.

use std::collections::BTreeMap;
use std::fmt::Display;

use portolan::ir::Losses;

/// Failures that are printed one by one; `PORTOLAN_REPLAY_SHOW` names another number.
const SHOWN: usize = 20;

#[derive(Default)]
pub struct Tally {
    pub equal: usize,
    /// Came out right, with losses that have names.
    pub lossy: usize,
    /// By reason.
    pub skipped: BTreeMap<String, usize>,
    /// Id of the recording, and what is wrong.
    pub failed: Vec<(String, String)>,
    /// Kinds that only their own dialect knows, by name.
    pub kinds: BTreeMap<String, usize>,
    /// Losses by name, places in lists left out.
    pub losses: BTreeMap<String, usize>,
}

impl Tally {
    /// Counts one case: its problems, or its losses if it has none.
    pub fn count(&mut self, id: &str, problems: Vec<String>, losses: &Losses) {
        for loss in losses.iter() {
            *self.losses.entry(without_places(&loss.to_string())).or_default() += 1;
        }
        if !problems.is_empty() {
            self.failed.push((id.to_owned(), problems.join("; ")));
        } else if losses.is_empty() {
            self.equal += 1;
        } else {
            self.lossy += 1;
        }
    }

    pub fn skip(&mut self, reason: impl Into<String>) {
        *self.skipped.entry(reason.into()).or_default() += 1;
    }

    pub fn tried(&self) -> usize {
        self.equal + self.lossy + self.failed.len()
    }

    pub fn add(&mut self, other: Tally) {
        self.equal += other.equal;
        self.lossy += other.lossy;
        self.failed.extend(other.failed);
        for (mine, others) in
            [(&mut self.skipped, other.skipped), (&mut self.kinds, other.kinds), (&mut self.losses, other.losses)]
        {
            for (name, count) in others {
                *mine.entry(name).or_default() += count;
            }
        }
    }

    pub fn report(&self) {
        print_counts("kinds that only their own dialect knows", &self.kinds);
        print_counts("losses by name", &self.losses);
        print_counts("skipped, by reason", &self.skipped);
        self.print_failures();
        let skipped: usize = self.skipped.values().sum();
        println!(
            "replay: {} tried, {} equal, {} named loss, {skipped} skipped, {} failed",
            self.tried(),
            self.equal,
            self.lossy,
            self.failed.len()
        );
    }

    pub fn print_failures(&self) {
        let shown = std::env::var("PORTOLAN_REPLAY_SHOW").ok().and_then(|number| number.parse().ok()).unwrap_or(SHOWN);
        for (id, what) in self.failed.iter().take(shown) {
            println!("replay: FAILED {id}: {what}");
        }
    }
}

fn print_counts(title: &str, counts: &BTreeMap<String, usize>) {
    if counts.is_empty() {
        return;
    }
    println!("replay: {title}");
    for (name, count) in counts {
        println!("replay:   {name} {count}");
    }
}

/// `messages[3].content[0]` as `messages[].content[]`.
pub fn without_places(path: &impl Display) -> String {
    let path = path.to_string();
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        inside &= c != ']';
        if !inside {
            out.push(c);
        }
        inside |= c == '[';
    }
    out
}
