//! The robot's certificate: made by itself at its first start, known by its fingerprint.

use std::path::Path;
use std::sync::Arc;

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::AccessError;
use super::secret::Digest;
use crate::storage::Storage;

/// What the certificate is made out to. Clients know it by its fingerprint, whatever the robot's
/// address is today.
pub(in crate::daemon) const NAME: &str = "regoal";

/// A certificate and its private key, ready to serve.
pub(super) struct Certificate {
    pub(super) fingerprint: Digest,
    pub(super) config: Arc<ServerConfig>,
}

/// Both in one file, so that they always belong together. Base64 of DER.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    certificate: String,
    private_key: String,
}

impl Certificate {
    /// The one in this file; a new one if there is none.
    pub(super) fn open(storage: &dyn Storage, path: &Path) -> Result<Self, AccessError> {
        let kept = match storage.read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| damaged(path, &e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(storage, path)?,
            Err(source) => return Err(AccessError::File { path: path.into(), source }),
        };
        Self::of(&kept).map_err(|reason| damaged(path, &reason))
    }

    fn of(kept: &Kept) -> Result<Self, String> {
        let decode = |text: &str| Base64::decode_to_vec(text, None).map_err(|e| e.to_string());
        let certificate = CertificateDer::from(decode(&kept.certificate)?);
        let private_key = PrivatePkcs8KeyDer::from(decode(&kept.private_key)?);
        let fingerprint = Digest::of(&certificate);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(vec![certificate], private_key.into())
            })
            .map_err(|e| e.to_string())?;
        // Each connection proves the whole: no session is kept, none can be taken up again.
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { fingerprint, config: Arc::new(config) })
    }
}

fn make(storage: &dyn Storage, path: &Path) -> Result<Kept, AccessError> {
    let failed = |e: &dyn std::fmt::Display| AccessError::Certificate { reason: e.to_string() };
    let made = rcgen::generate_simple_self_signed([NAME.into()]).map_err(|e| failed(&e))?;
    let encode = |der: &[u8]| Base64::encode_to_string(der).map_err(|e| failed(&e));
    let kept = Kept {
        certificate: encode(made.cert.der())?,
        private_key: encode(&made.signing_key.serialize_der())?,
    };
    let bytes = serde_json::to_vec_pretty(&kept).map_err(|e| failed(&e))?;
    storage
        .replace_private(path, &bytes)
        .map_err(|source| AccessError::File { path: path.into(), source })?;
    Ok(kept)
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> AccessError {
    AccessError::Damaged { path: path.into(), reason: reason.to_string() }
}
