//! The catalogue of faults: what providers and callers do wrong, and what is held then.
//!
//! `make faults` runs it and counts. Each test bears the number of its case, and ends with the reconciler
//! ([`case::Case::close`]), which holds what callers got against what scripted providers saw and against the ledger:
//!
//! - O1 every call ended by its deadline;
//! - O2 no truncated answer was given as a good one;
//! - O3 the ledger has one row for each attempt that a provider saw, settled once, with the tokens the provider
//!   reported, or an estimate that says so;
//! - O5 the process is the same, and nothing panicked;
//! - O6 no part of a planted key is in the log (at its most talkative), in metrics or in answers;
//! - O7 open files and buffers are back where they were;
//! - O8 a call that has nothing to do with the fault succeeds within a second.
//!
//! | case | where | remarks |
//! |---|---|---|
//! | A-1 to, A-16 | `status` | |
//! | A-5 to A-7, A-21 | `connect` | a dropped SYN: a listener whose kernel drops what arrives |
//! | A-8 to A-13 | `stream` | |
//! | A-14, A-17 to A-19, A-27 | `answer` | A-17: we ask for no encoding; what is packed all the same is gone around, not unpacked |
//! | A-20 | `tls` | TLS 1.0: the bytes of such a server's first answer; the library at hand cannot speak the rest |
//! | A-22 | `h2` | a script of frames on a plain port, by prior knowledge; two calls through TLS and ALPN; a full connection may be offered by Pingora, and the call waits |
//! | A-23 | `names` | a preloaded library in the place of the resolver |
//! | A-24 to A-26, A-28 | `health` | |
//! | B-1 to B-12 | `clients` | B-3: a half-close is taken for a close; B-7: replay by key is the provider's to offer |
//! | B-13 | none | there is no realtime endpoint yet |
//! | D-1, D-2 | `kill9` (`make kill9`) | |
//! | D-3 to D-5, D-7 to D-9, D-12, D-14 to D-16 | `lifecycle` | D-3: 40 streams, and PORTOLAN_FAULTS times as many; D-5, D-16: `make upgrade` for the figures; D-9: another owner is kept out by the state directory's rights; D-12: the watchdog itself is systemd's; D-14: three seconds; D-15: without a million rows |
//! | D-6 | `budgets` | g11: two processes on one budget |
//! | D-10 | unit | `store/tests/versions`: what newer and older versions wrote; there is no older release yet whose binary could be run |
//! | D-11 | `races` (`make races`) | panics are planted |
//! | D-13 | none | an OOM kill is a kill: D-1 |
//! | E-1 to E-11, E-13 | `storage` | E-1: a file system in a mount namespace; E-2 to E-4, E-8, a read-only disk and the clock: a preloaded library; E-5: images made of a killed gateway's segment, opened by the library; E-9: with some hundred rows, since ten million take longer than these tests may (they are rolled up ten thousand at a time); E-10: zones and ends of months are cases of `store/fold` and of budgets |
//! | E-12 | none | there is no sink for exports yet, but a command that writes a file |
//! | G-1, G-2, G-4 to G-6, G-10 to G-12 | `budgets` | |
//! | G-3 | none | end users that nobody has named have no budgets of their own |
//! | G-7 | `limits` | |
//! | G-8 | unit | `policy::budget::window`: no clock of a whole process is moved |
//! | G-9 | replay | `g09_no_reserve_is_below_the_truth`, over the recordings |
//! | H-8 to H-10 | `tenants` | H-10: kills at random moments; a change that fails half way is a unit test of `store/directory` |
//! | I-1 to I-6, I-14, I-20, L-3, L-5, L-6 | `protocol` | I-14: nothing that a caller names is asked by us, so there is nothing to guard; webhooks and issuers are the operator's own. L-3: h2.CL and h2.TE need no case of ours, since callers have no HTTP/2 on the plain port; a bare LF within a chunk's extension is taken by Pingora, and goes no further, for bodies are framed anew. L-5: an upgrade is not made, and the request is answered like any other |
//! | I-7 | none | bodies of callers are never unpacked: what is packed is no JSON |
//! | I-8 | none | there is no multipart endpoint yet |
//! | I-9 | none | no pattern is compiled that is not the operator's, and none backtracks |
//! | I-10 to I-12 | unit | `store/ledger`: foreign text is a value and never a statement; `telemetry/log`, `telemetry/metrics`: forged lines and labels; parameters of `/v1/usage` |
//! | I-13 | `protocol` (I-14) | addresses in body and headers |
//! | I-15 | replay, `laws` | what is said is passed on as it is, byte for byte |
//! | I-16, I-17 | none | there is no console and no cache of answers yet |
//! | I-18 | `make fuzz` | |
//! | I-19 | none | digests of secrets are compared in constant time (`policy/auth`); a measurement of a million samples says nothing on a shared machine |
//! | L-1, L-2, L-4 | none | judges that are not part of a plain machine: h2spec, llhttp's cases, four other servers |
//! | L-7 to L-9 | `frames`, `make sdk-test`, `voices` | |
//! | L-10 | `make authz` | schemathesis |
//! | L-11, L-12 | none | the gateway ends no TLS of callers itself, and has no WebSockets |
//! | L-13 | `answers` | |
//! | J-1 | `authz` (`make authz`) | the matrix, made of the router's table |
//! | J-2 to J-6, J-8, J-9, J-11 to J-14 | `tenants` | J-2: keys, projects, users, teams, kept responses; there are no files, batches or threads yet. J-11: we send webhooks and take none; that they verify is a test of `alerts`. J-12: there are no cookies and no sessions |
//! | J-7 | none | there is no cache of answers yet; calls that are joined (`dedup`) are told apart by their key first |
//! | J-10 | none | the admin API has no call that takes a command, a file or an address |
//! | K-1 to K-3, K-5, K-6 | `secrets` | K-1: all kinds of secrets and of failures in one gateway, not all of the cases above, which have O6; K-2: what repeats a credential within a good answer's own text is the model's word; K-5: panics are planted by `make secrets` |
//! | K-4 | `secrets`, unit | callers' keys are kept as digests; providers' keys stand in the operator's files and are never stored |
//!
//! What costs time by its number of calls is scaled by `PORTOLAN_FAULTS`; each test prints how many there were. Zero of
//! N stands for at most 3/N (at 95 %).

mod answer;
mod books;
mod budgets;
mod case;
mod clients;
mod connect;
mod failover;
mod h2;
mod health;
mod lifecycle;
mod limits;
mod names;
mod protocol;
mod search;
mod secrets;
mod status;
mod storage;
mod stream;
mod tenants;
mod tls;

/// How often something is done in the cases that repeat one: `PORTOLAN_FAULTS` multiplies it, 1 where it is not set.
fn scaled(count: usize) -> usize {
    let factor: f64 = std::env::var("PORTOLAN_FAULTS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1.0);
    ((count as f64 * factor) as usize).max(1)
}
