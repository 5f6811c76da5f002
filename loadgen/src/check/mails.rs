//! I5, the mails: each alert that is open and not silenced is in a mail, and each mail that left is with the catcher.
//!
//! The catcher keeps the newest mails and numbers them from 1: what it may have dropped is not missed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Terms;
use super::finding::{Invariant, Kind, Wrong};
use super::reader::{PAGE, Reader};
use super::report::Report;

/// Alerts wait for others so long, at the most, before somebody has to look why no mail tells of them.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// How long the catcher may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An alert, and the mail that tells of it.
#[derive(Debug, Clone, QueryableByName)]
struct AlertRow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = BigInt)]
    created_us: Timestamp,
    #[diesel(sql_type = Bool)]
    silenced: bool,
    /// When the last silence that covered it ended, or will end.
    #[diesel(sql_type = Nullable<BigInt>)]
    silenced_until: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mail_seq: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    message_id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sent_us: Option<Timestamp>,
    /// Recipients who refused it for good, and all whose answer is noted.
    #[diesel(sql_type = BigInt)]
    refused: i64,
    #[diesel(sql_type = BigInt)]
    recipients: i64,
}

/// What the catcher has.
#[derive(Debug, Default)]
struct Caught {
    message_ids: BTreeSet<String>,
    /// What came before may have been dropped.
    complete_from: Option<Timestamp>,
}

/// A mail as the catcher tells it.
#[derive(Debug, Deserialize)]
struct CaughtMail {
    id: String,
    message_id: Option<String>,
    received_at: Timestamp,
}

/// Looks at all alerts of a service, and asks the catcher at `url` for their mails.
pub(super) fn check(
    reader: &mut Reader,
    url: &str,
    terms: &Terms,
    report: &mut Report,
) -> Result<()> {
    let (side, now) = (reader.side, terms.now);
    let (mut unsent, mut dropped) = (0_u64, 0_u64);
    let take = |rows: Vec<AlertRow>| {
        // After the page: what counts as sent there is with the catcher by now.
        let caught = caught(url)?;
        for row in &rows {
            match judge(row, terms, &caught) {
                Verdict::Told => {}
                Verdict::Unsent => unsent += 1,
                Verdict::MayBeDropped => dropped += 1,
                Verdict::Wrong(wrong) => {
                    report.tell(wrong.at(side, format!("alert {} ({})", row.seq, row.kind)));
                }
            }
        }
        Ok(rows.last().map(|row| row.seq))
    };
    let read = |conn: &mut Conn, after: &i64| alerts(conn, *after, now);
    let rows = reader.walk("alerts and mails", i64::MIN, read, take)?;
    report.looked(Invariant::I5, side, "alerts, by their mails", rows);
    if unsent > 0 {
        report.note(format!("{side}: {unsent} alerts are not told by mail yet"));
    }
    if dropped > 0 {
        report.unchecked(format!(
            "I5: mails about {dropped} alerts of {side} are older than what the catcher keeps"
        ));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Told,
    /// Not yet, and nothing says that it should be.
    Unsent,
    MayBeDropped,
    Wrong(Wrong),
}

impl AlertRow {
    /// From when on a mail may tell of it.
    fn may_be_told_from(&self) -> Timestamp {
        self.silenced_until.map_or(self.created_us, |until| until.max(self.created_us))
    }
}

fn judge(row: &AlertRow, terms: &Terms, caught: &Caught) -> Verdict {
    if row.mail_seq.is_none() {
        return match row.silenced {
            true => Verdict::Told,
            false if terms.settled || terms.now.since(row.may_be_told_from()) > GRACE => {
                let found = format!("no mail; it is open since {}", row.created_us);
                Verdict::Wrong(Wrong::new(Kind::AlertUntold, "a mail that tells of it", found))
            }
            false => Verdict::Unsent,
        };
    }
    let mail = row.mail_seq.unwrap_or_default();
    let Some(message_id) = &row.message_id else {
        let expected = format!("the mail {mail}, which tells of it");
        let found = "there is no such mail";
        return Verdict::Wrong(Wrong::new(Kind::AlertUntold, expected, found));
    };
    let Some(sent) = row.sent_us else {
        if !terms.settled {
            return Verdict::Unsent;
        }
        let expected = format!("the mail {mail} has left");
        return Verdict::Wrong(Wrong::new(Kind::MailUnsent, expected, "it waits"));
    };
    let is_refused = row.recipients > 0 && row.refused == row.recipients;
    if is_refused || caught.message_ids.contains(bare(message_id)) {
        return Verdict::Told;
    }
    if caught.complete_from.is_some_and(|from| sent <= from) {
        return Verdict::MayBeDropped;
    }
    let found = format!("{} mails, and not {message_id}", caught.message_ids.len());
    Verdict::Wrong(Wrong::new(Kind::MailLost, format!("the mail {mail}, sent at {sent}"), found))
}

/// A message's id without the brackets that its header has.
fn bare(message_id: &str) -> &str {
    message_id.trim_matches(['<', '>', ' '])
}

fn alerts(conn: &mut Conn, after: i64, now: Timestamp) -> QueryResult<Vec<AlertRow>> {
    let covers = "(s.kind IS NULL OR s.kind = a.kind) AND (s.key IS NULL OR s.key = a.key) \
         AND (s.alert_seq IS NULL OR s.alert_seq = a.seq)";
    let sql = format!(
        "SELECT a.seq, a.kind, a.created_us, \
           EXISTS (SELECT 1 FROM alert_silence s \
                   WHERE s.until_us > $1 AND s.ended_us IS NULL AND {covers}) AS silenced, \
           (SELECT max(CASE WHEN s.ended_us < s.until_us THEN s.ended_us ELSE s.until_us END) \
            FROM alert_silence s WHERE {covers}) AS silenced_until, \
           a.mail_seq, m.message_id, m.sent_us, \
           (SELECT count(*) FROM mail_recipient r WHERE r.mail_seq = m.seq AND r.refused_us IS NOT NULL) AS refused, \
           (SELECT count(*) FROM mail_recipient r WHERE r.mail_seq = m.seq) AS recipients \
         FROM (SELECT seq, kind, key, created_us, mail_seq FROM alert \
               WHERE (closed_us IS NULL OR mail_seq IS NOT NULL) AND seq > $2 ORDER BY seq LIMIT $3) a \
         LEFT JOIN mail m ON m.seq = a.mail_seq ORDER BY a.seq"
    );
    on!(conn, c => sql_query(sql)
        .bind::<BigInt, _>(now)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(PAGE)
        .load(c))
}

/// Asks the catcher for what it has.
fn caught(url: &str) -> Result<Caught> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { timeout(PATIENCE, get(url)).await });
    let body = asked.context("it does not answer").flatten().with_context(|| {
        format!("the mail catcher at {url} can't be asked (write http://host:port)")
    })?;
    let mails: Vec<CaughtMail> = serde_json::from_slice(&body)
        .with_context(|| format!("what {url} answers is no list of mails"))?;
    Ok(Caught::of(mails))
}

impl Caught {
    fn of(mails: Vec<CaughtMail>) -> Self {
        let is_whole = mails.is_empty() || mails.iter().any(|mail| mail.id == "1");
        let oldest = mails.iter().map(|mail| mail.received_at).min();
        let ids = mails.into_iter().filter_map(|mail| mail.message_id);
        Self {
            message_ids: ids.map(|id| bare(&id).to_owned()).collect(),
            complete_from: oldest.filter(|_| !is_whole),
        }
    }
}

async fn get(url: &str) -> Result<Bytes> {
    let uri: Uri = url.parse()?;
    let host =
        uri.host().filter(|_| uri.scheme_str() == Some("http")).context("no such address")?;
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await?;
    let (mut requests, connection) = handshake(TokioIo::new(stream)).await?;
    // How it ended is what the request is told.
    tokio::spawn(async move { drop(connection.await) });
    let path = format!("{}/api/mails", uri.path().trim_end_matches('/'));
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new())?;
    let response = requests.send_request(request).await?;
    let status = response.status();
    ensure!(status.is_success(), "it answers {status}");
    Ok(response.into_body().collect().await?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    fn told() -> AlertRow {
        AlertRow {
            seq: 1,
            kind: "exhausted".to_owned(),
            created_us: AT,
            silenced: false,
            silenced_until: None,
            mail_seq: Some(1),
            message_id: Some("<1@shop.example>".to_owned()),
            sent_us: Some(AT),
            refused: 0,
            recipients: 1,
        }
    }

    fn mail(id: &str, message_id: &str, micros: i64) -> CaughtMail {
        let (id, message_id) = (id.to_owned(), Some(message_id.to_owned()));
        CaughtMail { id, message_id, received_at: Timestamp::from_micros(micros) }
    }

    fn verdict(row: &AlertRow, settled: bool, mails: Vec<CaughtMail>) -> Verdict {
        let terms = Terms { now: AT.after(Duration::from_secs(60)), settled, ..Terms::default() };
        judge(row, &terms, &Caught::of(mails))
    }

    fn kind(verdict: Verdict) -> Option<Kind> {
        match verdict {
            Verdict::Wrong(wrong) => Some(wrong.kind),
            _ => None,
        }
    }

    #[test]
    fn an_alert_is_told_by_a_mail_that_arrived() {
        assert_eq!(verdict(&told(), true, vec![mail("1", "1@shop.example", 1)]), Verdict::Told);
        let lost = verdict(&told(), false, vec![mail("1", "2@shop.example", 1)]);
        assert_eq!(kind(lost), Some(Kind::MailLost));
        assert_eq!(kind(verdict(&told(), false, Vec::new())), Some(Kind::MailLost));
        let refused = AlertRow { refused: 1, ..told() };
        assert_eq!(verdict(&refused, true, Vec::new()), Verdict::Told);
    }

    #[test]
    fn what_the_catcher_may_have_dropped_is_not_missed() {
        let newer = || vec![mail("501", "2@shop.example", 2_000_000)];
        assert_eq!(verdict(&told(), true, newer()), Verdict::MayBeDropped);
        let later = AlertRow { sent_us: Some(Timestamp::from_micros(3_000_000)), ..told() };
        assert_eq!(kind(verdict(&later, true, newer())), Some(Kind::MailLost));
    }

    #[test]
    fn an_alert_without_a_mail_is_told_unless_it_is_young_or_silenced() {
        let untold = AlertRow { mail_seq: None, message_id: None, sent_us: None, ..told() };
        assert_eq!(verdict(&untold, false, Vec::new()), Verdict::Unsent);
        assert_eq!(kind(verdict(&untold, true, Vec::new())), Some(Kind::AlertUntold));
        let old = AlertRow { created_us: Timestamp::from_micros(-600_000_000), ..untold.clone() };
        let over = AlertRow { silenced_until: Some(old.created_us), ..old.clone() };
        assert_eq!(kind(verdict(&over, false, Vec::new())), Some(Kind::AlertUntold));
        assert_eq!(kind(verdict(&old, false, Vec::new())), Some(Kind::AlertUntold));
        // A silence is over since a moment ago, and the next mail tells of what it covered.
        let heard = AlertRow { silenced_until: Some(AT), ..old };
        assert_eq!(verdict(&heard, false, Vec::new()), Verdict::Unsent);
        let silenced = AlertRow { silenced: true, ..untold };
        assert_eq!(verdict(&silenced, true, Vec::new()), Verdict::Told);
        let gone = AlertRow { message_id: None, sent_us: None, ..told() };
        assert_eq!(kind(verdict(&gone, false, Vec::new())), Some(Kind::AlertUntold));
        let waits = AlertRow { sent_us: None, ..told() };
        assert_eq!(verdict(&waits, false, Vec::new()), Verdict::Unsent);
        assert_eq!(kind(verdict(&waits, true, Vec::new())), Some(Kind::MailUnsent));
    }
}
