//! Questions before something is deleted.

use std::io::{self, BufRead};

use crate::{failure::CommandError, print};

/// Asks whether `name` is to be deleted; an error unless the answer is yes.
pub(crate) fn deletion(name: &str) -> Result<(), CommandError> {
    deletion_of(&format!("\"{name}\""))
}

/// Asks whether what is described is to be deleted; an error unless the answer is yes.
pub(crate) fn deletion_of(description: &str) -> Result<(), CommandError> {
    print::error(&format!(
        "Are you sure you want to delete {description}? Enter 'yes' or 'y' to confirm"
    ));
    let mut answer = String::new();
    // Without an answer there is no confirmation, whatever the reason.
    let _ = io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "yes" | "y") {
        return Ok(());
    }
    Err(CommandError::message("Cannot proceed without confirmation"))
}
