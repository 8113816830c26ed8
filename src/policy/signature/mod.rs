//! Who made a policy: signatures in minisign's format (Ed25519 over BLAKE2b-512, or over the file
//! itself in its older one), checked before anything of the policy is parsed.
//!
//! The trusted comment, which is signed too, says what the policy is for:
//! `regoal policy<TAB>robot:so101<TAB>version:3<TAB>expires:2027-01-31<TAB>policy:<id>`.

mod claims;
mod keys;

use std::io::Cursor;
use std::path::Path;

use minisign::{PublicKey, SignatureBox};

use self::claims::CLAIMS;
use super::id_of;
use crate::config::PolicyConfig;
use crate::storage::Storage;

pub use claims::Claims;
pub use keys::{Keys, Signer};

/// A policy file may be this long (bytes).
pub const MAX_POLICY: usize = 256 << 20;
/// A file of signatures may be this long (bytes).
pub const MAX_SIGNATURES: usize = 64 << 10;

/// Why a signature, a key or a signed policy was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// More than is ever read.
    #[error("expected at most {limit} bytes, found more: nothing of it was used")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
    /// Signatures are needed, and there is none.
    #[error(
        "the policy is not signed, and this robot takes only signed ones: `regoal policy sign`"
    )]
    Unsigned,
    /// Not in minisign's format.
    #[error("not a signature in minisign's format: {0}")]
    BadFormat(String),
    /// Something stands beside the signatures.
    #[error("expected signatures of four lines each and nothing else, found `{found}`")]
    Extraneous {
        /// What was found.
        found: String,
    },
    /// Nobody whom the robot trusts has signed.
    #[error("signed by key {key}, which is none of policy.trusted_keys")]
    UnknownKey {
        /// Its id.
        key: String,
    },
    /// Signed with a key that is trusted no more.
    #[error("signed by key {key}, which is revoked: sign it again with another one")]
    Revoked {
        /// Its id.
        key: String,
    },
    /// The file or the comment is not what was signed.
    #[error("the signature of key {key} is not of this file and comment: one of them was changed")]
    BadSignature {
        /// The key's id.
        key: String,
    },
    /// Not enough trusted keys have signed.
    #[error(
        "expected signatures of {needed} trusted keys, found {found}: `regoal policy sign --add`"
    )]
    TooFew {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// The signatures do not say the same, or not of this policy.
    #[error("put together of different policies: one part says `{one}`, another `{other}`")]
    Mixed {
        /// What one part says.
        one: String,
        /// What the other says.
        other: String,
    },
    /// The signature does not say what the policy is for.
    #[error(
        "the trusted comment does not say what the policy is for: expected `{CLAIMS}`, found `{found}`"
    )]
    BadClaims {
        /// What it says.
        found: String,
    },
    /// Signed for robots of another type.
    #[error("signed for robots of type {signed}, but this one is a {robot}")]
    WrongRobot {
        /// What was signed.
        signed: String,
        /// This robot's model.
        robot: String,
    },
    /// Too old.
    #[error("the signature expired on {date}: ask for a newer one, or set the clock")]
    Expired {
        /// Its last day.
        date: String,
    },
    /// A key cannot be used.
    #[error("{what}: {reason}")]
    BadKey {
        /// Which key.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Whose signatures count.
#[derive(Debug, Clone)]
pub struct Trust {
    keys: Vec<PublicKey>,
    revoked: Vec<String>,
    threshold: usize,
}

impl Trust {
    /// The keys of a configuration.
    ///
    /// # Errors
    /// One of them is no key, or two have the same id.
    pub fn of(config: &PolicyConfig) -> Result<Self, SignatureError> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for text in &config.trusted_keys {
            let key = public_key(text)?;
            if keys.iter().any(|other| other.keynum() == key.keynum()) {
                let what = format!("policy.trusted_keys: `{text}`");
                return Err(SignatureError::BadKey {
                    what,
                    reason: "its id is there twice".into(),
                });
            }
            keys.push(key);
        }
        let is_id = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let revoked = config.revoked_keys.iter().map(|text| match is_id(text) {
            true => Ok(text.to_uppercase()),
            false => Ok(id_of_key(public_key(text)?.keynum())),
        });
        let revoked = revoked.collect::<Result<_, SignatureError>>()?;
        Ok(Self { keys, revoked, threshold: config.threshold })
    }

    /// Whether a policy must be signed.
    pub fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What the signatures of a file say of it; nothing where none are needed.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn admit(
        &self,
        file: &[u8],
        signatures: Option<&str>,
    ) -> Result<Option<Claims>, SignatureError> {
        if !self.is_required() {
            return Ok(None);
        }
        self.verify(file, signatures.ok_or(SignatureError::Unsigned)?).map(Some)
    }

    /// Checks a file against its signatures: as many trusted keys as needed have signed it, they say
    /// the same, and they say it of this file.
    ///
    /// # Errors
    /// Why it must not be used; nothing of the file has been parsed.
    pub fn verify(&self, file: &[u8], signatures: &str) -> Result<Claims, SignatureError> {
        if file.len() > MAX_POLICY {
            return Err(SignatureError::TooLong { limit: MAX_POLICY });
        }
        let mut said: Option<Claims> = None;
        let (mut signers, mut uncounted) = (Vec::new(), None);
        for signature in split(signatures)? {
            let id = id_of_key(signature.keynum());
            if self.revoked.contains(&id) {
                uncounted = Some(SignatureError::Revoked { key: id });
                continue;
            }
            let Some(key) = self.keys.iter().find(|key| key.keynum() == signature.keynum()) else {
                uncounted.get_or_insert(SignatureError::UnknownKey { key: id });
                continue;
            };
            minisign::verify(key, &signature, Cursor::new(file), true, false, true)
                .map_err(|_| SignatureError::BadSignature { key: id.clone() })?;
            let claims = Claims::parse(&comment_of(&signature)?)?;
            if let Some(other) = said.as_ref().filter(|other| **other != claims) {
                let (one, other) = (claims.to_string(), other.to_string());
                return Err(SignatureError::Mixed { one, other });
            }
            said = Some(claims);
            if !signers.contains(&id) {
                signers.push(id);
            }
        }
        let Some(claims) = said.filter(|_| signers.len() >= self.threshold) else {
            let few = SignatureError::TooFew { needed: self.threshold, found: signers.len() };
            return Err(uncounted.filter(|_| signers.is_empty()).unwrap_or(few));
        };
        let (one, other) = (claims.policy.to_string(), id_of(file).to_string());
        if one == other { Ok(claims) } else { Err(SignatureError::Mixed { one, other }) }
    }
}

/// A key's id as minisign writes it.
fn id_of_key(keynum: &[u8]) -> String {
    keynum.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// A public key from its line, or from the two lines of its file.
fn public_key(text: &str) -> Result<PublicKey, SignatureError> {
    let line = text.trim().lines().last().unwrap_or_default();
    let key = PublicKey::from_base64(line).ok().filter(|key| key.to_base64() == line);
    key.ok_or_else(|| SignatureError::BadKey {
        what: format!("`{text}`"),
        reason: "expected a public key of minisign, 56 characters that begin with RW".into(),
    })
}

fn comment_of(signature: &SignatureBox) -> Result<String, SignatureError> {
    signature.trusted_comment().map_err(|e| SignatureError::BadFormat(e.to_string()))
}

/// The characters of 74 and of 64 bytes in base 64.
const SIGNATURE_LINE: usize = 100;
const COMMENT_SIGNATURE_LINE: usize = 88;

/// Each signature of a text; written in no way but minisign's own.
fn split(text: &str) -> Result<Vec<SignatureBox>, SignatureError> {
    if text.len() > MAX_SIGNATURES {
        return Err(SignatureError::TooLong { limit: MAX_SIGNATURES });
    }
    if text.is_empty() {
        return Err(SignatureError::Unsigned);
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.chunks(4).map(one).collect()
}

/// One signature of four lines. The crate reads a comment's signature of any length, panics on a
/// short one and passes a long one: it is checked here that all is as long as it must be and written
/// as minisign would write it.
fn one(lines: &[&str]) -> Result<SignatureBox, SignatureError> {
    let [_, signature, _, comment_signature] = lines else {
        let found = lines.first().map_or("", |line| line.trim_end()).chars().take(80).collect();
        return Err(SignatureError::Extraneous { found });
    };
    let bad = |what: &str| SignatureError::BadFormat(what.into());
    let (signature, comment_signature) = (signature.trim_end(), comment_signature.trim_end());
    let whole = signature.len() == SIGNATURE_LINE
        && comment_signature.len() == COMMENT_SIGNATURE_LINE
        && comment_signature.ends_with("==");
    if !whole {
        return Err(bad("expected a signature of 74 bytes, and one of the comment of 64"));
    }
    let text = lines.concat();
    let parsed = SignatureBox::from_string(&text).map_err(|e| bad(&e.to_string()))?;
    if parsed.to_string() != text {
        return Err(bad("expected lines as minisign writes them"));
    }
    Ok(parsed)
}

/// A file of at most so many bytes; of a longer one no more is read.
///
/// # Errors
/// The file cannot be read; inside, that it is too long.
pub fn read_at_most(
    storage: &dyn Storage,
    path: &Path,
    limit: usize,
) -> std::io::Result<Result<Vec<u8>, SignatureError>> {
    let bytes = storage.read_at(path, 0, limit + 1)?;
    Ok(if bytes.len() > limit { Err(SignatureError::TooLong { limit }) } else { Ok(bytes) })
}
