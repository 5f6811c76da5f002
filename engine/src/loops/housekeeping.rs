//! What runs beside the loop: messages to people, samples, bulk jobs, and forgetting.

use std::sync::Arc;

use common::db::DbError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Loops, count};
use crate::Engine;
use crate::retention::{self, Retention};
use crate::stats::{Sample, Trend};
use crate::worker::{Next, Retry, Tasks, run_when_notified};

impl Loops {
    pub(super) fn start_housekeeping(&self, stop: &CancellationToken, tasks: &Tasks) {
        let engine = &self.engine;
        tasks.spawn_loop("alerts", engine.clone().alert_loop(stop.clone()));
        tasks.spawn_loop("sampler", engine.clone().sample_loop(stop.clone()));
        let due = Arc::clone(&self.retention_wakeup);
        tasks.spawn_loop("retention", engine.clone().retention_loop(due, stop.clone()));
        tasks.spawn_loop("bulk jobs", engine.clone().bulk_loop(stop.clone()));
    }
}

impl Engine {
    async fn alert_loop(self, stop: CancellationToken) {
        run_when_notified("mailing alerts", &self.env, self.alerts.notify(), &stop, || async {
            let outcome = self.alerts.run_once(&self.db, &self.env).await?;
            self.metrics.mails_sent(count(outcome.mails.sender.sent));
            self.metrics.mail_recipients_refused(count(outcome.mails.sender.refused));
            Ok::<_, anyhow::Error>(Next::Wait)
        })
        .await;
    }

    async fn sample_loop(self, stop: CancellationToken) {
        let mut retry = Retry::new("sampling the tables", &self.env, &stop);
        let trend = Trend::default();
        loop {
            let sample = match self.sample(&trend).await {
                Ok(sample) => retry.succeeded(sample),
                Err(error) => match retry.pause(&error).await {
                    Some(()) => continue,
                    None => return,
                },
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(sample.rest()) => {}
            }
        }
    }

    async fn sample(&self, trend: &Trend) -> Result<Arc<Sample>, DbError> {
        let sample = self.sampler.run_once(&self.db, &self.env).await?;
        trend.run_once(&self.db, &sample).await?;
        Ok(sample)
    }

    async fn retention_loop(self, due: Arc<Notify>, stop: CancellationToken) {
        run_when_notified("forgetting old rows", &self.env, &due, &stop, || async {
            let now = self.env.now();
            let limits = Retention::of(&self.settings, now);
            let mut gone = retention::run_once(&self.db, limits).await?;
            if let Some(forget) = self.forget {
                gone += retention::run_own_once(&self.db, limits, forget).await?;
            }
            Ok::<_, DbError>(if gone > 0 { Next::Again } else { Next::Wait })
        })
        .await;
    }

    async fn bulk_loop(self, stop: CancellationToken) {
        run_when_notified(
            "acting on many events",
            &self.env,
            self.bulk.notify(),
            &stop,
            || async {
                let outcome = self.bulk.run_once(&self.db, &self.env, &self.outbox).await?;
                if outcome.done > 0 {
                    self.outbox.wake();
                }
                Ok::<_, DbError>(if outcome.worked { Next::Again } else { Next::Wait })
            },
        )
        .await;
    }
}
