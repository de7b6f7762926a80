//! A text as a point: its words, pairs of words and letters, hashed into so many dimensions, so that texts of one kind lie
//! near each other (Weinberger and others, "Feature Hashing for Large Scale Multitask Learning", 2009).
//!
//! Cheap on purpose: one pass, no dictionary, nothing learned but how common a dimension is among the examples.

use crate::policy::route::affinity::Hash;

/// Dimensions.
const SIZE: usize = 512;
/// Letters in a row.
const LETTERS: usize = 3;
/// Longest word that is looked at; what is longer is no word.
const WORD: usize = 64;

/// A text's point, of length 1, or 0 for a text that says nothing.
#[derive(Clone, Debug)]
pub struct Vector(Box<[f32; SIZE]>);

/// What each dimension counts: those that all examples have tell little.
#[derive(Clone, Debug)]
pub struct Weights(Box<[f32; SIZE]>);

impl Weights {
    pub fn of<'t>(examples: impl Iterator<Item = &'t str>) -> Weights {
        let mut seen = [0u32; SIZE];
        let mut count = 0u32;
        for example in examples {
            count += 1;
            for (seen, value) in seen.iter_mut().zip(counts(example).iter()) {
                *seen += u32::from(*value != 0.0);
            }
        }
        let weight = |seen: u32| (1.0 + count as f32 / (1.0 + seen as f32)).ln();
        let mut weights = Box::new([1.0; SIZE]);
        for (weighed, seen) in weights.iter_mut().zip(seen) {
            *weighed = weight(seen);
        }
        Weights(weights)
    }
}

impl Vector {
    pub fn of(text: &str, weights: &Weights) -> Vector {
        let mut values = counts(text);
        for (value, weight) in values.iter_mut().zip(weights.0.iter()) {
            // A word that is said ten times does not mean ten times as much.
            *value = value.signum() * value.abs().sqrt() * weight;
        }
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            values.iter_mut().for_each(|value| *value /= length);
        }
        Vector(values)
    }

    /// How near two texts are: 0 for nothing in common, 1 for the same.
    pub fn near(&self, other: &Vector) -> f32 {
        let sum: f32 = self.0.iter().zip(other.0.iter()).map(|(one, other)| one * other).sum();
        sum.clamp(0.0, 1.0)
    }
}

fn counts(text: &str) -> Box<[f32; SIZE]> {
    let mut values = Box::new([0.0; SIZE]);
    let mut add = |hash: Hash, by: f32| {
        let hash = hash.finish();
        let place = usize::try_from(hash % SIZE as u64).unwrap_or(0);
        // Half of them count downwards: what shares a dimension by chance cancels out.
        let signed = if hash >> 63 == 0 { by } else { -by };
        if let Some(value) = values.get_mut(place) {
            *value += signed;
        }
    };
    let mut before = Hash::default();
    words(text, &mut |word| {
        let own = Hash::default().with(word.as_bytes());
        add(own, 1.0);
        add(before.with(b" ").with(word.as_bytes()), 0.5);
        before = own;
        let bytes = word.as_bytes();
        if bytes.len() > LETTERS {
            bytes.windows(LETTERS).for_each(|letters| add(Hash::default().with(b"~").with(letters), 0.25));
        }
    });
    values
}

/// Words in small letters; signs of scripts without spaces stand for words.
pub(super) fn words(text: &str, each: &mut dyn FnMut(&str)) {
    let mut word = String::with_capacity(WORD);
    for c in text.chars() {
        let dense = ('\u{2e80}'..='\u{9fff}').contains(&c) || ('\u{ac00}'..='\u{d7af}').contains(&c);
        if c.is_alphanumeric() && !dense {
            if word.len() < WORD {
                word.extend(c.to_lowercase());
            }
            continue;
        }
        if !word.is_empty() {
            each(&word);
            word.clear();
        }
        if dense {
            word.push(c);
            each(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        each(&word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_kind_are_near() {
        let examples = ["Translate this text to French", "Fix the bug in this function", "Write a poem about the sea"];
        let weights = Weights::of(examples.into_iter());
        let of = |text: &str| Vector::of(text, &weights);
        let [translate, fix, poem] = examples.map(of);
        let asked = of("Please translate the following to German: hello");
        assert!(asked.near(&translate) > asked.near(&fix) && asked.near(&translate) > asked.near(&poem));
        assert!((translate.near(&translate) - 1.0).abs() < 1e-4);
        assert_eq!(of("").near(&translate), 0.0);
    }

    #[test]
    fn words_are_those_of_any_script() {
        let mut found = Vec::new();
        words("Größe, 日本 x2!", &mut |word| found.push(word.to_owned()));
        assert_eq!(found, ["größe", "日", "本", "x2"]);
    }
}
