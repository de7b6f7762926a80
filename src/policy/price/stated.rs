//! A price as the ledger keeps it beside every attempt: all that its cost can be recomputed with, by anybody.
//!
//! JSON of nano-dollars for a million tokens (`request` and `search`: for one). What is not there is the rate of the whole
//! that it is a part of (`cached`: `input`; `reasoning`: `output`), fees that are not there are 0. `tiers` have the
//! rates for prompts that are longer than `above`, ascending. So `{"input":2500000000,"output":10000000000,"cached":1250000000}` says:
//! cost = (input - cached) * 2500 + cached * 1250 + output * 10000 nano-dollars, rounded half up once over the sum.

use serde::Deserialize;

use super::{Price, Rates};
use crate::wire::writer::{self, Object};

/// Rates as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stated {
    input: u64,
    output: u64,
    cached: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    audio_input: Option<u64>,
    audio_output: Option<u64>,
    reasoning: Option<u64>,
    request: u64,
    search: u64,
    tiers: Vec<Stated>,
    above: u64,
}

impl Price {
    /// The rates without the version.
    pub fn stated(&self) -> String {
        let mut out = Vec::with_capacity(96);
        writer::object(&mut out, |o| {
            write(&self.rates, o);
            if !self.tiers.is_empty() {
                o.array("tiers", |a| {
                    for (above, rates) in &self.tiers {
                        a.object(|o| {
                            o.number("above", *above);
                            write(rates, o);
                        });
                    }
                });
            }
        });
        String::from_utf8(out).unwrap_or_default()
    }

    /// Reads what [`Price::stated`] wrote; the version is left empty. Nothing for what is no price.
    pub fn read(stated: &str) -> Option<Price> {
        let stated: Stated = serde_json::from_str(stated).ok()?;
        let tiers = stated.tiers.iter().map(|tier| (tier.above, tier.rates())).collect();
        Some(Price { rates: stated.rates(), tiers, version: String::new() })
    }
}

impl Stated {
    fn rates(&self) -> Rates {
        let Stated { input, output, .. } = *self;
        Rates {
            input,
            output,
            cached: self.cached.unwrap_or(input),
            cache_write: self.cache_write.unwrap_or(input),
            cache_write_1h: self.cache_write_1h.unwrap_or(input),
            audio_input: self.audio_input.unwrap_or(input),
            audio_output: self.audio_output.unwrap_or(output),
            reasoning: self.reasoning.unwrap_or(output),
            request: self.request,
            search: self.search,
        }
    }
}

fn write(rates: &Rates, o: &mut Object<'_>) {
    // Whoever adds a rate is told here that it must be kept.
    let Rates {
        input,
        output,
        cached,
        cache_write,
        cache_write_1h,
        audio_input,
        audio_output,
        reasoning,
        request,
        search,
    } = *rates;
    o.number("input", input);
    o.number("output", output);
    for (name, rate, usual) in [
        ("cached", cached, input),
        ("cache_write", cache_write, input),
        ("cache_write_1h", cache_write_1h, input),
        ("audio_input", audio_input, input),
        ("audio_output", audio_output, output),
        ("reasoning", reasoning, output),
        ("request", request, 0),
        ("search", search, 0),
    ] {
        if rate != usual {
            o.number(name, rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_price_is_said_in_few_words() {
        let rates = Rates {
            input: 10,
            output: 20,
            cached: 1,
            cache_write: 10,
            cache_write_1h: 10,
            audio_input: 10,
            audio_output: 20,
            reasoning: 20,
            ..Rates::default()
        };
        let mut price = Price { rates, ..Price::default() };
        assert_eq!(price.stated(), r#"{"input":10,"output":20,"cached":1}"#);
        price.tiers.push((200_000, Rates { request: 5, ..rates }));
        assert_eq!(
            price.stated(),
            r#"{"input":10,"output":20,"cached":1,"tiers":[{"above":200000,"input":10,"output":20,"cached":1,"request":5}]}"#
        );
        assert_eq!(Price::read("{"), None);
    }

    proptest! {
        #[test]
        fn what_is_stated_is_read(numbers in any::<[[u64; 10]; 2]>(), above in any::<u64>(), tiered in any::<bool>()) {
            let rates = |[input, output, cached, cache_write, cache_write_1h, audio_input, audio_output, reasoning, request, search]: [u64; 10]| Rates {
                input, output, cached, cache_write, cache_write_1h, audio_input, audio_output, reasoning, request, search,
            };
            let [plain, tier] = numbers.map(rates);
            let tiers = if tiered { vec![(above, tier)] } else { Vec::new() };
            let price = Price { rates: plain, tiers, version: String::new() };
            prop_assert_eq!(Price::read(&price.stated()), Some(price));
        }
    }
}
