//! Chains from URDF files.

use std::collections::BTreeSet;
use std::f64::consts::PI;

use nalgebra::{Isometry3, Unit, Vector3};
use urdf_rs::JointType;

use super::{Chain, KinematicsError, Link, pose};
use crate::joints::MAX_JOINTS;

/// Why a URDF gives no chain.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum UrdfError {
    /// The text is no URDF.
    #[error("expected a URDF: {0}")]
    Parse(String),
    /// A link that is not there.
    #[error("expected a link named `{name}`, found {found}; set base_link and tip_link")]
    NoLink {
        /// The name looked for.
        name: String,
        /// The links there are.
        found: String,
    },
    /// The tip does not hang on the base.
    #[error("expected `{tip}` to hang on `{base}` by joints, found that `{end}` hangs on nothing")]
    Apart {
        /// The base link.
        base: String,
        /// The tip link.
        tip: String,
        /// Where the way from the tip ends.
        end: String,
    },
    /// A joint that is neither fixed nor turns.
    #[error("joint `{joint}`: expected fixed, revolute or continuous, found {found}")]
    Kind {
        /// The joint.
        joint: String,
        /// Its kind.
        found: String,
    },
    /// A joint with numbers that make no joint.
    #[error("joint `{joint}`: expected {expected}")]
    Value {
        /// The joint.
        joint: String,
        /// What is wrong.
        expected: &'static str,
    },
    /// Too many joints, or none.
    #[error("expected 1 to {most} moving joints from base to tip, found {found}")]
    Joints {
        /// The most there may be.
        most: usize,
        /// How many there are.
        found: usize,
    },
}

impl Chain {
    /// The chain from link `base` to link `tip` of a URDF (m, rad; <http://wiki.ros.org/urdf/XML>).
    /// Joints that turn without limits get ±π.
    ///
    /// # Errors
    /// The text is no URDF, the links are not there or not connected, a joint on the way does not
    /// turn, or there are more than an arm may have.
    pub fn from_urdf(text: &str, base: &str, tip: &str) -> Result<Self, KinematicsError> {
        let robot = urdf_rs::read_from_string(text).map_err(|e| UrdfError::Parse(e.to_string()))?;
        for name in [base, tip] {
            if !robot.links.iter().any(|link| link.name == name) {
                let found: Vec<_> = robot.links.iter().map(|link| link.name.as_str()).collect();
                let found = if found.is_empty() { "none".into() } else { found.join(", ") };
                return Err(UrdfError::NoLink { name: name.into(), found }.into());
            }
        }
        let mut links = Vec::new();
        let mut rest = Isometry3::identity();
        for joint in way(&robot, base, tip)? {
            let origin = rest * pose(joint.origin.xyz.0, joint.origin.rpy.0);
            check(joint, &origin)?;
            if joint.joint_type == JointType::Fixed {
                rest = origin;
                continue;
            }
            let axis = Unit::new_normalize(Vector3::from(joint.axis.xyz.0));
            let limits = match joint.joint_type {
                JointType::Revolute => (joint.limit.lower, joint.limit.upper),
                _ => (-PI, PI),
            };
            links.push(Link::about(&axis, &origin, limits, &mut rest));
        }
        if links.is_empty() || links.len() > MAX_JOINTS {
            return Err(UrdfError::Joints { most: MAX_JOINTS, found: links.len() }.into());
        }
        Ok(Self { links, tip: rest })
    }
}

/// The joints from `base` to `tip`, in this order.
fn way<'r>(
    robot: &'r urdf_rs::Robot,
    base: &str,
    tip: &str,
) -> Result<Vec<&'r urdf_rs::Joint>, UrdfError> {
    let mut joints: Vec<&urdf_rs::Joint> = Vec::new();
    let (mut at, mut seen) = (tip, BTreeSet::new());
    while at != base {
        let parent = robot.joints.iter().find(|joint| joint.child.link == at);
        // A link seen twice is a loop, which leads nowhere either.
        let Some(joint) = parent.filter(|_| seen.insert(at)) else {
            let (base, tip, end) = (base.into(), tip.into(), at.into());
            return Err(UrdfError::Apart { base, tip, end });
        };
        joints.push(joint);
        at = &joint.parent.link;
    }
    joints.reverse();
    Ok(joints)
}

fn check(joint: &urdf_rs::Joint, origin: &Isometry3<f64>) -> Result<(), UrdfError> {
    let wrong = |expected| Err(UrdfError::Value { joint: joint.name.clone(), expected });
    if !origin.to_matrix().iter().all(|x| x.is_finite()) {
        return wrong("a finite origin");
    }
    match joint.joint_type {
        JointType::Fixed => return Ok(()),
        JointType::Revolute | JointType::Continuous => {}
        _ => {
            let (joint, found) = (joint.name.clone(), format!("{:?}", joint.joint_type));
            return Err(UrdfError::Kind { joint, found: found.to_lowercase() });
        }
    }
    let length = Vector3::from(joint.axis.xyz.0).norm();
    if !(1e-6..1e6).contains(&length) {
        return wrong("an axis with a direction");
    }
    let limit = &joint.limit;
    let ordered = limit.lower.is_finite() && limit.upper.is_finite() && limit.lower < limit.upper;
    if joint.joint_type == JointType::Revolute && !ordered {
        return wrong("limits with lower < upper");
    }
    Ok(())
}
