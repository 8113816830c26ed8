//! A robot elsewhere: its address, its certificate, and the key it gave.

use std::sync::Arc;

use hyper::Method;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::access::{Digest, NAME, PAIR, Paired, Proofs};
use super::client::{Client, ClientError, TIMEOUT, block_on};
use super::operation::Role;

/// Where a robot is, and what a link to it says besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    /// Its `host:port`.
    pub authority: String,
    /// The code of a pairing link.
    pub code: Option<String>,
    /// The fingerprint of a pairing link.
    pub fingerprint: Option<Digest>,
}

impl std::str::FromStr for RemoteAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected https://HOST:PORT, found {text}");
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let (authority, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let authority = authority.trim_end_matches('/');
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let parsed = authority.parse::<hyper::http::uri::Authority>().map_err(|_| wrong())?;
        if port.is_none() || parsed.as_str().contains('@') {
            return Err(wrong());
        }
        let mut found = Self { authority: authority.to_owned(), code: None, fingerprint: None };
        for part in fragment.split('&') {
            match part.split_once('=') {
                Some(("pair", code)) => found.code = Some(code.to_owned()),
                Some(("sha256", digest)) => {
                    found.fingerprint = Some(Digest::try_from(digest.to_owned())?);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// What a client keeps of its pairing, in a file for its eyes only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// The robot's `host:port`.
    pub address: String,
    /// The SHA-256 of the robot's certificate.
    pub fingerprint: Digest,
    /// The client's name.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// Its key: 64 hexadecimal digits.
    pub key: String,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Gets a key of the robot at an address with the code that it shows. The certificate is believed
/// when the robot proves that it knows the code too; with a fingerprint given, no other is talked to.
///
/// # Errors
/// Nobody answers, the code is refused, or the robot could not prove that it knows it.
pub fn pair(
    address: &str,
    code: &str,
    fingerprint: Option<Digest>,
) -> Result<KeyFile, ClientError> {
    let seen = block_on(address, TIMEOUT, async {
        let stream = connect(address, fingerprint).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        certificate
            .map(|der| Digest::of(der))
            .ok_or_else(|| ClientError::Impostor { at: address.to_owned() })
    })?;
    let proofs = Proofs::new(code, &seen);
    let client = Client::elsewhere(address, seen, format!("Pair {}", proofs.client()));
    let paired: Paired = client.ask(Method::POST, PAIR)?;
    if !proofs.is_server(&paired.proof) {
        return Err(ClientError::Impostor { at: address.to_owned() });
    }
    let Paired { key, name, role, proof: _ } = paired;
    Ok(KeyFile { address: address.to_owned(), fingerprint: seen, name, role, key })
}

/// A TLS connection with whoever has this certificate, or with anybody.
pub(super) async fn connect(
    address: &str,
    fingerprint: Option<Digest>,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let at = || address.to_owned();
    let broken = |reason: String| ClientError::Broken { at: at(), reason };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| ClientError::Unreachable { at: at(), source })?;
    stream.set_nodelay(true).map_err(|e| broken(e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pin = Pin { fingerprint, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| broken(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).map_err(|e| broken(e.to_string()))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| {
        let wrong =
            rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let tls = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        match tls == Some(&wrong) {
            true => ClientError::Certificate { at: at() },
            false => broken(e.to_string()),
        }
    })
}

/// Believes one certificate, or any, as long as its owner signs the handshake with it.
#[derive(Debug)]
struct Pin {
    fingerprint: Option<Digest>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.fingerprint {
            Some(pinned) if pinned != Digest::of(certificate) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is expected".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_pairing_links_are_read_and_others_refused() {
        let digest = "5a".repeat(32);
        let link = format!("https://robot:7423/#pair=K7Q2M-9XRTP&sha256={digest}");
        let read: RemoteAddress = link.parse().unwrap();
        assert_eq!(
            (read.authority.as_str(), read.code.as_deref()),
            ("robot:7423", Some("K7Q2M-9XRTP"))
        );
        assert_eq!(read.fingerprint.unwrap().to_string(), digest);
        for good in ["https://10.0.0.7:1", "https://[::1]:7423/"] {
            assert!(good.parse::<RemoteAddress>().is_ok(), "{good}");
        }
        for bad in [
            "http://robot:1",
            "https://robot",
            "https://a@robot:1",
            "robot:1",
            "https://x:1#sha256=5a",
        ] {
            assert!(bad.parse::<RemoteAddress>().is_err(), "{bad}");
        }
    }
}
