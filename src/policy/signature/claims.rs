//! What a signature says of its policy.

use std::time::Duration;

use super::SignatureError;
use crate::clock::WallTime;
use crate::config::RobotConfig;
use crate::episode::PolicyId;

pub(super) const CLAIMS: &str = "regoal policy, robot:, version:, expires:, policy:";

/// What a signature says of its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The type of robot: its kinematic model.
    pub robot: String,
    /// Counts up; a robot never goes back to a lower one by itself.
    pub version: u64,
    /// The last day on which it may be installed.
    pub expires: WallTime,
    /// The policy's id.
    pub policy: PolicyId,
}

impl std::fmt::Display for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { robot, version, expires, policy } = self;
        let date = expires.date();
        write!(
            f,
            "regoal policy\trobot:{robot}\tversion:{version}\texpires:{date}\tpolicy:{policy}"
        )
    }
}

impl Claims {
    /// Reads a trusted comment.
    ///
    /// # Errors
    /// It is not written as [`Claims`] are.
    pub fn parse(comment: &str) -> Result<Self, SignatureError> {
        let field = |i: usize, name: &str| comment.split('\t').nth(i)?.strip_prefix(name);
        let read = || {
            Some(Self {
                robot: field(1, "robot:")?.to_owned(),
                version: field(2, "version:")?.parse().ok()?,
                expires: WallTime::from_date(field(3, "expires:")?)?,
                policy: PolicyId::from_hex(field(4, "policy:")?)?,
            })
        };
        read()
            .filter(|claims| claims.to_string() == comment)
            .ok_or_else(|| SignatureError::BadClaims { found: comment.to_owned() })
    }

    /// Whether the policy is for this robot and may still be installed.
    ///
    /// # Errors
    /// Another type of robot, or too late.
    pub fn check(&self, robot: &RobotConfig, now: WallTime) -> Result<(), SignatureError> {
        if self.robot != robot.model {
            let (signed, robot) = (self.robot.clone(), robot.model.clone());
            return Err(SignatureError::WrongRobot { signed, robot });
        }
        if now >= self.expires + Duration::from_hours(24) {
            return Err(SignatureError::Expired { date: self.expires.date() });
        }
        Ok(())
    }
}
