//! A5: no key, code, proof or link stands in a log, an output or an error, and each file with one is
//! its owner's alone.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock};
use regoal::daemon::{Client, Digest, KeyFile, PairingReply, Proofs};
use regoal::storage::{Disk, Storage as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::bench::report;
use crate::patience::{NEVER_HUNG, patient};
use crate::rig::exchange;
use crate::seed;

pub const ROBOT: &str = include_str!("../../firmware-config/emulated.toml");

/// What a process has said so far.
type Said = Arc<Mutex<String>>;

/// `regoal run` on an emulated arm, served over TLS.
pub struct Daemon {
    folder: TempDir,
    child: Child,
    said: Said,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The control process ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(to: impl std::io::Read + Send + 'static, said: &Said) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(to).lines().map_while(Result::ok) {
            said.lock().unwrap().push_str(&(line + "\n"));
        }
    });
}

impl Daemon {
    /// Again and again: on a computer busy with tests the emulated servos may answer too late.
    pub fn start(arguments: &[&str]) -> Self {
        let ready = |daemon: &Self| daemon.wait_for("disarmed: ").is_some();
        (0..10).map(|_| Self::begin(arguments)).find(ready).expect("ten starts have failed")
    }

    fn begin(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        let robot = patient(ROBOT, NEVER_HUNG);
        Disk.replace(&inside("arm.toml"), robot.as_bytes()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.arg("run").arg("--robot").arg(inside("arm.toml"));
        command.arg("--socket").arg(inside("api")).arg("--episodes").arg(inside("episodes"));
        command.arg("--access").arg(inside("access")).args(["--listen", "127.0.0.1:0", "--page"]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Said::default();
        listen(child.stdout.take().unwrap(), &said);
        listen(child.stderr.take().unwrap(), &said);
        Self { folder, child, said }
    }

    /// The rest of the first line with this in it, once it is said; none when something failed first.
    fn wait_for(&self, text: &str) -> Option<String> {
        for _ in 0..60_000 {
            let said = self.said.lock().unwrap().clone();
            if let Some((_, rest)) = said.split_once(text) {
                return rest.split_once('\n').map(|(line, _)| line.to_owned());
            }
            if said.contains("error: ") {
                return None;
            }
            SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(1));
        }
        panic!("expected {text:?}, found {}", self.said.lock().unwrap());
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("api")
    }

    pub fn client(&self) -> Client {
        Client::new(self.socket())
    }

    pub fn listening(&self) -> SocketAddr {
        let rest = self.wait_for("clients with a key at ").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The process that controls the arm.
    pub fn control(&self) -> u32 {
        let pid = self.child.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Runs another verb with its own configuration folder.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.env("XDG_CONFIG_HOME", self.folder.path().join("config")).env("RUST_LOG", "trace");
        command.args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn invite(&self, name: &str, role: &str) -> PairingReply {
        let socket = self.socket();
        let told = self.verb(&[
            "pair",
            "--json",
            "--name",
            name,
            "--role",
            role,
            "--socket",
            socket.to_str().unwrap(),
        ]);
        serde_json::from_slice(&told.stdout).unwrap()
    }

    pub fn pair(&self, name: &str, role: &str) -> KeyFile {
        let code = self.invite(name, role).code;
        regoal::daemon::pair(&self.listening().to_string(), &code, None).unwrap()
    }

    /// TLS as any program would speak it that knows the certificate.
    pub fn tls(
        &self,
        fingerprint: Digest,
        stream: TcpStream,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Known(fingerprint)))
                .with_no_client_auth();
        let name = ServerName::try_from("regoal").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}

/// Knows a certificate by its fingerprint.
#[derive(Debug)]
struct Known(Digest);

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(Digest::of(certificate), self.0);
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Files under a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// All that verbs say about a robot elsewhere, rightly and wrongly asked.
fn outputs(daemon: &Daemon, link: &str, code: &str) -> String {
    let (at, socket) = (format!("https://{}", daemon.listening()), daemon.socket());
    let (at, socket) = (at.as_str(), socket.to_str().unwrap());
    let mut said = String::new();
    let mut run = |arguments: &[&str]| {
        let output = daemon.verb(arguments);
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        output.status.success()
    };
    assert!(run(&["pair", "--to", link]));
    assert!(!run(&["pair", "--to", link]), "the code is used up");
    assert!(run(&["status", "--to", at]) && run(&["stop", "--emergency", "--to", at]));
    assert!(!run(&["arm", "--to", at]), "its role is too weak");
    assert!(!run(&["keys", "ls", "--to", at]));
    assert!(run(&["keys", "ls", "--socket", socket]));
    assert!(run(&["keys", "ls", "--json", "--socket", socket]));
    assert!(run(&["keys", "revoke", "tablet", "--socket", socket]));
    assert!(!run(&["status", "--to", at]), "its key is taken back");
    assert!(!run(&["-vv", "status", "--to", "https://127.0.0.1:1"]));
    // The link says it where it is given; nobody says it again.
    assert!(!said.contains(code), "{said}");
    said
}

/// A browser elsewhere opens its link: the code in it, and the key in its cookie.
fn visit(daemon: &Daemon) -> (String, String) {
    let PairingReply { code, fingerprint, .. } = daemon.invite("wall", "observe");
    let stream = TcpStream::connect(daemon.listening()).unwrap();
    let mut tls = daemon.tls(Digest::try_from(fingerprint).unwrap(), stream);
    let request = format!("GET /?pair={code} HTTP/1.1\r\nhost: robot:1\r\n\r\n");
    let answer = exchange(&mut tls, &request);
    let (_, rest) = answer.split_once("__Host-regoal-1=").unwrap();
    (code, rest[..64].to_owned())
}

#[test]
fn a5_no_secret_stands_in_a_log_or_an_output_and_its_files_are_their_owners() {
    let daemon = Daemon::start(&["-vv"]);
    let socket = daemon.socket();
    let opened = daemon.verb(&["pair", "--page", "--json", "--socket", socket.to_str().unwrap()]);
    let opened: serde_json::Value = serde_json::from_slice(&opened.stdout).unwrap();
    let token = opened["link"].as_str().unwrap().split_once("token=").unwrap().1.to_owned();
    let invited = daemon.invite("tablet", "observe");
    let said = outputs(&daemon, &invited.link(), &invited.code);

    let (code, cookie) = visit(&daemon);

    let mut found = Vec::new();
    files(&daemon.folder.path().join("config"), &mut found);
    let [kept] = found.as_slice() else { panic!("{found:?}") };
    let key: KeyFile = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    let proof = Proofs::new(&invited.code, &key.fingerprint).client();
    let certificate = std::fs::read(daemon.folder.path().join("access/certificate.json")).unwrap();
    let certificate: serde_json::Value = serde_json::from_slice(&certificate).unwrap();
    let private = certificate["private_key"].as_str().unwrap().to_owned();
    let secrets = [key.key.clone(), invited.code, proof, token, private, code, cookie];

    files(&daemon.folder.path().join("access"), &mut found);
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let open: Vec<_> = found.iter().filter(|path| mode(path) != 0o600).collect();
    let keys = std::fs::read_to_string(daemon.folder.path().join("access/keys.json")).unwrap();
    let texts = [said, daemon.said.lock().unwrap().clone(), keys, format!("{key:?}")];
    let told = secrets.iter().filter(|secret| texts.iter().any(|text| text.contains(*secret)));
    let failures = (told.count() + open.len()) as u64;
    let bytes: usize = texts.iter().map(String::len).sum();
    let figures = json!({ "bytes_searched": bytes, "files": found.len() });
    report("A5", seed(), secrets.len() as u64, failures, figures);
    assert_eq!(failures, 0, "{open:?}");
    assert!(bytes > 1000);
}
