//! `users` and `tokens` of a service's own command line: on its database, for the first admin and after a
//! lockout. Everything else is done over the API.

use admin::access::operators::{self, Change, NewOperator, Operator};
use admin::access::tokens::{self, NewToken, Token};
use admin::access::{Caller, Hashed, Role};
use clap::{Args, Subcommand};
use common::db::{Db, DbError};
use common::env::Env;
use engine::audit::AuthMethod;
use secrecy::ExposeSecret;

use super::arguments::{AddToken, AddUser};
use super::password::new_password;

/// Rows that one statement reads.
const CHUNK: i64 = 1_000;

#[derive(Subcommand)]
pub(super) enum UsersCommand {
    /// Create an operator; asks for the password twice.
    Add(AddUser),
    /// List the operators.
    List,
    /// Change an operator's role or password, or whether they may sign in; ends their sessions if needed.
    Change(ChangeUser),
}

#[derive(Args)]
pub(super) struct ChangeUser {
    /// The operator to change.
    name: String,
    #[command(flatten)]
    to: NewState,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct NewState {
    /// New role: viewer, operator or admin.
    #[arg(long)]
    role: Option<Role>,
    /// New password, asked for twice.
    #[arg(long)]
    password: bool,
    /// New password, from the first line of standard input.
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// Forbid them to sign in.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Allow them to sign in again.
    #[arg(long)]
    enable: bool,
}

#[derive(Subcommand)]
pub(super) enum TokensCommand {
    /// Create a bearer token for a script; it is printed only once.
    Add(AddToken),
    /// List the tokens, without their secrets.
    List,
    /// Revoke a token for good.
    Revoke {
        /// Its number in the list.
        seq: i64,
    },
}

/// A service's database, and who works on it.
pub(super) struct OperatorCommands {
    db: Db,
    env: Env,
    by: Caller,
}

impl OperatorCommands {
    /// Whoever has the machine is an admin.
    pub(super) fn new(db: Db, env: Env) -> Self {
        Self { db, env, by: Caller::new(whoever_types(), Role::Admin, AuthMethod::Command) }
    }

    pub(super) async fn users(self, command: UsersCommand) -> anyhow::Result<()> {
        match command {
            UsersCommand::Add(user) => self.add_user(user).await,
            UsersCommand::List => self.list_users().await,
            UsersCommand::Change(change) => self.change_user(change).await,
        }
    }

    pub(super) async fn tokens(self, command: TokensCommand) -> anyhow::Result<()> {
        match command {
            TokensCommand::Add(token) => self.add_token(token).await,
            TokensCommand::List => self.list_tokens().await,
            TokensCommand::Revoke { seq } => self.revoke_token(seq).await,
        }
    }

    async fn add_user(self, user: AddUser) -> anyhow::Result<()> {
        let password = Hashed::of(&self.env, user.password()?.expose_secret())?;
        let AddUser { name, role, .. } = user;
        let Self { db, env, by } = self;
        let new = NewOperator { name, password, role };
        let made = db.write(move |conn| operators::add(conn, &env, &new, &by)).await?;
        // With the database: a wrong folder or address creates an admin whom nobody will find.
        println!("{} may sign in as {} ({})", made.name, made.role.name(), db.describe());
        Ok(())
    }

    async fn change_user(self, user: ChangeUser) -> anyhow::Result<()> {
        let ChangeUser { name, to } = user;
        let password = match to.password || to.password_stdin {
            true => Some(self.hashed(to.password_stdin)?),
            false => None,
        };
        let disabled = (to.disable || to.enable).then_some(to.disable);
        let change = Change { role: to.role, password, disabled };
        let Self { db, env, by } = self;
        let work = move |conn: &mut _| operators::change(conn, &env, &name, &change, &by);
        println!("{}", line_of(&db.write(work).await?));
        Ok(())
    }

    async fn list_users(self) -> anyhow::Result<()> {
        let mut after = String::new();
        loop {
            let from = after.clone();
            let work = move |conn: &mut _| Ok::<_, DbError>(operators::list(conn, &from, CHUNK)?);
            let some: Vec<Operator> = self.db.read(work).await?;
            some.iter().for_each(|user| println!("{}", line_of(user)));
            match some.last() {
                Some(last) => after.clone_from(&last.name),
                None => return Ok(()),
            }
        }
    }

    async fn add_token(self, token: AddToken) -> anyhow::Result<()> {
        let Self { db, env, by } = self;
        let expires_at = token.expires_at(env.now());
        let AddToken { name, role, areas, .. } = token;
        let new = NewToken { name, role, areas, expires_at };
        let (token, secret) = db.write(move |conn| tokens::add(conn, &env, &new, &by)).await?;
        eprintln!("Token {} ({}), shown only once:", token.seq, role.name());
        // Alone on standard output, so that it can be redirected into a file.
        println!("{secret}");
        Ok(())
    }

    async fn list_tokens(self) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let work = move |conn: &mut _| Ok::<_, DbError>(tokens::list(conn, after, CHUNK)?);
            let some: Vec<Token> = self.db.read(work).await?;
            some.iter().for_each(|token| println!("{}", line_of_token(token)));
            match some.last() {
                Some(last) => after = last.seq.parse().ok(),
                None => return Ok(()),
            }
        }
    }

    async fn revoke_token(self, seq: i64) -> anyhow::Result<()> {
        let Self { db, env, by } = self;
        let now = env.now();
        let token = db.write(move |conn| tokens::revoke(conn, now, seq, &by)).await?;
        println!("{}", line_of_token(&token));
        Ok(())
    }

    fn hashed(&self, from_stdin: bool) -> anyhow::Result<Hashed> {
        let password = new_password(from_stdin)?;
        Ok(Hashed::of(&self.env, password.expose_secret())?)
    }
}

fn line_of(user: &Operator) -> String {
    let Operator { name, role, created_at, created_by, disabled_at } = user;
    let since = disabled_at.map(|at| format!("  may not sign in since {at}")).unwrap_or_default();
    format!("{name}  {}  created {created_at} by {created_by}{since}", role.name())
}

fn line_of_token(token: &Token) -> String {
    let Token { seq, name, role, created_at, created_by, .. } = token;
    let ends = token.expires_at.map(|at| format!("  until {at}")).unwrap_or_default();
    let revoked = token.revoked_at.map(|at| format!("  revoked {at}")).unwrap_or_default();
    format!("{seq}  {name:?}  {}  created {created_at} by {created_by}{ends}{revoked}", role.name())
}

/// The machine's user, for the audit log; behind sudo, who asked for it.
fn whoever_types() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "command line".to_owned())
}
