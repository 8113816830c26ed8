//! The operations that say who may talk with the robot.

use std::sync::Arc;

use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Caller, Key, PairingReply, PairingRequest};
use crate::daemon::api::ErrorReply;
use crate::daemon::operation::{Body, Done, Role};
use crate::daemon::shared::{Api, off_thread};

type Answer<T> = Result<Json<T>, ErrorReply>;

/// Whose key is taken back: the body of `POST /v1/keys/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::daemon) struct Revocation {
    /// The name.
    pub(in crate::daemon) name: String,
}

impl Body for Revocation {
    const EXAMPLE: &'static str = r#"{"name": "tablet"}"#;
}

/// Who asks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(in crate::daemon) struct CallerReply {
    /// What it is called.
    name: String,
    /// What it may.
    role: Role,
}

/// Where the page is seen.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(in crate::daemon) struct PageLink {
    /// Opens the page once, in a browser on the robot's computer.
    pub(in crate::daemon) link: String,
}

pub(in crate::daemon) async fn caller(_: Arc<Api>, caller: Caller) -> Answer<CallerReply> {
    Ok(Json(CallerReply { name: caller.name().into(), role: caller.role() }))
}

pub(in crate::daemon) async fn pairing(
    api: Arc<Api>,
    Json(request): Json<PairingRequest>,
) -> Answer<PairingReply> {
    let access = api.access()?;
    off_thread(move || access.start_pairing(request).map(Json)).await
}

pub(in crate::daemon) async fn keys(api: Arc<Api>, (): ()) -> Answer<Vec<Key>> {
    Ok(Json(api.access()?.keys()))
}

pub(in crate::daemon) async fn revoke(
    api: Arc<Api>,
    Json(Revocation { name }): Json<Revocation>,
) -> Answer<Done> {
    let access = api.access()?;
    off_thread(move || Ok(access.revoke(&name).map(|()| Json(Done {}))?)).await
}

pub(in crate::daemon) async fn link(api: Arc<Api>, (): ()) -> Answer<PageLink> {
    Ok(Json(PageLink { link: api.access()?.page_link()? }))
}
