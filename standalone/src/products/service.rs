//! product-service's inventory over HTTP, with the patience that a long run needs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use common::env::Env;
use common::http::Problem;
use common::retry::Backoff;
use hyper::Method;
use hyper::body::Bytes;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::product::Product;
use crate::admin_cli::error::CommandError;
use crate::admin_cli::table::printable;
use crate::admin_cli::target::{checked_url, chosen_token, variable};
use crate::admin_cli::transport::{ServiceResponse, Transport};

const DEFAULT_URL: &str = "http://127.0.0.1:8081";
const URL_VARIABLE: &str = "STOCKLOOP_API_URL";
const TOKEN_VARIABLE: &str = "STOCKLOOP_API_TOKEN";

/// The pauses between tries: about a minute in all.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(10) };
const TRIES: u32 = 12;
/// The longest that a service may ask to be left alone.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Products of one page of the list.
const PAGE: u32 = 1_000;

/// The heading in `--help` of the options that say which service.
const HEADING: &str = "Which service";

/// Which service, and who asks.
// The variables are read here and not by clap, so that none is shown.
#[derive(Debug, Args)]
pub(super) struct ServiceTarget {
    /// product-service's address; by default STOCKLOOP_API_URL, or http://127.0.0.1:8081.
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    url: Option<String>,
    /// Its http.api_token; by default STOCKLOOP_API_TOKEN, which other users of the machine can't read.
    #[arg(long, value_name = "TOKEN", help_heading = HEADING)]
    token: Option<String>,
    /// Read the token from this file.
    #[arg(long, value_name = "FILE", conflicts_with = "token", help_heading = HEADING)]
    token_file: Option<PathBuf>,
}

#[cfg(test)]
impl ServiceTarget {
    /// The service at this address, which asks for no token.
    pub(super) fn at(url: &str) -> Self {
        Self { url: Some(url.to_owned()), token: None, token_file: None }
    }
}

/// What a batch does with products that are there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    IfAbsent,
    Replace,
    AdjustTo { reason: String, reference: Option<String> },
}

/// How batches are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) mode: Mode,
    pub(super) dry_run: bool,
    /// Makes the keys of this run its own; empty where another run of the same file is to have the same keys.
    pub(super) salt: String,
}

/// What the service says of a batch.
#[derive(Debug)]
pub(super) enum BatchReply {
    /// What became of each line.
    Done(BatchResult),
    /// It is too large to be taken.
    TooLarge(Problem),
    /// It can't be taken with the line at this place.
    BadLine(usize, Problem),
}

/// What became of each line of a batch.
#[derive(Debug, Deserialize)]
pub(super) struct BatchResult {
    /// Whether it was done by an earlier request.
    #[serde(skip)]
    pub(super) replayed: bool,
    pub(super) lines: Vec<LineResult>,
}

/// What became of one line.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum LineResult {
    Accepted,
    Unchanged,
    Skipped,
    Refused { problem: Problem },
}

/// A page of the inventory.
#[derive(Debug, Deserialize)]
pub(super) struct ProductPage {
    pub(super) items: Vec<Product>,
    pub(super) next: Option<String>,
}

/// product-service.
pub(super) struct InventoryService {
    transport: Transport,
    address: Url,
    base: String,
    has_token: bool,
    env: Env,
    /// Whether it has ever answered: before that, an address where nobody listens is taken for a wrong one.
    answered: AtomicBool,
}

impl InventoryService {
    pub(super) fn new(target: &ServiceTarget) -> anyhow::Result<Self> {
        let text = target.url.clone().or_else(|| variable(URL_VARIABLE));
        let base = checked_url(text.as_deref(), DEFAULT_URL)?;
        let token =
            chosen_token(target.token.as_deref(), target.token_file.as_deref(), TOKEN_VARIABLE)?;
        let transport = Transport::new(&base, token.as_ref(), URL_VARIABLE)?;
        let mut address = base.clone();
        address
            .path_segments_mut()
            .map_err(|()| CommandError::Usage(format!("{base} is no address of a service")))?
            .pop_if_empty()
            .extend(["api", "v1", "inventory"]);
        Ok(Self {
            transport,
            address,
            base: base.as_str().trim_end_matches('/').to_owned(),
            has_token: token.is_some(),
            env: Env::system(),
            answered: AtomicBool::new(false),
        })
    }

    /// Sends a batch. The same products sent in the same way have the same Idempotency-Key, in every run.
    pub(super) async fn put(
        &self,
        sending: &Sending,
        products: &[&Product],
    ) -> anyhow::Result<BatchReply> {
        let body = body(sending, products);
        let key =
            hex::encode(Sha256::new().chain_update(&body).chain_update(&sending.salt).finalize());
        let key = (!sending.dry_run).then_some(key);
        let sent =
            self.patiently(Method::POST, &self.address, Some(body.into()), key.as_deref()).await?;
        let response = match sent {
            Ok(response) => response,
            Err(problem) => return self.batch_refusal(problem),
        };
        let replayed = response.header("idempotent-replayed").is_some();
        let result: BatchResult = serde_json::from_str(&response.text().await?)
            .context("the service's answer to a batch can't be read")?;
        if result.lines.len() != products.len() {
            return Err(anyhow!("the service's answer has another number of lines than the batch"));
        }
        Ok(BatchReply::Done(BatchResult { replayed, ..result }))
    }

    fn batch_refusal(&self, problem: Problem) -> anyhow::Result<BatchReply> {
        match (problem.status, problem.field.as_deref().and_then(place)) {
            (413, _) => Ok(BatchReply::TooLarge(problem)),
            (422, Some(place)) => Ok(BatchReply::BadLine(place, problem)),
            _ => Err(self.refused(problem)),
        }
    }

    /// The page of the inventory that begins after this SKU.
    pub(super) async fn page(&self, after: Option<&str>) -> anyhow::Result<ProductPage> {
        let mut url = self.address.clone();
        url.query_pairs_mut().append_pair("limit", &PAGE.to_string());
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let sent = self.patiently(Method::GET, &url, None, None).await?;
        let response = sent.map_err(|problem| self.refused(problem))?;
        serde_json::from_str(&response.text().await?).context("a page of the list can't be read")
    }

    /// The body of a GET below the inventory, as the service wrote it.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<String> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| CommandError::Usage(format!("{url} is no address", url = self.base)))?
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let sent = self.patiently(Method::GET, &url, None, None).await?;
        let response = sent.map_err(|problem| match problem.field {
            // It is this service, and says what it lacks.
            Some(_) => CommandError::Refused { problem: Box::new(problem), hint: None }.into(),
            None => self.refused(problem),
        })?;
        response.text().await
    }

    /// The response, or why the service refuses what was asked; asks again while it is away or busy.
    async fn patiently(
        &self,
        method: Method,
        url: &Url,
        body: Option<Bytes>,
        key: Option<&str>,
    ) -> anyhow::Result<Result<ServiceResponse, Problem>> {
        let mut attempt = 1;
        loop {
            let sent = self.transport.send_keyed(method.clone(), url, body.clone(), key).await;
            let (why, wait) = match self.judge(sent).await? {
                Judged::Ended(ended) => return Ok(ended),
                Judged::Again { why, wait } if attempt < TRIES => (why, wait),
                Judged::Again { why, .. } => {
                    return Err(anyhow!(
                        "{} was not available {TRIES} times in a row: {why}",
                        self.base
                    ));
                }
            };
            let pause = BACKOFF.delay(attempt, self.env.chance()).max(wait);
            tracing::warn!(attempt, ?pause, "the service is not available: {why}");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn judge(&self, sent: anyhow::Result<ServiceResponse>) -> anyhow::Result<Judged> {
        let response = match sent {
            Ok(response) => response,
            Err(error) => return self.judge_failure(error),
        };
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status();
        if status.is_success() {
            return Ok(Judged::Ended(Ok(response)));
        }
        let wait = asked_pause(&response);
        let again = |why: String| Ok(Judged::Again { why, wait });
        let text = match response.text().await {
            Ok(text) => text,
            Err(error) => return self.judge_failure(error),
        };
        let problem = serde_json::from_str::<Problem>(&text);
        let text = printable(&text.chars().take(200).collect::<String>());
        match (status.as_u16(), problem) {
            // 408: the network was slow, and nothing was done.
            (408 | 429 | 503, Ok(problem)) => again(printable(&problem.detail)),
            // 502 and 504 are what a proxy says of a service that is away.
            (status @ (429 | 502..=504), Err(_)) => again(format!("{status}: {text}")),
            // The same batch, sent before the connection was lost, is not done yet.
            (409, Ok(problem)) if problem.kind.ends_with(":idempotency-running") => {
                again(printable(&problem.detail))
            }
            (_, Ok(problem)) => Ok(Judged::Ended(Err(problem))),
            (status, Err(_)) => {
                Err(CommandError::NotStockloop { base: self.base.clone(), status, text }.into())
            }
        }
    }

    fn judge_failure(&self, error: anyhow::Error) -> anyhow::Result<Judged> {
        let again = |why: &str| Ok(Judged::Again { why: why.to_owned(), wait: Duration::ZERO });
        match error.downcast_ref::<CommandError>() {
            Some(CommandError::Unreachable { reason, .. })
                if self.answered.load(Ordering::Relaxed) =>
            {
                again(reason)
            }
            Some(CommandError::ConnectionLost { reason, .. }) => again(reason),
            _ => Err(error),
        }
    }

    fn refused(&self, problem: Problem) -> anyhow::Error {
        let hint = match problem.status {
            401 if self.has_token => Some(format!(
                "The token came from --token, --token-file or {TOKEN_VARIABLE}; it has to be the service's http.api_token."
            )),
            401 => Some(format!(
                "Pass the service's http.api_token in {TOKEN_VARIABLE} or with --token-file."
            )),
            404 | 405 => Some("Is this product-service, and of this version?".to_owned()),
            _ => None,
        };
        CommandError::Refused { problem: Box::new(problem), hint }.into()
    }
}

/// What is to be made of an answer, or of none.
enum Judged {
    Ended(Result<ServiceResponse, Problem>),
    Again {
        why: String,
        /// How long the service wants to be left alone.
        wait: Duration,
    },
}

/// What `Retry-After` says, within reason.
fn asked_pause(response: &ServiceResponse) -> Duration {
    let seconds = response.header("retry-after").and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).min(MAX_WAIT)
}

fn body(sending: &Sending, products: &[&Product]) -> String {
    let mut body = match &sending.mode {
        Mode::IfAbsent => json!({ "mode": "if_absent" }),
        Mode::Replace => json!({ "mode": "replace" }),
        Mode::AdjustTo { reason, reference } => {
            json!({ "mode": "adjust_to", "reason": reason, "reference": reference })
        }
    };
    if sending.dry_run {
        body["dry_run"] = Value::Bool(true);
    }
    body["lines"] = json!(products);
    body.to_string()
}

/// The place in `lines[3].sku`.
fn place(field: &str) -> Option<usize> {
    field.strip_prefix("lines[")?.split(']').next()?.parse().ok()
}
