//! What the journal keeps of an attempt: the intent before dispatch, the settlement after. The attempt's id is the
//! idempotency key everywhere downstream.
//!
//! Every call writes two records, and the ledger reads them all again, so a record is few bytes:
//!
//! ```text
//! record     = MARK kind fields          kind: "i" intent, "s" settlement, "n" note (no fields)
//! intent     = attempt request at number flags reserve input_estimate key project asked model provider target
//!              price_version config_version tags team organisation user region dialect route rates [charged]
//! flags      : 1 stream, 2 there is a project (its text is empty otherwise)
//! charged    = 1 reserve version rates: where the caller is charged otherwise than it costs
//! settlement = attempt begun at flags status cost latency_us ttft_us outcome losses [parts] share [charge]
//! flags      : 1 estimated, 2 unpriced, 4 served, 8 there is usage (parts), 16 there is a charge
//! parts      = mask, then a number for each bit that is set: stated_total, then Usage::parts in their order
//! id         = 20 bytes of seven bits: the upper and the lower half of the id, ten bytes each, highest bits first
//! number     = groups of six bits, lowest first, one a byte; all but the last have 0x40 set
//! text       = number of bytes, then UTF-8
//! ```
//!
//! Fields that the record ends before are zero or empty, and what follows the last field is ignored: versions that add
//! fields at the end read one another. After its first byte a record has no 0xFF (numbers take seven bits, and UTF-8
//! has none), so [`MARK`] stands nowhere in a record but at its beginning, whatever callers and providers say.
//!
//! Earlier versions wrote JSON objects that begin with [`JSON_MARK`]; they are still read.

use std::borrow::Cow;

use serde::Deserialize;

use crate::ir::Usage;
use crate::policy::price::{Amount, Nano};
use crate::wire::writer;

/// How every record begins. Longer than the eight bytes that a segment puts before a record, so that they cannot hold
/// it either.
pub const MARK: &[u8] = b"\xffportolan";
/// How the records of earlier versions begin. It stands nowhere else in them: strings of JSON escape its quotes.
pub const JSON_MARK: &[u8] = b"{\"record\":\"";
/// A record that says nothing about any attempt.
pub const NOTE: &[u8] = b"\xffportolann";

/// 128 bits, time-ordered (UUID version 7, RFC 9562 section 5.7): unique without coordination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

/// Written before a single byte goes to a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Intent<'a> {
    pub attempt: Id,
    pub request: Id,
    /// Unix milliseconds.
    pub at: u64,
    /// Counts from 1 within the request.
    pub number: u32,
    pub key: Cow<'a, str>,
    pub project: Option<Cow<'a, str>>,
    /// The model the caller named, and the one that is tried (they differ in a fallback).
    pub asked: Cow<'a, str>,
    pub model: Cow<'a, str>,
    pub provider: Cow<'a, str>,
    /// `provider/model`.
    pub target: Cow<'a, str>,
    pub stream: bool,
    /// Version of the price row; empty where the target is unpriced.
    pub price_version: Cow<'a, str>,
    /// Worst case, in nano-dollars: what an orphaned attempt counts for.
    pub reserve: Nano,
    /// Estimate of input tokens.
    pub input_estimate: u64,
    pub config_version: Cow<'a, str>,
    /// A JSON object of strings; empty where there are none.
    #[serde(deserialize_with = "pairs")]
    pub tags: Cow<'a, str>,
    /// Whom the key belonged to when the call was made; empty where there is none. So is `user`.
    pub team: Cow<'a, str>,
    pub organisation: Cow<'a, str>,
    pub user: Cow<'a, str>,
    /// Of the target; empty where it is not known.
    pub region: Cow<'a, str>,
    /// The caller's.
    pub dialect: Cow<'a, str>,
    /// Why this target: the strategy, what was out of the ordinary, the rules that led there. The figures of a choice are not
    /// in it, since few attempts would have the same ones.
    pub route: Cow<'a, str>,
    /// What a cost is recomputed with: [`Price::stated`](crate::policy::price::Price::stated); empty where the target is
    /// unpriced.
    pub rates: Cow<'a, str>,
    /// Where the caller has a price group: what it is charged by. It is charged what it costs otherwise.
    pub charge: Option<Box<Charged<'a>>>,
}

/// What a caller is charged by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Charged<'a> {
    /// The most, in nano-dollars: what an orphaned attempt is charged at.
    pub reserve: Nano,
    /// Names the group and what its price was made of; empty, like `rates`, where nobody knows what to charge.
    pub version: Cow<'a, str>,
    pub rates: Cow<'a, str>,
}

/// Written when the attempt is over, however it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Settlement<'a> {
    pub attempt: Id,
    /// `at` of the intent: with it the ledger finds the attempt's row. 0 in the records of earlier versions.
    pub begun: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// `ok`, `client_gone`, `draining`, `outpaced` and `cancelled` (another attempt was quicker), or the name of a [`FaultKind`](crate::ir::FaultKind).
    pub outcome: Cow<'a, str>,
    /// Status of the provider's answer; 0 where there was none.
    pub status: u16,
    pub usage: Option<Usage>,
    /// The provider reported no usage: `usage` is our estimate.
    pub estimated: bool,
    /// Nano-dollars; 0 with `unpriced` set where no price is known.
    pub cost: Nano,
    /// What the caller is charged, where that is worked out from other rates.
    pub charge: Option<Nano>,
    /// Nobody knows what it costs, or what is to be charged.
    pub unpriced: bool,
    pub latency_us: u64,
    /// To the first content; 0 where there was none.
    pub ttft_us: u64,
    /// This attempt's answer is what the caller got.
    pub served: bool,
    /// As in `x-portolan-loss`.
    pub losses: Cow<'a, str>,
    /// What the cost is of that of one answer that several callers were told: `split N`, what is left for the first of N
    /// callers when the others have had their parts; `part N of COST`, the part of one of those. Empty: all of it.
    pub share: Cow<'a, str>,
}

impl std::fmt::Display for Id {
    /// The form of RFC 9562: 8-4-4-4-12 hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Id(n) = *self;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record<'a> {
    Intent(Intent<'a>),
    Settlement(Settlement<'a>),
    Note,
}

impl<'a> Record<'a> {
    /// Reads a record; nothing for one that is no record of ours.
    pub fn read(record: &'a [u8]) -> Option<Record<'a>> {
        let Some(rest) = record.strip_prefix(MARK) else { return serde_json::from_slice(record).ok() };
        let (kind, fields) = rest.split_first()?;
        let mut fields = Fields(fields);
        match kind {
            b'i' => fields.intent().map(Record::Intent),
            b's' => fields.settlement().map(Record::Settlement),
            b'n' => Some(Record::Note),
            _ => None,
        }
    }
}

impl Intent<'_> {
    /// Appends the record.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(256);
        out.extend_from_slice(MARK);
        out.push(b'i');
        id(out, self.attempt);
        id(out, self.request);
        number(out, self.at);
        number(out, u64::from(self.number));
        number(out, u64::from(self.stream) | u64::from(self.project.is_some()) << 1);
        number(out, self.reserve);
        number(out, self.input_estimate);
        text(out, &self.key);
        text(out, self.project.as_deref().unwrap_or_default());
        text(out, &self.asked);
        text(out, &self.model);
        text(out, &self.provider);
        text(out, &self.target);
        text(out, &self.price_version);
        text(out, &self.config_version);
        text(out, &self.tags);
        text(out, &self.team);
        text(out, &self.organisation);
        text(out, &self.user);
        text(out, &self.region);
        text(out, &self.dialect);
        text(out, &self.route);
        text(out, &self.rates);
        if let Some(charge) = &self.charge {
            number(out, 1);
            number(out, charge.reserve);
            text(out, &charge.version);
            text(out, &charge.rates);
        }
    }
}

impl Settlement<'_> {
    /// What it cost, and what was charged.
    pub fn amount(&self) -> Amount {
        Amount { cost: self.cost, charge: self.charge.unwrap_or(self.cost) }
    }

    /// Appends the record.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(128);
        out.extend_from_slice(MARK);
        out.push(b's');
        id(out, self.attempt);
        number(out, self.begun);
        number(out, self.at);
        let flags = [self.estimated, self.unpriced, self.served, self.usage.is_some(), self.charge.is_some()];
        number(out, flags.iter().rev().fold(0, |flags, flag| flags << 1 | u64::from(*flag)));
        number(out, u64::from(self.status));
        number(out, self.cost);
        number(out, self.latency_us);
        number(out, self.ttft_us);
        text(out, &self.outcome);
        text(out, &self.losses);
        if let Some(usage) = &self.usage {
            let parts = usage.parts();
            let mut there = u64::from(usage.stated_total.is_some());
            for (place, (_, count)) in parts.iter().enumerate() {
                there |= u64::from(*count != 0) << (place + 1);
            }
            number(out, there);
            let counts = parts.iter().map(|(_, count)| *count).filter(|count| *count != 0);
            usage.stated_total.into_iter().chain(counts).for_each(|count| number(out, count));
        }
        if !self.share.is_empty() || self.charge.is_some() {
            text(out, &self.share);
        }
        if let Some(charge) = self.charge {
            number(out, charge);
        }
    }
}

fn id(out: &mut Vec<u8>, id: Id) {
    let mut groups = [0; 20];
    for (place, group) in groups.iter_mut().rev().enumerate() {
        let half = if place < 10 { id.0 as u64 } else { (id.0 >> 64) as u64 };
        *group = (half >> (7 * (place % 10))) as u8 & 0x7f;
    }
    out.extend_from_slice(&groups);
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x3f {
        out.push(n as u8 & 0x3f | 0x40);
        n >>= 6;
    }
    out.push(n as u8);
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// What is left to be read of a record. `None`: it is not written as records are.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn intent(&mut self) -> Option<Intent<'a>> {
        let (attempt, request, at) = (self.id()?, self.id()?, self.number()?);
        let number = u32::try_from(self.number()?).ok()?;
        let flags = self.number()?;
        Some(Intent {
            attempt,
            request,
            at,
            number,
            stream: flags & 1 != 0,
            reserve: self.number()?,
            input_estimate: self.number()?,
            key: self.text()?,
            project: Some(self.text()?).filter(|_| flags & 2 != 0),
            asked: self.text()?,
            model: self.text()?,
            provider: self.text()?,
            target: self.text()?,
            price_version: self.text()?,
            config_version: self.text()?,
            tags: self.text()?,
            team: self.text()?,
            organisation: self.text()?,
            user: self.text()?,
            region: self.text()?,
            dialect: self.text()?,
            route: self.text()?,
            rates: self.text()?,
            charge: self.charged()?,
        })
    }

    fn charged(&mut self) -> Option<Option<Box<Charged<'a>>>> {
        if self.number()? == 0 {
            return Some(None);
        }
        let charged = Charged { reserve: self.number()?, version: self.text()?, rates: self.text()? };
        Some(Some(Box::new(charged)))
    }

    fn settlement(&mut self) -> Option<Settlement<'a>> {
        let (attempt, begun, at, flags) = (self.id()?, self.number()?, self.number()?, self.number()?);
        Some(Settlement {
            attempt,
            begun,
            at,
            estimated: flags & 1 != 0,
            unpriced: flags & 2 != 0,
            served: flags & 4 != 0,
            status: u16::try_from(self.number()?).ok()?,
            cost: self.number()?,
            latency_us: self.number()?,
            ttft_us: self.number()?,
            outcome: self.text()?,
            losses: self.text()?,
            usage: if flags & 8 != 0 { Some(self.usage()?) } else { None },
            share: self.text()?,
            charge: if flags & 16 != 0 { Some(self.number()?) } else { None },
        })
    }

    fn usage(&mut self) -> Option<Usage> {
        let mut mask = self.number()?;
        let mut usage = Usage::default();
        while mask != 0 {
            let count = self.number()?;
            match mask.trailing_zeros() {
                0 => usage.stated_total = Some(count),
                1 => usage.input = count,
                2 => usage.output = count,
                3 => usage.cached = count,
                4 => usage.cache_write = count,
                5 => usage.cache_write_1h = count,
                6 => usage.audio_input = count,
                7 => usage.tool_prompt = count,
                8 => usage.reasoning = count,
                9 => usage.audio_output = count,
                10 => usage.accepted_prediction = count,
                11 => usage.rejected_prediction = count,
                12 => usage.searches = count,
                _ => {}
            }
            mask &= mask - 1;
        }
        Some(usage)
    }

    fn id(&mut self) -> Option<Id> {
        let (bytes, rest) = self.0.split_first_chunk::<20>()?;
        self.0 = rest;
        let half = |bytes: &[u8]| bytes.iter().fold(0, |half: u64, byte| half << 7 | u64::from(byte & 0x7f));
        let (upper, lower) = bytes.split_at(10);
        Some(Id(u128::from(half(upper)) << 64 | u128::from(half(lower))))
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for group in 0..11 {
            let Some((byte, rest)) = self.0.split_first() else {
                return if group == 0 { Some(0) } else { None };
            };
            self.0 = rest;
            n |= u64::from(byte & 0x3f) << (6 * group);
            if byte & 0x40 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Cow::Borrowed)
    }
}

/// Tags as one object, of which SQLite's own functions can read. Of one name the first value counts.
pub fn tags<'t>(mut tags: impl Iterator<Item = (&'t str, &'t str)> + Clone) -> Cow<'static, str> {
    let all = tags.clone();
    let Some(first) = tags.next() else { return Cow::Borrowed("") };
    let mut out = Vec::new();
    writer::object(&mut out, |o| {
        for (i, (name, value)) in std::iter::once(first).chain(tags).enumerate() {
            if !all.clone().take(i).any(|(earlier, _)| earlier == name) {
                o.string(name, value);
            }
        }
    });
    String::from_utf8(out).unwrap_or_default().into()
}

/// Tags as earlier versions wrote them: pairs of name and value.
fn pairs<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    Vec::<(String, String)>::deserialize(deserializer)
        .map(|pairs| tags(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

impl<'de> Deserialize<'de> for Id {
    /// As earlier versions wrote it: hexadecimal digits.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Id).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn some_intent() -> Intent<'static> {
        Intent {
            attempt: Id(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210),
            request: Id(1),
            at: 64,
            number: 2,
            key: "k".into(),
            project: Some("".into()),
            asked: "a".into(),
            model: "é".into(),
            provider: "p".into(),
            target: "p/m".into(),
            stream: true,
            price_version: "v".into(),
            reserve: u64::MAX,
            input_estimate: 63,
            config_version: "c".into(),
            tags: r#"{"n":"v"}"#.into(),
            team: "t".into(),
            organisation: "o".into(),
            user: "u".into(),
            region: "eu".into(),
            dialect: "d".into(),
            route: "r".into(),
            rates: r#"{"input":1}"#.into(),
            charge: Some(Box::new(Charged { reserve: 3, version: "g: v".into(), rates: "{}".into() })),
        }
    }

    fn some_settlement() -> Settlement<'static> {
        let usage = Usage {
            input: 1,
            output: 2,
            cached: 3,
            cache_write: 4,
            cache_write_1h: 5,
            audio_input: 6,
            tool_prompt: 7,
            reasoning: 8,
            audio_output: 9,
            accepted_prediction: 10,
            rejected_prediction: 11,
            searches: 12,
            stated_total: Some(0),
        };
        Settlement {
            attempt: Id(2),
            begun: 64,
            at: 65,
            outcome: "ok".into(),
            status: 200,
            usage: Some(usage),
            estimated: true,
            cost: 13,
            charge: Some(16),
            unpriced: false,
            latency_us: 14,
            ttft_us: 15,
            served: true,
            losses: "dropped:seed".into(),
            share: "split 2".into(),
        }
    }

    #[test]
    fn records_are_written_as_the_page_above_says() {
        let intent = [
            b"\xffportolani".as_slice(),
            b"\x00\x01\x11\x51\x2c\x78\x4d\x2f\x1b\x6f\x01\x7e\x6e\x2e\x53\x07\x32\x50\x64\x10",
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\x40\x01\x02\x03\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x0f\x3f",
            b"\x01k\0\x01a\x02\xc3\xa9\x01p\x03p/m\x01v\x01c\x09{\"n\":\"v\"}",
            b"\x01t\x01o\x01u\x02eu\x01d\x01r\x0b{\"input\":1}\x01\x03\x04g: v\x02{}",
        ];
        assert_eq!(written(|out| some_intent().write(out)), intent.concat());
        let settlement = [
            b"\xffportolans".as_slice(),
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02",
            b"\x40\x01\x41\x01\x1d\x48\x03\x0d\x0e\x0f\x02ok\x0cdropped:seed",
            b"\x7f\x7f\x01\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x07split 2\x10",
        ];
        assert_eq!(written(|out| some_settlement().write(out)), settlement.concat());
    }

    #[test]
    fn versions_that_add_fields_at_the_end_read_one_another() {
        let mut newer = written(|out| some_settlement().write(out));
        newer.extend_from_slice(b"\x03new");
        assert_eq!(Record::read(&newer), Some(Record::Settlement(some_settlement())));
        let whole = written(|out| some_intent().write(out));
        // As it was before callers were charged by groups.
        let older = whole.strip_suffix(b"\x01\x03\x04g: v\x02{}").unwrap();
        let less = Intent { charge: None, ..some_intent() };
        assert_eq!(Record::read(older), Some(Record::Intent(less.clone())));
        assert_eq!(written(|out| less.write(out)), older, "nothing is written of no charge");
        // As it was before rows said whom a key belongs to, and before they had a configuration.
        let older = older.strip_suffix(b"\x01t\x01o\x01u\x02eu\x01d\x01r\x0b{\"input\":1}").unwrap();
        let none = || Cow::from("");
        let less = Intent {
            team: none(),
            organisation: none(),
            user: none(),
            region: none(),
            dialect: none(),
            route: none(),
            rates: none(),
            ..less
        };
        assert_eq!(Record::read(older), Some(Record::Intent(less.clone())));
        let older = older.strip_suffix(br#"{"n":"v"}"#).and_then(|rest| rest.strip_suffix(b"\x01c\x09")).unwrap();
        let less = Intent { config_version: none(), tags: none(), ..less };
        assert_eq!(Record::read(older), Some(Record::Intent(less)));
        // A part of usage that this version does not know.
        let more = written(|out| {
            Settlement { usage: Some(Usage { input: 7, ..Usage::default() }), ..Settlement::default() }.write(out);
        });
        let more = [more.strip_suffix(b"\x02\x07").unwrap(), b"\x42\x40\x02\x07\x09".as_slice()].concat();
        let Some(Record::Settlement(read)) = Record::read(&more) else { panic!("{more:?}") };
        assert_eq!(read.usage, Some(Usage { input: 7, ..Usage::default() }));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bytes in [
            b"".as_slice(),
            b"\xff",
            MARK,
            b"\xffportolanx",
            b"\xffportolani\0\0",
            b"{}",
            br#"{"record":"transfer","of":"tomorrow"}"#,
        ] {
            assert_eq!(Record::read(bytes), None, "{bytes:?}");
        }
        assert_eq!(Record::read(NOTE), Some(Record::Note));
        let mut short = written(|out| Intent { rates: "abc".into(), ..Intent::default() }.write(out));
        short.pop();
        assert_eq!(Record::read(&short), None, "a text ends before its length");
    }

    #[test]
    fn the_json_of_earlier_versions_is_read() {
        let intent = r#"{"record":"intent","attempt":"0123456789abcdeffedcba9876543210",
            "request":"00000000000000000000000000000001","at":64,"number":2,"key":"k","project":"","asked":"a","model":"é",
            "provider":"p","target":"p/m","stream":true,"price_version":"v","reserve":18446744073709551615,
            "input_estimate":63,"config_version":"c","tags":[["n","v"],["n","w"]],"team":"t","organisation":"o","user":"u",
            "region":"eu","dialect":"d","route":"r","rates":"{\"input\":1}"}"#;
        let read = Intent { charge: None, ..some_intent() };
        assert_eq!(Record::read(intent.as_bytes()), Some(Record::Intent(read)));
        let settlement = r#"{"record":"settlement","attempt":"00000000000000000000000000000002","at":65,"outcome":"ok",
            "status":200,"usage":{"input":1,"output":2,"cached":3,"cache_write":4,"cache_write_1h":5,"audio_input":6,
            "tool_prompt":7,"reasoning":8,"audio_output":9,"accepted_prediction":10,"rejected_prediction":11,
            "searches":12,"stated_total":0},"estimated":true,"cost":13,"unpriced":false,"latency_us":14,"ttft_us":15,
            "served":true,"losses":"dropped:seed","unknown":1}"#;
        let read = Settlement { begun: 0, share: "".into(), charge: None, ..some_settlement() };
        assert_eq!(Record::read(settlement.as_bytes()), Some(Record::Settlement(read)));
        assert_eq!(Record::read(br#"{"record":"note"}"#), Some(Record::Note));
    }

    proptest! {
        /// Whatever callers and providers say, it is read as it was written, and the mark's first byte stands nowhere
        /// but at the beginning.
        #[test]
        fn what_is_written_is_read(
            ids in any::<[u128; 2]>(), numbers in any::<[u64; 9]>(), small in any::<(u32, u16, bool, bool)>(),
            texts in proptest::collection::vec(".{0,80}", 4),
        ) {
            let text = |n: usize| Cow::from(&*texts[n]);
            let (number, status, one, other) = small;
            let intent = Intent {
                attempt: Id(ids[0]), request: Id(ids[1]), at: numbers[0], number, key: text(0),
                project: one.then(|| text(1)), target: text(2), stream: other, reserve: numbers[1],
                input_estimate: numbers[2] >> 40, tags: text(3), team: text(1), user: text(2), rates: text(0),
                charge: other.then(|| Charged { reserve: numbers[7], version: text(3), rates: text(2) }.into()),
                ..Intent::default()
            };
            let usage = Usage {
                input: numbers[3], reasoning: numbers[4] >> 50, stated_total: other.then_some(numbers[5]), ..Usage::default()
            };
            let settlement = Settlement {
                attempt: Id(ids[1]), begun: numbers[0], at: numbers[6], outcome: text(0), status, usage: one.then_some(usage),
                estimated: other, cost: numbers[7], charge: one.then_some(numbers[8]), latency_us: numbers[8], losses: text(3), share: text(2),
                ..Settlement::default()
            };
            let bytes = written(|out| intent.write(out));
            prop_assert_eq!(Record::read(&bytes), Some(Record::Intent(intent)));
            prop_assert!(!bytes[1..].contains(&0xff));
            let bytes = written(|out| settlement.write(out));
            prop_assert_eq!(Record::read(&bytes), Some(Record::Settlement(settlement)));
            prop_assert!(!bytes[1..].contains(&0xff));
        }

        #[test]
        fn noise_is_no_crash(noise in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..3) {
            let _ = Record::read(&[MARK, [b"i", b"s", b"n"][kind], &noise].concat());
        }
    }
}
