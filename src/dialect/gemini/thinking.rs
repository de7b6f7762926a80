//! What a model's name tells of how it thinks, and the wish to think in its terms.
//!
//! Gemini 2.5 takes a budget in tokens, Gemini 3 and later a level; one request may not have both (Gemini API,
//! "Thinking", and Vertex AI, "Thinking", seen 2026-11-21). A name without a number is read as the newest when it says
//! `latest`; of any other nothing is known, and budgets are taken everywhere.

use crate::ir::{Effort, Losses, ReasoningWish};
use crate::wire::writer::Object;

/// The version in a model's name: `gemini-2.5-pro` is (2, 5), `gemini-3-flash-preview` is (3, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model<'m> {
    name: &'m str,
    version: Option<(u32, u32)>,
}

impl<'m> Model<'m> {
    pub(super) fn of(name: &'m str) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name);
        let version = name.split_once("gemini-").and_then(|(_, rest)| version(rest));
        Model { name, version }
    }

    /// Whether it is of this version or later; `unknown` for a name that does not tell.
    pub(super) fn since(self, version: (u32, u32), unknown: bool) -> bool {
        self.version.map_or(unknown, |known| known >= version)
    }

    /// Whether it thinks in levels, checks the signatures of calls, and takes media in function responses.
    pub(super) fn is_third(self) -> bool {
        self.since((3, 0), false)
    }

    fn says(self, word: &str) -> bool {
        self.name.split('-').any(|part| part == word)
    }
}

fn version(rest: &str) -> Option<(u32, u32)> {
    let first = rest.split('-').next().unwrap_or(rest);
    if let Some((major, minor)) = first.split_once('.') {
        return Some((major.parse().ok()?, minor.parse().ok()?));
    }
    match first.parse() {
        Ok(major) => Some((major, 0)),
        Err(_) if rest.ends_with("latest") => Some((u32::MAX, 0)),
        Err(_) => None,
    }
}

/// The levels that a model has, lowest first.
fn levels(model: Model<'_>) -> &'static [(Effort, &'static str)] {
    const ALL: [(Effort, &str); 4] =
        [(Effort::Minimal, "MINIMAL"), (Effort::Low, "LOW"), (Effort::Medium, "MEDIUM"), (Effort::High, "HIGH")];
    const NO_MINIMAL: [(Effort, &str); 3] = [ALL[1], ALL[2], ALL[3]];
    const ENDS: [(Effort, &str); 2] = [ALL[1], ALL[3]];
    match model.version {
        Some((3, 0)) if model.says("pro") => &ENDS,
        _ if model.says("lite") => &ALL,
        // Vertex AI's table gives Flash 3.7 and 3.8 no `MINIMAL`.
        Some((3, minor)) if model.says("flash") && minor < 7 => &ALL,
        _ => &NO_MINIMAL,
    }
}

/// Writes the members of `thinkingConfig` as a caller of this dialect had them: he knows what his model takes.
pub(super) fn write_own(wish: &ReasoningWish<'_>, o: &mut Object<'_>) {
    match wish.budget {
        Some(tokens) => o.number("thinkingBudget", tokens),
        None if wish.adaptive => o.value("thinkingBudget").extend_from_slice(b"-1"),
        None => {}
    }
    if let Some(effort) = wish.effort {
        o.string("thinkingLevel", &effort.name().to_ascii_uppercase());
    }
    if let Some(show) = wish.show {
        o.bool("includeThoughts", show);
    }
}

/// Writes `thinkingConfig`, if the wish needs one.
pub(super) fn write(wish: &ReasoningWish<'_>, model: Model<'_>, losses: &mut Losses, o: &mut Object<'_>) {
    let asked = wish.effort.is_some() || wish.budget.is_some() || wish.adaptive;
    if !model.since((2, 5), true) {
        if asked {
            losses.dropped(path(wish));
        }
        if wish.show.is_some() || wish.summary.is_some() {
            losses.dropped("reasoning");
        }
        return;
    }
    if !asked && wish.show.is_none() && wish.summary.is_none() {
        return;
    }
    if wish.summary.as_deref().is_some_and(|kind| kind != "auto") {
        losses.altered("reasoning.summary");
    }
    let none = wish.effort == Some(Effort::None) || (wish.effort.is_none() && wish.budget == Some(0));
    o.object("thinkingConfig", |o| {
        if model.is_third() {
            level(wish, none, model, losses, o);
        } else {
            budget(wish, none, model, losses, o);
        }
        o.bool("includeThoughts", wish.show.unwrap_or(!none));
    });
}

fn level(wish: &ReasoningWish<'_>, none: bool, model: Model<'_>, losses: &mut Losses, o: &mut Object<'_>) {
    let effort = match (wish.effort, wish.budget) {
        _ if none => Effort::None,
        (Some(effort), _) => effort,
        // The model decides by itself where no level is set.
        (None, _) if wish.adaptive => return,
        (None, Some(tokens)) => Effort::from_budget(tokens),
        (None, None) => return,
    };
    let levels = levels(model);
    let Some((has, word)) = levels.iter().find(|(level, _)| *level >= effort).or(levels.last()) else { return };
    o.string("thinkingLevel", word);
    if *has != effort || wish.effort.is_none() {
        losses.altered(path(wish));
    }
}

fn budget(wish: &ReasoningWish<'_>, none: bool, model: Model<'_>, losses: &mut Losses, o: &mut Object<'_>) {
    // Pro cannot be kept from thinking, and Flash-Lite thinks either not at all or for a while.
    let (least, most) = match () {
        () if model.says("lite") => (512, 24_576),
        () if model.says("flash") => (1, 24_576),
        () => (128, 32_768),
    };
    let can_stop = model.says("flash");
    let tokens = match (wish.budget, wish.effort) {
        _ if none => 0,
        (Some(tokens), _) => tokens,
        (None, _) if wish.adaptive => {
            o.value("thinkingBudget").extend_from_slice(b"-1");
            return;
        }
        (None, Some(effort)) => effort.budget(),
        (None, None) => return,
    };
    let taken = if tokens == 0 && can_stop { 0 } else { tokens.clamp(least, most) };
    o.number("thinkingBudget", taken);
    if taken != tokens {
        losses.altered(path(wish));
    }
}

/// The wish in the caller's words.
fn path(wish: &ReasoningWish<'_>) -> &'static str {
    if wish.effort.is_some() { "reasoning_effort" } else { "reasoning" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::writer;

    fn told(wish: &ReasoningWish<'_>, model: &str) -> (String, String) {
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        writer::object(&mut out, |o| write(wish, Model::of(model), &mut losses, o));
        let json = String::from_utf8(out).unwrap();
        (json.trim_start_matches(r#"{"thinkingConfig":"#).trim_end_matches('}').to_owned(), losses.to_string())
    }

    #[track_caller]
    fn effort(effort: Effort, model: &str, json: &str, losses: &str) {
        let wish = ReasoningWish { effort: Some(effort), ..ReasoningWish::default() };
        assert_eq!(told(&wish, model), (json.to_owned(), losses.to_owned()), "{effort:?} {model}");
    }

    #[test]
    fn names_tell_versions() {
        for (name, version) in [
            ("gemini-2.5-flash-lite-preview-09-2025", Some((2, 5))),
            ("models/gemini-3-pro-preview", Some((3, 0))),
            ("publishers/google/models/gemini-3.1-pro", Some((3, 1))),
            ("gemini-4-argon", Some((4, 0))),
            ("gemini-flash-latest", Some((u32::MAX, 0))),
            ("gemini-exp-1206", None),
            ("gemma-3-27b-it", None),
            ("my-tuned-model", None),
        ] {
            assert_eq!(Model::of(name).version, version, "{name}");
        }
    }

    #[test]
    fn efforts_become_budgets_or_levels() {
        let altered = "altered:reasoning_effort";
        effort(Effort::Medium, "gemini-2.5-flash", r#"{"thinkingBudget":8192,"includeThoughts":true"#, "");
        effort(Effort::None, "gemini-2.5-flash", r#"{"thinkingBudget":0,"includeThoughts":false"#, "");
        effort(Effort::None, "gemini-2.5-pro", r#"{"thinkingBudget":128,"includeThoughts":false"#, altered);
        effort(Effort::Max, "gemini-2.5-pro", r#"{"thinkingBudget":32768,"includeThoughts":true"#, altered);
        effort(Effort::XHigh, "gemini-2.5-flash", r#"{"thinkingBudget":24576,"includeThoughts":true"#, altered);
        effort(Effort::High, "gemini-3-pro-preview", r#"{"thinkingLevel":"HIGH","includeThoughts":true"#, "");
        effort(Effort::Medium, "gemini-3-pro-preview", r#"{"thinkingLevel":"HIGH","includeThoughts":true"#, altered);
        effort(Effort::Medium, "gemini-3.1-pro", r#"{"thinkingLevel":"MEDIUM","includeThoughts":true"#, "");
        effort(Effort::None, "gemini-3-flash", r#"{"thinkingLevel":"MINIMAL","includeThoughts":false"#, altered);
        effort(Effort::Minimal, "gemini-3.8-flash", r#"{"thinkingLevel":"LOW","includeThoughts":true"#, altered);
        effort(Effort::Max, "gemini-flash-latest", r#"{"thinkingLevel":"HIGH","includeThoughts":true"#, altered);
        effort(Effort::Low, "gemini-2.0-flash", "{", "dropped:reasoning_effort");
    }

    #[test]
    fn budgets_and_shows_are_kept() {
        let wish = |budget, adaptive, show| ReasoningWish { budget, adaptive, show, ..ReasoningWish::default() };
        assert_eq!(
            told(&wish(Some(1_000), false, None), "gemini-2.5-pro"),
            (r#"{"thinkingBudget":1000,"includeThoughts":true"#.into(), String::new())
        );
        assert_eq!(
            told(&wish(None, true, None), "gemini-2.5-pro"),
            (r#"{"thinkingBudget":-1,"includeThoughts":true"#.into(), String::new())
        );
        assert_eq!(
            told(&wish(Some(9_000), false, Some(false)), "gemini-3.5-flash"),
            (r#"{"thinkingLevel":"HIGH","includeThoughts":false"#.into(), "altered:reasoning".into())
        );
        assert_eq!(
            told(&wish(None, false, Some(true)), "gemini-3.5-flash"),
            (r#"{"includeThoughts":true"#.into(), String::new())
        );
        assert_eq!(told(&ReasoningWish::default(), "gemini-3.5-flash").0, "{");
    }
}
