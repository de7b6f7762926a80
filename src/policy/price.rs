//! What tokens cost: integers all the way.
//!
//! A cost is one exact sum over the parts of a usage, in 128 bits, rounded once. [`Usage`] counts wholes and parts *of*
//! them, so every token has exactly one rate; a provider whose parts exceed their whole (some do) is taken at its
//! word for the whole and clamped in the parts, never priced twice and never below nothing.

mod group;
mod stated;

use crate::ir::Usage;
pub use crate::provider::price::{Nano, Price, Rates};
pub use group::{Charge, Charges, PriceGroup, Tariff};

/// Rates are for so many tokens.
const MILLION: u128 = 1_000_000;
/// Nano-units of one unit.
const BILLION: u64 = 1_000_000_000;
/// Longest decimal that is read: more digits than any amount of 64 bits has.
const LONGEST: usize = 64;

/// What an attempt costs, and what whoever made it is charged for it: the same, unless a [`PriceGroup`] says other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub cost: Nano,
    pub charge: Nano,
}

/// Charged as it costs.
impl From<Nano> for Amount {
    fn from(cost: Nano) -> Amount {
        Amount { cost, charge: cost }
    }
}

/// One part of a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// As usage names it.
    pub part: &'static str,
    pub count: u64,
    /// Nano-dollars for a million of them; `each`: for one.
    pub rate: u64,
    pub each: bool,
}

/// How much a call may use at most, and of what kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Tokens.
    pub input: u64,
    pub output: u64,
    /// Some of the input may be written to a cache, and for an hour.
    pub cache_write: bool,
    pub cache_write_1h: bool,
    /// There may be sound, in or out.
    pub audio: bool,
    /// Searches of the provider's own tool.
    pub searches: u64,
}

impl Extent {
    /// So many tokens, of any kind.
    pub fn any(input: u64, output: u64) -> Extent {
        Extent { input, output, cache_write: true, cache_write_1h: true, audio: true, searches: 0 }
    }
}

impl Price {
    /// What this usage costs, rounded half up once, over the exact sum.
    ///
    /// Tokens that are in two parts at once (audio read from a cache) count as the part that is named first: cached,
    /// written to a cache, audio; usage does not say how far parts overlap.
    pub fn cost(&self, usage: &Usage) -> Nano {
        let (mut tokens, mut fees) = (0u128, 0u128);
        self.lines(usage, &mut |line| {
            let sum = if line.each { &mut fees } else { &mut tokens };
            *sum = sum.saturating_add(u128::from(line.count) * u128::from(line.rate));
        });
        narrow(rounded(tokens).saturating_add(fees))
    }

    /// The parts of a cost, each with its rate: all that [`Price::cost`] adds up.
    pub fn lines(&self, usage: &Usage, each: &mut dyn FnMut(Line)) {
        let rates = self.rates_at(usage.input);
        let input = [
            ("cached", usage.cached, rates.cached),
            ("cache_write_1h", usage.cache_write_1h, rates.cache_write_1h),
            ("cache_write", usage.cache_write, rates.cache_write),
            ("audio_input", usage.audio_input, rates.audio_input),
        ];
        share(usage.input, input, ("input", rates.input), each);
        let output =
            [("audio_output", usage.audio_output, rates.audio_output), ("reasoning", usage.reasoning, rates.reasoning)];
        share(usage.output, output, ("output", rates.output), each);
        each(Line { part: "request", count: u64::from(rates.request != 0), rate: rates.request, each: true });
        each(Line { part: "search", count: usage.searches, rate: rates.search, each: true });
    }

    /// The length of prompt above which the rates hold that a prompt of so many tokens has; nothing for the plain ones.
    pub fn tier(&self, input: u64) -> Option<u64> {
        self.tiers.iter().rev().map(|(above, _)| *above).find(|above| input > *above)
    }

    /// The most that a call can cost, for a reservation: every token at the dearest rate that it may meet, tiers below its
    /// length included.
    pub fn worst_case(&self, most: &Extent) -> Nano {
        let reached = self.tiers.iter().filter(|(above, _)| most.input > *above).map(|(_, rates)| rates);
        let (input, output, request, search) = reached.chain(std::iter::once(&self.rates)).fold(
            (0, 0, 0, 0),
            |(input, output, request, search), rates| {
                let (read, said) = (dearest_input(rates, most), dearest_output(rates, most));
                (input.max(read), output.max(said), request.max(rates.request), search.max(rates.search))
            },
        );
        let all = |count: u64, rate: u64| u128::from(count) * u128::from(rate);
        let tokens = all(most.input, input).saturating_add(all(most.output, output));
        let fees = u128::from(request).saturating_add(all(most.searches, search));
        narrow(rounded(tokens).saturating_add(fees))
    }

    /// What a call is expected to cost, in nano-dollars, for a choice among targets: near enough, never for a bill.
    /// `cached` is the part of the input that is read from the provider's cache, 0 to 1.
    pub fn expected(&self, input: f32, cached: f32, output: f32) -> f32 {
        let rates = if self.tiers.is_empty() { &self.rates } else { self.rates_at(input as u64) };
        let read = input * cached;
        let tokens = (input - read) * rates.input as f32 + read * rates.cached as f32 + output * rates.output as f32;
        tokens / MILLION as f32 + rates.request as f32
    }

    /// All rates times a factor in billionths, each rounded half up to a whole nano-dollar for a million tokens: what is paid
    /// of a list price, or what is charged on top of a cost. The version says so.
    #[must_use]
    pub fn times(&self, factor: u64) -> Price {
        let times = |rates: &Rates| Rates {
            input: scaled(rates.input, factor),
            output: scaled(rates.output, factor),
            cached: scaled(rates.cached, factor),
            cache_write: scaled(rates.cache_write, factor),
            cache_write_1h: scaled(rates.cache_write_1h, factor),
            audio_input: scaled(rates.audio_input, factor),
            audio_output: scaled(rates.audio_output, factor),
            reasoning: scaled(rates.reasoning, factor),
            request: scaled(rates.request, factor),
            search: scaled(rates.search, factor),
        };
        Price {
            rates: times(&self.rates),
            tiers: self.tiers.iter().map(|(above, rates)| (*above, times(rates))).collect(),
            version: format!("{} x {}", self.version, cost_decimal(factor)),
        }
    }

    /// The rates for a prompt of so many tokens.
    fn rates_at(&self, input: u64) -> &Rates {
        self.tiers.iter().rev().find(|(above, _)| input > *above).map_or(&self.rates, |(_, rates)| rates)
    }
}

/// A price that is nowhere below any of these: of each rate the dearest, their tiers included.
pub fn dearest(prices: impl Iterator<Item = Price>) -> Option<Price> {
    let all = prices.flat_map(|price| {
        let tiers: Vec<Rates> = price.tiers.iter().map(|(_, rates)| *rates).collect();
        std::iter::once(price.rates).chain(tiers)
    });
    let rates = all.reduce(|one, other| Rates {
        input: one.input.max(other.input),
        output: one.output.max(other.output),
        cached: one.cached.max(other.cached),
        cache_write: one.cache_write.max(other.cache_write),
        cache_write_1h: one.cache_write_1h.max(other.cache_write_1h),
        audio_input: one.audio_input.max(other.audio_input),
        audio_output: one.audio_output.max(other.audio_output),
        reasoning: one.reasoning.max(other.reasoning),
        request: one.request.max(other.request),
        search: one.search.max(other.search),
    })?;
    Some(Price { rates, ..Price::default() })
}

/// An amount as an exact decimal of whole units, at most nine places, no trailing zeros: `0.00123`, `0`.
pub fn cost_decimal(nano: Nano) -> String {
    let (whole, part) = (nano / BILLION, nano % BILLION);
    let mut digits = itoa::Buffer::new();
    let mut text = String::with_capacity(24);
    text.push_str(digits.format(whole));
    if part != 0 {
        // A one in front keeps the zeros that follow the point.
        let places = digits.format(BILLION + part).trim_end_matches('0');
        text.push('.');
        text.push_str(places.get(1..).unwrap_or_default());
    }
    text
}

/// Dollars in another currency that has so many millionths of a unit for a dollar, rounded half up.
pub fn convert(nano: Nano, per_usd_micro: u64) -> Nano {
    narrow(rounded(u128::from(nano) * u128::from(per_usd_micro)))
}

/// A part of an amount, in billionths, rounded half up: a discount, or a mark-up.
pub fn scaled(nano: Nano, factor: u64) -> Nano {
    let product = u128::from(nano) * u128::from(factor);
    narrow(product.saturating_add(u128::from(BILLION / 2)) / u128::from(BILLION))
}

/// Reads a rate in dollars for a million tokens, exactly: `0.075` is 75,000,000. Also reads any other amount of
/// dollars to nano-dollars.
///
/// Digits, a point, an exponent, as in JSON (RFC 8259 section 6). `None` for anything else, for less than nothing, and
/// for an amount that is no whole number of nano-dollars or does not fit.
pub fn parse_per_million(text: &str) -> Option<u64> {
    if text.len() > LONGEST {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, signed(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    if whole.is_empty() {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes()).try_fold(0u128, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u128::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    if digits == 0 {
        return Some(0);
    }
    let places = i64::try_from(fraction.len()).ok()?;
    let shift = 9_i64.checked_add(exponent)?.checked_sub(places)?;
    let power = 10u128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?);
    let nano = match power {
        Some(power) if shift >= 0 => digits.checked_mul(power)?,
        Some(power) if digits.is_multiple_of(power) => digits / power,
        _ => return None,
    };
    u64::try_from(nano).ok()
}

/// The tokens of a whole, each at one rate: parts in their order as far as the whole reaches, what is left at the last.
fn share<const N: usize>(
    whole: u64,
    parts: [(&'static str, u64, u64); N],
    rest: (&'static str, u64),
    each: &mut dyn FnMut(Line),
) {
    let mut left = whole;
    for (part, count, rate) in parts {
        let count = count.min(left);
        left -= count;
        each(Line { part, count, rate, each: false });
    }
    let (part, rate) = rest;
    each(Line { part, count: left, rate, each: false });
}

fn dearest_input(rates: &Rates, most: &Extent) -> u64 {
    let when = |may_be: bool, rate: u64| if may_be { rate } else { 0 };
    [
        rates.input,
        rates.cached,
        when(most.cache_write, rates.cache_write),
        when(most.cache_write_1h, rates.cache_write_1h),
        when(most.audio, rates.audio_input),
    ]
    .into_iter()
    .fold(0, u64::max)
}

fn dearest_output(rates: &Rates, most: &Extent) -> u64 {
    let audio = if most.audio { rates.audio_output } else { 0 };
    rates.output.max(rates.reasoning).max(audio)
}

/// Millionths to units, half up.
fn rounded(millionths: u128) -> u128 {
    let up = u128::from(millionths % MILLION >= MILLION / 2);
    millionths / MILLION + up
}

fn narrow(nano: u128) -> Nano {
    u64::try_from(nano).unwrap_or(u64::MAX)
}

/// `12`, `+12`, `-12`.
fn signed(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
