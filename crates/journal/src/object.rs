//! An object of a journal, as it is known in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::object_name::ObjectName;

/// An object that is in the store, or may be. Whoever reads it holds it: it is removed when nobody does any more.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) name: ObjectName,
    is_damaged: AtomicBool,
}

impl Object {
    pub(crate) fn whole(name: ObjectName) -> Arc<Self> {
        Arc::new(Self {
            name,
            is_damaged: AtomicBool::new(false),
        })
    }

    /// One that is known to be torn.
    pub(crate) fn torn(name: ObjectName) -> Arc<Self> {
        Arc::new(Self {
            name,
            is_damaged: AtomicBool::new(true),
        })
    }

    /// Whether it must be left alone: it is neither read nor merged, and goes when it would have gone anyway.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Returns whether this is news.
    pub(crate) fn set_damaged(&self) -> bool {
        !self.is_damaged.swap(true, Ordering::Relaxed)
    }
}
