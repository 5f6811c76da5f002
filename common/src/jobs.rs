//! Background work: each job is a pure step elsewhere; here are the thin loops and timers around them.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;

use crate::env::Env;
use crate::retry::Backoff;

const PAUSES: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(5),
};

/// Repeats `work` until it succeeds, with growing pauses; `None` when `stop` came first.
///
/// The first failure and the recovery are logged, what lies between is not.
pub async fn persist<T, E: Display>(
    what: &str,
    env: &Env,
    stop: &CancellationToken,
    mut work: impl AsyncFnMut() -> Result<T, E>,
) -> Option<T> {
    let mut failures = 0_u32;
    loop {
        match work().await {
            Ok(done) => {
                if failures > 0 {
                    tracing::info!(failures, "{what} works again");
                }
                return Some(done);
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    tracing::warn!(%error, "{what} failed and is repeated until it works");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(PAUSES.delay(failures, env.chance())) => {}
        }
    }
}

/// What a job's step says about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do right now.
    Again,
    /// Wait until woken.
    Wait,
}

/// Runs `step` each time `poke` is notified, until it wants to wait; ends with `stop`.
pub async fn on_poke<E: Display>(
    what: &str,
    env: &Env,
    poke: &Notify,
    stop: &CancellationToken,
    mut step: impl AsyncFnMut() -> Result<Next, E>,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = poke.notified() => {}
        }
        while let Some(Next::Again) = persist(what, env, stop, &mut step).await {
            if stop.is_cancelled() {
                return;
            }
        }
    }
}

/// The cron timers of a service: each only wakes its job.
pub struct Timers {
    scheduler: JobScheduler,
}

impl Timers {
    /// No timers yet.
    ///
    /// # Errors
    /// When the scheduler can't start.
    pub async fn new() -> anyhow::Result<Self> {
        let scheduler = JobScheduler::new()
            .await
            .context("the scheduler can't start")?;
        Ok(Self { scheduler })
    }

    /// Notifies `poke` whenever `cron` (with seconds, UTC) says so.
    ///
    /// # Errors
    /// When `cron` is not understood.
    pub async fn every(&self, cron: &str, poke: &Arc<Notify>) -> anyhow::Result<()> {
        let poke = Arc::clone(poke);
        let job = Job::new(cron, move |_, _| poke.notify_one())
            .with_context(|| format!("the cron expression {cron:?} is not understood; six fields, such as \"*/5 * * * * *\""))?;
        self.scheduler
            .add(job)
            .await
            .context("a timer can't be added")?;
        Ok(())
    }

    /// Starts them all.
    ///
    /// # Errors
    /// When the scheduler can't start.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.scheduler
            .start()
            .await
            .context("the timers can't start")
    }

    /// Stops them all.
    pub async fn stop(&mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "the timers ended with an error");
        }
    }
}
