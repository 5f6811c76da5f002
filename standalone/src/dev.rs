//! `stockloop dev`: everything in one process, to try things by hand.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use service::cli::stop_signal;

use crate::stack::{Ports, Stack, StackArgs, shorten_delays};

/// Where the SQLite files go unless told otherwise.
const DATA_DIR: &str = "stockloop-data";

#[derive(Debug, Args)]
#[command(after_help = "\
Try, in another terminal:
  curl -X PUT http://127.0.0.1:8081/api/v1/inventory/TEA -H 'content-type: application/json' \\
       -d '{\"description\":\"Tea\",\"quantity\":12,\"unit_price_minor\":255}'
  curl http://127.0.0.1:8082/api/v1/inventory/TEA
  stockloop admin overview

Everybody on this machine is an admin of these services, without signing in.")]
pub(crate) struct DevArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// product-service's port.
    #[arg(long, default_value_t = 8081)]
    product_port: u16,
    /// order-service's port.
    #[arg(long, default_value_t = 8082)]
    order_port: u16,
    /// search-service's port, with --search.
    #[arg(long, default_value_t = 8084)]
    search_port: u16,
    /// The port of the page that shows caught mails.
    #[arg(long, default_value_t = 8083)]
    mail_port: u16,
}

/// Runs until Ctrl-C.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let data_dir = args.stack.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR));
    std::fs::create_dir_all(&data_dir).with_context(|| {
        format!(
            "the data folder {} can't be made; choose another with --data-dir",
            data_dir.display()
        )
    })?;
    let ports = Ports {
        product: args.product_port,
        order: args.order_port,
        search: args.search_port,
        mail_page: args.mail_port,
    };
    let stack = Stack::start(&args.stack, &data_dir, ports, "", shorten_delays).await?;
    stack.print_addresses();
    println!("data             {}", data_dir.display());
    println!("Ctrl-C stops.");
    stop.cancelled().await;
    stack.stop().await
}
