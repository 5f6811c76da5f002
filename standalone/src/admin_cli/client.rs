//! The operators' API of one service.

use anyhow::Context;
use common::http::Problem;
use hyper::Method;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::CommandError;
use super::table::printable;
use super::target::Target;
use super::transport::{ServiceResponse, Transport};

/// Parameters behind the `?`.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Adds a parameter, if there is one.
    #[must_use]
    pub(super) fn and(mut self, name: &str, value: Option<impl ToString>) -> Self {
        self.0.extend(value.map(|value| (name.to_owned(), value.to_string())));
        self
    }
}

/// A page of a list, its items as the service wrote them.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) items: Vec<Box<RawValue>>,
    pub(super) next: Option<String>,
}

/// Sends requests to one service.
pub(super) struct Client {
    transport: Transport,
    base: Url,
    has_token: bool,
    token_variable: &'static str,
}

impl Client {
    pub(super) fn new(target: &Target) -> anyhow::Result<Self> {
        let (base, token) = (target.url()?, target.token()?);
        let transport = Transport::new(&base, token.as_ref(), target.url_variable())?;
        let token_variable = target.token_variable();
        Ok(Self { transport, base, has_token: token.is_some(), token_variable })
    }

    /// The body of a GET, as the service wrote it.
    pub(super) async fn get(&self, path: &[&str], query: &Query) -> anyhow::Result<String> {
        self.stream(path, query).await?.text().await
    }

    /// One page of a list.
    pub(super) async fn page(&self, path: &[&str], query: &Query) -> anyhow::Result<Page> {
        let text = self.get(path, query).await?;
        serde_json::from_str(&text).context("the service's response is no list")
    }

    /// The response to a GET, whose body is still to be read.
    pub(super) async fn stream(
        &self,
        path: &[&str],
        query: &Query,
    ) -> anyhow::Result<ServiceResponse> {
        self.request(Method::GET, &self.address(path, query)?, None).await
    }

    /// The body of the response to an action; empty where it has no result.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let address = self.address(path, &Query::default())?;
        self.request(method, &address, body).await?.text().await
    }

    async fn request(
        &self,
        method: Method,
        url: &Url,
        body: Option<&Value>,
    ) -> anyhow::Result<ServiceResponse> {
        let response = self.transport.send(method, url, body).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(response).await),
        }
    }

    fn address(&self, path: &[&str], query: &Query) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| CommandError::Usage(format!("{} is no address of a service", self.base)))?
            .pop_if_empty()
            .extend(["api", "admin", "v1"])
            .extend(path);
        if !query.0.is_empty() {
            url.query_pairs_mut().extend_pairs(&query.0);
        }
        Ok(url)
    }

    async fn refusal(&self, response: ServiceResponse) -> anyhow::Error {
        let status = response.status().as_u16();
        let text = match response.text().await {
            Ok(text) => text,
            Err(error) => return error,
        };
        let Ok(problem) = serde_json::from_str::<Problem>(&text) else {
            let text = printable(&text.chars().take(200).collect::<String>());
            return CommandError::NotStockloop { base: self.base.to_string(), status, text }.into();
        };
        let hint = self.hint(&problem);
        CommandError::Refused { problem: Box::new(problem), hint }.into()
    }

    /// What to do about a refusal, where its detail alone does not say so.
    fn hint(&self, problem: &Problem) -> Option<String> {
        let (base, variable) = (self.base.as_str().trim_end_matches('/'), self.token_variable);
        match problem.status {
            401 if self.has_token => Some(format!(
                "The token came from --token, --token-file or {variable}; {base}/admin/tokens shows its state."
            )),
            401 => Some(format!(
                "An admin creates a token for you at {base}/admin/tokens, or on the service's machine with \
                 `tokens add NAME --role operator`; pass it in {variable} or with --token-file."
            )),
            403 => Some(
                "`stockloop admin whoami` shows your role; an admin can create a token with more rights."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
