//! One line of a catalogue: its cells, what they say, and what can be wrong with them.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::price::Rates;
use crate::dialect::Abilities;

/// Most flaws of a text that are told.
const MOST_FLAWS: usize = 50;
/// Longest name of a preset or model, in bytes.
const LONGEST_NAME: usize = 256;

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It answers by conversation, in text above all.
    #[default]
    Chat,
    Embedding,
    Image,
    Speech,
    Transcription,
    Video,
    Rerank,
    Moderation,
    Realtime,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Chat,
        Kind::Embedding,
        Kind::Image,
        Kind::Speech,
        Kind::Transcription,
        Kind::Video,
        Kind::Rerank,
        Kind::Moderation,
        Kind::Realtime,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Chat => "chat",
            Kind::Embedding => "embedding",
            Kind::Image => "image",
            Kind::Speech => "speech",
            Kind::Transcription => "transcription",
            Kind::Video => "video",
            Kind::Rerank => "rerank",
            Kind::Moderation => "moderation",
            Kind::Realtime => "realtime",
        }
    }

    fn read(cell: &str) -> Option<Kind> {
        if cell.is_empty() {
            return Some(Kind::Chat);
        }
        Kind::ALL.into_iter().skip(1).find(|kind| kind.name() == cell)
    }
}

/// What is paid by other things than tokens, in nano-dollars; `None`: not known to cost anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// One image.
    pub image: Option<u64>,
    /// One second of sound or film.
    pub second: Option<u64>,
    /// A million characters.
    pub character: Option<u64>,
}

/// What is wrong with a line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub line: usize,
    pub message: String,
}

/// The cells of a line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'t> {
    from: &'t str,
    pub above: &'t str,
    pub kind: Kind,
    limits: [&'t str; 2],
    letters: &'t str,
    prices: [&'t str; 8],
    units: [&'t str; 3],
    fees: [&'t str; 2],
    pub source: &'t str,
    pub seen: &'t str,
}

impl<'t> Line<'t> {
    /// Reads the first line of a text.
    pub fn read(text: &'t str) -> Option<Line<'t>> {
        let mut cells = text.lines().next()?.split(',');
        let mut next = || cells.next();
        let (_, _, from, above, kind) = (next()?, next()?, next()?, next()?, Kind::read(next()?)?);
        let limits = [next()?, next()?];
        let letters = next()?;
        let prices = [next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        let units = [next()?, next()?, next()?];
        let fees = [next()?, next()?];
        let (source, seen) = (next()?, next()?);
        let whole = next().is_none();
        whole.then_some(Line { from, above, kind, limits, letters, prices, units, fees, source, seen })
    }

    /// Unix seconds from which it holds.
    pub fn begins(&self) -> Option<u64> {
        if self.from.is_empty() {
            return Some(0);
        }
        let day: Date = self.from.parse().ok()?;
        u64::try_from(day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
    }

    /// Names the price in the ledger.
    pub fn version(&self) -> String {
        if self.from.is_empty() { self.seen.to_owned() } else { self.from.to_owned() }
    }

    /// The length of prompt above which it holds, and its prices, with the fees of the first line.
    pub fn tier(&self, first: &Line<'_>) -> Option<(u64, Rates)> {
        Some((number(self.above)?, self.rates(Some(first))?))
    }

    /// The prices; fees that it does not have are those of the first line.
    pub fn rates(&self, first: Option<&Line<'_>>) -> Option<Rates> {
        let [input, output, cached, write, write_1h, audio_input, audio_output, reasoning] = self.prices;
        // What is not paid by tokens has none of these, and what reads alone has no output.
        let or_nothing = |cell: &str| if self.kind == Kind::Chat { number(cell) } else { number_or(cell, 0) };
        let (input, output) = (or_nothing(input)?, or_nothing(output)?);
        let cache_write = number_or(write, input)?;
        let fees = first.map_or(Some([0, 0]), |first| first.fees_or([0, 0]));
        let [request, search] = self.fees_or(fees?)?;
        Some(Rates {
            input,
            output,
            cached: number_or(cached, input)?,
            cache_write,
            cache_write_1h: number_or(write_1h, cache_write)?,
            audio_input: number_or(audio_input, input)?,
            audio_output: number_or(audio_output, output)?,
            reasoning: number_or(reasoning, output)?,
            request,
            search,
        })
    }

    fn fees_or(&self, otherwise: [u64; 2]) -> Option<[u64; 2]> {
        let ([request, search], [other_request, other_search]) = (self.fees, otherwise);
        Some([number_or(request, other_request)?, number_or(search, other_search)?])
    }

    pub fn units(&self) -> Option<Units> {
        let [image, second, character] = self.units;
        let read = |cell: &str| if cell.is_empty() { Some(None) } else { number(cell).map(Some) };
        Some(Units { image: read(image)?, second: read(second)?, character: read(character)? })
    }

    pub fn abilities(&self) -> Option<Abilities> {
        let [context, max_output] =
            self.limits.map(|cell| if cell.is_empty() { Some(None) } else { number(cell).map(Some) });
        let (can, cannot) = self.letters.split_once('-').unwrap_or((self.letters, ""));
        if !can.chars().chain(cannot.chars()).all(|letter| "tvrsa".contains(letter)) {
            return None;
        }
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

    /// The first thing that is wrong with it.
    fn flaw(&self) -> Option<&'static str> {
        if self.begins().is_none() {
            return Some("`from` is a day such as 2026-12-01, or empty");
        }
        if !self.above.is_empty() && number(self.above).is_none_or(|above| above == 0) {
            return Some("`above` is a number of tokens, or empty");
        }
        if self.abilities().is_none() {
            return Some("`context` and `max_output` are numbers of tokens, `abilities` letters of tvrsa");
        }
        if self.rates(None).is_none() || self.units().is_none() {
            return Some("prices are whole numbers of nano-dollars, and `input` and `output` must be there");
        }
        if self.seen.parse::<Date>().is_err() {
            return Some("`seen` is the day of the facts, such as 2026-11-21");
        }
        None
    }
}

/// All that is wrong with a text.
pub fn flaws(text: &str) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut seen: std::collections::HashSet<(&str, &str)> = std::collections::HashSet::new();
    let mut last: Option<(&str, &str, u64, u64)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut wrong = |message: String| flaws.push(Flaw { line: number, message });
        let (Some((preset, model)), Some(read)) = (names(line), Line::read(line)) else {
            wrong("write 23 cells with commas between them, `kind` one of the known ones".to_owned());
            continue;
        };
        if preset.is_empty() || model.is_empty() || preset.len() > LONGEST_NAME || model.len() > LONGEST_NAME {
            wrong("a preset and a model have names of 1 to 256 bytes".to_owned());
        }
        if let Some(message) = read.flaw() {
            wrong(message.to_owned());
        }
        let (from, above) = (read.begins().unwrap_or(0), self::number(read.above).unwrap_or(0));
        match last {
            Some((of, name, begun, length)) if (of, name) == (preset, model) => {
                if (from, above) <= (begun, length) || (from != begun && above != 0) {
                    wrong(
                        "a model's lines are in the order of `from` and `above`, each date with a first line"
                            .to_owned(),
                    );
                }
            }
            _ => {
                if !seen.insert((preset, model)) {
                    wrong(format!("the lines of {preset}/{model} stand apart: put them together"));
                }
                if above != 0 {
                    wrong("a model's first line has no `above`".to_owned());
                }
            }
        }
        last = Some((preset, model, from, above));
    }
    flaws.truncate(MOST_FLAWS);
    flaws
}

/// Preset and model of a line; nothing for a comment.
pub fn names(line: &str) -> Option<(&str, &str)> {
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
