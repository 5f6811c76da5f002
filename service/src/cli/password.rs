//! Passwords that a person types or a program hands over; never an argument, which every user of the machine can see.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};

/// A new password: the first line of standard input if `from_stdin`, else asked for twice on the terminal.
///
/// # Errors
/// When there is neither, or the two differ.
pub fn new_password(from_stdin: bool) -> anyhow::Result<SecretString> {
    let stdin = std::io::stdin();
    if from_stdin {
        return first_line(stdin.lock());
    }
    ensure!(
        stdin.is_terminal(),
        "there is no terminal to ask for the password on; pass it with --password-stdin"
    );
    let ask = |prompt: &str| {
        let typed = rpassword::prompt_password(prompt).context("the password can't be read")?;
        anyhow::Ok(SecretString::from(typed))
    };
    let password = ask("Password: ")?;
    let again = ask("Repeat the password: ")?;
    ensure!(
        password.expose_secret() == again.expose_secret(),
        "the two passwords differ; nothing was changed"
    );
    Ok(password)
}

fn first_line(mut input: impl BufRead) -> anyhow::Result<SecretString> {
    let mut line = String::new();
    input.read_line(&mut line).context("standard input can't be read")?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        bail!("standard input holds no password");
    }
    Ok(SecretString::from(password))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line_without_its_end() {
        for text in ["pass word \n", "pass word \r\nmore\n", "pass word "] {
            let password = first_line(text.as_bytes()).unwrap();
            assert_eq!(password.expose_secret(), "pass word ");
        }
        for text in ["", "\n", "\r\n"] {
            assert!(first_line(text.as_bytes()).is_err());
        }
    }
}
