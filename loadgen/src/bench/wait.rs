//! Waiting for what only shows to those who look.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How something is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// How often it is looked.
    pub(super) look: Duration,
    /// For how long.
    pub(super) within: Duration,
}

impl Wait {
    /// Looks until nothing is `missing` any more; fails with what `failure` says of what was missing last.
    pub(super) fn until_none<M>(
        self,
        mut missing: impl FnMut() -> Result<Option<M>>,
        failure: impl FnOnce(M) -> String,
    ) -> Result<()> {
        let began = Instant::now();
        while let Some(last) = missing()? {
            if began.elapsed() >= self.within {
                return Err(anyhow!(failure(last)));
            }
            thread::sleep(self.look);
        }
        Ok(())
    }

    /// The same where there is nothing to say of what is missing.
    pub(super) fn until(
        self,
        mut is_so: impl FnMut() -> Result<bool>,
        failure: impl FnOnce() -> String,
    ) -> Result<()> {
        self.until_none(|| Ok((!is_so()?).then_some(())), |()| failure())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_until_it_is_so() {
        let wait = Wait { look: Duration::ZERO, within: Duration::from_secs(60) };
        let mut left = 3;
        let look = || {
            left -= 1;
            Ok(left == 0)
        };
        wait.until(look, || "never".to_owned()).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn what_was_missing_last_is_told_in_the_end() {
        let wait = Wait { look: Duration::ZERO, within: Duration::ZERO };
        let missing = wait.until_none(|| Ok(Some(7)), |left| format!("{left} are left"));
        assert_eq!(missing.unwrap_err().to_string(), "7 are left");
        let failed = wait.until(|| Err(anyhow!("nobody can look")), || "never".to_owned());
        assert_eq!(failed.unwrap_err().to_string(), "nobody can look");
    }
}
