//! The API as it describes itself: OpenAPI 3.1, put together from the annotations of the handlers.
//!
//! A handler says what is its own: parameters, bodies, the answers that only it gives. What holds for all operations
//! of a kind, such as who may call them and which problems can come, is added by `complete.rs`, from the same rules
//! that the guard follows.

mod complete;
mod docs;
#[cfg(test)]
mod tests;

use common::http::{PartProblem, Problem};
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApi as Document};

pub(crate) use docs::configure;

/// What every service has in addition to the operators' API.
#[derive(OpenApi)]
#[openapi(
    paths(
        common::telemetry::live,
        common::telemetry::ready,
        common::telemetry::metrics,
        engine::peer::show,
        engine::verify::info,
        engine::verify::complete,
        engine::verify::digests,
        engine::verify::states,
        engine::restored::request,
        engine::restored::show,
        engine::lost::losses,
        engine::lost::received,
        docs::show,
    ),
    components(schemas(Problem, PartProblem)),
    tags(
        (name = "health", description = "Liveness, readiness and metrics"),
        (name = "inbox", description = "What the other service asks about the events that it sent"),
        (name = "replica", description = "What the other service asks to compare a copy with its source"),
        (name = "documentation", description = "This document"),
    )
)]
struct Shared;

/// The whole API of the service `name`: its `own` routes, the operators' and what every service has.
pub fn document(name: &str, about: &str, own: Document) -> Document {
    let mut document = Shared::openapi();
    document.merge(admin::api::openapi());
    document.merge(own);
    document.info = InfoBuilder::new()
        .title(name)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(format!("{about}\n\n{CONVENTIONS}")))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ))
        .build();
    complete::complete(&mut document);
    let components = document.components.get_or_insert_with(Components::default);
    for (name, scheme) in security_schemes(name) {
        components.security_schemes.insert(name.to_owned(), scheme.into());
    }
    document
}

const CONVENTIONS: &str = "\
Every error is a problem of RFC 9457 (`application/problem+json`) that says what to do. Lists come in pages: `next` of \
one page is `after` of the next, and a page without `next` is the last. A write with an `Idempotency-Key` is done \
once: the same request again gets the same answer for 24 hours. It is the same if method, address, body, `If-Match` and \
`If-None-Match` are; another one with the key at that address is refused (422). A request that was refused had no \
effect, and is decided anew when it comes again. Times are in UTC, numbers that only identify are strings. Every GET \
can also be asked for as HEAD.";

fn security_schemes(service: &str) -> [(&'static str, SecurityScheme); 3] {
    let bearer = |description: &str| {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        SecurityScheme::Http(bearer.description(Some(description)).build())
    };
    let cookie = ApiKeyValue::with_description(
        format!("{service}-session"),
        "The cookie of a browser that is signed in; behind TLS its name begins with `__Host-`."
            .to_owned(),
    );
    [
        ("api", bearer("The setting `http.api_token`; if it is empty, no token is needed.")),
        ("operator", bearer("A token that an admin created, or the setting `http.admin_token`.")),
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
    ]
}
