//! Who a caller is, decided by the head of a request.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::http::{HeaderValue, Method, Request};
use axum::response::{IntoResponse as _, Json, Response};

use super::pairing::Shown;
use super::secret::{Digest, Secret};
use super::{Access, Key, browser};
use crate::daemon::api::{Code, ErrorReply};
use crate::daemon::operation::Role;
use crate::daemon::shared::off_thread;

/// Where a new client shows its proof and gets its key.
pub(in crate::daemon) const PAIR: &str = "/v1/pair";
/// How often it is looked at whether a key has expired under somebody who is connected.
const LOOK: Duration = Duration::from_secs(1);

/// What a connection came in by.
#[derive(Clone)]
pub(in crate::daemon) enum Door {
    /// The Unix socket: the system has said who it is.
    Socket,
    /// TLS: each request shows a key.
    Tls(Arc<Access>),
    /// The page's port of this computer: each request shows a cookie.
    Page(Arc<Access>),
}

/// Who asks, as each operation finds it beside a request.
#[derive(Clone)]
pub(in crate::daemon) struct Caller {
    role: Role,
    name: String,
    /// What a key's owner is known by.
    key: Option<(Arc<Access>, Digest)>,
}

impl Caller {
    /// The daemon's own user.
    pub(in crate::daemon) fn owner() -> Self {
        Self::without_key(Role::Admin, "the robot's user")
    }

    pub(super) fn without_key(role: Role, name: &str) -> Self {
        Self { role, name: name.into(), key: None }
    }

    /// What it is known by, for what is remembered.
    pub(in crate::daemon) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether the caller may do what needs this role.
    pub(in crate::daemon) fn check(caller: Option<&Self>, needed: Role) -> Result<(), ErrorReply> {
        let refuse = |error| Err(ErrorReply::new(Code::Forbidden, error));
        match caller.map(|caller| caller.role) {
            Some(role) if role >= needed => Ok(()),
            Some(role) => refuse(format!(
                "this needs the role {needed}, your key has {role}: pair anew with a code that \
                 `regoal pair --role {needed}` shows on the robot"
            )),
            None => refuse("nobody has said who asks".into()),
        }
    }

    /// Returns when the caller's key is no longer valid.
    pub(in crate::daemon) async fn ended(self) {
        let Some((access, digest)) = self.key else { return std::future::pending().await };
        let mut changed = access.changed.subscribe();
        while access.key(&digest).is_some() {
            let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        }
    }
}

impl Door {
    /// Who asks; or the answer, if it is given here.
    pub(in crate::daemon) async fn admit<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Caller, Box<Response>> {
        match self {
            Self::Socket => Ok(Caller::owner()),
            Self::Tls(access) => {
                if request.uri().path() == PAIR && request.method() == Method::POST {
                    return Err(Box::new(pair(access, request).await.unwrap_or_else(refused)));
                }
                if let Some(code) = browser::code(request) {
                    let welcome = welcome(access, request, code.to_owned()).await;
                    return Err(Box::new(welcome.unwrap_or_else(refused)));
                }
                access.caller(request).map_err(|reply| Box::new(refused(reply)))
            }
            Self::Page(access) => access.visitor(request),
        }
    }

    /// Whether a connection counts as its owner's before its first request.
    pub(in crate::daemon) fn knows_its_peer(&self) -> bool {
        matches!(self, Self::Socket)
    }
}

impl Access {
    fn caller<B>(self: &Arc<Self>, request: &Request<B>) -> Result<Caller, ErrorReply> {
        let secret = match request.headers().contains_key(AUTHORIZATION) {
            true => shown(request, "Bearer "),
            false => browser::key(request)?,
        };
        let digest = secret.map(|secret| secret.digest());
        let found = digest.and_then(|digest| Some((self.key(&digest)?, digest)));
        let (Key { name, role, .. }, digest) = found.ok_or_else(|| {
            let error = "expected a valid key in the Authorization header: pair by `regoal pair`, \
                         or open the link of `regoal pair --page --name NAME` in this browser";
            ErrorReply::new(Code::Unauthorized, error)
        })?;
        Ok(Caller { role, name, key: Some((Arc::clone(self), digest)) })
    }
}

/// The secret behind this word in the only Authorization header.
fn shown<B>(request: &Request<B>, scheme: &str) -> Option<Secret> {
    let mut all = request.headers().get_all(AUTHORIZATION).iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    Secret::parse(first.to_str().ok()?.strip_prefix(scheme)?)
}

async fn pair<B>(access: &Arc<Access>, request: &Request<B>) -> Result<Response, ErrorReply> {
    let proof = shown(request, "Pair ").ok_or_else(|| {
        let error = "expected `Pair PROOF` in the Authorization header: see `regoal pair --help`";
        ErrorReply::new(Code::Unauthorized, error)
    })?;
    let access = Arc::clone(access);
    Ok(Json(off_thread(move || access.pair(&Shown::Proof(proof))).await?).into_response())
}

/// A browser that was opened with a link gets its key.
async fn welcome<B>(
    access: &Arc<Access>,
    request: &Request<B>,
    code: String,
) -> Result<Response, ErrorReply> {
    let pairing = Arc::clone(access);
    let paired = off_thread(move || pairing.pair(&Shown::Code(code))).await?;
    Ok(browser::welcome(request, &paired.key, access.time_left(&paired.name)))
}

/// The answer to somebody who is not let in; what else came with the request is not waited for.
pub(super) fn refused(reply: ErrorReply) -> Response {
    let mut response = reply.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
