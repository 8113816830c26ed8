//! How a new client gets its key: both sides prove that they know a code that a person has carried
//! from one to the other, and that they see the same certificate.
//!
//! From the code, salted with the certificate's fingerprint that each side sees, PBKDF2 makes two
//! proofs, the client's and the server's. Who stands in between shows another certificate, so the
//! proof that it gets is of no use at the server, and it has none to show to the client. (A browser
//! shows the code itself: the person who opens its link looks at the certificate instead.) To find the
//! code from a proof it would have to try 2^50 codes, each 100,000 rounds long, within two minutes.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::AccessError;
use super::secret::{self, Digest, Secret, hex};
use crate::clock::Time;
use crate::daemon::operation::{Body, Role};

/// How long a code may be used.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Wrong proofs after which a code is dead.
const TRIES: u32 = 3;
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
/// Letters and digits that nobody confuses: 32, so each is five bits.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// In a code: 50 bits.
const LETTERS: usize = 10;

/// For whom a code shall be: the body of `POST /v1/pairing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingRequest {
    /// Whose key it will be.
    pub name: String,
    /// What it will allow.
    pub role: Role,
    /// How long it will be valid (s); for ever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
}

impl Body for PairingRequest {
    const EXAMPLE: &'static str = r#"{"name": "tablet", "role": "goal"}"#;
}

/// What a person tells the new client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PairingReply {
    /// To be used once.
    pub code: String,
    /// How long it may be used (s).
    pub seconds: u64,
    /// Where the robot is, as `https://robot:port`.
    pub address: String,
    /// The SHA-256 of the robot's certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Opens the page in a browser, which gets its key by it.
    pub page: String,
}

impl PairingReply {
    /// Address, code and fingerprint in one, for `regoal pair --to` and for a camera.
    pub fn link(&self) -> String {
        format!("{}/#pair={}&sha256={}", self.address, self.code, self.fingerprint)
    }
}

/// What a new client gets.
#[derive(Serialize, Deserialize)]
pub struct Paired {
    /// Its key: 64 hexadecimal digits.
    pub key: String,
    /// Its name.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// The server's proof: 64 hexadecimal digits.
    pub proof: String,
}

impl std::fmt::Debug for Paired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paired").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What both sides make of a code and the certificate that they see.
pub struct Proofs {
    client: [u8; 32],
    server: [u8; 32],
}

impl Proofs {
    /// Of a code as it was typed: small letters, hyphens and blanks do not matter.
    pub fn new(code: &str, fingerprint: &Digest) -> Self {
        let plain = plain(code);
        let mut both = [0; 64];
        let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
        ring::pbkdf2::derive(algorithm, ROUNDS, fingerprint.bytes(), &plain, &mut both);
        let (mut client, mut server) = ([0; 32], [0; 32]);
        let (first, second) = both.split_at(32);
        client.copy_from_slice(first);
        server.copy_from_slice(second);
        Self { client, server }
    }

    /// What a client shows: 64 hexadecimal digits.
    pub fn client(&self) -> String {
        hex(&self.client)
    }

    pub(super) fn server(&self) -> String {
        hex(&self.server)
    }

    /// Whether a server knows the code and has the certificate that was seen.
    pub fn is_server(&self, shown: &str) -> bool {
        Secret::parse(shown)
            .is_some_and(|shown| shown.digest().ct_eq(&Digest::of(&self.server)).into())
    }

    fn is_client(&self, shown: &Secret) -> bool {
        shown.digest().ct_eq(&Digest::of(&self.client)).into()
    }
}

/// The letters and digits of a code as it was typed.
fn plain(code: &str) -> Vec<u8> {
    let letters = code.bytes().filter(u8::is_ascii_alphanumeric);
    let plain = letters.map(|letter| match letter.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        letter => letter,
    });
    plain.collect()
}

/// What somebody who wants a key shows.
pub(super) enum Shown {
    /// A client's proof.
    Proof(Secret),
    /// The code itself: a browser has no other way.
    Code(String),
}

/// A code that waits for its client.
pub(super) struct Pairing {
    code: Digest,
    pub(super) proofs: Proofs,
    pub(super) request: PairingRequest,
    until: Time,
    tries: u32,
}

impl Pairing {
    pub(super) fn new((code, proofs): (&str, Proofs), request: PairingRequest, now: Time) -> Self {
        let code = Digest::of(&plain(code));
        Self { code, proofs, request, until: now + PATIENCE, tries: TRIES }
    }

    /// Whether this opens it; it counts the tries. One that did is used up by its caller.
    pub(super) fn is_opened_by(&mut self, shown: &Shown, now: Time) -> bool {
        if now >= self.until || self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        match shown {
            Shown::Proof(proof) => self.proofs.is_client(proof),
            Shown::Code(code) => self.code.ct_eq(&Digest::of(&plain(code))).into(),
        }
    }
}

/// A new code, such as `K7Q2M-9XRTP`.
pub(super) fn code() -> Result<String, AccessError> {
    let mut bytes = [0; LETTERS];
    secret::fill(&mut bytes)?;
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).map_or('0', |c| char::from(*c));
    let mut code: String = bytes.iter().map(letter).collect();
    code.insert(LETTERS / 2, '-');
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed_and_another_with_another_certificate() {
        let (here, elsewhere) = (Digest::of(b"here"), Digest::of(b"elsewhere"));
        let shown = Proofs::new("K7Q2M-1XR0P", &here);
        for typed in ["k7q2m-1xr0p", "K7Q2M 1XR0P", "k7q2mlxrop"] {
            assert_eq!(shown.client(), Proofs::new(typed, &here).client(), "{typed}");
        }
        let between = Proofs::new("K7Q2M-1XR0P", &elsewhere);
        assert_ne!(shown.client(), between.client());
        assert!(!between.is_server(&shown.server()) && shown.is_server(&shown.server()));
        assert!(!shown.is_server(&shown.client()), "an echo proves nothing");
    }

    #[test]
    fn codes_differ() {
        let codes: std::collections::HashSet<_> = (0..100).map(|_| code().unwrap()).collect();
        assert!(codes.len() == 100 && codes.iter().all(|code| code.len() == 11), "{codes:?}");
    }
}
