//! Who steers while policies come, go and fail.

use std::sync::Arc;

use regoal::clock::SystemClock;
use regoal::daemon::{Command, Goal, PolicyReport};
use regoal::episode::Mode;
use regoal::policy::{Store, id_of};
use regoal::storage::Disk;
use serde_json::json;

use crate::policies::{FAR, failing};
use crate::processes::wait_until;
use crate::{Robot, goal, json_of, steers};

#[test]
fn a_rollback_is_steered_by_from_the_next_tick_on_and_so_is_a_policy_in_the_place_of_one_on_trial()
{
    let robot = Robot::trusting(&[]);
    let files = [1e-5, 2e-5, 3e-5, 4e-5].map(|by| robot.policy(by));
    let ids = [0, 1, 2, 3].map(|i: usize| id_of(&files[i]).to_string());
    robot.install(&files[0], &[], true).unwrap();
    robot.install(&files[1], &[], true).unwrap();
    assert_eq!(steers(&robot), Some(ids[1].clone()));
    let back = robot.client().roll_back("drops the cup").unwrap();
    assert_eq!(back.steering.as_ref(), Some(&ids[0]));
    assert_eq!(back.state.active.unwrap().policy.to_string(), ids[0]);
    let event = back.state.events.last().unwrap();
    assert_eq!(event.why, "drops the cup by the robot's user");
    assert_eq!(steers(&robot), Some(ids[0].clone()));
    // On trial; another one takes its place; back to the one that is committed.
    robot.install(&files[2], &[], false).unwrap();
    assert_eq!(steers(&robot), Some(ids[2].clone()));
    robot.install(&files[3], &[], false).unwrap();
    assert_eq!(steers(&robot), Some(ids[3].clone()));
    assert_eq!(robot.report().state.candidate.unwrap().entry.policy.to_string(), ids[3]);
    let said = robot.regoal(&["rollback", "--why", "drops it too", "--json"], &robot.rig.socket());
    assert_eq!(json_of(&said)["active"], json!(ids[0]));
    assert_eq!(steers(&robot), Some(ids[0].clone()));
    assert_eq!(robot.report().state.candidate, None);
}

#[test]
fn the_first_policy_on_trial_can_be_gone_back_from_while_the_arm_goes_on() {
    let robot = Robot::trusting(&[]);
    let before = robot.report();
    robot.install(&robot.policy(1e-5), &[], false).unwrap();
    let back = robot.client().roll_back("drops the cup").unwrap();
    assert_eq!((back.state.active, back.state.candidate), (None, None));
    assert_eq!(robot.report(), PolicyReport { state: back.state, ..before });
    let near = Goal { wait: true, ..goal([0.15, -0.2, 0.2]) };
    assert!(robot.client().reach(&near).unwrap().result.unwrap().success);
    let next = robot.policy(2e-5);
    robot.install(&next, &[], true).unwrap();
    assert_eq!(steers(&robot), Some(id_of(&next).to_string()));
}

#[test]
fn the_active_policy_that_does_not_steer_is_let_steer_without_a_trial() {
    let robot = Robot::trusting(&[]);
    let store = store(&robot);
    for (by, commit) in [(1e-5, true), (2e-5, false)] {
        let file = robot.policy(by);
        store.stage(&file, "a test").unwrap();
        store.commit("a test").unwrap();
        assert_eq!(robot.install(&file, &[], commit).unwrap()["committed"], true, "{commit}");
        assert_eq!(steers(&robot), Some(id_of(&file).to_string()));
        let state = robot.report().state;
        assert_eq!((state.active.unwrap().policy, state.candidate), (id_of(&file), None));
    }
}

fn store(robot: &Robot) -> Store {
    Store::open(Arc::new(Disk), Arc::new(SystemClock), &robot.folder()).unwrap()
}

/// Makes whoever steers fail, if it is a [`failing`] one, and who steers then, until nothing of it is
/// among the last observations.
fn fail(robot: &Robot) -> Option<String> {
    let client = robot.client();
    let before = robot.report().steering;
    client.reach(&goal(FAR)).unwrap();
    let mut faulted = false;
    wait_until("it fails", || {
        faulted = robot.rig.status().is_some_and(|s| matches!(s.mode, Mode::Faulted(_)));
        faulted || robot.report().steering != before
    });
    client.command(if faulted { Command::Arm } else { Command::Stop }).unwrap();
    let steers = steers(robot);
    let near = Goal { timeout_s: Some(2.0), wait: true, ..goal([0.15, -0.2, 0.2]) };
    let mut ticks = 0;
    while ticks < 200 {
        ticks += client.reach(&near).unwrap().result.unwrap().ticks;
    }
    steers
}

#[test]
fn what_fails_gives_way_only_to_what_is_committed() {
    let robot = Robot::trusting(&[]);
    let files = [1e-5, 2e-5, 3e-5].map(|by| failing(&robot.rig.config, by));
    let (good, best) = (robot.policy(1e-5), robot.policy(2e-5));
    let [first, second, third, best_id] =
        [&files[0], &files[1], &files[2], &best].map(|file| Some(id_of(file).to_string()));
    // A first one on trial gives way to nobody who was on trial before it.
    robot.install(&good, &[], false).unwrap();
    robot.install(&files[0], &[], false).unwrap();
    assert_eq!(fail(&robot), first);
    // Whom a person has gone back from does not come back.
    robot.install(&files[1], &[], true).unwrap();
    robot.install(&good, &[], false).unwrap();
    robot.client().roll_back("drops the cup").unwrap();
    assert_eq!(fail(&robot), second);
    // Nor does one on trial when the next one fails: a goal that it reached proves nothing once that
    // one is staged.
    robot.install(&best, &[], true).unwrap();
    robot.install(&good, &[], false).unwrap();
    store(&robot).stage(&files[2], "a test").unwrap();
    let near = Goal { tolerance: Some(1.0), wait: true, ..goal([0.15, -0.2, 0.2]) };
    assert!(robot.client().reach(&near).unwrap().result.unwrap().success);
    robot.install(&files[2], &[], false).unwrap();
    assert_eq!(robot.report().steering, third);
    assert_eq!(fail(&robot), best_id);
}

#[test]
fn a_policy_that_is_not_swapped_in_is_not_tried_by_the_next_start_either() {
    let robot = Robot::trusting(&[]);
    let (committed, good) = (failing(&robot.rig.config, 1e-5), robot.policy(1e-5));
    robot.install(&committed, &[], true).unwrap();
    robot.install(&good, &[], false).unwrap();
    // The one that would take over from the next one fails on what is seen now.
    robot.client().reach(&goal(FAR)).unwrap();
    let good = Some(id_of(&good).to_string());
    wait_until("it steers", || robot.rig.status().is_some_and(|status| status.policy == good));
    let refused = robot.install(&robot.policy(2e-5), &[], false).unwrap_err();
    assert!(refused.contains("was not swapped in"), "{refused}");
    let report = robot.report();
    assert_eq!((report.steering, report.state.candidate), (good, None));
}
