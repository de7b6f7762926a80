//! Recorded provider traffic, replayed: what providers really sent and were really sent, through our dialects and
//! through the real binary.
//!
//! The folder is named by `PORTOLAN_RECORDINGS`; without it every test says so and passes. Nothing in here trusts the
//! dialects to judge themselves: what an answer says is read a second time by [`plain`], straight from the JSON, with
//! tables of its own, and the two readings must agree. What a dialect cannot be told or cannot show must be a loss with a
//! name.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod asked;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod callers;
#[cfg(test)]
#[path = "../gateway/client.rs"]
#[expect(dead_code, reason = "a rig shared with the gateway's tests, which use all of it")]
mod client;
#[cfg(test)]
mod coverage;
#[cfg(test)]
mod errors;
#[cfg(test)]
#[path = "../gateway/gateway.rs"]
#[expect(dead_code, reason = "a rig shared with the gateway's tests, which use all of it")]
mod gateway;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod passthrough;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod prices;
#[cfg(test)]
mod recordings;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod reserves;
#[cfg(test)]
mod splits;
#[cfg(test)]
mod tally;
#[cfg(test)]
mod through;
#[cfg(test)]
#[path = "../gateway/upstream.rs"]
#[expect(dead_code, reason = "a rig shared with the gateway's tests, which use all of it")]
mod upstream;
#[cfg(test)]
#[path = "../gateway/wire.rs"]
#[expect(dead_code, reason = "a rig shared with the gateway's tests, which use all of it")]
mod wire;

/// The dialects on what was recorded: answers, errors, requests.
#[test]
fn dialects() {
    let (Some(all), Some(first)) = (recordings::all(), recordings::first()) else { return };
    let tally = std::thread::scope(|scope| {
        let (some, others) = all.split_at(first.len() / 2);
        let asked = scope.spawn(|| asked::replay(all));
        let more = [scope.spawn(|| callers::replay(some)), scope.spawn(|| callers::replay(others))];
        let requests = scope.spawn(|| requests::replay(first));
        let mut tally = answers::replay(first);
        tally.add(errors::replay(all));
        for more in more.into_iter().chain([requests, asked]) {
            tally.add(more.join().expect("a part of the replay panicked"));
        }
        tally
    });
    tally.report();
    assert!(tally.failed.is_empty(), "{} failed", tally.failed.len());
}

/// What budgets reserve, against what providers counted (G-9).
#[test]
fn g09_no_reserve_is_below_the_truth() {
    let Some(all) = recordings::all() else { return };
    let under = reserves::replay(all);
    assert!(under.is_empty(), "{} below the truth:\n{}", under.len(), under.join("\n"));
}
