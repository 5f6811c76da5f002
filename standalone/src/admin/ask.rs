//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use super::fault::Fault;

/// Whether to go on: as `--yes` says, else as the person answers.
///
/// # Errors
/// When nobody is there to answer.
pub(super) fn confirmed(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        return Err(Fault::Usage(format!(
            "{question} There is nobody to answer that: say --yes if it is what you want."
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
