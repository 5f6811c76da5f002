//! The mail server's mails as the judge asks for them: the list of a mail catcher, over HTTP.

use anyhow::Result;
use stockloop_tests::smtp::{Mail, listed};

use super::http_server::{HttpServer, write_answer};

/// Lists `mails` to whoever asks, whatever is asked for.
pub(super) fn serve(mails: impl Fn() -> Vec<Mail> + Send + Sync + 'static) -> Result<HttpServer> {
    HttpServer::start(move |_, stream| {
        write_answer(stream, "200 OK", &listed(&mails()).to_string())
    })
}
