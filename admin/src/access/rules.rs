//! Which route asks for what: every route is classified, and what nobody classified is for admins only.

use actix_web::http::Method;
use actix_web::web::ServiceConfig;

use super::{Area, Caller, Role};

/// What a route asks of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing: signing in, and what a browser needs for that.
    Nothing,
    /// To be known, whatever the role: one's own session.
    Login,
    /// A role, and for tokens the area.
    Role(Role, Area),
}

/// One route and what it asks for.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its method.
    pub method: &'static str,
    /// Its pattern below the scope, such as `/events/{id}`.
    pub path: &'static str,
    /// What it asks for.
    pub needs: Requirement,
}

impl Rule {
    /// A route that `role` may call.
    pub const fn new(method: &'static str, path: &'static str, role: Role, area: Area) -> Self {
        Self { method, path, needs: Requirement::Role(role, area) }
    }

    /// A route for everybody who is known.
    pub const fn login(method: &'static str, path: &'static str) -> Self {
        Self { method, path, needs: Requirement::Login }
    }

    /// A route for everybody.
    pub const fn open(method: &'static str, path: &'static str) -> Self {
        Self { method, path, needs: Requirement::Nothing }
    }
}

/// The routes of one module: what they ask for, and what mounts them.
#[derive(Debug, Clone, Copy)]
pub struct RouteModule {
    rules: &'static [Rule],
    configure: fn(&mut ServiceConfig),
}

impl RouteModule {
    /// Routes with their rules.
    pub const fn new(rules: &'static [Rule], configure: fn(&mut ServiceConfig)) -> Self {
        Self { rules, configure }
    }
}

/// The routes of one scope and their rules; cheap to clone.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The scope, such as `/api/admin/v1`.
    pub scope: &'static str,
    /// Its routes, module by module.
    pub modules: &'static [RouteModule],
}

impl Rules {
    /// Every rule with its whole pattern.
    pub fn all(&self) -> impl Iterator<Item = (String, &'static Rule)> {
        let scope = self.scope;
        self.rules().map(move |rule| (format!("{scope}{}", rule.path), rule))
    }

    /// Mounts every route; for `Scope::configure`.
    pub fn mount(&self, scope: &mut ServiceConfig) {
        for module in self.modules {
            (module.configure)(scope);
        }
    }

    fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.modules.iter().flat_map(|module| module.rules)
    }

    /// What the route asks for; one that nobody classified asks for an admin.
    pub fn needs(&self, method: &Method, pattern: &str) -> Requirement {
        let path = pattern.strip_prefix(self.scope);
        let fits = |rule: &&Rule| {
            let reads = rule.method == "GET" && method == Method::HEAD;
            Some(rule.path) == path && (rule.method == method.as_str() || reads)
        };
        let found = self.rules().find(fits);
        found.map_or(Requirement::Role(Role::Admin, Area::Access), |rule| rule.needs)
    }
}

impl Requirement {
    /// Whether `caller` has it.
    pub fn met_by(self, caller: &Caller) -> bool {
        match self {
            Self::Nothing | Self::Login => true,
            Self::Role(role, area) => caller.may(role, area),
        }
    }
}
