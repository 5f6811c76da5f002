//! The program `search-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::cli::run(search_service::SERVICE)
}
