//! `users`, `tokens` and `whoami`: who may what.

use std::time::Duration;

use ::admin::access::{Area, Role};
use clap::{Args, Subcommand};
use hyper::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service::cli::new_password;

use super::Ending;
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
use super::table::Column;

const USERS: &[Column] = &[
    Column::text("NAME", "name"),
    Column::text("ROLE", "role"),
    Column::time("MADE (UTC)", "created_at"),
    Column::text("BY", "created_by"),
    Column::time("DISABLED (UTC)", "disabled_at"),
];

const TOKENS: &[Column] = &[
    Column::number("TOKEN", "seq"),
    Column::text("ROLE", "role"),
    Column::list("AREAS", "areas"),
    Column::time("USED (UTC)", "used_at"),
    Column::time("EXPIRES (UTC)", "expires_at"),
    Column::time("REVOKED (UTC)", "revoked_at"),
    Column::text("BY", "created_by"),
    Column::text("NAME", "name"),
];

const WHO: &[Column] = &[
    Column::text("name", "name"),
    Column::text("role", "role"),
    Column::text("known by", "via"),
    Column::list("kept to", "areas"),
];

#[derive(Args)]
pub(super) struct UsersArgs {
    #[command(flatten)]
    window: Window,
    #[command(subcommand)]
    command: Option<UsersCommand>,
}

#[derive(Subcommand)]
enum UsersCommand {
    /// List them by name.
    List(Window),
    /// Make an operator; the password is asked for twice.
    Add {
        /// 1 to 64 letters, digits, dots, dashes, underscores or @.
        name: String,
        /// viewer (looks), operator (acts on events) or admin (decides who may).
        #[arg(long)]
        role: Role,
        /// Take the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change an operator's role or password.
    Change(ChangeUser),
    /// Let an operator sign in no more; ends their sessions.
    Disable {
        /// Whom.
        name: String,
    },
    /// Let an operator sign in again.
    Enable {
        /// Whom.
        name: String,
    },
}

#[derive(Args)]
struct ChangeUser {
    /// Whom.
    name: String,
    #[command(flatten)]
    to: NewState,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct NewState {
    /// Another role: viewer, operator or admin.
    #[arg(long)]
    role: Option<Role>,
    /// Another password, asked for twice; ends their sessions.
    #[arg(long)]
    password: bool,
    /// Another password, from the first line of standard input.
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
}

#[derive(Args)]
pub(super) struct TokensArgs {
    #[command(flatten)]
    window: Window,
    #[command(subcommand)]
    command: Option<TokensCommand>,
}

#[derive(Subcommand)]
enum TokensCommand {
    /// List them, newest first.
    List(Window),
    /// Make a token; it is printed this once.
    Add {
        /// What it is for.
        name: String,
        /// The most that it may: viewer, operator or admin.
        #[arg(long)]
        role: Role,
        /// Keep it to these parts, separated by commas: overview, events, alerts, dead_letters, quarantine, relay,
        /// access, audit.
        #[arg(long, value_delimiter = ',', value_name = "AREA")]
        areas: Vec<Area>,
        /// It ends by itself after so long, such as 90days.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
    },
    /// End a token for good.
    Revoke {
        /// Its number.
        seq: u64,
    },
}

pub(super) async fn whoami(at: &Session) -> anyhow::Result<Ending> {
    let raw = at.client.get(&["session"], &Query::default()).await?;
    at.answer(&raw, |who| at.say_parts(WHO, who))?;
    Ok(Ending::Done)
}

pub(super) async fn users(at: &Session, args: UsersArgs) -> anyhow::Result<Ending> {
    match args.command {
        None => list_users(at, &args.window).await,
        Some(UsersCommand::List(window)) => list_users(at, &window).await,
        Some(UsersCommand::Add { name, role, password_stdin }) => {
            let password = new_password(password_stdin)?;
            let body = json!({ "name": name, "role": role, "password": password.expose_secret() });
            show_user(at, &at.client.send(Method::POST, &["users"], Some(&body)).await?)
        }
        Some(UsersCommand::Change(ChangeUser { name, to })) => {
            let wanted = to.password || to.password_stdin;
            let password = wanted.then(|| new_password(to.password_stdin)).transpose()?;
            change(at, &name, to.role, password.as_ref()).await
        }
        Some(UsersCommand::Disable { name }) => let_in(at, &name, false).await,
        Some(UsersCommand::Enable { name }) => let_in(at, &name, true).await,
    }
}

async fn list_users(at: &Session, window: &Window) -> anyhow::Result<Ending> {
    let (query, none) = (Query::default(), "There is no operator yet.");
    List { path: &["users"], query, columns: USERS, none }.show(at, window).await
}

async fn change(
    at: &Session,
    name: &str,
    role: Option<Role>,
    password: Option<&SecretString>,
) -> anyhow::Result<Ending> {
    let mut body = json!({});
    if let Some(role) = role {
        body["role"] = json!(role);
    }
    if let Some(password) = password {
        body["password"] = json!(password.expose_secret());
    }
    show_user(at, &at.client.send(Method::PATCH, &["users", name], Some(&body)).await?)
}

async fn let_in(at: &Session, name: &str, may: bool) -> anyhow::Result<Ending> {
    let body = json!({ "disabled": !may });
    show_user(at, &at.client.send(Method::PATCH, &["users", name], Some(&body)).await?)
}

fn show_user(at: &Session, raw: &str) -> anyhow::Result<Ending> {
    at.answer(raw, |user| at.say_table(USERS, std::slice::from_ref(user), true))?;
    Ok(Ending::Done)
}

pub(super) async fn tokens(at: &Session, args: TokensArgs) -> anyhow::Result<Ending> {
    let window = match args.command {
        None => args.window,
        Some(TokensCommand::List(window)) => window,
        Some(TokensCommand::Add { name, role, areas, expires_in }) => {
            let expires_at = expires_in.map(|lifetime| at.now().after(lifetime));
            let mut body = json!({ "name": name, "role": role, "areas": areas });
            if let Some(expires_at) = expires_at {
                body["expires_at"] = json!(expires_at);
            }
            return add_token(at, &body).await;
        }
        Some(TokensCommand::Revoke { seq }) => {
            let raw = at.client.send(Method::DELETE, &["tokens", &seq.to_string()], None).await?;
            at.answer(&raw, |token| at.say_table(TOKENS, std::slice::from_ref(token), true))?;
            return Ok(Ending::Done);
        }
    };
    let (query, none) = (Query::default(), "There is no token yet.");
    List { path: &["tokens"], query, columns: TOKENS, none }.show(at, &window).await
}

/// The secret alone on standard output, so that it can go straight into a file.
async fn add_token(at: &Session, body: &Value) -> anyhow::Result<Ending> {
    let raw = at.client.send(Method::POST, &["tokens"], Some(body)).await?;
    at.answer(&raw, |token| {
        let seq = token["seq"].as_str().unwrap_or_default();
        at.remark(&format!("Token {seq}, shown this once:"));
        at.say(token["secret"].as_str().unwrap_or_default())
    })?;
    Ok(Ending::Done)
}
