//! What holds for all operations of a kind: their ids, who may call them, and the problems that can come.

use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use admin::access::Requirement;
use admin::api::RULES;
use common::http::Problem;
use serde_json::json;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    Components, Content, ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};

/// The public routes of a service.
const API: &str = "/api/v1/";

/// Whom an operation asks for.
enum Asks {
    /// Nobody in particular.
    Nothing,
    /// The token of the API.
    ApiToken,
    /// An operator.
    Operator(Requirement),
}

/// Completes `document`.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let asks = Asks::of(&method, path);
            operation.operation_id = Some(operation_id(&method, path));
            asks.describe(operation);
            add_problems(operation, path, &asks);
            forget_null(operation);
        }
    }
    let components = document.components.get_or_insert_with(Components::default);
    for (status, name, response) in problems() {
        let response = response_of(status, &response);
        components.responses.insert(name.to_owned(), response.into());
    }
}

/// The operations of an address.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::PATCH, patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Such as `post_admin_events_id_retry`: unique, and as lasting as the address.
fn operation_id(method: &Method, path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "api" | "v1"));
    let plain = |part: &str| part.replace(['{', '}'], "").replace(['-', '.'], "_");
    let parts: Vec<String> = parts.map(plain).collect();
    format!("{}_{}", method.as_str().to_lowercase(), parts.join("_"))
}

impl Asks {
    fn of(method: &Method, path: &str) -> Self {
        if path.starts_with(RULES.scope) {
            Self::Operator(RULES.needs(method, path))
        } else if path.starts_with(API) {
            Self::ApiToken
        } else {
            Self::Nothing
        }
    }

    fn describe(&self, operation: &mut Operation) {
        let names: &[&str] = match self {
            Self::Nothing | Self::Operator(Requirement::Nothing) => &[],
            Self::ApiToken => &["api"],
            Self::Operator(_) => &["operator", "session"],
        };
        let requirement = |name: &&str| SecurityRequirement::new(*name, [""; 0]);
        operation.security = Some(names.iter().map(requirement).collect());
        if let Self::Operator(Requirement::Role(role, area)) = self {
            let access = json!({ "role": role, "area": area });
            let access = ExtensionsBuilder::new().add("x-access", access).build();
            operation.extensions.get_or_insert_default().merge(access);
            let needs = format!("Needs the role {}, in the area {}.", role.name(), area.name());
            operation.description = Some(match operation.description.take() {
                Some(text) if !text.is_empty() => format!("{text}\n\n{needs}"),
                _ => needs,
            });
        }
    }
}

/// Adds the problems that can come by what an operation takes, and gives its own ones their form.
fn add_problems(operation: &mut Operation, path: &str, asks: &Asks) {
    let takes = |within: ParameterIn, name: Option<&str>| {
        operation.parameters.iter().flatten().any(|parameter| match parameter {
            RefOr::T(parameter) => {
                parameter.parameter_in == within && name.is_none_or(|name| parameter.name == name)
            }
            RefOr::Ref(_) => false,
        })
    };
    let by_path = takes(ParameterIn::Path, None);
    let by_query = takes(ParameterIn::Query, None);
    let has_body = operation.request_body.is_some();
    let keyed = takes(ParameterIn::Header, Some("Idempotency-Key"));
    let conditional = takes(ParameterIn::Header, Some("If-Match"));
    let known = !matches!(asks, Asks::Nothing | Asks::Operator(Requirement::Nothing));
    let serves = path.starts_with("/api/") && path != super::docs::ADDRESS;
    let can_come = |status: u16| match status {
        400 => by_query || has_body || conditional,
        401 => known,
        403 => matches!(asks, Asks::Operator(Requirement::Role(..) | Requirement::Login)),
        404 => by_path,
        409 => keyed,
        412 => conditional,
        408 | 413 | 415 => has_body,
        422 => by_path || by_query || has_body || keyed,
        500 => serves || path == "/metrics",
        503 => serves,
        _ => false,
    };
    let responses = &mut operation.responses.responses;
    // A whole class says less than its members.
    responses.retain(|code, _| !code.ends_with("XX"));
    for (status, name, _) in problems() {
        let code = status.to_string();
        if can_come(status) && !responses.contains_key(&code) {
            responses.insert(code, RefOr::Ref(Ref::from_response_name(name)));
        }
    }
    for (code, response) in responses {
        if let RefOr::T(response) = response {
            fill(code, response);
        }
    }
}

/// Gives an answer what its handler left out: the form of a problem, and a description.
fn fill(code: &str, response: &mut Response) {
    if code.starts_with(['4', '5']) && response.content.is_empty() {
        response.content.insert(PROBLEM.to_owned(), problem_content().into());
    }
    if response.description.is_empty() {
        let status = code.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("An answer");
        reason.clone_into(&mut response.description);
    }
}

/// What may be left out is left out: there is no null in a header, a query or a whole body.
fn forget_null(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            parameter.schema.iter_mut().for_each(without_null);
        }
    }
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content {
            content.schema.iter_mut().for_each(without_null);
        }
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    let is_null = |schema: &RefOr<Schema>| match schema {
        RefOr::T(Schema::Object(object)) => object.schema_type == SchemaType::Type(Type::Null),
        _ => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|kind| *kind != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
        RefOr::T(Schema::OneOf(choice)) => {
            choice.items.retain(|item| !is_null(item));
            if let [only] = choice.items.as_slice() {
                *schema = only.clone();
            }
        }
        _ => {}
    }
}

const PROBLEM: &str = "application/problem+json";

/// The problems that can come from many operations.
fn problems() -> [(u16, &'static str, Problem); 13] {
    let conflict =
        "a request with this Idempotency-Key is still running; repeat it when that has ended";
    [
        (400, "Malformed", Problem::malformed("the body is not JSON: EOF while parsing a value")),
        (
            401,
            "Unauthorized",
            Problem::unauthorized("sign in, or send the header authorization: Bearer <token>"),
        ),
        (
            403,
            "Forbidden",
            Problem::forbidden("this needs the role operator; ada has the role viewer"),
        ),
        (
            404,
            "NotFound",
            Problem::not_found("there is no event 01890a5d-ac96-774b-bcce-b302099a8057"),
        ),
        (408, "BodyLate", Problem::body_late(Duration::from_secs(30))),
        (409, "Conflict", Problem::conflict("idempotency-running", conflict)),
        (
            412,
            "PreconditionFailed",
            Problem::precondition_failed(
                "its version is \"4\" now, which If-Match does not name; read it again before you retry",
            ),
        ),
        (413, "TooLarge", Problem::too_large(1 << 20)),
        (415, "UnsupportedMediaType", Problem::unsupported_media_type()),
        (422, "Invalid", Problem::invalid("limit", "a page has 1 to 1000 items")),
        (
            429,
            "TooManyRequests",
            Problem::too_many_requests("too many sign-ins failed", Duration::from_secs(60)),
        ),
        (500, "Internal", Problem::unexplained()),
        (
            503,
            "Unavailable",
            Problem::unavailable("the database can't be used now; try again shortly"),
        ),
    ]
}

fn problem_content() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

fn response_of(status: u16, problem: &Problem) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(problem).ok())
        .build();
    let header = |description: &str| {
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
    };
    let response = ResponseBuilder::new().description(&problem.title).content(PROBLEM, content);
    match status {
        401 => response.header("www-authenticate", header("How to authenticate")),
        429 | 503 => response.header("retry-after", header("After how many seconds to try again")),
        _ => response,
    }
    .build()
}
