//! Policies over the API: one change at a time, and the way back stays open.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use regoal::daemon::{ErrorReply, Installation, Installed, Policies, PolicyReport};
use regoal::episode::PolicyId;
use regoal::policy::Cost;

use crate::stub::{Memory, Stub};

/// Policies whose installation takes as long as the test says.
struct Slow {
    begun: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
    told: Mutex<Vec<String>>,
}

impl Policies for Slow {
    fn report(&self) -> Result<PolicyReport, ErrorReply> {
        Ok(PolicyReport { steering: None, state: Default::default() })
    }
    fn roll_back(&self, why: &str) -> Result<(), ErrorReply> {
        self.told.lock().unwrap().push(why.into());
        Ok(())
    }
    fn received(&self, _: PolicyId) -> Result<u64, ErrorReply> {
        Ok(0)
    }
    fn receive(&self, _: PolicyId, (_, total): (u64, u64), _: &[u8]) -> Result<u64, ErrorReply> {
        Ok(total)
    }
    fn install(&self, order: &Installation, who: &str) -> Result<Installed, ErrorReply> {
        self.begun.lock().unwrap().send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        self.told.lock().unwrap().push(format!("installed by {who}"));
        let cost = Cost { runs: 1, p50_us: 1.0, p99_us: 1.0, max_us: 1.0 };
        let (policy, note) = (order.policy.to_string(), String::new());
        Ok(Installed { policy, version: None, committed: order.commit, cost, note })
    }
}

#[tokio::test]
async fn while_one_client_changes_the_policies_others_are_told_so_but_not_kept_from_going_back() {
    let ((begun, begins), (go, go_on)) = (channel(), channel());
    let (begun, go_on, told) = (Mutex::new(begun), Mutex::new(go_on), Mutex::default());
    let slow = std::sync::Arc::new(Slow { begun, go_on, told });
    let api = Memory::with_policies(Stub::default(), slow.clone());
    let id = "0".repeat(32);
    let (order, upload) = (format!(r#"{{"policy": "{id}"}}"#), format!("/v1/uploads/{id}"));
    let piece = format!("{upload}?offset=0&total=1");
    let install = api.ask("POST", "/v1/policies", &order);
    let others = async {
        tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
        for (method, path, body) in
            [("POST", "/v1/policies", order.as_str()), ("POST", &piece, "x"), ("GET", &upload, "")]
        {
            let (status, reply) = api.ask(method, path, body).await;
            assert_eq!((status, &reply["code"]), (503, &"busy".into()), "{method} {path}");
        }
        let why = r#"{"why": "it hums"}"#;
        assert_eq!(api.ask("POST", "/v1/policies/rollback", why).await.0, 200);
        assert_eq!(api.ask("GET", "/v1/policies", "").await.0, 200);
        go.send(()).unwrap();
    };
    let ((status, reply), ()) = tokio::join!(install, others);
    assert_eq!((status, &reply["policy"]), (200, &id.into()), "{reply}");
    let told = slow.told.lock().unwrap().clone();
    assert_eq!(told, ["it hums by the robot's user", "installed by the robot's user"]);
    assert_eq!(api.ask("POST", &piece, "x").await.0, 200, "the next one may");
}

#[tokio::test]
async fn a_robot_without_a_store_says_how_to_get_one() {
    let api = Memory::new(Stub::default(), None);
    let why = r#"{"why": "it hums"}"#;
    for (method, path, body) in
        [("GET", "/v1/policies", ""), ("POST", "/v1/policies/rollback", why)]
    {
        let (status, reply) = api.ask(method, path, body).await;
        assert_eq!(status, 404);
        assert!(reply["error"].as_str().unwrap().contains("--store"), "{reply}");
    }
}
