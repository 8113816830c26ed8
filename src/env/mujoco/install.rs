//! Puts MuJoCo and the models of the Fetch robot into the user's cache, from the wheels `mujoco` and
//! `gymnasium-robotics`. Nothing of them is part of this program.
//!
//! The models are the wheel's own, with what their Python program does when it starts (the weld
//! between the gripper and the point that leads it has no offset), and three more made of them:
//!
//! | file | what it is |
//! |---|---|
//! | `reach.xml`, `push.xml`, `pick_and_place.xml` | the wheel's |
//! | `stack_two.xml` | the last with a second block like the first |
//! | `..._meshfree.xml` | each of the four without meshes: only the fingers touch, and steps cost about half |
//!
//! `SHA256SUMS` holds the hash of every file; [`Installed::open`] checks it.

use std::path::{Path, PathBuf};

use super::{Library, MujocoError};
use crate::storage::Storage;
use crate::wheel::{self, Progress, Wheel, WheelError};

const ROBOTICS: Wheel = Wheel {
    project: "gymnasium-robotics",
    version: "1.4.2",
    file: "gymnasium_robotics-1.4.2-py3-none-any.whl",
    sha256: "a1743530431cb377e6b3b956d284bc96436fc68bac1648ef205054c178e7dc4b",
    contents: &[
        "gymnasium_robotics/envs/assets/LICENSE.md",
        "gymnasium_robotics/envs/assets/fetch/pick_and_place.xml",
        "gymnasium_robotics/envs/assets/fetch/push.xml",
        "gymnasium_robotics/envs/assets/fetch/reach.xml",
        "gymnasium_robotics/envs/assets/fetch/robot.xml",
        "gymnasium_robotics/envs/assets/fetch/shared.xml",
        "gymnasium_robotics/envs/assets/stls/fetch/base_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/bellows_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/elbow_flex_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/estop_link.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/forearm_roll_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/gripper_link.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/head_pan_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/head_tilt_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/l_wheel_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/laser_link.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/r_wheel_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/shoulder_lift_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/shoulder_pan_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/torso_fixed_link.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/torso_lift_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/upperarm_roll_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/wrist_flex_link_collision.stl",
        "gymnasium_robotics/envs/assets/stls/fetch/wrist_roll_link_collision.stl",
    ],
};

const X86_64: [Wheel; 2] = [
    Wheel {
        project: "mujoco",
        version: "3.11.0",
        file: "mujoco-3.11.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "f40214fefc8c2fe0002a3c8abadf30de7a3330634f3c45cc29b407b40a0173fc",
        contents: &["mujoco/libmujoco.so.3.11.0"],
    },
    ROBOTICS,
];

const AARCH64: [Wheel; 2] = [
    Wheel {
        project: "mujoco",
        version: "3.11.0",
        file: "mujoco-3.11.0-cp312-cp312-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
        sha256: "517bff03623c3329a563f575afd7d731b0be5c4f92a54dcec934b99120b4a9ec",
        contents: &["mujoco/libmujoco.so.3.11.0"],
    },
    ROBOTICS,
];

/// The library's file.
const LIBRARY: &str = "libmujoco.so.3.11.0";
/// The hashes of all the others.
const SUMS: &str = "SHA256SUMS";
/// What the name of a model without meshes ends in, before `.xml`.
const MESHFREE: &str = "_meshfree";

/// The wheels for this computer, MuJoCo's own first.
///
/// # Errors
/// None is pinned for its processor or system.
pub fn wheels() -> Result<&'static [Wheel], MujocoError> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(&X86_64),
        ("linux", "aarch64") => Ok(&AARCH64),
        (system, processor) => {
            Err(MujocoError::Platform { found: format!("{system} on {processor}") })
        }
    }
}

/// The folder that all is installed in: `regoal/mujoco/VERSION` in the user's cache.
///
/// # Errors
/// No cache is known.
pub fn folder() -> Result<PathBuf, MujocoError> {
    let cache = wheel::cache_folder("mujoco")?;
    Ok(cache.join(format!("{}-{}", X86_64[0].version, ROBOTICS.version)))
}

/// Installs library and models into a folder, [`folder`] by default; does nothing where they are as
/// they were installed. `from` is the folder that holds the [`wheels`]; without it they are fetched
/// with pip.
///
/// # Errors
/// A wheel cannot be fetched or is not the pinned one, or a file cannot be written.
pub fn install(
    storage: &dyn Storage,
    into: &Path,
    from: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Installed, MujocoError> {
    if Installed::open(storage, into).is_err() && storage.list(into).is_ok() {
        wheel::empty(storage, into)?;
    }
    wheel::install(storage, into, wheels()?, from, progress, |new| finish(storage, new))?;
    Installed::open(storage, into)
}

/// What is installed: every file as it was.
#[derive(Debug, Clone)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// What is installed in a folder.
    ///
    /// # Errors
    /// Nothing is, or a file was changed.
    pub fn open(storage: &dyn Storage, folder: &Path) -> Result<Self, MujocoError> {
        let sums = storage.read(&folder.join(SUMS));
        let sums = sums.map_err(|_| MujocoError::Missing { folder: folder.into() })?;
        for line in String::from_utf8_lossy(&sums).lines() {
            let (expected, name) = line.split_once("  ").unwrap_or((line, ""));
            let path = folder.join(name);
            let bytes = storage.read(&path);
            let bytes = bytes.map_err(|source| MujocoError::File { path: path.clone(), source })?;
            let found = wheel::sha256(&bytes);
            if found != expected {
                return Err(MujocoError::Changed { path, expected: expected.into(), found });
            }
        }
        Ok(Self { folder: folder.into() })
    }

    /// The library's file.
    pub fn library(&self) -> PathBuf {
        self.folder.join(LIBRARY)
    }

    /// Opens the library: `other` where one is named, which must be of a version that is understood,
    /// else the installed one.
    ///
    /// # Errors
    /// It does not open.
    pub fn load(&self, other: Option<&Path>) -> Result<std::sync::Arc<Library>, MujocoError> {
        Library::open(other.unwrap_or(&self.library()))
    }

    /// The file of a model, such as `pick_and_place`.
    pub fn model(&self, name: &str, meshfree: bool) -> PathBuf {
        self.folder.join(format!("{name}{}.xml", if meshfree { MESHFREE } else { "" }))
    }
}

/// Makes the models of the wheel's, and writes down the hash of every file.
fn finish(storage: &dyn Storage, folder: &Path) -> Result<(), MujocoError> {
    let at = |name: &str| {
        let path = folder.join(name);
        move |source| MujocoError::Wheel(WheelError::File { path, source })
    };
    let read = |name: &'static str| -> Result<String, MujocoError> {
        let bytes = storage.read(&folder.join(name)).map_err(at(name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let write = |name: &str, text: &str| {
        storage.replace(&folder.join(name), text.as_bytes()).map_err(at(name))
    };
    let shared = welded(&read("shared.xml")?)?;
    let robot = read("robot.xml")?;
    let pick = read("pick_and_place.xml")?;
    write("shared.xml", &without("shared.xml", &shared, &["texture_block"])?)?;
    write("shared_meshfree.xml", &without("shared.xml", &shared, &["<mesh ", "texture_block"])?)?;
    write("robot_meshfree.xml", &without("robot.xml", &robot, &["<geom mesh="])?)?;
    let models = [
        ("reach", "reach.xml", read("reach.xml")?),
        ("push", "push.xml", read("push.xml")?),
        ("stack_two", "stack_two.xml", two_blocks(&pick)?),
        ("pick_and_place", "pick_and_place.xml", pick),
    ];
    for (name, file, text) in models {
        let folders = " meshdir=\"../stls/fetch\" texturedir=\"../textures\"";
        let text = replaced(file, &text, folders, "")?;
        write(file, &text)?;
        let text = replaced(file, &text, "\"shared.xml\"", "\"shared_meshfree.xml\"")?;
        let text = replaced(file, &text, "\"robot.xml\"", "\"robot_meshfree.xml\"")?;
        write(&format!("{name}{MESHFREE}.xml"), &text)?;
    }
    let mut sums = String::new();
    for path in storage.list(folder).map_err(at(""))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = storage.read(&path).map_err(at(&name))?;
        sums += &format!("{}  {name}\n", wheel::sha256(&bytes));
    }
    write(SUMS, &sums)
}

/// The weld that leads the gripper, without an offset: `reset_mocap_welds` sets it so at run time.
fn welded(shared: &str) -> Result<String, MujocoError> {
    let body = "body2=\"robot0:gripper_link\"";
    replaced("shared.xml", shared, body, &format!("{body} relpose=\"0 0 0 1 0 0 0\""))
}

/// A second block, `object1`, that is as the first one.
fn two_blocks(pick: &str) -> Result<String, MujocoError> {
    let file = "pick_and_place.xml";
    let (begin, end) = ("<body name=\"object0\"", "</body>");
    let missing = || MujocoError::Model { file, expected: begin.into() };
    let from = pick.find(begin).ok_or_else(missing)?;
    let length = pick.get(from..).and_then(|rest| rest.find(end)).ok_or_else(missing)? + end.len();
    let block = pick.get(from..from + length).ok_or_else(missing)?;
    let second = replaced(file, block, "object0", "object1")?;
    replaced(file, pick, block, &format!("{block}\n\t\t{second}"))
}

/// The text without the lines that hold any of these.
fn without(file: &'static str, text: &str, marks: &[&str]) -> Result<String, MujocoError> {
    if let Some(expected) = marks.iter().find(|mark| !text.contains(**mark)) {
        return Err(MujocoError::Model { file, expected: (*expected).into() });
    }
    let kept = text.lines().filter(|line| !marks.iter().any(|mark| line.contains(mark)));
    Ok(kept.map(|line| format!("{line}\n")).collect())
}

fn replaced(file: &'static str, text: &str, from: &str, to: &str) -> Result<String, MujocoError> {
    let missing = || MujocoError::Model { file, expected: from.into() };
    if text.contains(from) { Ok(text.replace(from, to)) } else { Err(missing()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICK: &str = "<mujoco>
\t<compiler meshdir=\"../stls/fetch\" texturedir=\"../textures\"></compiler>
\t\t<body name=\"object0\" pos=\"1\">
\t\t\t<joint name=\"object0:joint\"></joint>
\t\t</body>
</mujoco>
";

    #[test]
    fn a_second_block_is_as_the_first_one() {
        let two = two_blocks(PICK).unwrap();
        let block =
            "<body name=\"object1\" pos=\"1\">\n\t\t\t<joint name=\"object1:joint\"></joint>";
        assert!(two.contains(block), "{two}");
        assert_eq!(two.matches("object0").count(), 2);
        assert_eq!(two.matches("</body>").count(), 2);
    }

    #[test]
    fn a_model_that_is_not_the_known_one_is_refused() {
        assert!(two_blocks("<mujoco/>").is_err());
        assert!(welded("<weld body2=\"hand\"/>").is_err());
        assert!(without("robot.xml", "<geom/>", &["<geom mesh="]).is_err());
    }

    #[test]
    fn only_lines_that_are_marked_are_left_out() {
        let text = "<a/>\n<geom mesh=\"x\"/>\n<b/>\n";
        assert_eq!(without("robot.xml", text, &["<geom mesh="]).unwrap(), "<a/>\n<b/>\n");
    }

    #[test]
    fn every_pinned_wheel_has_a_whole_hash_and_files_with_names_of_their_own() {
        for wheels in [X86_64, AARCH64] {
            let mut names: Vec<_> =
                wheels.iter().flat_map(|w| w.contents).map(|c| wheel::file_name(c)).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all);
            assert!(names.contains(&LIBRARY));
            for wheel in wheels {
                let hex = wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(hex && wheel.sha256.len() == 64 && wheel.file.contains(wheel.version));
            }
        }
    }
}
