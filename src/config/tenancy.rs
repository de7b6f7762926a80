//! Levels: from what is written of organisations, teams, projects, users and keys to what a call is held to.
//!
//! Checking and making are apart, since keys are also made long after the file was read: [`Tenants::key`] cannot fail, and
//! takes what nothing knows of as if it were not written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::budgets::Ground;
use super::build::Build;
use super::file::{self, File, KeyTier, LevelRules, Tenancy};
use super::limits::limits;
use super::problem::{Route, did_you_mean};
use super::providers::is_id;
use super::snapshot::Key;
use super::{routing, rules};
use crate::policy::price::PriceGroup;
use crate::policy::tenancy::{self, Functions, Kind, Level, Network};

/// Most tags, and most members of metadata, of one level.
const MOST_TAGS: usize = 16;
/// Longest value of them.
const LONGEST_TAG: usize = 256;
const MOST_METADATA: usize = 64;
const LONGEST_METADATA: usize = 1_024;
/// Most networks of one level.
const MOST_ADDRESSES: usize = 256;

/// Everybody above the keys.
#[derive(Debug, Default)]
pub struct Tenants {
    users: HashMap<String, Branch>,
    projects: HashMap<String, Branch>,
    /// What they were made of.
    written: Tenancy,
    tiers: BTreeMap<String, KeyTier>,
    homes: Vec<String>,
    /// What is made of their limits and budgets.
    ground: Ground,
}

/// A user or a project, with all that it belongs to.
#[derive(Clone, Debug, Default)]
struct Branch {
    /// Itself first.
    levels: Vec<Arc<Level>>,
    team: Option<String>,
    organisation: Option<String>,
    /// The nearest that is written.
    tier: Option<String>,
    /// Likewise.
    group: Option<Arc<PriceGroup>>,
    tags: BTreeMap<String, String>,
}

impl Tenants {
    pub fn new(written: Tenancy, tiers: BTreeMap<String, KeyTier>, homes: Vec<String>, ground: Ground) -> Tenants {
        let organisations: HashMap<&String, Branch> = written
            .organisations
            .iter()
            .map(|(id, organisation)| {
                let mut branch = Branch::default().under(Kind::Organisation, id, &organisation.rules(), &ground);
                branch.organisation = Some(id.clone());
                (id, branch)
            })
            .collect();
        let above = |id: &Option<String>| id.as_ref().and_then(|id| organisations.get(id)).cloned().unwrap_or_default();
        let teams: HashMap<&String, Branch> = written
            .teams
            .iter()
            .map(|(id, team)| {
                let mut branch = above(&team.organisation).under(Kind::Team, id, &team.rules(), &ground);
                branch.team = Some(id.clone());
                (id, branch)
            })
            .collect();
        let above = |id: &Option<String>| id.as_ref().and_then(|id| teams.get(id)).cloned().unwrap_or_default();
        let projects = written
            .projects
            .iter()
            .map(|(id, project)| (id.clone(), above(&project.team).under(Kind::Project, id, &project.rules(), &ground)))
            .collect();
        let users = written
            .users
            .iter()
            .map(|(id, user)| (id.clone(), above(&user.team).under(Kind::User, id, &user.rules(), &ground)))
            .collect();
        Tenants { users, projects, written, tiers, homes, ground }
    }

    /// What they were made of.
    pub fn written(&self) -> &Tenancy {
        &self.written
    }

    /// These, and those that are stored beside them. What both have is as it is here. A stored one that belongs to something
    /// which is not there (any more) lets nobody through: what that forbade is not known.
    #[must_use]
    pub fn and(&self, stored: Tenancy) -> Tenants {
        let mut all = self.written.clone();
        for (id, organisation) in stored.organisations {
            all.organisations.entry(id).or_insert(organisation);
        }
        for (id, mut team) in stored.teams {
            team.disabled |= team.organisation.as_ref().is_some_and(|above| !all.organisations.contains_key(above));
            all.teams.entry(id).or_insert(team);
        }
        for (id, mut project) in stored.projects {
            project.disabled |= project.team.as_ref().is_some_and(|above| !all.teams.contains_key(above));
            all.projects.entry(id).or_insert(project);
        }
        for (id, mut user) in stored.users {
            user.disabled |= user.team.as_ref().is_some_and(|above| !all.teams.contains_key(above));
            all.users.entry(id).or_insert(user);
        }
        Tenants::new(all, self.tiers.clone(), self.homes.clone(), self.ground.clone())
    }

    /// Whether there is one above the keys.
    pub fn has(&self, kind: Kind, id: &str) -> bool {
        match kind {
            Kind::Organisation => self.written.organisations.contains_key(id),
            Kind::Team => self.written.teams.contains_key(id),
            Kind::Project => self.written.projects.contains_key(id),
            Kind::User => self.written.users.contains_key(id),
            Kind::Key => false,
        }
    }

    /// The projects, or the users, of a team.
    pub fn below(&self, kind: Kind, team: &str) -> Vec<String> {
        let own = |above: &Option<String>| above.as_deref() == Some(team);
        let projects = self.written.projects.iter().filter(|(_, project)| own(&project.team)).map(|(id, _)| id);
        let users = self.written.users.iter().filter(|(_, user)| own(&user.team)).map(|(id, _)| id);
        match kind {
            Kind::Project => projects.cloned().collect(),
            Kind::User => users.cloned().collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn tiers(&self) -> &BTreeMap<String, KeyTier> {
        &self.tiers
    }

    /// What limits and budgets are made with.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    pub(super) fn homes(&self) -> &[String] {
        &self.homes
    }

    /// The levels above a key, and the team and organisation that it counts for.
    pub fn above(&self, written: &file::Key) -> (Vec<&Level>, Option<&str>, Option<&str>) {
        let project = written.project.as_ref().and_then(|id| self.projects.get(id));
        let user = written.user.as_ref().and_then(|id| self.users.get(id));
        let Some(branch) = project.or(user) else { return (Vec::new(), None, None) };
        let beside = user.filter(|_| project.is_some()).and_then(|user| user.levels.first());
        let levels = beside.into_iter().chain(&branch.levels).map(|level| &**level).collect();
        (levels, branch.team.as_deref(), branch.organisation.as_deref())
    }

    /// A key as calls are held to it. What it names and nobody knows is taken as not written.
    pub fn key(&self, written: &file::Key) -> Key {
        let project = written.project.as_ref().and_then(|id| self.projects.get(id));
        let user = written.user.as_ref().and_then(|id| self.users.get(id));
        // A key of a project counts for the project's team, whoever uses it.
        let above = project.or(user);
        let mut branch = above.cloned().unwrap_or_default();
        if let (Some(_), Some(user)) = (project, user) {
            branch.levels.splice(0..0, user.levels.first().cloned());
            for (name, value) in &user.tags {
                branch.tags.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let branch = branch.under(Kind::Key, &written.id, &written.rules(), &self.ground);
        let tier = branch.tier.as_ref().and_then(|name| self.tiers.get(name));
        let attributes = branch.levels.iter().flat_map(|level| &level.attributes);
        let attributes = attributes.chain(tier.iter().flat_map(|tier| &tier.attributes)).cloned().collect();
        let home = written.home.as_ref().and_then(|home| self.homes.iter().position(|other| other == home));
        let regions = tier.map(|tier| tier.regions.clone()).unwrap_or_default();
        Key {
            id: written.id.clone(),
            user: written.user.clone(),
            project: written.project.clone(),
            team: branch.team,
            organisation: branch.organisation,
            tags: branch.tags.into_iter().collect(),
            strict: written.strict,
            tier: branch.tier,
            strategy: written.strategy.or(tier.and_then(|tier| tier.strategy)).map(routing::strategy),
            fallback: written.fallback.clone().or_else(|| tier.and_then(|tier| tier.fallback.clone())),
            urgency: written.priority.or(tier.and_then(|tier| tier.priority)).map(rules::urgency),
            attributes,
            home,
            weight: written.weight.or(tier.and_then(|tier| tier.weight)).unwrap_or(1),
            guarded: branch.levels.iter().any(|level| level.functions != Functions::ANY || !level.addresses.is_empty()),
            limited: branch.levels.iter().any(|level| !level.limits.is_empty()),
            budgeted: branch.levels.iter().any(|level| !level.budgets.is_empty()),
            prepaid: branch.levels.iter().any(|level| level.budgets.iter().any(|budget| budget.prepaid.is_some())),
            group: branch.group,
            bound: !regions.is_empty() || branch.levels.iter().any(|level| !level.regions.is_empty()),
            regions,
            levels: branch.levels.into(),
        }
    }
}

impl Branch {
    /// With one more level in front.
    fn under(mut self, kind: Kind, id: &str, rules: &LevelRules<'_>, ground: &Ground) -> Branch {
        // What a group that is gone would charge is not known: better nobody gets through than for too little.
        let group = rules.price_group.map(|name| ground.group(name));
        let level = Level {
            models: rules.models.map(<[String]>::to_vec),
            functions: rules.functions.map_or(Functions::ANY, |all| all.iter().copied().map(function).collect()),
            regions: rules.regions.to_vec(),
            attributes: rules.attributes.to_vec(),
            addresses: rules.addresses.iter().filter_map(|text| Network::parse(text)).collect(),
            limits: limits(rules.limits, &format!("{}:{id}", kind.name()), &ground.limits),
            budgets: ground.budgets(kind.name(), id, rules.budget.into_iter().chain(rules.budgets), rules.prepaid),
            disabled: rules.disabled || group == Some(None),
            expires: rules.expires.map(|moment| moment.0),
            ..Level::new(kind, id)
        };
        self.levels.insert(0, Arc::new(level));
        if let Some(tier) = rules.tier {
            self.tier = Some(tier.to_owned());
        }
        if let Some(Some(group)) = group {
            self.group = Some(group.clone());
        }
        self.tags.extend(rules.tags.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }
}

fn function(written: file::Function) -> tenancy::Function {
    match written {
        file::Function::Generate => tenancy::Function::Generate,
        file::Function::CountTokens => tenancy::Function::CountTokens,
        file::Function::Models => tenancy::Function::Models,
        file::Function::Responses => tenancy::Function::Responses,
        file::Function::Usage => tenancy::Function::Usage,
    }
}

impl Build<'_> {
    /// Everybody above the keys, checked.
    pub(super) fn tenants(&mut self, file: &File) -> Tenants {
        let root = Route::default();
        let written = Tenancy {
            organisations: file.organisations.clone(),
            teams: file.teams.clone(),
            projects: file.projects.clone(),
            users: file.users.clone(),
        };
        for (id, organisation) in &written.organisations {
            self.organisation(id, organisation, file, &root.key("organisations").key(id));
        }
        for (id, team) in &written.teams {
            self.team(id, team, file, &written, &root.key("teams").key(id));
        }
        for (id, project) in &written.projects {
            self.project(id, project, file, &written, &root.key("projects").key(id));
        }
        for (id, user) in &written.users {
            self.user(id, user, file, &written, &root.key("users").key(id));
        }
        let homes = self.routing.homes.iter().map(|(name, _)| name.clone()).collect();
        Tenants::new(written, file.tiers.clone(), homes, self.ground.clone())
    }

    pub(super) fn organisation(&mut self, id: &str, own: &file::Organisation, file: &File, route: &Route) {
        self.named(id, file, &own.rules(), route);
    }

    pub(super) fn team(&mut self, id: &str, own: &file::Team, file: &File, written: &Tenancy, route: &Route) {
        self.named(id, file, &own.rules(), route);
        let organisation = own.organisation.as_deref();
        self.belongs(organisation, "organisations", &written.organisations, &route.key("organisation"));
    }

    pub(super) fn project(&mut self, id: &str, own: &file::Project, file: &File, written: &Tenancy, route: &Route) {
        self.named(id, file, &own.rules(), route);
        self.belongs(own.team.as_deref(), "teams", &written.teams, &route.key("team"));
    }

    pub(super) fn user(&mut self, id: &str, own: &file::User, file: &File, written: &Tenancy, route: &Route) {
        self.named(id, file, &own.rules(), route);
        self.belongs(own.team.as_deref(), "teams", &written.teams, &route.key("team"));
        if own.email.as_ref().is_some_and(|email| email.len() > 254 || !email.contains('@')) {
            self.wrong(&route.key("email"), "write an address such as ann@example.com");
        }
    }

    /// A key, checked but for its id and its secret.
    pub(super) fn key(&mut self, key: &file::Key, file: &File, tenants: &Tenants, route: &Route) -> Key {
        self.rules_of(file, &key.rules(), route);
        if key.project.as_ref().is_some_and(|project| !is_id(project)) {
            let message = "a project is 1 to 64 letters, digits, dots, hyphens and underscores";
            self.wrong(&route.key("project"), message);
        } else if !tenants.written.projects.is_empty() {
            self.belongs(key.project.as_deref(), "projects", &tenants.written.projects, &route.key("project"));
        }
        self.belongs(key.user.as_deref(), "users", &tenants.written.users, &route.key("user"));
        if let Some(home) = &key.home {
            let homes = std::mem::take(&mut self.routing.homes);
            self.home(&homes, home, &route.key("home"));
            self.routing.homes = homes;
        }
        let made = tenants.key(key);
        let own = made.levels.iter().map(|level| &level.regions);
        let nearest = own.chain(Some(&made.regions)).find(|regions| !regions.is_empty()).cloned();
        if nearest.is_some_and(|regions| !regions.iter().any(|region| made.serves_in(Some(region)))) {
            let message = "its tier, or whom it belongs to, has none of these regions: nothing could serve it";
            self.wrong(&route.key("regions"), message);
        }
        made
    }

    /// A level that has its name before it.
    fn named(&mut self, id: &str, file: &File, rules: &LevelRules<'_>, route: &Route) {
        if !is_id(id) {
            self.wrong(route, "a name is 1 to 64 letters, digits, dots, hyphens and underscores");
        }
        self.rules_of(file, rules, route);
    }

    /// What all levels may say.
    pub(super) fn rules_of(&mut self, file: &File, rules: &LevelRules<'_>, route: &Route) {
        if let Some(models) = rules.models {
            self.patterns(models, &route.key("models"));
        }
        if rules.functions.is_some_and(<[file::Function]>::is_empty) {
            let message = "with nothing in the list nothing may be done: write functions, or `disabled: true`";
            self.wrong(&route.key("functions"), message);
        }
        self.attributes(rules.attributes, &route.key("attributes"));
        for (number, text) in rules.addresses.iter().enumerate() {
            if Network::parse(text).is_none() {
                let message = "write an address or a network: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32";
                self.wrong(&route.key("addresses").index(number), message);
            }
        }
        if rules.addresses.len() > MOST_ADDRESSES {
            self.wrong(&route.key("addresses"), format!("{MOST_ADDRESSES} networks at most"));
        }
        self.tier(&file.tiers, rules.tier, &route.key("tier"));
        self.call_limits(rules.limits, &route.key("limits"));
        self.budgets(rules.budget, rules.budgets, route);
        if let Some(prepaid) = rules.prepaid {
            self.prepaid(prepaid, &route.key("prepaid"));
        }
        self.price_group(rules.price_group, &route.key("price_group"));
        self.pairs(rules.tags, (MOST_TAGS, LONGEST_TAG), &route.key("tags"));
        self.pairs(rules.metadata, (MOST_METADATA, LONGEST_METADATA), &route.key("metadata"));
    }

    fn pairs(&mut self, pairs: &BTreeMap<String, String>, (most, longest): (usize, usize), route: &Route) {
        for (name, value) in pairs {
            if !is_id(name) || value.len() > longest || value.contains(char::is_control) {
                let message = format!(
                    "write a short name (letters, digits, dots, hyphens, underscores) and a value of up to {longest} bytes"
                );
                self.wrong(&route.key(name), message);
            }
        }
        if pairs.len() > most {
            self.wrong(route, format!("{most} of them at most"));
        }
    }

    /// A reference to a level above.
    fn belongs<T>(&mut self, name: Option<&str>, field: &str, all: &BTreeMap<String, T>, route: &Route) {
        let Some(name) = name else { return };
        // A damaged one has been complained of.
        let written = self.root.member(field).is_some_and(|written| written.member(name).is_some());
        if !written && !all.contains_key(name) {
            let hint = did_you_mean(name, all.keys().map(String::as_str));
            self.wrong(route, format!("there is no `{name}` under `{field}`: add it there.{hint}"));
        }
    }
}
