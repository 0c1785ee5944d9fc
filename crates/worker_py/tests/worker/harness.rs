//! Starts a worker with a plugin and plays the server.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use tempfile::TempDir;
use tidemill_worker_proto::{
    EntryPoint, Failure, Frame, FrameDecoder, FromWorker, Load, LogLevel, OUTPUT_BYTES_MAX, Outcome,
    PROTOCOL_VERSION, PluginForm, RequestHead, RequestMethod, ResponseHead, RunId, TableWrites, ToWorker,
    Work, encode_frame,
};

const BOOTSTRAP: &str = include_str!("../../bootstrap.py");
/// As in a server that has nothing to hide. Not nicer than the tests themselves, some of which measure.
const SANDBOX: &str = r#"{"level":"standard","nice":0}"#;
/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_mins(1);

/// A worker process and the plugin directory that it works in.
pub(crate) struct Session {
    pub(crate) plugin_dir: TempDir,
    child: Child,
    stream: UnixStream,
    decoder: FrameDecoder,
    last_run: u64,
}

/// The end of a run, and what was logged before it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) blob: Bytes,
    pub(crate) logs: Vec<(LogLevel, String)>,
    pub(crate) streamed: Option<Streamed>,
}

/// An answer that left before the run had ended.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) head: ResponseHead,
    pub(crate) parts: Vec<Bytes>,
}

/// What the server answers to a message of the worker.
pub(crate) type Answers = Vec<(ToWorker, Vec<u8>)>;

impl Session {
    /// A worker in an empty plugin directory, greeted.
    pub(crate) fn start() -> Self {
        let plugin_dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let python = std::env::var("TIDEMILL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        // The connection takes the place of standard input, which is the way to pass one without unsafe code.
        let child = Command::new(python)
            .args(["-u", "-c", BOOTSTRAP])
            .arg(extension())
            .arg("0")
            .arg(SANDBOX)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut session = Self {
            plugin_dir,
            child,
            stream: ours,
            decoder: FrameDecoder::new(),
            last_run: 0,
        };
        let hello = session.next().head;
        assert!(
            matches!(
                &hello,
                FromWorker::Hello {
                    protocol_version: PROTOCOL_VERSION,
                    ..
                }
            ),
            "{hello:?}"
        );
        session
    }

    /// A worker that has loaded a single file as `plugin.py`.
    pub(crate) fn with_plugin(entry: EntryPoint, source: &str) -> Self {
        let mut session = Self::start();
        session.write_file("plugin.py", source);
        let loaded = session.load(session.load_of(entry, "plugin.py"));
        assert_eq!(loaded, FromWorker::Loaded);
        session
    }

    /// What the server would say about a file or directory in the plugin directory.
    pub(crate) fn load_of(&self, entry: EntryPoint, name: &str) -> Load {
        let path = self.plugin_dir.path().join(name);
        Load {
            form: if path.is_dir() {
                PluginForm::Package
            } else {
                PluginForm::SingleFile
            },
            path: path.to_str().unwrap().to_owned(),
            plugin_dir: self.plugin_dir.path().to_str().unwrap().to_owned(),
            entry,
            trigger_name: "the_trigger".to_owned(),
            database: "tides".to_owned(),
            arguments: None,
            concurrency: 1,
            cache_ttl_default_ms: None,
            output_bytes_max: OUTPUT_BYTES_MAX,
            request_path: Some("/api/v3/engine/p".to_owned()),
        }
    }

    /// Loads, and gives the answer.
    pub(crate) fn load(&mut self, load: Load) -> FromWorker {
        self.send(&ToWorker::Load(Box::new(load)), &[]);
        self.next().head
    }

    /// Writes a file below the plugin directory.
    pub(crate) fn write_file(&self, name: &str, text: &str) {
        let path = self.plugin_dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn send(&mut self, message: &ToWorker, blob: &[u8]) {
        let mut bytes = Vec::new();
        encode_frame(message, &[blob], &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message of the worker.
    pub(crate) fn next(&mut self) -> Frame<FromWorker> {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return frame;
            }
            let mut chunk = vec![0; 1 << 16];
            let read = self.stream.read(&mut chunk).unwrap();
            if read == 0 {
                let (stdout, stderr) = self.output();
                panic!("the worker ended:\n{stdout}\n{stderr}");
            }
            self.decoder.buffer().extend_from_slice(&chunk[..read]);
        }
    }

    /// Sends a run and returns its number.
    pub(crate) fn begin(&mut self, work: Work, blob: &[u8]) -> RunId {
        self.last_run += 1;
        let run = RunId(self.last_run);
        let run_id = format!("run-{}", run.0);
        self.send(&ToWorker::Run { run, run_id, work }, blob);
        run
    }

    /// Runs, with nobody answering calls.
    pub(crate) fn run(&mut self, work: Work, blob: &[u8]) -> Finished {
        self.run_answering(work, blob, |message, _| panic!("unexpected call {message:?}"))
    }

    /// Runs, with `answer` playing the database.
    pub(crate) fn run_answering(
        &mut self,
        work: Work,
        blob: &[u8],
        answer: impl FnMut(&FromWorker, &Bytes) -> Answers,
    ) -> Finished {
        let run = self.begin(work, blob);
        self.finish(run, answer)
    }

    /// Waits for the end of a run.
    pub(crate) fn finish(
        &mut self,
        expected: RunId,
        mut answer: impl FnMut(&FromWorker, &Bytes) -> Answers,
    ) -> Finished {
        let mut logs = Vec::new();
        let mut streamed: Option<Streamed> = None;
        loop {
            let Frame { head, blob } = self.next();
            match head {
                FromWorker::Finished { run, outcome } => {
                    assert_eq!(run, expected);
                    return Finished {
                        outcome,
                        blob,
                        logs,
                        streamed,
                    };
                }
                FromWorker::ResponseBegun { run, response } => {
                    assert!(run == expected && streamed.is_none());
                    self.take(run, &blob);
                    let parts = vec![blob];
                    streamed = Some(Streamed {
                        head: response,
                        parts,
                    });
                }
                FromWorker::ResponsePart { run } => {
                    assert_eq!(run, expected);
                    self.take(run, &blob);
                    streamed.as_mut().expect("begun").parts.push(blob);
                }
                FromWorker::Log { level, text, .. } => logs.push((level, text)),
                call => {
                    for (message, blob) in answer(&call, &blob) {
                        self.send(&message, &blob);
                    }
                }
            }
        }
    }

    /// Says that the client has taken a part of its answer.
    fn take(&mut self, run: RunId, part: &Bytes) {
        let bytes = part.len() as u64;
        self.send(&ToWorker::ResponseTaken { run, bytes }, &[]);
    }

    /// A schedule run at the epoch.
    pub(crate) fn schedule(&mut self) -> Finished {
        self.run(Work::Schedule { time_ns: 0 }, &[])
    }

    /// A request without parameters.
    pub(crate) fn request(&mut self) -> Finished {
        self.run(request_work(&[], &[]), &[])
    }

    /// Ends the connection, and waits for the end of the process.
    pub(crate) fn close(mut self) -> (ExitStatus, Duration) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.wait_for_exit()
    }

    /// Waits for the end of the process.
    pub(crate) fn wait_for_exit(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "the worker does not end");
            thread::yield_now();
        }
    }

    /// Ends the process, and gives what it has written to its standard output and error.
    pub(crate) fn output(&mut self) -> (String, String) {
        let _ = self.child.kill();
        let mut stdout = String::new();
        let mut stderr = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (stdout, stderr)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The connection itself, for measurements.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The texts that were logged, of a run that succeeded.
    #[track_caller]
    pub(crate) fn logged(&self) -> Vec<&str> {
        self.returned();
        self.logs.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The answer of a run that succeeded.
    #[track_caller]
    pub(crate) fn returned(&self) -> Option<&ResponseHead> {
        match &self.outcome {
            Outcome::Returned { response, .. } => response.as_ref(),
            Outcome::Failed(failure) => panic!("{failure:?}"),
        }
    }

    /// The failure of a run that did not succeed.
    #[track_caller]
    pub(crate) fn failed(&self) -> &Failure {
        match &self.outcome {
            Outcome::Failed(failure) => failure,
            Outcome::Returned { .. } => panic!("the run succeeded: {self:?}"),
        }
    }

    /// Collected lines: database, and its line protocol.
    #[track_caller]
    pub(crate) fn written(&self) -> Vec<(Option<String>, String)> {
        let Outcome::Returned { writes, .. } = &self.outcome else {
            panic!("{:?}", self.outcome);
        };
        let mut rest = &self.blob[..];
        let mut written = Vec::new();
        for write in writes {
            let (lines, after) = rest.split_at(write.bytes as usize);
            written.push((write.database.clone(), String::from_utf8(lines.to_vec()).unwrap()));
            rest = after;
        }
        written
    }

    /// The answer of a request as text: status, headers, and the body.
    #[track_caller]
    pub(crate) fn answered(&self) -> String {
        let whole = self.returned().map(|head| (head, &self.blob[..]));
        let joined = self.streamed.as_ref().map(|streamed| streamed.parts.concat());
        let streamed = self.streamed.as_ref().map(|streamed| &streamed.head);
        let (head, body) = whole.or(streamed.zip(joined.as_deref())).expect("an answer");
        let headers: Vec<String> = head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        format!(
            "{} [{}] {}",
            head.status,
            headers.join("; "),
            String::from_utf8_lossy(body)
        )
    }
}

/// A request with parameters and headers.
pub(crate) fn request_work(parameters: &[(&str, &str)], headers: &[(&str, &str)]) -> Work {
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    Work::Request(RequestHead {
        method: RequestMethod::Patch,
        query_string: "a=1&b".to_owned(),
        query_parameters: owned(parameters),
        headers: owned(headers),
    })
}

/// Work and blob of written rows: for each table its batches, each in a stream of its own.
pub(crate) fn writes_work(tables: &[(&str, Vec<RecordBatch>)]) -> (Work, Vec<u8>) {
    let mut blob = Vec::new();
    let mut heads = Vec::new();
    for (name, batches) in tables {
        let streams: Vec<Vec<u8>> = batches.iter().map(stream_of).collect();
        heads.push(TableWrites {
            table_name: (*name).to_owned(),
            stream_bytes: streams.iter().map(|stream| stream.len() as u64).collect(),
        });
        blob.extend(streams.concat());
    }
    (Work::Writes { tables: heads }, blob)
}

/// A batch whose columns may hold nulls.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

/// An Arrow IPC stream of one batch.
pub(crate) fn stream_of(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// An array behind a pointer.
pub(crate) fn array(array: impl arrow::array::Array + 'static) -> ArrayRef {
    Arc::new(array)
}

/// The extension that cargo has built. Tests of a stale one would be worse than none.
fn extension() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let folder = executable.parent().and_then(Path::parent).unwrap();
    let path = folder.join("libtidemill_worker.so");
    let hint = "run `cargo build --release -p tidemill-worker-py` first";
    let built = match fs::metadata(&path) {
        Ok(metadata) => metadata.modified().unwrap(),
        Err(error) if error.kind() == ErrorKind::NotFound => panic!("{} is missing: {hint}", path.display()),
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "python"] {
        for entry in fs::read_dir(crate_folder.join(folder)).unwrap() {
            let source = entry.unwrap();
            let edited: SystemTime = source.metadata().unwrap().modified().unwrap();
            assert!(
                edited <= built,
                "{} is newer than the extension: {hint}",
                source.path().display()
            );
        }
    }
    path
}
