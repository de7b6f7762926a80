//! What models cost: whose word counts, and from when.

use super::*;

const HEAD: &str = "catalog: own.csv\nproviders:\n  a: { preset: vllm, price_factor: 0.85, prices: { \"big*\": { input: 9, output: 10 }, bigger: { input: 7, output: 8 } } }\n";
const OWN: &str = "vllm,llama,,,,8_192,,tv,1_000_000_001,2_000_000_000,,,,,,,,,,5_000,,list,2026-11-21\n\
                   vllm,llama,,1_000,,,,,3_000_000_000,4_000_000_000,,,,,,,,,,,,list,2026-11-21\n\
                   vllm,llama,2026-12-01,,,,,,10_000_000_000,20_000_000_000,,,,,,,,,,,,list,2026-11-21\n";
/// The first moment of 2026-12-01.
const CHANGE: u64 = 1_796_083_200;

fn loaded(text: &str, own: &str, now: u64) -> Result<Snapshot, Vec<Problem>> {
    let read = |path: &Path| match path.to_str() {
        Some("f") => Ok(text.as_bytes().to_vec()),
        Some("own.csv") => Ok(own.as_bytes().to_vec()),
        _ => Err(ErrorKind::NotFound.into()),
    };
    let find = |preset: &str, model: &str| {
        let price = Price { rates: Rates { input: 1_000, output: 2_000, ..Rates::default() }, ..Price::default() };
        (preset == "vllm").then(|| Listed { price: Price { version: model.to_owned(), ..price }, ..Listed::default() })
    };
    let catalogue = Catalogue { find: &find, models: &|_| Vec::new(), now };
    load(Path::new("f"), &Outside { env: &|_| None, read: &read }, &catalogue, &Live::default())
}

fn price(model: &str, now: u64) -> Price {
    let text = format!("{HEAD}models: {{ m: {{ targets: [{{ provider: a, model: {model} }}] }} }}\n");
    loaded(&text, OWN, now).unwrap().models["m"].targets[0].price.clone().unwrap()
}

#[test]
fn the_nearest_word_counts() {
    let agreed = price("bigger", 0);
    assert_eq!((agreed.rates.input, agreed.version.as_str()), (7_000_000_000, "config"));
    assert_eq!(price("bigwig", 0).rates.input, 9_000_000_000);
    // The operator's catalogue over the built-in one, and both as far as they are paid, to the nano, half up.
    let own = price("llama", 0);
    assert_eq!((own.rates.input, own.rates.output, own.rates.request), (850_000_001, 1_700_000_000, 4_250));
    assert_eq!((own.tiers[0].1.input, own.tiers[0].1.request), (2_550_000_000, 4_250));
    assert_eq!(own.version, "2026-11-21 x 0.85");
    assert_eq!(price("other", 0).rates, Rates { input: 850, output: 1_700, ..Rates::default() });
    let text = format!(
        "{HEAD}models: {{ m: {{ targets: [{{ provider: a, model: llama, price: {{ input: 1, output: 1 }} }}] }} }}\n"
    );
    let own = loaded(&text, OWN, 0).unwrap();
    assert_eq!(own.models["m"].targets[0].price.as_ref().unwrap().rates.input, 1_000_000_000);
    assert!(own.index.files.iter().any(|file| file == Path::new("own.csv")));
    assert!(own.index.implicit.contains_key("a/llama"), "what the operator's catalogue knows can be called");
}

#[test]
fn another_price_from_a_day_on_is_another_configuration() {
    let text = format!("{HEAD}models: {{ m: {{ targets: [{{ provider: a, model: llama }}] }} }}\n");
    let (before, after) = (loaded(&text, OWN, CHANGE - 1).unwrap(), loaded(&text, OWN, CHANGE).unwrap());
    assert_eq!((before.index.repriced, after.index.repriced), (Some(CHANGE), None));
    assert_ne!(before.version, after.version);
    assert_eq!(after.models["m"].targets[0].price.as_ref().unwrap().rates.input, 8_500_000_000);
    assert_ne!(before.version, loaded(&text, &OWN.replace("8_192", "8_193"), 0).unwrap().version);
}

#[test]
fn mistakes_of_prices_have_their_place() {
    let text = HEAD.replace("0.85", "1001").replace("bigger:", "\"b?\":");
    let found: Vec<String> = loaded(&text, "vllm,llama\n", 0).unwrap_err().iter().map(ToString::to_string).collect();
    let found = found.join("\n");
    for part in ["catalog: own.csv: line 1: write 23 cells", "providers.a.price_factor", "providers.a.prices"] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    let missing = loaded("catalog: nowhere.csv\n", OWN, 0).unwrap_err();
    assert!(missing[0].to_string().contains("catalog: nowhere.csv: cannot be read"), "{missing:?}");
}
