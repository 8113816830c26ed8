//! Browsers elsewhere: a browser gets a key as every client does, by the code of `regoal pair`, but out of
//! a link, good for one visit. A cookie holds the key.
//!
//! A browser cannot prove that it sees the robot's own certificate: the person who opens the link
//! compares the fingerprint. No other page in the same browser can use the key: the cookie goes along
//! with this page's own requests only, and a request that changes anything must say that it comes from
//! this page.

use axum::http::header::{COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::secret::Secret;
use crate::daemon::api::{Code, ErrorReply};

/// How long a browser keeps a key at most (s): none keeps a cookie longer.
const LONGEST: u64 = 400 * 86_400;

/// The code in a link to the page.
pub(super) fn code<B>(request: &Request<B>) -> Option<&str> {
    let at_link = request.method() == Method::GET && request.uri().path() == "/";
    request.uri().query().filter(|_| at_link)?.strip_prefix("pair=")
}

/// The key that the request's cookie holds.
///
/// # Errors
/// Another page may have made the request.
pub(super) fn key<B>(request: &Request<B>) -> Result<Option<Secret>, ErrorReply> {
    let headers = request.headers();
    let Some(name) = only(headers, HOST).map(name) else { return Ok(None) };
    let key = cookies(headers, &name).next();
    if key.is_some() && !is_of_page(request, "https://") {
        let error = "expected a request of the robot's own page";
        return Err(ErrorReply::new(Code::Forbidden, error));
    }
    Ok(key)
}

/// The secrets in cookies of this name.
pub(super) fn cookies(headers: &HeaderMap, name: &str) -> impl Iterator<Item = Secret> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).filter_map(move |cookie| {
        let (found, value) = cookie.trim().split_once('=')?;
        (found == name).then(|| Secret::parse(value))?
    })
}

/// Whether the robot's own page made the request: one that changes anything must say so.
pub(super) fn is_of_page<B>(request: &Request<B>, scheme: &str) -> bool {
    let headers = request.headers();
    let changes = request.method() != Method::GET || headers.contains_key(UPGRADE);
    match only(headers, ORIGIN) {
        Some(origin) => origin.strip_prefix(scheme) == only(headers, HOST),
        None => !changes && !headers.contains_key(ORIGIN),
    }
}

/// Hands a browser its key, and shows it the page.
pub(super) fn welcome<B>(request: &Request<B>, key: &str, seconds: Option<u64>) -> Response {
    let name = only(request.headers(), HOST).map(name).unwrap_or_default();
    let age = seconds.unwrap_or(LONGEST).min(LONGEST);
    shown(&format!("{name}={key}; Max-Age={age}; Secure"))
}

/// The way to the page, with a cookie that only the page's own requests carry.
pub(super) fn shown(cookie: &str) -> Response {
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response();
    let cookie = format!("{cookie}; HttpOnly; SameSite=Strict; Path=/");
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Cookies of all ports of a computer lie together.
fn name(host: &str) -> String {
    let port = host.rsplit_once(':').map(|(_, port)| port);
    format!("__Host-regoal-{}", port.filter(|port| port.parse::<u16>().is_ok()).unwrap_or("443"))
}

/// A header's value if it stands there once.
pub(super) fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    first.to_str().ok()
}
