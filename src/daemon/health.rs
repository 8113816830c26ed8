//! Whether a robot is fit for work, for those who watch many.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Json, Response};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::Status;
use super::operation::Answers;
use crate::episode::Mode;

/// Whether a robot is fit for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Nothing is wrong.
    pub healthy: bool,
    /// What is wrong, for people.
    pub problems: Vec<String>,
}

impl Health {
    pub(super) fn of(status: &Status) -> Self {
        let mut problems = Vec::new();
        if !status.alive {
            problems.push("the control loop has ended: see the daemon's log".to_owned());
        }
        if let Mode::Faulted(fault) = status.mode {
            problems.push(format!("stopped by a fault ({fault}): `regoal arm` clears it"));
        }
        match &status.log {
            Some(log) if log.disk_full => {
                problems.push("the disk is full: episodes are not logged".to_owned());
            }
            Some(log) if log.unlogged > 0 => {
                problems.push(format!("{} steps could not be logged", log.unlogged));
            }
            _ => {}
        }
        Self { healthy: problems.is_empty(), problems }
    }
}

impl Answers for Health {
    fn answer(self) -> Response {
        let status = if self.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }

    fn describe(schemas: &mut SchemaGenerator) -> Value {
        let content = json!({ "application/json": { "schema": schemas.subschema_for::<Self>() } });
        json!({
            "200": { "description": "Nothing is wrong.", "content": content },
            "503": { "description": "Something is wrong.", "content": content },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Log;
    use crate::episode::Fault;

    #[test]
    fn what_is_wrong_is_said() {
        let well = Status { alive: true, ..Status::default() };
        assert_eq!(Health::of(&well), Health { healthy: true, problems: vec![] });
        let full = Log { disk_full: true, ..Log::default() };
        for (ill, says) in [
            (Status::default(), "has ended"),
            (Status { mode: Mode::Faulted(Fault::Stall), ..well.clone() }, "pushed against"),
            (Status { log: Some(full), ..well.clone() }, "disk is full"),
        ] {
            let health = Health::of(&ill);
            assert!(!health.healthy && health.problems.join(" ").contains(says), "{health:?}");
        }
    }
}
