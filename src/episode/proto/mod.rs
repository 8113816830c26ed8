//! The messages of an episode's file as protobuf; their description for readers is in `schema`.

mod header;
mod inputs;
mod named;
mod step;

pub(super) use header::{HeaderMessage, OutcomeMessage};
pub(super) use inputs::InputsMessage;
pub(super) use step::{FAULTS, StepMessage, mode, mode_numbers};

use super::PolicyId;

fn policy_id(bytes: &[u8]) -> Option<PolicyId> {
    if bytes.is_empty() { Some(PolicyId::default()) } else { bytes.try_into().ok().map(PolicyId) }
}
