//! What comes in as JSON, and how errors go out.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

use super::api::{Code, ErrorReply};
use super::text::printable;

/// The longest body read (bytes).
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// A request must have come whole within this time of its begin.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest piece of a file read (bytes).
pub(super) const PIECE_LIMIT: usize = 256 * 1024;
/// A piece must have come whole within this time.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body that looks like `example`.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(
    body: Body,
    example: &str,
) -> Result<T, ErrorReply> {
    parse_json(&read(body, BODY_LIMIT, READ_TIMEOUT).await?, example)
}

/// Reads a body of at most so many bytes, which must come whole in time.
pub(super) async fn read(body: Body, limit: usize, timeout: Duration) -> Result<Bytes, ErrorReply> {
    let read = tokio::time::timeout(timeout, axum::body::to_bytes(body, limit)).await;
    let late = |_| {
        let error = format!("the body did not come within {timeout:?}");
        ErrorReply::new(Code::TooSlow, error)
    };
    read.map_err(late)?.map_err(|e| unread(&e, limit))
}

/// The value that looks like `example`.
pub(super) fn parse_json<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    example: &str,
) -> Result<T, ErrorReply> {
    serde_json::from_slice(bytes).map_err(|e| {
        ErrorReply::new(Code::BadRequest, format!("expected {example}, found a body with {e}"))
    })
}

fn unread(cause: &axum::Error, limit: usize) -> ErrorReply {
    let mut source = std::error::Error::source(cause);
    while let Some(e) = source {
        if e.is::<http_body_util::LengthLimitError>() {
            let error = format!("expected at most {limit} bytes of body");
            return ErrorReply::new(Code::TooLong, error);
        }
        source = e.source();
    }
    ErrorReply::new(Code::BadRequest, format!("the body could not be read: {cause}"))
}

impl IntoResponse for ErrorReply {
    fn into_response(self) -> Response {
        let status = match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Code::Refused | Code::Faulted | Code::Stale | Code::Cancelled => StatusCode::CONFLICT,
            Code::OutOfReach | Code::OutOfLimits => StatusCode::UNPROCESSABLE_ENTITY,
            Code::NoLease => StatusCode::LOCKED,
            Code::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Code::NoAnswer | Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::Other => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // It may quote what came in.
        let error = printable(&self.error);
        (status, Json(Self { error, ..self })).into_response()
    }
}
