//! A module uses only modules of lower levels.

use std::path::{Path, PathBuf};

const LEVELS: [(&str, u8); 21] = [
    ("clock", 0),
    ("joints", 0),
    ("os", 0),
    ("rng", 0),
    ("storage", 0),
    ("svg", 0),
    ("config", 1),
    ("episode", 1),
    ("onnx", 1),
    ("wheel", 1),
    ("engine", 2),
    ("hal", 2),
    ("kinematics", 2),
    ("goal", 2),
    ("env", 3),
    ("policy", 3),
    ("control", 4),
    ("learn", 4),
    ("teleop", 5),
    ("daemon", 6),
    ("cmd", 7),
];

fn level(module: &str) -> u8 {
    if module == "cli" {
        return 8;
    }
    let found = LEVELS.iter().find(|(name, _)| *name == module);
    found.unwrap_or_else(|| panic!("module `{module}` has no level: add it here and to lib.rs")).1
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// The top-level module that a file of `src` belongs to; none for `lib.rs` and `main.rs`.
fn module_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").unwrap().components().next().unwrap();
    let name = Path::new(first.as_os_str()).with_extension("");
    let name = name.to_str().unwrap().to_owned();
    (name != "lib" && name != "main").then_some(name)
}

/// Every `crate::name` of a text, also inside `use crate::{a, b}`.
fn used(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for after in text.split("crate::").skip(1) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match after.strip_prefix('{') {
            None => names.push(after.chars().take_while(|c| is_name(*c)).collect::<String>()),
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                names.extend(list.split(',').map(|item| {
                    item.trim().chars().take_while(|c| is_name(*c)).collect::<String>()
                }));
            }
        }
    }
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}

#[test]
fn a_module_uses_only_lower_levels() {
    let mut paths = Vec::new();
    sources(Path::new("src"), &mut paths);
    let (mut uses, mut wrong) = (0, Vec::new());
    for path in paths {
        let Some(module) = module_of(&path) else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        for name in used(&text).into_iter().filter(|name| *name != module) {
            uses += 1;
            if level(&name) >= level(&module) {
                wrong.push(format!("{}: `{module}` uses `{name}`", path.display()));
            }
        }
    }
    assert!(uses > 50, "only {uses} uses found: this test looks in the wrong place");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_use_of_the_same_or_a_higher_level_would_be_found() {
    assert_eq!(
        used("use crate::hal::Arm; let x = crate::{policy, goal::a};"),
        ["hal", "policy", "goal"]
    );
}
