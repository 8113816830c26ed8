//! WebSockets: how many, how long their messages are, and how long a peer may take.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request};
use axum::response::Response;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::access::Caller;
use super::api::{Code, ErrorReply};
use super::body::BODY_LIMIT;
use super::operation::{Answers, Takes};

/// The most WebSockets open at once.
pub(super) const SOCKETS: usize = 32;
/// A peer that has not taken a message after this time is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A request for a WebSocket over which `In` comes and `Out` goes, one JSON text a message.
pub(super) struct Upgrade<In, Out> {
    upgrade: WebSocketUpgrade,
    caller: Option<Caller>,
    messages: PhantomData<fn(In) -> Out>,
}

impl<In: JsonSchema + 'static, Out: JsonSchema + 'static> Takes for Upgrade<In, Out> {
    async fn take(request: &mut Request) -> Result<Self, ErrorReply> {
        let caller = request.extensions().get::<Caller>().cloned();
        let (mut parts, body) = std::mem::take(request).into_parts();
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        *request = Request::from_parts(parts, body);
        match upgrade {
            Ok(upgrade) => Ok(Self { upgrade, caller, messages: PhantomData }),
            Err(e) => Err(ErrorReply::new(Code::BadRequest, format!("expected a WebSocket: {e}"))),
        }
    }

    fn describe(operation: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
        let (takes, sends) = (schemas.subschema_for::<In>(), schemas.subschema_for::<Out>());
        operation.insert("x-websocket".into(), json!({ "takes": takes, "sends": sends }));
    }
}

impl<In, Out> Upgrade<In, Out> {
    /// Talks over the WebSocket once it stands, for as long as its caller may.
    pub(super) fn talk<F: Future<Output = ()> + Send + 'static>(
        self,
        permit: OwnedSemaphorePermit,
        talk: impl FnOnce(WebSocket) -> F + Send + 'static,
    ) -> Upgraded {
        let upgrade = self.upgrade.max_message_size(BODY_LIMIT).max_frame_size(BODY_LIMIT);
        Upgraded(upgrade.write_buffer_size(0).max_write_buffer_size(2 * BODY_LIMIT).on_upgrade(
            |socket| async move {
                let _permit = permit;
                let ended = async {
                    match self.caller {
                        Some(caller) => caller.ended().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = talk(socket) => {}
                    () = ended => {}
                }
            },
        ))
    }
}

/// The answer that makes a connection a WebSocket.
pub(super) struct Upgraded(Response);

impl Answers for Upgraded {
    fn answer(self) -> Response {
        self.0
    }

    fn describe(_: &mut SchemaGenerator) -> Value {
        json!({ "101": { "description": "A WebSocket: one JSON text a message, see x-websocket." } })
    }
}

/// Sends a message; false when the peer is gone or takes nothing.
pub(super) async fn send(socket: &mut WebSocket, message: &impl Serialize) -> bool {
    let Ok(text) = serde_json::to_string(message) else { return false };
    let sent = tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::text(text))).await;
    matches!(sent, Ok(Ok(())))
}

/// The next message's bytes; none at the end. Pings are answered underneath.
pub(super) async fn receive(socket: &mut WebSocket) -> Option<axum::body::Bytes> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => return Some(text.into()),
            Some(Ok(Message::Binary(bytes))) => return Some(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
        }
    }
}
