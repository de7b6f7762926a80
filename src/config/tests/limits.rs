//! Limits of levels: both ways to write them come to the same, and every mistake is told in its place.

use super::*;
use crate::config::snapshot::Snapshot;
use crate::policy::limit::{By, Elastic, Limit, Of, Per};

const TREE: &str = "
providers: { p: { preset: ollama } }
projects: { web: { limits: { rpm: 600 } } }
keys:
";

fn snapshot(limits: &str) -> Result<Snapshot, Vec<Problem>> {
    let secret = super::super::hex(&crate::policy::auth::digest("pk-x").unwrap());
    let text = format!("{TREE}  - {{ id: k, secret_sha256: \"{secret}\", project: web, limits: {limits} }}\n");
    with(&[("f", &text)], &[])
}

fn limits(written: &str) -> Vec<Limit> {
    let key = snapshot(written).unwrap().key("pk-x").unwrap().clone();
    assert!(key.limited);
    key.levels[0].limits.to_vec()
}

#[test]
fn short_and_full_come_to_the_same() {
    let told = |limits: &[Limit]| -> Vec<_> {
        limits.iter().map(|limit| (limit.of, limit.most, limit.per, limit.by.name())).collect()
    };
    let short = limits("{ rpm: 60, tpm: 100000, rpd: 1000, concurrency: 5 }");
    let full = limits(
        "[{ of: requests, most: 60, per: minute }, { of: requests, most: 1000, per: day, by: sliding_window },
          { of: tokens, most: 100000, per: minute }, { of: concurrency, most: 5 }]",
    );
    assert_eq!(told(&short), told(&full));
    assert_eq!(told(&short)[3], (Of::Concurrency, 5, Per::Second, "at_once"));
    let others = limits(
        "[{ of: spend, most: 2.50, per: day, by: fixed_window, time_zone: UTC },
          { of: output_tokens, most: 6000, per: minute, by: token_bucket, burst: 100, elastic: { most: 9000, calls: 8 } }]",
    );
    assert_eq!((others[0].most, others[0].words().as_str()), (2_500_000_000, "2.5 US dollars a day"));
    assert!(matches!(others[1].by, By::TokenBucket { burst: 100 }));
    assert_eq!(others[1].elastic, Some(Elastic { most: 9_000, calls: 8 }));
    // Those it belongs to are asked too, and nobody where nothing is written.
    let key = snapshot("[]").unwrap().key("pk-x").unwrap().clone();
    assert!(key.limited && key.levels[0].limits.is_empty() && key.levels[1].limits.len() == 1);
}

fn told_of(limits: &str) -> String {
    let problems = snapshot(limits).unwrap_err();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_limit_that_cannot_be_is_told() {
    for (written, place, told) in [
        ("{ rpm: 0 }", "limits.rpm", "1"),
        ("{ rmp: 5 }", "limits.rmp", "rpm"),
        ("[{ of: requests, most: 0, per: minute }]", "limits[0].most", "more than 0"),
        ("[{ of: requests, most: 1.5, per: minute }]", "limits[0].most", "whole number"),
        ("[{ of: requests, most: 5 }]", "limits[0].per", "second, minute, hour or day"),
        ("[{ of: concurrency, most: 5, per: day }]", "limits[0].per", "take it out"),
        ("[{ of: concurrency, most: 5, by: token_bucket }]", "limits[0].by", "take it out"),
        ("[{ of: requests, most: 5, per: day, burst: 4 }]", "limits[0].burst", "token_bucket"),
        ("[{ of: requests, most: 5, per: day, time_zone: UTC }]", "limits[0].time_zone", "fixed_window"),
        (
            "[{ of: requests, most: 5, per: day, by: fixed_window, time_zone: Mars/Base }]",
            "limits[0].time_zone",
            "Mars/Base",
        ),
        ("[{ of: tokens, most: 5, per: day, elastic: { most: 5, calls: 1 } }]", "limits[0].elastic", "write more"),
        ("[{ of: tokens, most: 5, per: day }, { of: tokens, most: 6, per: day }]", "limits[1]", "the same"),
        ("[{ of: seconds, most: 5, per: day }]", "limits[0].of", "requests"),
        ("[{ of: tokens, most: 9999999999999999, per: day }]", "limits[0].most", "15 digits"),
    ] {
        let problems = told_of(written);
        assert!(problems.contains(&format!("keys[0].{place}")) && problems.contains(told), "{written}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{written}: {problems}");
    }
    let many = ["requests", "tokens", "input_tokens", "output_tokens", "images"];
    let many = many
        .iter()
        .flat_map(|of| ["second", "minute", "hour", "day"].map(|per| format!("{{ of: {of}, most: 5, per: {per} }}")));
    let problems = told_of(&format!("[{}]", many.collect::<Vec<_>>().join(", ")));
    assert!(problems.contains("16 limits at most"), "{problems}");
}
