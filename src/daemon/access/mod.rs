//! Who may talk with the daemon, from where, and what each may do.
//!
//! On the Unix socket it is the daemon's user and root, and they may do everything. Over TLS 1.3 it is
//! clients with a key, each with a [`Role`]; a client gets its key by pairing (`pairing`), a browser
//! there too (`browser`). On the page's port of this computer it is a browser that was opened with a
//! link of the daemon. A [`Door`]
//! decides who a caller is from the head of a request alone; each operation of the API then looks at
//! the caller's role, before anything of a body is read.

mod browser;
mod certificate;
mod door;
pub(super) mod handlers;
mod keys;
mod page;
mod pairing;
mod secret;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::ServerConfig;
use tokio::sync::watch;

use self::certificate::Certificate;
pub(super) use self::certificate::NAME;
pub(super) use self::door::{Caller, Door, PAIR};
pub use self::keys::Key;
use self::keys::{Keys, seconds};
use self::page::Page;
pub use self::pairing::{Paired, PairingReply, PairingRequest, Proofs};
use self::pairing::{Pairing, Shown};
pub use self::secret::Digest;
use self::secret::Secret;
use super::api::{Code, ErrorReply};
use super::shared::lock;
use super::text::is_name;
use crate::clock::Clock;
use crate::storage::Storage;

/// Why nobody is let in, or a change of who is was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: {reason}; without it a new one is made, and every client must be \
        paired anew", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {reason}")]
    Certificate {
        /// What went wrong.
        reason: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// Two clients would have one name.
    #[error("{name:?} has a key: choose another name, or take it back by `regoal keys revoke`")]
    Taken {
        /// The name.
        name: String,
    },
    /// Nobody has this name.
    #[error("no key is named {name:?}: see `regoal keys ls`")]
    Unknown {
        /// The name.
        name: String,
    },
    /// No room for another key.
    #[error("expected at most {most} keys: take one back by `regoal keys revoke`")]
    TooMany {
        /// The most.
        most: usize,
    },
}

impl From<AccessError> for ErrorReply {
    fn from(e: AccessError) -> Self {
        let code = match e {
            AccessError::Taken { .. } | AccessError::TooMany { .. } => Code::Refused,
            AccessError::Unknown { .. } => Code::NotFound,
            _ => Code::Other,
        };
        Self::new(code, e.to_string())
    }
}

/// The longest time that a key may be valid for, if its end is given (s).
const LONGEST: u64 = 10 * 366 * 86_400;

/// Who may talk with a robot from elsewhere than its socket.
pub struct Access {
    clock: Arc<dyn Clock>,
    certificate: Certificate,
    keys: Mutex<Keys>,
    pairing: Mutex<Option<Pairing>>,
    page: Mutex<Page>,
    /// Where clients and browsers find the robot, once it listens.
    address: OnceLock<(String, String)>,
    /// Told whenever a key was taken back.
    changed: watch::Sender<()>,
}

impl Access {
    /// The certificate and the keys in `folder`; the certificate is made if there is none.
    ///
    /// # Errors
    /// A file cannot be used, or no certificate be made.
    pub fn open(
        storage: &Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        folder: &Path,
    ) -> Result<Arc<Self>, AccessError> {
        storage
            .create_folder(folder)
            .map_err(|source| AccessError::File { path: folder.into(), source })?;
        let certificate = Certificate::open(storage.as_ref(), &folder.join("certificate.json"))?;
        let keys = Keys::open(Arc::clone(storage), folder.join("keys.json"))?;
        Ok(Arc::new(Self {
            clock,
            certificate,
            keys: Mutex::new(keys),
            pairing: Mutex::default(),
            page: Mutex::default(),
            address: OnceLock::new(),
            changed: watch::Sender::default(),
        }))
    }

    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Digest {
        self.certificate.fingerprint
    }

    pub(super) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.certificate.config)
    }

    /// Says where clients and browsers find the robot: `https://robot:port`.
    pub(super) fn listens_at(&self, clients: String, browsers: String) {
        let _ = self.address.set((clients, browsers));
    }

    /// A code for a new client; one shown before is dead.
    ///
    /// # Errors
    /// The robot does not listen, the name is taken or none, or the time is out of range.
    pub fn start_pairing(&self, request: PairingRequest) -> Result<PairingReply, ErrorReply> {
        let bad = |error: String| Err(ErrorReply::new(Code::BadRequest, error));
        let Some((address, page)) = self.address.get() else {
            let error = "this robot is not reached from elsewhere: `regoal run --listen ADDR:PORT`";
            return Err(ErrorReply::new(Code::Refused, error));
        };
        if !is_name(&request.name) {
            return bad(format!("expected a name of 1 to 64 characters, found {:?}", request.name));
        }
        if let Some(s) = request.expires_s.filter(|s| !(1..=LONGEST).contains(s)) {
            return bad(format!("expires_s: expected 1 to {LONGEST} (s), found {s}"));
        }
        lock(&self.keys).check_free(&request.name, self.clock.wall())?;
        let code = pairing::code()?;
        let proofs = Proofs::new(&code, &self.fingerprint());
        *lock(&self.pairing) = Some(Pairing::new((&code, proofs), request, self.clock.now()));
        let (address, fingerprint) = (address.clone(), self.fingerprint().to_string());
        let page = format!("{page}/?pair={code}");
        Ok(PairingReply { code, seconds: pairing::PATIENCE.as_secs(), address, fingerprint, page })
    }

    /// The key of a client that shows that it knows the code; the code is used up by it.
    fn pair(&self, shown: &Shown) -> Result<Paired, ErrorReply> {
        let mut waiting = lock(&self.pairing);
        let opened = waiting.as_mut().is_some_and(|p| p.is_opened_by(shown, self.clock.now()));
        let Some(pairing) = waiting.take_if(|_| opened) else {
            log::warn!("a client tried to pair with a wrong or dead code");
            let error = "the code is wrong, used up or too old: show a new one by `regoal pair`";
            return Err(ErrorReply::new(Code::Unauthorized, error));
        };
        let PairingRequest { name, role, expires_s } = pairing.request;
        let now = self.clock.wall();
        let created = seconds(now);
        let expires = expires_s.map(|s| created + s);
        let key = Key { name: name.clone(), role, created, expires, revoked: false };
        let secret = Secret::random()?;
        lock(&self.keys).add(&secret, key, now)?;
        log::info!("{name:?} is paired and may {role}");
        Ok(Paired { key: secret.reveal(), name, role, proof: pairing.proofs.server() })
    }

    /// How long the key with this name is valid (s), if that has an end.
    fn time_left(&self, name: &str) -> Option<u64> {
        let keys = lock(&self.keys);
        let end = keys.all().find(|key| key.name == name)?.expires?;
        Some(end.saturating_sub(seconds(self.clock.wall())))
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        lock(&self.keys).all().cloned().collect()
    }

    /// Takes a key back; whoever is connected with it is cut off.
    ///
    /// # Errors
    /// Nobody has the name, or the file cannot be written.
    pub fn revoke(&self, name: &str) -> Result<(), AccessError> {
        lock(&self.keys).revoke(name)?;
        self.changed.send_replace(());
        log::info!("the key of {name:?} is taken back");
        Ok(())
    }

    /// The key with this digest, as long as it is valid.
    fn key(&self, digest: &Digest) -> Option<Key> {
        lock(&self.keys).find(digest, self.clock.wall()).cloned()
    }
}
