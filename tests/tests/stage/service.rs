//! One service: how it is started, stopped and killed, and its database as a test sees it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use common::app::Application;
use common::config::Settings;
use common::db::{DatabaseSettings, Db};
use common::env::Env;
use stockloop_tests::process::{Child, Launch, built_binary};
use tokio_util::sync::CancellationToken;

/// Shutting down may take the configured 5 s twice (requests, then work), and a little.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(15);
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Where a service listens now: a restart takes another port.
#[derive(Clone, Default)]
pub(crate) struct Base(Arc<RwLock<String>>);

impl Base {
    pub(crate) fn get(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, base: String) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = base;
    }
}

enum Running {
    Here(Box<Application>),
    Child(Child),
}

/// A service and its database.
pub(crate) struct Service {
    kind: common::app::Service,
    config: PathBuf,
    url: String,
    pub(crate) base: Base,
    pub(crate) http: reqwest::Client,
    running: Option<Running>,
    looks: OnceLock<Db>,
}

impl Service {
    pub(super) fn new(kind: common::app::Service, config: PathBuf, url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
        Self {
            kind,
            config,
            url: url.to_owned(),
            base: Base::default(),
            http: http.expect("an HTTP client can be made"),
            running: None,
            looks: OnceLock::new(),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    /// Another one of the same settings, which is not started yet.
    pub(super) fn twin(&self) -> Self {
        Self::new(self.kind, self.config.clone(), &self.url)
    }

    pub(super) async fn start_here(&mut self) {
        let settings = Settings::load(self.kind.defaults, Some(&self.config))
            .expect("the test's settings are right");
        let application = Application::start(self.kind, settings, Env::system())
            .await
            .expect("the service starts");
        self.base.set(format!("http://{}", application.address()));
        self.running = Some(Running::Here(Box::new(application)));
    }

    /// Starts it as a child process.
    pub(crate) fn start(&mut self) {
        let program = built_binary(self.kind.name).expect("the services are built");
        let launch = Launch::new(program).arg("serve").arg("--config").arg(&self.config);
        let mut child = launch.spawn().expect("a child can be started");
        let line = child.wait_for_line(" listens on http://", START_DEADLINE).expect("it listens");
        let (_, base) = line.split_once(" listens on ").expect("just found");
        self.base.set(base.trim().to_owned());
        self.running = Some(Running::Child(child));
    }

    /// Where the first admin is made, with its one-time token.
    pub(crate) fn setup_url(&self) -> &str {
        match &self.running {
            Some(Running::Here(application)) => {
                application.setup_url().expect("nobody is made yet")
            }
            _ => panic!("{} does not run here", self.kind.name),
        }
    }

    /// The child process.
    pub(crate) fn child(&mut self) -> &mut Child {
        match &mut self.running {
            Some(Running::Child(child)) => child,
            _ => panic!("{} is no running child", self.kind.name),
        }
    }

    pub(crate) fn kill9(&mut self) {
        self.child().kill9();
        self.running = None;
    }

    /// Stops it in good order: a child by SIGTERM, whose exit code has to be 0.
    pub(crate) async fn stop(&mut self) {
        match self.running.take() {
            None => {}
            Some(Running::Here(application)) => {
                let now = CancellationToken::new();
                now.cancel();
                application.run_until(now).await.expect("it stops");
            }
            Some(Running::Child(mut child)) => {
                let status = child.terminate(STOP_DEADLINE).expect("it ends in time");
                assert!(status.success(), "it ended with {status}\n{}", child.log_tail());
            }
        }
    }

    /// The service's database, for looking into.
    pub(crate) fn database(&self) -> Db {
        self.looks.get_or_init(|| open(&self.url)).clone()
    }
}

fn open(url: &str) -> Db {
    let settings = DatabaseSettings {
        url: url.to_owned().into(),
        pool_size: 2,
        connect_timeout: Duration::from_secs(5),
    };
    Db::open(&settings).expect("the service's database can be opened")
}
