//! The pages that show what was caught, and the JSON list for programs.

use std::sync::Arc;

use actix_web::http::header::{ContentType, HeaderName};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use askama::Template;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::mail::Mail;
use super::store::{MAX_MAILS, Store};

const LIST: &str = "catcher.list";
const MAIL: &str = "catcher.mail";
const HTML: &str = "catcher.html";
const RAW: &str = "catcher.raw";

/// For our own pages: nothing but our inline style, and the frame that shows a mail's HTML.
pub(super) const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
/// For a mail's HTML, which anyone may have written: no script, nothing loaded, no origin of ours. Its links may open
/// windows of their own, which are then as free as any.
pub(super) const MAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     sandbox allow-popups allow-popups-to-escape-sandbox";
/// Lets a mail's links open new windows: the pages that they lead to let nobody frame them.
const LINKS_OUTSIDE: &str = "<base target=\"_blank\">";

const POLICY: HeaderName = HeaderName::from_static("content-security-policy");

/// Adds the routes; their names let links find the prefix they are mounted under.
pub(super) fn configure(service: &mut ServiceConfig, store: Arc<Store>) {
    service
        .app_data(Data::from(store))
        .service(web::resource(["/", ""]).name(LIST).route(web::get().to(list)))
        .service(web::resource("/mails/{id}").name(MAIL).route(web::get().to(mail)))
        .service(web::resource("/mails/{id}/html").name(HTML).route(web::get().to(html)))
        .service(web::resource("/mails/{id}/raw").name(RAW).route(web::get().to(raw)))
        .service(web::resource("/api/mails").route(web::get().to(api)));
}

#[derive(Template)]
#[template(path = "catcher/list.html")]
struct ListPage {
    rows: Vec<MailRow>,
    arrived: u64,
    most: usize,
}

struct MailRow {
    link: String,
    subject: String,
    to: String,
    time: String,
    exact: String,
}

#[derive(Template)]
#[template(path = "catcher/mail.html")]
struct MailPage<'a> {
    back: String,
    html: String,
    raw: String,
    subject: String,
    to: String,
    time: String,
    exact: String,
    mail: &'a Mail,
}

#[derive(Template)]
#[template(path = "catcher/not_found.html")]
struct NotFoundPage {
    back: String,
    most: usize,
}

/// One mail as programs get it.
#[derive(Debug, Serialize)]
struct MailView<'a> {
    id: String,
    subject: &'a str,
    to: &'a [String],
    message_id: Option<&'a str>,
    received_at: String,
    text: Option<&'a str>,
}

async fn list(request: HttpRequest, store: Data<Store>) -> HttpResponse {
    let mails = store.newest_first();
    let rows = mails.iter().map(|mail| MailRow {
        link: link(&request, MAIL, mail.id),
        subject: subject(mail),
        to: mail.to.join(", "),
        time: readable(mail.received_at),
        exact: exact(mail.received_at),
    });
    page(
        HttpResponse::Ok(),
        &ListPage { rows: rows.collect(), arrived: store.arrived(), most: MAX_MAILS },
    )
}

async fn mail(request: HttpRequest, store: Data<Store>, id: Path<String>) -> HttpResponse {
    let Some(mail) = find(&store, &id) else {
        return not_found(&request);
    };
    page(
        HttpResponse::Ok(),
        &MailPage {
            back: link_to_list(&request),
            html: link(&request, HTML, mail.id),
            raw: link(&request, RAW, mail.id),
            subject: subject(&mail),
            to: mail.to.join(", "),
            time: readable(mail.received_at),
            exact: exact(mail.received_at),
            mail: &mail,
        },
    )
}

async fn html(request: HttpRequest, store: Data<Store>, id: Path<String>) -> HttpResponse {
    let Some(mail) = find(&store, &id) else {
        return not_found(&request);
    };
    match &mail.html {
        Some(html) => with_policy(HttpResponse::Ok(), MAIL_POLICY)
            .content_type(ContentType::html())
            .body(links_outside(html)),
        None => not_found(&request),
    }
}

fn links_outside(html: &str) -> String {
    match html.split_once("<head>") {
        Some((start, rest)) => format!("{start}<head>{LINKS_OUTSIDE}{rest}"),
        None => format!("{LINKS_OUTSIDE}{html}"),
    }
}

/// As plain text: a browser shows it, and never runs it.
async fn raw(request: HttpRequest, store: Data<Store>, id: Path<String>) -> HttpResponse {
    let Some(mail) = find(&store, &id) else {
        return not_found(&request);
    };
    with_policy(HttpResponse::Ok(), MAIL_POLICY)
        .content_type(ContentType::plaintext())
        .body(mail.raw.clone())
}

async fn api(store: Data<Store>) -> HttpResponse {
    let mails = store.newest_first();
    let views: Vec<MailView<'_>> = mails.iter().map(|mail| view(mail)).collect();
    with_policy(HttpResponse::Ok(), MAIL_POLICY).json(views)
}

fn view(mail: &Mail) -> MailView<'_> {
    MailView {
        id: mail.id.to_string(),
        subject: &mail.subject,
        to: &mail.to,
        message_id: mail.message_id.as_deref(),
        received_at: exact(mail.received_at),
        text: mail.text.as_deref(),
    }
}

fn find(store: &Store, id: &str) -> Option<Arc<Mail>> {
    store.get(id.parse().ok()?)
}

fn not_found(request: &HttpRequest) -> HttpResponse {
    page(HttpResponse::NotFound(), &NotFoundPage { back: link_to_list(request), most: MAX_MAILS })
}

fn page(response: HttpResponseBuilder, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(text) => with_policy(response, PAGE_POLICY).content_type(ContentType::html()).body(text),
        Err(error) => {
            tracing::error!(%error, "a page of the mail catcher couldn't be made");
            HttpResponse::InternalServerError().body("The page could not be made; see the log.")
        }
    }
}

fn with_policy(mut response: HttpResponseBuilder, policy: &'static str) -> HttpResponseBuilder {
    response
        .insert_header((POLICY, policy))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("cache-control", "no-store"));
    response
}

fn link(request: &HttpRequest, name: &str, id: u64) -> String {
    path_of(request, name, &[id.to_string()])
}

fn link_to_list(request: &HttpRequest) -> String {
    path_of(request, LIST, &[])
}

/// Only the path: the host a browser named is not ours to repeat.
fn path_of(request: &HttpRequest, name: &str, values: &[String]) -> String {
    request.url_for(name, values).map_or_else(|_| "/".to_owned(), |url| url.path().to_owned())
}

fn subject(mail: &Mail) -> String {
    match mail.subject.trim() {
        "" => "(no subject)".to_owned(),
        subject => subject.to_owned(),
    }
}

fn readable(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn exact(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
