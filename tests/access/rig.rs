//! A robot that remembers what it was told, served over TLS, and clients that keep to no rules.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ct_codecs::{Base64, Decoder as _};
use regoal::clock::ManualClock;
use regoal::daemon::{
    Access, Client, Doors, KeyFile, PairingReply, PairingRequest, Role, Server, Service, pair,
};
use regoal::storage::{Disk, Storage};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;

use crate::stub::Stub;

pub struct Rig {
    pub stub: Arc<Stub>,
    pub clock: ManualClock,
    pub access: Arc<Access>,
    pub at: SocketAddr,
    server: Server,
    folder: TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let shared = Arc::new(clock.clone());
        let access = Access::open(&storage, shared.clone(), &folder.path().join("access")).unwrap();
        let stub = Arc::new(Stub { quick: true, ..Stub::default() });
        let service = Service {
            robot: stub.clone(),
            clock: shared,
            episodes: None,
            policies: None,
            jobs: None,
        };
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let doors = Doors { access: access.clone(), listen, page: Some(0) };
        let socket = folder.path().join("api");
        let server = Server::start(&socket, service, storage, Some(doors)).unwrap();
        let at = server.listening().unwrap();
        Self { stub, clock, access, at, server, folder }
    }

    pub fn owner(&self) -> Client {
        Client::new(self.server.socket())
    }

    /// A file of the robot's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("access").join(name)
    }

    pub fn invite(&self, name: &str, role: Role, expires_s: Option<u64>) -> PairingReply {
        let request = PairingRequest { name: name.into(), role, expires_s };
        self.owner().start_pairing(&request).unwrap()
    }

    pub fn pair(&self, name: &str, role: Role, expires_s: Option<u64>) -> KeyFile {
        let code = self.invite(name, role, expires_s).code;
        pair(&self.at.to_string(), &code, None).unwrap()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        let kept = std::fs::read(self.file("certificate.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        let text = kept["certificate"].as_str().unwrap();
        Base64::decode_to_vec(text, None).unwrap().into()
    }

    pub fn tcp(&self) -> TcpStream {
        connect(self.at)
    }

    pub fn tls(
        &self,
        version: &'static SupportedProtocolVersion,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("regoal").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, self.tcp())
    }

    /// What is answered over TLS 1.3 to these bytes.
    pub fn ask(&self, bytes: &str) -> String {
        exchange(&mut self.tls(&rustls::version::TLS13), bytes)
    }
}

pub fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes and reads the first answer's head and what comes with it; empty when there is none.
pub fn exchange(stream: &mut (impl Read + Write), bytes: &str) -> String {
    let _ = stream.write_all(bytes.as_bytes()).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend(&buffer[..n]),
        }
        if answer.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of an answer; 0 for none in HTTP.
pub fn status(answer: &str) -> u16 {
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.map_or(0, |code| code.parse().unwrap())
}
