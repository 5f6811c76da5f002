//! Messages that could not be read: their bytes in hexadecimal and as text, and what becomes of them.

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::http::{Problem, ProblemResult};
use engine::dead_letters::DeadLetterState;

use super::context::{Fields, Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::filters;
use super::tokens::number;
use crate::access::{Area, Role, Rule};
use crate::api::checked_reason;
use crate::api::dead_letters::{DeadLetter, WholeDeadLetter, discard_now, replay_now};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/dead-letters", Role::Viewer, Area::DeadLetters),
    Rule::new("GET", "/dead-letters/{seq}", Role::Viewer, Area::DeadLetters),
    Rule::new("POST", "/dead-letters/{seq}/replay", Role::Operator, Area::DeadLetters),
    Rule::new("POST", "/dead-letters/{seq}/discard", Role::Operator, Area::DeadLetters),
];

/// Bytes that a page shows; the API has all of them.
const SHOWN: usize = 16 * 1024;
/// Bytes of a line.
const LINE: usize = 16;

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/dead-letters").get(list).default_service(other()))
        .service(web::resource("/dead-letters/{seq}").get(show).default_service(other()))
        .service(web::resource("/dead-letters/{seq}/replay").post(replay).default_service(other()))
        .service(
            web::resource("/dead-letters/{seq}/discard").post(discard).default_service(other()),
        );
}

#[derive(Template)]
#[template(path = "admin/dead_letters.html")]
struct DeadLettersPage<'a> {
    frame: Frame,
    filled: &'a Fields,
    states: [DeadLetterState; 3],
    letters: Vec<DeadLetter>,
    paging: Paging,
}

#[derive(Template)]
#[template(path = "admin/dead_letter.html")]
struct DeadLetterPage {
    frame: Frame,
    whole: WholeDeadLetter,
    hex: String,
    text: String,
    cut: bool,
    may_act: bool,
    /// Whether it is of a view's topic, to which nothing is sent again.
    is_of_view: bool,
}

impl DeadLetter {
    /// How its state looks.
    pub(super) fn state_class(&self) -> &'static str {
        match self.state {
            DeadLetterState::Waiting => "bad",
            DeadLetterState::Replayed => "good",
            DeadLetterState::Discarded => "quiet",
        }
    }
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let (limit, after) = (params.limit()?, params.take("after", "the `next` of a page")?);
    let state: Option<DeadLetterState> = params.take("state", "a state")?;
    params.finish()?;
    let letters = context
        .admin
        .db
        .read(move |conn| DeadLetter::page(conn, state, after, limit).map_err(Problem::from))
        .await?;
    let shown = DeadLettersPage {
        frame: context.frame().await?,
        filled: &context.query,
        states: DeadLetterState::ALL,
        paging: context.next_page(letters.next.as_deref()),
        letters: letters.items,
    };
    page(StatusCode::OK, &shown)
}

async fn show(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let whole = context.admin.db.read(move |conn| WholeDeadLetter::find(conn, seq)).await?;
    let bytes = hex::decode(&whole.bytes_hex).map_err(|error| Problem::internal(&error))?;
    let cut = bytes.len() > SHOWN;
    let bytes = bytes.get(..SHOWN).unwrap_or(&bytes);
    let shown = DeadLetterPage {
        frame: context.frame().await?,
        hex: dump(bytes),
        text: String::from_utf8_lossy(bytes).into_owned(),
        cut,
        is_of_view: context.admin.view_topic() == Some(whole.letter.topic.as_str()),
        whole,
        may_act: context.may(Role::Operator, Area::DeadLetters),
    };
    page(StatusCode::OK, &shown)
}

/// Bytes as `hexdump -C` shows them.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, line) in bytes.chunks(LINE).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii = line.iter().map(|byte| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        });
        let ascii: String = ascii.collect();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{:08x}  {:<47}  {ascii}", number * LINE, hex.join(" "));
    }
    text
}

async fn replay(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    replay_now(&context.admin, seq, context.caller.clone()).await?;
    Ok(see(&format!("/admin/dead-letters/{seq}"), "replayed"))
}

async fn discard(
    context: PageContext,
    seq: Path<String>,
    form: Form,
) -> ProblemResult<HttpResponse> {
    let seq = number(&seq)?;
    let reason = form.needed("reason")?;
    checked_reason(&reason)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    let work = move |conn: &mut _| discard_now(conn, (&by, now), seq, reason);
    context.admin.db.write(work).await?;
    Ok(see(&format!("/admin/dead-letters/{seq}"), "discarded"))
}

#[cfg(test)]
mod tests {
    use super::dump;

    #[test]
    fn bytes_are_shown_beside_their_text() {
        let shown = dump(b"{\"sku\":\"TEA\"}\x00\xff!\n");
        let first =
            "00000000  7b 22 73 6b 75 22 3a 22 54 45 41 22 7d 00 ff 21  {\"sku\":\"TEA\"}..!";
        assert_eq!(shown.lines().next(), Some(first));
        assert_eq!(shown.lines().nth(1), Some(format!("00000010  {:<47}  .", "0a").as_str()));
    }
}
