//! A server in product-service's place, that answers as a test tells it to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError};
use common::clock::{ManualClock, Timestamp};
use common::config::PeerSettings;
use common::env::Env;
use common::http::Problem;
use common::inventory::Sku;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::details::{DetailsClient, DetailsError, DetailsLookup};

/// How the peer answers.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// As it should.
    Normal,
    /// As it should, after a while.
    Delayed(Duration),
    /// It has no such product.
    Unknown,
    /// Nothing but this status.
    Status(u16),
    /// This body, with status 200.
    Body(Vec<u8>),
    /// The start of an answer, and then nothing more.
    StopsMidway,
    /// An answer without an end and without a length.
    Endless,
    /// Somewhere else.
    Redirects,
}

/// What the peer was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

struct State {
    behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Call>>,
}

pub(crate) struct StubPeer {
    state: Arc<State>,
    address: SocketAddr,
    handle: ServerHandle,
}

impl StubPeer {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        Self::listen(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), behaviour)
    }

    pub(crate) fn listen(listener: TcpListener, behaviour: Behaviour) -> Self {
        let state = Arc::new(State { behaviour: Mutex::new(behaviour), calls: Mutex::default() });
        let address = listener.local_addr().unwrap();
        let shared = Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/api/v1/inventory/{sku:[^/]*}/details", web::get().to(answer))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { state, address, handle }
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
    }

    pub(crate) fn settings(&self) -> PeerSettings {
        PeerSettings { url: format!("http://{}", self.address), ..unreachable_peer() }
    }

    /// What asks this peer for details.
    pub(crate) fn details(&self) -> DetailsClient {
        details(&self.settings())
    }
}

async fn answer(request: HttpRequest, state: Data<State>, sku: Sku) -> HttpResponse {
    let authorization = request.headers().get("authorization");
    state.calls.lock().unwrap().push(Call {
        path: request.uri().to_string(),
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
    });
    let behaviour = state.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Normal => HttpResponse::Ok().json(sample(sku.as_str())),
        Behaviour::Delayed(pause) => {
            tokio::time::sleep(pause).await;
            HttpResponse::Ok().json(sample(sku.as_str()))
        }
        Behaviour::Unknown => Problem::not_found("no such product").at("sku").error_response(),
        Behaviour::Status(status) => HttpResponse::build(status.try_into().unwrap()).finish(),
        Behaviour::Body(body) => HttpResponse::Ok().content_type("application/json").body(body),
        Behaviour::StopsMidway => {
            let start = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"{\"sku\":"))]);
            HttpResponse::Ok().streaming(start.chain(stream::pending()))
        }
        Behaviour::Endless => {
            let chunk = Bytes::from(vec![b' '; 4096]);
            HttpResponse::Ok()
                .streaming(stream::repeat_with(move || Ok::<_, actix_web::Error>(chunk.clone())))
        }
        Behaviour::Redirects => {
            HttpResponse::Found().insert_header(("location", "http://127.0.0.1:9/")).finish()
        }
    }
}

/// What product-service answers about `sku`, and a field from its future.
pub(crate) fn sample(sku: &str) -> Value {
    json!({"sku": sku, "version": 3, "long_description": "A heart.\nOf wood.", "supplier": "Söhne",
        "last_adjustments": [{"delta": -1, "quantity": 9, "version": 3, "reason": "sale",
            "reference": null, "at": "2010-12-01T08:26:00.000000Z"}],
        "weight_grams": 12})
}

/// Settings for a peer at a closed port.
pub(crate) fn unreachable_peer() -> PeerSettings {
    PeerSettings {
        url: "http://127.0.0.1:9".to_owned(),
        ca_file: String::new(),
        api_token: String::new().into(),
        timeout: Duration::from_secs(10),
        cache_ttl: Duration::from_secs(600),
        cache_bytes: 1 << 20,
        breaker_calls: 1000,
        breaker_pause: Duration::from_secs(600),
    }
}

pub(crate) fn details(settings: &PeerSettings) -> DetailsClient {
    let clock = ManualClock::at(Timestamp::from_micros(1_291_191_960_000_000));
    DetailsClient::new(settings, Env::seeded(Arc::new(clock), 1)).unwrap()
}

pub(crate) fn sku(text: &str) -> Sku {
    Sku::parse(text).unwrap()
}

impl DetailsLookup {
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, Self::Fresh(_))
    }

    pub(crate) fn is_cached(&self) -> bool {
        matches!(self, Self::Cached { .. })
    }

    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    #[track_caller]
    pub(crate) fn error(&self) -> &DetailsError {
        match self {
            Self::Unavailable(fault) => fault,
            other => panic!("{other:?} is no error"),
        }
    }

    pub(crate) fn is_breaker_open(&self) -> bool {
        matches!(self, Self::Unavailable(fault) if matches!(**fault, DetailsError::BreakerOpen))
    }
}
