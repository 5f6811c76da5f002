//! Query strings, taken apart by name, so that every refusal names its field.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};

use super::{Problem, ProblemResult, checked_limit};

/// The parameters of a query string; an empty value is the same as none.
///
/// A handler takes what it knows and calls [`Params::finish`], which refuses the rest.
#[derive(Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl FromRequest for Params {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::parse(request.query_string()))
    }
}

impl Params {
    /// Reads a query string, `a=1&b=2`.
    ///
    /// # Errors
    /// 400 for what is none, 422 for a name that is given twice.
    pub fn parse(query: &str) -> ProblemResult<Self> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| Problem::malformed(format!("the query can't be read: {error}")))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs.into_inner() {
            if params.contains_key(&name) {
                return Err(Problem::invalid(name, "it is given twice; give it once"));
            }
            // No stored text has it, and not every database can be asked for it.
            if value.contains('\0') {
                return Err(Problem::invalid(name, "it holds U+0000; leave that out"));
            }
            params.insert(name, value);
        }
        Ok(Self(params))
    }

    /// The text of `name`, if it is given.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    /// The value of `name`, if it is given; `wanted` says what it has to be.
    ///
    /// # Errors
    /// 422 at `name` when it can't be read.
    pub fn take<T>(&mut self, name: &str, wanted: &str) -> ProblemResult<Option<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Problem::invalid(name, format!("{text:?} is not {wanted}: {error}"))),
        }
    }

    /// Refuses `name` without a value, where that is more likely a mistake than the same as none.
    ///
    /// # Errors
    /// 422 at `name` when it is given and empty.
    pub fn not_empty(&self, name: &str) -> ProblemResult<()> {
        match self.0.get(name).is_some_and(String::is_empty) {
            true => Err(Problem::invalid(name, "it is empty; give a value, or leave it out")),
            false => Ok(()),
        }
    }

    /// The items that a page may have: `limit`.
    ///
    /// # Errors
    /// 422 when it is not a number or out of range.
    pub fn limit(&mut self) -> ProblemResult<i64> {
        checked_limit(self.take("limit", "a number")?)
    }

    /// What was not taken yet, by name.
    pub fn as_json(&self) -> serde_json::Value {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Refuses what was not taken.
    ///
    /// # Errors
    /// 422 that names the first unknown parameter.
    pub fn finish(self) -> ProblemResult<()> {
        match self.0.into_keys().next() {
            Some(name) => {
                Err(Problem::invalid(name, "there is no such parameter here; leave it out"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_field() {
        let field = |problem: Problem| (problem.status, problem.field.unwrap_or_default());
        let twice = Params::parse("a=1&a=2").map(drop).map_err(field);
        assert_eq!(twice, Err((422, "a".to_owned())));
        let nul = Params::parse("b=1&a=x%00").map(drop).map_err(field);
        assert_eq!(nul, Err((422, "a".to_owned())));
        let mut params = Params::parse("limit=x&key=&odd=1").unwrap_or_default();
        assert_eq!(params.limit().map_err(field), Err((422, "limit".to_owned())));
        assert_eq!(params.not_empty("key").map_err(field), Err((422, "key".to_owned())));
        assert_eq!(params.not_empty("odd").map_err(field), Ok(()));
        assert_eq!(params.not_empty("none").map_err(field), Ok(()));
        assert_eq!(params.text("key"), None);
        assert_eq!(params.finish().map_err(field), Err((422, "odd".to_owned())));
    }
}
