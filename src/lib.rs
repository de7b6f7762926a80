//! Portolan: a self-hosted gateway in front of every model provider.
//!
//! The floors, lowest first; a module uses only floors below its own (`tests/floors.rs` holds us to it):
//!
//! 1. [`wire`]: bytes.  2. [`ir`]: what is said.  3. [`dialect`]: how it is said.  4. [`provider`]: where, with which
//!    credentials.  5. [`policy`]: may it, how much, whereto.  6. [`config`]: text in, snapshot out.
//! 7. [`exchange`]: the life of one call, without I/O.  8. [`telemetry`], [`store`]: what is told and kept.
//! 9. [`proxy`], [`admin`], [`sandbox`]: the glue to Pingora, side by side.
//!
//! A call's life: the proxy reads head and body; the exchange admits (who), reads (what), plans (whereto) and, attempt
//! by attempt, splices or transcodes the request; the relay carries the answer chunk by chunk; settling tells journal,
//! metrics and log what it cost. Nothing below floor 8 does I/O, reads a clock or knows Pingora.

pub mod admin;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod exchange;
pub mod ir;
pub mod policy;
pub mod provider;
pub mod proxy;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod wire;
