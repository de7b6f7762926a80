use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::provider::presets;
use crate::provider::price::Rates;

/// Published as free of charge by their providers.
const FREE: [(&str, &str); 5] = [
    ("gemini", "gemma-4-26b-a4b-it"),
    ("gemini", "gemma-4-31b-it"),
    ("mistral", "labs-leanstral-1-5-1"),
    ("zhipu", "glm-4.5-flash"),
    ("zhipu", "glm-4.7-flash"),
];

/// Dollars for a million tokens, in thousandths.
fn milli(thousandths: u64) -> u64 {
    thousandths * 1_000_000
}

/// A moment after which the built-in rows know of no change but those that say so.
const NOW: u64 = 1_795_219_200;

fn all() -> impl Iterator<Item = Row<'static>> {
    builtin().all(NOW)
}

fn lookup(preset: &str, model: &str) -> Option<Row<'static>> {
    builtin().lookup(preset, model, NOW)
}

fn models(preset: &str) -> Vec<String> {
    builtin().models(preset)
}

fn every_rates(row: &Row<'_>) -> Vec<Rates> {
    std::iter::once(row.price.rates).chain(row.price.tiers.iter().map(|tier| tier.1)).collect()
}

#[test]
fn every_line_is_part_of_one_row() {
    assert_eq!(line::flaws(TEXT), []);
    assert!(TEXT.lines().any(|line| line == HEADER));
    let lines = TEXT.lines().filter(|line| !line.starts_with('#')).count();
    let rows: Vec<Row<'_>> = all().collect();
    assert_eq!(rows.len(), builtin().entries.len(), "a row does not read");
    let own: usize = builtin().entries.iter().map(|entry| entry.own().count()).sum();
    assert_eq!(own, lines, "a model's lines stand apart");
    let names: HashSet<_> = rows.iter().map(|row| (row.preset, row.model)).collect();
    assert_eq!(names.len(), rows.len(), "a model is listed twice");
    assert!(rows.len() > 750);
    for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Moderation) {
        assert!(rows.iter().any(|row| row.kind == *kind), "no row of the kind {}", kind.name());
    }
}

#[test]
fn every_row_is_found_by_its_name() {
    for row in all() {
        assert_eq!(lookup(row.preset, row.model).as_ref(), Some(&row));
        let other_spelling = row.model.replace('.', "-").to_uppercase();
        let found = lookup(row.preset, &other_spelling).unwrap();
        assert_eq!(found.price, row.price, "{}: {} and {} differ", row.preset, row.model, found.model);
    }
}

#[test]
fn presets_exist_and_their_models_are_listed() {
    for row in all() {
        assert!(presets::named(row.preset).is_some(), "no preset {}", row.preset);
        let listed = row.model != ANY && row.kind == Kind::Chat;
        assert_eq!(models(row.preset).iter().any(|model| model == row.model), listed);
    }
    assert!(models("ollama").is_empty());
    let listed = models("anthropic");
    assert!(listed.is_sorted() && listed.len() > 15);
}

#[test]
fn only_what_is_published_as_free_is_free() {
    for row in all() {
        if row.kind != Kind::Chat {
            let Units { image, second, character } = row.units;
            let others = [image, second, character, Some(row.price.rates.request), Some(row.price.rates.input)];
            assert!(others.iter().flatten().any(|price| *price != 0), "{}/{} has no price", row.preset, row.model);
            continue;
        }
        let free = FREE.contains(&(row.preset, row.model));
        for rates in every_rates(&row) {
            let tokens = [
                rates.input,
                rates.output,
                rates.cached,
                rates.cache_write,
                rates.cache_write_1h,
                rates.audio_input,
                rates.audio_output,
                rates.reasoning,
            ];
            assert!(tokens.iter().all(|rate| (*rate == 0) == free), "{}/{}: {rates:?}", row.preset, row.model);
        }
    }
}

#[test]
fn rates_stand_in_their_order() {
    for row in all() {
        let name = format!("{}/{}", row.preset, row.model);
        for rates in every_rates(&row) {
            assert!(rates.cached <= rates.input, "{name}: reading a cache is dearer than not");
            assert!(rates.cache_write >= rates.input && rates.cache_write_1h >= rates.cache_write, "{name}");
            assert!(
                rates.input < 1_000 * milli(1_000) && rates.output < 1_000 * milli(1_000),
                "{name}: a slip of digits?"
            );
            if row.preset == "anthropic" {
                // platform.claude.com/docs/en/about-claude/pricing, seen 2026-11-21: 1.25 and 2 times the input.
                assert_eq!((rates.cache_write * 4, rates.cache_write_1h), (rates.input * 5, rates.input * 2), "{name}");
            }
        }
        let mut below = (0, row.price.rates);
        for (above, rates) in row.price.tiers.iter().copied() {
            assert!(above > below.0 && rates.input > below.1.input && rates.output > below.1.output, "{name}");
            assert_eq!((rates.request, rates.search), (below.1.request, below.1.search), "{name}");
            below = (above, rates);
        }
    }
}

#[test]
fn every_row_tells_its_source_and_date() {
    for row in all() {
        let name = format!("{}/{}", row.preset, row.model);
        if row.preset.starts_with("sandbox-") {
            assert_eq!((row.model, row.source), (ANY, "made up"), "{name}");
        } else {
            let uri: http::Uri = row.source.parse().unwrap_or_else(|_| panic!("{name}: {}", row.source));
            assert_eq!(uri.scheme_str(), Some("https"), "{name}: {}", row.source);
        }
        assert!(row.seen.parse::<jiff::civil::Date>().is_ok(), "{name}: {}", row.seen);
        assert!(row.price.version.parse::<jiff::civil::Date>().is_ok(), "{name}");
    }
}

#[test]
fn abilities_are_known_letters() {
    for entry in &builtin().entries {
        for line in entry.own() {
            assert!(line.unwrap().abilities().is_some(), "{}", entry.model);
        }
    }
    for row in all() {
        let (context, max_output) = (row.abilities.context, row.abilities.max_output);
        assert!(context.is_none_or(|context| max_output.is_none_or(|most| most < context)), "{}", row.model);
    }
}

#[test]
fn well_known_prices() {
    // Model: input, output, cached, in thousandths of a dollar for a million.
    let known = [
        ("openai", "gpt-4o", 2_500, 10_000, 1_250),
        ("openai", "gpt-4o-2024-05-13", 5_000, 15_000, 5_000),
        ("openai", "gpt-4o-mini", 150, 600, 75),
        ("openai", "gpt-5.4-mini", 750, 4_500, 75),
        ("anthropic", "claude-sonnet-4-6", 3_000, 15_000, 300),
        ("anthropic", "claude-opus-5-5", 4_000, 20_000, 200),
        ("anthropic", "claude-haiku-4-5", 1_000, 5_000, 100),
        ("gemini", "gemini-2.5-flash", 300, 2_500, 30),
        ("gemini", "gemini-2.5-pro", 1_250, 10_000, 125),
        ("azure-openai", "gpt-5", 1_250, 10_000, 125),
        ("deepseek", "deepseek-flash", 300, 1_200, 6),
        ("qwen", "qwen3.8-max", 2_000, 6_000, 250),
        ("zhipu", "glm-5.3", 1_400, 4_400, 260),
        ("mistral", "mistral-large-4", 1_360, 4_180, 140),
        ("moonshot", "kimi-k3", 3_000, 15_000, 300),
        ("groq", "openai/gpt-oss-120b", 150, 600, 75),
        ("xai", "grok-4.7", 2_000, 6_000, 500),
        ("cerebras", "gpt-oss-120b", 350, 750, 350),
        ("cohere", "command-a-03-2025", 2_500, 10_000, 2_500),
        ("sandbox-gemini", "whatever", 1_000, 2_000, 100),
    ];
    for (preset, model, input, output, cached) in known {
        let rates = lookup(preset, model).unwrap_or_else(|| panic!("{preset}/{model}")).price.rates;
        let expected = (milli(input), milli(output), milli(cached));
        assert_eq!((rates.input, rates.output, rates.cached), expected, "{preset}/{model}");
    }
}

#[test]
fn tiers_fees_and_parts_of_their_own() {
    let pro = lookup("gemini", "gemini-2.5-pro").unwrap().price;
    let [(above, rates)] = pro.tiers[..] else { panic!("{pro:?}") };
    assert_eq!((above, rates.input, rates.output, rates.cached), (200_000, milli(2_500), milli(15_000), milli(250)));
    assert_eq!(rates.search, 35_000_000, "a tier has the fees of its model");

    let haiku = lookup("anthropic", "claude-haiku-5-5").unwrap().price;
    assert_eq!(haiku.tiers[0].1.cache_write_1h, milli(1_000));

    let audio = lookup("openai", "gpt-audio").unwrap().price.rates;
    assert_eq!((audio.audio_input, audio.audio_output), (milli(32_000), milli(64_000)));
    assert_eq!(lookup("gemini", "gemini-2.5-flash").unwrap().price.rates.audio_input, milli(1_000));

    let plus = lookup("qwen", "qwen-plus-latest").unwrap().price;
    assert_eq!((plus.rates.reasoning, plus.tiers[0].1.reasoning), (milli(4_000), milli(12_000)));

    let sonar = lookup("perplexity", "sonar").unwrap().price.rates;
    assert_eq!((sonar.request, sonar.search), (5_000_000, 0));
}

#[test]
fn abilities_of_a_few() {
    let of = |preset, model| lookup(preset, model).unwrap().abilities;
    let sonnet = of("anthropic", "claude-sonnet-4-6");
    assert_eq!((sonnet.context, sonnet.max_output), (Some(1_000_000), Some(128_000)));
    assert_eq!((sonnet.adaptive_thinking, sonnet.tools, sonnet.vision), (Some(true), Some(true), Some(true)));
    let thinks_to_a_budget = ["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"];
    for row in all().filter(|row| row.preset == "anthropic") {
        let adaptive = !thinks_to_a_budget.iter().any(|old| row.model.starts_with(old));
        assert_eq!(row.abilities.adaptive_thinking, Some(adaptive), "{}", row.model);
    }
    assert_eq!(of("openai", "gpt-4o").reasoning, Some(false));
    assert_eq!(of("openai", "gpt-5").context, Some(400_000));
    assert_eq!(of("together", "arcee-ai/trinity-mini"), Abilities { context: Some(128_000), ..Abilities::default() });
}

#[test]
fn versions_fall_back_to_their_model() {
    let found = |preset, model| lookup(preset, model).map(|row| row.model);
    assert_eq!(found("openai", "gpt-4o-2024-08-06"), Some("gpt-4o-2024-08-06"), "its own row first");
    assert_eq!(found("openai", "gpt-5.6-2026-07-09"), Some("gpt-5.6"));
    assert_eq!(found("anthropic", "claude-sonnet-5-20260601"), Some("claude-sonnet-5"));
    assert_eq!(found("anthropic", "claude-opus-5-5-latest"), Some("claude-opus-5-5"));
    assert_eq!(found("gemini", "models/gemini-2.5-pro"), Some("gemini-2.5-pro"));
    assert_eq!(found("gemini", "gemini-2-5-flash-001"), Some("gemini-2.5-flash"));
    assert_eq!(found("openai", "ft:gpt-4o-mini-2024-07-18:acme::B1x"), Some("ft:gpt-4o-mini-2024-07-18"));
    assert_eq!(found("mistral", "mistral-medium-3-5"), Some("mistral-medium-3-5"));
    assert_eq!(found("mistral", "Mistral-Medium-3.5"), Some("mistral-medium-3-5"), "prices are the same");
    for unknown in ["gpt-4o-2", "gpt-4", "gpt-4o-turbo", "ft:gpt-4o-mini", "", "*", "latest", "-latest", "gpt-4o-0806"]
    {
        assert_eq!(found("openai", unknown), None, "{unknown}");
    }
    assert_eq!(found("ollama", "gpt-4o"), None);
}

#[test]
fn prices_change_on_their_day() {
    // The first moment of 2026-12-01.
    let change = 1_796_083_200;
    let before = builtin().lookup("gemini", "gemini-4-argon", change - 1).unwrap();
    assert_eq!((before.price.rates.input, before.until), (milli(2_000), Some(change)));
    let after = builtin().lookup("gemini", "gemini-4-argon", change).unwrap();
    assert_eq!((after.price.rates.input, after.price.rates.output, after.until), (milli(4_000), milli(20_000), None));
    assert_eq!((after.price.version.as_str(), after.abilities), ("2026-12-01", before.abilities));
    assert_eq!(after.price.rates.search, before.price.rates.search);
}

#[test]
fn a_text_of_the_operators_is_read_whole_or_not() {
    let good = "# ours\nopenai,gpt-5,,,,400_000,,tv-r,1_000,2_000,,,,,,,,,,,,contract,2026-11-21\nopenai,gpt-5,,1_000,,,,,3_000,4_000,,,,,,,,,,,,contract,2026-11-21\nopenai,gpt-5,2027-01-01,,,,,,500,600,,,,,,,,,,,,contract,2026-11-21\nx,pic,,,image,,,,,,,,,,,,40_000_000,,,,,list,2026-11-21\n";
    let catalog = Catalog::read(good).unwrap();
    let row = catalog.lookup("openai", "GPT-5", NOW).unwrap();
    assert_eq!((row.price.rates.input, row.price.tiers.len(), row.until), (1_000, 1, Some(1_798_761_600)));
    let later = catalog.lookup("openai", "gpt-5", 1_798_761_600).unwrap();
    assert_eq!((later.price.rates.output, later.price.tiers.len(), later.abilities.context), (600, 0, Some(400_000)));
    let pic = catalog.lookup("x", "pic", NOW).unwrap();
    assert_eq!((pic.kind, pic.units.image, catalog.models("x").len()), (Kind::Image, Some(40_000_000), 0));

    let bad = "openai,gpt-5\nopenai,a,soon,,,,,,1,2,,,,,,,,,,,,s,2026-11-21\nopenai,b,,,,,,q,1,2,,,,,,,,,,,,s,2026-11-21\nopenai,c,,,,,,,1,,,,,,,,,,,,,s,2026-11-21\nopenai,d,,5,,,,,1,2,,,,,,,,,,,,s,2026-11-21\nopenai,d,,4,,,,,1,2,,,,,,,,,,,,s,2026-11-21\nopenai,c,,,poem,,,,1,2,,,,,,,,,,,,s,2026-11-21\nopenai,b,,,,,,,1,2,,,,,,,,,,,,s,now\n";
    let flaws: Vec<_> = Catalog::read(bad).unwrap_err().iter().map(|flaw| flaw.line).collect();
    assert_eq!(flaws, [1, 2, 3, 4, 5, 6, 7, 8, 8]);
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "((openai|x),(a|b),[0-9_,a-z-]{0,40}\n){0,4}\\PC{0,20}") {
        if let Ok(catalog) = Catalog::read(&text) {
            prop_assert_eq!(catalog.all(NOW).count(), catalog.entries.len());
        }
    }

    #[test]
    fn any_name_is_found_or_not(preset in "(openai|sandbox-openai|[a-z]{0,9})", model in "(ft:|models/)?\\PC{0,12}(-latest|-[0-9-]{1,10})?") {
        if let Some(row) = lookup(&preset, &model) {
            prop_assert_eq!(row.preset, preset);
        }
    }
}
