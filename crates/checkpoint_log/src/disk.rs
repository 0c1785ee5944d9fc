//! What an error says about the disk below an object store.

use std::error::Error;
use std::io::{self, ErrorKind};

/// Whether something failed for want of space, however deep in the error that stands: it may succeed later as it is.
pub fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    has_kind(error, &[ErrorKind::StorageFull, ErrorKind::QuotaExceeded])
}

/// Whether something failed since nothing may be written.
pub(crate) fn is_read_only(error: &(dyn Error + 'static)) -> bool {
    has_kind(error, &[ErrorKind::ReadOnlyFilesystem])
}

fn has_kind(error: &(dyn Error + 'static), kinds: &[ErrorKind]) -> bool {
    let is_one = |error: &io::Error| kinds.contains(&error.kind());
    error.downcast_ref::<io::Error>().is_some_and(is_one)
        || error.source().is_some_and(|source| has_kind(source, kinds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_seen_through_what_wraps_it() {
        let wrapped = |kind: ErrorKind| object_store::Error::Generic {
            store: "test",
            source: Box::new(io::Error::from(kind)),
        };
        assert!(is_disk_full(&wrapped(ErrorKind::StorageFull)));
        assert!(is_disk_full(&wrapped(ErrorKind::QuotaExceeded)));
        assert!(!is_disk_full(&wrapped(ErrorKind::ReadOnlyFilesystem)));
        assert!(is_read_only(&wrapped(ErrorKind::ReadOnlyFilesystem)));
        assert!(!is_disk_full(&wrapped(ErrorKind::TimedOut)));
    }
}
