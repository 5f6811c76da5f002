//! The mail server's mails as the judge asks for them: the list of a mail catcher, over HTTP.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use stockloop_tests::smtp::Mail;

use super::http_server::{HttpServer, write_answer};

/// Lists `mails` to whoever asks, whatever is asked for.
pub(super) fn serve(mails: impl Fn() -> Vec<Mail> + Send + Sync + 'static) -> Result<HttpServer> {
    HttpServer::start(move |_, stream| write_answer(stream, "200 OK", &list(&mails()).to_string()))
}

fn list(mails: &[Mail]) -> Value {
    let mail = |(number, mail): (usize, &Mail)| {
        json!({
            "id": number.to_string(),
            "message_id": message_id(mail),
            "received_at": "2026-01-05T12:00:00Z",
        })
    };
    (1..).zip(mails).map(mail).collect()
}

/// How many mails there are, each counted once however often it came.
pub(super) fn count(mails: &[Mail]) -> usize {
    mails.iter().map(message_id).collect::<BTreeSet<_>>().len()
}

fn message_id(mail: &Mail) -> String {
    let text = mail.text();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut ids = lines.filter(|(name, _)| name.eq_ignore_ascii_case("message-id"));
    let id = ids.next().map_or("", |(_, id)| id);
    id.trim().trim_matches(['<', '>']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(raw: &str) -> Mail {
        Mail { from: String::new(), to: Vec::new(), raw: raw.as_bytes().to_vec() }
    }

    #[test]
    fn a_mail_that_came_twice_counts_once() {
        let mails = [
            mail("Subject: one\r\nMessage-ID: <a@test>\r\n\r\nMessage-ID: <c@test>"),
            mail("Message-Id: <a@test>\r\n\r\n"),
            mail("Message-ID: <b@test>\r\n\r\n"),
        ];
        assert_eq!(count(&mails), 2);
        assert_eq!(list(&mails)[0]["message_id"], "a@test");
    }
}
