//! Nothing but a list of dependencies: the features that the workspace as a whole turns on.
//!
//! Cargo unifies the features of a dependency over the packages that a command selects. So `cargo test -p tidemill-query` and
//! `cargo test --workspace` would ask for different builds of `arrow`, and of `DataFusion` on top of it, ten minutes each. Every
//! crate depends on this one; its manifest names, for each dependency whose features would differ, the union of them, and so any
//! selection of packages uses the same builds.
//!
//! It must never hold code. When a dependency is added and a single package suddenly builds the world again, compare
//! `cargo tree -p PACKAGE -e features` with `cargo tree --workspace -e features` and add what differs.
