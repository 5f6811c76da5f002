//! What the pages load: one style sheet, small scripts, an icon; all of it is in the program.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use actix_web::web::{self, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use common::http::{Problem, ProblemResult};
use sha2::{Digest, Sha256};

use crate::access::Rule;

/// What its routes ask for: also the page for signing in has a style.
pub(super) const RULES: &[Rule] = &[Rule::open("GET", "/assets/{file}")];

/// A file, and the beginning of its hash.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    hash: String,
}

static ASSETS: LazyLock<[Asset; 6]> = LazyLock::new(|| {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    [
        asset("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
        asset("page.js", SCRIPT, include_str!("assets/page.js")),
        asset("live.js", SCRIPT, include_str!("assets/live.js")),
        asset("job.js", SCRIPT, include_str!("assets/job.js")),
        asset("progress.js", SCRIPT, include_str!("assets/progress.js")),
        asset("favicon.svg", "image/svg+xml", include_str!("assets/favicon.svg")),
    ]
});

fn asset(name: &'static str, kind: &'static str, text: &'static str) -> Asset {
    let mut hash = hex::encode(Sha256::digest(text.as_bytes()));
    hash.truncate(16);
    Asset { name, kind, text, hash }
}

/// Where a page finds a file: the address changes with the file, so browsers may keep it for good.
pub(super) fn address(name: &str) -> String {
    let hash = find(name).map_or("", |asset| asset.hash.as_str());
    format!("/admin/assets/{name}?v={hash}")
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

pub(super) fn configure(scope: &mut ServiceConfig) {
    let file = web::resource("/assets/{file}").get(serve);
    scope.service(file.default_service(web::to(super::wrong_method)));
}

async fn serve(request: HttpRequest, file: Path<String>) -> ProblemResult<HttpResponse> {
    let asset =
        find(&file).ok_or_else(|| Problem::not_found(format!("there is no file {file:?} here")))?;
    let tag = format!("\"{}\"", asset.hash);
    // A page of another version may ask while services are exchanged: it gets this one, but shall not keep it.
    let keep = match request.query_string().strip_prefix("v=") == Some(asset.hash.as_str()) {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let known = request.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = match known == Some(tag.as_str()) {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    response.insert_header((ETAG, tag.clone())).insert_header((CACHE_CONTROL, keep));
    Ok(match known == Some(tag.as_str()) {
        true => response.finish(),
        false => response.insert_header((CONTENT_TYPE, asset.kind)).body(asset.text),
    })
}
