//! Which route asks for what: every route is classified, and what nobody classified is for admins only.

use actix_web::http::Method;

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

/// The rules of one scope; cheap to clone.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The scope, such as `/api/admin/v1`.
    pub scope: &'static str,
    /// Its routes, part by part.
    pub parts: &'static [&'static [Rule]],
}

impl Rules {
    /// Every rule with its whole pattern.
    pub fn all(&self) -> impl Iterator<Item = (String, &'static Rule)> {
        let scope = self.scope;
        self.parts
            .iter()
            .copied()
            .flatten()
            .map(move |rule| (format!("{scope}{}", rule.path), rule))
    }

    /// What the route asks for; one that nobody classified asks for an admin.
    pub fn needs(&self, method: &Method, pattern: &str) -> Requirement {
        let path = pattern.strip_prefix(self.scope);
        let fits = |rule: &&Rule| {
            let reads = rule.method == "GET" && method == Method::HEAD;
            Some(rule.path) == path && (rule.method == method.as_str() || reads)
        };
        let found = self.parts.iter().copied().flatten().find(fits);
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
