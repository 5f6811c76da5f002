//! `stockloop admin`: what operators see and do, from a terminal or a script, through the API that the page uses too.

mod access;
mod alerts;
mod ask;
mod audit;
mod bulk;
mod client;
mod dead_letters;
mod events;
mod export;
mod fault;
mod filter;
mod jobs;
mod listing;
mod messages;
mod overview;
mod quarantine;
mod relay;
mod session;
mod table;
mod target;
mod transport;

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use fault::Fault;
use session::Session;
use target::Target;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON for programs: one line for each item of a list, the API's own answer for one thing.
    #[arg(long, global = true, help_heading = target::GENERAL)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Which service, and who asks:
  STOCKLOOP_ADMIN_URL, STOCKLOOP_ADMIN_TOKEN               as --url and --token
  STOCKLOOP_ADMIN_ORDER_URL, STOCKLOOP_ADMIN_ORDER_TOKEN   the same with --order
An admin makes a token on the page at /admin/tokens, or on the service's machine with
`product-service tokens add NAME --role operator`.

At night:
  stockloop admin overview                            can the copy be trusted?
  stockloop admin errors                              what failed, by kind
  stockloop admin events --status EXHAUSTED           the events that wait for a person
  stockloop admin event ID --peer                     one of them, as both services see it
  stockloop admin retry ID --reason 'the disk was full'
  stockloop admin retry --all-matching --key TEA      counts, asks, shows its progress
  stockloop admin --order quarantine release TEA

Exit codes:
  0  done
  1  failed, refused, or not wanted after all
  2  not understood, or a question with nobody to answer it
  3  a job has ended, and skipped some of its events";

#[derive(Subcommand)]
enum Command {
    /// The state of the loop at a glance.
    Overview(overview::OverviewArgs),
    /// List events, newest first.
    Events(events::EventsArgs),
    /// Show one event: its attempts, its payload, and with --peer what the other service says about it.
    Event(events::EventArgs),
    /// Count what events gave up with, by kind of error.
    Errors,
    /// Send events again that gave up: some, or all that match.
    Retry(bulk::RetryArgs),
    /// Let events rest that gave up, with a reason: some, or all that match.
    Resolve(bulk::ResolveArgs),
    /// List the actions on many events, newest first.
    Jobs(listing::Window),
    /// Show an action on many events, follow it, or end it.
    Job(jobs::JobArgs),
    /// List alerts, newest first.
    Alerts(alerts::AlertsArgs),
    /// Show, acknowledge or silence one alert.
    #[command(subcommand)]
    Alert(alerts::AlertCommand),
    /// List silences, make one or end one.
    #[command(args_conflicts_with_subcommands = true)]
    Silences(alerts::SilencesArgs),
    /// List the mails to operators, or send one as a test.
    #[command(args_conflicts_with_subcommands = true)]
    Mails(messages::MailsArgs),
    /// List the calls to the webhook, or make one as a test.
    #[command(args_conflicts_with_subcommands = true)]
    Webhooks(messages::WebhooksArgs),
    /// List messages that could not be read, or act on one.
    #[command(args_conflicts_with_subcommands = true)]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Stop sending: everything, or the events of one key.
    Pause(relay::PauseArgs),
    /// Go on sending: everything, or the events of one key.
    Resume(relay::ResumeArgs),
    /// Show who sends, and what is paused.
    Relay,
    /// List keys whose events are refused, put one in or release one.
    #[command(args_conflicts_with_subcommands = true)]
    Quarantine(quarantine::QuarantineArgs),
    /// List who did what, newest first.
    Audit(audit::AuditArgs),
    /// List operators, or make or change one.
    #[command(args_conflicts_with_subcommands = true)]
    Users(access::UsersArgs),
    /// List the tokens of scripts, make one or end one.
    #[command(args_conflicts_with_subcommands = true)]
    Tokens(access::TokensArgs),
    /// Write a whole list as CSV or NDJSON.
    Export(export::ExportArgs),
    /// Show whom the service takes you for.
    Whoami,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    /// Nothing was done: the answer was no, or a job was ended before its time.
    NotDone,
    /// A job has ended, and skipped some.
    Partly,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::SUCCESS,
            Ending::NotDone => Self::FAILURE,
            Ending::Partly => Self::from(3),
        }
    }
}

/// Runs one command; what goes wrong is told on standard error.
pub(crate) async fn run(args: AdminArgs) -> anyhow::Result<ExitCode> {
    let ended = match Session::new(&args.target, args.json) {
        Ok(at) => execute(args.command, &at).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(ending) => Ok(ending.into()),
        // Who reads the output has seen enough.
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<Fault>() {
            Some(fault) => Ok(fault.tell(args.json)),
            None => Err(error),
        },
    }
}

async fn execute(command: Command, at: &Session) -> anyhow::Result<Ending> {
    match command {
        Command::Overview(args) => overview::run(at, args).await,
        Command::Events(args) => events::list(at, args).await,
        Command::Event(args) => events::show(at, args).await,
        Command::Errors => events::errors(at).await,
        Command::Retry(args) => bulk::retry(at, args).await,
        Command::Resolve(args) => bulk::resolve(at, args).await,
        Command::Jobs(window) => jobs::list(at, &window).await,
        Command::Job(args) => jobs::run(at, args).await,
        Command::Alerts(args) => alerts::list(at, args).await,
        Command::Alert(command) => alerts::alert(at, command).await,
        Command::Silences(args) => alerts::silences(at, args).await,
        Command::Mails(args) => messages::mails(at, args).await,
        Command::Webhooks(args) => messages::webhooks(at, args).await,
        Command::DeadLetters(args) => dead_letters::run(at, args).await,
        Command::Pause(args) => relay::pause(at, args).await,
        Command::Resume(args) => relay::resume(at, args).await,
        Command::Relay => relay::show(at).await,
        Command::Quarantine(args) => quarantine::run(at, args).await,
        Command::Audit(args) => audit::run(at, args).await,
        Command::Users(args) => access::users(at, args).await,
        Command::Tokens(args) => access::tokens(at, args).await,
        Command::Export(args) => export::run(at, args).await,
        Command::Whoami => access::whoami(at).await,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
