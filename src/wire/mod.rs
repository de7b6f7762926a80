//! Floor 1: bytes. JSON spans and writers, patches, frames of streams. Nothing here has ever heard of a model.

pub mod eventstream;
pub mod frames;
pub mod json;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod lines;
pub mod patch;
pub mod pieces;
pub mod read;
pub mod scan;
pub mod sse;
pub mod veil;
pub mod writer;
pub mod yaml;
