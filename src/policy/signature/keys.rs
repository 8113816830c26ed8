//! Keys in minisign's format, and what is signed with them.

use std::io::Cursor;

use ct_codecs::{Base64, Decoder as _};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};

use super::{Claims, SignatureError, id_of_key};
use crate::policy::id_of;

/// A new pair of keys in minisign's format; the secret one encrypted where there is a password.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The text of the public key's file.
    pub public: String,
    /// The text of the secret key's file.
    pub secret: String,
    /// Its id.
    pub id: String,
}

impl Keys {
    /// Draws a pair of keys from the system's randomness.
    ///
    /// # Errors
    /// The system gives no randomness, or too little memory to encrypt.
    pub fn generate(password: Option<String>) -> Result<Self, SignatureError> {
        let pair = match password {
            Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
            None => KeyPair::generate_unencrypted_keypair(),
        };
        let texts = pair.and_then(|pair| {
            let (public, secret) =
                (pair.pk.to_box()?.to_string(), pair.sk.to_box(None)?.to_string());
            Ok(Self { public, secret, id: id_of_key(pair.pk.keynum()) })
        });
        texts.map_err(|e| bad_key("a new pair of keys", &e))
    }
}

/// A secret key, ready to sign.
pub struct Signer(SecretKey);

impl Signer {
    /// Whether the text of a secret key's file is encrypted.
    ///
    /// # Errors
    /// Not a secret key.
    pub fn needs_password(secret: &str) -> Result<bool, SignatureError> {
        Ok(raw(secret)?.get(2..4) != Some(&[0, 0]))
    }

    /// Reads the text of a secret key's file, with a password where it is encrypted.
    ///
    /// # Errors
    /// Not a secret key, or another password.
    pub fn read(secret: &str, password: Option<String>) -> Result<Self, SignatureError> {
        let bytes = raw(secret)?;
        let text = SecretKeyBox::from(secret.to_owned());
        // minisign writes no checksum into a key that it does not encrypt, which the crate misses.
        let unchecked = bytes.ends_with(&[0; CHECKSUM_BYTES]);
        let key = match password {
            Some(password) => text.into_secret_key(Some(password)),
            None if unchecked && !Self::needs_password(secret)? => SecretKey::from_bytes(&bytes),
            None => text.into_unencrypted_secret_key(),
        };
        key.map(Self).map_err(|e| bad_key("the secret key", &e))
    }

    /// Signs a file and what is said of it.
    ///
    /// # Errors
    /// The claims are not of this file or cannot be written down; the system gives no randomness.
    pub fn sign(&self, file: &[u8], claims: &Claims) -> Result<String, SignatureError> {
        let comment = claims.to_string();
        if Claims::parse(&comment)?.policy != id_of(file) {
            let (one, other) = (comment, id_of(file).to_string());
            return Err(SignatureError::Mixed { one, other });
        }
        let about = "signature of a regoal policy";
        let bad = |e: minisign::PError| bad_key("the secret key", &e);
        let public = PublicKey::from_secret_key(&self.0).map_err(bad)?;
        minisign::sign(Some(&public), &self.0, Cursor::new(file), Some(&comment), Some(about))
            .map(|signature| signature.to_string())
            .map_err(bad)
    }
}

const CHECKSUM_BYTES: usize = 32;

/// A secret key's bytes: algorithms, salt, costs of the encryption, id, key, checksum.
fn raw(secret: &str) -> Result<Vec<u8>, SignatureError> {
    let line = secret.lines().nth(1).unwrap_or_default();
    let bytes = Base64::decode_to_vec(line, None).ok().filter(|bytes| bytes.len() == 158);
    bytes.ok_or_else(|| SignatureError::BadKey {
        what: "the secret key".into(),
        reason: "expected two lines in minisign's format".into(),
    })
}

fn bad_key(what: &str, error: &minisign::PError) -> SignatureError {
    SignatureError::BadKey { what: what.into(), reason: error.to_string() }
}
