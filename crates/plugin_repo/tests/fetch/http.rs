//! Repositories over HTTP: answers, limits, and what the cache does while there is no answer.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, ETAG, IF_NONE_MATCH};
use axum::response::{IntoResponse, Redirect, Response};
use futures::future::{join_all, pending, ready};
use futures::stream::{self, StreamExt};
use proptest::prelude::*;
use tidemill_plugin_repo::{Checksum, PluginRepository, RepositoryError, RepositoryErrorKind};
use tokio::sync::{Notify, Semaphore};

use crate::cache_dir::{CacheDir, config, impatient};
use crate::server::Server;

const CODE: &str = "def process_writes(local, batches, args=None): pass\n";

/// Serves the code under every path.
async fn serves_code(_: Request) -> Response {
    CODE.into_response()
}

/// A server that answers with the code until it is told another status.
async fn server_with_status() -> (Server, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let current = Arc::clone(&status);
    let server = Server::start(move |_| {
        let status = StatusCode::from_u16(current.load(Ordering::SeqCst)).unwrap();
        ready((status, CODE).into_response())
    })
    .await;
    (server, status)
}

/// A copy in the cache that is not what was fetched any more, by a change that keeps its length.
async fn damage_copy(repository: &PluginRepository, path: &str) {
    let file = repository.fetch(path).await.unwrap().file;
    fs::write(file, CODE.replace("pass", "evil")).unwrap();
}

#[tokio::test]
async fn a_file_is_fetched_as_it_is_and_keeps_its_name() {
    let server = Server::start(|request: Request| ready(request.uri().to_string().into_response())).await;
    let cache = CacheDir::new();
    let fetched = cache.open(&server.url()).fetch("me/my plugin.py").await.unwrap();
    let asked_for = "/main/me/my%20plugin.py";
    assert_eq!(fs::read_to_string(&fetched.file).unwrap(), asked_for);
    assert_eq!(fetched.checksum, Checksum::of(asked_for.as_bytes()));
    assert_eq!(fetched.file.file_name().unwrap(), "my plugin.py");
    assert!(fetched.file.is_absolute() && fetched.file.starts_with(cache.path()));
    assert!(!fetched.from_cache && fetched.outage.is_none());
}

#[tokio::test]
async fn a_file_that_the_repository_does_not_have_is_not_found_with_a_copy_or_without() {
    let (server, status) = server_with_status().await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    repository.fetch("known.py").await.unwrap();
    status.store(404, Ordering::SeqCst);
    for path in ["known.py", "new.py"] {
        let error = repository.fetch(path).await.unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::NotFound);
        let text = format!(
            "error fetching plugin from repository: 404 Not Found {}{path}",
            server.url()
        );
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn a_failing_repository_is_an_outage() {
    let (server, status) = server_with_status().await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    let first = repository.fetch("known.py").await.unwrap();
    for (code, reason) in [
        (500, "500 Internal Server Error"),
        (403, "403 Forbidden"),
        (429, "429 Too Many Requests"),
        // Nothing was asked to which this could be the answer.
        (304, "304 Not Modified"),
    ] {
        status.store(code, Ordering::SeqCst);
        let error = repository.fetch("new.py").await.unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::Unavailable);
        let text = format!(
            "error fetching plugin from repository: {reason} {}new.py",
            server.url()
        );
        assert_eq!(error.to_string(), text);

        let copy = repository.fetch("known.py").await.unwrap();
        assert_eq!((&copy.file, copy.checksum), (&first.file, first.checksum));
        assert!(copy.from_cache && copy.outage.is_some());
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    // The connection is accepted by the system and nobody ever reads it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let cache = CacheDir::new();
    let repository = cache.open_with(&url, impatient());
    let error = repository.fetch("x.py").await.unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "error getting plugin from repository: no answer within 50ms"
    );
}

#[tokio::test]
async fn the_time_limit_is_one_for_the_whole_body() {
    let server = Server::start(|_| {
        let endless = stream::once(ready(Ok::<_, Infallible>("begins"))).chain(stream::pending());
        ready(Body::from_stream(endless).into_response())
    })
    .await;
    let cache = CacheDir::new();
    let repository = cache.open_with(&server.url(), impatient());
    let error = repository.fetch("x.py").await.unwrap_err();
    assert!(matches!(error, RepositoryError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_any_more_leaves_the_copy() {
    let server = Server::start(|request: Request| async move {
        if request.headers().contains_key(IF_NONE_MATCH) {
            pending().await
        } else {
            ([(ETAG, "\"1\"")], CODE).into_response()
        }
    })
    .await;
    let cache = CacheDir::new();
    cache.open(&server.url()).fetch("x.py").await.unwrap();
    let copy = cache
        .open_with(&server.url(), impatient())
        .fetch("x.py")
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(copy.file).unwrap(), CODE);
    assert!(copy.from_cache && copy.outage.is_some());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_a_file() {
    let server = Server::start(|_| {
        let broken = stream::iter([Ok("begins"), Err(io::Error::other("breaks off"))]);
        ready(Body::from_stream(broken).into_response())
    })
    .await;
    let cache = CacheDir::new();
    let error = cache.open(&server.url()).fetch("x.py").await.unwrap_err();
    assert!(matches!(error, RepositoryError::Unreachable(_)), "{error}");
    assert!(!cache.path().exists());
}

#[tokio::test]
async fn the_size_of_a_file_is_limited_whether_it_is_announced_or_not() {
    let server = Server::start(|request: Request| {
        let bytes_max = config().file_bytes_max;
        ready(match request.uri().path() {
            "/main/fits.py" => "x".repeat(bytes_max).into_response(),
            "/main/announced.py" => "x".repeat(bytes_max + 1).into_response(),
            _ => Body::from_stream(stream::repeat(Ok::<_, Infallible>("x"))).into_response(),
        })
    })
    .await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    repository.fetch("fits.py").await.unwrap();
    for path in ["announced.py", "endless.py"] {
        let error = repository.fetch(path).await.unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::Invalid);
        let text =
            format!("plugin gh:{path} is larger than the 1000 bytes that a plugin of a repository may have");
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn a_restart_works_while_the_repository_is_down() {
    let server = Server::start(serves_code).await;
    let url = server.url();
    let cache = CacheDir::new();
    let first = cache.open(&url).fetch("known.py").await.unwrap();
    let _refuses = server.stop().await;

    let repository = cache.open(&url);
    let copy = repository.fetch("known.py").await.unwrap();
    assert_eq!((&copy.file, copy.checksum), (&first.file, first.checksum));
    assert!(copy.from_cache);
    assert_eq!(copy.outage.unwrap().kind(), RepositoryErrorKind::Unavailable);

    let error = repository.fetch("new.py").await.unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.starts_with("error getting plugin from repository: Connection refused"),
        "{text}"
    );
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_anew() {
    let server = Server::start(serves_code).await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    damage_copy(&repository, "x.py").await;
    let fetched = repository.fetch("x.py").await.unwrap();
    assert!(!fetched.from_cache);
    assert_eq!(fs::read_to_string(fetched.file).unwrap(), CODE);
}

#[tokio::test]
async fn a_damaged_copy_is_refused_while_the_repository_is_down() {
    let server = Server::start(serves_code).await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    damage_copy(&repository, "x.py").await;
    let _refuses = server.stop().await;

    let error = repository.fetch("x.py").await.unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.starts_with("error getting plugin from repository: "),
        "{text}"
    );
    assert!(
        text.contains("; the cached copy of gh:x.py is damaged and cannot replace it: its checksum is "),
        "{text}"
    );
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let server = Server::start(|request: Request| {
        let known = request.headers().get(IF_NONE_MATCH);
        ready(if known.is_some_and(|known| known == "\"1\"") {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(ETAG, "\"1\"")], CODE).into_response()
        })
    })
    .await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    assert!(!repository.fetch("x.py").await.unwrap().from_cache);
    let unchanged = repository.fetch("x.py").await.unwrap();
    assert!(unchanged.from_cache && unchanged.outage.is_none());
    assert_eq!(fs::read_to_string(unchanged.file).unwrap(), CODE);

    damage_copy(&repository, "x.py").await;
    let mended = repository.fetch("x.py").await.unwrap();
    assert!(!mended.from_cache);
    assert_eq!(fs::read_to_string(mended.file).unwrap(), CODE);
}

#[tokio::test]
async fn redirects_are_followed_to_an_end() {
    let server = Server::start(|request: Request| {
        ready(match request.uri().path() {
            "/main/moved.py" => Redirect::temporary("/elsewhere/x.py").into_response(),
            "/main/circle.py" => Redirect::temporary("/main/circle.py").into_response(),
            _ => CODE.into_response(),
        })
    })
    .await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());
    let moved = repository.fetch("moved.py").await.unwrap();
    assert_eq!(moved.file.file_name().unwrap(), "moved.py");
    assert_eq!(
        repository.fetch("circle.py").await.unwrap_err().to_string(),
        "error getting plugin from repository: it redirects too often"
    );
}

#[tokio::test]
async fn https_is_not_answered_by_http() {
    let server = Server::start(serves_code).await;
    let cache = CacheDir::new();
    let repository = cache.open(&server.url().replace("http://", "https://"));
    let error = repository.fetch("x.py").await.unwrap_err();
    assert!(matches!(error, RepositoryError::Unreachable(_)), "{error}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn credentials_of_the_url_are_sent_and_not_shown() {
    let server = Server::start(|request: Request| {
        let authorized = request.headers().get(AUTHORIZATION);
        ready(match authorized.and_then(|value| value.to_str().ok()) {
            // user:secret
            Some("Basic dXNlcjpzZWNyZXQ=") if request.uri().path() == "/main/x.py" => CODE.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        })
    })
    .await;
    let cache = CacheDir::new();
    let url = server.url().replace("http://", "http://user:secret@");
    let repository = cache.open(&url);
    repository.fetch("x.py").await.unwrap();
    let error = repository.fetch("nope.py").await.unwrap_err();
    for text in [error.to_string(), format!("{error:?}"), format!("{repository:?}")] {
        assert!(text.contains("/main") && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn repositories_share_no_copies() {
    let server = Server::start(serves_code).await;
    let url = server.url();
    let cache = CacheDir::new();
    cache.open(&url).fetch("x.py").await.unwrap();
    let _refuses = server.stop().await;
    let other = cache.open(&url.replace("/main/", "/other/"));
    assert!(other.fetch("x.py").await.is_err());
    // The slash at the end of a base does not make another repository.
    assert!(cache.open(url.trim_end_matches('/')).fetch("x.py").await.is_ok());
}

#[tokio::test]
async fn all_who_want_one_file_at_a_time_share_one_download() {
    let arrived = Arc::new(Notify::new());
    let gate = Arc::new(Semaphore::new(0));
    let server = {
        let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
        Server::start(move |_| {
            let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
            async move {
                arrived.notify_one();
                let _passed = gate.acquire().await.unwrap();
                CODE.into_response()
            }
        })
        .await
    };
    let cache = CacheDir::new();
    let repository = cache.open(&server.url());

    let mut who_gives_up = Box::pin(repository.fetch("x.py"));
    assert!(futures::poll!(&mut who_gives_up).is_pending());
    let waiting = join_all((0..20).map(|_| repository.fetch("x.py")));
    let opening = async {
        arrived.notified().await;
        drop(who_gives_up);
        gate.add_permits(1);
    };
    let (fetched, ()) = tokio::join!(waiting, opening);
    assert_eq!(server.requests(), 1);
    let first = fetched[0].clone().unwrap();
    assert!(!first.from_cache);
    assert!(fetched.iter().all(|each| each.as_ref() == Ok(&first)));

    // What has landed is not handed to those who come later.
    repository.fetch("x.py").await.unwrap();
    assert_eq!(server.requests(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attacks_ask_nothing_and_touch_nothing(
        before in proptest::collection::vec("[a-z]{1,5}", 0..3),
        attack in proptest::sample::select(vec![
            "", ".", "..", "%2e%2e", "..%2f..", r"..\..", "a\0b", "x\r\nHost: evil", "?", "#",
        ]),
        after in proptest::collection::vec("[a-z]{1,5}", 0..3),
    ) {
        let names: Vec<_> = before.iter().map(String::as_str).chain([attack]).chain(after.iter().map(String::as_str)).collect();
        let path = names.join("/");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(serves_code).await;
            let cache = CacheDir::new();
            let error = cache.open(&server.url()).fetch(&path).await.unwrap_err();
            prop_assert_eq!(error.kind(), RepositoryErrorKind::Invalid);
            prop_assert_eq!(server.requests(), 0);
            prop_assert!(!cache.path().exists());
            Ok(())
        })?;
    }
}
