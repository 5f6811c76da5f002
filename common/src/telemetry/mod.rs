//! What a service tells of itself: its log, its health, its metrics.

mod broker;
mod collector_client;
mod consumers;
mod health;
mod logging;
mod loops;
mod metrics;
mod otlp;
mod plain_text;
mod requests;
mod spans;
mod traced;

use actix_web::web::{self, ServiceConfig};

pub use broker::{BrokerReport, BrokerState, TopicReport};
pub use consumers::{ConsumerReport, ConsumerState, ConsumerStatus, Heals, Standing, Trouble};
pub use health::Health;
pub use health::{__path_live, __path_ready};
pub use logging::{LogError, few_for_the_log, init_logging, log_settings};
pub use loops::{LoopState, LoopStates};
pub use metrics::__path_show as __path_metrics;
pub use metrics::{ForeignMessage, IgnoredAck, Metrics, SignatureOutcome, SignedMessage};
pub use otlp::Collector;
pub use requests::measure;
pub use spans::{Delivery, Span, Spans, Step};
pub use traced::{route_name, traced};

use crate::http::wrong_method;

/// Mounts `/health/live`, `/health/ready` and `/metrics`, which ask for no token; for `App::configure`.
pub fn configure(health: Health, metrics: Metrics) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        let resource = |path| web::resource(path).default_service(wrong_method("GET"));
        app.app_data(web::Data::new(health))
            .app_data(web::Data::new(metrics))
            .service(resource("/health/live").get(health::live))
            .service(resource("/health/ready").get(health::ready))
            .service(resource("/metrics").get(metrics::show));
    }
}
