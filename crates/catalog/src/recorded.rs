//! The catalog's state as its log keeps it.

use std::sync::Arc;

use tidemill_checkpoint_log::LogState;

use crate::operation::Operation;
use crate::state::{CatalogState, StateImage};

/// The state after some record; it knows the record's number.
pub(crate) struct RecordedState(Arc<CatalogState>);

impl RecordedState {
    pub(crate) fn new(mut state: Arc<CatalogState>, sequence: u64) -> Self {
        Arc::make_mut(&mut state).set_sequence(sequence);
        Self(state)
    }

    pub(crate) fn catalog(&self) -> &Arc<CatalogState> {
        &self.0
    }
}

impl LogState for RecordedState {
    type Edit = Operation;
    type Image = StateImage;

    fn empty() -> Self {
        Self(Arc::new(CatalogState::empty()))
    }

    fn apply(&mut self, sequence: u64, operations: &[Operation]) -> Result<(), String> {
        let state = Arc::make_mut(&mut self.0);
        for operation in operations {
            state.apply(operation)?;
        }
        state.set_sequence(sequence);
        Ok(())
    }

    fn to_image(&self) -> StateImage {
        StateImage::of(&self.0)
    }

    fn from_image(sequence: u64, image: StateImage) -> Result<Self, String> {
        Ok(Self(Arc::new(image.into_state(sequence)?)))
    }
}
