//! Rules and key tiers: what is written, and what is wrong.

use std::io::ErrorKind;

use super::super::*;
use super::{problems, with};
use crate::policy::queue::Urgency;
use crate::policy::route::Strategy;

const PROVIDERS: &str = "providers:\n  p: { dialect: openai_chat, base_url: \"http://a/v1\", api_key: k }\n";

fn key(more: &str) -> String {
    format!("keys: [{{ id: k, secret_sha256: \"{}\"{more} }}]\n", "0".repeat(64))
}

#[test]
fn rules_and_tiers_are_in_the_snapshot() {
    let text = format!(
        "{PROVIDERS}rules:\n  - {{ name: night, when: time.hour >= 22, strategy: lowest_cost, targets: {{ regions: [eu], names: [\"p/*\"] }}, priority: low, continue: true }}\n  \
         - {{ model: m, fallback: [n, p/m] }}\n\
         models:\n  m: {{ targets: [{{ provider: p }}], rules: [{{ when: request.stream, strategy: balanced }}] }}\n  n: {{ targets: [{{ provider: p }}] }}\n  auto: {{ rules: [{{ model: n }}] }}\n\
         tiers: {{ t: {{ strategy: priority, fallback: [n], regions: [eu, us], attributes: [a], priority: high, weight: 3 }} }}\n{}",
        key(", tier: t, regions: [us, ap], attributes: [b], strategy: sticky")
    );
    let snapshot = with(&[("f", &text)], &[]).unwrap();
    let [night, other] = &*snapshot.rulebook.rules else { panic!("two rules") };
    assert!(snapshot.rulebook.any && night.go_on && night.when.is_some() && other.when.is_none());
    assert_eq!((&*night.name, &*other.name), ("night", "#2"));
    assert_eq!((night.then.strategy, night.then.urgency), (Some(Strategy::LowestCost), Some(Urgency::Low)));
    assert_eq!((other.then.model.as_deref(), other.then.fallback.as_ref().unwrap().len()), (Some("m"), 2));
    assert_eq!(snapshot.models["m"].rulebook[0].name, "m/#1");
    assert!(snapshot.models["auto"].targets.is_empty());
    let key = snapshot.keys.values().next().unwrap();
    assert_eq!((key.strategy, key.urgency, key.weight), (Some(Strategy::Sticky), Some(Urgency::High), 3));
    assert_eq!(["us", "eu", "asia"].map(|region| key.serves_in(Some(region))), [true, false, false]);
    assert_eq!(key.attributes, ["b", "a"]);
    assert_eq!((key.fallback.as_deref(), key.tier.as_deref()), (Some(&["n".to_owned()][..]), Some("t")));
}

#[test]
fn every_mistake_of_rules_has_its_place() {
    let text = format!(
        "{PROVIDERS}routing: {{ time_zone: Atlantis }}\nrules:\n  - {{ name: a b, when: request.modle == \"x\", model: nobody }}\n  - {{ when: request.stream }}\n  - {{ strategy: nearest }}\n  - {{ name: x, targets: {{ names: [\"\"], attributes: [\"a b\"] }} }}\n\
         models:\n  m: {{ targets: [{{ provider: p }}], fallback: [auto], rules: [{{ name: x, when: \"true &&\", fallback: [auto, m] }}, {{ name: x, model: m }}] }}\n  auto: {{ rules: [{{ when: request.stream, model: m }}] }}\n\
         tiers: {{ t: {{ regions: [eu], fallback: [auto] }} }}\n{}",
        key(", tier: u, fallback: [nobody]")
            .replace("}]", &format!("}}, {{ id: l, tier: t, regions: [us], secret_sha256: \"{}\" }}]", "1".repeat(64)))
    );
    let found = problems(&text).join("\n");
    for part in [
        "routing.time_zone: /usr/share/zoneinfo has no zone `Atlantis`",
        "rules[0].name: a rule's name is",
        "rules[0].when: at 1: there is no `request.modle`. Did you mean `request.model`?",
        "rules[0].model: no model is called `nobody`",
        "rules[1]: this rule chooses nothing",
        "rules[2]: no rule after this one is ever looked at",
        "rules[2].strategy: nearest goes by distances",
        "rules[3].targets.names[0]: write a model's name",
        "rules[3].targets.attributes[0]: an attribute is",
        "models.m.fallback[0]: rules lead from this model to others",
        "models.m.rules[0].when: at ",
        "models.m.rules[0].fallback[0]: rules lead from this model to others",
        "models.m.rules[1].name: another rule is called `x`",
        "models.auto.rules: without targets the last rule must be for every call",
        "tiers.t.fallback[0]: rules lead from this model to others",
        "keys[0].tier: no tier is called `u`",
        "keys[0].fallback[0]: no model is called `nobody`",
        "keys[1].regions: its tier, or whom it belongs to, has none of these regions",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
}

#[test]
fn zones_come_from_the_system() {
    // The first form of tzfile(5): no changes, one kind of time, an hour east of Greenwich.
    let mut zone = b"TZif\0".to_vec();
    zone.extend([0; 15]);
    for count in [0u32, 0, 0, 0, 1, 4] {
        zone.extend(count.to_be_bytes());
    }
    zone.extend(3600u32.to_be_bytes());
    zone.extend(b"\0\0CET\0");
    let text = format!("{PROVIDERS}routing: {{ time_zone: Europe/Somewhere }}\n");
    let read = |path: &Path| match path.to_str() {
        Some("f") => Ok(text.clone().into_bytes()),
        Some("/usr/share/zoneinfo/Europe/Somewhere") => Ok(zone.clone()),
        _ => Err(ErrorKind::NotFound.into()),
    };
    let outside = Outside { env: &|_| None, read: &read };
    let snapshot = load(Path::new("f"), &outside, &Catalogue::EMPTY, &Live::default()).unwrap();
    assert_eq!(snapshot.rulebook.zone.to_datetime(jiff::Timestamp::UNIX_EPOCH).hour(), 1);
}

#[test]
fn every_mistake_of_classes_has_its_place() {
    let text = format!(
        "{PROVIDERS}classes:\n  least: 2\n  head: 1B\n  named:\n    a b: {{ code: true }}\n    plain: {{}}\n    odd: {{ examples: [\"\"], languages: [xx], min_tokens: 5, max_tokens: 4 }}\n\
         models:\n  m: {{ targets: [{{ provider: p }}], rules: [{{ when: request.class == \"pliin\", strategy: balanced }}] }}\n"
    );
    let found = problems(&text).join("\n");
    for part in [
        "classes.least: write 0 to 1",
        "classes.head: write 64B to 64KiB",
        "classes.named[\"a b\"]: a class's name is",
        "classes.named.plain: every prompt would be of this class",
        "classes.named.odd.examples[0]: write 1 byte to 16 KiB",
        "classes.named.odd.languages[0]: languages that are told apart are ar, de",
        "classes.named.odd.min_tokens: more than max_tokens",
        "models.m.rules[0].when: no class is called `pliin`: add it under `classes.named`. Did you mean `plain`?",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    let without = format!("{PROVIDERS}rules: [{{ when: request.class == \"a\", strategy: balanced }}]\n");
    assert!(problems(&without)[0].contains("rules[0].when: no classes are written"), "{:?}", problems(&without));
}
