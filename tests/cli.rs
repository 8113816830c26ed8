//! The program as a user meets it: help, wrong input, exit codes.

use std::process::{Command, Output};

fn regoal(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_regoal"));
    program.args(args).env_remove("RUST_LOG");
    program.env("XDG_RUNTIME_DIR", folder.path()).env("XDG_CACHE_HOME", folder.path());
    program.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every verb and every verb below a verb, but for hidden ones.
fn verbs() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, above: &[String], all: &mut Vec<Vec<String>>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = [above, &[verb.get_name().to_owned()]].concat();
            all.push(path.clone());
            walk(verb, &path, all);
        }
    }
    let mut all = Vec::new();
    walk(&regoal::cli::command(), &[], &mut all);
    all
}

#[test]
fn every_verb_has_help_with_an_example() {
    let verbs = verbs();
    assert!(verbs.len() > 10);
    for verb in verbs {
        let mut args: Vec<_> = verb.iter().map(String::as_str).collect();
        args.push("--help");
        let output = regoal(&args);
        let help = text(&output.stdout);
        assert!(output.status.success(), "{verb:?}: {}", text(&output.stderr));
        let teaches = help.contains("Example") || help.contains("Commands:");
        assert!(teaches, "{verb:?}: {help}");
    }
}

#[test]
fn the_first_help_lists_every_verb_with_one_line() {
    let help = text(&regoal(&["--help"]).stdout);
    for verb in verbs().iter().filter(|verb| verb.len() == 1) {
        let name = &verb[0];
        let listed = help.lines().filter(|l| l.starts_with(&format!("  {name} "))).count();
        assert_eq!(listed, 1, "{name}: {help}");
    }
    for line in help.lines() {
        let whole = line.matches('`').count() % 2 == 0
            && line.matches('(').count() == line.matches(')').count();
        assert!(whole, "cut in the middle: {line}");
    }
}

#[test]
fn what_stands_in_a_list_of_verbs_or_options_breaks_where_the_terminal_ends() {
    let root = regoal::cli::command();
    let mut lists = vec![&root];
    while let Some(command) = lists.pop() {
        let verbs = command.get_subcommands().map(|verb| (verb.get_name(), verb.get_about()));
        let options = command.get_arguments().map(|arg| (arg.get_id().as_str(), arg.get_help()));
        for (name, said) in verbs.chain(options) {
            let said = said.map(ToString::to_string).unwrap_or_default();
            let whole = !said.contains('\n')
                && said.matches('`').count() % 2 == 0
                && said.matches('(').count() == said.matches(')').count();
            assert!(whole, "{} {name}: {said}", command.get_name());
        }
        lists.extend(command.get_subcommands());
    }
}

#[test]
fn wrong_input_ends_with_its_exit_code_and_says_what_to_do() {
    for (args, code, says) in [
        (&["status"][..], 1, "error: no robot is running: start one with `regoal run`"),
        (&["status", "--robot", "nemo"], 1, "nemo.sock: start one with `regoal run`"),
        (&["status", "--socket", "/nowhere/x.sock"], 1, "error: no daemon at /nowhere/x.sock"),
        (&["goal", "0.1", "-0.2", "inf"], 1, "error: no robot is running"),
        (&["goal", "0.1", "--joints", "elbow=1"], 2, "cannot be used with"),
        (&["goal", "0.1", "far", "0.2"], 2, "invalid value 'far' for '[NUMBER]...'"),
        (&["object", "0.1", "-0.2"], 2, "3 values required"),
        (&["gaol"], 2, "a similar subcommand exists: 'goal'"),
        (&["stop", "--socket", "a", "--robot", "b"], 2, "cannot be used with"),
        (&["episodes", "ls", "/nowhere"], 1, "error: cannot list /nowhere"),
        (&["policy", "inspect", "/nowhere.onnx"], 1, "/nowhere.onnx"),
        (
            &["finetune", "--policy", "p", "--episodes", "e", "--out", "o", "--momentum", "0.5"],
            1,
            "expected --optimiser sgd with --momentum",
        ),
        (
            &["finetune", "--policy", "p", "--episodes", "e", "--out", "o", "--ema", "1"],
            2,
            "expected a number of at least 0 and below 1, found 1",
        ),
        (&["finetune"], 2, "--episodes <FOLDER>"),
        (&["finetune", "--to", "https://x:1", "--out", "o"], 2, "cannot be used with"),
        (&["finetune", "--socket", "s", "--seed", "3"], 2, "cannot be used with"),
        (&["finetune", "--socket", "s", "--learning-rate", "0.1"], 2, "cannot be used with"),
        (&["finetune", "--socket", "s", "--key", "k"], 2, "cannot be used with"),
        (&["finetune", "--socket", "/nowhere/x.sock"], 1, "error: no daemon at /nowhere/x.sock"),
        (&["runtime", "install", "--from", "/nowhere.whl"], 1, "/nowhere.whl"),
        (&["train", "hre"], 2, "[possible values: "),
        (&["train", "her", "--env", "fourrooms"], 1, "did you mean `four_rooms`?"),
        (&["train", "her", "--set", "her.relable=1"], 1, "did you mean `relabel`?"),
        (&["train", "her", "--set", "her.relabel"], 1, "expected KEY=VALUE, found `her.relabel`"),
        (&["train", "her", "--preset", "fast"], 1, "expected a preset of her (paper, best, no-"),
        (&["train", "her", "--resume", "/nowhere"], 1, "/nowhere is no folder of `regoal train`"),
        (&["train", "gcbc", "--seeds", "2"], 1, "expected --env beside --seeds"),
        (&["record", "--leader-port", "/nowhere"], 2, "--leader <FILE>"),
        (&["record", "--leader", "/a.toml", "--keyboard"], 2, "cannot be used with"),
        (&["record", "--headless", "--leader", "/a.toml", "--leader-port", "/b"], 1, "/a.toml"),
        (
            &["emulate", "--faults", "tests/data/fault_of_another_servo.toml"],
            1,
            "[[fault]] 2: id: expected a servo of `so101-emulated`, one of [1, 2, 3, 4, 5, 6], found 9",
        ),
        (&["train", "--compare", "/nowhere"], 1, "/nowhere is no folder of `regoal train`"),
    ] {
        let output = regoal(args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{args:?}: {error}");
    }
    assert!(!std::path::Path::new("o").exists(), "what is refused leaves nothing behind");
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let output = regoal(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success() && script.contains("finetune"), "{shell}");
    }
}
