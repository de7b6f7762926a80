//! Places at which a test may let the process die, as if it were killed there, or a call panic. In no binary but that of such
//! tests: without the feature `failpoints` nothing of this is compiled.

/// Dies here, if `PORTOLAN_FAILPOINT` says so: `NAME` or `NAME:N`, for the Nth time that it is come by.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("PORTOLAN_FAILPOINT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(times.parse().unwrap_or(1))))
    });
    if let Some((own, left)) = wanted
        && own == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // Nothing is closed, nothing is written: what a kill leaves.
        std::process::abort();
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_: &str) {}

/// Panics here, if `PORTOLAN_PANICS` says so: `NAME:N,NAME:N`, each Nth time that the place is come by.
#[cfg(feature = "failpoints")]
pub fn panics(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Vec<(String, u64, AtomicU64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("PORTOLAN_PANICS").unwrap_or_default();
        let places = text.split(',').filter_map(|place| place.split_once(':'));
        places.filter_map(|(name, each)| Some((name.to_owned(), each.parse().ok()?, AtomicU64::new(1)))).collect()
    });
    if let Some((_, each, passed)) = wanted.iter().find(|(own, ..)| own == name)
        && passed.fetch_add(1, Ordering::SeqCst).is_multiple_of(*each)
    {
        std::panic::panic_any(format!("planted by a test: {name}"));
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn panics(_: &'static str) {}

/// The size at which segments rotate: the usual one, or in such tests what `PORTOLAN_ROTATE` says.
pub fn rotate(usual: u64) -> u64 {
    #[cfg(feature = "failpoints")]
    if let Some(size) = std::env::var("PORTOLAN_ROTATE").ok().and_then(|text| text.parse().ok()) {
        return size;
    }
    usual
}

/// Every place, in the order in which a record comes by.
#[cfg(feature = "failpoints")]
pub const ALL: [&str; 20] = [
    "intent.before",
    "intent.after",
    "settlement.before",
    "settlement.after",
    "rotate.before",
    "rotate.renamed",
    "rotate.after",
    "sync.before",
    "sync.after",
    "drain.begin",
    "rows.written",
    "offset.written",
    "commit.after",
    "orphan.before",
    "orphan.after",
    "checkpoint.before",
    "checkpoint.after",
    "remove.before",
    "remove.after",
    "forget.after",
];
