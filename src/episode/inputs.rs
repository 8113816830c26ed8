//! What a tick was given beside what its step tells, and what the loop remembered before the first one:
//! enough to do an episode again, bit for bit.

use serde::{Deserialize, Deserializer, Serialize};

use super::command::{Command, Lead, TeleopAction};
use super::{Events, Mode};
use crate::clock::Time;
use crate::joints::{GoalVec, JointVec};

/// What the arm answered when torque was switched or the joints were damped: whether it did.
pub type Answers = heapless::Vec<bool, 4>;
/// Readings of the clock.
pub type Readings = heapless::Vec<Time, 4>;
/// More commands between two ticks are not kept: the control thread takes one a tick and an e-stop.
pub const MAX_ORDERS: usize = 4;

/// A command that was taken over, and what was found meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What was asked for.
    pub command: Command,
    /// When, as often as the clock was read.
    pub times: Readings,
    /// What the person wished that was not heard before.
    pub heard: Option<TeleopAction>,
    /// What the arm answered.
    pub answers: Answers,
}

/// What a joint's servo says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Supply {
    /// V.
    pub voltage: f32,
    /// Its troubles, as bits.
    pub troubles: u8,
    /// It was where it cannot have got to.
    pub jumped: bool,
}

/// How the policy answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    /// So many ticks ago it was asked.
    pub age: u64,
    /// The action is a change, not a position.
    pub relative: bool,
    /// It plans ahead,
    pub planned: bool,
    /// and its plan did not reach to this tick.
    pub spent: bool,
}

/// The inputs of one tick. A tick of which none are logged was like the one before: the same supplies
/// and the same kind of answer, nothing else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// The tick.
    pub tick: u64,
    /// Commands since the tick before, in their order.
    pub orders: heapless::Vec<Order, MAX_ORDERS>,
    /// What the person wished that was not heard before.
    pub heard: Option<TeleopAction>,
    /// What the arm answered.
    pub answers: Answers,
    /// The port was lost.
    pub lost: bool,
    /// There was more than fits here.
    pub incomplete: bool,
    /// By joint.
    pub supplies: JointVec<Supply>,
    /// None when the policy did not answer, or was not asked.
    pub answered: Option<Answered>,
}

impl Inputs {
    /// Whether they say nothing that those before did not, and nothing happened.
    pub fn continues(&self, before: &Self) -> bool {
        let quiet = self.orders.is_empty() && self.answers.is_empty() && self.heard.is_none();
        quiet
            && !self.lost
            && !self.incomplete
            && self.supplies == before.supplies
            && self.answered == before.answered
    }

    /// Makes them those of a tick of which none are logged: like this one, and nothing happened.
    pub fn settle(&mut self) {
        let (supplies, answered) = (std::mem::take(&mut self.supplies), self.answered);
        *self = Self { supplies, answered, ..Self::default() };
    }
}

/// What is remembered of one joint's health.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Strain {
    /// The mean load.
    pub load: f64,
    /// Ticks in a row with troubles,
    pub bad_status: u32,
    /// and with a supply out of its window.
    pub bad_voltage: u32,
    /// Since when it does not follow,
    pub off_track: Option<Time>,
    /// since when it pushes against something,
    pub stalled: Option<Time>,
    /// and since when it draws too much current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcurrent: Option<Time>,
}

/// What the loop remembered when an episode was asked for, before that command.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The tick before.
    pub tick: u64,
    /// When each joint was measured in it,
    pub stamps: JointVec<Time>,
    /// where (rad),
    #[serde(deserialize_with = "numbers")]
    pub position: JointVec<f32>,
    /// and the goal achieved there.
    #[serde(deserialize_with = "numbers")]
    pub achieved_goal: GoalVec,
    /// The mode.
    pub mode: Mode,
    /// Torque was on,
    pub powered: bool,
    /// since then.
    pub armed_at: Time,
    /// What the next step will say that happened.
    pub pending: Events,
    /// The gate's motion of each joint: position (rad), velocity (rad/s), acceleration (rad/s²).
    pub motions: JointVec<[f64; 3]>,
    /// By joint.
    pub strains: JointVec<Strain>,
    /// The person's newest wish,
    pub heard: TeleopAction,
    /// how they steer,
    pub lead: Lead,
    /// and since when the arm is with them.
    pub together: Option<Time>,
    /// Where the object is, and when that was told.
    pub object: Option<(GoalVec, Time)>,
}

/// Numbers in JSON, which has none that are not finite: NaN for those.
pub(super) fn numbers<'de, D, T, const N: usize>(from: D) -> Result<heapless::Vec<T, N>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<f32>,
{
    let numbers = heapless::Vec::<Option<T>, N>::deserialize(from)?;
    Ok(numbers.into_iter().map(|x| x.unwrap_or_else(|| f32::NAN.into())).collect())
}
