//! The price catalogue: what the models of each preset cost and can do, as rows of `catalog.csv`.
//!
//! Rows are comma-separated lines and not YAML like the presets: there are several hundred, they are in the program
//! that starts, and nobody needs places of errors in them. Splitting lines builds the index in a fraction of a
//! millisecond, and a row is read only when it is asked for, so that an idle process holds one slice a model and no
//! more. Neither file nor clock is touched: the text is part of the program, and a test reads every cell of it.
//!
//! One line is one model at one preset; further lines of the same model are its tiers. The columns:
//!
//! | column | meaning |
//! |---|---|
//! | preset, model | the names in `presets.yaml` and at the provider; `*` is any model (sandbox) |
//! | above | prompt tokens above which this line's prices hold for the whole call; empty in a model's first line |
//! | context, max_output | tokens; empty where not published (or where only the context is) |
//! | abilities | letters: `t`ools, `v`ision, `r`easoning, `s`tructured output, `a`daptive thinking; after a `-` those that it lacks; what is not named is not known |
//! | input ... reasoning | nano-dollars for a million tokens |
//! | request, search | nano-dollars each |
//! | source, seen | the page of the price, and the date of the facts |
//!
//! An empty price is not published apart, and then dearer rather than free: cached and cache_write count as input,
//! cache_write_1h as cache_write, audio as input or output, reasoning as output. Fees that are not published are 0; a
//! tier's are those of the model. A model that is not listed has no price at all, and calls to it are flagged.

use std::cmp::Ordering;
use std::sync::OnceLock;

use super::price::{Price, Rates};
use crate::dialect::Abilities;

const TEXT: &str = include_str!("catalog.csv");

/// The name that stands for every model of a preset.
const ANY: &str = "*";

/// What is known of one model at one preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub preset: &'static str,
    /// The provider's name for the model.
    pub model: &'static str,
    pub abilities: Abilities,
    pub price: Price,
    /// Page that publishes the price.
    pub source: &'static str,
    /// Date of the facts, as in `2026-11-21`.
    pub seen: &'static str,
}

/// The row of a model: by its name, in any spelling (`.` as `-`, any case, `models/` before it), or else by its name
/// without what only pins a version (`-20250929`, `-2024-08-06`, `-001`, `-latest`). Snapshots that cost something else
/// have rows of their own. A fine-tuned model (`ft:gpt-4o-2024-08-06:acme::1`) has the row of its tuned base.
pub fn lookup(preset: &str, model: &str) -> Option<Row> {
    let name = untuned(model.strip_prefix("models/").unwrap_or(model));
    find(preset, name).or_else(|| find(preset, unpinned(name))).or_else(|| find(preset, ANY)).and_then(Entry::row)
}

/// The models of a preset that have a name, in alphabetic order.
pub fn models(preset: &str) -> Vec<String> {
    let of_preset = index().iter().filter(|entry| entry.preset == preset && entry.model != ANY);
    of_preset.map(|entry| entry.model.to_owned()).collect()
}

/// Every row, by preset and model; [`ANY`] rows of the sandbox too.
pub fn all() -> impl Iterator<Item = Row> {
    index().iter().filter_map(Entry::row)
}

/// Where a model's lines begin.
struct Entry {
    preset: &'static str,
    model: &'static str,
    /// The text from the model's first line on, to its end.
    lines: &'static str,
}

fn index() -> &'static [Entry] {
    static INDEX: OnceLock<Vec<Entry>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines = TEXT;
        while !lines.is_empty() {
            let (line, next) = lines.split_once('\n').unwrap_or((lines, ""));
            if let Some((preset, model)) = names(line)
                && entries.last().is_none_or(|last| (last.preset, last.model) != (preset, model))
            {
                entries.push(Entry { preset, model, lines });
            }
            lines = next;
        }
        entries.sort_by(|a, b| a.order(b.preset, b.model));
        entries.shrink_to_fit();
        entries
    })
}

/// The entry that is spelled like this, or else one that differs in spelling alone.
fn find(preset: &str, model: &str) -> Option<&'static Entry> {
    let entries = index();
    let from = entries.partition_point(|entry| entry.order(preset, model) == Ordering::Less);
    let alike = || entries.iter().skip(from).take_while(|entry| entry.order(preset, model) == Ordering::Equal);
    alike().find(|entry| entry.model == model).or_else(|| alike().next())
}

impl Entry {
    fn order(&self, preset: &str, model: &str) -> Ordering {
        self.preset.cmp(preset).then_with(|| spelled(self.model).cmp(spelled(model)))
    }

    fn row(&self) -> Option<Row> {
        let mut lines = self
            .lines
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map_while(|line| (names(line) == Some((self.preset, self.model))).then(|| Line::read(line)));
        let first = lines.next()??;
        let rates = first.rates(0, 0)?;
        let tier = |line: Option<Line>| {
            let line = line?;
            Some((number(line.above)?, line.rates(rates.request, rates.search)?))
        };
        let tiers = lines.map(tier).collect::<Option<Vec<_>>>()?;
        let price = Price { rates, tiers, version: first.seen.to_owned() };
        let abilities = first.abilities()?;
        Some(Row { preset: self.preset, model: self.model, abilities, price, source: first.source, seen: first.seen })
    }
}

/// The cells of a line, but for the names.
struct Line {
    above: &'static str,
    limits: [&'static str; 2],
    letters: &'static str,
    prices: [&'static str; 10],
    source: &'static str,
    seen: &'static str,
}

impl Line {
    fn read(line: &'static str) -> Option<Line> {
        let cells: Vec<&'static str> = line.split(',').collect();
        let [_, _, above, context, max_output, letters, a, b, c, d, e, f, g, h, i, j, source, seen] =
            <[&'static str; 18]>::try_from(cells).ok()?;
        let prices = [a, b, c, d, e, f, g, h, i, j];
        Some(Line { above, limits: [context, max_output], letters, prices, source, seen })
    }

    /// The prices, with the fees that hold where the line has none.
    fn rates(&self, request: u64, search: u64) -> Option<Rates> {
        let [input, output, cached, write, write_1h, audio_input, audio_output, reasoning, per_request, per_search] =
            self.prices;
        let (input, output) = (number(input)?, number(output)?);
        let cache_write = number_or(write, input)?;
        Some(Rates {
            input,
            output,
            cached: number_or(cached, input)?,
            cache_write,
            cache_write_1h: number_or(write_1h, cache_write)?,
            audio_input: number_or(audio_input, input)?,
            audio_output: number_or(audio_output, output)?,
            reasoning: number_or(reasoning, output)?,
            request: number_or(per_request, request)?,
            search: number_or(per_search, search)?,
        })
    }

    fn abilities(&self) -> Option<Abilities> {
        let [context, max_output] =
            self.limits.map(|cell| if cell.is_empty() { Some(None) } else { number(cell).map(Some) });
        let (can, cannot) = self.letters.split_once('-').unwrap_or((self.letters, ""));
        let has = |letter: char| {
            let stated = can.contains(letter) || cannot.contains(letter);
            stated.then(|| can.contains(letter))
        };
        Some(Abilities {
            context: context?,
            max_output: max_output?,
            tools: has('t'),
            vision: has('v'),
            reasoning: has('r'),
            adaptive_thinking: has('a'),
            structured_output: has('s'),
        })
    }
}

/// Preset and model of a line; nothing for a comment.
fn names(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('#') {
        return None;
    }
    let (preset, rest) = line.split_once(',')?;
    let (model, _) = rest.split_once(',')?;
    Some((preset, model))
}

/// `1_250_000_000`.
fn number(cell: &str) -> Option<u64> {
    let digits = || cell.bytes().filter(|byte| *byte != b'_');
    digits().next()?;
    digits().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn number_or(cell: &str, otherwise: u64) -> Option<u64> {
    if cell.is_empty() { Some(otherwise) } else { number(cell) }
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
