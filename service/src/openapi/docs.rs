//! The document at `/api/openapi.json`, and Swagger UI over it at `/api/docs/`, from files that this program carries:
//! nothing is loaded from anywhere else.

use std::sync::Arc;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, EntityTag, Header, IfNoneMatch,
    LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use common::http::{Problem, ProblemResult, reading, wrong_method};
use sha2::{Digest, Sha256};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

/// Where the document is.
pub(super) const ADDRESS: &str = "/api/openapi.json";

/// Swagger UI sets styles in its markup and has its pictures in its style sheet; the rest is what it takes to ask this
/// service and nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document as it is sent.
#[derive(Clone)]
struct Sent {
    json: Bytes,
    tag: EntityTag,
}

/// Mounts the document and its pages, which ask for no token; for `App::configure`.
pub(crate) fn configure(
    document: &OpenApi,
) -> serde_json::Result<impl Fn(&mut ServiceConfig) + Clone + Send + use<>> {
    // By way of a value, so that the order of what lies in hash maps doesn't show.
    let json = serde_json::to_vec(&serde_json::to_value(document)?)?;
    let tag = EntityTag::new_strong(hex::encode(&Sha256::digest(&json)[..16]));
    let sent = Data::new(Sent { json: json.into(), tag });
    let ui = Config::from(ADDRESS)
        .validator_url("none")
        .doc_expansion("none")
        .display_request_duration(true)
        .filter(true);
    let ui = Data::from(Arc::new(ui));
    Ok(move |app: &mut ServiceConfig| {
        let resource = |path| web::resource(path).default_service(wrong_method("GET, HEAD"));
        app.app_data(sent.clone())
            .app_data(ui.clone())
            .service(resource(ADDRESS).route(reading().to(show)))
            .service(resource("/api/docs").route(reading().to(to_page)))
            .service(resource("/api/docs/{file:.*}").route(reading().to(page)));
    })
}

/// The API of this service in OpenAPI 3.1; `/api/docs/` shows it to people
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "documentation",
    responses(
        (
            status = 200,
            description = "This document",
            body = Object,
            headers(("etag" = String, description = "Changes with the document"))
        ),
        (status = 304, description = "If-None-Match names this document"),
    )
)]
async fn show(sent: Data<Sent>, request: HttpRequest) -> HttpResponse {
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&sent.tag)),
        Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, sent.tag.to_string())).insert_header((CACHE_CONTROL, "no-cache"));
    match known {
        true => response.finish(),
        false => response.content_type("application/json").body(sent.json.clone()),
    }
}

async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/api/docs/")).finish()
}

async fn page(file: Path<String>, ui: Data<Config<'static>>) -> ProblemResult<HttpResponse> {
    let found = utoipa_swagger_ui::serve(&file, ui.into_inner());
    let found = found.map_err(|error| Problem::internal(&error))?;
    let Some(found) = found else {
        return Err(Problem::not_found(format!("the documentation has no file {file}")));
    };
    let mut response = HttpResponse::Ok();
    if found.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type(found.content_type)
        .body(found.bytes.into_owned()))
}
