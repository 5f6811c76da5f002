//! `stockloop admin`: what operators see and do, from a terminal or a script, through the API of a service.

mod access;
mod alerts;
mod audit;
mod bulk_jobs;
mod client;
mod confirm;
mod consumers;
mod context;
mod dead_letters;
pub(crate) mod error;
mod event_actions;
mod events;
mod export;
pub(crate) mod filter;
mod listing;
mod lost_commands;
mod messages;
pub(crate) mod outcome;
mod overview;
pub(crate) mod proof;
mod quarantine;
mod relay;
pub(crate) mod table;
pub(crate) mod target;
pub(crate) mod transport;

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use context::CommandContext;
use error::CommandError;
use outcome::Outcome;
use target::Target;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON for programs: one line per item of a list, the API's own response for a single item.
    #[arg(long, global = true, help_heading = target::GLOBAL_HEADING)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Which service, and who asks:
  STOCKLOOP_ADMIN_URL, STOCKLOOP_ADMIN_TOKEN               as --url and --token
  STOCKLOOP_ADMIN_ORDER_URL, STOCKLOOP_ADMIN_ORDER_TOKEN   the same with --order
An admin creates a token on the page /admin/tokens, or on the service's machine with
`product-service tokens add NAME --role operator`.

At night:
  stockloop admin overview                            can the copy be trusted?
  stockloop admin errors                              what failed, by class of error
  stockloop admin events --status EXHAUSTED           the events that wait for a person
  stockloop admin event ID --peer                     one of them, as both services see it
  stockloop admin retry ID --reason 'the disk was full'
  stockloop admin retry --all-matching --key TEA      counts, asks, shows its progress
  stockloop admin --order quarantine release TEA

Exit codes:
  0  done
  1  failed or refused, or answered no, or a job was cancelled
  2  not understood, or a question without a terminal to answer it on
  3  a job has ended, and skipped some of its events";

#[derive(Subcommand)]
enum Command {
    /// Show the state of the loop at a glance.
    Overview(overview::OverviewArgs),
    /// List events, newest first.
    Events(events::EventsArgs),
    /// Show one event: its attempts, its payload, and with --peer what the other service knows of it.
    Event(events::EventArgs),
    /// Count the events that gave up, by class of error.
    Errors,
    /// Retry events that gave up: the named ones, or all that match.
    Retry(event_actions::RetryArgs),
    /// Resolve events that gave up, with a reason: the named ones, or all that match.
    Resolve(event_actions::ResolveArgs),
    /// List bulk jobs, newest first.
    Jobs(listing::ListLimit),
    /// Show, follow or cancel a bulk job.
    Job(bulk_jobs::JobArgs),
    /// List alerts, newest first.
    Alerts(alerts::AlertsArgs),
    /// Show, acknowledge or silence one alert.
    #[command(subcommand)]
    Alert(alerts::AlertCommand),
    /// List silences, add one or end one.
    #[command(args_conflicts_with_subcommands = true)]
    Silences(alerts::SilencesArgs),
    /// List mails to operators, or send a test mail.
    #[command(args_conflicts_with_subcommands = true)]
    Mails(messages::MailsArgs),
    /// List webhook calls, or send a test call.
    #[command(args_conflicts_with_subcommands = true)]
    Webhooks(messages::WebhooksArgs),
    /// List messages that could not be read, or act on one.
    #[command(args_conflicts_with_subcommands = true)]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// List commands whose effect was lost with their receiver's backup, and decide about them.
    #[command(args_conflicts_with_subcommands = true)]
    LostCommands(lost_commands::LostCommandsArgs),
    /// Stop sending: everything, or the events of one key.
    Pause(relay::PauseArgs),
    /// Resume sending: everything, or the events of one key.
    Resume(relay::ResumeArgs),
    /// Show which instances send, and what is paused.
    Relay,
    /// List who reads the events and who is waited for; add, change or retire one.
    #[command(args_conflicts_with_subcommands = true)]
    Consumers(consumers::ConsumersArgs),
    /// List keys whose events are refused, put one in or release one.
    #[command(args_conflicts_with_subcommands = true)]
    Quarantine(quarantine::QuarantineArgs),
    /// List who did what, newest first.
    Audit(audit::AuditArgs),
    /// List operators, add or change one.
    #[command(args_conflicts_with_subcommands = true)]
    Users(access::UsersArgs),
    /// List the tokens of scripts, add or revoke one.
    #[command(args_conflicts_with_subcommands = true)]
    Tokens(access::TokensArgs),
    /// Write a whole list as CSV or NDJSON.
    Export(export::ExportArgs),
    /// Show who you are to the service, and your role.
    Whoami,
}

/// Runs one command; errors are printed on standard error.
pub(crate) async fn run(args: AdminArgs) -> anyhow::Result<ExitCode> {
    let ended = match CommandContext::new(&args.target, args.json) {
        Ok(ctx) => execute(args.command, &ctx).await,
        Err(error) => Err(error),
    };
    exit_code(ended, args.json)
}

/// The exit code of a command that has ended; errors of its kind are printed on standard error.
pub(crate) fn exit_code(ended: anyhow::Result<Outcome>, json: bool) -> anyhow::Result<ExitCode> {
    match ended {
        Ok(outcome) => Ok(outcome.into()),
        // The reader of the output, such as `head`, has seen enough.
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<CommandError>() {
            Some(error) => Ok(error.print(json)),
            None => Err(error),
        },
    }
}

async fn execute(command: Command, ctx: &CommandContext) -> anyhow::Result<Outcome> {
    match command {
        Command::Overview(args) => overview::run(ctx, args).await,
        Command::Events(args) => events::list(ctx, args).await,
        Command::Event(args) => events::show(ctx, args).await,
        Command::Errors => events::errors(ctx).await,
        Command::Retry(args) => event_actions::retry(ctx, args).await,
        Command::Resolve(args) => event_actions::resolve(ctx, args).await,
        Command::Jobs(limit) => bulk_jobs::list(ctx, &limit).await,
        Command::Job(args) => bulk_jobs::run(ctx, args).await,
        Command::Alerts(args) => alerts::list(ctx, args).await,
        Command::Alert(command) => alerts::alert(ctx, command).await,
        Command::Silences(args) => alerts::silences(ctx, args).await,
        Command::Mails(args) => messages::mails(ctx, args).await,
        Command::Webhooks(args) => messages::webhooks(ctx, args).await,
        Command::DeadLetters(args) => dead_letters::run(ctx, args).await,
        Command::LostCommands(args) => lost_commands::run(ctx, args).await,
        Command::Pause(args) => relay::pause(ctx, args).await,
        Command::Resume(args) => relay::resume(ctx, args).await,
        Command::Relay => relay::show(ctx).await,
        Command::Consumers(args) => consumers::run(ctx, args).await,
        Command::Quarantine(args) => quarantine::run(ctx, args).await,
        Command::Audit(args) => audit::run(ctx, args).await,
        Command::Users(args) => access::users(ctx, args).await,
        Command::Tokens(args) => access::tokens(ctx, args).await,
        Command::Export(args) => export::run(ctx, args).await,
        Command::Whoami => access::whoami(ctx).await,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
