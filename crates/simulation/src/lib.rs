//! A machine that loses power: a disk and an object store in memory that fail, tear, lose and crash as a seed says.
//!
//! It **is** what tests put in the place of the disk and the object store, so that a crash can be had between any two
//! steps, and had again from its seed. It **is not** a mock: a program sees what a real disk would show it, and after a
//! restart what a real one would have kept. Only tests depend on it.
//!
//! Invariants:
//! - What was synced survives everything; what was not is lost in part, as [`Restart`] says.
//! - Everything is decided by the seed and by the order of calls.
#![deny(unsafe_code)]

mod disk;
mod object_store;
mod random;

pub use disk::{Faults, Restart, SimDisk};
pub use object_store::SimObjectStore;
pub use random::Random;
