//! Losses by client, provider dialect and field.
//!
//! A field is the path of a loss without its indices, and a path may have names in it that a caller made up. So only so many
//! fields get series of their own, and a name that looks like no member of an API gets none; the rest is counted together.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounterVec;

use crate::ir::Loss;

/// Most fields that are counted apart. All dialects' own have some two hundred.
const MOST_FIELDS: usize = 256;
/// Longest name of a field.
const LONGEST: usize = 96;
/// What all other fields are counted as.
const OTHER: &str = "other";

pub struct LossCounters {
    series: IntCounterVec,
    fields: Mutex<HashSet<String>>,
}

impl LossCounters {
    /// `series` has the labels `client`, `provider_dialect`, `field` and `kind`.
    pub(super) fn new(series: IntCounterVec) -> LossCounters {
        LossCounters { series, fields: Mutex::default() }
    }

    /// Counts a loss between a client's dialect and a provider's.
    pub fn count(&self, client: &str, provider: &str, loss: &Loss) {
        let field = field(&loss.path).filter(|field| self.known(field));
        let field = field.as_deref().unwrap_or(OTHER);
        self.series.with_label_values(&[client, provider, field, loss.how.name()]).inc();
    }

    /// Whether a field is counted apart; while there is room, a new one is from now on.
    fn known(&self, field: &str) -> bool {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        fields.contains(field) || fields.len() < MOST_FIELDS && fields.insert(field.to_owned())
    }
}

/// `messages[2].content[0].cache_control` as `messages[].content[].cache_control`; nothing for what is no such path.
fn field(path: &str) -> Option<String> {
    if path.is_empty() || path.len() > LONGEST {
        return None;
    }
    let mut field = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '0'..='9' if inside => continue,
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' if !inside => {}
            _ => return None,
        }
        field.push(c);
    }
    (!inside).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::How;
    use crate::telemetry::Metrics;

    fn loss(how: How, path: &str) -> Loss {
        Loss { how, path: path.to_owned().into() }
    }

    #[test]
    fn indices_are_left_out() {
        for (path, wanted) in [
            ("seed", Some("seed")),
            ("messages[0].content[12].cache_control", Some("messages[].content[].cache_control")),
            ("generationConfig.topK", Some("generationConfig.topK")),
            ("", None),
            ("a b", None),
            ("a[b]", None),
            ("a[1", None),
            ("ö", None),
        ] {
            assert_eq!(field(path).as_deref(), wanted, "{path}");
        }
        assert_eq!(field(&"x".repeat(97)), None);
    }

    #[test]
    fn callers_cannot_make_series_without_end() {
        let metrics = Metrics::new();
        for place in 0..3 {
            metrics.losses_by_field.count("gemini", "anthropic", &loss(How::Dropped, &format!("contents[{place}].x")));
        }
        for name in 0..1_000 {
            metrics.losses_by_field.count("openai_chat", "gemini", &loss(How::Dropped, &format!("x_{name}")));
        }
        metrics.losses_by_field.count("openai_chat", "gemini", &loss(How::Altered, "a\"b\n"));
        let text = metrics.render();
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with("portolan_losses_total{")).collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), MOST_FIELDS + 2, "{text}");
        for (field, client, provider, kind, count) in [
            ("contents[].x", "gemini", "anthropic", "dropped", 3),
            ("other", "openai_chat", "gemini", "dropped", 1_000 - MOST_FIELDS + 1),
            ("other", "openai_chat", "gemini", "altered", 1),
        ] {
            let line = format!(
                r#"portolan_losses_total{{client="{client}",field="{field}",kind="{kind}",provider_dialect="{provider}"}} {count}"#
            );
            assert!(lines.contains(&line.as_str()), "{line}: {lines:?}");
        }
    }
}
