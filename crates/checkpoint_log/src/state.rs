//! What a log needs to know about the state that it keeps.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A state that records add up to.
pub trait LogState: Send + Sync + Sized + 'static {
    /// One change; a record is a list of them.
    type Edit: Serialize + DeserializeOwned + Send;
    /// The whole state as a checkpoint holds it.
    type Image: Serialize + DeserializeOwned + Send;

    /// The state before the first record.
    fn empty() -> Self;

    /// Makes the changes of the record `sequence`.
    ///
    /// # Errors
    /// The reason why a change does not fit; the state may be half changed then and is dropped.
    fn apply(&mut self, sequence: u64, edits: &[Self::Edit]) -> Result<(), String>;

    /// What a checkpoint is to hold.
    fn to_image(&self) -> Self::Image;

    /// The state after the record `sequence`, of which the image was made.
    ///
    /// # Errors
    /// The reason why the image contradicts itself.
    fn from_image(sequence: u64, image: Self::Image) -> Result<Self, String>;
}

/// The edits of one record, and the state that they lead to.
pub struct Change<S: LogState> {
    /// What the record is to hold.
    pub edits: Vec<S::Edit>,
    /// The state before, after these edits.
    pub state: Arc<S>,
}
