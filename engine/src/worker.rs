//! Background work: each job is a pure step elsewhere; here are the thin loops and timers around them.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::env::Env;
use common::retry::Backoff;
use common::telemetry::LoopStates;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

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
        let scheduler = JobScheduler::new().await.context("the scheduler can't start")?;
        Ok(Self { scheduler })
    }

    /// Notifies `woken` whenever a setting says so: its name, and the cron expression (with seconds, UTC) that it holds.
    ///
    /// # Errors
    /// When that is not understood; which setting it is is said.
    pub async fn every(
        &self,
        (setting, cron): (&str, &str),
        woken: &Arc<Notify>,
    ) -> anyhow::Result<()> {
        let woken = Arc::clone(woken);
        let job = Job::new(cron, move |_, _| woken.notify_one()).with_context(|| {
            format!(
                "{setting} is {cron:?}, which is no cron expression; write six fields, seconds first, such as \"*/5 * * * * *\""
            )
        })?;
        self.scheduler.add(job).await.context("a timer can't be added")?;
        Ok(())
    }

    /// Starts them all.
    ///
    /// # Errors
    /// When the scheduler can't start.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.scheduler.start().await.context("the timers can't start")
    }

    /// Stops them all.
    pub async fn stop(&mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "the timers ended with an error");
        }
    }
}
