//! The same traffic through the real binary: a scripted upstream serves what was recorded, in odd pieces, and what
//! comes out before the gateway and what stands in its ledger is what the provider said.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use portolan::ir::{How, Losses};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::answers;
use super::client::Response;
use super::gateway::{Gateway, PROVIDER_KEY, keys};
use super::plain::{self, Answer, Counts, says};
use super::recordings::{self, Exchange, Speech};
use super::tally::Tally;
use super::upstream::{Attempt, Framing, Reply, Step, Upstream};

/// Fewest exchanges that are worth the name.
const FEWEST: usize = 300;
/// Exchanges of one provider, status, API and set of features that are tried.
pub const ALIKE: usize = 3;
/// Callers side by side.
pub const CALLERS: usize = 2;

/// Prices in nano-dollars for a million tokens; no two alike.
struct Prices {
    input: u128,
    output: u128,
    cached: u128,
    written: u128,
    written_1h: u128,
    audio_in: u128,
    audio_out: u128,
    reasoning: u128,
    /// Nano-dollars.
    request: u128,
    search: u128,
}

const MILLI: u128 = 1_000_000;

const PRICES: Prices = Prices {
    input: 2_500 * MILLI,
    output: 10_000 * MILLI,
    cached: 251 * MILLI,
    written: 3_120 * MILLI,
    written_1h: 5_010 * MILLI,
    audio_in: 40_030 * MILLI,
    audio_out: 80_070 * MILLI,
    reasoning: 12_110 * MILLI,
    request: 1_300_000,
    search: 10_700_000,
};

impl Prices {
    /// As the configuration has them: dollars.
    fn row(&self) -> String {
        let dollars = |nano: u128| format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
        let members = [
            ("input", self.input),
            ("output", self.output),
            ("cached", self.cached),
            ("cache_write", self.written),
            ("cache_write_1h", self.written_1h),
            ("audio_input", self.audio_in),
            ("audio_output", self.audio_out),
            ("reasoning", self.reasoning),
            ("request", self.request),
            ("search", self.search),
        ];
        let members: Vec<_> = members.iter().map(|(name, nano)| format!("{name}: {}", dollars(*nano))).collect();
        format!("{{ {} }}", members.join(", "))
    }

    /// What a call cost, in nano-dollars, rounded half up once.
    fn cost(&self, counts: &Counts) -> u128 {
        let [cached, written, written_1h, audio_in, reasoning, audio_out] =
            [counts.cached, counts.written, counts.written_1h, counts.audio_in, counts.reasoning, counts.audio_out]
                .map(u128::from);
        // No token is priced twice: one that OpenRouter says was read and written counts as read, sound that was read
        // from a cache as read, and what was thought aloud as sound.
        let written = written.min(u128::from(counts.prompt) - cached);
        let uncached = u128::from(counts.prompt) - cached - written - written_1h;
        let audio_in = audio_in.min(uncached);
        let reasoning = reasoning.min(u128::from(counts.completion) - audio_out);
        let tokens = (uncached - audio_in) * self.input
            + cached * self.cached
            + written * self.written
            + written_1h * self.written_1h
            + audio_in * self.audio_in
            + (u128::from(counts.completion) - reasoning - audio_out) * self.output
            + reasoning * self.reasoning
            + audio_out * self.audio_out;
        (2 * tokens + 1_000_000) / 2_000_000 + self.request + u128::from(counts.searches) * self.search
    }
}

/// One call to make.
struct Case {
    id: String,
    exchange: &'static Exchange,
    /// What the upstream sends.
    served: &'static str,
    stream: bool,
    /// The caller wants to see usage.
    asked: bool,
}

impl Case {
    fn request(&self) -> String {
        let model = self.exchange.speech().name();
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": self.mark()}]});
        if self.stream {
            body["stream"] = true.into();
        }
        if self.stream && self.asked {
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    }

    /// What tells the upstream which answer is wanted.
    fn mark(&self) -> String {
        format!("replay {} end", self.id)
    }

    fn reply(&self) -> Reply {
        let seed = self.id.bytes().fold(17, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut steps = Vec::new();
        let mut rest = self.served.as_bytes();
        while !rest.is_empty() {
            // Long bodies in longer pieces, odd all the same.
            let most = 97.max(rest.len() / 50);
            let (piece, after) = rest.split_at(random.usize(1..=most).min(rest.len()));
            steps.push(Step::Bytes(piece.to_vec()));
            rest = after;
        }
        if self.stream {
            return Reply::stream(steps);
        }
        let kind = if self.served.trim_start().starts_with(['{', '[']) { "application/json" } else { "text/plain" };
        let framing = if random.bool() { Framing::Length(None) } else { Framing::Chunked };
        Reply { steps, framing, ..Reply::new(self.exchange.response.status, kind, "") }
    }
}

/// A spread over providers, statuses and features: of each set of features some exchanges, and every error.
fn cases(recordings: &'static [Exchange]) -> Vec<Case> {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for exchange in recordings {
        let Exchange { provider, api, features, response, .. } = exchange;
        let of_kind = alike.entry(format!("{provider} {api} {} {features:?}", response.status)).or_default();
        *of_kind += 1;
        if exchange.is_good() && *of_kind > ALIKE {
            continue;
        }
        // A list is how Gemini streams without `alt=sse`, for which we always ask.
        let asked_for = |served: &&str| !served.starts_with('[') || !exchange.is_good();
        if let Some(served) = exchange.whole().filter(asked_for) {
            cases.push(Case { id: exchange.id.clone(), exchange, served, stream: false, asked: true });
        }
        for (id, served) in exchange.streams() {
            let unasked = format!("{id} (usage unasked)");
            cases.push(Case { id, exchange, served, stream: true, asked: true });
            cases.push(Case { id: unasked, exchange, served, stream: true, asked: false });
        }
    }
    cases
}

fn config(upstream: &Upstream) -> String {
    let mut text = "retry: { tries: 1, failures: 1000 }\nlog: { level: error }\n".to_owned();
    let (mut providers, mut models) = (String::new(), String::new());
    for speech in Speech::FIRST {
        let name = speech.name();
        let url = upstream.v1();
        providers.push_str(&format!(
            "  up-{name}: {{ dialect: {name}, base_url: \"{url}\", api_key: \"{PROVIDER_KEY}\" }}\n"
        ));
        let price = PRICES.row();
        models.push_str(&format!("  {name}: {{ targets: [{{ provider: up-{name}, model: m, price: {price} }}] }}\n"));
    }
    text.push_str(&format!("providers:\n{providers}models:\n{models}{}", keys()));
    text
}

#[test]
fn binary() {
    let Some(recordings) = recordings::first() else { return };
    let cases: Arc<HashMap<String, Case>> =
        Arc::new(cases(recordings).into_iter().map(|case| (case.mark(), case)).collect());
    assert!(cases.len() >= FEWEST, "only {} exchanges", cases.len());
    let served = Arc::clone(&cases);
    let upstream = Upstream::start(move |attempt: &Attempt| {
        let text = attempt.text();
        let mark = text.split_once("replay ").and_then(|(_, rest)| rest.split_once(" end"));
        let mark = mark.map(|(id, _)| format!("replay {id} end"));
        mark.and_then(|mark| served.get(&mark)).map_or_else(|| Reply::json(418, "{}"), Case::reply)
    });
    let mut gateway = Gateway::start(&config(&upstream));
    let work = Mutex::new(cases.values());
    let done = Mutex::new(Vec::new());
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
    let stopped = gateway.stop(std::time::Duration::from_secs(30));
    assert!(stopped.success(), "the gateway ended with {stopped}:\n{}", gateway.logs());
    let mut ledger = ledger(&gateway);
    let mut tally = Tally::default();
    for (case, got) in done.into_inner().unwrap() {
        let row = got.header("x-portolan-request-id").and_then(|id| ledger.remove(&id.replace('-', "")));
        let Some(row) = row else {
            tally.count(&case.id, vec![format!("no row in the ledger: {got}")], &Losses::default());
            continue;
        };
        let problems = if case.exchange.is_good() { judge(case, &got, &row) } else { judge_error(case, &got, &row) };
        let problems = problems.into_iter().map(|problem| format!("{problem} | {got}")).collect();
        *tally.kinds.entry(format!("{} {}", case.exchange.speech().name(), kind(case))).or_default() += 1;
        tally.count(&format!("{} {}", case.exchange.provider, case.id), problems, &row.losses);
    }
    assert!(ledger.is_empty(), "rows that no call explains: {:?}", ledger.keys());
    for (kind, count) in &tally.kinds {
        println!("replay: through the binary: {kind} {count}");
    }
    tally.print_failures();
    println!("replay: through the binary: {} tried, {} failed", tally.tried(), tally.failed.len());
    assert!(tally.failed.is_empty(), "{} failed", tally.failed.len());
}

fn kind(case: &Case) -> &'static str {
    match (case.exchange.is_good(), case.stream) {
        (false, _) => "errors",
        (true, true) => "streams",
        (true, false) => "answers",
    }
}

/// What the ledger has of an attempt.
pub struct Row {
    pub outcome: String,
    pub status: u16,
    pub usage: Option<portolan::ir::Usage>,
    pub estimated: bool,
    pub cost: u128,
    pub losses: Losses,
}

/// The rows by request id.
pub fn ledger(gateway: &Gateway) -> HashMap<String, Row> {
    let path = gateway.dir.path().join("state/ledger.sqlite");
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let usage = "json_patch(json_object('input', input, 'output', output, 'cached', cached, 'cache_write', cache_write,
        'cache_write_1h', cache_write_1h, 'reasoning', reasoning, 'stated_total', stated_total), coalesce(other_usage, '{}'))";
    let columns = format!(
        "lower(hex(request)), outcome, status, iif(input IS NULL, NULL, {usage}), estimated, cost, losses, state, unpriced"
    );
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM attempts")).unwrap();
    let rows = statement.query_map([], |row| {
        assert_eq!((row.get::<_, String>(7)?.as_str(), row.get::<_, bool>(8)?), ("settled", false));
        let usage: Option<String> = row.get(3)?;
        let losses: Option<String> = row.get(6)?;
        let row_read = Row {
            outcome: row.get(1)?,
            status: row.get(2)?,
            usage: usage.map(|text| serde_json::from_str(&text).unwrap()),
            estimated: row.get(4)?,
            cost: row.get::<_, i64>(5)?.try_into().unwrap(),
            losses: read_losses(&losses.unwrap_or_default()),
        };
        Ok((row.get(0)?, row_read))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn read_losses(text: &str) -> Losses {
    let mut losses = Losses::default();
    for loss in text.split(", ").filter(|loss| !loss.is_empty()) {
        let (how, path) = loss.split_once(':').unwrap();
        let hows = [How::Dropped, How::Altered, How::Emulated];
        let how = hows.into_iter().find(|known| known.name() == how).unwrap();
        losses.add(how, path.to_owned().into());
    }
    losses
}

/// What is wrong with a good answer.
fn judge(case: &Case, got: &Response, row: &Row) -> Vec<String> {
    let exchange = case.exchange;
    let theirs =
        if case.stream { answers::read_stream(exchange, case.served) } else { answers::read(exchange, case.served) };
    if !theirs.whole || theirs.error.is_some() {
        return judge_broken(case, &theirs, got, row);
    }
    let mut problems = Vec::new();
    if got.status != 200 || !got.whole {
        return vec![format!("status {}, whole: {}", got.status, got.whole)];
    }
    let kind = got.header("content-type").unwrap_or_default();
    if kind.starts_with("text/event-stream") != case.stream {
        problems.push(format!("content type {kind}"));
    }
    if exchange.speech() == Speech::Chat {
        let wanted = if case.stream && !case.asked { without_usage(case.served) } else { case.served.to_owned() };
        if got.body != wanted.as_bytes() {
            problems.push("the bytes are not the provider's".to_owned());
        }
    } else {
        problems.extend(compare(case, &theirs, got, row));
    }
    problems.extend(judge_row(&theirs, row));
    problems.extend(judge_told(case, got, row));
    problems
}

fn compare(case: &Case, theirs: &Answer, got: &Response, row: &Row) -> Vec<String> {
    let json: Option<Value> = (!case.stream).then(|| got.json());
    let ours = match &json {
        Some(json) => plain::ours::whole(json),
        None => plain::ours::stream(got.text(), case.asked),
    };
    let mut ours = match ours {
        Ok(ours) => ours,
        Err(shape) => return vec![format!("our answer's shape: {shape}")],
    };
    let mut problems = Vec::new();
    // Usage is shown in a stream only if it was asked for.
    let shown = theirs.usage.filter(|_| !case.stream || case.asked);
    if ours.usage != shown {
        problems.push(format!("usage {:?}, wanted {shown:?}", ours.usage));
    }
    ours.usage = theirs.usage;
    problems.extend(plain::differences(theirs, &ours, json.as_ref(), &row.losses));
    problems
}

/// What the caller is told beside the answer: the cost, and what was lost.
fn judge_told(case: &Case, got: &Response, row: &Row) -> Vec<String> {
    let mut problems = Vec::new();
    let cost = format!("{}.{:09}", row.cost / 1_000_000_000, row.cost % 1_000_000_000);
    let cost: f64 = cost.parse().unwrap();
    let same = |told: &str| told.parse::<f64>().is_ok_and(|told| (told - cost).abs() < 1e-12);
    if case.stream {
        let told = got.text().lines().filter(|line| line.contains("\"cost_usd\":")).count();
        let wanted = case.asked && !row.estimated && case.exchange.speech() != Speech::Chat;
        if told != usize::from(wanted) {
            problems.push(format!("the cost is told {told} times"));
        }
        return problems;
    }
    if !got.header("x-portolan-cost-usd").is_some_and(same) {
        problems.push(format!("cost {:?}, wanted {cost}", got.header("x-portolan-cost-usd")));
    }
    let told = got.header("x-portolan-loss").unwrap_or_default();
    if read_losses(told) != row.losses {
        problems.push(format!("losses {told:?}, but {} in the ledger", row.losses));
    }
    let in_body = &got.json()["cost_usd"];
    let written = case.exchange.speech() != Speech::Chat && !row.estimated;
    if written != in_body.as_f64().is_some_and(|told| (told - cost).abs() < 1e-12) {
        problems.push(format!("cost in the body {in_body}, wanted {cost}"));
    }
    problems
}

fn judge_row(theirs: &Answer, row: &Row) -> Vec<String> {
    let mut problems = Vec::new();
    if row.outcome != "ok" || row.status != 200 {
        problems.push(format!("outcome {} with status {}", row.outcome, row.status));
    }
    match theirs.usage {
        Some(counts) => {
            problems.extend(answers::miscounted(Some(counts), row.usage));
            if row.estimated {
                problems.push("usage is said to be an estimate".to_owned());
            }
            if row.cost != PRICES.cost(&counts) {
                problems.push(format!("cost {}, wanted {}", row.cost, PRICES.cost(&counts)));
            }
        }
        None if !row.estimated => problems.push("usage is not said to be an estimate".to_owned()),
        None => {}
    }
    problems
}

/// A stream that broke off, or in which the provider told of an error: the caller learns of it, and the ledger too.
fn judge_broken(case: &Case, theirs: &Answer, got: &Response, row: &Row) -> Vec<String> {
    let mut problems = Vec::new();
    let said = |answer: &Answer| answer.choices.values().map(|choice| choice.text.clone()).collect::<String>();
    if row.outcome == "ok" {
        problems.push("a broken stream is said to be ok".to_owned());
    }
    if got.status != 200 {
        // It broke before it said anything.
        let error = &got.json()["error"];
        if got.status < 400 || !says(&error["message"]) || !said(theirs).is_empty() {
            problems.push(format!("status {}", got.status));
        }
        return problems;
    }
    let (ours, error) = if case.exchange.speech() == Speech::Chat {
        let ours = plain::chat::stream(got.text(), &case.exchange.provider);
        (said(&ours), ours.error)
    } else {
        match plain::ours::stream(got.text(), case.asked) {
            Ok(ours) => (said(&ours), ours.error),
            Err(shape) => return vec![format!("our stream's shape: {shape}")],
        }
    };
    if error.is_none_or(|error| !says(&error["message"])) {
        problems.push("the caller is not told of the error".to_owned());
    }
    if ours != said(theirs) {
        problems.push(format!("text {ours:?}, wanted {:?}", said(theirs)));
    }
    problems
}

/// What is wrong with the answer to an error.
fn judge_error(case: &Case, got: &Response, row: &Row) -> Vec<String> {
    let status = case.exchange.response.status;
    let mut problems = Vec::new();
    if row.status != status || row.outcome == "ok" || row.usage.is_some() || row.cost != 0 {
        problems.push(format!("outcome {} with status {} and cost {}", row.outcome, row.status, row.cost));
    }
    // What speaks of the operator's account is not the caller's affair.
    let own_account = ["authentication", "permission", "quota_exhausted"].contains(&row.outcome.as_str());
    if !own_account && case.exchange.speech() == Speech::Chat && !case.served.is_empty() {
        if got.status != status || got.body != case.served.as_bytes() {
            problems.push(format!("status {}, and not byte for byte what the provider sent", got.status));
        }
        return problems;
    }
    let wanted = if own_account { 502 } else { status };
    let error = &got.json()["error"];
    let is_told = ["message", "type"].iter().all(|name| says(&error[*name]));
    if got.status != wanted || !is_told {
        problems.push(format!("status {}, wanted {wanted}", got.status));
    }
    if own_account && (error["code"] != "provider_account" || got.text().contains(PROVIDER_KEY)) {
        problems.push("the error is not put as one of the account".to_owned());
    }
    problems
}

/// A stream without the frame that carries usage and nothing else.
fn without_usage(text: &str) -> String {
    let is_usage = |frame: &str| {
        let Some(data) = frame.lines().find_map(|line| line.strip_prefix("data:")) else { return false };
        let Ok(json) = serde_json::from_str::<Value>(data.trim()) else { return false };
        let counts = |usage: &Value| usage["prompt_tokens"].is_u64() || usage["completion_tokens"].is_u64();
        let empty = json["choices"].as_array().is_none_or(|choices| choices.is_empty());
        empty && (counts(&json["usage"]) || counts(&json["x_groq"]["usage"]))
    };
    let blank = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    text.split_inclusive(blank).filter(|frame| !is_usage(frame)).collect()
}
