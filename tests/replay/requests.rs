//! Every recorded Chat Completions request, encoded for each provider dialect, keeps each of its members or names it as
//! a loss.

use std::collections::BTreeMap;

use portolan::dialect::words::Teller;
use portolan::dialect::{Abilities, Quirks, To};
use portolan::ir::{Losses, Request};
use portolan::provider::presets;
use serde_json::Value;

use super::coverage;
use super::recordings::{Exchange, Speech};
use super::tally::{Tally, without_places};

/// One way to be spoken to.
pub struct Target {
    pub speech: Speech,
    pub label: String,
    model: &'static str,
    quirks: Quirks,
    abilities: Abilities,
}

/// Every preset's quirks, and models that take different forms of the same dialect.
fn targets() -> Vec<Target> {
    let plain = |speech, model: &'static str, abilities| Target {
        speech,
        label: model.to_owned(),
        model,
        quirks: Quirks::default(),
        abilities,
    };
    let mut targets: Vec<Target> = Vec::new();
    for name in presets::names() {
        let preset = presets::named(name).unwrap();
        let same = |target: &Target| target.quirks == preset.quirks;
        if preset.dialect.name == "openai_chat" && !targets.iter().any(same) {
            let quirks = preset.quirks.clone();
            targets.push(Target { label: name.to_owned(), quirks, ..plain(Speech::Chat, "m", Abilities::default()) });
        }
    }
    let adaptive = Abilities { adaptive_thinking: Some(true), ..Abilities::default() };
    targets.push(plain(Speech::Messages, "claude-sonnet-4-5", Abilities::default()));
    targets.push(plain(Speech::Messages, "claude-opus-4-8", adaptive));
    for model in ["gemini-1.5-flash", "gemini-2.0-flash", "gemini-2.5-flash", "gemini-3-pro-preview"] {
        targets.push(plain(Speech::Gemini, model, Abilities::default()));
    }
    targets
}

pub fn replay(recordings: &[Exchange]) -> Tally {
    let mut tally = Tally::default();
    let targets = targets();
    for exchange in recordings.iter().filter(|exchange| exchange.speech() == Speech::Chat) {
        let Some(body) = exchange.asked_of_us() else {
            tally.skip("response only: the recording has no request");
            continue;
        };
        let asked: Value = serde_json::from_str(&body).unwrap();
        let decoded = Speech::Chat.dialect().inbound.unwrap().decode(body.as_bytes());
        let request = match decoded {
            Ok(request) => request,
            Err(error) if matches!(exchange.response.status, 400..=499) => {
                tally.skip(format!(
                    "a request that the provider refused as well: {}",
                    without_places(&format!("`{}`", error.path))
                ));
                continue;
            }
            Err(error) => {
                tally.count(&exchange.id, vec![format!("refused: {error}")], &Losses::default());
                continue;
            }
        };
        for speech in Speech::FIRST {
            let of_speech = targets.iter().filter(|target| target.speech == speech);
            let mut all = Losses::default();
            let mut problems: BTreeMap<String, String> = BTreeMap::new();
            for target in of_speech {
                let (found, losses) = encode(&request, &body, &asked, target);
                // What several targets share is told once.
                for problem in found {
                    problems.entry(problem).or_insert_with(|| target.label.clone());
                }
                losses.iter().for_each(|loss| all.add(loss.how, loss.path.clone()));
            }
            let problems = problems.into_iter().map(|(problem, label)| format!("{problem} ({label})")).collect();
            tally.count(&format!("{} {} to {}", exchange.provider, exchange.id, speech.name()), problems, &all);
        }
    }
    tally
}

/// Encodes a request and names what is neither in the body nor among the losses.
fn encode(request: &Request<'_>, raw: &str, asked: &Value, target: &Target) -> (Vec<String>, Losses) {
    let to = To { model: target.model, stream: request.stream, quirks: &target.quirks, abilities: &target.abilities };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    if let Err(unsayable) = target.speech.dialect().outbound.unwrap().encode(request, &to, &mut out, &mut losses) {
        let mut losses = Losses::default();
        losses.dropped(format!("(unsayable) {}", unsayable.path));
        let exists = coverage::exists(asked, &unsayable.path) && !unsayable.message.is_empty();
        let problem = format!("unsayable, but not in the request: {}", unsayable.path);
        return (if exists { Vec::new() } else { vec![problem] }, losses);
    }
    let body: Value = match serde_json::from_slice(&out) {
        Ok(body) => body,
        Err(error) => return (vec![format!("the encoded body is not JSON: {error}")], losses),
    };
    // Also as the caller is told: a block of the IR may be another part of the body.
    let words = Speech::Chat.dialect().inbound.unwrap().words();
    let mut teller = Teller::new(words, request, raw.as_bytes());
    let mut named = losses.told(&mut |path| teller.tell(path));
    losses.iter().for_each(|loss| named.add(loss.how, loss.path.clone()));
    let mut problems = coverage::uncovered(asked, &body, &named, target.speech);
    problems.extend(coverage::spurious(asked, &losses));
    let model = match target.speech {
        Speech::Gemini => None,
        _ => Some(target.model),
    };
    if body["model"].as_str() != model {
        problems.push(format!("the body's model is {}", body["model"]));
    }
    if target.speech != Speech::Gemini && body["stream"].as_bool().unwrap_or(false) != request.stream {
        problems.push("`stream` is not as asked".to_owned());
    }
    (problems, losses)
}
