//! Who asks: a token of ours or of an issuer in `Authorization: Bearer`, and nowhere else, so that no browser sends one of its
//! own accord.
//!
//! What a web page can do against a port of this machine it does through the browser of somebody who sits at it. It cannot
//! send a token it does not know, and cannot read answers, since no CORS header lets it; that leaves pages whose own name is
//! made to lead to this machine (DNS rebinding), for which a port on a loopback address shows nothing without a token where
//! `Host` is a name, but for `localhost`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, header};

use super::answer::Refused;
use crate::config::directory::{Administrator, Directory};
use crate::policy::auth;
use crate::policy::role::{Rights, Role};

/// Name of the owner whose token is given to the process.
pub const ENVIRONMENT: &str = "environment";

pub struct Gate {
    directory: Arc<Directory>,
    environment: Option<([u8; 32], Arc<Administrator>)>,
    /// Only this machine can connect.
    local: bool,
    brake: Brake,
}

/// What a request shows.
#[derive(Debug)]
pub enum Shown<'h> {
    Nothing,
    /// A token of ours.
    Ours(Caller),
    /// A token that is none of ours: an issuer's, or nobody's.
    Other(&'h str),
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Id of the token, or `jwt:ISSUER:SUBJECT`; empty for who showed none.
    pub id: String,
    pub rights: Rights,
}

impl Gate {
    /// `given`: digest of a token that is good as long as this process runs.
    pub fn new(directory: Arc<Directory>, given: Option<[u8; 32]>, local: bool) -> Gate {
        let environment = given.map(|digest| {
            let rights = Rights { role: Role::Owner, team: None };
            (digest, Arc::new(Administrator { id: ENVIRONMENT.to_owned(), rights, expires: None }))
        });
        Gate { directory, environment, local, brake: Brake::default() }
    }

    /// Whether the request names this machine in a way that a port of its own may answer to.
    pub fn answers_to(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        match (hosts.next(), hosts.next()) {
            _ if !self.local => true,
            (None, _) => true,
            (Some(host), None) => host.to_str().is_ok_and(is_local),
            (Some(_), Some(_)) => false,
        }
    }

    /// Whose token it is. `now` is Unix seconds.
    ///
    /// # Errors
    /// It is no token, or none that is good any more.
    pub fn shown<'h>(&self, headers: &'h HeaderMap, now: u64) -> Result<Shown<'h>, Refused> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let (first, second) = (shown.next(), shown.next());
        let Some(value) = first else { return Ok(Shown::Nothing) };
        let bearer = value.to_str().ok().filter(|_| second.is_none()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let bearer = bearer.ok_or_else(Refused::unauthorized)?;
        let digest = auth::digest(bearer).ok_or_else(Refused::unauthorized)?;
        let given = self.environment.as_ref().filter(|(own, _)| auth::same(own, &digest)).map(|(_, who)| who.clone());
        let Some(who) = given.or_else(|| self.directory.administrator(&digest)) else {
            // A guess at ours, or a caller's key, is nothing to ask others about.
            let ours = bearer.starts_with("pa-") || bearer.starts_with("pk-");
            return if ours { Err(Refused::unauthorized()) } else { Ok(Shown::Other(bearer)) };
        };
        if who.expires.is_some_and(|expires| now >= expires) {
            return Err(Refused::unauthorized());
        }
        Ok(Shown::Ours(Caller { id: who.id.clone(), rights: who.rights.clone() }))
    }

    /// Makes who failed wait, the longer the more of them there were of late. `now`: milliseconds of any clock.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn slow(&self, now: u64) -> Result<(), Refused> {
        let Some(_place) = self.brake.place() else {
            let refused = Refused::new(429, "too_many_attempts", "too many bad tokens at once: wait a little");
            return Err(Refused { retry_after: Some(2), ..refused });
        };
        tokio::time::sleep(self.brake.pause(now)).await;
        Ok(())
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Slows who guesses. Tokens have 256 random bits, so this is not what keeps them out; it keeps them from keeping us busy.
/// Who shows a good token never waits.
#[derive(Default)]
struct Brake {
    /// When the last one failed, and how many did of late.
    last: Mutex<(u64, u32)>,
    waiting: AtomicUsize,
}

/// Most that wait at once.
const WAITING: usize = 32;
const LONGEST: Duration = Duration::from_millis(250);

struct Place<'b>(&'b AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Brake {
    fn place(&self) -> Option<Place<'_>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(&self.waiting))
    }

    /// The first few cost next to nothing; each second forgives one.
    fn pause(&self, now: u64) -> Duration {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let forgiven = u32::try_from(now.saturating_sub(last.0) / 1_000).unwrap_or(u32::MAX);
        let failures = last.1.saturating_sub(forgiven).min(20);
        *last = (now, failures + 1);
        Duration::from_millis(1 << failures.min(10)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    fn gate(local: bool) -> Gate {
        let directory = Directory::new(Arc::new(from_text("listen: 127.0.0.1:1", &|_| None).unwrap()));
        let mut edit = directory.edit(false);
        let rights = Rights { role: Role::Viewer, team: None };
        let who = Administrator { id: "v".into(), rights, expires: Some(100) };
        edit.administrator(auth::digest("pa-viewer").unwrap(), Some(who));
        edit.finish();
        Gate::new(Arc::new(directory), auth::digest("pa-given"), local)
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_a_good_token_in_its_one_place_lets_in() {
        let gate = gate(true);
        let shown = |headers: &HeaderMap, now: u64| match gate.shown(headers, now) {
            Ok(Shown::Ours(who)) => Ok(Some(who.id)),
            Ok(Shown::Nothing) => Ok(None),
            Ok(Shown::Other(token)) => Err(token.to_owned()),
            Err(refused) => Err(refused.status.to_string()),
        };
        let who = |all: &[(&'static str, &str)]| shown(&headers(all), 99);
        assert_eq!(who(&[("authorization", "Bearer pa-given")]).unwrap().as_deref(), Some(ENVIRONMENT));
        assert_eq!(who(&[("authorization", "bearer  pa-viewer ")]).unwrap().as_deref(), Some("v"));
        assert_eq!(who(&[]).unwrap(), None);
        assert_eq!(who(&[("x-api-key", "pa-given"), ("cookie", "token=pa-given")]).unwrap(), None);
        for bad in
            ["Bearer", "Bearer ", "Basic pa-given", "pa-given", "Bearer pa-give", "Bearer pa-givenx", "Bearer pk-x"]
        {
            assert_eq!(who(&[("authorization", bad)]).unwrap_err(), "401", "{bad}");
        }
        assert_eq!(who(&[("authorization", "Bearer eyJ.e30.x")]).unwrap_err(), "eyJ.e30.x", "for its issuer to say");
        let twice = [("authorization", "Bearer pa-given"), ("authorization", "Bearer pa-given")];
        let mut map = HeaderMap::new();
        for (name, value) in twice {
            map.append(name, value.parse().unwrap());
        }
        assert_eq!(shown(&map, 99).unwrap_err(), "401", "two of them");
        assert_eq!(shown(&headers(&[("authorization", "Bearer pa-viewer")]), 100).unwrap_err(), "401");
    }

    #[test]
    fn a_port_of_this_machine_answers_to_no_foreign_name() {
        let hosts = ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "[::1]:8081", "10.0.0.1"];
        let foreign = ["evil.example", "localhost.evil.example:8081", "127.0.0.1.evil.example", "", "[evil]"];
        let own = gate(true);
        let public = gate(false);
        for host in hosts {
            assert!(own.answers_to(&headers(&[("host", host)])), "{host}");
        }
        for host in foreign {
            assert!(!own.answers_to(&headers(&[("host", host)])), "{host}");
            assert!(public.answers_to(&headers(&[("host", host)])), "{host}");
        }
        assert!(own.answers_to(&HeaderMap::new()));
    }

    #[test]
    fn who_guesses_waits_and_is_forgiven() {
        let brake = Brake::default();
        let pauses: Vec<_> = (0..12).map(|_| brake.pause(1_000).as_millis()).collect();
        assert_eq!(pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[11], 250);
        assert!(brake.pause(60_000).as_millis() <= 2);
        let places: Vec<_> = (0..WAITING).map(|_| brake.place().unwrap()).collect();
        assert!(brake.place().is_none());
        drop(places);
        assert!(brake.place().is_some());
    }
}
