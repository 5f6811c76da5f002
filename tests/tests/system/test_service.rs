//! One service: how it is started, stopped and killed, and its database as a test sees it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use common::config::Settings;
use common::db::Db;
use common::env::Env;
use service::app::{Application, Service};
use stockloop_tests::database;
use stockloop_tests::process::{Child, Launch, built_binary};
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, http_client};

/// Where a service listens now: a restart takes another port.
#[derive(Clone, Default)]
pub(crate) struct BaseUrl(Arc<RwLock<String>>);

impl BaseUrl {
    pub(crate) fn get(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, url: String) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = url;
    }
}

enum Instance {
    InProcess(Box<Application>),
    Child(Child),
}

/// A service and its database.
pub(crate) struct TestService {
    service: Service,
    config: PathBuf,
    pub(super) database_url: String,
    pub(crate) base_url: BaseUrl,
    pub(crate) http: reqwest::Client,
    /// How often a request is sent whose connection ends without an answer.
    pub(crate) tries: u32,
    /// What children are told beside the file.
    pub(super) environment: Vec<(&'static str, &'static str)>,
    instance: Option<Instance>,
    pub(super) database: OnceLock<Db>,
}

impl TestService {
    pub(super) fn new(service: Service, config: PathBuf, database_url: &str) -> Self {
        Self {
            service,
            config,
            database_url: database_url.to_owned(),
            base_url: BaseUrl::default(),
            // A stop waits a second for a connection that is open, so none is kept.
            http: http_client(0),
            tries: 1,
            environment: Vec::new(),
            instance: None,
            database: OnceLock::new(),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.service.name
    }

    /// Another one of the same settings, which is not started yet.
    pub(super) fn same_settings(&self) -> Self {
        let environment = self.environment.clone();
        let other = Self::new(self.service, self.config.clone(), &self.database_url);
        Self { environment, ..other }
    }

    /// Adds to its settings; they hold from its next start on.
    pub(super) fn also(&self, toml: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.config).expect("there is a file");
        file.write_all(toml.as_bytes()).expect("it can be written to");
    }

    /// Starts it anew as a child process, with these settings from now on.
    pub(crate) async fn restart_with(&mut self, environment: &[(&'static str, &'static str)]) {
        self.stop().await;
        self.environment = environment.to_vec();
        self.start();
    }

    /// Starts it anew as it ran before, with these settings in its file from now on.
    pub(crate) async fn restart_also(&mut self, toml: &str) {
        let was_child = matches!(self.instance, Some(Instance::Child(_)));
        self.stop().await;
        self.also(toml);
        match was_child {
            true => self.start(),
            false => self.start_in_process().await,
        }
    }

    pub(super) async fn start_in_process(&mut self) {
        let settings = Settings::load(self.service.defaults, Some(&self.config))
            .expect("the test's settings are right");
        let application = Application::start(self.service, settings, Env::system())
            .await
            .expect("the service starts");
        self.base_url.set(format!("http://{}", application.address()));
        self.instance = Some(Instance::InProcess(Box::new(application)));
    }

    /// Starts it as a child process, which listens then.
    pub(crate) fn start(&mut self) {
        self.launch();
        self.wait_until_it_listens();
    }

    pub(crate) fn launch(&mut self) {
        let program = built_binary(self.service.name).expect("the services are built");
        let launch = Launch::new(program).arg("serve").arg("--config").arg(&self.config);
        let tell = |launch: Launch, (name, value): &(&str, &str)| launch.env(name, value);
        let launch = self.environment.iter().fold(launch, tell);
        self.instance = Some(Instance::Child(launch.spawn().expect("a child can be started")));
    }

    pub(crate) fn wait_until_it_listens(&mut self) {
        let url = wait_until_listening(self.child());
        self.base_url.set(url);
    }

    /// Where the first admin is made, with its one-time token.
    pub(crate) fn setup_url(&self) -> &str {
        match &self.instance {
            Some(Instance::InProcess(application)) => {
                application.setup_url().expect("nobody is made yet")
            }
            _ => panic!("{} does not run here", self.service.name),
        }
    }

    /// The child process.
    pub(crate) fn child(&mut self) -> &mut Child {
        match &mut self.instance {
            Some(Instance::Child(child)) => child,
            _ => panic!("{} is no running child", self.service.name),
        }
    }

    pub(crate) fn kill9(&mut self) {
        self.child().kill9();
        self.instance = None;
    }

    /// Stops it in good order: a child by SIGTERM, whose exit code has to be 0.
    pub(crate) async fn stop(&mut self) {
        match self.instance.take() {
            None => {}
            Some(Instance::InProcess(application)) => {
                let now = CancellationToken::new();
                now.cancel();
                application.run_until(now).await.expect("it stops");
            }
            Some(Instance::Child(mut child)) => {
                let end = move || (child.terminate(DEADLINE), child.log_tail());
                let (status, log) = tokio::task::spawn_blocking(end).await.expect("it is awaited");
                let status = status.expect("it ends in time");
                assert!(status.success(), "it ended with {status}\n{log}");
            }
        }
    }

    /// Where its database is.
    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The service's database, for looking into.
    pub(crate) fn database(&self) -> Db {
        self.database.get_or_init(|| database::open(&self.database_url)).clone()
    }
}

/// Waits until a service that was started listens, and returns its base URL.
pub(crate) fn wait_until_listening(service: &mut Child) -> String {
    let line = service.wait_for_line(" listens on http://", DEADLINE).expect("it listens");
    let (_, url) = line.split_once(" listens on ").expect("just found");
    url.trim().to_owned()
}
