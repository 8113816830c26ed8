//! The messages of an episode's file as protobuf; their description for readers is in `schema`.

mod header;
mod inputs;
mod named;
mod step;

pub(super) use header::{HeaderMessage, OutcomeMessage};
pub(super) use inputs::InputsMessage;
pub(super) use step::{FAULTS, Place, PlaceMessage, StepMessage, mode, mode_numbers};

use super::PolicyId;

/// A step's message, or only those of its fields that a reader needs.
pub(super) trait ReadStep: prost::Message + Default {
    /// What it tells.
    type Step: Placed + Default;

    /// The number of the episode that it belongs to.
    fn episode(&self) -> u64;

    /// The step, or `None` when a value is unknown to this version.
    fn step(&self) -> Option<Self::Step>;
}

/// A step that knows when it was.
pub(super) trait Placed {
    fn tick(&self) -> u64;

    /// Steps before this one are missing.
    fn follows_gap(&mut self);
}

fn policy_id(bytes: &[u8]) -> Option<PolicyId> {
    if bytes.is_empty() { Some(PolicyId::default()) } else { bytes.try_into().ok().map(PolicyId) }
}
