//! What is plain to see of a text: is it code, and in which language is it.

use super::vector::words;

/// Languages that are told apart, by their codes (ISO 639-1).
pub const LANGUAGES: [&str; 13] = ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pt", "ru", "zh"];

/// Words that only hold sentences together, by language: what most sentences have some of.
const COMMON: [(&str, &[&str]); 7] = [
    ("de", &["der", "die", "das", "und", "ist", "nicht", "ein", "eine", "ich", "mit", "für", "auf", "bitte", "wie"]),
    ("en", &["the", "and", "is", "of", "to", "in", "for", "with", "this", "that", "what", "how", "please", "you"]),
    ("es", &["el", "los", "las", "y", "es", "de", "que", "en", "por", "para", "con", "una", "cómo", "favor"]),
    ("fr", &["le", "les", "et", "est", "une", "des", "du", "que", "pour", "dans", "avec", "sur", "vous", "quel"]),
    ("it", &["il", "gli", "che", "è", "di", "per", "una", "con", "sono", "della", "come", "questo", "nel", "non"]),
    ("nl", &["de", "het", "een", "en", "van", "is", "niet", "dat", "voor", "met", "op", "zijn", "hoe", "wat"]),
    ("pt", &["o", "os", "e", "é", "de", "que", "em", "para", "com", "uma", "não", "por", "como", "você"]),
];
/// Signs that code is full of and sentences are not.
const SIGNS: &[char] = &['{', '}', '[', ']', '(', ')', ';', '=', '<', '>', '_', '#', '$', '|'];

/// The language of a text; nothing where too little speaks for one.
pub fn language(text: &str) -> Option<&'static str> {
    let (mut letters, mut scripts) = (0usize, [0usize; 6]);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        let [kana, hangul, han, cyrillic, arabic, devanagari] = &mut scripts;
        match c {
            '\u{3040}'..='\u{30ff}' => *kana += 1,
            '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' => *hangul += 1,
            '\u{2e80}'..='\u{2fdf}' | '\u{3400}'..='\u{9fff}' => *han += 1,
            '\u{400}'..='\u{52f}' => *cyrillic += 1,
            '\u{600}'..='\u{6ff}' => *arabic += 1,
            '\u{900}'..='\u{97f}' => *devanagari += 1,
            _ => {}
        }
    }
    let [kana, hangul, han, cyrillic, arabic, devanagari] = scripts;
    // Japanese is written with signs of Chinese between its own.
    let most = [
        ("ja", if kana > 0 { kana + han } else { 0 }),
        ("ko", hangul),
        ("zh", if kana > 0 { 0 } else { han }),
        ("ru", cyrillic),
        ("ar", arabic),
        ("hi", devanagari),
    ];
    if let Some((code, _)) = most.into_iter().find(|(_, count)| *count * 3 > letters) {
        return Some(code);
    }
    let (mut total, mut found) = (0usize, [0usize; COMMON.len()]);
    words(text, &mut |word| {
        total += 1;
        for (found, (_, common)) in found.iter_mut().zip(COMMON) {
            *found += usize::from(common.contains(&word));
        }
    });
    let (best, code) = found.into_iter().zip(COMMON.map(|(code, _)| code)).max_by_key(|(count, _)| *count)?;
    let alone = found.iter().filter(|count| **count == best).count() == 1;
    (best > 0 && alone && best * 20 >= total).then_some(code)
}

/// Whether there is code in a text.
pub fn has_code(text: &str) -> bool {
    if text.contains("```") {
        return true;
    }
    let (mut signs, mut all) = (0usize, 0usize);
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        all += 1;
        signs += usize::from(SIGNS.contains(&c));
    }
    signs >= 8 && signs * 16 >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        for (text, code) in [
            ("Please summarize this text for me", Some("en")),
            ("Fasse bitte den Text zusammen und schreibe eine Überschrift", Some("de")),
            ("Résume le texte pour les lecteurs et donne une idée", Some("fr")),
            ("¿Cómo funciona el motor y por qué es caro?", Some("es")),
            ("この文章を要約してください", Some("ja")),
            ("请总结这段文字", Some("zh")),
            ("이 글을 요약해 주세요", Some("ko")),
            ("Кратко изложи этот текст", Some("ru")),
            ("لخص هذا النص", Some("ar")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(language(text), code, "{text}");
        }
        assert!(COMMON.iter().all(|(code, _)| LANGUAGES.contains(code)));
    }

    #[test]
    fn code_is_seen() {
        assert!(has_code("Why is this slow?\n```\nSELECT 1\n```"));
        assert!(has_code("fn main() { let x = vec![1, 2]; println!(\"{x:?}\"); }"));
        assert!(!has_code("What (in your view) is the best way to learn a language?"));
    }
}
