//! A robot that remembers what it was told, its API in memory, and a client's end of a WebSocket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use regoal::clock::ManualClock;
use regoal::control::Jitter;
use regoal::daemon::{
    Command, Ending, Episodes, ErrorReply, Goal, GoalReply, GoalResult, Object, Pad, Policies,
    Robot, Service, Status, Telemetry, router, serve_connection,
};
use regoal::episode::Mode;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;

/// A robot whose goals end as the test says.
#[derive(Default)]
pub struct Stub {
    pub told: Mutex<Vec<Command>>,
    pub goals: Mutex<Vec<(Goal, bool)>>,
    pub follows: Mutex<Vec<(u64, u64, Goal)>>,
    pub results: Mutex<BTreeMap<u64, GoalResult>>,
    /// Every goal has ended at once.
    pub quick: bool,
    pub sampled: AtomicU64,
    /// What the person who steers wishes.
    pub pad: Mutex<Option<Pad>>,
}

pub fn result(ending: Ending) -> GoalResult {
    let success = ending == Ending::Reached;
    GoalResult { ending, fault: None, success, distance: Some(0.01), unit: "m".into(), ticks: 80 }
}

impl Robot for Stub {
    fn status(&self) -> Status {
        let (robot, unit) = ("stub".into(), "m".into());
        Status { robot, unit, alive: true, rate_hz: 500.0, ..Status::default() }
    }
    fn command(&self, command: Command) -> Result<(), ErrorReply> {
        self.told.lock().unwrap().push(command);
        let goals = self.goals.lock().unwrap().len() as u64;
        let mut results = self.results.lock().unwrap();
        for id in 1..=goals {
            results.entry(id).or_insert(result(Ending::Stopped));
        }
        Ok(())
    }
    fn reach(&self, goal: &Goal, streamed: bool) -> Result<u64, ErrorReply> {
        let mut goals = self.goals.lock().unwrap();
        // For ever so many goals in a little memory.
        if goals.len() == 1000 {
            goals.clear();
            self.results.lock().unwrap().clear();
            self.told.lock().unwrap().clear();
        }
        goals.push((goal.clone(), streamed));
        Ok(goals.len() as u64)
    }
    fn follow(&self, id: u64, sequence: u64, goal: &Goal) -> Result<(), ErrorReply> {
        let mut follows = self.follows.lock().unwrap();
        follows.truncate(1000);
        follows.push((id, sequence, goal.clone()));
        Ok(())
    }
    fn object(&self, _: Object) -> Result<(), ErrorReply> {
        Ok(())
    }
    fn goal(&self, id: u64) -> Option<GoalReply> {
        let known = (1..=self.goals.lock().unwrap().len() as u64).contains(&id);
        let ended = self.results.lock().unwrap().get(&id).cloned();
        let result = ended.or(self.quick.then(|| result(Ending::Reached)));
        known.then_some(GoalReply { id, result })
    }
    fn telemetry(&self) -> Telemetry {
        let tick = self.sampled.fetch_add(1, Ordering::Relaxed);
        let steered = self.told.lock().unwrap().last() == Some(&Command::TakeOver);
        let mode = if steered { Mode::Teleop } else { Mode::Holding };
        Telemetry {
            tick,
            mode,
            alive: true,
            positions_rad: vec![Some(0.5); 6],
            ..Telemetry::default()
        }
    }
    fn steer(&self, pad: Option<&Pad>) -> Result<(), ErrorReply> {
        *self.pad.lock().unwrap() = pad.copied();
        Ok(())
    }
    fn jitter(&self) -> Jitter {
        Jitter::default()
    }
}

/// The API without sockets.
pub struct Memory {
    pub stub: Arc<Stub>,
    pub clock: ManualClock,
    pub router: Router,
    pub stopping: watch::Receiver<bool>,
    _stop: watch::Sender<bool>,
}

impl Memory {
    pub fn new(stub: Stub, episodes: Option<Episodes>) -> Self {
        Self::serving(stub, episodes, None)
    }

    pub fn with_policies(stub: Stub, policies: Arc<dyn Policies>) -> Self {
        Self::serving(stub, None, Some(policies))
    }

    fn serving(
        stub: Stub,
        episodes: Option<Episodes>,
        policies: Option<Arc<dyn Policies>>,
    ) -> Self {
        let (stub, clock) = (Arc::new(stub), ManualClock::default());
        let (robot, time) = (stub.clone(), Arc::new(clock.clone()));
        let service = Service { robot, clock: time, episodes, policies, jobs: None };
        let (stop, stopping) = watch::channel(false);
        let router = router(service, stopping.clone());
        Self { stub, clock, router, stopping, _stop: stop }
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        let answer = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        let status = answer.status();
        (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    /// The status and the JSON of an answer.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (status, body) = self.send(request).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
    }

    /// A connection whose server's end holds `buffer` bytes.
    pub fn connect(&self, buffer: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(buffer);
        tokio::spawn(serve_connection(server, self.router.clone(), self.stopping.clone()));
        client
    }

    /// A WebSocket.
    pub async fn socket(&self, path: &str, buffer: usize) -> Socket {
        let mut stream = self.connect(buffer);
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        Socket { stream, status: answer[9..12].parse().unwrap() }
    }
}

/// A client's end.
pub struct Socket {
    pub stream: DuplexStream,
    pub status: u16,
}

/// A text in one masked frame.
pub fn frame(text: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![0x81];
    match text.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

impl Socket {
    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(&frame(text.as_bytes())).await.unwrap();
    }

    /// The next message; none when the server has closed.
    pub async fn hear(&mut self) -> Option<Value> {
        let head = self.stream.read_u16().await.ok()?;
        if head >> 8 != 0x81 {
            return None;
        }
        let len = match head & 0x7f {
            126 => self.stream.read_u16().await.ok()?.into(),
            127 => self.stream.read_u64().await.ok()?,
            len => len.into(),
        };
        let mut text = vec![0; len as usize];
        self.stream.read_exact(&mut text).await.ok()?;
        serde_json::from_slice(&text).ok()
    }
}
