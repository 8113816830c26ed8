//! The robot's policies over the API: what its store remembers, who steers, and the way back.

use std::sync::Arc;

use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::Caller;
use super::api::{Code, ErrorReply};
use super::operation::Body;
use super::shared::{Api, off_thread};
use super::text::is_line;
use crate::policy::StoreError;
use crate::policy::store::State;

/// Which policies a robot has: what its store remembers, and who steers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReport {
    /// The policy that steers toward goals: its id in hexadecimal digits; none where none does.
    pub steering: Option<String>,
    /// What the store remembers.
    #[serde(flatten)]
    pub state: State,
}

/// Back to the policy before: the body of `POST /v1/policies/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Why, for those who look at the store later.
    pub why: String,
}

impl Body for Rollback {
    const EXAMPLE: &'static str = r#"{"why": "drops the cup"}"#;
}

/// The policies of a running robot. What changes them returns when it is done, which takes a while.
pub trait Policies: Send + Sync + 'static {
    /// Which there are, and who steers.
    ///
    /// # Errors
    /// The store cannot be read.
    fn report(&self) -> Result<PolicyReport, ErrorReply>;
    /// Goes back: a candidate is dropped, without one the policy before is the active one again; it
    /// steers from the next tick on.
    ///
    /// # Errors
    /// There is nothing to go back to, the disk failed, or the running loop does not take it.
    fn roll_back(&self, why: &str) -> Result<(), ErrorReply>;
}

type Answer<T> = Result<Json<T>, ErrorReply>;

pub(super) async fn report(api: Arc<Api>, (): ()) -> Answer<PolicyReport> {
    let policies = api.policies()?;
    off_thread(move || policies.report().map(Json)).await
}

pub(super) async fn roll_back(
    api: Arc<Api>,
    (caller, Json(Rollback { why })): (Caller, Json<Rollback>),
) -> Answer<PolicyReport> {
    if !is_line(&why, 200) {
        let error = "why: expected 1 to 200 characters, none of them hidden";
        return Err(ErrorReply::new(Code::BadRequest, error));
    }
    let why = format!("{why} by {}", caller.name());
    api.deploy(move |policies| {
        policies.roll_back(&why)?;
        policies.report().map(Json)
    })
    .await
}

impl From<StoreError> for ErrorReply {
    fn from(e: StoreError) -> Self {
        match &e {
            StoreError::Busy { .. } => {
                Self::new(Code::Busy, "another program is changing the policies: try again")
            }
            StoreError::Empty { which, .. } => {
                Self::new(Code::Refused, format!("this robot has no {which} policy"))
            }
            StoreError::Io { .. } | StoreError::Damaged { .. } => {
                // Names of folders are nobody's business but the daemon's.
                log::warn!("the policy store: {}", super::printable(&e.to_string()));
                Self::new(Code::Other, "the policy store cannot be used: see the robot's log")
            }
            _ => Self::new(Code::Refused, e.to_string()),
        }
    }
}
