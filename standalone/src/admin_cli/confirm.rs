//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use super::error::CommandError;

/// Whether to go on: as `--yes` says, else as the person answers.
///
/// # Errors
/// When there is no terminal to answer on.
pub(super) fn confirmed(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        return Err(CommandError::Usage(format!(
            "{question} There is no terminal to answer this on: use --yes to confirm."
        ))
        .into());
    }
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
