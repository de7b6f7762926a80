//! Departures from a dialect: what is written goes before what the preset says, and both together must make sense.

use crate::dialect::{CONTROLS, Dialect, Quirks, template};

use super::build::Build;
use super::file;
use super::problem::Route;

/// Members that each call decides for itself.
const DECIDED: [&str; 2] = ["model", "stream"];

impl Build<'_> {
    /// The quirks of a provider.
    pub fn quirks(
        &mut self,
        written: &file::Quirks,
        preset: Option<&Quirks>,
        dialect: Option<Dialect>,
        route: &Route,
    ) -> Quirks {
        let quirks = merged(written.clone(), preset.cloned().unwrap_or_default());
        if let Some(version) = &quirks.api_version {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if version.is_empty() || !version.bytes().all(known) {
                self.wrong(
                    &route.key("api_version"),
                    "a version is letters, digits, dots and hyphens, such as 2024-10-21",
                );
            }
        }
        for (field, template) in [("path", &quirks.path), ("stream_path", &quirks.stream_path)] {
            let Some(template) = template else { continue };
            if let Err(message) = template::check(template, quirks.api_version.is_some()) {
                self.wrong(&route.key(field), message);
            }
        }
        for name in quirks.adds.keys() {
            if CONTROLS.contains(&name.as_str()) || DECIDED.contains(&name.as_str()) || name.is_empty() {
                self.wrong(&route.key("adds").key(name), "each call decides this for itself: take it out");
            }
        }
        if let Some(outbound) = dialect.and_then(|dialect| dialect.outbound) {
            let in_path = template::is_in_path(outbound);
            for (field, stream) in [("path", false), ("stream_path", true)] {
                let named = quirks.template(stream).map_or(in_path, template::names_model);
                let field = if quirks.stream_path.is_none() { "path" } else { field };
                if !named && (in_path || quirks.no_model) {
                    let message = "neither path nor body would say which model is meant: write {model} into the path";
                    self.wrong(&route.key(field), message);
                }
            }
        }
        quirks
    }
}

fn merged(written: file::Quirks, base: Quirks) -> Quirks {
    let adds = written.adds.map(|adds| adds.into_iter().map(|(name, value)| (name, value.into())).collect());
    Quirks {
        rename: written.rename.unwrap_or(base.rename),
        refuses: written.refuses.unwrap_or(base.refuses),
        no_stream_options: written.no_stream_options.unwrap_or(base.no_stream_options),
        no_developer_role: written.no_developer_role.unwrap_or(base.no_developer_role),
        no_json_schema: written.no_json_schema.unwrap_or(base.no_json_schema),
        reasoning: written.reasoning.unwrap_or(base.reasoning),
        prefill: written.prefill.unwrap_or(base.prefill),
        streams: written.streams.unwrap_or(base.streams),
        path: written.path.or(base.path),
        stream_path: written.stream_path.or(base.stream_path),
        api_version: written.api_version.or(base.api_version),
        no_model: written.no_model.unwrap_or(base.no_model),
        adds: adds.unwrap_or(base.adds),
    }
}
