//! Classes of tasks as they are written, made ready for prompts.

use crate::policy::classes::{Classes, Declared, Features, LANGUAGES};

use super::build::Build;
use super::file;
use super::problem::{Route, did_you_mean};
use super::providers::is_id;

/// Most examples of all classes: each is compared with each prompt.
const MOST_EXAMPLES: usize = 512;
/// Longest example and longest keyword.
const LONGEST: usize = 16 << 10;
/// Bounds of what is looked at of a prompt.
const HEAD: (usize, usize, usize) = (64, 4 << 10, 64 << 10);

impl Build<'_> {
    /// The classes; nothing where none are written.
    pub(super) fn classes(&mut self, written: Option<&file::Classes>) -> Option<Classes> {
        let written = written?;
        let route = Route::default().key("classes");
        let named = route.key("named");
        if written.named.is_empty() {
            self.wrong(&named, "write at least one class, with examples, keywords or features");
        }
        let least = written.least.map_or(0.25, |least| (least.0 as f64 / 1e9) as f32);
        if least > 1.0 {
            self.wrong(&route.key("least"), "write 0 to 1");
        }
        let (small, usual, large) = HEAD;
        let head = written.head.map_or(usual, |size| size.0);
        if !(small..=large).contains(&head) {
            self.wrong(&route.key("head"), "write 64B to 64KiB");
        }
        let examples: usize = written.named.values().map(|class| class.examples.len()).sum();
        if examples > MOST_EXAMPLES {
            self.wrong(&named, format!("more than {MOST_EXAMPLES} examples: keep those that differ"));
        }
        let declared = written.named.iter().map(|(name, class)| self.class(name, class, &named.key(name))).collect();
        Some(Classes::new(matches!(written.mode, file::Mode::Shadow), head, least, declared))
    }

    fn class(&mut self, name: &str, class: &file::Class, route: &Route) -> Declared {
        if !is_id(name) {
            self.wrong(route, "a class's name is 1 to 64 letters, digits, dots, hyphens and underscores");
        }
        for (field, texts) in [("examples", &class.examples), ("keywords", &class.keywords)] {
            for (number, text) in texts.iter().enumerate() {
                if text.trim().is_empty() || text.len() > LONGEST {
                    self.wrong(&route.key(field).index(number), "write 1 byte to 16 KiB of text");
                }
            }
        }
        for (number, language) in class.languages.iter().enumerate() {
            if !LANGUAGES.contains(&language.as_str()) {
                let hint = did_you_mean(language, LANGUAGES);
                let message = format!("languages that are told apart are {}.{hint}", LANGUAGES.join(", "));
                self.wrong(&route.key("languages").index(number), message);
            }
        }
        if class.min_tokens.zip(class.max_tokens).is_some_and(|(least, most)| least > most) {
            self.wrong(&route.key("min_tokens"), "more than max_tokens: no request could be of this class");
        }
        let features = Features {
            min_tokens: class.min_tokens,
            max_tokens: class.max_tokens,
            code: class.code,
            tools: class.tools,
            languages: class.languages.clone(),
        };
        let plain = class.min_tokens.or(class.max_tokens).is_none()
            && class.code.or(class.tools).is_none()
            && class.languages.is_empty();
        if plain && class.examples.is_empty() && class.keywords.is_empty() {
            self.wrong(route, "every prompt would be of this class: add examples, keywords or features");
        }
        let (examples, keywords) = (class.examples.clone(), class.keywords.clone());
        Declared { name: name.to_owned(), examples, keywords, features }
    }

    /// Conditions go by classes that exist.
    pub(super) fn named_classes(&mut self, classes: Option<&Classes>, named: &[String], route: &Route) {
        for name in named {
            match classes {
                Some(classes) if name.is_empty() || classes.has(name) => {}
                Some(classes) => {
                    let hint = did_you_mean(name, classes.names());
                    self.wrong(route, format!("no class is called `{name}`: add it under `classes.named`.{hint}"));
                }
                None => {
                    self.wrong(route, "no classes are written: add `classes`, or take `request.class` out");
                    return;
                }
            }
        }
    }
}
