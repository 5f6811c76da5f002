//! `users`, `tokens` and `whoami`: who may do what.

use admin::access::Role;
use clap::{Args, Subcommand};
use hyper::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use service::cli::arguments::{AddToken, AddUser};
use service::cli::new_password;

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::Column;

const USERS: &[Column] = &[
    Column::text("NAME", "name"),
    Column::text("ROLE", "role"),
    Column::time("CREATED (UTC)", "created_at"),
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

const CALLER: &[Column] = &[
    Column::text("name", "name"),
    Column::text("role", "role"),
    Column::text("authenticated by", "via"),
    Column::list("limited to", "areas"),
];

#[derive(Args)]
pub(super) struct UsersArgs {
    #[command(flatten)]
    limit: ListLimit,
    #[command(subcommand)]
    command: Option<UsersCommand>,
}

#[derive(Subcommand)]
enum UsersCommand {
    /// List operators by name.
    List(ListLimit),
    /// Add an operator; the password is asked for twice.
    Add(AddUser),
    /// Change an operator's role or password.
    Change(ChangeUser),
    /// Disable an operator; ends their sessions.
    Disable {
        /// The operator's name.
        name: String,
    },
    /// Let an operator sign in again.
    Enable {
        /// The operator's name.
        name: String,
    },
}

#[derive(Args)]
struct ChangeUser {
    /// The operator's name.
    name: String,
    #[command(flatten)]
    changes: UserChanges,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct UserChanges {
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
    limit: ListLimit,
    #[command(subcommand)]
    command: Option<TokensCommand>,
}

#[derive(Subcommand)]
enum TokensCommand {
    /// List tokens, newest first.
    List(ListLimit),
    /// Add a token; its secret is printed only this once.
    Add(AddToken),
    /// Revoke a token for good.
    Revoke {
        /// The token's number.
        seq: u64,
    },
}

pub(super) async fn whoami(ctx: &CommandContext) -> anyhow::Result<Outcome> {
    let raw = ctx.client.get(&["session"], &Query::default()).await?;
    ctx.print_response(&raw, |caller| ctx.print_fields(CALLER, caller))?;
    Ok(Outcome::Done)
}

pub(super) async fn users(ctx: &CommandContext, args: UsersArgs) -> anyhow::Result<Outcome> {
    match args.command {
        None => list_users(ctx, &args.limit).await,
        Some(UsersCommand::List(limit)) => list_users(ctx, &limit).await,
        Some(UsersCommand::Add(user)) => add_user(ctx, &user).await,
        Some(UsersCommand::Change(ChangeUser { name, changes })) => {
            change_user(ctx, &name, &changes.body()?).await
        }
        Some(UsersCommand::Disable { name }) => {
            change_user(ctx, &name, &json!({ "disabled": true })).await
        }
        Some(UsersCommand::Enable { name }) => {
            change_user(ctx, &name, &json!({ "disabled": false })).await
        }
    }
}

async fn list_users(ctx: &CommandContext, limit: &ListLimit) -> anyhow::Result<Outcome> {
    let (query, when_empty) = (Query::default(), "There is no operator yet.");
    List { path: &["users"], query, columns: USERS, when_empty }.show(ctx, limit).await
}

async fn add_user(ctx: &CommandContext, user: &AddUser) -> anyhow::Result<Outcome> {
    let password = user.password()?;
    let body =
        json!({ "name": user.name, "role": user.role, "password": password.expose_secret() });
    let raw = ctx.client.send(Method::POST, &["users"], Some(&body)).await?;
    ctx.print_response(&raw, |user| ctx.print_row(USERS, user))?;
    Ok(Outcome::Done)
}

async fn change_user(ctx: &CommandContext, name: &str, body: &Value) -> anyhow::Result<Outcome> {
    let raw = ctx.client.send(Method::PATCH, &["users", name], Some(body)).await?;
    ctx.print_response(&raw, |user| ctx.print_row(USERS, user))?;
    Ok(Outcome::Done)
}

impl UserChanges {
    /// The body of the request; asks for the password, or reads it, if there is to be another.
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = json!({});
        if let Some(role) = self.role {
            body["role"] = json!(role);
        }
        if self.password || self.password_stdin {
            body["password"] = json!(new_password(self.password_stdin)?.expose_secret());
        }
        Ok(body)
    }
}

pub(super) async fn tokens(ctx: &CommandContext, args: TokensArgs) -> anyhow::Result<Outcome> {
    match args.command {
        None => list_tokens(ctx, &args.limit).await,
        Some(TokensCommand::List(limit)) => list_tokens(ctx, &limit).await,
        Some(TokensCommand::Add(token)) => add_token(ctx, &token).await,
        Some(TokensCommand::Revoke { seq }) => {
            let path = ["tokens", &seq.to_string()];
            let raw = ctx.client.send(Method::DELETE, &path, None).await?;
            ctx.print_response(&raw, |token| ctx.print_row(TOKENS, token))?;
            Ok(Outcome::Done)
        }
    }
}

async fn list_tokens(ctx: &CommandContext, limit: &ListLimit) -> anyhow::Result<Outcome> {
    let (query, when_empty) = (Query::default(), "There is no token yet.");
    List { path: &["tokens"], query, columns: TOKENS, when_empty }.show(ctx, limit).await
}

async fn add_token(ctx: &CommandContext, token: &AddToken) -> anyhow::Result<Outcome> {
    let mut body = json!({ "name": token.name, "role": token.role, "areas": token.areas });
    if let Some(expires_at) = token.expires_at(ctx.now()) {
        body["expires_at"] = json!(expires_at);
    }
    let raw = ctx.client.send(Method::POST, &["tokens"], Some(&body)).await?;
    ctx.print_response(&raw, |token| {
        let seq = token["seq"].as_str().unwrap_or_default();
        ctx.remark(&format!("Token {seq}, shown only once:"));
        // Alone on standard output, so that it can go straight into a file.
        ctx.print_line(token["secret"].as_str().unwrap_or_default())
    })?;
    Ok(Outcome::Done)
}
