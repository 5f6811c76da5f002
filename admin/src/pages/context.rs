//! What every page knows: who looks at it, where they are, and what is around its content.

use std::collections::BTreeMap;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentType, LOCATION};
use actix_web::web::{Data, Query};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};
use askama::Template;
use common::db::Conn;
use common::http::{Page, Params, Problem, ProblemResult};
use engine::audit::AuthMethod;
use engine::outbox::pause::{self, EVERYTHING, PauseRow};

use super::form::moment_at;
use super::{assets, flash};
use crate::access::{Area, Caller, Role};
use crate::api::Admin;

/// One person at one page.
pub(super) struct PageContext {
    pub(super) admin: Data<Admin>,
    pub(super) caller: Caller,
    /// What the query says.
    pub(super) query: Fields,
    path: String,
}

impl FromRequest for PageContext {
    type Error = Problem;
    type Future = std::future::Ready<ProblemResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::of(request))
    }
}

impl PageContext {
    fn of(request: &HttpRequest) -> ProblemResult<Self> {
        let caller = request.extensions().get::<Caller>().cloned();
        Ok(Self {
            admin: admin_of(request)?,
            caller: caller.ok_or_else(|| Problem::unauthorized("sign in first"))?,
            query: Fields::parse(request.query_string())?,
            path: request.path().to_owned(),
        })
    }

    /// What is around the content.
    ///
    /// # Errors
    /// When the database can't be read.
    pub(super) async fn frame(&self) -> ProblemResult<Frame> {
        let read = |conn: &mut Conn| pause::find(conn, EVERYTHING).map_err(Problem::from);
        let paused = self.admin.db.read(read).await?;
        let done = self.query.get("done");
        Ok(Frame { paused, ..Frame::new(&self.admin, Some(&self.caller), &self.path, done) })
    }

    /// The query without what only says how the page was come to.
    pub(super) fn params(&self) -> ProblemResult<Params> {
        Params::parse(&self.query.without(&["done"]).to_query())
    }

    /// Whether who looks may act on `area` as `role`.
    pub(super) fn may(&self, role: Role, area: Area) -> bool {
        self.caller.may(role, area)
    }

    /// The ways on from a list: to its `next` page, and to all of it as a file.
    pub(super) fn next_page(&self, next: Option<&str>) -> Paging {
        let rest = self.query.without(&["after", "done"]);
        let to = |query: String| match query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        };
        Paging {
            first: (!self.query.get("after").is_empty()).then(|| to(rest.to_query())),
            next: next.map(|next| to(rest.with("after", next).to_query())),
            files: ["csv", "ndjson"].map(|format| self.file(format)),
        }
    }

    /// Where the API gives the list as a file, with the filter of this page.
    fn file(&self, format: &str) -> String {
        let list = self.path.strip_prefix("/admin/").unwrap_or_default();
        let list = match list.split_once('/') {
            Some(("proof", seq)) => format!("verifications/{seq}/differences"),
            Some(("resyncs", seq)) => format!("resyncs/{seq}/skipped"),
            _ if list == "relay" => "pauses".to_owned(),
            _ => list.to_owned(),
        };
        let mut filter = self.query.without(&["after", "done", "limit"]);
        // Pages of keys take one to fill a form with; as a filter it would be unknown.
        if matches!(&*list, "pauses" | "quarantine") {
            filter = Fields::default();
        }
        // The API wants its moments with their zone.
        for name in ["since", "until"] {
            if let Ok(moment) = moment_at(name, filter.get(name)) {
                filter = filter.with(name, &moment.to_string());
            }
        }
        format!("/api/admin/v1/{list}/export?{}", filter.with("format", format).to_query())
    }
}

/// The operators' side that a request reaches.
pub(super) fn admin_of(request: &HttpRequest) -> ProblemResult<Data<Admin>> {
    let admin = request.app_data::<Data<Admin>>().cloned();
    admin.ok_or_else(|| Problem::internal(&"the pages are mounted without their data"))
}

/// The ways on from a page of a list.
pub(super) struct Paging {
    pub(super) first: Option<String>,
    pub(super) next: Option<String>,
    /// All of the list, as CSV and as NDJSON.
    pub(super) files: [String; 2],
}

/// Names and values of a query, to fill a form with again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    pub(super) fn parse(query: &str) -> ProblemResult<Self> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| Problem::malformed(format!("the query can't be read: {error}")))?;
        Ok(Self(pairs.into_inner().into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// The value of `name`; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names that have a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn without(&self, names: &[&str]) -> Self {
        let mut rest = self.0.clone();
        rest.retain(|name, _| !names.contains(&name.as_str()));
        Self(rest)
    }

    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut more = self.0.clone();
        more.insert(name.to_owned(), value.to_owned());
        Self(more)
    }

    pub(super) fn to_query(&self) -> String {
        let pairs =
            self.0.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// A text as a part of an address.
pub(super) fn encoded(text: &str) -> String {
    match askama::filters::urlencode_strict(text) {
        Ok(encoded) => encoded.to_string(),
        Err(never) => match never {},
    }
}

/// What is around a page's content; every template has one.
pub(super) struct Frame {
    pub(super) service: String,
    pub(super) who: Option<Who>,
    pub(super) open: bool,
    pub(super) paused: Option<PauseRow>,
    /// Whether another program sends events for the first time, which no pause holds back.
    pub(super) external: bool,
    pub(super) flash: Option<&'static str>,
    pub(super) links: Vec<Link>,
}

/// Who is signed in.
pub(super) struct Who {
    pub(super) name: String,
    pub(super) role: &'static str,
    /// Whether there is a session that can be ended.
    pub(super) session: bool,
}

/// A link of the navigation.
pub(super) struct Link {
    pub(super) name: &'static str,
    pub(super) address: &'static str,
    pub(super) here: bool,
    /// How many wait there, if any.
    pub(super) waiting: Option<i64>,
}

/// The page of what was verified, which only an owner has much to say on.
const PROOF: &str = "/admin/proof";

/// The page of what customers bought last, which only a copy of that view knows.
const PURCHASES: &str = "/admin/purchases";

/// The pages of the navigation: name, address, what they ask for.
const LINKS: [(&str, &str, Role, Area); 12] = [
    ("Overview", "/admin", Role::Viewer, Area::Overview),
    ("Events", "/admin/events", Role::Viewer, Area::Events),
    ("Jobs", "/admin/jobs", Role::Viewer, Area::Events),
    ("Proof", PROOF, Role::Viewer, Area::Events),
    ("Alerts", "/admin/alerts", Role::Viewer, Area::Alerts),
    ("Dead letters", "/admin/dead-letters", Role::Viewer, Area::DeadLetters),
    ("Relay", "/admin/relay", Role::Viewer, Area::Relay),
    ("Quarantine", "/admin/quarantine", Role::Viewer, Area::Quarantine),
    ("Purchases", PURCHASES, Role::Viewer, Area::Events),
    ("Audit", "/admin/audit", Role::Operator, Area::Audit),
    ("Users", "/admin/users", Role::Admin, Area::Access),
    ("Tokens", "/admin/tokens", Role::Admin, Area::Access),
];

/// Whether this service has something to say on that page.
fn is_here(admin: &Admin, address: &str) -> bool {
    match address {
        PROOF => admin.verifier.is_some(),
        PURCHASES => admin.view.is_some(),
        _ => true,
    }
}

impl Frame {
    pub(super) fn new(admin: &Admin, caller: Option<&Caller>, path: &str, done: &str) -> Self {
        let may = |role, area| caller.is_some_and(|caller| caller.may(role, area));
        let links = LINKS
            .into_iter()
            .filter(|(_, address, role, area)| may(*role, *area) && is_here(admin, address));
        Self {
            service: admin.settings.service.name.clone(),
            who: caller.map(Who::of),
            open: admin.guard.is_open(),
            paused: None,
            external: admin.settings.outbox.relay.is_external(),
            flash: flash::text(done),
            links: links
                .map(|(name, address, _, _)| Link::to(admin, name, address, path))
                .collect(),
        }
    }

    /// The address of a file that the page loads.
    pub(super) fn asset(&self, name: &str) -> String {
        assets::address(name)
    }
}

impl Who {
    fn of(caller: &Caller) -> Self {
        Self {
            name: caller.name.clone(),
            role: caller.role.name(),
            session: caller.via == AuthMethod::Session,
        }
    }
}

impl Link {
    fn to(admin: &Admin, name: &'static str, address: &'static str, path: &str) -> Self {
        let below = path.strip_prefix(address).is_some_and(|rest| rest.starts_with('/'));
        let sample = admin.sampler.newest();
        let waiting = sample.and_then(|sample| match address {
            "/admin/alerts" => Some(sample.alerts.open),
            "/admin/dead-letters" => Some(sample.dead_letters),
            _ => None,
        });
        // Silences and mails are tabs beside the alerts; jobs that send states again follow from the proof.
        let beside = address == "/admin/alerts"
            && ["/admin/silences", "/admin/mails"].iter().any(|tab| path.starts_with(tab))
            || address == PROOF && path.starts_with("/admin/resyncs/");
        let here = path == address || beside || (below && address != "/admin");
        Self { name, address, here, waiting: waiting.filter(|waiting| *waiting > 0) }
    }
}

/// A list, or an empty one with the refusal of what was asked for, so that the form keeps what was filled in.
pub(super) fn or_refused<T>(
    found: ProblemResult<Page<T>>,
) -> ProblemResult<(Page<T>, Option<Problem>)> {
    match found {
        Ok(found) => Ok((found, None)),
        Err(problem) if problem.status().is_client_error() => {
            Ok((Page { items: Vec::new(), next: None }, Some(problem)))
        }
        Err(problem) => Err(problem),
    }
}

/// A page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> ProblemResult<HttpResponse> {
    let text = template.render().map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::build(status).content_type(ContentType::html()).body(text))
}

/// The way to another page, where `done` says what was done ("" for nothing).
pub(super) fn see(address: &str, done: &str) -> HttpResponse {
    let sign = if address.contains('?') { '&' } else { '?' };
    let address = match done {
        "" => address.to_owned(),
        done => format!("{address}{sign}done={done}"),
    };
    HttpResponse::SeeOther().insert_header((LOCATION, address)).finish()
}
