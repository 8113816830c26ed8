//! Queue, lease, stream, telemetry, metrics, health, episodes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regoal::daemon::{Command, Ending, Episodes};
use regoal::episode::{EpisodeHeader, Step, Writer, WriterConfig};
use regoal::joints::stack;
use regoal::storage;
use serde_json::json;

use crate::stub::{Memory, Stub, result};

fn memory() -> Memory {
    Memory::new(Stub::default(), None)
}

/// Looks until it is so.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const HERE: &str = r#"{"goal": [0.1, -0.2, 0.1]}"#;

#[tokio::test]
async fn queued_goals_are_begun_one_after_the_other() {
    let api = memory();
    let body = format!(r#"{{"goals": [{HERE}, {HERE}, {HERE}]}}"#);
    let (status, reply) = api.ask("POST", "/v1/queue", &body).await;
    assert_eq!((status, reply["entries"].as_array().unwrap().len()), (200, 3), "{reply}");
    for (id, ending) in [(1, Ending::Reached), (2, Ending::TimedOut), (3, Ending::Reached)] {
        until(|| api.stub.goals.lock().unwrap().len() == id).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(api.stub.goals.lock().unwrap().len(), id, "the next one waits for this one");
        api.stub.results.lock().unwrap().insert(id as u64, result(ending));
    }
    while api.ask("GET", "/v1/queue", "").await.1["entries"][2]["result"].is_null() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (_, reply) = api.ask("GET", "/v1/queue", "").await;
    assert_eq!(reply["entries"][1]["result"]["ending"], "timed_out", "{reply}");
    // It is served again after it was empty.
    api.ask("POST", "/v1/queue", &body).await;
    until(|| api.stub.goals.lock().unwrap().len() == 4).await;
}

#[tokio::test]
async fn nothing_of_a_queue_follows_a_stop_or_another_goal() {
    for (method, path, body) in [
        ("POST", "/v1/stop", ""),
        ("POST", "/v1/estop", ""),
        ("POST", "/v1/disarm", ""),
        ("POST", "/v1/goal", HERE),
        ("DELETE", "/v1/queue", ""),
    ] {
        let api = memory();
        let body_of_two = format!(r#"{{"goals": [{HERE}, {HERE}]}}"#);
        api.ask("POST", "/v1/queue", &body_of_two).await;
        until(|| api.stub.goals.lock().unwrap().len() == 1).await;
        let (status, reply) = api.ask(method, path, body).await;
        assert_eq!(status, 200, "{reply}");
        let goals = api.stub.goals.lock().unwrap().len();
        api.stub.results.lock().unwrap().insert(1, result(Ending::Reached));
        tokio::time::sleep(Duration::from_millis(30)).await;
        let (_, queue) = api.ask("GET", "/v1/queue", "").await;
        assert_eq!(queue["entries"][1]["refusal"]["code"], "cancelled", "{path}: {queue}");
        assert_eq!(api.stub.goals.lock().unwrap().len(), goals, "{path}");
    }
}

#[tokio::test]
async fn who_holds_the_arm_gives_it_goals_and_others_are_told_who_it_is() {
    let api = memory();
    let ask = r#"{"holder": "tablet", "seconds": 10}"#;
    let (_, lease) = api.ask("POST", "/v1/lease", ask).await;
    let own = |path: &str| format!("{path}?lease={}", lease["lease"]);
    let queue = format!(r#"{{"goals": [{HERE}]}}"#);
    for (path, body) in
        [("/v1/goal", HERE), ("/v1/queue", &queue), ("/v1/arm", ""), ("/v1/disarm", "")]
    {
        let (status, reply) = api.ask("POST", path, body).await;
        assert_eq!((status, &reply["code"]), (423, &json!("no_lease")), "{path}");
        assert!(reply["error"].as_str().unwrap().starts_with("tablet holds the arm"), "{reply}");
        assert_eq!(api.ask("POST", &own(path), body).await.0, 200, "{path}");
    }
    // Everybody may look, and stop the arm.
    assert_eq!(api.ask("POST", "/v1/stop", "").await.0, 200);
    assert_eq!(api.ask("POST", "/v1/estop", "").await.0, 200);
    let (_, holder) = api.ask("GET", "/v1/lease", "").await;
    assert_eq!(
        (&holder["holder"], holder.get("lease")),
        (&json!("tablet"), None),
        "no secret told"
    );
    api.clock.advance(Duration::from_secs(11));
    assert_eq!(api.ask("POST", "/v1/goal", HERE).await.0, 200, "it has expired");
    assert_eq!(api.ask("POST", &own("/v1/goal"), HERE).await.0, 423, "and holds nothing any more");
}

#[tokio::test]
async fn a_queued_goal_whose_lease_has_ended_is_not_begun() {
    let api = memory();
    let (_, lease) = api.ask("POST", "/v1/lease", r#"{"holder": "a", "seconds": 1}"#).await;
    let path = format!("/v1/queue?lease={}", lease["lease"]);
    api.ask("POST", &path, &format!(r#"{{"goals": [{HERE}, {HERE}]}}"#)).await;
    until(|| api.stub.goals.lock().unwrap().len() == 1).await;
    api.clock.advance(Duration::from_secs(2));
    api.stub.results.lock().unwrap().insert(1, result(Ending::Reached));
    while api.ask("GET", "/v1/queue", "").await.1["entries"][1]["refusal"].is_null() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (_, queue) = api.ask("GET", "/v1/queue", "").await;
    assert_eq!(queue["entries"][1]["refusal"]["code"], "no_lease");
    assert_eq!(api.stub.goals.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_begins_moves_and_tells_how_it_ended() {
    let api = memory();
    let mut socket = api.socket("/v1/stream", 1 << 16).await;
    assert_eq!(socket.status, 101);
    socket.say(HERE).await;
    assert_eq!(socket.hear().await.unwrap(), json!({"id": 1, "result": null}));
    assert!(api.stub.goals.lock().unwrap()[0].1, "it is streamed");
    for x in 0..50 {
        socket.say(&format!(r#"{{"goal": [0.{x}, -0.2, 0.1]}}"#)).await;
    }
    let newest = |x: f32| {
        let follows = api.stub.follows.lock().unwrap();
        follows.last().is_some_and(|(id, _, goal)| *id == 1 && goal.goal[0] == x)
    };
    until(|| newest(0.49)).await;
    let sequences: Vec<_> = api.stub.follows.lock().unwrap().iter().map(|f| f.1).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    socket.say(r#"{"goal": [99, 0, 0]}"#).await;
    let refused = socket.hear().await.unwrap();
    assert_eq!(refused["code"], "bad_request", "{refused}");
    api.stub.results.lock().unwrap().insert(1, result(Ending::StreamEnded));
    let ended = socket.hear().await.unwrap();
    assert_eq!(ended["result"]["ending"], "stream_ended", "{ended}");
    assert_eq!(socket.hear().await, None, "the server closes");
}

#[tokio::test]
async fn telemetry_goes_to_many_and_who_is_slow_is_told_what_they_missed() {
    let api = memory();
    let mut sockets = Vec::new();
    for _ in 0..32 {
        sockets.push(api.socket("/v1/telemetry?rate=500", 2048).await);
    }
    let one_more = api.socket("/v1/telemetry", 2048).await;
    assert_eq!(one_more.status, 503, "there are only so many");
    for socket in &mut sockets[1..] {
        assert_eq!(socket.hear().await.unwrap()["positions_rad"][5], 0.5);
    }
    // The first one takes nothing until what fits its buffer is long full.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut lost = 0;
    while lost == 0 {
        lost = sockets[0].hear().await.unwrap()["lost"].as_u64().unwrap();
    }
    // A place is free again after one has gone.
    sockets.pop();
    while api.socket("/v1/telemetry", 2048).await.status != 101 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn metrics_and_health_are_told() {
    let api = memory();
    assert_eq!(
        api.ask("GET", "/health", "").await,
        (200, json!({"healthy": true, "problems": []}))
    );
    let request = axum::http::Request::builder().uri("/metrics").body(axum::body::Body::empty());
    let (status, text) = api.send(request.unwrap()).await;
    let text = String::from_utf8(text).unwrap();
    assert!(status.is_success() && text.contains("\nregoal_up 1\n"), "{text}");
    let (_, document) = api.ask("GET", "/v1/openapi.json", "").await;
    assert_eq!(document, regoal::daemon::document());
}

/// A folder with this many episodes in it.
pub fn recorded(count: usize) -> Episodes {
    recorded_in(Arc::new(storage::Memory::default()), PathBuf::from("/episodes"), count)
}

pub fn recorded_in(storage: Arc<dyn storage::Storage>, folder: PathBuf, count: usize) -> Episodes {
    storage.create_folder(&folder).unwrap();
    for _ in 0..count {
        let header = EpisodeHeader { joints: vec!["pan".into()], ..EpisodeHeader::default() };
        let config = WriterConfig::default();
        let mut writer = Writer::create(&storage, &folder, header, &config).unwrap();
        for tick in 0..1000 {
            let time = regoal::clock::Time(tick * 10_000_000);
            let step = Step { tick, time, position: stack([tick as f32]), ..Step::default() };
            writer.push(&step).unwrap();
        }
        writer.finish(&regoal::episode::Outcome::default()).unwrap();
    }
    Episodes { storage, folder }
}

#[tokio::test]
async fn episodes_are_listed_shown_and_labelled_while_they_are_recorded() {
    let episodes = recorded(3);
    let _recorder = episodes.storage.lock(&episodes.folder.join(".lock")).unwrap();
    let api = Memory::new(Stub::default(), Some(episodes));
    let (_, page) = api.ask("GET", "/v1/episodes?count=2&offset=1", "").await;
    let ids: Vec<_> = page["episodes"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    assert_eq!((&page["total"], ids), (&json!(3), vec![&json!(1), &json!(0)]), "{page}");
    let (_, shown) = api.ask("GET", "/v1/episodes/2?points=11", "").await;
    let times = shown["time_s"].as_array().unwrap();
    assert_eq!((times.len(), times.last()), (11, Some(&json!(9.99))), "{shown}");
    let label = r#"{"outcome": "success", "task": "stack the cups"}"#;
    assert_eq!(api.ask("POST", "/v1/episodes/2/label", label).await.0, 200);
    let (_, page) = api.ask("GET", "/v1/episodes?count=1", "").await;
    let newest = &page["episodes"][0];
    assert_eq!((&newest["success"], &newest["task"]), (&json!(true), &json!("stack the cups")));
    assert_eq!(api.ask("GET", "/v1/episodes/3", "").await.0, 404);
    assert_eq!(api.ask("GET", "/v1/episodes?count=100000", "").await.0, 400);
    assert_eq!(memory().ask("GET", "/v1/episodes", "").await.0, 404, "nothing is logged there");
}

#[tokio::test]
async fn commands_reach_the_robot() {
    let api = memory();
    for path in ["arm", "stop", "disarm", "estop"] {
        assert_eq!(api.ask("POST", &format!("/v1/{path}"), "").await.0, 200);
    }
    use Command::{Arm, Disarm, EmergencyStop, Stop};
    assert_eq!(*api.stub.told.lock().unwrap(), [Arm, Stop, Disarm, EmergencyStop]);
}

#[tokio::test]
async fn a_robot_without_a_policy_store_says_how_it_gets_one_when_it_shall_learn() {
    for (method, path) in [
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs/1"),
        ("POST", "/v1/jobs/1/cancel"),
        ("POST", "/v1/jobs/1/resume"),
    ] {
        let (status, reply) = memory().ask(method, path, "{}").await;
        let error = reply["error"].as_str().unwrap();
        assert!(status == 404 && error.contains("[policy] store = "), "{method} {path}: {reply}");
    }
    let (_, caller) = memory().ask("GET", "/v1/caller", "").await;
    assert_eq!(caller["role"], "admin");
}
