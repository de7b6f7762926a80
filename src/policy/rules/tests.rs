//! What conditions mean, what is wrong with them, and that they mean what the crate's own interpreter says.

use std::collections::HashMap;

use cel::{Context, Program, Value as Cel};
use proptest::prelude::*;

use super::*;

/// A call with one of each: no bound of its answer, one tag, one header.
struct Sample {
    tools: bool,
    max_tokens: Option<i64>,
}

impl Facts for Sample {
    fn value(&self, field: Field) -> Option<Value<'_>> {
        Some(match field {
            Field::Model => Value::Text("gpt-5"),
            Field::Operation => Value::Text("generate"),
            Field::Dialect => Value::Text("openai_chat"),
            Field::Stream => Value::Flag(true),
            Field::InputTokens => Value::Number(400),
            Field::MaxTokens => return self.max_tokens.map(Value::Number),
            Field::HasTools => Value::Flag(self.tools),
            Field::HasImages | Field::WantsJson | Field::WantsThinking => Value::Flag(false),
            Field::Priority => Value::Text("normal"),
            Field::KeyId | Field::KeyName => Value::Text("web"),
            Field::KeyTier => Value::Text("free"),
            Field::Class | Field::Routing | Field::Session | Field::Project | Field::Team | Field::ClientRegion => {
                Value::Text("")
            }
            Field::Hour => Value::Number(23),
            Field::Minute => Value::Number(5),
            Field::MinuteOfDay => Value::Number(23 * 60 + 5),
            Field::Weekday => Value::Number(6),
        })
    }

    fn entry(&self, map: Map, name: &str) -> Option<&str> {
        match (map, name) {
            (Map::Tags, "project") => Some("finance"),
            (Map::KeyTags, "cost-centre") => Some("4711"),
            (Map::Headers, "x-app") => Some("größer"),
            _ => None,
        }
    }
}

const SAMPLE: Sample = Sample { tools: false, max_tokens: None };

fn judge(source: &str) -> Result<bool, Failure> {
    match Expression::compile(source) {
        Ok(expression) => expression.holds(&SAMPLE),
        Err(mistakes) => panic!("{source}: {mistakes:?}"),
    }
}

/// What the crate's interpreter makes of it.
fn theirs(source: &str) -> Option<bool> {
    let field = |path: &str| match SAMPLE.value(Field::ALL.iter().copied().find(|field| field.path() == path)?)? {
        Value::Flag(flag) => Some(Cel::from(flag)),
        Value::Number(number) => Some(Cel::from(number)),
        Value::Text(text) => Some(Cel::from(text.to_owned())),
    };
    let maps = [("tags", "project", "finance"), ("headers", "x-app", "größer")];
    let mut context = Context::default();
    for root in ["request", "key", "time"] {
        let mut members: HashMap<String, Cel> = HashMap::new();
        for known in Field::ALL {
            if let Some((_, name)) = known.path().split_once('.').filter(|(outer, _)| *outer == root)
                && let Some(value) = field(known.path())
            {
                members.insert(name.to_owned(), value);
            }
        }
        if root == "key" {
            let tags = HashMap::from([("cost-centre".to_owned(), Cel::from("4711".to_owned()))]);
            members.insert("tags".to_owned(), Cel::from(tags));
        }
        context.add_variable_from_value(root, members);
    }
    for name in ["project", "team", "client_region"] {
        context.add_variable_from_value(name, field(name).unwrap());
    }
    for (map, name, value) in maps {
        context.add_variable_from_value(map, HashMap::from([(name.to_owned(), Cel::from(value.to_owned()))]));
    }
    match Program::compile(source).unwrap().execute(&context) {
        Ok(Cel::Bool(flag)) => Some(flag),
        _ => None,
    }
}

#[test]
fn conditions_mean_what_they_say() {
    for (source, expected) in [
        ("request.input_tokens < 401 && !request.has_tools", Ok(true)),
        ("key.tier == 'free' || project == 'x'", Ok(true)),
        ("time.weekday > 5 && (time.hour >= 22 || time.minute_of_day < 6 * 60)", Ok(true)),
        ("request.model in ['a', 'gpt-5']", Ok(true)),
        ("request.input_tokens in [1, 2]", Ok(false)),
        ("request.model.startsWith('gpt') && request.model.endsWith('5') && request.model.contains('t-')", Ok(true)),
        ("size(headers['X-App']) == 6", Ok(true)),
        ("tags.project == 'finance' && tags['project'] != 'x'", Ok(true)),
        ("'project' in tags && !('other' in tags) && has(tags.project)", Ok(true)),
        ("key.tags['cost-centre'] == '4711'", Ok(true)),
        ("has(request.max_tokens)", Ok(false)),
        ("request.max_tokens > 5", Err(Failure::Absent)),
        ("!has(request.max_tokens) || request.max_tokens > 5", Ok(true)),
        ("headers['x-missing'] == 'x'", Err(Failure::Absent)),
        ("headers['x-missing'] == 'x' || true", Ok(true)),
        ("headers['x-missing'] == 'x' && false", Ok(false)),
        ("1 / (time.hour - 23) == 1", Err(Failure::DividedByZero)),
        ("9223372036854775807 + time.hour > 0", Err(Failure::Overflow)),
        ("(request.stream ? 1 : 2) == 1", Ok(true)),
        ("(request.stream ? 'a' : 'b') == 'a'", Ok(true)),
        ("team == ''", Ok(true)),
        ("request.stream == !request.has_tools", Ok(true)),
        ("-time.hour < 0 && time.hour % 2 == 1 && 'a' < 'b'", Ok(true)),
    ] {
        assert_eq!(judge(source), expected, "{source}");
        if !source.contains("X-App") {
            assert_eq!(theirs(source), expected.ok(), "the interpreter: {source}");
        }
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let told = |source: &str| {
        let mistakes = Expression::compile(source).expect_err(source);
        mistakes.iter().map(|mistake| format!("{:?} {}", mistake.place, mistake.message)).collect::<Vec<_>>()
    };
    for (source, place, part) in [
        ("request.modle == 'a'", "(1, 1)", "there is no `request.modle`. Did you mean `request.model`?"),
        ("true && nothing.like.it", "(1, 9)", "there is no `nothing.like.it`. Known are: request.model,"),
        ("request.model == 5", "(1, ", "a text cannot be compared with a number"),
        ("request.stream < true", "(1, ", "cannot be compared"),
        ("request.model", "(1, 1)", "expected true or false, found a text"),
        ("request.model.matches('a.*')", "(1, ", "`matches` cannot be used like this"),
        ("['a'].exists(x, x == 'a')", "(1, ", "there are no loops"),
        ("request.input_tokens > 1.5", "(1, 24)", "write a whole number"),
        ("headers['authorization'] == 'x'", "(1, 1)", "may hold a credential"),
        ("has(headers.cookie)", "(1, ", "may hold a credential"),
        ("'x-api-key' in headers", "(1, 1)", "may hold a credential"),
        ("headers[request.model] == ''", "(1, 9)", "write the name in quotes"),
        ("tags == 'a'", "(1, 1)", "`tags` has entries"),
        ("tags.a.b == 'x'", "(1, 1)", "write tags[\"a.b\"]"),
        ("request.stream ? 1 : 'a'", "(1, ", "both sides of `:` must be of one kind"),
        ("request.stream &&", "(1, ", ""),
        ("", "(1, 1)", "an empty condition"),
        ("true\n  && time.huor > 1", "(2, 6)", "Did you mean `time.hour`?"),
    ] {
        let told = told(source);
        assert!(told.iter().any(|line| line.starts_with(place) && line.contains(part)), "{source}: {told:?}");
    }
    assert_eq!(told("request.a && request.b && time.hour").len(), 3, "all at once");
    assert!(told(&"x".repeat(MOST_BYTES + 1))[0].contains("longer than"));
    assert!(told(&vec!["true"; 300].join(" && "))[0].contains("too much"));
    assert!(told(&"(".repeat(3_000))[0].contains("32 brackets"));
    assert!(told(&"!".repeat(4_000))[0].contains("1024 operators"));
    // As far as the bounds let it go.
    assert!(!told(&format!("{}1{}", "(".repeat(32), ")".repeat(32))).is_empty());
    assert!(!told(&format!("1{}", " + 1".repeat(1_000))).is_empty());
    assert!(!told(&"true ? 1 : ".repeat(372)).is_empty());
    assert!(!told(&format!("tags{}", ".a".repeat(1_000))).is_empty());
}

#[test]
fn the_classes_that_a_condition_goes_by_are_known() {
    let classes = |source: &str| Expression::compile(source).unwrap().classes().join(",");
    assert_eq!(classes("request.stream"), "");
    assert_eq!(classes("request.class == 'a' || 'b' != request.class || request.class in ['c']"), ",a,b,c");
    assert_eq!(Expression::compile("request.class.startsWith('x')").unwrap().classes(), [""]);
    assert!(Expression::compile("request.stream").unwrap().classes().is_empty());
}

#[test]
fn credentials_are_known_by_their_names() {
    for name in ["Authorization", "x-api-key", "X-Goog-Api-Key", "cookie", "x-amz-security-token", "client_secret"] {
        assert!(names::is_secret(name), "{name}");
    }
    for name in ["x-app", "accept-language", "user-agent", "x-max-tokens", "x-monkey"] {
        assert!(!names::is_secret(name), "{name}");
    }
}

#[test]
fn sets_only_narrow() {
    let set = Set { regions: vec!["eu".into()], attributes: vec!["zdr".into()], names: vec!["azure*/gpt-*".into()] };
    let zdr = ["zdr".to_owned(), "x".to_owned()];
    assert!(set.has("azure-eu/gpt-5", Some("eu"), &zdr));
    assert!(!set.has("azure-eu/gpt-5", None, &zdr) && !set.has("azure-eu/gpt-5", Some("us"), &zdr));
    assert!(!set.has("azure-eu/gpt-5", Some("eu"), &[]) && !set.has("openai/gpt-5", Some("eu"), &zdr));
    assert!(Set::default().has("any/thing", None, &[]));
}

/// Conditions of the right types, over the sample.
fn flags() -> impl Strategy_<Value = String> {
    let texts = prop_oneof![
        Just("request.model".to_owned()),
        Just("key.tier".to_owned()),
        Just("project".to_owned()),
        Just("tags.project".to_owned()),
        Just("tags['other']".to_owned()),
        Just("headers['x-app']".to_owned()),
        "'[a-gp5-]{0,3}'",
    ];
    let numbers = prop_oneof![
        Just("request.input_tokens".to_owned()),
        Just("request.max_tokens".to_owned()),
        Just("time.hour".to_owned()),
        (0i64..30).prop_map(|number| number.to_string()),
        Just("9223372036854775807".to_owned()),
    ]
    .prop_recursive(2, 6, 2, |inner| {
        (inner.clone(), "[-+*/%]", inner).prop_map(|(left, how, right)| format!("({left} {how} {right})"))
    });
    let order = prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")];
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("request.stream".to_owned()),
        Just("request.has_tools".to_owned()),
        Just("has(request.max_tokens)".to_owned()),
        Just("has(tags.project)".to_owned()),
        Just("'x-app' in headers".to_owned()),
        (numbers.clone(), order.clone(), numbers.clone())
            .prop_map(|(left, how, right)| format!("{left} {how} {right}")),
        (texts.clone(), order, texts.clone()).prop_map(|(left, how, right)| format!("{left} {how} {right}")),
        (texts.clone(), texts.clone(), texts.clone()).prop_map(|(one, a, b)| format!("{one} in [{a}, {b}]")),
        (numbers.clone(), numbers).prop_map(|(one, a)| format!("{one} in [{a}, 400]")),
        (texts.clone(), "startsWith|endsWith|contains", texts.clone())
            .prop_map(|(one, how, part)| format!("{one}.{how}({part})")),
        texts.prop_map(|text| format!("size({text}) > 3")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) && ({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) || ({b}))")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(({a}) ? ({b}) : ({c}))")),
        ]
    })
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    #[test]
    fn conditions_are_judged_as_the_interpreter_judges_them(source in flags()) {
        let ours = Expression::compile(&source).map_err(|mistakes| TestCaseError::fail(format!("{source}: {mistakes:?}")))?;
        prop_assert_eq!(ours.holds(&SAMPLE).ok(), theirs(&source), "{}", source);
    }

    #[test]
    fn any_text_is_read_or_refused(source in "([a-z.'\"\\[\\](){}!&|<>=?:+*/%0-9 \\n-]|request|in|tags|\\PC){0,60}") {
        let _ = Expression::compile(&source);
    }
}
