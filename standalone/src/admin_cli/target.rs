//! Which service is asked, and with which token.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use reqwest::Url;
use secrecy::SecretString;

use super::error::CommandError;

const PRODUCT: ServiceDefaults = ServiceDefaults {
    url: "http://127.0.0.1:8081",
    url_variable: "STOCKLOOP_ADMIN_URL",
    token_variable: "STOCKLOOP_ADMIN_TOKEN",
};
const ORDER: ServiceDefaults = ServiceDefaults {
    url: "http://127.0.0.1:8082",
    url_variable: "STOCKLOOP_ADMIN_ORDER_URL",
    token_variable: "STOCKLOOP_ADMIN_ORDER_TOKEN",
};

/// The heading in `--help` of the options that all commands have.
pub(super) const GLOBAL_HEADING: &str = "For all commands";

/// A service's default address, and the variables that override it.
struct ServiceDefaults {
    url: &'static str,
    url_variable: &'static str,
    token_variable: &'static str,
}

/// Which service, and who asks.
// The variables are read here and not by clap: which ones count depends on --order, and none is to be shown.
#[derive(Args)]
pub(super) struct Target {
    /// The service's address; by default STOCKLOOP_ADMIN_URL, or http://127.0.0.1:8081.
    #[arg(long, global = true, help_heading = GLOBAL_HEADING, value_name = "URL")]
    url: Option<String>,
    /// Ask order-service, at STOCKLOOP_ADMIN_ORDER_URL or http://127.0.0.1:8082.
    #[arg(long, global = true, help_heading = GLOBAL_HEADING)]
    order: bool,
    /// A bearer token; by default STOCKLOOP_ADMIN_TOKEN, which other users of the machine can't read.
    #[arg(long, global = true, help_heading = GLOBAL_HEADING, value_name = "TOKEN")]
    token: Option<String>,
    /// Read the token from this file.
    #[arg(long, global = true, help_heading = GLOBAL_HEADING, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

impl Target {
    /// The service's address.
    pub(super) fn url(&self) -> anyhow::Result<Url> {
        let defaults = self.defaults();
        let text = self.url.clone().or_else(|| variable(defaults.url_variable));
        checked_url(text.as_deref(), defaults.url)
    }

    /// The token, if there is one.
    pub(super) fn token(&self) -> anyhow::Result<Option<SecretString>> {
        let (token, file) = (self.token.as_deref(), self.token_file.as_deref());
        chosen_token(token, file, self.defaults().token_variable)
    }

    /// The variable that may hold the token, for messages.
    pub(super) fn token_variable(&self) -> &'static str {
        self.defaults().token_variable
    }

    /// The variable that may hold the address, for messages.
    pub(super) fn url_variable(&self) -> &'static str {
        self.defaults().url_variable
    }

    /// Whether --order names order-service, which has a copy and owns no states.
    pub(super) fn is_order(&self) -> bool {
        self.order && self.url.is_none()
    }

    fn defaults(&self) -> &'static ServiceDefaults {
        if self.order { &ORDER } else { &PRODUCT }
    }
}

/// The address that `text` is, or the one that there is `by_default`.
pub(crate) fn checked_url(text: Option<&str>, by_default: &str) -> anyhow::Result<Url> {
    // Without the text itself: it may hold a password.
    let wrong = |why: &str| {
        CommandError::Usage(format!(
            "the service's address is wrong: {why}; write for example {by_default}"
        ))
    };
    let url = Url::parse(text.unwrap_or(by_default)).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it must begin with http:// or https:// and a host").into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it must not contain a password; pass a token with --token-file").into());
    }
    Ok(url)
}

/// The token that was given, or that `file` holds, or the variable `otherwise`.
pub(crate) fn chosen_token(
    token: Option<&str>,
    file: Option<&Path>,
    otherwise: &str,
) -> anyhow::Result<Option<SecretString>> {
    let text = match (token, file) {
        (Some(token), _) => Some(token.to_owned()),
        (None, Some(file)) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("the token can't be read from {}", file.display()))?,
        ),
        (None, None) => variable(otherwise),
    };
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(text.map(SecretString::from))
}

/// What the environment says, unless it is nothing.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
