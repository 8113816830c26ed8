//! What `tools/mcap_check/run` gives the public readers, and what they must find in it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use regoal::episode::*;
use regoal::storage::{Disk, Storage};

use crate::fixtures::*;

/// A step as the readers print it.
fn line(step: &Step) -> String {
    let header = header();
    let joints: Vec<&str> = header.joints.iter().map(String::as_str).collect();
    let rows: [(&str, &[&str], &[f32]); 8] = [
        ("position", &joints, &step.position),
        ("velocity", &joints, &step.velocity),
        ("load", &joints, &step.load),
        ("current", &joints, &step.current),
        ("temperature", &joints, &step.temperature),
        ("sent", &joints, &step.sent),
        ("achieved_goal", &["x", "y", "z"], &step.achieved_goal),
        ("desired_goal", &["x", "y", "z"], &step.desired_goal),
    ];
    let mut line = format!("{} {}", step.tick, step.time.0);
    for (row, names, values) in rows {
        for (name, value) in names.iter().zip(values) {
            write!(line, " {row}.{name}={:08x}", value.to_bits()).unwrap();
        }
    }
    line
}

#[test]
#[ignore = "what tools/mcap_check/run reads"]
fn write_for_the_public_readers() {
    let Some(folder) = std::env::var_os("REGOAL_WRITE_FOR_READERS").map(PathBuf::from) else {
        return;
    };
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let config = WriterConfig::default();
    let mut writer = Writer::create(&storage, &folder, header(), &config).unwrap();
    let steps = steps(1..501);
    steps.iter().for_each(|step| writer.push(step).unwrap());
    writer.finish(&outcome()).unwrap();
    let lines: String = steps.iter().map(|step| line(step) + "\n").collect();
    Disk.replace(&folder.join("expected"), lines.as_bytes()).unwrap();
}
