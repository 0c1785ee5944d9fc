//! The parser from outside: lines and what they become, and properties that hold for all of them.

mod invariants;
mod lines;
mod properties;
mod reference;
mod rows;
