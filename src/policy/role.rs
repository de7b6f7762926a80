//! Who may administer what: four roles, each of which may all that the one before it may, for the whole gateway or for
//! one team.
//!
//! What an action demands is a role and a reach; [`Rights::may`] is the only place where the two meet.

/// Lowest first: who has a role may all that the lower ones may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees everything but secrets, changes nothing.
    Viewer,
    /// Changes what concerns money.
    Billing,
    /// Changes who may call, and what.
    Admin,
    /// Changes who administers.
    Owner,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Billing, Role::Admin, Role::Owner];

    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Billing => "billing",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether one may have it for a single team: what lies above teams is nobody's who has only one.
    pub fn suits_a_team(self) -> bool {
        matches!(self, Role::Viewer | Role::Admin)
    }
}

/// Why somebody with a credential of an issuer's is not let in to administer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is not believed.
    Nobody,
    /// It is, and gives no role here.
    NoRole,
    /// Nobody can say now.
    Unknown,
}

/// Whom an action is open to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those too who have rights for one team; they act on what is that team's alone.
    Team,
    /// Only those who have rights for everything.
    Whole,
}

/// What somebody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    pub role: Role,
    /// For this team alone; `None`: for everything.
    pub team: Option<String>,
}

impl Rights {
    /// Whether an action of that kind is open at all.
    pub fn may(&self, least: Role, reach: Reach) -> bool {
        self.role >= least && (self.team.is_none() || reach == Reach::Team)
    }

    /// Whether what belongs to this team (`None`: to none) is there for them.
    pub fn covers(&self, team: Option<&str>) -> bool {
        self.team.is_none() || self.team.as_deref() == team
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_the_lower_ones() {
        let of = |role, team: Option<&str>| Rights { role, team: team.map(str::to_owned) };
        for (high, one) in Role::ALL.into_iter().enumerate() {
            for (low, least) in Role::ALL.into_iter().enumerate() {
                assert_eq!(of(one, None).may(least, Reach::Whole), high >= low);
                assert_eq!(of(one, Some("t")).may(least, Reach::Team), high >= low);
                assert!(!of(one, Some("t")).may(least, Reach::Whole));
            }
            assert_eq!(Role::parse(one.name()), Some(one));
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_team_is_all_that_one_sees() {
        let own = Rights { role: Role::Admin, team: Some("t".into()) };
        assert!(own.covers(Some("t")) && !own.covers(Some("u")) && !own.covers(None));
        let all = Rights { role: Role::Viewer, team: None };
        assert!(all.covers(Some("t")) && all.covers(None));
    }
}
