//! `GET /api/v1/search?q=red+mug`: the products whose descriptions hold all of the words.

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::db::{Conn, Db};
use common::http::{Page, PageQuery, Params, Problem, ProblemResult, wrong_method};
use common::on;
use diesel::dsl::count_star;
use diesel::prelude::*;
use engine::copies;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::index::{word, words};

/// Words that one question may have.
const MAX_WORDS: usize = 10;

/// A product that was found.
#[derive(Serialize, ToSchema)]
struct Hit {
    sku: String,
    description: String,
}

#[derive(OpenApi)]
#[openapi(paths(search))]
struct Api;

pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

pub(crate) fn configure(config: &mut ServiceConfig, db: Data<Db>) {
    let search = web::resource("/search").get(search).default_service(wrong_method("GET"));
    config.app_data(db).service(search);
}

/// The products whose descriptions hold all words of `q`, by SKU.
#[utoipa::path(
    get, path = "/api/v1/search", tag = "search",
    params(("q" = String, Query, description = "1 to 10 words"), PageQuery),
    responses(
        (status = 200, body = Page<Hit>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn search(db: Data<Db>, mut params: Params) -> ProblemResult<Json<Page<Hit>>> {
    let asked = words(&params.text("q").unwrap_or_default());
    let (limit, after) = (params.limit()?, params.text("after").unwrap_or_default());
    params.finish()?;
    if !(1..=MAX_WORDS).contains(&asked.len()) {
        return Err(Problem::invalid("q", format!("a question has 1 to {MAX_WORDS} words")));
    }
    let count = i64::try_from(asked.len()).unwrap_or(i64::MAX);
    let find = move |conn: &mut Conn| {
        let found = word::table
            .filter(word::text.eq_any(&asked).and(word::sku.gt(&after)))
            .group_by(word::sku)
            .having(count_star().eq(count))
            .order(word::sku)
            .limit(limit + 1)
            .select(word::sku);
        let keys: Vec<String> = on!(&mut *conn, c => found.load(c))?;
        Ok::<_, Problem>(copies::find(conn, &keys)?)
    };
    let found = db.read(find).await?.into_iter();
    let hits = found.map(|state| Hit {
        description: state.content.iter().map(|value| value.as_text()).collect(),
        sku: state.key,
    });
    Ok(Json(Page::cut(hits.collect(), limit, |hit: &Hit| hit.sku.clone())))
}
