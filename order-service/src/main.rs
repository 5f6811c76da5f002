//! The program `order-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::cli::run(order_service::SERVICE)
}
