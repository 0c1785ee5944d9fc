//! Damaged files: a query that reads what is damaged is told which file it is, and nothing false is answered.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use tidemill_query::{Params, QueryConfig, QueryError, QueryErrorKind};
use tidemill_store::DataFile;

use crate::support::{Fixture, rows};

const ROWS: u64 = 20_000;
const ALL: &str = "SELECT h, time, v, n, s FROM m ORDER BY h, time";
const SOME: &str =
    "SELECT n FROM m WHERE h = 'h3' AND time < arrow_cast(7000, 'Timestamp(ns)') ORDER BY time";
const SUM: &str = "SELECT count(*), sum(n), max(v) FROM m";

struct Damaged {
    fixture: Fixture,
    objects: Arc<InMemory>,
    file: Arc<DataFile>,
    whole: Vec<u8>,
}

impl Damaged {
    /// With rows in a file that is fetched in parts, and some that overlap it.
    async fn new(has_checksums: bool) -> Self {
        let objects = Arc::new(InMemory::new());
        let shared = Arc::clone(&objects) as Arc<dyn ObjectStore>;
        let mut fixture = Fixture::over(
            shared,
            QueryConfig {
                threads: 2,
                ..QueryConfig::default()
            },
            Vec::new(),
        )
        .await;
        fixture.writes_checksums = has_checksums;
        let mut lines = String::new();
        for number in 0..ROWS {
            let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (host, value, count) = (noise % 10, noise as f64, noise >> 40);
            writeln!(
                lines,
                "m,h=h{host} v={value},n={count}i,s=\"text {}\" {number}",
                noise % 5000
            )
            .unwrap();
        }
        fixture.write(&lines).await;
        fixture.flush().await;
        let file = Arc::clone(&fixture.snapshot("m").await.files[0]);
        fixture
            .write("m,h=h3 v=1,n=1i,s=\"late\" 5000\nother,h=a v=1 1")
            .await;
        fixture.flush().await;
        let path = Path::parse(&*file.path).unwrap();
        let whole = objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        // More than is fetched whole.
        assert!(whole.len() > 160 * 1024, "{}", whole.len());
        assert_eq!(file.tail.is_some(), has_checksums);
        Self {
            fixture,
            objects,
            file,
            whole,
        }
    }

    async fn put(&self, bytes: Vec<u8>) {
        let path = Path::parse(&*self.file.path).unwrap();
        self.objects.put(&path, bytes.into()).await.unwrap();
        self.fixture.files.forget(self.file.id);
    }

    async fn ask(&self, sql: &str) -> Result<Vec<Vec<String>>, QueryError> {
        Ok(rows(&self.fixture.batches(sql, Params::new()).await?))
    }

    fn require_named(&self, error: &QueryError) {
        let text = error.to_string();
        assert!(matches!(error, QueryError::DamagedFile(_)), "{error:?}");
        assert_eq!(error.kind(), QueryErrorKind::Execution);
        assert!(
            text.contains(&format!("file '{}' is damaged: ", self.file.path)),
            "{text}"
        );
        assert!(text.contains("tidemill verify"), "{text}");
    }
}

/// Places from the beginning to the end, each some way into its part of the file.
fn places(length: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |number| (length - 1) * number / (count - 1))
}

#[tokio::test]
async fn no_flipped_byte_is_answered() {
    let damaged = Damaged::new(true).await;
    let mut expected = Vec::new();
    for sql in [ALL, SOME, SUM] {
        expected.push(damaged.ask(sql).await.unwrap());
    }
    let mut told = 0;
    for at in places(damaged.whole.len(), 80) {
        let mut flipped = damaged.whole.clone();
        flipped[at] ^= 0x41;
        damaged.put(flipped).await;
        for (sql, expected) in [ALL, SOME, SUM].iter().zip(&expected) {
            match damaged.ask(sql).await {
                Ok(found) => assert!(found == *expected, "byte {at}: {sql}"),
                Err(error) => {
                    damaged.require_named(&error);
                    assert!(
                        error.to_string().contains("its checksum does not match at bytes"),
                        "{error}"
                    );
                    told += 1;
                }
            }
        }
    }
    assert!(told > 80, "{told}");
    assert_eq!(damaged.ask("SELECT v FROM other").await.unwrap(), [["1.0"]]);
    damaged.put(damaged.whole.clone()).await;
    assert_eq!(damaged.ask(ALL).await.unwrap(), expected[0]);
}

#[tokio::test]
async fn a_file_that_is_cut_or_gone_is_named() {
    let damaged = Damaged::new(true).await;
    damaged
        .put(damaged.whole[..damaged.whole.len() / 2].to_vec())
        .await;
    let error = damaged.ask(ALL).await.unwrap_err();
    damaged.require_named(&error);
    assert!(error.to_string().contains("bytes instead of"), "{error}");
    let path = Path::parse(&*damaged.file.path).unwrap();
    damaged.objects.delete(&path).await.unwrap();
    let error = damaged.ask(ALL).await.unwrap_err();
    damaged.require_named(&error);
    assert!(error.to_string().contains("it is missing"), "{error}");
}

/// Without checksums a value may be another; but where decoding fails, the file is named.
#[tokio::test]
async fn what_cannot_be_decoded_of_an_old_file_is_named() {
    let damaged = Damaged::new(false).await;
    let mut told = 0;
    for at in places(damaged.whole.len(), 80) {
        let mut flipped = damaged.whole.clone();
        for byte in flipped[at..].iter_mut().take(64) {
            *byte = !*byte;
        }
        damaged.put(flipped).await;
        for sql in [ALL, SUM] {
            if let Err(error) = damaged.ask(sql).await {
                damaged.require_named(&error);
                told += 1;
            }
        }
    }
    assert!(told > 0, "what ends the file at least");
}
