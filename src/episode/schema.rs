//! The messages described for readers: each channel carries a serialised `FileDescriptorSet`, whose
//! joint fields have the joints' names and whose goals those of their space, so that a plot says
//! `position.elbow_flex` or `achieved_goal.x`. Names cost nothing in a step; poses of Foxglove's own
//! schemas for its 3D panel would take more than half as much room again as all else.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, OneofDescriptorProto,
};

use super::EpisodeHeader;
use super::proto::FAULTS;
use crate::joints::{MAX_GOAL, MAX_JOINTS};

const PACKAGE: &str = "regoal";

/// A message's description while it is made.
struct Described {
    message: DescriptorProto,
    /// The number of the field added last: they are numbered in their order, as in `proto`.
    number: i32,
}

impl Described {
    fn new(name: &str) -> Self {
        let message = DescriptorProto { name: Some(name.into()), ..Default::default() };
        Self { message, number: 0 }
    }

    /// Numbers that only older files use.
    fn without(self, count: i32) -> Self {
        Self { number: self.number + count, ..self }
    }

    fn add(mut self, name: &str, kind: Type, label: Label, type_name: Option<&str>) -> Self {
        self.number += 1;
        self.message.field.push(FieldDescriptorProto {
            name: Some(name.into()),
            number: Some(self.number),
            label: Some(label as i32),
            r#type: Some(kind as i32),
            type_name: type_name.map(|name| format!(".{PACKAGE}.{name}")),
            ..Default::default()
        });
        self
    }

    fn one(self, name: &str, kind: Type) -> Self {
        self.add(name, kind, Label::Optional, None)
    }

    fn many(self, name: &str, kind: Type) -> Self {
        self.add(name, kind, Label::Repeated, None)
    }

    fn message(self, name: &str, of: &str) -> Self {
        self.add(name, Type::Message, Label::Optional, Some(of))
    }

    fn choice(self, name: &str, of: &str) -> Self {
        self.add(name, Type::Enum, Label::Optional, Some(of))
    }

    /// A field that may be absent: proto3 describes it as a choice of one.
    fn maybe(self, name: &str, kind: Type) -> Self {
        let mut described = self.one(name, kind);
        let choice = described.message.oneof_decl.len() as i32;
        if let Some(field) = described.message.field.last_mut() {
            field.proto3_optional = Some(true);
            field.oneof_index = Some(choice);
        }
        let choice = OneofDescriptorProto { name: Some(format!("_{name}")), options: None };
        described.message.oneof_decl.push(choice);
        described
    }
}

fn enumeration(name: &str, values: &[&str]) -> EnumDescriptorProto {
    let values = values.iter().enumerate().map(|(number, value)| EnumValueDescriptorProto {
        // Value names share the package's name space, so they carry their enumeration's.
        name: Some(format!("{}_{value}", name.to_uppercase())),
        number: Some(number as i32),
        options: None,
    });
    EnumDescriptorProto { name: Some(name.into()), value: values.collect(), ..Default::default() }
}

/// Joint names as protobuf field names: letters, digits and underscores, and no two the same.
fn joint_names(joints: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (index, joint) in joints.iter().take(MAX_JOINTS).enumerate() {
        let mut name: String = joint
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name.insert_str(0, "joint_");
        }
        if names.contains(&name) {
            name.push_str(&format!("_{}", index + 1));
        }
        names.push(name);
    }
    names
}

/// What the numbers of a goal are called in this space; plain values in one that is not known.
fn goal_names(space: &str, joints: &[String]) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match space {
        "end_effector_position" | "object_position" => named(&["x", "y", "z"]),
        "end_effector_pose" => named(&[
            "x", "y", "z", "z_axis_x", "z_axis_y", "z_axis_z", "x_axis_x", "x_axis_y", "x_axis_z",
        ]),
        "joint_position" => joints.to_vec(),
        _ => (1..=MAX_GOAL).map(|number| format!("value_{number}")).collect(),
    }
}

/// Each may be absent: a zero is written, and told apart from nothing.
fn named(message: &str, names: &[String], kind: Type) -> DescriptorProto {
    names.iter().fold(Described::new(message), |message, name| message.maybe(name, kind)).message
}

/// Joint times, positions and whatever else a tick holds.
fn step() -> DescriptorProto {
    Described::new("Step")
        .one("tick", Type::Uint64)
        .one("monotonic_ns", Type::Fixed64)
        .one("wall_ns", Type::Fixed64)
        .message("measured_after_ns", "JointTimes")
        .message("position", "Joints")
        .message("velocity", "Joints")
        .message("load", "Joints")
        .message("temperature", "Joints")
        .message("sent", "Joints")
        .many("action", Type::Float)
        .without(2)
        .choice("mode", "Mode")
        .choice("fault", "Fault")
        .one("events", Type::Uint32)
        .one("intervention", Type::Bool)
        .one("policy", Type::Bytes)
        .one("episode", Type::Uint64)
        .message("current", "Joints")
        .message("achieved_goal", "Goal")
        .message("desired_goal", "Goal")
        .message
}

fn episode_header() -> DescriptorProto {
    Described::new("EpisodeHeader")
        .one("number", Type::Uint64)
        .one("robot", Type::String)
        .many("joints", Type::String)
        .one("rate_hz", Type::Double)
        .one("goal_space", Type::String)
        .one("goal_tolerance", Type::Float)
        .choice("source", "Source")
        .choice("split", "Split")
        .one("calibration", Type::String)
        .one("policy", Type::Bytes)
        .maybe("seed", Type::Uint64)
        .one("started_ns", Type::Fixed64)
        .one("software", Type::String)
        .one("task", Type::String)
        .many("videos", Type::String)
        .one("config", Type::String)
        .one("origin", Type::String)
        .message
}

fn inputs() -> DescriptorProto {
    Described::new("Inputs")
        .one("tick", Type::Uint64)
        .one("episode", Type::Uint64)
        .many("orders", Type::String)
        .maybe("heard_ns", Type::Fixed64)
        .message("heard", "Joints")
        .many("answers", Type::Bool)
        .one("lost", Type::Bool)
        .one("incomplete", Type::Bool)
        .message("voltage", "Joints")
        .many("troubles", Type::Uint32)
        .many("jumped", Type::Bool)
        .maybe("answer_age", Type::Uint64)
        .one("answer_relative", Type::Bool)
        .one("answer_planned", Type::Bool)
        .one("answer_spent", Type::Bool)
        .message
}

fn outcome() -> DescriptorProto {
    Described::new("Outcome")
        .choice("label", "Label")
        .maybe("final_distance", Type::Float)
        .maybe("reached_tick", Type::Uint64)
        .one("ticks", Type::Uint64)
        .one("missed_ticks", Type::Uint64)
        .one("reason", Type::String)
        .one("steps", Type::Uint64)
        .one("duration_ns", Type::Uint64)
        .message
}

/// One channel of an episode's file.
pub(super) struct Channel {
    pub(super) topic: &'static str,
    pub(super) schema: &'static str,
    pub(super) descriptors: Vec<u8>,
}

/// The channels' topics, in the order of their ids from 1.
pub(super) const TOPICS: [&str; 4] = ["/episode", "/step", "/outcome", "/inputs"];

/// The channels of an episode with this header, in the order of [`TOPICS`].
pub(super) fn channels(header: &EpisodeHeader) -> [Channel; 4] {
    let joints = joint_names(&header.joints);
    let goal = goal_names(&header.goal_space, &joints);
    let faults: Vec<&str> =
        std::iter::once("NONE").chain(FAULTS.iter().map(|(_, name)| *name)).collect();
    let channel = |topic, schema, messages, enumerations| Channel {
        topic,
        schema,
        descriptors: FileDescriptorSet {
            file: vec![FileDescriptorProto {
                name: Some(format!("{schema}.proto")),
                package: Some(PACKAGE.into()),
                syntax: Some("proto3".into()),
                message_type: messages,
                enum_type: enumerations,
                ..Default::default()
            }],
        }
        .encode_to_vec(),
    };
    [
        channel(
            TOPICS[0],
            "regoal.EpisodeHeader",
            vec![episode_header()],
            vec![
                enumeration("Source", &["DEMONSTRATION", "ATTEMPT", "RUN", "EVALUATION"]),
                enumeration("Split", &["TRAINING", "VALIDATION"]),
            ],
        ),
        channel(
            TOPICS[1],
            "regoal.Step",
            vec![
                step(),
                named("Joints", &joints, Type::Float),
                named("JointTimes", &joints, Type::Sint64),
                named("Goal", &goal, Type::Float),
            ],
            vec![
                enumeration("Mode", &["DISARMED", "HOLDING", "REACHING", "TELEOP", "FAULTED"]),
                enumeration("Fault", &faults),
            ],
        ),
        channel(
            TOPICS[2],
            "regoal.Outcome",
            vec![outcome()],
            vec![enumeration("Label", &["UNKNOWN", "SUCCESS", "FAILURE"])],
        ),
        channel(
            TOPICS[3],
            "regoal.Inputs",
            vec![inputs(), named("Joints", &joints, Type::Float)],
            Vec::new(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joint_names_become_distinct_field_names() {
        let names = ["elbow.flex", "elbow flex", "1st", "Wrist"].map(String::from);
        assert_eq!(joint_names(&names), ["elbow_flex", "elbow_flex_2", "joint_1st", "wrist"]);
    }
}
