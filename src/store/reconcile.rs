//! What a provider says was used, held against the ledger, model by model and day by day (UTC, as providers count).
//!
//! Read are the pages that providers' usage and cost endpoints answer with, as they are or several in a list, and the CSV files
//! that their consoles export:
//!
//! - OpenAI: usage of completions (`input_tokens` with cached ones, `input_cached_tokens`, `output_tokens`, `num_model_requests`)
//!   and costs (`amount.value` in dollars, `line_item`): "Usage" and "Costs" of the API reference, and the cookbook "How to use the
//!   Usage API and Cost API"; the CSV has the same names, with `amount_value` (seen 2026-11-21).
//! - Anthropic: messages usage (`uncached_input_tokens`, `cache_read_input_tokens`, `cache_creation`, `output_tokens`) and cost
//!   reports (`amount` in cents, as text): "Get Messages Usage Report" and "Get Cost Report" of the Admin API; the console's CSV has
//!   `usage_date_utc`, `model_version`, `usage_input_tokens_no_cache`, `usage_input_tokens_cache_write_5m`, `..._1h`,
//!   `usage_input_tokens_cache_read`, `usage_output_tokens`, and for costs `model` and `cost_usd` (seen 2026-11-21).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::policy::price;
use crate::store::ledger::{GroupBy, Query, Report, Unit, UsageRow};

/// Most rows of a file.
const MOST_ROWS: usize = 1_000_000;

/// What one model used on one day. `None`: not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub requests: Option<u64>,
    pub input: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    pub output: Option<u64>,
    /// Nano-dollars.
    pub cost: Option<u64>,
}

/// By day (`2026-11-21`) and model.
pub type Days = BTreeMap<(String, String), Told>;

/// Reads a provider's file.
///
/// # Errors
/// A sentence: what in it cannot be read.
pub fn read(text: &str) -> Result<Days, String> {
    let mut days = Days::new();
    if text.trim_start().starts_with(['{', '[']) {
        let whole: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
        pages(&whole, &mut days)?;
    } else {
        csv(text, &mut days)?;
    }
    if days.is_empty() {
        return Err("nothing in it is usage or cost of a model on a day".to_owned());
    }
    Ok(days)
}

/// The question whose answer can be held against it.
pub fn question(provider: &str, days: &Days) -> Query {
    let day = |text: &str| {
        let date: jiff::civil::Date = text.parse().ok()?;
        let first = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        u64::try_from(first.timestamp().as_millisecond()).ok()
    };
    let (first, last) = (days.keys().next(), days.keys().next_back());
    Query {
        only: vec![(GroupBy::Provider, provider.to_owned())],
        from: first.and_then(|(date, _)| day(date)),
        to: last.and_then(|(date, _)| day(date)).map(|last| last.saturating_add(86_400_000)),
        group_by: vec![GroupBy::Time(Unit::Day), GroupBy::Target],
        ..Query::default()
    }
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub day: String,
    pub model: String,
    pub theirs: Told,
    pub ours: Told,
}

impl Line {
    /// Nothing that the provider tells differs.
    pub fn agrees(&self) -> bool {
        self.parts().iter().all(|(_, theirs, ours)| theirs.is_none() || theirs == ours)
    }

    /// Names, the provider's figures and the ledger's.
    pub fn parts(&self) -> [(&'static str, Option<u64>, Option<u64>); 6] {
        let Line { theirs, ours, .. } = self;
        [
            ("requests", theirs.requests, ours.requests),
            ("input", theirs.input, ours.input),
            ("cached", theirs.cached, ours.cached),
            ("cache_write", theirs.cache_write, ours.cache_write),
            ("output", theirs.output, ours.output),
            ("cost", theirs.cost, ours.cost),
        ]
    }
}

/// Holds what a provider tells against the ledger's answer to [`question`]. Models go by the provider's own names; a dated
/// version that the provider tells of (`gpt-5-2025-08-07`) is the model that was asked for (`gpt-5`), where only that is known here.
pub fn compare(days: &Days, report: &Report) -> Vec<Line> {
    let mut lines: BTreeMap<(String, String), (Told, Told)> = BTreeMap::new();
    let mut known: Vec<&str> = Vec::new();
    for row in &report.rows {
        let Some((day, model)) = place(row) else { continue };
        known.push(model);
        let ours = Told {
            requests: Some(row.attempts.saturating_sub(row.errors)),
            input: Some(row.input),
            cached: Some(row.cached),
            cache_write: Some(row.cache_write),
            output: Some(row.output),
            cost: Some(row.cost),
        };
        lines.entry((day.to_owned(), model.to_owned())).or_default().1 = ours;
    }
    for ((day, model), told) in days {
        let own = known.iter().filter(|own| is_version(model, own)).max_by_key(|own| own.len());
        let own = own.map_or(model.as_str(), |own| own);
        merge(&mut lines.entry((day.clone(), own.to_owned())).or_default().0, told);
    }
    lines.into_iter().map(|((day, model), (theirs, ours))| Line { day, model, theirs, ours }).collect()
}

fn place(row: &UsageRow) -> Option<(&str, &str)> {
    let [(_, day), (_, target)] = row.group.as_slice() else { return None };
    Some((day, target.split_once('/').map_or(target.as_str(), |(_, model)| model)))
}

/// Whether it is that model, or a dated version of it.
fn is_version(told: &str, own: &str) -> bool {
    let Some(rest) = told.strip_prefix(own) else { return false };
    rest.is_empty()
        || (rest.starts_with(['-', '@']) && rest.bytes().skip(1).all(|byte| byte.is_ascii_digit() || byte == b'-'))
}

fn merge(sum: &mut Told, more: &Told) {
    let add = |sum: &mut Option<u64>, more: Option<u64>| {
        if let Some(more) = more {
            *sum = Some(sum.unwrap_or(0).saturating_add(more));
        }
    };
    add(&mut sum.requests, more.requests);
    add(&mut sum.input, more.input);
    add(&mut sum.cached, more.cached);
    add(&mut sum.cache_write, more.cache_write);
    add(&mut sum.output, more.output);
    add(&mut sum.cost, more.cost);
}

/// A page, a list of pages, or a list of their buckets.
fn pages(value: &Value, days: &mut Days) -> Result<(), String> {
    match value {
        Value::Array(parts) => parts.iter().take(MOST_ROWS).try_for_each(|part| pages(part, days)),
        Value::Object(page) if page.contains_key("data") => page.get("data").map_or(Ok(()), |data| pages(data, days)),
        Value::Object(bucket) => {
            let start = bucket.get("start_time").or_else(|| bucket.get("starting_at"));
            let day = start.and_then(day_of).ok_or("a bucket says neither `start_time` nor `starting_at`")?;
            let results = bucket.get("results").or_else(|| bucket.get("result")).and_then(Value::as_array);
            for result in results.into_iter().flatten().filter_map(Value::as_object) {
                let flat = flattened(result);
                row(&day, &|name| flat.get(name).cloned(), days)?;
            }
            Ok(())
        }
        _ => Err("expected pages of a usage or cost endpoint".to_owned()),
    }
}

/// Members of members by the names that CSV files have for them.
fn flattened(object: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut flat = BTreeMap::new();
    for (name, value) in object {
        match value {
            Value::Object(inner) => {
                flat.extend(inner.iter().map(|(part, value)| (format!("{name}_{part}"), text(value))));
            }
            // Anthropic's amounts are cents in text, and say so by being text.
            Value::String(cents) if name == "amount" => {
                flat.insert("amount_cents".to_owned(), cents.clone());
            }
            value => {
                flat.insert(name.clone(), text(value));
            }
        }
    }
    flat
}

fn csv(text: &str, days: &mut Days) -> Result<(), String> {
    let mut records = records(text);
    let names = records.next().ok_or("the file is empty")?;
    let names: Vec<String> =
        names.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_lowercase()).collect();
    for (number, record) in records.take(MOST_ROWS).enumerate() {
        if record.iter().all(String::is_empty) {
            continue;
        }
        let value = |name: &str| {
            let place = names.iter().position(|own| own == name)?;
            record.get(place).cloned()
        };
        let start = ["usage_date_utc", "date", "start_time_iso", "start_time", "starting_at", "day"]
            .into_iter()
            .find_map(value);
        let day = start.and_then(|text| day_of(&Value::String(text)));
        let day = day.ok_or_else(|| format!("line {}: no day that can be read", number + 2))?;
        row(&day, &value, days).map_err(|what| format!("line {}: {what}", number + 2))?;
    }
    Ok(())
}

/// Adds one row of any of the forms.
fn row(day: &str, value: &dyn Fn(&str) -> Option<String>, days: &mut Days) -> Result<(), String> {
    let said = |names: &[&str]| names.iter().find_map(|name| value(name).filter(|text| !text.trim().is_empty()));
    let count = |names: &[&str]| match said(names) {
        None => Ok(None),
        Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| format!("`{text}` is no count")),
    };
    let money = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => price::parse_per_million(text.trim().trim_start_matches('$'))
            .or_else(|| rounded(text.trim()))
            .map(Some)
            .ok_or_else(|| format!("`{text}` is no amount")),
    };
    // A line of costs names the model first: "gpt-5-2025-08-07, input".
    let model = said(&["model_version", "model"])
        .or_else(|| Some(said(&["line_item", "description"])?.split(',').next()?.trim().to_owned()));
    let Some(model) = model else { return Ok(()) };
    let fresh = count(&["uncached_input_tokens", "usage_input_tokens_no_cache"])?;
    let read = count(&["cache_read_input_tokens", "usage_input_tokens_cache_read", "input_cached_tokens"])?;
    let short = count(&["cache_creation_ephemeral_5m_input_tokens", "usage_input_tokens_cache_write_5m"])?;
    let long = count(&["cache_creation_ephemeral_1h_input_tokens", "usage_input_tokens_cache_write_1h"])?;
    let written = short.or(long).map(|_| short.unwrap_or(0).saturating_add(long.unwrap_or(0)));
    let input = match fresh {
        // Anthropic counts what was read from a cache and written to it apart.
        Some(fresh) => Some(fresh.saturating_add(read.unwrap_or(0)).saturating_add(written.unwrap_or(0))),
        None => count(&["input_tokens"])?,
    };
    let cost = match said(&["amount_cents"]) {
        Some(cents) => money(Some(cents))?.map(|cents| cents / 100),
        None => money(said(&["amount_value", "cost_usd"]))?,
    };
    let told = Told {
        requests: count(&["num_model_requests"])?,
        input,
        cached: read,
        cache_write: written,
        output: count(&["output_tokens", "usage_output_tokens"])?,
        cost,
    };
    if told != Told::default() {
        merge(days.entry((day.to_owned(), model)).or_default(), &told);
    }
    Ok(())
}

/// An amount with more digits than a nano-dollar has (providers tell floats), to the nearest one.
fn rounded(text: &str) -> Option<u64> {
    let dollars = text.parse::<f64>().ok().filter(|dollars| (0.0..1e9).contains(dollars))?;
    Some((dollars * 1e9).round() as u64)
}

/// Unix seconds, or whatever begins with a date.
fn day_of(start: &Value) -> Option<String> {
    let seconds = |n: i64| Some(jiff::Timestamp::from_second(n).ok()?.strftime("%Y-%m-%d").to_string());
    match start {
        Value::Number(n) => seconds(n.as_i64()?),
        Value::String(text) => {
            let text = text.trim();
            if let Ok(n) = text.parse::<i64>() {
                return seconds(n);
            }
            let date = text.get(..10)?;
            date.parse::<jiff::civil::Date>().ok()?;
            Some(date.to_owned())
        }
        _ => None,
    }
}

/// Records of RFC 4180: values with commas, quotes and ends of lines are in quotes.
fn records(text: &str) -> impl Iterator<Item = Vec<String>> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        chars.peek()?;
        let (mut record, mut value, mut quoted) = (Vec::new(), String::new(), false);
        while let Some(c) = chars.next() {
            match c {
                // A quote within quotes is written twice.
                '"' if quoted && chars.peek() == Some(&'"') => value.extend(chars.next()),
                '"' => quoted = !quoted,
                ',' if !quoted => record.push(std::mem::take(&mut value)),
                '\r' if !quoted => {}
                '\n' if !quoted => break,
                c => value.push(c),
            }
        }
        record.push(value);
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'d>(days: &'d Days, day: &str, model: &str) -> &'d Told {
        days.get(&(day.to_owned(), model.to_owned())).unwrap_or_else(|| panic!("{day} {model}: {days:?}"))
    }

    #[test]
    fn openai_usage_and_costs_are_read() {
        let usage = r#"{"object":"page","data":[{"object":"bucket","start_time":1795219200,"end_time":1795305600,"results":[
            {"object":"organization.usage.completions.result","input_tokens":1000,"output_tokens":500,"input_cached_tokens":800,
             "num_model_requests":5,"model":"gpt-5-2025-08-07"},
            {"input_tokens":10,"output_tokens":5,"num_model_requests":1,"model":"gpt-5-2025-08-07"}]}],"has_more":false}"#;
        let days = read(usage).unwrap();
        let told = of(&days, "2026-11-21", "gpt-5-2025-08-07");
        assert_eq!((told.requests, told.input, told.cached, told.output), (Some(6), Some(1_010), Some(800), Some(505)));
        let costs = r#"[{"data":[{"start_time":1795219200,"results":[
            {"amount":{"value":0.06,"currency":"usd"},"line_item":"gpt-5-2025-08-07, input"},
            {"amount":{"value":0.0000000015,"currency":"usd"},"line_item":"gpt-5-2025-08-07, output"}]}]}]"#;
        // A number of JSON may come back with an exponent; the sum is what counts.
        let days = read(costs).unwrap();
        assert_eq!(of(&days, "2026-11-21", "gpt-5-2025-08-07").cost, Some(60_000_002));
    }

    #[test]
    fn anthropic_usage_and_costs_are_read() {
        let usage = r#"{"data":[{"starting_at":"2026-11-20T00:00:00Z","results":[{"uncached_input_tokens":100,"cache_creation":
            {"ephemeral_1h_input_tokens":10,"ephemeral_5m_input_tokens":5},"cache_read_input_tokens":200,"output_tokens":50,
            "model":"claude-sonnet-4-5"}]}]}"#;
        let days = read(usage).unwrap();
        let told = of(&days, "2026-11-20", "claude-sonnet-4-5");
        assert_eq!(
            (told.input, told.cached, told.cache_write, told.output),
            (Some(315), Some(200), Some(15), Some(50))
        );
        let cost = r#"{"data":[{"starting_at":"2026-11-20T00:00:00Z","results":[
            {"amount":"123.45","currency":"USD","model":"claude-sonnet-4-5"}]}]}"#;
        assert_eq!(of(&read(cost).unwrap(), "2026-11-20", "claude-sonnet-4-5").cost, Some(1_234_500_000));
        let csv = "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
            usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\r\n\
            2026-11-20,claude-sonnet-4-5,\"a \"\"b\"\", c\",100,5,10,200,50\r\n";
        assert_eq!(read(csv).unwrap(), days);
    }

    #[test]
    fn what_is_no_export_is_said() {
        for (text, part) in [
            ("", "empty"),
            ("[1]", "expected pages"),
            ("{", "no JSON"),
            (r#"{"data":[{"results":[]}]}"#, "start_time"),
            ("date,model,output_tokens\n2026-11-20,m,many\n", "line 2: `many` is no count"),
            ("date,model\nsoon,m\n", "line 2: no day"),
            ("date,colour\n2026-11-20,red\n", "nothing in it"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
    }

    #[test]
    fn differences_are_by_day_and_model() {
        let day = |name: &str, model: &str| {
            vec![("day".to_owned(), name.to_owned()), ("target".to_owned(), format!("p/{model}"))]
        };
        let row = |name, model, input| UsageRow { group: day(name, model), attempts: 2, input, ..UsageRow::default() };
        let report = Report {
            rows: vec![row("2026-11-20", "gpt-5", 10), row("2026-11-20", "gpt-5-mini", 7)],
            ..Report::default()
        };
        let told = |input| Told { input: Some(input), ..Told::default() };
        let key = |model: &str| ("2026-11-20".to_owned(), model.to_owned());
        let days = Days::from([
            (key("gpt-5-2025-08-07"), told(10)),
            (key("gpt-5-mini-2025-08-07"), told(8)),
            (key("unheard"), told(1)),
        ]);
        let lines = compare(&days, &report);
        let verdicts: Vec<_> = lines.iter().map(|line| (line.model.as_str(), line.agrees())).collect();
        assert_eq!(verdicts, [("gpt-5", true), ("gpt-5-mini", false), ("unheard", false)]);
        let asked = question("p", &days);
        assert_eq!((asked.from, asked.to), (Some(1_795_132_800_000), Some(1_795_219_200_000)));
    }
}
