//! Fetching: the repository first, the cache where it cannot be asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use crate::cache::{Cache, CachedCopy, Damage};
use crate::http_source::{Answer, HttpSource, Place};
use crate::plugin_path::PluginPath;
use crate::repository_url::RepositoryUrl;
use crate::{Checksum, RepositoryConfig, RepositoryError, file_source};

/// A plugin that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Absolute path of the cached file, named as in the repository; what to load. It keeps its content and its place as
    /// long as the server runs.
    pub file: PathBuf,
    /// Checksum of the content, found right just now.
    pub checksum: Checksum,
    /// Whether the content is of an earlier fetch: because the repository says that it has not changed, or because of
    /// an outage.
    pub from_cache: bool,
    /// Why the repository could not be asked, if so. It was logged; the trigger's own log should show it too.
    pub outage: Option<RepositoryError>,
}

/// A plugin repository and the cache of what was fetched from it. Cheap to clone.
#[derive(Clone)]
pub struct PluginRepository {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for PluginRepository {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold credentials.
        formatter
            .debug_struct("PluginRepository")
            .field("repository", &self.inner.url.identity())
            .finish_non_exhaustive()
    }
}

struct Inner {
    url: RepositoryUrl,
    http: HttpSource,
    cache: Arc<Cache>,
    config: RepositoryConfig,
    /// The fetches that somebody waits for.
    flights: Mutex<HashMap<PluginPath, WeakShared<Flight>>>,
}

/// One fetch for all who want the same file at the same time. It ends when nobody waits for it any more.
type Flight = BoxFuture<'static, Result<Fetched, RepositoryError>>;

impl PluginRepository {
    /// The repository at a base URL (`http`, `https` or `file`; with or without a slash at its end), and the directory
    /// that holds the caches of all repositories, which is made at the first fetch. Nothing is asked yet.
    ///
    /// Blocks on the file system: copies that no path has any more are removed. So this comes before any plugin is
    /// started from the cache.
    pub fn new(base_url: &str, cache_dir: &Path, config: RepositoryConfig) -> Result<Self, RepositoryError> {
        let url = RepositoryUrl::parse(base_url)?;
        let cache_dir = std::path::absolute(cache_dir)
            .map_err(|error| RepositoryError::CacheDirectory(error.kind().to_string()))?;
        let cache = Arc::new(Cache::new(&cache_dir, &url.identity()));
        if let Err(error) = cache.prune() {
            tracing::warn!(
                cache = %cache_dir.display(),
                %error,
                "could not remove old copies of plugins from a repository"
            );
        }
        Ok(Self {
            inner: Arc::new(Inner {
                url,
                http: HttpSource::default(),
                cache,
                config,
                flights: Mutex::default(),
            }),
        })
    }

    /// The file at `path` (without `gh:`), as the repository has it now; the copy of an earlier fetch if the
    /// repository gives no answer or an error other than that it has no such file.
    ///
    /// Takes at most [`RepositoryConfig::total_timeout`] and the time for the disk. Calls for a path that is being
    /// fetched wait for that fetch and get its result. May be dropped at any time.
    pub async fn fetch(&self, path: &str) -> Result<Fetched, RepositoryError> {
        let path = PluginPath::parse(path)?;
        self.join_flight(path).await
    }

    fn join_flight(&self, path: PluginPath) -> Shared<Flight> {
        let mut flights = self.inner.flights.lock();
        let running = flights.get(&path).and_then(WeakShared::upgrade);
        // One that has landed, and whose result somebody has still to take, knows the repository of a moment ago.
        if let Some(running) = running.filter(|flight| flight.peek().is_none()) {
            return running;
        }
        flights.retain(|_, flight| flight.upgrade().is_some());
        let inner = Arc::clone(&self.inner);
        let wanted = path.clone();
        let flight = async move { inner.fetch(wanted).await }.boxed().shared();
        flights.extend(flight.downgrade().map(|weak| (path, weak)));
        flight
    }
}

impl Inner {
    async fn fetch(&self, path: PluginPath) -> Result<Fetched, RepositoryError> {
        let cached = self.find_copy(&path).await?;
        let copy = cached.as_ref().ok().and_then(Option::as_ref);
        let known = copy.and_then(|copy| copy.etag.as_deref());
        match (self.ask(&path, known).await, cached) {
            (Ok(Answer::Content { bytes, etag }), cached) => {
                if let Err(damage) = cached {
                    tracing::warn!(plugin = path.as_str(), %damage, "the cached copy of a plugin was damaged; it was fetched anew");
                }
                let copy = self.keep(path, bytes, etag).await?;
                Ok(Fetched {
                    from_cache: false,
                    ..Fetched::from_copy(copy, None)
                })
            }
            (Ok(Answer::Unchanged), Ok(Some(copy))) => Ok(Fetched::from_copy(copy, None)),
            (Err(outage), Ok(Some(copy))) if is_outage(&outage) => {
                tracing::warn!(
                    plugin = path.as_str(),
                    error = %outage,
                    checksum = %copy.checksum,
                    "the plugin repository gave no answer; the plugin is taken from the cache"
                );
                Ok(Fetched::from_copy(copy, Some(outage)))
            }
            (Err(outage), Err(damage)) if is_outage(&outage) => Err(RepositoryError::Damaged {
                path: path.as_str().to_owned(),
                damage: damage.to_string(),
                outage: Box::new(outage),
            }),
            (Err(error), _) => Err(error),
            // `Unchanged` answers only a question that names the version of a copy.
            (Ok(Answer::Unchanged), _) => unreachable!("an unchanged file has a copy"),
        }
    }

    /// Asks the repository, within the time limit.
    async fn ask(&self, path: &PluginPath, known: Option<&str>) -> Result<Answer, RepositoryError> {
        let limit = self.config.total_timeout;
        let answer = async {
            if let Some(directory) = self.url.directory() {
                return self.read(directory, path.clone()).await;
            }
            let place = Place {
                path,
                url: self.url.locate(path),
                shown: self.url.shown(path),
            };
            self.http.ask(&place, known, &self.config).await
        };
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(RepositoryError::Unreachable(format!(
                "no answer within {limit:?}"
            )))
        })
    }

    /// Reads from a repository that is a directory, off the async threads.
    async fn read(&self, directory: PathBuf, path: PluginPath) -> Result<Answer, RepositoryError> {
        let bytes_max = self.config.file_bytes_max;
        let bytes = tokio::task::spawn_blocking(move || file_source::read(&directory, &path, bytes_max))
            .await
            .map_err(|error| RepositoryError::Unreachable(error.to_string()))??;
        Ok(Answer::Content { bytes, etag: None })
    }

    async fn find_copy(
        &self,
        path: &PluginPath,
    ) -> Result<Result<Option<CachedCopy>, Damage>, RepositoryError> {
        let wanted = path.clone();
        self.with_cache(path, move |cache| cache.find(&wanted)).await
    }

    async fn keep(
        &self,
        path: PluginPath,
        bytes: Vec<u8>,
        etag: Option<String>,
    ) -> Result<CachedCopy, RepositoryError> {
        let kept = path.clone();
        self.with_cache(&path, move |cache| cache.keep(&kept, &bytes, etag))
            .await?
            .map_err(|error| cache_error(path.as_str(), &error.kind()))
    }

    /// Does something with the cache, off the async threads.
    async fn with_cache<T: Send + 'static>(
        &self,
        path: &PluginPath,
        action: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let cache = Arc::clone(&self.cache);
        tokio::task::spawn_blocking(move || action(&cache))
            .await
            .map_err(|error| cache_error(path.as_str(), &error))
    }
}

impl Fetched {
    fn from_copy(copy: CachedCopy, outage: Option<RepositoryError>) -> Self {
        Self {
            file: copy.file,
            checksum: copy.checksum,
            from_cache: true,
            outage,
        }
    }
}

/// Whether the answer says nothing about the file, so that an earlier copy of it is as good as ever.
fn is_outage(error: &RepositoryError) -> bool {
    matches!(
        error,
        RepositoryError::Unreachable(_) | RepositoryError::Status { .. }
    )
}

fn cache_error(path: &str, reason: &dyn std::fmt::Display) -> RepositoryError {
    RepositoryError::Cache {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
