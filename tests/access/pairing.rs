//! Pairing: what becomes of codes, of those who stand in between, and of keys that are taken back.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use regoal::daemon::{Client, ClientError, Code, Command, Digest, Role, pair};
use rustls::version::TLS13;

use crate::rig::{Rig, exchange, status};

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Code {
    match answer.unwrap_err() {
        ClientError::Refused(reply) => reply.code,
        other => panic!("{other}"),
    }
}

#[test]
fn a_paired_client_may_what_its_role_says_until_its_key_is_taken_back() {
    let rig = Rig::new();
    let client = Client::with_key(&rig.pair("wall", Role::Observe, None));
    assert!(client.status().unwrap().alive);
    client.command(Command::EmergencyStop).unwrap();
    assert_eq!(refused(client.command(Command::Arm)), Code::Forbidden);
    assert_eq!(refused(client.keys()), Code::Forbidden);
    assert_eq!(*rig.stub.told.lock().unwrap(), [Command::EmergencyStop]);
    rig.owner().revoke("wall").unwrap();
    assert_eq!(refused(client.status()), Code::Unauthorized);
    assert_eq!(refused(rig.owner().revoke("nobody")), Code::NotFound);
}

#[test]
fn a_code_opens_once_within_its_time_and_dies_after_three_wrong_tries() {
    let rig = Rig::new();
    let at = rig.at.to_string();
    let spent = rig.invite("a", Role::Goal, None).code;
    pair(&at, &spent, None).unwrap();
    assert_eq!(refused(pair(&at, &spent, None)), Code::Unauthorized);

    let old = rig.invite("b", Role::Goal, None).code;
    rig.clock.advance(Duration::from_secs(121));
    assert_eq!(refused(pair(&at, &old, None)), Code::Unauthorized);

    let tried = rig.invite("b", Role::Goal, None).code;
    for _ in 0..3 {
        assert_eq!(refused(pair(&at, "00000-00000", None)), Code::Unauthorized);
    }
    assert_eq!(refused(pair(&at, &tried, None)), Code::Unauthorized);
    assert_eq!(rig.access.keys().len(), 1);

    let request =
        regoal::daemon::PairingRequest { name: "a".into(), role: Role::Goal, expires_s: None };
    assert_eq!(refused(rig.owner().start_pairing(&request)), Code::Refused, "the name is taken");
}

#[test]
fn who_stands_in_between_gets_no_key_and_gives_none() {
    let (robot, between) = (Rig::new(), Rig::new());
    let code = robot.invite("tablet", Role::Admin, None).code;
    // The client reaches somebody who knows another code: its proof is refused there, and it is for
    // the wrong certificate at the robot.
    between.invite("tablet", Role::Admin, None);
    assert_eq!(refused(pair(&between.at.to_string(), &code, None)), Code::Unauthorized);
    let proof = regoal::daemon::Proofs::new(&code, &between.access.fingerprint()).client();
    let request =
        format!("POST /v1/pair HTTP/1.1\r\nhost: x\r\nauthorization: Pair {proof}\r\n\r\n");
    assert_eq!(status(&robot.ask(&request)), 401);
    // With a link that says which certificate, nothing at all is said to somebody else.
    let told = pair(&between.at.to_string(), &code, Some(robot.access.fingerprint()));
    assert!(matches!(told.unwrap_err(), ClientError::Certificate { .. }));
    // The same later: the key goes nowhere but to the robot.
    let mut key = pair(&robot.at.to_string(), &code, None).unwrap();
    key.address = between.at.to_string();
    let asked = Client::with_key(&key).status();
    assert!(matches!(asked.unwrap_err(), ClientError::Certificate { .. }));
}

#[test]
fn keys_and_certificate_outlive_the_daemon() {
    let rig = Rig::new();
    let key = rig.pair("tablet", Role::Goal, Some(60));
    let storage: std::sync::Arc<dyn regoal::storage::Storage> =
        std::sync::Arc::new(regoal::storage::Disk);
    let clock = std::sync::Arc::new(rig.clock.clone());
    let folder = rig.file("keys.json").parent().unwrap().to_owned();
    let again = regoal::daemon::Access::open(&storage, clock, &folder).unwrap();
    assert_eq!((again.fingerprint(), again.keys()), (rig.access.fingerprint(), rig.access.keys()));
    assert_eq!(Digest::try_from(again.fingerprint().to_string()), Ok(key.fingerprint));
}

#[test]
fn a_websocket_is_cut_off_when_its_key_is_taken_back() {
    let rig = Rig::new();
    let key = rig.pair("wall", Role::Observe, None).key;
    let mut stream = rig.tls(&TLS13);
    let head = format!(
        "GET /v1/telemetry?rate=5 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    assert_eq!(status(&exchange(&mut stream, &head)), 101);
    stream.flush().unwrap();
    rig.owner().revoke("wall").unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    let timed_out = |e: &std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
    assert!(!ended.is_err_and(|e| timed_out(&e)), "it goes on");
}
