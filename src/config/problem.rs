//! What is wrong with the operator's files: all of it at once, each with its place and what to do.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::wire::yaml::{Mark, Node, Value};

/// Most problems reported of one configuration; a file that has more is not a configuration.
const MOST: usize = 200;

/// One thing to put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Counts from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// Counts from 1, in characters; 0 where the file as a whole is meant.
    pub column: usize,
    /// For example `models.gpt-5.targets[0].provider`; empty where the file as a whole is meant.
    pub path: String,
    /// A sentence that says what to do. Never contains a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `file:line:column: path: message`, the form that editors jump to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// The way to a value, from the root of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Route {
    /// The way one key further.
    pub fn key(&self, key: &str) -> Route {
        self.step(Step::Key(key.to_owned()))
    }

    /// The way one list item further.
    pub fn index(&self, index: usize) -> Route {
        self.step(Step::Index(index))
    }

    fn entry(&self) -> (String, String) {
        let text = |step: Option<&Step>| match step {
            Some(Step::Key(key)) => key.clone(),
            Some(Step::Index(index)) => index.to_string(),
            None => String::new(),
        };
        (text(self.0.first()), text(self.0.get(1)))
    }

    fn step(&self, step: Step) -> Route {
        let mut steps = self.0.clone();
        steps.push(step);
        Route(steps)
    }

    /// Where the value stands, or the nearest thing around it that does stand in the file.
    fn mark(&self, root: &Node) -> Mark {
        let mut node = root;
        let mut mark = root.at;
        for step in &self.0 {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Map(entries)) => {
                    entries.iter().find(|entry| &entry.key == key).map(|entry| (&entry.value, entry.at))
                }
                (Step::Index(index), Value::List(items)) => items.get(*index).map(|item| (item, item.at)),
                _ => None,
            };
            let Some((inner, at)) = next else { break };
            node = inner;
            mark = at;
        }
        mark
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if plain(key) => write!(f, "{}{key}", if number == 0 { "" } else { "." })?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

fn plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub struct Problems {
    files: Vec<PathBuf>,
    found: Vec<Problem>,
    left_out: usize,
    damaged: BTreeSet<(String, String)>,
}

impl Problems {
    /// Names a file; its number is the `source` of its [`Mark`]s.
    pub fn file(&mut self, file: &Path) -> u16 {
        self.files.push(file.to_owned());
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// Notes a problem at a known place.
    pub fn at(&mut self, mark: Mark, route: &Route, message: impl Into<String>) {
        self.damaged.insert(route.entry());
        let problem = self.problem(mark, route, message.into());
        if self.found.contains(&problem) {
            return;
        }
        if self.found.len() < MOST { self.found.push(problem) } else { self.left_out += 1 }
    }

    /// Notes a problem with the value that a route leads to.
    pub fn on(&mut self, root: &Node, route: &Route, message: impl Into<String>) {
        self.at(route.mark(root), route, message);
    }

    /// Makes a problem without noting it: a remark that stops nothing.
    pub fn remark(&self, root: &Node, route: &Route, message: impl Into<String>) -> Problem {
        self.problem(route.mark(root), route, message.into())
    }

    fn problem(&self, mark: Mark, route: &Route, message: String) -> Problem {
        let file = self.files.get(usize::from(mark.source)).cloned().unwrap_or_default();
        Problem { file, line: mark.line, column: mark.column, path: route.to_string(), message }
    }

    /// Notes that a file cannot be used at all.
    pub fn whole(&mut self, file: &Path, message: impl Into<String>) {
        let message = message.into();
        self.found.push(Problem { file: file.to_owned(), line: 0, column: 0, path: String::new(), message });
    }

    /// The entries that have problems so far: the first two steps of their routes, the second empty where there is none.
    pub fn damaged(&self) -> BTreeSet<(String, String)> {
        self.damaged.clone()
    }

    /// Whether an entry has problems so far.
    pub fn is_damaged(&self, field: &str, name: &str) -> bool {
        self.damaged.contains(&(field.to_owned(), name.to_owned()))
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found, in the order of files and lines.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        let rank = |file: &PathBuf| self.files.iter().position(|known| known == file).unwrap_or(usize::MAX);
        self.found.sort_by_key(|problem| (rank(&problem.file), problem.line, problem.column));
        if self.left_out > 0 {
            let file = self.files.first().cloned().unwrap_or_default();
            let message = format!("and {} more problems: put these right first", self.left_out);
            self.found.push(Problem { file, line: 0, column: 0, path: String::new(), message });
        }
        self.found
    }
}

/// ` Did you mean ...?` when one of the names is close to what was written, else nothing.
pub fn did_you_mean<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let folded = written.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(written.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, name)| format!(" Did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::yaml;

    #[test]
    fn routes_lead_to_places_or_as_near_as_can_be() {
        let root = yaml::parse("models:\n  gpt-5:\n    targets:\n      - provider: x\n", 0).unwrap();
        let target = Route::default().key("models").key("gpt-5").key("targets").index(0);
        assert_eq!(target.key("provider").to_string(), "models.gpt-5.targets[0].provider");
        assert_eq!(target.key("provider").mark(&root).line, 4);
        assert_eq!(target.key("model").mark(&root).line, 4, "a missing field is reported where it belongs");
        assert_eq!(Route::default().key("models").key("gpt-5.1").to_string(), "models[\"gpt-5.1\"]");
    }

    #[test]
    fn suggestions_need_some_likeness() {
        assert_eq!(did_you_mean("provder", ["provider", "model"]), " Did you mean `provider`?");
        assert_eq!(did_you_mean("Listen", ["listen"]), " Did you mean `listen`?");
        assert_eq!(did_you_mean("colour", ["provider", "model"]), "");
    }

    #[test]
    fn problems_are_sorted_and_bounded() {
        let mut problems = Problems::default();
        let source = problems.file(Path::new("a.yaml"));
        for line in (0..500).rev() {
            problems.at(Mark { source, line, column: 1 }, &Route::default(), format!("number {line}"));
        }
        let found = problems.into_sorted();
        assert_eq!(found.len(), 201);
        assert!(found[0].line < found[1].line);
        assert!(found[200].message.contains("300 more"));
    }
}
