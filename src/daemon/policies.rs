//! The robot's policies over the API: what its store remembers, who steers, and the way back.

use std::sync::Arc;

use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::Caller;
use super::api::{Code, ErrorReply};
use super::operation::{Body, Piece, Query};
use super::shared::{Api, off_thread};
use super::text::is_line;
use crate::episode::PolicyId;
use crate::policy::store::{State, hex};
use crate::policy::{Cost, StoreError};

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

/// How much of a policy has come: the answer to each piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// So many bytes: where the next piece begins.
    pub received: u64,
}

/// Which piece of a policy this is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// Where it begins (bytes); another place than where the one before ended is answered with the
    /// right one, and nothing is taken.
    offset: u64,
    /// The length of the whole policy (bytes).
    total: u64,
}

/// A policy that has come is to be used: the body of `POST /v1/policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// Its id: 32 hexadecimal digits.
    #[serde(with = "hex")]
    #[schemars(with = "String")]
    pub policy: PolicyId,
    /// Its signatures, as minisign writes them.
    #[serde(default)]
    pub signatures: Vec<String>,
    /// Also when it was taken out of use before.
    #[serde(default)]
    pub again: bool,
    /// Without a trial.
    #[serde(default)]
    pub commit: bool,
}

impl Body for Installation {
    const EXAMPLE: &'static str = r#"{"policy": "32 hexadecimal digits", "signatures": ["untrusted comment: ..."], "again": false, "commit": false}"#;
}

/// A policy that the robot has taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Installed {
    /// Its id in hexadecimal digits.
    pub policy: String,
    /// What its signatures count; none of an unsigned one.
    pub version: Option<u64>,
    /// It is the active policy; else it is on trial.
    pub committed: bool,
    /// What an action costs on the robot's processor.
    pub cost: Cost,
    /// What becomes of it now, for people.
    pub note: String,
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
    /// How much of a policy has come.
    ///
    /// # Errors
    /// The disk failed.
    fn received(&self, policy: PolicyId) -> Result<u64, ErrorReply>;
    /// Takes the piece at `offset` of a policy of `total` bytes; how much has come then.
    ///
    /// # Errors
    /// As [`Store::receive`](crate::policy::Store::receive).
    fn receive(&self, policy: PolicyId, place: (u64, u64), piece: &[u8])
    -> Result<u64, ErrorReply>;
    /// Checks a policy that has come and lets it steer from the next tick on. One that is refused is
    /// thrown away; nothing is done about one that steers already.
    ///
    /// # Errors
    /// Why it is not taken.
    fn install(&self, order: &Installation, who: &str) -> Result<Installed, ErrorReply>;
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
    // Whatever somebody else brings meanwhile, the way back is open.
    let policies = api.policies()?;
    off_thread(move || {
        policies.roll_back(&why)?;
        policies.report().map(Json)
    })
    .await
}

pub(super) async fn received(api: Arc<Api>, policy: PolicyId) -> Answer<Received> {
    let received = |received| Json(Received { received });
    api.deploy(move |policies| policies.received(policy).map(received)).await
}

pub(super) async fn upload(
    api: Arc<Api>,
    (policy, (Query(Place { offset, total }), Piece(piece))): (PolicyId, (Query<Place>, Piece)),
) -> Answer<Received> {
    let received = |received| Json(Received { received });
    api.deploy(move |policies| policies.receive(policy, (offset, total), &piece).map(received))
        .await
}

pub(super) async fn install(
    api: Arc<Api>,
    (caller, Json(order)): (Caller, Json<Installation>),
) -> Answer<Installed> {
    api.deploy(move |policies| policies.install(&order, caller.name()).map(Json)).await
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
            StoreError::TooLong { .. } => Self::new(Code::TooLong, e.to_string()),
            StoreError::NotReceived { .. } => Self::new(Code::NotFound, e.to_string()),
            _ => Self::new(Code::Refused, e.to_string()),
        }
    }
}
