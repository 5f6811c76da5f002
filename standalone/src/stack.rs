//! The services in one process, with an embedded broker, SQLite and a mail catcher where no real ones are given.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::{App, HttpServer};
use anyhow::Context;
use clap::Args;
use common::config::{ConsumerSettings, MailTransport, Settings, ViewSettings};
use common::env::Env;
use engine::kafka::EmbeddedBroker;
use secrecy::SecretString;
use service::app::{Application, Bound, Service};
use tokio_util::sync::CancellationToken;

use crate::catcher::Catcher;

/// What the stack uses instead of its embedded parts.
#[derive(Debug, Clone, Args)]
pub(crate) struct StackArgs {
    /// Keep the SQLite files here; left out, `dev` takes stockloop-data and `demo` a temporary folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// product-service's database, such as postgres://user:password@host/products.
    #[arg(long, value_name = "URL")]
    pub(crate) product_database_url: Option<String>,
    /// order-service's database, such as postgres://user:password@host/orders.
    #[arg(long, value_name = "URL")]
    pub(crate) order_database_url: Option<String>,
    /// A real Apache Kafka instead of the embedded broker.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) brokers: Option<String>,
    /// Also run search-service, which reads the same events: each is PROCESSED once both have answered it.
    #[arg(long)]
    pub(crate) search: bool,
    /// search-service's database, such as postgres://user:password@host/search.
    #[arg(long, value_name = "URL", requires = "search")]
    pub(crate) search_database_url: Option<String>,
}

/// Ports on loopback; 0 takes a free one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) product: u16,
    pub(crate) order: u16,
    pub(crate) search: u16,
    pub(crate) mail_page: u16,
}

/// Everything, running.
pub(crate) struct Stack {
    pub(crate) product: Application,
    pub(crate) order: Application,
    /// A third service, if it was asked for.
    pub(crate) search: Option<Application>,
    pub(crate) catcher: Catcher,
    /// Where the caught mails can be read.
    pub(crate) mail_page: SocketAddr,
    /// Kept alive as long as the services: it is the broker.
    _broker: Option<EmbeddedBroker>,
    mail_server: actix_web::dev::ServerHandle,
}

impl Stack {
    /// Starts all parts; `tune` may change each service's settings, and `topic_suffix` keeps apart what shares a
    /// broker.
    pub(crate) async fn start(
        args: &StackArgs,
        data_dir: &Path,
        ports: Ports,
        topic_suffix: &str,
        tune: impl Fn(&mut Settings),
    ) -> anyhow::Result<Self> {
        let catcher = Catcher::start(loopback(0))?;
        let (mail_page, mail_server) = serve_mail_page(&catcher, ports.mail_page)?;
        let broker = match &args.brokers {
            Some(_) => None,
            None => Some(EmbeddedBroker::start()?),
        };
        let brokers = match (&args.brokers, &broker) {
            (Some(brokers), _) => brokers.clone(),
            (None, Some(broker)) => broker.brokers(),
            (None, None) => String::new(),
        };
        if let Some(broker) = &broker {
            create_topics(broker, topic_suffix)?;
        }
        let settings_of = |service: Service, url: &Option<String>, file: &str, port: u16| {
            let mut settings = Settings::load(service.defaults, None)?;
            // The environment is the same for all of them, and only one takes these.
            if service.name != order_service::SERVICE.name {
                settings.views = ViewSettings::default();
            }
            let embedded = || format!("sqlite:{}", data_dir.join(file).display());
            settings.database.url = url.clone().unwrap_or_else(embedded).into();
            settings.http.bind = loopback(port).to_string();
            settings.access.open = true;
            settings.kafka.brokers.clone_from(&brokers);
            if broker.is_some() {
                // Whatever somebody has set wins.
                let set = mem::take(&mut settings.kafka.properties);
                settings.kafka.properties = EmbeddedBroker::properties();
                settings.kafka.properties.extend(set);
            }
            add_topic_suffix(&mut settings, topic_suffix);
            settings.kafka.create_topics = broker.is_none();
            settings.mail.transport = MailTransport::Smtp;
            settings.mail.port = catcher.smtp_addr().port();
            settings.alerts.recipients = vec!["operator@shop.example".to_owned()];
            tune(&mut settings);
            anyhow::Ok(settings)
        };
        let url = &args.product_database_url;
        let product = settings_of(product_service::SERVICE, url, "product.db", ports.product)?;
        let url = &args.order_database_url;
        let order = settings_of(order_service::SERVICE, url, "order.db", ports.order)?;
        let url = &args.search_database_url;
        let search = args
            .search
            .then(|| settings_of(search_service::SERVICE, url, "search.db", ports.search));
        let (product, order, search) = start_all(product, order, search.transpose()?).await?;
        Ok(Self { product, order, search, catcher, mail_page, _broker: broker, mail_server })
    }

    /// Prints the addresses: the operators' pages first, which lead to everything else.
    pub(crate) fn print_addresses(&self) {
        println!("product-service  http://{}/admin", self.product.address());
        println!("order-service    http://{}/admin", self.order.address());
        if let Some(search) = &self.search {
            println!("search-service   http://{}/admin", search.address());
        }
        println!("caught mails     http://{}/", self.mail_page);
    }

    /// Stops in the order of the data: the source, the copy, the mails, the broker.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let now = CancellationToken::new();
        now.cancel();
        self.product.run_until(now.clone()).await?;
        self.order.run_until(now.clone()).await?;
        if let Some(search) = self.search {
            search.run_until(now).await?;
        }
        self.mail_server.stop(false).await;
        self.catcher.stop().await;
        Ok(())
    }
}

/// The addresses are bound before any service starts, since each needs the others'.
async fn start_all(
    mut product: Settings,
    mut order: Settings,
    mut search: Option<Settings>,
) -> anyhow::Result<(Application, Application, Option<Application>)> {
    let bound = (Bound::to(&product)?, Bound::to(&order)?);
    let bound_search = search.as_ref().map(Bound::to).transpose()?;
    let url = |bound: &Bound| format!("http://{}", bound.address());
    product.peer.url = url(&bound.1);
    order.peer.url = url(&bound.0);
    if let (Some(search), Some(bound_search)) = (&mut search, &bound_search) {
        search.peer.url = url(&bound.0);
        let consumer = ConsumerSettings {
            required: true,
            url: url(bound_search),
            ca_file: String::new(),
            api_token: SecretString::default(),
        };
        product.consumers.insert(search.service.name.clone(), consumer);
    }
    let product = start(product_service::SERVICE, bound.0, product).await?;
    let order = start(order_service::SERVICE, bound.1, order).await?;
    let search = match (search, bound_search) {
        (Some(search), Some(bound)) => Some(start(search_service::SERVICE, bound, search).await?),
        _ => None,
    };
    Ok((product, order, search))
}

async fn start(service: Service, bound: Bound, settings: Settings) -> anyhow::Result<Application> {
    Application::start_on(bound, service, settings, Env::system())
        .await
        .with_context(|| format!("{} can't start", service.name))
}

/// Directly, since the embedded broker has no request for it and takes each topic only once. One service's outbound
/// topics are the other's inbound ones, and neither has to wait for the other's.
fn create_topics(broker: &EmbeddedBroker, suffix: &str) -> anyhow::Result<()> {
    let mut settings = Settings::load(product_service::SERVICE.defaults, None)?;
    add_topic_suffix(&mut settings, suffix);
    let kafka = &settings.kafka;
    for topic in [
        &kafka.outbound_topic,
        &kafka.outbound_ack_topic,
        &kafka.inbound_topic,
        &kafka.inbound_ack_topic,
    ] {
        broker.create_topic(topic, kafka.partitions)?;
    }
    Ok(())
}

fn add_topic_suffix(settings: &mut Settings, suffix: &str) {
    let kafka = &mut settings.kafka;
    for topic in [
        &mut kafka.outbound_topic,
        &mut kafka.outbound_ack_topic,
        &mut kafka.inbound_topic,
        &mut kafka.inbound_ack_topic,
    ] {
        topic.push_str(suffix);
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn serve_mail_page(
    catcher: &Catcher,
    port: u16,
) -> anyhow::Result<(SocketAddr, actix_web::dev::ServerHandle)> {
    let listener = TcpListener::bind(loopback(port)).with_context(|| {
        format!("the mail page can't listen on port {port}; choose another with --mail-port")
    })?;
    let address = listener.local_addr()?;
    let configure = catcher.configure();
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok((address, handle))
}

/// Makes faults visible within seconds instead of minutes; for trying out only.
pub(crate) fn shorten_delays(settings: &mut Settings) {
    settings.outbox.backoff_base = Duration::from_millis(100);
    settings.outbox.backoff_max = Duration::from_secs(2);
    settings.outbox.ack_timeout = Duration::from_secs(10);
    settings.outbox.ack_grace = Duration::from_secs(2);
    settings.outbox.probe_after = Duration::from_secs(2);
    settings.alerts.digest_delay = Duration::from_secs(1);
    settings.alerts.cron = "*/1 * * * * *".to_owned();
}
