//! `options`: how a model runs and draws, in Ollama's names.
//!
//! Callers of other dialects reach what only Ollama has by its own names, as members of their request: `options` as a
//! whole, or one of [`LOOSE`] by itself. What the caller said in his own dialect goes before.

use super::wire::says;
use crate::dialect::To;
use crate::ir::{Losses, Request};
use crate::shape;
use crate::wire::json::{Extras, Kind, Number, Raw};
use crate::wire::writer::{self, Object};

/// Options that are taken from the top level of any caller's request ("Modelfile", "Valid Parameters and Values").
pub(super) const LOOSE: [&str; 11] = [
    "num_ctx",
    "num_keep",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "penalize_newline",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "tfs_z",
];

shape! {
    /// Any object: all its members, in order.
    struct Bag {}
}

/// Writes `options`, unless there are none.
pub(super) fn write(request: &Request<'_>, to: &To<'_>, o: &mut Object<'_>, losses: &mut Losses) {
    let mut out = Vec::new();
    let mut empty = true;
    writer::object(&mut out, |o| {
        let mut options = Options { to, losses, o, written: Vec::new() };
        options.said(request);
        options.given(&request.extras);
        empty = options.o.is_empty();
    });
    if !empty {
        o.value("options").extend_from_slice(&out);
    }
}

/// Whether a member of a request is an option, or holds them.
pub(super) fn takes(name: &str) -> bool {
    name == "options" || LOOSE.contains(&name)
}

struct Options<'c, 'w> {
    to: &'c To<'c>,
    losses: &'c mut Losses,
    o: &'c mut Object<'w>,
    /// Names that are there.
    written: Vec<String>,
}

impl Options<'_, '_> {
    /// What the IR has words for.
    fn said(&mut self, request: &Request<'_>) {
        let sampling = &request.sampling;
        for (name, number) in [
            ("temperature", &sampling.temperature),
            ("top_p", &sampling.top_p),
            ("top_k", &sampling.top_k),
            ("seed", &sampling.seed),
            ("frequency_penalty", &sampling.frequency_penalty),
            ("presence_penalty", &sampling.presence_penalty),
        ] {
            if let Some(number) = number {
                self.number(name, name, number);
            }
        }
        if let Some(most) = request.max_tokens {
            self.number("num_predict", "max_tokens", &Number::from(most));
        }
        if !request.stop.is_empty() && self.member("stop", "stop") {
            self.o.array("stop", |a| request.stop.iter().for_each(|stop| a.string(stop)));
        }
    }

    /// What the caller gave in Ollama's names.
    fn given(&mut self, extras: &Extras<'_>) {
        if let Some(raw) = extras.get("options") {
            match raw.read::<Bag<'_>>() {
                Ok(bag) if raw.kind() == Kind::Object => {
                    for (name, json) in bag.extras.iter() {
                        self.raw(name, &format!("options.{name}"), json);
                    }
                }
                _ => self.losses.dropped("options"),
            }
        }
        for (name, json) in extras.iter().filter(|(name, json)| LOOSE.contains(name) && says(json)) {
            self.raw(name, name, json);
        }
    }

    fn number(&mut self, name: &str, caller: &str, number: &Number<'_>) {
        if self.member(name, caller) {
            self.o.digits(name, number);
        }
    }

    fn raw(&mut self, name: &str, caller: &str, json: &Raw<'_>) {
        if self.member(name, caller) {
            self.o.raw(name, json);
        }
    }

    /// Whether an option is to be written; where it is not, the caller is told by the name that he gave it.
    fn member(&mut self, name: &str, caller: &str) -> bool {
        let refused = self.to.quirks.refuses.iter().any(|refused| refused == name || refused == caller);
        if refused || self.written.iter().any(|written| written == name) {
            self.losses.dropped(caller.to_owned());
            return false;
        }
        self.written.push(name.to_owned());
        true
    }
}
