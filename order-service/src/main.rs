//! The program `order-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::cli::run(order_service::SERVICE)
}
