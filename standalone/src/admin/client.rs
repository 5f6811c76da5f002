//! The operators' API of one service.

use anyhow::Context;
use common::http::Problem;
use hyper::Method;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fault::Fault;
use super::table::printable;
use super::target::Target;
use super::transport::{Answer, Transport};

/// Parameters behind the `?`; what is left out is not asked for.
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

/// Asks one service.
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
        serde_json::from_str(&text).context("the service's answer is no list")
    }

    /// The answer to a GET, whose body is still to be read.
    pub(super) async fn stream(&self, path: &[&str], query: &Query) -> anyhow::Result<Answer> {
        self.ask(Method::GET, &self.address(path, query)?, None).await
    }

    /// The body of the answer to a deed; empty where there is nothing to say.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let address = self.address(path, &Query::default())?;
        self.ask(method, &address, body).await?.text().await
    }

    async fn ask(&self, method: Method, url: &Url, body: Option<&Value>) -> anyhow::Result<Answer> {
        let answer = self.transport.send(method, url, body).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.refusal(answer).await),
        }
    }

    fn address(&self, path: &[&str], query: &Query) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Fault::Usage(format!("{} is no address of a service", self.base)))?
            .pop_if_empty()
            .extend(["api", "admin", "v1"])
            .extend(path);
        if !query.0.is_empty() {
            url.query_pairs_mut().extend_pairs(&query.0);
        }
        Ok(url)
    }

    async fn refusal(&self, answer: Answer) -> anyhow::Error {
        let status = answer.status().as_u16();
        let said = match answer.text().await {
            Ok(said) => said,
            Err(error) => return error,
        };
        let Ok(problem) = serde_json::from_str::<Problem>(&said) else {
            let said = printable(&said.chars().take(200).collect::<String>());
            return Fault::Foreign { base: self.base.to_string(), status, said }.into();
        };
        let hint = self.hint(&problem);
        Fault::Refused { problem: Box::new(problem), hint }.into()
    }

    /// What to do about a refusal, where its detail alone does not say it.
    fn hint(&self, problem: &Problem) -> Option<String> {
        let (base, variable) = (self.base.as_str().trim_end_matches('/'), self.token_variable);
        match problem.status {
            401 if self.has_token => Some(format!(
                "The token came from --token, --token-file or {variable}; {base}/admin/tokens shows what became of it."
            )),
            401 => Some(format!(
                "An admin makes you a token at {base}/admin/tokens, or on the service's machine with \
                 `tokens add NAME --role operator`; hand it over in {variable} or with --token-file."
            )),
            403 => Some(
                "`stockloop admin whoami` shows what you may; an admin can make a token that may more."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
