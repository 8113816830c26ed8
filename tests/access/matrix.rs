//! A1: every operation, asked with every role and every kind of key that is none.

use regoal::daemon::{KeyFile, Operation, Proofs, Role, operations};
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::bench::report;
use crate::rig::{Rig, exchange, status};
use crate::seed;

/// What a client shows, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Valid,
    Nothing,
    Wrong,
    Revoked,
    Expired,
    /// The proof of a pairing, once more.
    Replayed,
    /// The same key twice, of which one could be read here and the other there.
    Twice,
    PlainHttp,
    OldTls,
}

const SHOWS: [Shows; 9] = [
    Shows::Valid,
    Shows::Nothing,
    Shows::Wrong,
    Shows::Revoked,
    Shows::Expired,
    Shows::Replayed,
    Shows::Twice,
    Shows::PlainHttp,
    Shows::OldTls,
];

/// The keys of one role.
struct Keys {
    role: Role,
    valid: KeyFile,
    revoked: KeyFile,
    expired: KeyFile,
    /// The proof by which the valid one was got.
    proof: String,
}

impl Keys {
    fn of(role: Role, rig: &Rig) -> Self {
        let revoked = rig.pair(&format!("revoked {role}"), role, None);
        rig.owner().revoke(&revoked.name).unwrap();
        let expired = rig.pair(&format!("expired {role}"), role, Some(10));
        let invited = rig.invite(&format!("valid {role}"), role, None);
        let valid = regoal::daemon::pair(&rig.at.to_string(), &invited.code, None).unwrap();
        let proof = Proofs::new(&invited.code, &rig.access.fingerprint()).client();
        Self { role, valid, revoked, expired, proof }
    }

    fn header(&self, shows: Shows) -> String {
        let key = |key: &str| format!("authorization: Bearer {key}\r\n");
        let valid = key(&self.valid.key);
        match shows {
            Shows::Valid | Shows::PlainHttp | Shows::OldTls => valid,
            Shows::Nothing => String::new(),
            Shows::Wrong => {
                let (first, rest) = self.valid.key.split_at(1);
                key(&format!("{}{rest}", if first == "0" { "1" } else { "0" }))
            }
            Shows::Revoked => key(&self.revoked.key),
            Shows::Expired => key(&self.expired.key),
            Shows::Replayed => format!("authorization: Pair {}\r\n", self.proof),
            Shows::Twice => valid.repeat(2),
        }
    }
}

/// The answer's status for one cell. A body is announced; that of one who may not never comes, so
/// the answer does not depend on it.
fn cell(rig: &Rig, operation: &Operation, keys: &Keys, shows: Shows) -> u16 {
    let may = shows == Shows::Valid && keys.role >= operation.role;
    let path = operation.path.replace("{id}", "1");
    let (length, body) = if may { (1, "!") } else { (1000, "") };
    let (method, header) = (&operation.method, keys.header(shows));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\n{header}content-length: {length}\r\n\r\n{body}"
    );
    status(&match shows {
        Shows::PlainHttp => exchange(&mut rig.tcp(), &request),
        Shows::OldTls => exchange(&mut rig.tls(&TLS12), &request),
        _ => exchange(&mut rig.tls(&TLS13), &request),
    })
}

/// What the answer must be; none for one that is let through.
fn expected(operation: &Operation, role: Role, shows: Shows) -> Option<u16> {
    match shows {
        Shows::Valid if role >= operation.role => None,
        Shows::Valid => Some(403),
        Shows::PlainHttp | Shows::OldTls => Some(0),
        _ => Some(401),
    }
}

#[test]
fn a1_every_forbidden_request_is_refused_before_its_body_and_every_other_gets_through() {
    let rig = Rig::new();
    let keys = Role::ALL.map(|role| Keys::of(role, &rig));
    rig.clock.advance(std::time::Duration::from_secs(11));
    let (mut cells, mut forbidden, mut wrong) = (0_u64, 0, Vec::new());
    for operation in operations() {
        for keys in &keys {
            for shows in SHOWS {
                let before = rig.stub.told.lock().unwrap().len();
                let found = cell(&rig, &operation, keys, shows);
                let must = expected(&operation, keys.role, shows);
                let told = rig.stub.told.lock().unwrap().len() - before;
                let good = match must {
                    Some(must) => found == must && told == 0,
                    None => found != 0 && found != 401 && found != 403,
                };
                cells += 1;
                forbidden += u64::from(must.is_some());
                if !good {
                    let (name, role) = (operation.name, keys.role);
                    wrong.push(format!("{name} as {role}, {shows:?}: {found}, {told} told"));
                }
            }
        }
    }
    // A proof opens once, and never without its code.
    for keys in &keys {
        for header in [keys.header(Shows::Replayed), keys.header(Shows::Valid), String::new()] {
            let request = format!("POST /v1/pair HTTP/1.1\r\nhost: x\r\n{header}\r\n");
            let found = status(&rig.ask(&request));
            (cells, forbidden) = (cells + 1, forbidden + 1);
            if found != 401 {
                wrong.push(format!("pair with {header:?}: {found}"));
            }
        }
    }
    let figures = json!({ "forbidden": forbidden, "allowed": cells - forbidden });
    report("A1", seed(), cells, wrong.len() as u64, figures);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cells >= 300, "{cells}");
}
