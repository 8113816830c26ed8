//! A workstation sends a policy over TLS: only with a key that may deploy.

use std::path::Path;

use regoal::config::RobotConfig;
use regoal::daemon::Role;
use regoal::policy::id_of;
use regoal::storage::{Disk, Storage as _};

use crate::policies::policy;
use crate::secrets::{Daemon, ROBOT};

#[test]
fn a_workstation_installs_over_tls_with_a_key_that_may_deploy_and_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let daemon = Daemon::start(&["--store", &text(&inside("store"))]);
    let file = policy(&RobotConfig::parse(ROBOT, Path::new("arm.toml")).unwrap(), 8, 1e-5);
    Disk.replace(&inside("policy.onnx"), &file).unwrap();
    let at = format!("https://{}", daemon.listening());
    for role in Role::ALL {
        let (key, kept) =
            (daemon.pair(&format!("a {role}"), &role.to_string()), inside("key.json"));
        Disk.replace(&kept, &serde_json::to_vec(&key).unwrap()).unwrap();
        let there = ["--to", &at, "--key", &text(&kept), "--json"];
        let policy = |arguments: &[&str]| daemon.verb(&[&["policy"], arguments, &there].concat());
        let installed = policy(&["install", &text(&inside("policy.onnx"))]);
        let steering = daemon.client().policies().unwrap().steering;
        let back = policy(&["rollback", "--why", "a test"]);
        let said = String::from_utf8_lossy(&installed.stderr).into_owned();
        assert!(policy(&["list"]).status.success(), "{role} may look");
        if role < Role::Deploy {
            assert!(
                !installed.status.success() && said.contains("needs the role deploy"),
                "{said}"
            );
            assert!(!back.status.success());
            assert_eq!(daemon.client().policies().unwrap().state, Default::default(), "{role}");
            continue;
        }
        let answer: serde_json::Value = serde_json::from_slice(&installed.stdout).expect(&said);
        assert_eq!(answer["policy"], id_of(&file).to_string());
        assert!(answer["cost"]["p50_us"].as_f64().unwrap() > 0.0, "{answer}");
        assert_eq!(steering, Some(id_of(&file).to_string()));
        assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
        assert_eq!(daemon.client().policies().unwrap().steering, None, "{role}");
    }
}
