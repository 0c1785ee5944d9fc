//! Standard output and standard error: the only place that writes to them.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use tidemill_client::QueryAnswer;

use crate::{failure::CommandError, format::Format};

const STDOUT: &str = "standard output";

/// Prints a line of a result.
pub(crate) fn line(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(CommandError::stream(STDOUT))
}

/// Prints a line about what is going on, or went wrong.
pub(crate) fn error(text: &str) {
    // Where nobody can be told there is nothing left to do.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an answer as it comes. Text gets the line end that the server leaves out.
pub(crate) async fn answer(answer: QueryAnswer, format: Format) -> Result<(), CommandError> {
    let last = copy(answer, &mut io::stdout(), || CommandError::stream(STDOUT)).await?;
    if format.is_text() && last.is_some_and(|byte| byte != b'\n') {
        line("")?;
    }
    Ok(())
}

/// Writes an answer into a file.
pub(crate) async fn answer_to_file(answer: QueryAnswer, path: PathBuf) -> Result<(), CommandError> {
    let mut file = std::fs::File::create(&path).map_err(CommandError::file(&path))?;
    copy(answer, &mut file, || CommandError::file(&path)).await?;
    Ok(())
}

/// Gives the last byte that was written.
async fn copy<E: FnOnce(io::Error) -> CommandError>(
    mut answer: QueryAnswer,
    target: &mut impl Write,
    failed: impl Fn() -> E,
) -> Result<Option<u8>, CommandError> {
    let mut last = None;
    while let Some(chunk) = answer.chunk().await? {
        target.write_all(&chunk).map_err(failed())?;
        last = chunk.last().copied().or(last);
    }
    target.flush().map_err(failed())?;
    Ok(last)
}

/// Refuses to print binary data where a person would have to read it.
pub(crate) fn check_format(format: Format, has_output_file: bool) -> Result<(), CommandError> {
    if !format.is_text() && !has_output_file && io::stdout().is_terminal() {
        return Err(CommandError::message(
            "cannot write parquet to a terminal, use `--output <file>` or pipe the output",
        ));
    }
    Ok(())
}
