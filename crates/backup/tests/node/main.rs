//! Backup, restore and verify of a node that has something of everything.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod formats;
mod round_trip;
mod support;
mod verify;
