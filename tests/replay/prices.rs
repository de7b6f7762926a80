//! What each recorded answer cost, through the real binary: the ledger has, to the nano, what follows from the provider's own
//! words and the price table by a formula that is written down here once more.
//!
//! Usage is read from the raw answer by [`plain`](super::plain), prices from the text of the table by [`Table`]; neither asks
//! the code that meters and prices.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::answers;
use super::binary::{self, ALIKE, CALLERS};
use super::gateway::{Gateway, PROVIDER_KEY, keys};
use super::plain::Counts;
use super::recordings::{self, Exchange, Speech};
use super::upstream::{Attempt, Reply, Step, Upstream};

/// The day of these tests: prices that hold from later days on are not paid yet.
const TODAY: &str = "2026-11-22";
/// Fewest exchanges that are worth the name.
const FEWEST: usize = 1_500;

/// Nano-dollars for a million tokens, and each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    input: u128,
    output: u128,
    cached: u128,
    written: u128,
    written_1h: u128,
    audio_in: u128,
    audio_out: u128,
    reasoning: u128,
    request: u128,
    search: u128,
}

/// For models that the table does not have: no two alike.
const MADE_UP: Rates = Rates {
    input: 2_500_000_000,
    output: 10_000_000_000,
    cached: 251_000_000,
    written: 3_120_000_000,
    written_1h: 5_010_000_000,
    audio_in: 40_030_000_000,
    audio_out: 80_070_000_000,
    reasoning: 12_110_000_000,
    request: 1_300_000,
    search: 10_700_000,
};

impl Rates {
    /// Each token once, at the first of these that it is: read from a cache, written to one for an hour, for minutes, sound,
    /// read; said aloud, thought, said. Rounded half up, once, over the sum.
    fn cost(&self, counts: &Counts) -> u128 {
        let mut nano_million = 0;
        for (whole, parts, rest) in [
            (
                counts.prompt,
                vec![
                    (counts.cached, self.cached),
                    (counts.written_1h, self.written_1h),
                    (counts.written, self.written),
                    (counts.audio_in, self.audio_in),
                ],
                self.input,
            ),
            (
                counts.completion,
                vec![(counts.audio_out, self.audio_out), (counts.reasoning, self.reasoning)],
                self.output,
            ),
        ] {
            let mut left = whole;
            for (count, rate) in parts {
                let priced = count.min(left);
                left -= priced;
                nano_million += u128::from(priced) * rate;
            }
            nano_million += u128::from(left) * rest;
        }
        (nano_million + 500_000) / 1_000_000 + self.request + u128::from(counts.searches) * self.search
    }

    /// As a configuration writes them.
    fn written(&self) -> String {
        let dollars = |nano: u128| format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
        format!(
            "input: {}, output: {}, cached: {}, cache_write: {}, cache_write_1h: {}, audio_input: {}, audio_output: {}, reasoning: {}",
            dollars(self.input),
            dollars(self.output),
            dollars(self.cached),
            dollars(self.written),
            dollars(self.written_1h),
            dollars(self.audio_in),
            dollars(self.audio_out),
            dollars(self.reasoning)
        ) + &format!(", request: {}, search: {}", dollars(self.request), dollars(self.search))
    }
}

/// What a model costs: plain, and above so many tokens of prompt.
#[derive(Clone, Debug)]
struct Price(Vec<(u64, Rates)>);

impl Price {
    fn cost(&self, counts: &Counts) -> u128 {
        let (_, rates) = self.0.iter().rev().find(|(above, _)| *above == 0 || counts.prompt > *above).unwrap();
        rates.cost(counts)
    }

    /// `None` where a configuration has no words for it.
    fn written(&self) -> Option<String> {
        let [(0, rates)] = self.0[..] else { return None };
        Some(format!("price: {{ {} }}", rates.written()))
    }
}

/// The price table, as its text says.
struct Table(HashMap<(String, String), Price>);

impl Table {
    fn read() -> Table {
        let text = include_str!("../../src/provider/catalog.csv");
        let head = text.lines().find_map(|line| line.strip_prefix("#preset,")).unwrap();
        let names: Vec<&str> = std::iter::once("preset").chain(head.split(',')).collect();
        let mut prices: HashMap<(String, String), (String, Price)> = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let cells: HashMap<&str, &str> = names.iter().copied().zip(line.split(',')).collect();
            if cells["from"] > TODAY {
                continue;
            }
            let number = |name: &str| cells[name].replace('_', "").parse::<u128>().ok();
            let or = |name: &str, other: u128| number(name).unwrap_or(other);
            let place = (cells["preset"].to_owned(), cells["model"].to_owned());
            let above = number("above").map_or(0, |above| u64::try_from(above).unwrap());
            let known = prices.get(&place).filter(|(from, _)| from == cells["from"] || above != 0);
            let first = known.map(|(_, price)| price.0[0].1);
            let (input, output) = (or("input", 0), or("output", 0));
            let written = or("cache_write", input);
            let rates = Rates {
                input,
                output,
                cached: or("cached", input),
                written,
                written_1h: or("cache_write_1h", written),
                audio_in: or("audio_input", input),
                audio_out: or("audio_output", output),
                reasoning: or("reasoning", output),
                request: or("request", first.map_or(0, |first| first.request)),
                search: or("search", first.map_or(0, |first| first.search)),
            };
            match prices.get_mut(&place) {
                Some((_, price)) if above != 0 => price.0.push((above, rates)),
                // From a later day on, all anew.
                _ => drop(prices.insert(place, (cells["from"].to_owned(), Price(vec![(0, rates)])))),
            }
        }
        Table(prices.into_iter().map(|(place, (_, price))| (place, price)).collect())
    }
}

/// One call to make.
struct Case {
    id: String,
    exchange: &'static Exchange,
    served: Vec<u8>,
    stream: bool,
    counts: Counts,
    /// The model that is asked for, and what it costs.
    model: String,
    price: Price,
}

impl Case {
    fn request(&self) -> String {
        let text = format!("replay {} end", self.id);
        let mut body = json!({"model": self.model, "messages": [{"role": "user", "content": text}]});
        if self.stream {
            body["stream"] = true.into();
        }
        body.to_string()
    }

    fn reply(&self) -> Reply {
        if !self.stream {
            return Reply::json(200, self.served.clone());
        }
        let kind = match self.exchange.speech() {
            Speech::Converse => "application/vnd.amazon.eventstream",
            Speech::Ollama => "application/x-ndjson",
            _ => "text/event-stream",
        };
        let pieces = self.served.chunks(1_001).map(|piece| Step::Bytes(piece.to_vec()));
        let mut reply = Reply::stream(pieces.collect());
        reply.headers[0].1 = kind.to_owned();
        reply
    }
}

/// Every good answer that tells its usage, and the providers and models that it is asked of.
fn cases(all: &'static [Exchange]) -> (Vec<Case>, String) {
    let table = Table::read();
    let (mut alike, mut cases): (BTreeMap<String, usize>, Vec<Case>) = Default::default();
    let (mut accounts, mut models): (BTreeMap<String, Speech>, BTreeMap<String, String>) = Default::default();
    for exchange in all.iter().filter(|exchange| exchange.is_good() && exchange.aside().is_none()) {
        let speech = exchange.speech();
        if speech == Speech::Completions {
            continue;
        }
        let place = match (exchange.provider.as_str(), speech) {
            ("vertexai", Speech::Messages) => "vertex-anthropic",
            ("vertexai", _) => "vertex-gemini",
            ("azure", _) => "azure-openai",
            ("glm", _) => "zhipu",
            (provider, _) => provider,
        };
        let name = exchange.model.clone().unwrap_or_else(|| "unnamed".to_owned());
        let listed = table.0.get(&(place.to_owned(), name.clone()));
        // The first dialect of a provider has its prices from the table, others have them written out.
        let account = match accounts.get(place) {
            Some(other) if *other != speech => format!("{place}.{}", speech.name()),
            _ => place.to_owned(),
        };
        accounts.insert(account.clone(), speech);
        let by_table = account == place && listed.is_some();
        let price = listed.filter(|price| by_table || price.written().is_some()).cloned();
        let price = price.unwrap_or_else(|| Price(vec![(0, MADE_UP)]));
        let written = if by_table { String::new() } else { format!(", {}", price.written().unwrap()) };
        let row = format!("{{ targets: [{{ provider: {account}, model: {}{written} }}] }}", json!(name));
        let many = alike.entry(format!("{account} {name} {:?}", exchange.features)).or_default();
        *many += 1;
        if *many > 8 * ALIKE {
            continue;
        }
        let streams = exchange.byte_streams().into_iter().map(|(id, bytes)| (id, bytes.into_owned(), true));
        let whole = exchange.whole().filter(|body| !body.starts_with('['));
        let whole = whole.map(|body| (exchange.id.clone(), body.as_bytes().to_vec(), false));
        for (id, served, stream) in whole.into_iter().chain(streams) {
            let theirs = match std::str::from_utf8(&served) {
                Ok(text) if !stream => answers::read(exchange, text),
                _ => answers::read_bytes(exchange, &served),
            };
            let whole = theirs.whole && theirs.error.is_none();
            let plausible = |counts: &Counts| counts.prompt < 1 << 30 && counts.completion < 1 << 30;
            let Some(counts) = theirs.usage.filter(|counts| whole && plausible(counts)) else { continue };
            let next = models.len();
            let model = models.entry(row.clone()).or_insert_with(|| format!("m{next}")).clone();
            cases.push(Case { id, exchange, served, stream, counts, model, price: price.clone() });
        }
    }
    let providers: String = accounts
        .iter()
        .map(|(account, speech)| {
            format!(
                "  {account}: {{ dialect: {}, base_url: \"UPSTREAM\", api_key: \"{PROVIDER_KEY}\" }}\n",
                speech.name()
            )
        })
        .collect();
    let models: String = models.iter().map(|(row, name)| format!("  {name}: {row}\n")).collect();
    let text = format!(
        "retry: {{ tries: 1, failures: 1000 }}\nlog: {{ level: error }}\nproviders:\n{providers}models:\n{models}{}",
        keys()
    );
    (cases, text)
}

#[test]
fn prices() {
    let Some(all) = recordings::all() else { return };
    let (cases, text) = cases(all);
    assert!(cases.len() >= FEWEST, "only {} exchanges", cases.len());
    let cases: Arc<HashMap<String, Case>> = Arc::new(cases.into_iter().map(|case| (case.id.clone(), case)).collect());
    let served = Arc::clone(&cases);
    let upstream = Upstream::start(move |attempt: &Attempt| {
        let text = attempt.text();
        let id = text.split_once("replay ").and_then(|(_, rest)| rest.split_once(" end"));
        id.and_then(|(id, _)| served.get(id)).map_or_else(|| Reply::json(418, "{}"), Case::reply)
    });
    let mut gateway = Gateway::start(&text.replace("UPSTREAM", &upstream.v1()));
    let (work, done) = (Mutex::new(cases.values()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let Some(case) = { work.lock().unwrap().next() } {
                    let got = gateway.chat_with(&[], case.request());
                    done.lock().unwrap().push((case, got));
                }
            });
        }
    });
    assert!(gateway.stop(std::time::Duration::from_secs(30)).success(), "{}", gateway.logs());
    let mut ledger = binary::ledger(&gateway);
    let (mut differ, mut kinds, mut listed) = (Vec::new(), BTreeMap::<&str, usize>::new(), 0);
    for (case, got) in done.into_inner().unwrap() {
        let row = got.header("x-portolan-request-id").and_then(|id| ledger.remove(&id.replace('-', "")));
        let wanted = case.price.cost(&case.counts);
        let speech = case.exchange.speech().name();
        *kinds.entry(speech).or_default() += 1;
        listed += usize::from(case.price.0[0].1 != MADE_UP);
        match row {
            Some(row) if row.cost == wanted && !row.estimated => {}
            row => differ.push(format!(
                "{} {speech} {}: {:?}, wanted {wanted} for {:?} at {:?} | {}",
                case.exchange.provider,
                case.id,
                row.map(|row| (row.cost, row.estimated, row.usage, row.outcome)),
                case.counts,
                case.price,
                got.to_string().chars().take(300).collect::<String>()
            )),
        }
    }
    for (kind, count) in &kinds {
        println!("replay: prices: {kind} {count}");
    }
    println!("replay: prices: {listed} at prices of the table, the others at made-up ones");
    println!("prices: {} exchanges, {} differ", cases.len(), differ.len());
    differ.truncate(20);
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
