//! The price catalogue: what the models of each preset cost and can do, as rows of `catalog.csv`, and of a file of the
//! operator's in the same form.
//!
//! Rows are comma-separated lines and not YAML like the presets: there are several hundred, they are in the program
//! that starts, and nobody needs places of errors in the built-in ones. Splitting lines builds the index in a fraction of
//! a millisecond, and a row is read only when it is asked for, so that an idle process holds one slice a model and no
//! more. Neither file nor clock is touched: the text is part of the program, and a test reads every cell of it.
//!
//! One line is one model at one preset; further lines of the same model are its tiers, and what it costs from a later date
//! on, each with the tiers of then. The columns:
//!
//! | column | meaning |
//! |---|---|
//! | preset, model | the names in `presets.yaml` and at the provider; `*` is any model (sandbox) |
//! | from | the day (UTC) from which the line holds, as in `2026-12-01`; empty in a model's first lines |
//! | above | prompt tokens above which this line's prices hold for the whole call; empty in a model's first line of a date |
//! | kind | what it is for: empty is text by conversation; `embedding`, `image`, `speech`, `transcription`, `video`, `rerank`, `moderation`, `realtime` |
//! | context, max_output | tokens; empty where not published (or where only the context is) |
//! | abilities | letters: `t`ools, `v`ision, `r`easoning, `s`tructured output, `a`daptive thinking; after a `-` those that it lacks; what is not named is not known |
//! | input ... reasoning | nano-dollars for a million tokens |
//! | image, second, character | nano-dollars for one image, for one second of sound or film, for a million characters |
//! | request, search | nano-dollars each |
//! | source, seen | the page of the price, and the date of the facts |
//!
//! An empty price is not published apart, and then dearer rather than free: cached and cache_write count as input,
//! cache_write_1h as cache_write, audio as input or output, reasoning as output. Fees that are not published are 0; a
//! tier's are those of the model. Later dates have the limits and abilities of the first lines. A model that is not listed
//! has no price at all, and calls to it are flagged.

mod line;

use std::cmp::Ordering;
use std::sync::OnceLock;

use self::line::Line;
use super::price::Price;
use crate::dialect::Abilities;

pub use self::line::{Flaw, Kind, Units};

const TEXT: &str = include_str!("catalog.csv");

/// The columns, as the first line of a file.
pub const HEADER: &str = "#preset,model,from,above,kind,context,max_output,abilities,input,output,cached,cache_write,cache_write_1h,audio_input,audio_output,reasoning,image,second,character,request,search,source,seen";

/// The name that stands for every model of a preset.
const ANY: &str = "*";

/// What is known of one model at one preset, at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'t> {
    pub preset: &'t str,
    /// The provider's name for the model.
    pub model: &'t str,
    pub kind: Kind,
    pub abilities: Abilities,
    /// Of tokens; all 0 for a kind that is not paid by tokens.
    pub price: Price,
    pub units: Units,
    /// Page that publishes the price.
    pub source: &'t str,
    /// Date of the facts, as in `2026-11-21`.
    pub seen: &'t str,
    /// Unix seconds since when it costs that; 0: since it is known.
    pub since: u64,
    /// Unix seconds from which it costs something else, as far as that is known.
    pub until: Option<u64>,
}

/// A catalogue: an index of the lines of a text.
#[derive(Debug, Default)]
pub struct Catalog<'t> {
    entries: Vec<Entry<'t>>,
}

/// The one that is part of the program.
pub fn builtin() -> &'static Catalog<'static> {
    static INDEX: OnceLock<Catalog<'static>> = OnceLock::new();
    INDEX.get_or_init(|| Catalog::index(TEXT))
}

impl<'t> Catalog<'t> {
    /// Reads a catalogue of the operator's, every cell of it.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of its lines.
    pub fn read(text: &'t str) -> Result<Catalog<'t>, Vec<Flaw>> {
        let flaws = line::flaws(text);
        if flaws.is_empty() { Ok(Catalog::index(text)) } else { Err(flaws) }
    }

    fn index(text: &'t str) -> Catalog<'t> {
        let mut entries: Vec<Entry<'t>> = Vec::new();
        let mut lines = text;
        while !lines.is_empty() {
            let (line, next) = lines.split_once('\n').unwrap_or((lines, ""));
            if let Some((preset, model)) = line::names(line)
                && entries.last().is_none_or(|last| (last.preset, last.model) != (preset, model))
            {
                entries.push(Entry { preset, model, lines });
            }
            lines = next;
        }
        entries.sort_by(|a, b| a.order(b.preset, b.model));
        entries.shrink_to_fit();
        Catalog { entries }
    }

    /// The row of a model as of a moment in Unix seconds: by its name, in any spelling (`.` as `-`, any case, `models/`
    /// before it), or else by its name without what only pins a version (`-20250929`, `-2024-08-06`, `-001`, `-latest`).
    /// Snapshots that cost something else have rows of their own. A fine-tuned model (`ft:gpt-4o-2024-08-06:acme::1`) has
    /// the row of its tuned base.
    pub fn lookup(&self, preset: &str, model: &str, now: u64) -> Option<Row<'t>> {
        let name = untuned(model.strip_prefix("models/").unwrap_or(model));
        let found = self.find(preset, name).or_else(|| self.find(preset, unpinned(name)));
        found.or_else(|| self.find(preset, ANY)).and_then(|entry| entry.row(now))
    }

    /// The models of a preset that have a name and answer by conversation, in alphabetic order.
    pub fn models(&self, preset: &str) -> Vec<String> {
        let of_preset = self.entries.iter().filter(|entry| entry.preset == preset && entry.model != ANY);
        let of_kind = of_preset.filter(|entry| Line::read(entry.lines).is_some_and(|line| line.kind == Kind::Chat));
        of_kind.map(|entry| entry.model.to_owned()).collect()
    }

    /// Every row as of a moment, by preset and model; [`ANY`] rows of the sandbox too.
    pub fn all(&self, now: u64) -> impl Iterator<Item = Row<'t>> {
        self.entries.iter().filter_map(move |entry| entry.row(now))
    }

    /// A model's lines as they are written.
    pub fn lines(&self, preset: &str, model: &str) -> impl Iterator<Item = &'t str> {
        let entry = self.entries.iter().find(|entry| (entry.preset, entry.model) == (preset, model));
        entry.into_iter().flat_map(Entry::written)
    }

    /// The entry that is spelled like this, or else one that differs in spelling alone.
    fn find(&self, preset: &str, model: &str) -> Option<&Entry<'t>> {
        let from = self.entries.partition_point(|entry| entry.order(preset, model) == Ordering::Less);
        let alike = || self.entries.iter().skip(from).take_while(|entry| entry.order(preset, model) == Ordering::Equal);
        alike().find(|entry| entry.model == model).or_else(|| alike().next())
    }
}

/// Where a model's lines begin.
#[derive(Debug)]
struct Entry<'t> {
    preset: &'t str,
    model: &'t str,
    /// The text from the model's first line on, to its end.
    lines: &'t str,
}

impl<'t> Entry<'t> {
    fn order(&self, preset: &str, model: &str) -> Ordering {
        self.preset.cmp(preset).then_with(|| spelled(self.model).cmp(spelled(model)))
    }

    /// Its own lines.
    fn own(&self) -> impl Iterator<Item = Option<Line<'t>>> + use<'t> {
        self.written().map(Line::read)
    }

    fn written(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let (preset, model) = (self.preset, self.model);
        let lines = self.lines.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.take_while(move |line| line::names(line) == Some((preset, model)))
    }

    fn row(&self, now: u64) -> Option<Row<'t>> {
        let (mut described, mut priced, mut tiers, mut until) = (None, None, Vec::new(), None);
        for line in self.own() {
            let line = line?;
            let from = line.begins()?;
            if from > now {
                until = Some(from);
                break;
            }
            described.get_or_insert(line);
            match priced {
                Some(first) if !line.above.is_empty() => tiers.push(line.tier(&first)?),
                _ => {
                    tiers.clear();
                    priced = Some(line);
                }
            }
        }
        let (described, priced) = (described?, priced?);
        let price = Price { rates: priced.rates(None)?, tiers, version: priced.version() };
        Some(Row {
            preset: self.preset,
            model: self.model,
            kind: described.kind,
            abilities: described.abilities()?,
            price,
            units: priced.units()?,
            source: priced.source,
            seen: priced.seen,
            since: priced.begins()?,
            until,
        })
    }
}

/// A name as it is compared: callers write `gemini-2-5-pro` for `gemini-2.5-pro`, and some providers ignore case.
fn spelled(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| if byte == b'.' { b'-' } else { byte.to_ascii_lowercase() })
}

/// `ft:gpt-4o-2024-08-06` of `ft:gpt-4o-2024-08-06:acme::1`
/// (developers.openai.com/api/docs/guides/supervised-fine-tuning, seen 2026-11-21).
fn untuned(name: &str) -> &str {
    let Some(tuned) = name.strip_prefix("ft:") else { return name };
    tuned.find(':').and_then(|end| name.get(..end + 3)).unwrap_or(name)
}

/// A name without what only pins a version. Dates of four digits stay: providers use them for models that differ.
fn unpinned(name: &str) -> &str {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((rest, last)) = name.rsplit_once('-') else { return name };
    // `-001`: stable versions of Gemini.
    let pinned =
        last == "latest" || (digits(last, 8) && last.starts_with("20")) || (digits(last, 3) && last.starts_with('0'));
    if pinned {
        return rest;
    }
    let dated = || {
        let (rest, month) = rest.rsplit_once('-')?;
        let (rest, year) = rest.rsplit_once('-')?;
        (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(rest)
    };
    dated().unwrap_or(name)
}

#[cfg(test)]
mod tests;
