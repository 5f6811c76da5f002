//! Background work: each job is a pure step elsewhere; here are the thin loops and timers around them.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::env::Env;
use common::retry::Backoff;
use common::telemetry::LoopStates;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

const PAUSES: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(5) };

/// How often a batch fails before single ones of it are suspected.
const OFTEN: u32 = 5;

/// Work that is repeated until it succeeds, with growing pauses; the first failure and the recovery are logged.
///
/// `loop { match work().await { Ok(done) => break retry.succeeded(done), Err(e) => retry.pause(&e).await? } }`
pub struct Retry<'a> {
    what: &'static str,
    env: &'a Env,
    stop: &'a CancellationToken,
    failures: u32,
}

impl<'a> Retry<'a> {
    /// Nothing has failed yet.
    pub fn new(what: &'static str, env: &'a Env, stop: &'a CancellationToken) -> Self {
        Self { what, env, stop, failures: 0 }
    }

    /// Whether it has failed so often that what it works on may be to blame, and not the world.
    pub fn has_failed_often(&self) -> bool {
        self.failures >= OFTEN
    }

    /// Passes `done` on, saying so if it failed before.
    pub fn succeeded<T>(&mut self, done: T) -> T {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "{} works again", self.what);
            self.failures = 0;
        }
        done
    }

    /// Waits before the next try; `None`: the service is stopping, and there is none.
    pub async fn pause(&mut self, error: &(impl Display + Sync)) -> Option<()> {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(%error, "{} failed and is repeated until it works", self.what);
        }
        let pause = PAUSES.delay(self.failures, self.env.chance());
        tokio::select! {
            () = self.stop.cancelled() => None,
            () = tokio::time::sleep(pause) => Some(()),
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

/// Runs `step` each time `woken` is notified, until it wants to wait; what fails is repeated. Ends with `stop`.
pub async fn run_when_notified<F, E>(
    what: &'static str,
    env: &Env,
    woken: &Notify,
    stop: &CancellationToken,
    step: impl Fn() -> F + Send,
) where
    F: Future<Output = Result<Next, E>> + Send,
    E: Display + Send + Sync,
{
    let mut retry = Retry::new(what, env, stop);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = woken.notified() => {}
        }
        while !stop.is_cancelled() {
            match step().await {
                Ok(Next::Again) => retry.succeeded(()),
                Ok(Next::Wait) => {
                    retry.succeeded(());
                    break;
                }
                Err(error) => {
                    if retry.pause(&error).await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}

/// The background work of a service; its log lines tell which service that is.
pub struct Tasks {
    tracker: TaskTracker,
    service: tracing::Span,
    loops: LoopStates,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet. All of them end with `stop`; `loops` knows of those that end before.
    pub fn new(service: tracing::Span, loops: LoopStates, stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), service, loops, stop }
    }

    /// Starts a loop: the service is not ready any more if it ends before the service stops.
    pub fn spawn_loop(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (state, stop) = (self.loops.begin(name), self.stop.clone());
        self.spawn(async move {
            task.await;
            if stop.is_cancelled() {
                state.stop();
            }
        });
    }

    /// Starts a task that may end by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task.instrument(self.service.clone()));
    }

    /// There will be no more.
    pub fn close(&self) {
        self.tracker.close();
    }

    /// Waits until all have ended.
    pub async fn wait(&self) {
        self.tracker.wait().await;
    }
}

/// How often is looked whether timers wait for longer than they should.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// The cron timers of a service: each only wakes its job.
pub struct Timers {
    scheduler: JobScheduler,
    set: Vec<Timer>,
}

/// One that is set.
struct Timer {
    job: Uuid,
    cron: String,
    woken: Arc<Notify>,
}

impl Timers {
    /// No timers yet.
    ///
    /// # Errors
    /// When the scheduler can't start.
    pub async fn new() -> anyhow::Result<Self> {
        let scheduler = JobScheduler::new().await.context("the scheduler can't start")?;
        Ok(Self { scheduler, set: Vec::new() })
    }

    /// Notifies `woken` whenever a setting says so: its name, and the cron expression (with seconds, UTC) that it holds.
    ///
    /// # Errors
    /// When that is not understood; which setting it is is said.
    pub async fn every(
        &mut self,
        (setting, cron): (&str, &str),
        woken: &Arc<Notify>,
    ) -> anyhow::Result<()> {
        let job = job(cron, woken).with_context(|| {
            format!(
                "{setting} is {cron:?}, which is no cron expression; write six fields, seconds first, such as \"*/5 * * * * *\""
            )
        })?;
        let job = self.scheduler.add(job).await.context("a timer can't be added")?;
        self.set.push(Timer { job, cron: cron.to_owned(), woken: Arc::clone(woken) });
        Ok(())
    }

    /// Starts them all.
    ///
    /// # Errors
    /// When the scheduler can't start.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.scheduler.start().await.context("the timers can't start")
    }

    /// Keeps them right until `stop`, and stops them all: the scheduler waits for a time that it has noted, which the clock
    /// may be hours before once somebody sets it back.
    pub async fn keep(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_AT_CLOCK)).await.is_some() {
            match self.look().await {
                Ok(0) => {}
                Ok(timers) => {
                    tracing::warn!(timers, "the clock went back, so timers are set anew");
                }
                Err(error) => {
                    tracing::error!(%error, "a timer can't be set anew; restart the service");
                }
            }
        }
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "the timers ended with an error");
        }
    }

    /// Sets those anew that wait for a later time than they would if they were set now: only where a clock went back do
    /// they, however short it was ahead. One that is due and was not yet seen to be stays. Returns how many that were.
    async fn look(&mut self) -> Result<usize, JobSchedulerError> {
        let mut anew = 0;
        for timer in &mut self.set {
            // Before it is known what is next: else a time that comes in between would look as if the clock went back.
            let Some(noted) = self.scheduler.next_tick_for_job(timer.job).await? else { continue };
            let mut job = job(&timer.cron, &timer.woken)?;
            if noted.timestamp() <= i64::try_from(job.job_data()?.next_tick).unwrap_or(i64::MAX) {
                continue;
            }
            let old = std::mem::replace(&mut timer.job, self.scheduler.add(job).await?);
            self.scheduler.remove(&old).await?;
            anew += 1;
        }
        Ok(anew)
    }
}

fn job(cron: &str, woken: &Arc<Notify>) -> Result<Job, JobSchedulerError> {
    let woken = Arc::clone(woken);
    Job::new(cron, move |_, _| woken.notify_one())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use chrono::{TimeDelta, Utc};

    use super::*;

    /// When a timer is due next, in seconds; none: there is no such timer.
    async fn next(timers: &mut Timers, job: Uuid) -> Option<i64> {
        let next = timers.scheduler.next_tick_for_job(job).await.unwrap();
        next.map(|next| next.timestamp())
    }

    #[tokio::test]
    async fn timers_are_set_anew_when_the_clock_goes_back_and_only_then() {
        let mut timers = Timers::new().await.unwrap();
        timers.every(("a.cron", "0 0 0 1 1 *"), &Arc::default()).await.unwrap();
        timers.every(("another.cron", "0 0 0 1 2 *"), &Arc::default()).await.unwrap();
        let [job, other] = [0, 1].map(|place| timers.set[place].job);
        let right = next(&mut timers, job).await;
        assert_eq!(timers.look().await.unwrap(), 0);
        // A moment ago is due, and the scheduler has not seen it yet.
        for (days, anew) in [(0, 0), (800, 1)] {
            let noted = Utc::now() + TimeDelta::days(days);
            let storage = timers.scheduler.context().metadata_storage.clone();
            let mut storage = storage.write().await;
            storage.set_next_and_last_tick(job, Some(noted), Some(noted)).await.unwrap();
            drop(storage);
            assert_eq!(timers.look().await.unwrap(), anew, "noted {days} days ahead");
        }
        assert_eq!(timers.set[1].job, other);
        let anew = timers.set[0].job;
        assert_eq!(next(&mut timers, anew).await, right);
        assert_eq!(next(&mut timers, job).await, None, "the old one is gone");
        assert_eq!(timers.look().await.unwrap(), 0);
    }
}
