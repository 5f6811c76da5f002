//! A service as a program: its engine, its HTTP server, and the order in which they start and stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::config::Settings;
use crate::db::MigrationSet;
use crate::engine::{Engine, EngineRun, Roles};
use crate::env::Env;
use crate::http::{Access, BodyLimit, check_exposure, unknown_route};
use crate::telemetry::{self, Health};

/// What makes a service the one that it is.
#[derive(Clone, Copy)]
pub struct Service {
    /// Its name, such as `product-service`.
    pub name: &'static str,
    /// What it does, in a sentence, for `--help`.
    pub about: &'static str,
    /// Every option with its default, as TOML.
    pub defaults: &'static str,
    /// The engine's schema and its own.
    pub migrations: &'static [MigrationSet],
    /// Which halves of the engine it uses.
    pub roles: fn(&Engine) -> Roles,
    /// Makes what its routes work with, once, and with that its routes under `/api/v1`.
    pub routes: fn(&Engine) -> anyhow::Result<Routes>,
}

/// A service's routes; every worker of the server mounts them, on what all workers share.
pub type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A service that listens and works.
pub struct Application {
    engine: Engine,
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    work: EngineRun,
}

impl Application {
    /// Opens the database, binds the address (port 0 takes a free one) and starts everything.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do.
    pub async fn start(service: Service, settings: Settings, env: Env) -> anyhow::Result<Self> {
        let admin = Access::new(&settings.http.admin_token, "admin");
        let (listener, address) = bind(&settings, &admin)?;
        let public_url = match settings.http.public_url.as_str() {
            "" => format!("http://{address}"),
            url => url.trim_end_matches('/').to_owned(),
        };
        let mut engine = Engine::open(settings, env, service.migrations, &public_url).await?;
        let roles = (service.roles)(&engine);
        let work = engine.start(roles).await?;
        let server = serve(service, &engine, admin, listener)?;
        let handle = server.handle();
        tracing::info!(%address, service = service.name, "listening");
        Ok(Self { engine, address, server: tokio::spawn(server), handle, work })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs until `stop`, then stops in order: no new requests, requests finished, work finished.
    ///
    /// # Errors
    /// When the HTTP server failed.
    pub async fn run_until(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut self.server => Some(ended),
        };
        let within = self.engine.settings.http.shutdown_timeout;
        self.engine.stopping.cancel();
        self.handle.stop(true).await;
        self.work.stop(within).await;
        match ended {
            Some(Ok(result)) => result.context("the HTTP server failed"),
            Some(Err(error)) => Err(error).context("the HTTP server broke off"),
            None => Ok(()),
        }
    }
}

fn bind(settings: &Settings, admin: &Access) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let bind = &settings.http.bind;
    let listener = TcpListener::bind(bind).with_context(|| {
        format!("can't listen on {bind}; is the address right, and is the port free? (http.bind)")
    })?;
    listener.set_nonblocking(true).context("can't listen without blocking")?;
    let address = listener.local_addr().context("the bound address is unknown")?;
    check_exposure(&[address], admin).map_err(anyhow::Error::msg)?;
    Ok((listener, address))
}

fn serve(
    service: Service,
    engine: &Engine,
    admin_access: Access,
    listener: TcpListener,
) -> anyhow::Result<actix_web::dev::Server> {
    let settings = Arc::clone(&engine.settings);
    let routes = (service.routes)(engine)?;
    let engine = engine.clone();
    let api_access = Access::new(&settings.http.api_token, "api");
    let health = Health::new(engine.db.clone(), service.migrations, engine.broker.clone());
    let admin = Admin::new(
        engine.db.clone(),
        engine.env.clone(),
        engine.outbox.clone(),
        engine.sampler.clone(),
        admin_access,
        settings.outbox.max_attempts,
    );
    let limit = settings.http.max_body_bytes;
    let factory = move || {
        let access = api_access.clone();
        let api = web::scope("/api/v1")
            .configure(|config| routes(config))
            .default_service(web::to(unknown_route))
            .wrap(from_fn(move |request, next| access.clone().guard(request, next)));
        App::new()
            .app_data(web::Data::new(BodyLimit(limit)))
            .configure(telemetry::configure(health.clone(), engine.metrics.clone()))
            .configure(admin::configure(admin.clone()))
            .service(api)
            .default_service(web::to(unknown_route))
    };
    let server = HttpServer::new(factory)
        .workers(2)
        .disable_signals()
        .shutdown_timeout(settings.http.shutdown_timeout.as_secs())
        .listen(listener)
        .context("the HTTP server can't start")?;
    Ok(server.run())
}
