//! Who may see the page: the browser that was opened with the link of the daemon, on this computer.
//!
//! The link holds a secret that is good for one visit, which gets a cookie for it. No other page in
//! the same browser can use that: the cookie goes along with this page's own requests only, and a
//! request must say that it is for this computer's address and, where it changes anything, that it
//! comes from this page.

use axum::http::header::HOST;
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::browser::{cookies, is_of_page, only, shown};
use super::door::{Caller, refused};
use super::secret::{Digest, Secret};
use super::{Access, AccessError};
use crate::daemon::api::{Code, ErrorReply};
use crate::daemon::operation::Role;
use crate::daemon::shared::lock;

/// What the page may: all but saying who may what.
const ROLE: Role = Role::Deploy;
/// The most browsers that are remembered.
const VISITS: usize = 16;

#[derive(Default)]
pub(super) struct Page {
    port: u16,
    /// Of the link that was not used yet.
    link: Option<Digest>,
    /// Of the cookies, the oldest first.
    visits: Vec<Digest>,
}

impl Page {
    /// One host and the same with the name that people type.
    fn is_here(&self, host: &str) -> bool {
        let port = self.port;
        host == format!("127.0.0.1:{port}") || host == format!("localhost:{port}")
    }
}

impl Access {
    /// The page is served on this port of this computer.
    pub(in crate::daemon) fn shows_page_at(&self, port: u16) {
        lock(&self.page).port = port;
    }

    /// A new link to the page; one made before is dead.
    ///
    /// # Errors
    /// The page is not served, or the system gives no random bytes.
    pub fn page_link(&self) -> Result<String, ErrorReply> {
        let mut page = lock(&self.page);
        if page.port == 0 {
            let error = "this robot shows no page: start it by `regoal run --page`";
            return Err(ErrorReply::new(Code::Refused, error));
        }
        let secret = Secret::random()?;
        page.link = Some(secret.digest());
        Ok(format!("http://127.0.0.1:{}/?token={}", page.port, secret.reveal()))
    }

    /// Who asks on the page's port.
    pub(super) fn visitor<B>(&self, request: &Request<B>) -> Result<Caller, Box<Response>> {
        let refuse = |code, error: &str| Err(Box::new(refused(ErrorReply::new(code, error))));
        let mut page = lock(&self.page);
        let headers = request.headers();
        let host = only(headers, HOST).filter(|host| page.is_here(host));
        if host.is_none() {
            return refuse(Code::Forbidden, "expected this computer's own address as the host");
        }
        if let Some(link) = token(request) {
            return Err(Box::new(page.welcome(&link).unwrap_or_else(|e| refused(e.into()))));
        }
        if !is_of_page(request, "http://") {
            return refuse(Code::Forbidden, "expected a request of the robot's own page");
        }
        match page.knows(headers) {
            true => Ok(Caller::without_key(ROLE, "the page")),
            false => refuse(
                Code::Unauthorized,
                "this browser was not opened with the robot's link: `regoal pair --page` shows a new one",
            ),
        }
    }
}

impl Page {
    fn cookie(&self) -> String {
        // Cookies of all ports of a computer lie together.
        format!("regoal-{}", self.port)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        cookies(headers, &self.cookie()).any(|secret| {
            let digest = secret.digest();
            self.visits.iter().fold(0, |known, visit| known | visit.ct_eq(&digest).unwrap_u8()) == 1
        })
    }

    /// Takes the link for a cookie.
    fn welcome(&mut self, link: &Secret) -> Result<Response, AccessError> {
        let digest = link.digest();
        if self.link.take_if(|own| own.ct_eq(&digest).into()).is_none() {
            let error = "this link was used before or is not the newest: `regoal pair --page` shows a new one";
            return Ok(refused(ErrorReply::new(Code::Unauthorized, error)));
        }
        let secret = Secret::random()?;
        self.visits.push(secret.digest());
        if self.visits.len() > VISITS {
            self.visits.remove(0);
        }
        Ok(shown(&format!("{}={}", self.cookie(), secret.reveal())))
    }
}

/// The secret of a visit by the link.
fn token<B>(request: &Request<B>) -> Option<Secret> {
    let at_link = request.method() == Method::GET && request.uri().path() == "/";
    Secret::parse(request.uri().query().filter(|_| at_link)?.strip_prefix("token=")?)
}
