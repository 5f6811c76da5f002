//! `stockloop verify`, `repair`, `resync`, `replay`, `bootstrap` and `restored`: whether the copy has what its source has,
//! and what mends it.

mod bootstrap;
mod follow;
mod repair;
mod replay;
mod restored;
mod resync;
mod verify;

use std::process::ExitCode;

use clap::Args;

use super::context::CommandContext;
use super::error::CommandError;
use super::is_closed_pipe;
use super::outcome::Outcome;
use super::target::{GLOBAL_HEADING, Target};

pub(crate) use bootstrap::BootstrapArgs;
pub(crate) use repair::RepairArgs;
pub(crate) use replay::ReplayArgs;
pub(crate) use restored::RestoredArgs;
pub(crate) use resync::ResyncArgs;
pub(crate) use verify::VerifyArgs;

/// The exit code of an answer that could not be had.
const UNKNOWN: u8 = 4;

/// The exit code of what failed or was refused.
const FAILED: u8 = 1;

/// Which service is asked, and who reads what is printed.
#[derive(Args)]
struct Connection {
    #[command(flatten)]
    target: Target,
    /// Print JSON for programs, and nothing else: one line per difference, or the job.
    #[arg(long, help_heading = GLOBAL_HEADING)]
    json: bool,
}

/// Runs `verify`; errors are printed on standard error.
pub(crate) async fn verify(args: VerifyArgs) -> ExitCode {
    run_at_owner(&args.connection, UNKNOWN, async |ctx| verify::run(ctx, &args).await).await
}

/// Runs `repair`; errors are printed on standard error.
pub(crate) async fn repair(args: RepairArgs) -> ExitCode {
    run_at_owner(&args.connection, UNKNOWN, async |ctx| repair::run(ctx, &args).await).await
}

/// Runs `resync`; errors are printed on standard error.
pub(crate) async fn resync(args: ResyncArgs) -> ExitCode {
    run_at_owner(&args.connection, FAILED, async |ctx| resync::run(ctx, &args).await).await
}

/// Runs `replay`; errors are printed on standard error.
pub(crate) async fn replay(args: ReplayArgs) -> ExitCode {
    run_at_owner(&args.connection, FAILED, async |ctx| replay::run(ctx, &args).await).await
}

/// Runs `restored`; errors are printed on standard error.
pub(crate) async fn restored(args: RestoredArgs) -> ExitCode {
    run(&args.connection, UNKNOWN, async |ctx| restored::run(ctx, &args).await).await
}

/// Runs `bootstrap`; errors are printed on standard error.
pub(crate) async fn bootstrap(args: BootstrapArgs) -> ExitCode {
    run_at_owner(&args.connection, FAILED, async |ctx| bootstrap::run(ctx, &args).await).await
}

/// Runs what only the owner of the states can do.
async fn run_at_owner(
    connection: &Connection,
    failed: u8,
    command: impl AsyncFnOnce(&CommandContext) -> anyhow::Result<Outcome>,
) -> ExitCode {
    if connection.target.is_order() {
        let wrong = CommandError::Usage(
            "this is asked of the owner of the states, product-service, and order-service has a copy of them; leave --order out"
                .to_owned(),
        );
        return wrong.print(connection.json);
    }
    run(connection, failed, command).await
}

async fn run(
    connection: &Connection,
    failed: u8,
    command: impl AsyncFnOnce(&CommandContext) -> anyhow::Result<Outcome>,
) -> ExitCode {
    let ended = match CommandContext::new(&connection.target, connection.json) {
        Ok(ctx) => command(&ctx).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(outcome) => outcome.into(),
        Err(error) => failure(&error, connection.json, failed),
    }
}

/// Prints why a command failed; what was asked wrongly keeps its own exit code.
fn failure(error: &anyhow::Error, json: bool, failed: u8) -> ExitCode {
    match error.downcast_ref::<CommandError>() {
        Some(error @ CommandError::Usage(_)) => return error.print(json),
        Some(error) => drop(error.print(json)),
        // Who reads the output, such as `head`, has seen enough of it; it is not the whole answer.
        None if is_closed_pipe(error) => {}
        None => eprintln!("stockloop: {error:#}"),
    }
    ExitCode::from(failed)
}
