//! A file from elsewhere is tried in a process of its own, and this one outlives it.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::engines;
use regoal::engine::Engine;
use regoal::engine::isolate::Isolation;

const POLICY: &str = "models/reach/policy.onnx";

fn isolation() -> Isolation {
    Isolation {
        program: PathBuf::from(env!("CARGO_BIN_EXE_regoal")),
        time: Duration::from_secs(60),
        memory_mib: 1024,
    }
}

fn refusal(isolation: &Isolation, file: &[u8]) -> String {
    isolation.try_load(file, &Engine::tract()).unwrap_err().to_string()
}

#[test]
fn a_good_policy_runs_alone_in_every_engine() {
    let file = std::fs::read(POLICY).unwrap();
    for engine in engines() {
        isolation().try_load(&file, &engine).unwrap();
    }
}

#[test]
fn a_file_that_does_not_verify_is_refused_with_its_reason() {
    let mut file = std::fs::read(POLICY).unwrap();
    file.truncate(1000);
    let said = refusal(&isolation(), &file);
    assert!(said.contains("as many bytes as the field's length says"), "{said}");
}

#[test]
fn a_process_that_takes_too_long_is_ended_and_said_to_be() {
    let isolation = Isolation { time: Duration::from_nanos(1), ..isolation() };
    let said = refusal(&isolation, &std::fs::read(POLICY).unwrap());
    assert_eq!(
        said,
        "the file could not be tried in a process of its own: it did not answer within 1ns; try again"
    );
}

#[test]
fn a_process_that_takes_too_much_memory_crashes_alone() {
    let isolation = Isolation { memory_mib: 1, ..isolation() };
    let said = refusal(&isolation, &std::fs::read(POLICY).unwrap());
    assert!(said.contains("a process of its own with 1 MiB of memory"), "{said}");
}

#[test]
fn a_program_that_gives_no_answer_counts_as_a_refusal() {
    let isolation = Isolation { program: PathBuf::from("/bin/true"), ..isolation() };
    let said = refusal(&isolation, &std::fs::read(POLICY).unwrap());
    assert!(said.contains("ended without an answer (exit status: 0)"), "{said}");
    let nowhere = Isolation { program: PathBuf::from("/nowhere"), ..isolation };
    assert!(refusal(&nowhere, b"").contains("No such file"), "a program that is missing");
}
