//! The real binary between raw sockets: scripted providers behind it, scripted callers before it.
//!
//! Threads and the standard library only, on both sides: an HTTP library would repair what these tests must see (odd
//! chunks, cut streams, malformed heads). Each test starts its own gateway on ports of its own, so tests run side by
//! side and share no state. What they hold the gateway to is the contract: the README and the configuration reference.

#[cfg(test)]
mod administration;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod authz;
#[cfg(test)]
mod bearers;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod client;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod continuation;
#[cfg(test)]
mod counting;
#[cfg(test)]
mod dedup;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod h2;
#[cfg(test)]
mod heartbeat;
#[cfg(test)]
mod hedging;
#[cfg(test)]
mod keep_alive;
#[cfg(test)]
mod kill9;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod metering;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod passthrough;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod prices;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod races;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod resale;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod shadow;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tenancy;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod voices;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod words;
