//! The program `product-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::cli::run(product_service::SERVICE)
}
