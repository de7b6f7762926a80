//! A single crate has no compiler for its floors: this test reads every `use crate::` and `crate::` path, and fails on
//! an edge that goes up or sideways, and on I/O, clocks and Pingora below floor 8.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules by floor, lowest first. Modules of one floor do not know each other.
const FLOORS: [&[&str]; 10] = [
    &["wire"],
    &["ir"],
    &["dialect"],
    &["provider"],
    &["policy"],
    &["config"],
    &["exchange"],
    &["telemetry", "store"],
    &["proxy", "admin", "sandbox"],
    &["cli"],
];

/// What no module below floor 8 may name.
const WORLD: [&str; 12] = [
    "pingora::",
    "tokio::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::env::",
    "Instant::now",
    "SystemTime::now",
    "fastrand::",
    "getrandom::",
    "rusqlite",
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without comments and without its tests, which may look anywhere and do I/O.
fn code(text: &str) -> String {
    let cut = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..cut].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_module_uses_its_own_floor_or_one_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let (mut edges, mut wrong) = (0, Vec::new());
    for file in all {
        let inside = file.strip_prefix(&src).unwrap();
        let top = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let is_test = inside.components().any(|part| part.as_os_str() == "tests.rs" || part.as_os_str() == "tests");
        let Some(own) = floor(&top) else {
            assert!(["lib", "main"].contains(&top.as_str()), "{} is on no floor: name it in FLOORS", inside.display());
            continue;
        };
        if is_test {
            continue;
        }
        let code = code(&fs::read_to_string(&file).unwrap());
        for used in paths(&code) {
            let module = used.split("::").next().unwrap();
            let Some(other) = floor(module) else { continue };
            edges += 1;
            if module != top && other >= own {
                wrong.push(format!("{}: crate::{used}", inside.display()));
            }
        }
        if own < 7 {
            for word in WORLD {
                if code.contains(word) {
                    wrong.push(format!("{}: {word}", inside.display()));
                }
            }
        }
    }
    assert!(edges > 50, "only {edges} edges seen: the reading of `use` is broken");
    assert!(wrong.is_empty(), "these go the wrong way:\n{}", wrong.join("\n"));
}

/// Every path after `crate::`, groups opened one level.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let end = group.find('}').unwrap_or(group.len());
            found.extend(group[..end].split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()));
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            found.push(rest[..end].trim_end_matches(':').to_owned());
        }
    }
    found
}
