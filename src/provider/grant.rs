//! Credentials that hold for a while: what they prove with, how long they are good, when to get the next ones.
//!
//! Times are Unix milliseconds: what the other side says of the end of a credential is a matter of its wall clock.

use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::{AuthScheme, Secret, sigv4};

/// Longest time that a credential is believed to be good for, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long before its end a credential is renewed at the latest.
const BEFORE: Duration = Duration::from_secs(300);
/// A request that begins now must not arrive with a credential that has ended meanwhile.
const MARGIN: Duration = Duration::from_secs(10);
/// Pauses after failures: the first one, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A credential, and until when it is good.
pub struct Grant {
    pub proof: Proof,
    obtained: u64,
    life: Duration,
}

/// What a request proves itself with.
pub enum Proof {
    /// Headers as they are sent, marked sensitive, and the token in them.
    Bearer { header: (HeaderName, HeaderValue), token: Secret },
    /// Keys that each request is signed with.
    Aws(sigv4::Credentials),
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[grant for {:?}]", self.life)
    }
}

impl Grant {
    /// A token for `authorization: Bearer`.
    ///
    /// # Errors
    /// It is empty, has characters that no header can carry, or has ended already.
    pub fn bearer(token: String, now: u64, life: Duration) -> Result<Grant, String> {
        let token = Secret::new(token);
        let header = AuthScheme::Bearer.header(&token).ok().flatten().filter(|_| !token.expose().is_empty());
        let Some((_, value)) = header else {
            return Err("the token is empty, or no header can carry it".to_owned());
        };
        Grant::new(Proof::Bearer { header: (AUTHORIZATION, value), token }, now, life)
    }

    /// # Errors
    /// It has ended already.
    pub fn new(proof: Proof, now: u64, life: Duration) -> Result<Grant, String> {
        if life.is_zero() {
            return Err("the credential has ended already: is this machine's clock right?".to_owned());
        }
        Ok(Grant { proof, obtained: now, life: life.min(LONGEST) })
    }

    /// Keys without an end.
    pub fn lasting(keys: sigv4::Credentials) -> Grant {
        Grant { proof: Proof::Aws(keys), obtained: 0, life: Duration::MAX }
    }

    /// Whether a request may begin with it.
    pub fn is_good(&self, now: u64) -> bool {
        let margin = MARGIN.min(self.life / 10);
        now < end(self.obtained, self.life - margin)
    }

    /// When it ends, in Unix milliseconds.
    pub fn expires(&self) -> u64 {
        end(self.obtained, self.life)
    }

    pub fn obtained(&self) -> u64 {
        self.obtained
    }

    /// When to get the next one: after four fifths of its life or five minutes before its end, whichever comes first,
    /// but not before half of it is over.
    pub fn renew_at(&self) -> u64 {
        let life = self.life;
        end(self.obtained, (life / 5 * 4).min(life.saturating_sub(BEFORE)).max(life / 2))
    }

    /// What must not stand in any text that others read.
    pub fn secrets(&self) -> impl Iterator<Item = &str> + Clone {
        let (token, keys) = match &self.proof {
            Proof::Bearer { token, .. } => (Some(token.expose()), None),
            Proof::Aws(keys) => (None, Some(keys.secrets())),
        };
        token.into_iter().chain(keys.into_iter().flatten())
    }
}

/// The pause after so many failures in a row, between half and the whole of what doubles each time.
pub fn pause(failures: u32, random: u64) -> Duration {
    let whole = PAUSE.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let whole = whole.min(LONGEST_PAUSE);
    let share = u32::try_from(random % 1_000).unwrap_or(0);
    whole / 2 + whole / 2 * share / 1_000
}

fn end(from: u64, life: Duration) -> u64 {
    from.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_219_200_000;

    fn of(seconds: u64) -> Grant {
        Grant::bearer("t".to_owned(), NOW, Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn a_grant_is_renewed_well_before_its_end() {
        let renewed = |seconds| (of(seconds).renew_at() - NOW) / 1_000;
        // An hour: four fifths. Ten minutes: five before the end. Shorter ones: half of it.
        let cases = [(3_600, 2_880), (86_400, 69_120), (1_500, 1_200), (1_200, 900), (600, 300), (360, 180), (60, 30)];
        for (life, at) in cases {
            assert_eq!(renewed(life), at, "{life}");
        }
        assert_eq!(of(2).renew_at() - NOW, 1_000);
    }

    #[test]
    fn a_grant_is_good_until_a_little_before_its_end() {
        let grant = of(3_600);
        assert!(grant.is_good(NOW) && grant.is_good(NOW + 3_589_999));
        assert!(!grant.is_good(NOW + 3_590_000) && !grant.is_good(u64::MAX));
        assert!(of(2).is_good(NOW + 1_799) && !of(2).is_good(NOW + 1_800));
        assert!(!of(1_000_000).is_good(NOW + 24 * 3_600_000), "no credential is believed for days");
        assert!(Grant::bearer("t".into(), NOW, Duration::ZERO).is_err());
    }

    #[test]
    fn keys_without_an_end_last() {
        let keys = sigv4::Credentials::parse("AKIAIOSFODNN7EXAMPLE", &"s".repeat(40), None).unwrap();
        let grant = Grant::lasting(keys);
        assert!(grant.is_good(NOW) && grant.renew_at() == u64::MAX && grant.expires() == u64::MAX);
    }

    #[test]
    fn tokens_travel_as_bearers_and_never_print() {
        let grant = Grant::bearer("ya29.secret".to_owned(), NOW, Duration::from_secs(60)).unwrap();
        let Proof::Bearer { header: (name, value), .. } = &grant.proof else { panic!("a bearer") };
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer ya29.secret"));
        assert!(!format!("{grant:?} {value:?}").contains("ya29"));
        assert_eq!(grant.secrets().collect::<Vec<_>>(), ["ya29.secret"]);
        for token in ["", "a\nb"] {
            assert!(Grant::bearer(token.to_owned(), NOW, Duration::from_secs(60)).is_err());
        }
    }

    proptest! {
        #[test]
        fn the_next_one_is_asked_for_while_the_old_one_is_good(seconds in 1_u64..200_000) {
            let grant = of(seconds);
            prop_assert!(grant.is_good(grant.renew_at()));
            prop_assert!(grant.renew_at() < grant.expires());
        }

        #[test]
        fn pauses_grow_and_are_bounded(failures in 0_u32..200, random in any::<u64>()) {
            let pause = pause(failures, random);
            prop_assert!(pause >= PAUSE / 2 && pause <= LONGEST_PAUSE);
            prop_assert!(failures < 7 || pause >= LONGEST_PAUSE / 2);
        }
    }
}
