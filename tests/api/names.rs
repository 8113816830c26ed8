//! A4: names that steer a terminal, forge a log or lead out of a folder.

use std::path::Path;
use std::sync::Mutex;

use axum::body::Body;
use axum::http::Request;
use regoal::daemon::{default_socket, printable};
use serde_json::json;

use crate::behaviour::recorded;
use crate::bench::report;
use crate::seed;
use crate::stub::{Memory, Stub};

/// What somebody might put where a name belongs.
const NAMES: [&str; 14] = [
    "../../../etc/passwd",
    "..\\..\\windows",
    "/etc/shadow",
    "a\0b",
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\u{9b}31m",
    "line\nERROR forged",
    "line\r\nHTTP/1.1 200 OK",
    "\u{202e}txt.exe",
    "\u{2066}\u{200b}\u{feff}",
    "é́́́́́́́́́́́́́́́",
    "%00%2e%2e%2f%1b[2J",
    "'; DROP TABLE episodes; --${jndi:x}",
];

/// Every line that was logged.
struct Lines(Mutex<Vec<String>>);
static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }
    fn log(&self, record: &log::Record) {
        if record.target().starts_with("regoal") {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }
    fn flush(&self) {}
}

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Every request that a name can come in by.
fn requests(name: &str) -> Vec<(&'static str, String, String)> {
    let (text, path) = (json!(name).to_string(), encoded(name));
    vec![
        ("POST", "/v1/goal".into(), format!(r#"{{"joints": {{{text}: 0.1}}}}"#)),
        ("POST", "/v1/goal".into(), format!(r#"{{{text}: 0.1}}"#)),
        ("POST", "/v1/goal".into(), text.clone()),
        ("POST", "/v1/lease".into(), format!(r#"{{"holder": {text}, "seconds": 1}}"#)),
        ("POST", "/v1/episodes/0/label".into(), format!(r#"{{"task": {text}}}"#)),
        ("POST", "/v1/episodes/0/label".into(), format!(r#"{{"outcome": {text}}}"#)),
        ("POST", "/v1/policies/rollback".into(), format!(r#"{{"why": {text}}}"#)),
        ("POST", "/v1/policies".into(), format!(r#"{{"policy": {text}}}"#)),
        ("POST", format!("/v1/uploads/{path}?offset=0&total=1"), "x".into()),
        ("GET", format!("/v1/uploads/{path}"), String::new()),
        ("GET", format!("/v1/episodes/{path}"), String::new()),
        ("GET", format!("/v1/goal/{path}"), String::new()),
        ("GET", format!("/v1/jobs/{path}"), String::new()),
        ("POST", "/v1/jobs".into(), format!(r#"{{"steps": {text}}}"#)),
        ("POST", "/v1/policies/rollback".into(), format!(r#"{{"why": {text}}}"#)),
        ("GET", format!("/v1/episodes?offset={path}"), String::new()),
        ("GET", format!("/v1/telemetry?rate={path}"), String::new()),
        ("POST", format!("/v1/arm?lease={path}"), String::new()),
        ("GET", format!("/{path}"), String::new()),
        ("GET", format!("/v1/{path}"), String::new()),
    ]
}

/// What is wrong with an answer, if anything is.
fn wrong(status: u16, body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let reply: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    // What is told to people, and what stands in the answer as it is.
    let error = reply["error"].as_str().unwrap_or_default();
    let clean = |text: &str| printable(text) == text;
    (!clean(error) || !clean(&text) || status >= 500 || text.contains("root:"))
        .then(|| format!("{status}: {text:?}"))
}

#[tokio::test]
async fn a4_no_name_steers_a_terminal_forges_a_log_or_leaves_its_folder() {
    let _ = log::set_logger(&LINES);
    log::set_max_level(log::LevelFilter::Trace);
    let api = Memory::new(Stub { quick: true, ..Stub::default() }, Some(recorded(1)));
    let (mut runs, mut failed) = (0, Vec::new());
    for name in NAMES {
        for (method, path, body) in requests(name) {
            let request = Request::builder().method(method).uri(&path);
            let (status, answer) = api.send(request.body(Body::from(body)).unwrap()).await;
            runs += 1;
            failed.extend(
                wrong(status.as_u16(), &answer).map(|why| format!("{path} {name:?}: {why}")),
            );
        }
        // A robot's name becomes a file's.
        let socket = default_socket(name);
        runs += 1;
        if socket.parent() != default_socket("arm").parent()
            || printable(&socket.to_string_lossy()) != socket.to_string_lossy()
        {
            failed.push(format!("{name:?}: {}", socket.display()));
        }
    }
    // Nothing but what was there is there.
    let episodes = recorded(1);
    assert_eq!(episodes.storage.list(Path::new("/episodes")).unwrap().len(), 1);
    let lines = LINES.0.lock().unwrap();
    failed.extend(lines.iter().filter(|line| printable(line) != **line).cloned());
    let figures = json!({ "names": NAMES.len(), "log_lines": lines.len() });
    report("A4", seed(), runs, failed.len() as u64, figures);
    assert!(failed.is_empty(), "{failed:#?}");
}
