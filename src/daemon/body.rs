//! What comes in as JSON, and how errors go out.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

use super::api::{Code, ErrorReply};
use super::text::printable;

/// The longest body read (bytes).
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// A request must have come whole within this time of its begin.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body that looks like `example`.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(
    body: axum::body::Body,
    example: &str,
) -> Result<T, ErrorReply> {
    let read = axum::body::to_bytes(body, BODY_LIMIT);
    let bytes = tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .map_err(|_| {
            let error = format!("the body did not come within {READ_TIMEOUT:?}");
            ErrorReply::new(Code::TooSlow, error)
        })?
        .map_err(|e| unread(&e))?;
    parse_json(&bytes, example)
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

fn unread(cause: &axum::Error) -> ErrorReply {
    let mut source = std::error::Error::source(cause);
    while let Some(e) = source {
        if e.is::<http_body_util::LengthLimitError>() {
            let error = format!("expected at most {BODY_LIMIT} bytes of body");
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
