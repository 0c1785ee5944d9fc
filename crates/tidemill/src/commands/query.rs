//! `query`

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use tidemill_client::QueryRequest;

use crate::{
    connection::{Connection, Database},
    environment,
    failure::CommandError,
    format::Format,
    print,
};

const AFTER_HELP: &str = "\
Examples:
  tidemill query --database weather 'SELECT * FROM air ORDER BY time DESC LIMIT 10'
  tidemill query --database weather --format csv --file report.sql > report.csv
  tidemill query --database weather --format parquet --output air.parquet 'SELECT * FROM air'";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Sql,
    #[value(name = "influxql")]
    InfluxQl,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    database: Database,

    /// Language of the query
    #[arg(short, long, value_enum, default_value = "sql")]
    language: Language,

    /// Format of the result
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,

    /// File to write the result to
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// File to read the query from
    #[arg(short, long, value_name = "FILE", conflicts_with = "query")]
    file: Option<PathBuf>,

    /// The query; read from standard input if it is given nowhere
    query: Vec<String>,

    /// URL of the server to query, where it is another than the host
    #[arg(long, env = environment::QUERY_HOST_URL, value_name = "URL")]
    query_host: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl QueryArgs {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        print::check_format(self.format, self.output.is_some())?;
        let client = self.connection.client_of(self.query_host.as_deref())?;
        let request = QueryRequest {
            query: self.text()?,
            database: self.database.database,
            format: self.format.name().to_owned(),
            params: serde_json::Map::new(),
        };
        let answer = match self.language {
            Language::Sql => client.query_sql(&request).await?,
            Language::InfluxQl => client.query_influxql(&request).await?,
        };
        match self.output {
            Some(path) => print::answer_to_file(answer, path).await,
            None => print::answer(answer, self.format).await,
        }
    }

    fn text(&self) -> Result<String, CommandError> {
        if let Some(path) = &self.file {
            return fs::read_to_string(path).map_err(CommandError::file(path));
        }
        if !self.query.is_empty() {
            return Ok(self.query.join(" "));
        }
        if io::stdin().is_terminal() {
            return Err(CommandError::message(
                "no query: give one as an argument, with --file, or on standard input",
            ));
        }
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(CommandError::stream("standard input"))?;
        Ok(text)
    }
}
