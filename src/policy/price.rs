//! What tokens cost: integers all the way.

use crate::ir::Usage;

/// Nano-units (10^-9) of a currency; US dollars unless said otherwise.
pub type Nano = u64;

/// Prices of one model at one provider, in nano-dollars for a million tokens (1 $/M = 1,000,000,000), so that the
/// smallest published prices stay whole numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub input: u64,
    pub output: u64,
    /// Input read from a cache. Where a provider publishes none it is `input`: unknown is never free.
    pub cached: u64,
    pub cache_write: u64,
    pub cache_write_1h: u64,
    pub audio_input: u64,
    pub audio_output: u64,
    /// Of output; equals `output` unless published apart.
    pub reasoning: u64,
    /// Nano-dollars for one call, and for one search of the provider's own tool.
    pub request: u64,
    pub search: u64,
}

/// The price of a model: plain rates, and those that apply to the whole call above a prompt length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub rates: Rates,
    /// Prompt tokens above which the other rates hold, ascending (for example 200,000).
    pub tiers: Vec<(u64, Rates)>,
    /// Names the row: catalogue date or `config`. Kept in the ledger.
    pub version: String,
}

impl Price {
    /// What this usage costs, rounded half up once, over the exact sum.
    pub fn cost(&self, usage: &Usage) -> Nano {
        let rates = self.rates_for(usage.input);
        let mut sum: u128 = 0;
        let mut add = |tokens: u64, rate: u64| sum += u128::from(tokens) * u128::from(rate);
        // Parts are taken off their whole one after the other, so that no token is priced twice whatever was reported.
        let mut input = usage.input;
        let mut take = |part: u64| {
            let part = part.min(input);
            input -= part;
            part
        };
        let (cached, write, write_1h, audio) =
            (take(usage.cached), take(usage.cache_write), take(usage.cache_write_1h), take(usage.audio_input));
        add(cached, rates.cached);
        add(write, rates.cache_write);
        add(write_1h, rates.cache_write_1h);
        add(audio, rates.audio_input);
        add(input, rates.input);
        let reasoning = usage.reasoning.min(usage.output);
        let audio = usage.audio_output.min(usage.output - reasoning);
        add(reasoning, rates.reasoning);
        add(audio, rates.audio_output);
        add(usage.output - reasoning - audio, rates.output);
        let tokens = (sum + 500_000) / 1_000_000;
        let fees = u128::from(rates.request) + u128::from(usage.searches) * u128::from(rates.search);
        u64::try_from(tokens + fees).unwrap_or(u64::MAX)
    }

    /// The most a call may cost: every token at the dearest rate that may hold for it.
    pub fn worst_case(&self, input: u64, output: u64) -> Nano {
        let dearest = |pick: fn(&Rates) -> u64| {
            self.tiers.iter().map(|(_, rates)| pick(rates)).chain([pick(&self.rates)]).max().unwrap_or(0)
        };
        let most_in =
            dearest(|rates| rates.input.max(rates.cache_write).max(rates.cache_write_1h).max(rates.audio_input));
        let most_out = dearest(|rates| rates.output.max(rates.reasoning).max(rates.audio_output));
        let sum = u128::from(input) * u128::from(most_in) + u128::from(output) * u128::from(most_out);
        u64::try_from(sum.div_ceil(1_000_000) + u128::from(dearest(|rates| rates.request))).unwrap_or(u64::MAX)
    }

    fn rates_for(&self, input: u64) -> &Rates {
        self.tiers.iter().rev().find(|(above, _)| input > *above).map_or(&self.rates, |(_, rates)| rates)
    }
}

/// An amount as a decimal of its currency's unit, with all its digits and no more: `0.00123`.
pub fn cost_decimal(nano: Nano) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Nano-dollars in nano-units of a currency, of which a dollar buys `per_usd_micro` millionths.
pub fn convert(nano: Nano, per_usd_micro: u64) -> Nano {
    let amount = (u128::from(nano) * u128::from(per_usd_micro) + 500_000) / 1_000_000;
    u64::try_from(amount).unwrap_or(u64::MAX)
}
