//! Telling the service that sends commands that this database came back from a backup: some may have lost their effect.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, DbError};
use common::http::Problem;
use common::on;
use common::schema::restoration;
use diesel::prelude::*;
use hyper::StatusCode;

use super::model::Restoration;
use super::start::{BY_PERSON, Restorer};
use crate::lost::NewLoss;
use crate::peer::exchange;

/// The pause before it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

impl Restorer {
    /// Tells the other service of a restoration of which it does not know yet; whether any is still to be told of.
    ///
    /// # Errors
    /// When the database fails; it is told once more then, which does no harm.
    pub(super) async fn tell(&self) -> Result<bool, DbError> {
        let (service, now) = (self.service.clone(), self.env.now());
        let untold = self.db.read::<_, DbError>(move |conn| Ok(untold(conn, &service)?)).await?;
        let Some(row) = untold else { return Ok(false) };
        if row.tell_us.is_some_and(|due| due > now) {
            return Ok(true);
        }
        let told = self.tell_of(&row).await;
        let open = told.is_err();
        self.db.write::<_, DbError>(move |conn| Ok(note(conn, row.seq, now, told)?)).await?;
        Ok(open)
    }

    /// A service that sends no commands, or knows of no such route, need not be told; another server's 404 says nothing.
    async fn tell_of(&self, row: &Restoration) -> Result<(), String> {
        let loss = NewLoss {
            service: self.service.clone(),
            restoration: format!("{}-{}", row.seq, row.epoch.unwrap_or_default()),
            // Begun anew by a person, it may be no new restore: then nothing that was decided since is lost.
            since: row.since_us.filter(|_| row.detail != BY_PERSON),
        };
        let request = self.peer.post("/api/v1/replica/losses").json(&loss);
        let (other, url) = (&self.other, self.peer.base());
        let failed = |why: String| {
            format!(
                "{other} can't be told at {url} that its commands may be lost: {why}; is it up, and are peer.url and peer.api_token right?"
            )
        };
        let answer = exchange(request, self.timeout, MAX_ANSWER).await;
        let (status, body) = answer.map_err(failed)?;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if is_ours(&body) => Ok(()),
            status => Err(failed(format!("it answered {status}"))),
        }
    }
}

/// Whether one of these services says so, and not some other server.
fn is_ours(body: &[u8]) -> bool {
    let problem = serde_json::from_slice::<Problem>(body);
    problem.is_ok_and(|problem| problem.kind.starts_with("urn:stockloop:problem:"))
}

fn untold(conn: &mut Conn, service: &str) -> QueryResult<Option<Restoration>> {
    use restoration as r;
    let untold = r::table.filter(r::service.eq(service)).filter(r::tell_us.is_not_null());
    on!(conn, c => untold
        .order(r::seq.desc())
        .select(Restoration::as_select())
        .first(c)
        .optional())
}

fn note(conn: &mut Conn, seq: i64, now: Timestamp, told: Result<(), String>) -> QueryResult<()> {
    use restoration as r;
    let (again, why) = match told {
        Ok(()) => (None, None),
        Err(why) => (Some(now.after(AGAIN)), Some(why)),
    };
    let change = (r::tell_us.eq(again), r::untold.eq(why));
    on!(conn, c => diesel::update(r::table.find(seq)).set(change).execute(c))?;
    Ok(())
}
