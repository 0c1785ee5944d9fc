//! What writers wrote to a server that is killed under them, and what must be there afterwards.
//!
//! It **is** a model: numbered points, their line protocol, the SQL that asks for them, and the answer that is right. It
//! **is not** a client: who sends the lines and the queries, and what happens to the server meanwhile, is the user's.
//!
//! Invariants:
//! - A batch is one write request. It is in doubt from [`Writer::next_batch`] until [`Writer::settle`], and a writer has at
//!   most one batch in doubt: so the model knows at every moment what must be there, up to one batch that is there whole or
//!   not at all.
//! - Every number that is compared is an integer, or a float that is exact: no order of adding changes a sum.
//! - The same calls give the same lines.

mod answers;
mod writer;

pub use answers::{
    Digest, derived_digest_sql, digest_sql, doubled_sql, first_line, in_doubt_sql, points_sql,
};
pub use writer::{Batch, Writer};
