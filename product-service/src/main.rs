//! The program `product-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::cli::run(product_service::SERVICE)
}
