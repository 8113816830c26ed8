//! F4: damaged requests, bytes and WebSocket frames, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use rand::{Rng as _, RngExt as _};
use regoal::daemon::operations;
use regoal::rng::Rng;
use regoal::storage::Disk;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::behaviour::recorded_in;
use crate::bench::{number, report};
use crate::stub::{Memory, Stub, frame};
use crate::{rng, seed};

const BODIES: [&str; 8] = [
    r#"{"goal": [0.1, -0.2, 0.1], "tolerance": 0.02, "timeout_s": 3, "anyway": false, "wait": true}"#,
    r#"{"joints": {"shoulder_pan": 0.25, "elbow_flex": -1.5e0}}"#,
    r#"{"position": [0.1, -0.2, 0.3]}"#,
    r#"{"goals": [{"goal": [0.1, -0.2, 0.1]}, {"joints": {"gripper": 1}}]}"#,
    r#"{"holder": "tablet", "seconds": 0.1, "lease": 12345678}"#,
    r#"{"outcome": "success", "task": "stack the cups"}"#,
    r#"[[[[[[[[[[[[[[[[{"a":null,"b":"\ud83e\udd16\u0000"}]]]]]]]]]]]]]]]]"#,
    "",
];
const QUERIES: [&str; 5] = ["", "?lease=99", "?rate=1e3", "?offset=1&count=7", "?points=12&x=%00"];

/// Changes, inserts, removes or doubles a few bytes.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=bytes.len());
        let byte = [rng.next_u32() as u8, b"\"{}[],:0-.eE\\%/?"[rng.random_range(0..16)]];
        let byte = byte[rng.random_range(0..2)];
        match rng.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.drain(at..bytes.len().min(at + rng.random_range(0..9)))),
            _ => bytes.extend_from_within(bytes.len() - bytes.len().min(at)..),
        }
    }
    bytes.truncate(100_000);
}

/// One request as it goes over a wire: method, path with query, body.
fn request(rng: &mut Rng) -> (String, Vec<u8>, Vec<u8>) {
    let operations = operations();
    let operation = &operations[rng.random_range(0..operations.len())];
    let path = operation.path.replace("{id}", ["0", "1", "2"][rng.random_range(0..3)]);
    let mut path = (path + QUERIES[rng.random_range(0..QUERIES.len())]).into_bytes();
    let mut body = BODIES[rng.random_range(0..BODIES.len())].as_bytes().to_vec();
    if rng.random_range(0..3) == 0 {
        damage(&mut path, rng);
    }
    damage(&mut body, rng);
    (operation.method.to_string(), path, body)
}

/// A request to the router; its status if it was one at all.
async fn routed(api: &Memory, rng: &mut Rng) -> Option<u16> {
    let (method, path, body) = request(rng);
    let request = Request::builder().method(method.as_str()).uri(path.as_slice());
    let (status, answer) = api.send(request.body(Body::from(body)).ok()?).await;
    assert!(answer.len() < 1 << 20, "{}", answer.len());
    Some(status.as_u16())
}

/// Some requests over one connection, damaged as bytes; how many.
async fn wired(api: &Memory, rng: &mut Rng) -> u64 {
    let count = rng.random_range(1..10);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let (method, path, body) = request(rng);
        let mut one = format!("{method} ").into_bytes();
        one.extend(path);
        one.extend(
            format!(" HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()).bytes(),
        );
        one.extend(body);
        if rng.random_range(0..2) == 0 {
            damage(&mut one, rng);
        }
        bytes.extend(one);
    }
    exchange(api, &bytes).await;
    count
}

/// Frames over one WebSocket; how many.
async fn framed(api: &Memory, rng: &mut Rng) -> u64 {
    let count = rng.random_range(1..50);
    let path = ["/v1/stream", "/v1/telemetry?rate=500"][rng.random_range(0..2)];
    let mut bytes = Vec::new();
    for _ in 0..count {
        let mut text = BODIES[rng.random_range(0..2)].as_bytes().to_vec();
        damage(&mut text, rng);
        text.truncate(u16::MAX.into());
        let mut one = frame(&text);
        if rng.random_range(0..4) == 0 {
            damage(&mut one, rng);
        }
        bytes.extend(one);
    }
    let mut socket = api.socket(path, 1 << 16).await;
    if socket.status == 101 {
        let _ = socket.stream.write_all(&bytes).await;
        let _ = socket.stream.shutdown().await;
        drain(socket.stream).await;
    }
    count
}

async fn exchange(api: &Memory, bytes: &[u8]) {
    let (mut read, mut write) = tokio::io::split(api.connect(1 << 16));
    let writing = async {
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let reading = async {
        let mut chunk = [0; 4096];
        while read.read(&mut chunk).await.is_ok_and(|n| n > 0) {}
    };
    tokio::join!(writing, reading);
}

async fn drain(mut stream: tokio::io::DuplexStream) {
    let mut chunk = [0; 4096];
    while stream.read(&mut chunk).await.is_ok_and(|n| n > 0) {}
}

/// Resident memory (bytes).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn f4_no_request_and_no_frame_makes_the_api_panic_or_eat_the_memory() {
    let cases = number("REGOAL_CASES", 20_000);
    println!("seed {}", seed());
    // On a real disk: one in memory remembers what was on it.
    let folder = tempfile::tempdir().unwrap();
    let episodes = recorded_in(Arc::new(Disk), folder.path().join("episodes"), 3);
    let api = Memory::new(Stub { quick: true, ..Stub::default() }, Some(episodes));
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let (mut done, mut round, mut unparsed, mut before) = (0, 0, 0, None);
    while done < cases {
        let mut rng = rng(round);
        round += 1;
        match round % 8 {
            0 => done += wired(&api, &mut rng).await,
            1 => done += framed(&api, &mut rng).await,
            _ => {
                match routed(&api, &mut rng).await {
                    Some(status) => *statuses.entry(status).or_default() += 1,
                    None => unparsed += 1,
                }
                done += 1;
            }
        }
        if before.is_none() && done > cases / 10 {
            before = Some(resident());
        }
    }
    let grown = resident().saturating_sub(before.unwrap_or_default());
    // 500 is for what nobody thought of; 503 for a thread that panicked.
    let known = [200, 400, 404, 405, 408, 409, 413, 422, 423];
    let unknown: u64 = statuses.iter().filter(|(s, _)| !known.contains(s)).map(|(_, n)| n).sum();
    let failures = unknown + u64::from(grown > 64 << 20);
    let figures = json!({
        "statuses": statuses, "unparsed": unparsed, "grown_mib": grown as f64 / (1u64 << 20) as f64,
    });
    report("F4", seed(), done, failures, figures);
    assert_eq!(failures, 0, "{statuses:?}, {grown} bytes more");
    assert_eq!(api.ask("GET", "/v1/status", "").await.1["robot"], "stub");
}
