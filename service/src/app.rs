//! A service as a program: its engine, its HTTP server, and the order in which they start and stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use admin::access::{Guard, setup};
use admin::api::{self, Admin};
use admin::pages;
use anyhow::{Context, ensure};
use common::config::Settings;
use common::db::{DbError, MigrationSet};
use common::env::Env;
use common::http::{Access, BodyLimit, StaticToken, unknown_route};
use common::telemetry::{self, Health};
use engine::lost;
use engine::peer::{self, InboxViews};
use engine::restored::{self, Restorations};
use engine::{Engine, HookContext, Hooks, RunningLoops, verify};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{openapi, server};

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
    /// Where it takes part in the loop; made from what its own parts need.
    pub hooks: fn(&HookContext) -> Hooks,
    /// Its own routes in the documentation of the API.
    pub openapi: fn() -> utoipa::openapi::OpenApi,
    /// Makes what its routes work with, once, and with that its routes under `/api/v1`.
    pub routes: fn(&Engine) -> anyhow::Result<Routes>,
}

/// A service's routes; every worker of the server mounts them, on what all workers share.
pub type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A service that listens and works.
pub struct Application {
    engine: Engine,
    address: SocketAddr,
    setup_url: Option<String>,
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    loops: RunningLoops,
}

impl Application {
    /// Opens the database, binds the address (port 0 takes a free one) and starts everything.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do.
    pub async fn start(service: Service, settings: Settings, env: Env) -> anyhow::Result<Self> {
        let bound = Bound::to(&settings)?;
        Self::start_on(bound, service, settings, env).await
    }

    /// Opens the database and starts everything on an address that is bound already.
    ///
    /// # Errors
    /// As [`Application::start`].
    pub async fn start_on(
        bound: Bound,
        service: Service,
        settings: Settings,
        env: Env,
    ) -> anyhow::Result<Self> {
        let Bound { listener, address } = bound;
        let public_url = match settings.http.public_url.as_str() {
            "" => format!("http://{address}"),
            url => url.trim_end_matches('/').to_owned(),
        };
        let (engine, loops) =
            Engine::open(settings, env, service.migrations, &public_url, service.hooks).await?;
        let offered = open_up(&engine, address).await?;
        let loops = loops.start().await?;
        let guard =
            Guard::new(engine.db.clone(), engine.env.clone(), &engine.settings, &public_url);
        let server = server::serve(&engine, mount(service, &engine, guard)?, listener)?;
        let handle = server.handle();
        tracing::info!(parent: engine.log_span(), %address, "listening");
        let setup_url = offered.map(|token| format!("{public_url}/admin/setup?token={token}"));
        Ok(Self { engine, address, setup_url, server: tokio::spawn(server), handle, loops })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the first admin is created, while there is no operator: it holds a one-time token.
    pub fn setup_url(&self) -> Option<&str> {
        self.setup_url.as_deref()
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
        self.loops.stop(within).await;
        match ended {
            Some(Ok(result)) => result.context("the HTTP server failed"),
            Some(Err(error)) => Err(error).context("the HTTP server stopped unexpectedly"),
            None => Ok(()),
        }
    }
}

/// An address that is a service's own before it starts, so that others can be given it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds `http.bind`; port 0 takes a free one. Within a tokio runtime.
    ///
    /// # Errors
    /// When that can't be.
    pub fn to(settings: &Settings) -> anyhow::Result<Self> {
        let bind = &settings.http.bind;
        let listener = server::listen(bind).with_context(|| {
            format!(
                "can't listen on {bind}; is the address right, and is the port free? (http.bind)"
            )
        })?;
        let address = listener.local_addr().context("the bound address is unknown")?;
        Ok(Self { listener, address })
    }

    /// Where that is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Refuses to listen where others could reach what nobody guards; offers the one-time token of the first admin.
async fn open_up(engine: &Engine, address: SocketAddr) -> anyhow::Result<Option<String>> {
    let settings = &engine.settings;
    let local = address.ip().is_loopback();
    if settings.access.open {
        ensure!(
            local,
            "refusing to listen on {address}: others could reach it and access.open lets everybody in; bind to 127.0.0.1, or set STOCKLOOP__ACCESS__OPEN=false"
        );
        return Ok(None);
    }
    let env = engine.env.clone();
    let offered = engine.db.write::<_, DbError>(move |conn| Ok(setup::offer(conn, &env)?)).await?;
    let guarded = offered.is_none() || StaticToken::new(&settings.http.admin_token).is_set();
    ensure!(
        local || guarded,
        "refusing to listen on {address}: others could reach it, and there is neither an operator nor an admin token; create an operator with `{} users add NAME --role admin`, set STOCKLOOP__HTTP__ADMIN_TOKEN, or bind to 127.0.0.1",
        settings.service.name
    );
    if !local && engine.view.is_some() && !StaticToken::new(&settings.http.api_token).is_set() {
        tracing::warn!(
            parent: engine.log_span(),
            %address,
            "others could read what customers bought without a token; set http.api_token"
        );
    }
    Ok(offered)
}

/// All that a service answers to; for `App::configure`.
///
/// # Errors
/// When the service's own routes can't be made.
pub fn mount(
    service: Service,
    engine: &Engine,
    guard: Guard,
) -> anyhow::Result<impl Fn(&mut ServiceConfig) + Clone + Send + use<>> {
    let settings = Arc::clone(&engine.settings);
    let routes = (service.routes)(engine)?;
    let document = openapi::document(service.name, service.about, (service.openapi)());
    let documentation =
        openapi::configure(&document).context("the documentation of the API can't be written")?;
    let views = InboxViews {
        service: settings.service.name.clone(),
        db: engine.db.clone(),
        handler: engine.handler.clone(),
    };
    let replicas = engine.replicas();
    let restorations =
        Restorations { service: settings.service.name.clone(), restorer: engine.restorer.clone() };
    let losses = engine.losses();
    let metrics = engine.metrics.clone();
    let api_access = Access::new(&settings.http.api_token, "api");
    let patience = engine.settings.database.connect_timeout;
    let health = Health::new(
        // Of its own: a service that is busy is not one that is ill.
        engine.db.with_own_pool(1, patience),
        service.migrations,
        engine.broker.clone(),
        engine.loops.clone(),
    );
    let admin = Admin::new(engine, guard);
    let limit = BodyLimit::new(settings.http.max_body_bytes, settings.http.client_timeout);
    Ok(move |app: &mut ServiceConfig| {
        let access = api_access;
        let api = web::scope("/api/v1")
            .configure(|config| routes(config))
            .configure(peer::configure(views.clone()))
            .configure(verify::configure(replicas.clone()))
            .configure(restored::configure(restorations.clone()))
            .configure(lost::configure(losses.clone()))
            .default_service(web::to(unknown_route))
            .wrap(from_fn(move |request, next| access.guard(request, next)));
        app.app_data(web::Data::new(limit.clone()))
            .configure(telemetry::configure(health.clone(), metrics.clone()))
            .configure(api::configure(admin.clone()))
            .configure(pages::configure(admin.clone()))
            .configure(&documentation)
            .service(api);
    })
}
