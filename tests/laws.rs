//! The laws of the fuzz targets (`tests/fuzz`), over the project's own cases and over what a few blows make of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "fuzz/src/lib.rs"]
mod laws;

use std::fs;
use std::path::{Path, PathBuf};

use portolan::dialect::DIALECTS;

/// Blows for each case: more takes longer, and finds more (`make fuzz` never tires).
const BLOWS: u64 = 20;

/// All cases of a dialect, those of its inbound side too.
fn cases(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cases(&path, found);
        } else if path.parent().is_some_and(|parent| parent.ends_with("cases")) {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
}

/// Damages a text as transport, providers and ill will do: bytes flipped, cut out, doubled, and put elsewhere.
fn strike(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    const WORDS: [&[u8]; 14] = [
        b"null",
        b"{}",
        b"[]",
        b"\"\"",
        b"-1",
        b"1e99",
        b"true",
        b"\\ud800",
        b"\n",
        b"\r\n\r\n",
        b"\xff",
        b",",
        b"}",
        b"\"",
    ];
    for _ in 0..=random.u8(..3) {
        let at = random.usize(..=bytes.len());
        match random.u8(..4) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
            1 => drop(bytes.drain(at..(at + random.usize(..40)).min(bytes.len()))),
            2 => {
                let piece = bytes.get(at..(at + random.usize(..60)).min(bytes.len())).unwrap_or_default().to_vec();
                bytes.splice(at..at, piece);
            }
            _ => drop(bytes.splice(at..at, WORDS[random.usize(..WORDS.len())].iter().copied())),
        }
    }
}

fn values(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    // A value in the place of another: sound JSON of the wrong type, which blows seldom make.
    let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return bytes.to_vec() };
    let mut places = Vec::new();
    walk(&json, String::new(), &mut places);
    let place = places[random.usize(..places.len())].clone();
    let other = json.pointer(&places[random.usize(..places.len())]).cloned().unwrap_or_default();
    if let Some(value) = json.pointer_mut(&place) {
        *value = match random.u8(..6) {
            0 => serde_json::Value::Null,
            1 => 5.into(),
            2 => "".into(),
            3 => serde_json::json!([]),
            4 => serde_json::json!({}),
            _ => other,
        };
    }
    json.to_string().into_bytes()
}

fn walk(json: &serde_json::Value, place: String, places: &mut Vec<String>) {
    match json {
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| walk(item, format!("{place}/{n}"), places));
        }
        serde_json::Value::Object(members) => members.iter().for_each(|(name, value)| {
            walk(value, format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), places);
        }),
        _ => {}
    }
    places.push(place);
}

#[test]
fn the_laws_hold_for_all_cases_and_for_damaged_ones() {
    let mut broken = Vec::new();
    for dialect in DIALECTS {
        let mut all = Vec::new();
        cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect").join(dialect.name), &mut all);
        assert!(!all.is_empty(), "{}", dialect.name);
        all.sort();
        for (path, case) in all {
            // Small cases are struck as often as large ones take time.
            let mut random = fastrand::Rng::with_seed(7);
            for blow in 0..BLOWS {
                let mut input = case.clone();
                match blow {
                    0 => {}
                    _ if blow % 2 == 1 => input = values(&case, &mut random),
                    _ => strike(&mut input, &mut random),
                }
                if std::panic::catch_unwind(|| laws::dialect(dialect.name, &input)).is_err() {
                    let shown = String::from_utf8_lossy(&input).into_owned();
                    broken.push(format!("{} ({}), blow {blow}: {shown}", path.display(), dialect.name));
                    break;
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}
