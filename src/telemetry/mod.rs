//! Floor 8: what is told: metrics, events, the log. An event is a struct; emitting it writes its metric and its line.

pub mod access_log;
mod budgets;
pub mod events;
mod explanations;
pub mod log;
mod losses;
pub mod metrics;
mod series;
mod supervisor;

pub use explanations::Explanations;
pub use losses::LossCounters;
pub use metrics::{Metrics, StoreSeen};
pub use series::Series;
pub use supervisor::Supervisor;
