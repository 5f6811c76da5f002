//! What runs beside the loop: messages to people, samples, bulk jobs, and forgetting.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Engine, FORGET, count};
use crate::db::DbError;
use crate::jobs::{Next, Retry, Tasks, on_poke};
use crate::retention::{self, Retention};
use crate::stats::{Sample, Trend};

impl Engine {
    pub(super) fn start_housekeeping(&self, stop: &CancellationToken, tasks: &Tasks) {
        tasks.spawn(self.clone().alert_loop(stop.clone()));
        tasks.spawn(self.clone().sample_loop(stop.clone()));
        tasks.spawn(self.clone().forget_loop(stop.clone()));
        tasks.spawn(self.clone().bulk_loop(stop.clone()));
    }

    async fn alert_loop(self, stop: CancellationToken) {
        on_poke("mailing alerts", &self.env, self.alerts.notify(), &stop, || async {
            let outcome = self.alerts.run_once(&self.db, &self.env).await?;
            self.metrics.mails_sent(count(outcome.mails.sender.sent));
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

    async fn forget_loop(self, stop: CancellationToken) {
        on_poke("forgetting old rows", &self.env, &self.timers[FORGET], &stop, || async {
            let now = self.env.now();
            let limits = Retention::of(&self.settings, now);
            let gone = retention::run_once(&self.db, limits).await?;
            Ok::<_, DbError>(if gone > 0 { Next::Again } else { Next::Wait })
        })
        .await;
    }

    async fn bulk_loop(self, stop: CancellationToken) {
        on_poke("acting on many events", &self.env, self.bulk.notify(), &stop, || async {
            let outcome = self.bulk.run_once(&self.db, &self.env, &self.outbox).await?;
            if outcome.done > 0 {
                self.outbox.wake();
            }
            Ok::<_, DbError>(if outcome.worked { Next::Again } else { Next::Wait })
        })
        .await;
    }
}
