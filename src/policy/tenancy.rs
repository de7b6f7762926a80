//! Whose a call is, and what each of those may: organisation, team, project, user and key.
//!
//! Every level is asked on its own, and a call goes only where all of them let it go. So no level can widen what another
//! allows, whoever writes it and in whatever order, and nothing has to be merged.

use std::net::IpAddr;

use super::auth;
use super::budget::Budget;
use super::limit::Limit;

/// The levels, nearest to the call first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Key,
    User,
    Project,
    Team,
    Organisation,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Key, Kind::User, Kind::Project, Kind::Team, Kind::Organisation];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::User => "user",
            Kind::Project => "project",
            Kind::Team => "team",
            Kind::Organisation => "organisation",
        }
    }
}

/// What a caller may do, as far as levels can forbid it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Have an answer generated, whatever the dialect.
    Generate,
    /// Have tokens counted.
    CountTokens,
    /// See the models.
    Models,
    /// See, delete or cancel kept answers.
    Responses,
    /// See its own usage and cost.
    Usage,
}

impl Function {
    pub const ALL: [Function; 5] =
        [Function::Generate, Function::CountTokens, Function::Models, Function::Responses, Function::Usage];

    pub fn name(self) -> &'static str {
        match self {
            Function::Generate => "generate",
            Function::CountTokens => "count_tokens",
            Function::Models => "models",
            Function::Responses => "responses",
            Function::Usage => "usage",
        }
    }
}

/// A set of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions(u16);

impl Functions {
    pub const ANY: Functions = Functions(u16::MAX);

    pub fn has(self, function: Function) -> bool {
        self.0 & (1 << function as u16) != 0
    }
}

impl FromIterator<Function> for Functions {
    fn from_iter<I: IntoIterator<Item = Function>>(all: I) -> Functions {
        Functions(all.into_iter().fold(0, |set, function| set | 1 << function as u16))
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, `2001:db8::/32`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Of IPv4 in the form of IPv6 (RFC 4291 section 2.5.5.2), so that both are compared alike.
    prefix: u128,
    bits: u32,
}

/// Bits that stand before an address of IPv4 in that form.
const MAPPED: u32 = 96;

impl Network {
    /// Reads one, as RFC 4632 section 3.1 and RFC 4291 section 2.3 write it.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                let plain = (1..=3).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
                (address, Some(length.parse::<u32>().ok().filter(|_| plain)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (before, most) = if address.is_ipv4() { (MAPPED, 32) } else { (0, 128) };
        let bits = before + length.map_or(Some(most), |length| (length <= most).then_some(length))?;
        let prefix = number(address) & mask(bits);
        Some(Network { prefix, bits })
    }

    /// Whether it has nothing that the other one has not.
    pub fn is_within(self, other: Network) -> bool {
        self.bits >= other.bits && self.prefix & mask(other.bits) == other.prefix
    }

    pub fn has(self, address: IpAddr) -> bool {
        number(address) & mask(self.bits) == self.prefix
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    if bits == 0 { 0 } else { u128::MAX << (128 - bits.min(128)) }
}

/// One level: who it is, and what it lets its calls do.
#[derive(Clone, Debug)]
pub struct Level {
    pub kind: Kind,
    pub id: String,
    /// Globs of model names; `None`: any.
    pub models: Option<Vec<String>>,
    pub functions: Functions,
    /// Where its calls may be served; empty: anywhere.
    pub regions: Vec<String>,
    /// What each of their targets must have.
    pub attributes: Vec<String>,
    /// Where they may come from; empty: from anywhere.
    pub addresses: Vec<Network>,
    /// How much they may take.
    pub limits: Box<[Limit]>,
    pub disabled: bool,
    /// Unix seconds.
    pub expires: Option<u64>,
    /// How much they may cost. In an order that all snapshots share, so that those who take from several never wait for each
    /// other.
    pub budgets: Box<[Budget]>,
}

/// Whether a level may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Disabled,
    Expired,
}

impl Level {
    /// One that forbids nothing.
    pub fn new(kind: Kind, id: &str) -> Level {
        Level {
            kind,
            id: id.to_owned(),
            models: None,
            functions: Functions::ANY,
            regions: Vec::new(),
            attributes: Vec::new(),
            addresses: Vec::new(),
            limits: Box::default(),
            disabled: false,
            expires: None,
            budgets: Box::default(),
        }
    }

    /// Whether its calls may name this model.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| auth::fits(pattern, model)))
    }

    /// Whether they may come from here. Where nobody knows from where, only those that may come from anywhere.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        self.addresses.is_empty()
            || address.is_some_and(|address| self.addresses.iter().any(|network| network.has(address)))
    }

    /// Whether a target in this region may serve them.
    pub fn serves_in(&self, region: Option<&str>) -> bool {
        self.regions.is_empty() || region.is_some_and(|region| self.regions.iter().any(|own| own == region))
    }

    /// `now` is Unix seconds.
    pub fn standing(&self, now: u64) -> Standing {
        match self.expires {
            _ if self.disabled => Standing::Disabled,
            Some(expires) if now >= expires => Standing::Expired,
            _ => Standing::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_have_what_begins_like_them() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.9/31", "192.0.2.8", "192.0.2.10"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1/128", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::/0", "::2", "::2:zz"),
        ] {
            let read = Network::parse(network).unwrap();
            assert!(read.has(inside.parse().unwrap()), "{network} {inside}");
            if let Ok(outside) = outside.parse() {
                assert!(!read.has(outside), "{network} {outside}");
            }
        }
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "a", "10.0.0.0/8/8"]
        {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_level_forbids_what_it_names_not() {
        let level = Level {
            models: Some(vec!["gpt-*".into()]),
            functions: [Function::Generate, Function::Usage].into_iter().collect(),
            regions: vec!["eu".into()],
            addresses: vec![Network::parse("10.0.0.0/8").unwrap()],
            expires: Some(100),
            ..Level::new(Kind::Team, "t")
        };
        assert!(level.may_use("gpt-5") && !level.may_use("claude"));
        let may = Function::ALL.map(|function| level.functions.has(function));
        assert_eq!(may, [true, false, false, false, true]);
        assert!(level.serves_in(Some("eu")) && !level.serves_in(Some("us")) && !level.serves_in(None));
        let from = |address: &str| level.admits(Some(address.parse().unwrap()));
        assert!(from("10.1.1.1") && !from("192.0.2.1") && !level.admits(None));
        assert_eq!([99, 100].map(|now| level.standing(now)), [Standing::Good, Standing::Expired]);
        let disabled = Level { disabled: true, ..level };
        assert_eq!(disabled.standing(0), Standing::Disabled);
        let free = Level::new(Kind::Key, "k");
        assert!(free.may_use("x") && free.serves_in(None) && free.admits(None));
        assert!(Function::ALL.iter().all(|function| free.functions.has(*function)));
    }

    proptest! {
        #[test]
        fn a_network_has_its_own_address(address in any::<[u8; 16]>(), v4 in any::<bool>(), length in 0u32..=128) {
            let address = if v4 {
                IpAddr::from([address[0], address[1], address[2], address[3]])
            } else {
                IpAddr::from(address)
            };
            let length = if v4 { length % 33 } else { length };
            let network = Network::parse(&format!("{address}/{length}")).unwrap();
            prop_assert!(network.has(address));
        }
    }
}
