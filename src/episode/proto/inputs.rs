//! The message of one tick's inputs.

use prost::Message;

use super::named::Named;
use crate::clock::Time;
use crate::episode::TeleopAction;
use crate::episode::inputs::{Answered, Inputs, Order, Supply};
use crate::joints::{JointVec, MAX_JOINTS, stack};

/// `regoal.Inputs`. Orders are text: they are rare, and whoever looks for what a robot was told reads
/// them as they are.
#[derive(Clone, PartialEq, Message)]
pub(in crate::episode) struct InputsMessage {
    #[prost(uint64, tag = "1")]
    tick: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::episode) episode: u64,
    #[prost(string, repeated, tag = "3")]
    orders: Vec<String>,
    #[prost(fixed64, optional, tag = "4")]
    heard_ns: Option<u64>,
    #[prost(message, optional, tag = "5")]
    heard: Option<Named<MAX_JOINTS>>,
    #[prost(bool, repeated, tag = "6")]
    answers: Vec<bool>,
    #[prost(bool, tag = "7")]
    lost: bool,
    #[prost(bool, tag = "8")]
    incomplete: bool,
    #[prost(message, optional, tag = "9")]
    voltage: Option<Named<MAX_JOINTS>>,
    #[prost(uint32, repeated, tag = "10")]
    troubles: Vec<u32>,
    #[prost(bool, repeated, tag = "11")]
    jumped: Vec<bool>,
    #[prost(uint64, optional, tag = "12")]
    answer_age: Option<u64>,
    #[prost(bool, tag = "13")]
    answer_relative: bool,
    #[prost(bool, tag = "14")]
    answer_planned: bool,
    #[prost(bool, tag = "15")]
    answer_spent: bool,
}

fn text(order: &Order) -> String {
    serde_json::to_string(order).unwrap_or_default()
}

/// The order, if it would be written just so: what is read can be written again.
fn order(written: &String) -> Option<Order> {
    serde_json::from_str(written).ok().filter(|order| text(order) == *written)
}

impl InputsMessage {
    pub(in crate::episode) fn new(inputs: &Inputs, episode: u64) -> Self {
        let positions = |heard: &TeleopAction| stack(heard.position.iter().map(|q| *q as f32));
        let supplies = &inputs.supplies;
        let answered = inputs.answered.unwrap_or_default();
        Self {
            tick: inputs.tick,
            episode,
            orders: inputs.orders.iter().map(text).collect(),
            heard_ns: inputs.heard.as_ref().map(|heard| heard.stamp.0),
            heard: inputs.heard.as_ref().and_then(|h| Named::from_values(&positions(h))),
            answers: inputs.answers.to_vec(),
            lost: inputs.lost,
            incomplete: inputs.incomplete,
            voltage: Named::from_values(&supplies.iter().map(|s| s.voltage).collect()),
            troubles: supplies.iter().map(|s| u32::from(s.troubles)).collect(),
            jumped: supplies.iter().map(|s| s.jumped).collect(),
            answer_age: inputs.answered.map(|answered| answered.age),
            answer_relative: answered.relative,
            answer_planned: answered.planned,
            answer_spent: answered.spent,
        }
    }

    /// The inputs, or `None` when a value is unknown to this version.
    pub(in crate::episode) fn inputs(&self) -> Option<Inputs> {
        let orders: Option<_> = self.orders.iter().map(order).collect();
        let position = || Named::values(&self.heard).iter().map(|q| f64::from(*q)).collect();
        let voltages = Named::values(&self.voltage);
        let supply = |((voltage, troubles), jumped): ((&f32, &u32), &bool)| {
            let troubles = u8::try_from(*troubles).ok()?;
            Some(Supply { voltage: *voltage, troubles, jumped: *jumped })
        };
        let supplies: Option<JointVec<Supply>> =
            voltages.iter().zip(&self.troubles).zip(&self.jumped).map(supply).collect();
        let answered = |age| Answered {
            age,
            relative: self.answer_relative,
            planned: self.answer_planned,
            spent: self.answer_spent,
        };
        Some(Inputs {
            tick: self.tick,
            orders: orders?,
            heard: self.heard_ns.map(|ns| TeleopAction { stamp: Time(ns), position: position() }),
            answers: stack(self.answers.iter().copied()),
            lost: self.lost,
            incomplete: self.incomplete,
            supplies: supplies?,
            answered: self.answer_age.map(answered),
        })
    }
}
