//! Who steers over the API: heard of in time, one at a time, and holding when they are gone.

use std::time::Duration;

use regoal::daemon::Command;
use serde_json::json;

use crate::stub::{Memory, Stub};

const HELD: &str = r#"{"held": true, "linear": [0, 0, 1]}"#;
const FREE: &str = r#"{"held": false}"#;

fn memory() -> Memory {
    Memory::new(Stub::default(), None)
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn moves(api: &Memory) -> bool {
    api.stub.pad.lock().unwrap().is_some()
}

fn told(api: &Memory) -> Vec<Command> {
    api.stub.told.lock().unwrap().clone()
}

#[tokio::test]
async fn the_arm_is_moved_while_the_button_is_heard_of_and_not_again_before_it_was_let_go() {
    let api = memory();
    let mut socket = api.socket("/v1/steer", 4096).await;
    socket.say(HELD).await;
    assert_eq!(socket.hear().await, Some(json!({ "steering": true })));
    assert!(moves(&api) && told(&api) == [Command::TakeOver]);
    api.clock.advance(Duration::from_millis(201));
    assert_eq!(socket.hear().await, Some(json!({ "steering": false })));
    assert!(!moves(&api));
    for _ in 0..5 {
        socket.say(HELD).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!moves(&api), "it was not let go");
    }
    socket.say(FREE).await;
    socket.say(HELD).await;
    assert_eq!(socket.hear().await, Some(json!({ "steering": true })));
    assert!(moves(&api));
}

#[tokio::test]
async fn the_arm_holds_when_who_steered_is_gone() {
    let api = memory();
    let mut socket = api.socket("/v1/steer", 4096).await;
    socket.say(HELD).await;
    socket.hear().await.unwrap();
    drop(socket);
    until(|| told(&api).len() == 3).await;
    assert_eq!(told(&api), [Command::TakeOver, Command::Stop, Command::LetGo]);
    assert!(!moves(&api));
}

#[tokio::test]
async fn one_steers_at_a_time_and_only_who_holds_the_arm() {
    let api = memory();
    let first = api.socket("/v1/steer", 4096).await;
    assert_eq!((first.status, api.socket("/v1/steer", 4096).await.status), (101, 503));
    drop(first);
    let ask = json!({ "holder": "tablet", "seconds": 10 }).to_string();
    let (_, lease) = api.ask("POST", "/v1/lease", &ask).await;
    assert_eq!(api.socket("/v1/steer", 4096).await.status, 423);
    assert_eq!(api.ask("POST", "/v1/demonstration", "").await.0, 423);
    let own = format!("/v1/steer?lease={}", lease["lease"]);
    let mut socket = api.socket(&own, 4096).await;
    while socket.status == 503 {
        // The one before is on its way out.
        socket = api.socket(&own, 4096).await;
    }
    socket.say(HELD).await;
    assert_eq!(socket.hear().await, Some(json!({ "steering": true })));
    // The lease ends while the button is held.
    api.clock.advance(Duration::from_secs(11));
    socket.say(HELD).await;
    let mut refused = socket.hear().await.unwrap();
    while refused["steering"] == false {
        // Nobody was heard of for 11 s, either.
        refused = socket.hear().await.unwrap();
    }
    assert_eq!(refused["code"], "no_lease", "{refused}");
    until(|| !moves(&api)).await;
}

#[tokio::test]
async fn a_pad_that_wishes_too_much_moves_nothing() {
    let api = memory();
    let mut socket = api.socket("/v1/steer", 4096).await;
    for bad in [r#"{"held": true, "linear": [0, 0, 2]}"#, r#"{"held": "yes"}"#, "{"] {
        socket.say(bad).await;
        let refused = socket.hear().await.unwrap();
        assert_eq!(refused["code"], "bad_request", "{refused}");
        assert!(!moves(&api) && told(&api).is_empty());
    }
}
