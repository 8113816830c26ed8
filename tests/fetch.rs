//! The Fetch robot on MuJoCo, which is installed when it is missing. `REGOAL_NO_MUJOCO=1` leaves these
//! tests out where there is no network.

use std::path::Path;

use regoal::env::fetch::{Fetch, NAMES};
use regoal::env::mujoco::install::{Installed, folder, install};
use regoal::env::{Env as _, EnvError};
use regoal::rng::{Stream, item};
use regoal::storage::{Disk, Storage as _};

/// What is installed; nothing where these tests are left out.
fn installed() -> Option<Installed> {
    if std::env::var_os("REGOAL_NO_MUJOCO").is_some() {
        eprintln!("REGOAL_NO_MUJOCO is set: NOTHING of the Fetch robot is tested");
        return None;
    }
    let found = install(&Disk, &folder().unwrap(), None, &mut |_| ());
    Some(found.unwrap_or_else(|e| panic!("no MuJoCo ({e}): REGOAL_NO_MUJOCO=1 tests without it")))
}

#[test]
fn the_same_actions_lead_to_the_same_place_to_the_last_bit() {
    let Some(installed) = installed() else { return };
    let run = || {
        let mut env = Fetch::open(&installed, None, "fetch_pick_place_meshfree").unwrap();
        let mut rng = item(3, Stream::HeldOut, 0);
        let goal = env.sample_goal(&mut rng);
        env.reset(&goal, &mut rng).unwrap();
        for _ in 0..30 {
            let action = env.expert().unwrap();
            env.step(&action).unwrap();
        }
        env.exact().to_vec()
    };
    assert_eq!(run(), run());
}

#[test]
fn the_experts_succeed_and_stay_there() {
    let Some(installed) = installed() else { return };
    for name in NAMES.into_iter().filter(|name| name.ends_with("meshfree")) {
        let mut env = Fetch::open(&installed, None, name).unwrap();
        for i in 0..3 {
            let mut rng = item(5, Stream::HeldOut, i);
            let goal = env.sample_goal(&mut rng);
            env.reset(&goal, &mut rng).unwrap();
            for _ in 0..env.spec().horizon {
                let action = env.expert().unwrap();
                env.step(&action).unwrap();
            }
            assert!(env.succeeded(), "{name}, episode {i}");
        }
    }
}

#[test]
fn an_action_that_is_not_finite_is_refused_and_changes_nothing() {
    let Some(installed) = installed() else { return };
    let mut env = Fetch::open(&installed, None, "fetch_reach_meshfree").unwrap();
    env.place(&[], &[1.3, 0.7, 0.5]).unwrap();
    let before = env.exact().to_vec();
    let error = env.step(&[0.0, f32::NAN, 0.0, 0.0]).unwrap_err();
    assert!(matches!(error, EnvError::NotFinite { .. }), "{error}");
    assert_eq!(env.exact(), before);
}

#[test]
fn a_simulation_that_diverges_is_an_error() {
    let Some(installed) = installed() else { return };
    let mut env = Fetch::open(&installed, None, "fetch_push_meshfree").unwrap();
    env.place(&[[f64::NAN, 0.7]], &[1.3, 0.7, 0.4]).unwrap();
    let error = env.step(&[0.0; 4]).unwrap_err().to_string();
    assert!(error.contains("diverged"), "{error}");
}

#[test]
fn a_file_that_was_changed_is_refused() {
    let Some(installed) = installed() else { return };
    let copy = tempfile::tempdir().unwrap();
    let from = installed.library();
    for path in Disk.list(from.parent().unwrap()).unwrap() {
        let bytes = Disk.read(&path).unwrap();
        Disk.replace(&copy.path().join(path.file_name().unwrap()), &bytes).unwrap();
    }
    Installed::open(&Disk, copy.path()).unwrap();
    let model = copy.path().join("push.xml");
    let text = String::from_utf8(Disk.read(&model).unwrap()).unwrap();
    Disk.replace(&model, text.replace("mass=\"2\"", "mass=\"1\"").as_bytes()).unwrap();
    let error = Installed::open(&Disk, copy.path()).unwrap_err().to_string();
    let expected = ["push.xml was changed", "regoal runtime install --mujoco"];
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn without_mujoco_the_error_says_how_to_get_it() {
    let error = Installed::open(&Disk, Path::new("/nowhere")).unwrap_err().to_string();
    assert!(error.contains("regoal runtime install --mujoco"), "{error}");
}

#[test]
fn another_library_than_mujoco_is_refused() {
    let Some(installed) = installed() else { return };
    let opened = Fetch::open(&installed, Some(Path::new("Cargo.toml")), "fetch_reach_meshfree");
    let error = opened.err().expect("refused").to_string();
    assert!(error.contains("is no MuJoCo library"), "{error}");
}
