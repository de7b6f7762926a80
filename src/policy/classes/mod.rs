//! Classes of tasks: which kind of work a prompt asks for, so that rules can give simple work to cheap models and hard work
//! to strong ones.
//!
//! A class is declared by examples, by keywords and by features that are plain to see. A prompt is of the class whose
//! features it has and that it is most like: nearest to one of its examples ([`Vector`]), or with one of its keywords. No
//! model is asked and nothing is learned from calls, so that the same prompt is always of the same class.

mod traits;
mod vector;

pub use traits::{LANGUAGES, has_code, language};
pub use vector::{Vector, Weights};

/// What a keyword in a prompt is worth, where 1 is an example word for word.
const KEYWORD: f32 = 0.75;

/// What an operator declared.
#[derive(Debug)]
pub struct Classes {
    /// Classes are decided, counted and told, and `request.class` stays empty.
    pub shadow: bool,
    /// As many bytes of a prompt as are looked at.
    pub head: usize,
    /// Below this a prompt is of no class.
    least: f32,
    weights: Weights,
    classes: Vec<Class>,
}

#[derive(Debug)]
struct Class {
    name: String,
    examples: Vec<Vector>,
    /// In small letters.
    keywords: Vec<String>,
    features: Features,
}

/// A class as it is written.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub name: String,
    pub examples: Vec<String>,
    pub keywords: Vec<String>,
    pub features: Features,
}

/// What a prompt must have, to be of a class at all; what is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// Estimated tokens of the whole request.
    pub min_tokens: Option<u64>,
    pub max_tokens: Option<u64>,
    pub code: Option<bool>,
    pub tools: Option<bool>,
    /// One of these; empty: any.
    pub languages: Vec<String>,
}

/// A call, as far as its class depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'p> {
    /// How the last thing that the user says begins.
    pub text: &'p str,
    pub tokens: u64,
    pub tools: bool,
}

/// What a prompt is taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// `None`: like no class enough.
    pub class: Option<String>,
    /// Of the best class, whether it is enough or not; 0 to 1.
    pub score: f32,
    /// The class after that.
    pub runner_up: Option<(String, f32)>,
    pub shadow: bool,
}

impl Classes {
    pub fn new(shadow: bool, head: usize, least: f32, declared: Vec<Declared>) -> Classes {
        let weights = Weights::of(declared.iter().flat_map(|class| class.examples.iter().map(String::as_str)));
        let class = |declared: Declared| Class {
            examples: declared.examples.iter().map(|text| Vector::of(text, &weights)).collect(),
            keywords: declared.keywords.iter().map(|word| word.to_lowercase()).collect(),
            name: declared.name,
            features: declared.features,
        };
        let classes = declared.into_iter().map(class).collect();
        Classes { shadow, head, least, weights, classes }
    }

    /// Whether there is a class of that name.
    pub fn has(&self, name: &str) -> bool {
        self.classes.iter().any(|class| class.name == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|class| class.name.as_str())
    }

    pub fn judge(&self, prompt: &Prompt<'_>) -> Judged {
        let seen = Seen::new(prompt, self);
        let mut best: Option<(&Class, f32)> = None;
        let mut next: Option<(&Class, f32)> = None;
        for class in self.classes.iter().filter(|class| seen.has(&class.features)) {
            let score = seen.like(class);
            if best.is_none_or(|(_, other)| score > other) {
                next = best.replace((class, score));
            } else if next.is_none_or(|(_, other)| score > other) {
                next = Some((class, score));
            }
        }
        let enough = best.filter(|(_, score)| *score >= self.least);
        Judged {
            class: enough.map(|(class, _)| class.name.clone()),
            score: best.map_or(0.0, |(_, score)| score),
            runner_up: next.map(|(class, score)| (class.name.clone(), score)),
            shadow: self.shadow,
        }
    }
}

/// A prompt, with what is found out of it once.
struct Seen<'p> {
    prompt: &'p Prompt<'p>,
    small: String,
    vector: Vector,
    code: bool,
    language: Option<&'static str>,
}

impl<'p> Seen<'p> {
    fn new(prompt: &'p Prompt<'p>, classes: &Classes) -> Seen<'p> {
        let any = |wants: fn(&Class) -> bool| classes.classes.iter().any(wants);
        Seen {
            prompt,
            small: if any(|class| !class.keywords.is_empty()) { prompt.text.to_lowercase() } else { String::new() },
            vector: Vector::of(prompt.text, &classes.weights),
            code: any(|class| class.features.code.is_some()) && has_code(prompt.text),
            language: any(|class| !class.features.languages.is_empty()).then(|| language(prompt.text)).flatten(),
        }
    }

    fn has(&self, features: &Features) -> bool {
        features.min_tokens.is_none_or(|least| self.prompt.tokens >= least)
            && features.max_tokens.is_none_or(|most| self.prompt.tokens <= most)
            && features.code.is_none_or(|code| code == self.code)
            && features.tools.is_none_or(|tools| tools == self.prompt.tools)
            && (features.languages.is_empty()
                || self.language.is_some_and(|own| features.languages.iter().any(|other| other == own)))
    }

    /// How much the prompt is like a class whose features it has.
    fn like(&self, class: &Class) -> f32 {
        if class.examples.is_empty() && class.keywords.is_empty() {
            return 1.0;
        }
        let nearest = class.examples.iter().map(|example| self.vector.near(example)).fold(0.0, f32::max);
        let named = class.keywords.iter().any(|word| self.small.contains(word.as_str()));
        if named { nearest.max(KEYWORD) } else { nearest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Classes {
        let declared = |name: &str, examples: &[&str], keywords: &[&str], features: Features| Declared {
            name: name.to_owned(),
            examples: examples.iter().map(|text| (*text).to_owned()).collect(),
            keywords: keywords.iter().map(|text| (*text).to_owned()).collect(),
            features,
        };
        Classes::new(
            false,
            4096,
            0.2,
            vec![
                declared(
                    "code",
                    &[
                        "Fix the bug in this function",
                        "Write a Python script that parses a file",
                        "Why does this test fail?",
                    ],
                    &["stack trace", "Refactor"],
                    Features::default(),
                ),
                declared(
                    "translation",
                    &["Translate this text to French", "How do you say good morning in Spanish?"],
                    &[],
                    Features { max_tokens: Some(2_000), ..Features::default() },
                ),
                declared("agent", &[], &[], Features { tools: Some(true), ..Features::default() }),
                declared("german", &[], &["gedicht"], Features { languages: vec!["de".into()], ..Features::default() }),
            ],
        )
    }

    fn judge(text: &str, tokens: u64, tools: bool) -> Judged {
        classes().judge(&Prompt { text, tokens, tools })
    }

    #[test]
    fn prompts_are_of_the_class_they_are_most_like() {
        for (text, class) in [
            ("Please translate the following text to German: good night", Some("translation")),
            ("Can you fix the bug in my parser function?", Some("code")),
            ("I have this STACK TRACE from production", Some("code")),
            ("Schreib mir bitte ein Gedicht und mach es kurz, das ist wichtig", Some("german")),
            ("zzz qqq", None),
            ("", None),
        ] {
            let judged = judge(text, 50, false);
            assert_eq!(judged.class.as_deref(), class, "{text}: {judged:?}");
        }
        let judged = judge("What is a gedicht in the English of the time, and how is it with you?", 50, false);
        assert_ne!(judged.class.as_deref(), Some("german"), "in another language");
        let judged = judge("Please translate the following text to German: good night", 50, false);
        assert!(
            judged.score > 0.2
                && judged.runner_up.as_ref().is_some_and(|(name, score)| name == "code" && *score < judged.score)
        );
    }

    #[test]
    fn features_come_first() {
        let text = "Please translate the following text to German: good night";
        assert_eq!(judge(text, 50, true).class.as_deref(), Some("agent"), "features alone are met whole");
        assert_ne!(judge(text, 5_000, false).class.as_deref(), Some("translation"), "too long for it");
    }

    #[test]
    fn the_same_prompt_is_always_of_the_same_class() {
        let text = "Summarize the meeting and list what is to be done";
        assert_eq!(judge(text, 10, false), judge(text, 10, false));
    }
}
