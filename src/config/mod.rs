//! Floor 6: text in, snapshot out.

pub mod snapshot;

pub use snapshot::Snapshot;
