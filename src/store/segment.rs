//! The bytes of a journal segment: records one after another, each checked on its own.
//!
//! A record is `length u32 LE`, `crc32 u32 LE` of the payload, payload. No payload is empty, so a page of zeros is not
//! a row of valid records. Every payload begins with a mark that stands nowhere else in it, and a reader that has lost
//! its place finds the next record by that ([`record`](crate::exchange::record) has the payloads).
//!
//! Earlier versions wrote JSON. Their segments have another name, so that the one form's mark is never looked for among
//! the other's bytes, and so that an earlier version leaves alone what it could not read.

use memchr::memmem;

use crate::exchange::record::{JSON_MARK, MARK};

/// Bytes before a payload.
pub const HEADER: usize = 8;
/// Largest payload. What is larger is refused when written, and damage when read.
pub const MOST: usize = 1 << 20;
/// What the names of segments end in.
pub const SUFFIX: &str = ".records";
const JSON_SUFFIX: &str = ".segment";

/// How the payloads of a segment are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Terse,
    Json,
}

impl Form {
    /// A segment's name without its ending, and what the ending says. Other names are none of ours.
    pub fn of(name: &str) -> Option<(&str, Form)> {
        let json = || name.strip_suffix(JSON_SUFFIX).map(|stem| (stem, Form::Json));
        name.strip_suffix(SUFFIX).map(|stem| (stem, Form::Terse)).or_else(json)
    }

    fn mark(self) -> &'static [u8] {
        match self {
            Form::Terse => MARK,
            Form::Json => JSON_MARK,
        }
    }
}

/// Appends one record; `payload` writes what begins with [`MARK`], as
/// [`Intent::write`](crate::exchange::record::Intent::write) does.
pub fn record(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    payload(out);
    let Some((header, payload)) = out.get_mut(start..).and_then(|all| all.split_first_chunk_mut::<HEADER>()) else {
        return;
    };
    // Past 4 GiB the length is a lie, but past MOST the record is refused anyway.
    let [l0, l1, l2, l3] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let [c0, c1, c2, c3] = crc32fast::hash(payload).to_le_bytes();
    *header = [l0, l1, l2, l3, c0, c1, c2, c3];
}

/// What stands at the beginning of a window of bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'w> {
    /// A whole record, and how many bytes it takes with its header.
    Record { payload: &'w [u8], size: usize },
    /// So many bytes are no record; what follows them may be one, or is the end of the window.
    Damage { size: usize },
    /// The window ends within what looks like a record (or is empty).
    Unfinished,
}

/// Looks at the beginning of `window`. `last`: no bytes will ever follow it. A window that is not the last one should
/// hold at least [`HEADER`] + [`MOST`] bytes, else the walk may not advance.
pub fn step(window: &[u8], form: Form, last: bool) -> Step<'_> {
    match head(window, form) {
        Head::Whole { payload, size } => Step::Record { payload, size },
        Head::Cut if !last => Step::Unfinished,
        // A length that reaches past the end is either a torn tail or a damaged length with whole records behind it.
        Head::Cut => match resume(window, form, true) {
            Some(size) => Step::Damage { size },
            None => Step::Unfinished,
        },
        Head::Bad => match resume(window, form, last) {
            Some(size) => Step::Damage { size },
            None if last => Step::Damage { size: window.len() },
            // A mark may begin in this window and end in the next one: its header is kept too.
            None => Step::Damage { size: window.len().saturating_sub(HEADER + form.mark().len()).max(1) },
        },
    }
}

enum Head<'w> {
    Whole { payload: &'w [u8], size: usize },
    Cut,
    Bad,
}

fn head(window: &[u8], form: Form) -> Head<'_> {
    let Some((header, rest)) = window.split_first_chunk::<HEADER>() else { return Head::Cut };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    let size = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if size < form.mark().len() || size > MOST {
        return Head::Bad;
    }
    let Some(payload) = rest.get(..size) else { return Head::Cut };
    if crc32fast::hash(payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Head::Bad;
    }
    Head::Whole { payload, size: HEADER + size }
}

/// Where, past the beginning, the next whole record starts. A record cut by the end of the window counts unless
/// nothing follows.
fn resume(window: &[u8], form: Form, last: bool) -> Option<usize> {
    let search = window.get(1 + HEADER..)?;
    let mut starts = memmem::find_iter(search, form.mark()).map(|at| at + 1);
    starts.find(|&start| match window.get(start..).map(|rest| head(rest, form)) {
        Some(Head::Whole { .. }) => true,
        Some(Head::Cut) => !last,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::record::{Id, Intent, NOTE, Record, Settlement};
    use crate::ir::Usage;

    fn some_intent(n: u64) -> Intent<'static> {
        Intent {
            attempt: Id(u128::from(n)),
            request: Id(0),
            at: n,
            number: 2,
            key: "dev \"1\"\n{\"record\":\"".into(),
            project: Some("é".into()),
            asked: "gpt-5".into(),
            model: "claude".into(),
            provider: "anthropic".into(),
            target: "anthropic/claude".into(),
            stream: true,
            price_version: "2026-11".into(),
            reserve: u64::MAX,
            input_estimate: 7,
            config_version: "abc".into(),
            tags: r#"{"a":"b"}"#.into(),
            team: "t".into(),
            rates: r#"{"input":1}"#.into(),
            ..Intent::default()
        }
    }

    fn some_settlement(n: u64) -> Settlement<'static> {
        Settlement {
            charge: None,
            attempt: Id(u128::from(n)),
            begun: n,
            at: n + 1,
            outcome: "ok".into(),
            status: 200,
            usage: Some(Usage {
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
            }),
            estimated: true,
            cost: 13,
            unpriced: true,
            latency_us: 14,
            ttft_us: 15,
            served: true,
            losses: "dropped:seed".into(),
            share: "split 2".into(),
        }
    }

    /// Walks whole bytes as a reader does; the records' ids, the damaged bytes, and what is unfinished at the end.
    fn walk(bytes: &[u8]) -> (Vec<Record<'_>>, usize, usize) {
        let (mut records, mut damaged, mut rest) = (Vec::new(), 0, bytes);
        loop {
            match step(rest, Form::Terse, true) {
                Step::Record { payload, size } => {
                    records.push(Record::read(payload).unwrap());
                    rest = &rest[size..];
                }
                Step::Damage { size } => {
                    damaged += size;
                    rest = &rest[size..];
                }
                Step::Unfinished => return (records, damaged, rest.len()),
            }
        }
    }

    fn three() -> (Vec<u8>, Vec<Record<'static>>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        record(&mut bytes, |out| some_intent(1).write(out));
        ends.push(bytes.len());
        record(&mut bytes, |out| some_settlement(1).write(out));
        ends.push(bytes.len());
        record(&mut bytes, |out| Settlement { attempt: Id(5), ..Settlement::default() }.write(out));
        ends.push(bytes.len());
        let records = vec![
            Record::Intent(some_intent(1)),
            Record::Settlement(some_settlement(1)),
            Record::Settlement(Settlement { attempt: Id(5), ..Settlement::default() }),
        ];
        (bytes, records, ends)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, records, _) = three();
        assert_eq!(walk(&bytes), (records, 0, 0));
        let mut note = Vec::new();
        record(&mut note, |out| out.extend_from_slice(NOTE));
        assert_eq!(step(&note, Form::Terse, true), Step::Record { payload: NOTE, size: note.len() });
    }

    #[test]
    fn every_torn_tail_leaves_the_records_before_it() {
        let (bytes, records, ends) = three();
        for length in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count() - 1;
            let (found, damaged, torn) = walk(&bytes[..length]);
            assert_eq!(found, records[..whole], "cut at {length}");
            assert_eq!((damaged, torn), (0, length - ends[whole]), "cut at {length}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_costs_one_record() {
        let (bytes, records, ends) = three();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|end| **end <= bit / 8).count() - 1;
            let mut left = records.clone();
            left.remove(hit);
            let (found, damaged, torn) = walk(&bytes);
            assert_eq!(found, left, "bit {bit}");
            assert_eq!(damaged + torn, ends[hit + 1] - ends[hit], "bit {bit}: the loss is counted");
        }
    }

    #[test]
    fn a_page_of_zeros_is_damage() {
        let (mut bytes, records, _) = three();
        let tail = bytes.clone();
        bytes.extend_from_slice(&[0; 4096]);
        bytes.extend_from_slice(&tail);
        let (found, damaged, torn) = walk(&bytes);
        assert_eq!((found.len(), damaged, torn), (6, 4096, 0));
        assert_eq!(found[..3], records);
        bytes.truncate(tail.len() + 4096);
        assert_eq!(walk(&bytes), (records, 4096, 0), "zeros at the end, as a power cut leaves them");
    }

    #[test]
    fn windows_of_any_size_see_the_same() {
        let (three, _, _) = three();
        let mut bytes = three.clone();
        bytes.extend_from_slice(&[b'{'; 300]);
        bytes.extend_from_slice(&three);
        for window in 600..bytes.len() {
            let (mut at, mut found) = (0, 0);
            while at < bytes.len() {
                let end = (at + window).min(bytes.len());
                match step(&bytes[at..end], Form::Terse, end == bytes.len()) {
                    Step::Record { size, .. } => {
                        found += 1;
                        at += size;
                    }
                    Step::Damage { size } => at += size,
                    Step::Unfinished => panic!("window {window} does not advance at {at}"),
                }
            }
            assert_eq!(found, 6, "window {window}");
        }
    }

    proptest! {
        /// Whatever happens to the bytes from one place on, nothing is read that was not written, and nothing before
        /// that place is lost.
        #[test]
        fn damage_never_invents(at in 0usize..2000, noise in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (bytes, records, ends) = three();
            let at = at % bytes.len();
            let mut bad = bytes[..at].to_vec();
            bad.extend_from_slice(&noise);
            bad.extend_from_slice(bytes.get(at + noise.len()..).unwrap_or_default());
            let whole = ends.iter().filter(|end| **end <= at).count() - 1;
            let (found, _, _) = walk(&bad);
            prop_assert_eq!(&found[..whole], &records[..whole]);
            prop_assert!(found.iter().all(|record| records.contains(record)));
        }
    }
}
