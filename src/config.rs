//! TOML files to checked types: an unknown key, a missing key or a value out of range is an error
//! that names the file, the line and what would be right.

mod policies;
mod safety;
mod schema;
mod tuning;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use policies::PolicyConfig;
pub use safety::{Exit, SafetyConfig, StopCategory};
pub use schema::schema;
pub use tuning::Tuning;

use crate::joints::{GoalSpace, MAX_JOINTS};
use crate::storage::Storage;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not valid TOML of this shape.
    #[error("{path}:{line}: {message}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and the nearest valid key if a key is unknown.
        message: String,
    },
    /// A value is out of range.
    #[error("{path}: {message}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
}

/// One robot: its bus, joints, limits and control settings (`firmware-config/*.toml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RobotConfig {
    /// The robot's name, written into each episode.
    pub name: String,
    /// Where the links are: `so101`, `so100`, a file `*.urdf` (relative to this one; with
    /// `base_link` and `tip_link`), or `none`: then the arm takes no Cartesian goals.
    pub model: String,
    /// The URDF's link that stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_link: Option<String>,
    /// The URDF's link that goals are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip_link: Option<String>,
    /// What the URDF says.
    #[serde(skip)]
    urdf: Option<String>,
    /// SHA-256 of the calibration that was applied, in hex; empty when there is none.
    #[serde(skip)]
    pub calibration: String,
    /// The servo bus.
    pub bus: BusConfig,
    /// The joints, base first.
    pub joint: Vec<JointConfig>,
    /// The control loop.
    #[serde(default)]
    pub control: ControlConfig,
    /// The safety checks.
    #[serde(default)]
    pub safety: SafetyConfig,
    /// How the emulated arm behaves; ignored on a real one.
    #[serde(default)]
    pub emulator: EmulatorConfig,
    /// The policies.
    #[serde(default)]
    pub policy: PolicyConfig,
}

/// How the servos are reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// `feetech` or `dynamixel`.
    pub protocol: Protocol,
    /// The serial port, such as `/dev/ttyACM0`; `emulated` for the built-in emulator.
    pub port: String,
    /// Bits per second.
    pub baud: u32,
    /// Dynamixel servos stop when nobody speaks to them for this long with torque on (ms, in steps
    /// of 20); 0: never. Feetech servos have no such register.
    #[serde(default = "default_watchdog_ms")]
    pub watchdog_ms: u32,
}

fn default_watchdog_ms() -> u32 {
    100
}

/// The wire protocol of a servo bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Feetech STS, SMS and SCS.
    Feetech,
    /// Dynamixel 2.0.
    Dynamixel,
}

/// The type of one servo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServoModel {
    /// Feetech STS3215.
    Sts3215,
    /// Feetech STS3250.
    Sts3250,
    /// Feetech SCS0009.
    Scs0009,
    /// Dynamixel XL330-M077.
    #[serde(rename = "xl330-m077")]
    Xl330M077,
    /// Dynamixel XL330-M288.
    #[serde(rename = "xl330-m288")]
    Xl330M288,
    /// Dynamixel XL430-W250.
    #[serde(rename = "xl430-w250")]
    Xl430W250,
    /// Dynamixel XM430-W350.
    #[serde(rename = "xm430-w350")]
    Xm430W350,
}

impl ServoModel {
    /// What it speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Sts3215 | Self::Sts3250 | Self::Scs0009 => Protocol::Feetech,
            Self::Xl330M077 | Self::Xl330M288 | Self::Xl430W250 | Self::Xm430W350 => {
                Protocol::Dynamixel
            }
        }
    }
}

/// One joint and the servo that moves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JointConfig {
    /// The joint's name.
    pub name: String,
    /// The servo's bus id.
    pub id: u8,
    /// The servo's type.
    pub servo: ServoModel,
    /// The servo's tick at 0 rad when the middle of its travel is tick 2048, where
    /// `regoal robot calibrate` puts it.
    pub zero_ticks: i32,
    /// +1 when ticks grow with the angle, else -1.
    pub direction: i8,
    /// Lowest position (rad).
    pub min_rad: f64,
    /// Highest position (rad).
    pub max_rad: f64,
    /// Highest speed (rad/s).
    pub max_velocity: f64,
    /// Highest acceleration (rad/s²).
    pub max_acceleration: f64,
    /// Highest jerk (rad/s³).
    #[serde(default = "JointConfig::default_jerk")]
    pub max_jerk: f64,
    /// Where the joint rests (rad).
    pub home_rad: f64,
    /// Where the joint is parked before its torque goes off (rad); where it rests when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park_rad: Option<f64>,
    /// What `regoal robot configure` puts into the servo.
    #[serde(default)]
    pub tuning: Tuning,
    /// What must stand in the servo's homing offset, from the calibration (ticks).
    #[serde(skip)]
    pub homing_offset: Option<i32>,
}

/// Settings of the control loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// Ticks per second.
    pub rate_hz: f64,
    /// A joint older than this many ticks is held.
    pub hold_after_ticks: u32,
    /// A joint older than this many ticks is a fault.
    pub fault_after_ticks: u32,
    /// A goal is given up after this many seconds.
    pub goal_timeout_s: f64,
    /// A goal that is moved by a stream is given up when nothing came for this many seconds.
    pub stream_timeout_s: f64,
    /// Where a person wishes the joints to be is not followed when it was measured longer ago (s).
    pub teleop_timeout_s: f64,
    /// What a goal is made of; without it the tip's position, of an arm with model = "none" its joints'
    /// positions. `object_position` needs somebody who tells where the object is.
    pub goal_space: GoalSpace,
    /// A goal counts as reached within this distance, in the goal space's unit (m; joints: rad).
    pub goal_tolerance: f64,
    /// This many ticks within the tolerance in a row end an episode as a success.
    pub reached_ticks: u32,
    /// The log is synced to the disk this often (ms).
    pub sync_ms: u64,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            rate_hz: 100.0,
            hold_after_ticks: 3,
            fault_after_ticks: 10,
            goal_timeout_s: 3.0,
            stream_timeout_s: 0.5,
            teleop_timeout_s: 0.1,
            goal_space: GoalSpace::default(),
            goal_tolerance: 0.02,
            reached_ticks: 20,
            sync_ms: 250,
        }
    }
}

/// How the emulated arm behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmulatorConfig {
    /// Standard deviation of measured positions (ticks).
    pub position_noise_ticks: f64,
    /// Each servo's own highest speed (rad/s).
    pub servo_velocity: f64,
    /// Each servo's own highest acceleration (rad/s²).
    pub servo_acceleration: f64,
    /// Position loop gain: speed per error (1/s).
    pub servo_gain: f64,
    /// Time from the end of a request to the begin of a servo's answer (µs).
    pub turnaround_us: f64,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            position_noise_ticks: 0.7,
            servo_velocity: 4.7,
            servo_acceleration: 60.0,
            servo_gain: 30.0,
            turnaround_us: 30.0,
        }
    }
}

impl RobotConfig {
    /// Reads and checks a robot's configuration.
    ///
    /// # Errors
    /// The file is missing, is not TOML, has an unknown key (named with its line and the nearest
    /// valid key), or a value is out of range.
    pub fn load(storage: &dyn Storage, path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::parse(&read_text(storage, path)?, path)?;
        let beside = path.parent().unwrap_or(Path::new(""));
        config.policy.store = config.policy.store.map(|folder| beside.join(folder));
        if config.model.ends_with(".urdf") {
            let file = beside.join(&config.model);
            config.urdf = Some(read_text(storage, &file)?);
        }
        Ok(config)
    }

    /// The same from a text; `path` is only named in errors. A URDF that it names is not read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = parse_toml(text, path)?;
        config.choose_goal_space(text);
        config.check().map_err(|message| ConfigError::Value { path: path.into(), message })?;
        Ok(config)
    }

    /// The URDF that the model names, as it was read, with its base and tip link.
    pub fn urdf(&self) -> Option<(&str, &str, &str)> {
        Some((self.urdf.as_deref()?, self.base_link.as_deref()?, self.tip_link.as_deref()?))
    }

    /// The period of one tick.
    pub fn period(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(1.0 / self.control.rate_hz)
    }

    /// The largest change of a goal position per tick that every joint can follow (rad).
    pub fn max_delta(&self) -> f64 {
        let slowest = self.joint.iter().map(|j| j.max_velocity).fold(f64::INFINITY, f64::min);
        slowest * self.period().as_secs_f64()
    }

    fn check(&self) -> Result<(), String> {
        if self.joint.is_empty() || self.joint.len() > MAX_JOINTS {
            return Err(format!(
                "expected 1 to {MAX_JOINTS} [[joint]] tables, found {}",
                self.joint.len()
            ));
        }
        // The register has 7 bits of 20 ms.
        in_range("bus.watchdog_ms", f64::from(self.bus.watchdog_ms), 0.0, 2540.0)?;
        for (i, joint) in self.joint.iter().enumerate() {
            joint.check(self.safety.limit_margin_rad)?;
            if joint.servo.protocol() != self.bus.protocol {
                return Err(format!(
                    "joint `{}`: expected a servo that speaks bus.protocol {:?}, found {:?}",
                    joint.name, self.bus.protocol, joint.servo
                ));
            }
            if let Some(other) =
                self.joint[..i].iter().find(|o| o.id == joint.id || o.name == joint.name)
            {
                return Err(format!(
                    "joints `{}` and `{}` must differ in name and id (ids {} and {})",
                    other.name, joint.name, other.id, joint.id
                ));
            }
        }
        self.check_model()?;
        let control = &self.control;
        in_range("control.rate_hz", control.rate_hz, 1.0, 1000.0)?;
        in_range("control.goal_timeout_s", control.goal_timeout_s, 0.01, 3600.0)?;
        in_range("control.goal_tolerance", control.goal_tolerance, 1e-4, 1.0)?;
        in_range("control.stream_timeout_s", control.stream_timeout_s, 0.01, 3600.0)?;
        in_range("control.teleop_timeout_s", control.teleop_timeout_s, 0.01, 10.0)?;
        self.safety.check()?;
        self.policy.check()?;
        if control.hold_after_ticks == 0 || control.fault_after_ticks < control.hold_after_ticks {
            return Err(format!(
                "expected 1 <= control.hold_after_ticks <= control.fault_after_ticks, found {} and {}",
                control.hold_after_ticks, control.fault_after_ticks
            ));
        }
        let emulator = &self.emulator;
        in_range("emulator.position_noise_ticks", emulator.position_noise_ticks, 0.0, 100.0)?;
        in_range("emulator.servo_velocity", emulator.servo_velocity, 0.01, 100.0)?;
        in_range("emulator.servo_acceleration", emulator.servo_acceleration, 0.1, 10_000.0)?;
        in_range("emulator.servo_gain", emulator.servo_gain, 0.1, 1000.0)?;
        in_range("emulator.turnaround_us", emulator.turnaround_us, 0.0, 100_000.0)
    }
}

impl RobotConfig {
    /// An arm whose geometry is not known, and of whose goals nothing is said, has goals for its joints.
    fn choose_goal_space(&mut self, text: &str) {
        let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
        let said = table.get("control").and_then(|control| control.get("goal_space")).is_some();
        if self.model == "none" && !said {
            self.control.goal_space = GoalSpace::JointPosition;
        }
    }

    fn check_model(&self) -> Result<(), String> {
        let links = [("base_link", &self.base_link), ("tip_link", &self.tip_link)];
        for (key, link) in links {
            match (self.model.ends_with(".urdf"), link) {
                (true, None) => return Err(format!("{key}: expected a link of {}", self.model)),
                (false, Some(_)) => {
                    return Err(format!("{key}: expected none, as `{}` is no URDF", self.model));
                }
                _ => {}
            }
        }
        let space = self.control.goal_space;
        if self.model == "none" && space.is_cartesian() {
            return Err(format!(
                "control.goal_space: expected joint_position or object_position, as an arm with \
                 model = \"none\" does not know where its tip is, found {}",
                space.name()
            ));
        }
        Ok(())
    }
}

impl JointConfig {
    /// Ten milliseconds from rest to 30 rad/s²: softer than what small gears are hit by at a start.
    fn default_jerk() -> f64 {
        3000.0
    }

    /// Where the joint is parked before its torque goes off (rad).
    pub fn park_rad(&self) -> f64 {
        self.park_rad.unwrap_or(self.home_rad)
    }

    fn check(&self, margin: f64) -> Result<(), String> {
        let at = |key: &str| format!("joint `{}`: {key}", self.name);
        if self.id > 252 {
            return Err(format!("{}: expected 0 to 252, found {}", at("id"), self.id));
        }
        if self.direction != 1 && self.direction != -1 {
            return Err(format!("{}: expected 1 or -1, found {}", at("direction"), self.direction));
        }
        if !(0..=4095).contains(&self.zero_ticks) {
            return Err(format!(
                "{}: expected 0 to 4095, found {}",
                at("zero_ticks"),
                self.zero_ticks
            ));
        }
        in_range(&at("min_rad"), self.min_rad, -6.3, 6.3)?;
        in_range(&at("max_rad"), self.max_rad, self.min_rad + 1e-3 + 2.0 * margin, 6.3)?;
        let (low, high) = (self.min_rad + margin, self.max_rad - margin);
        in_range(&at("home_rad"), self.home_rad, low, high)?;
        in_range(&at("park_rad"), self.park_rad(), low, high)?;
        in_range(&at("max_velocity"), self.max_velocity, 1e-3, 100.0)?;
        in_range(&at("max_acceleration"), self.max_acceleration, 1e-2, 10_000.0)?;
        in_range(&at("max_jerk"), self.max_jerk, 1e-1, 1_000_000.0)?;
        self.tuning.check().map_err(|message| at(&format!("tuning.{message}")))
    }
}

/// The text of a configuration file.
pub(crate) fn read_text(storage: &dyn Storage, path: &Path) -> Result<String, ConfigError> {
    let bytes =
        storage.read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    String::from_utf8(bytes).map_err(|e| ConfigError::Value {
        path: path.into(),
        message: format!("expected UTF-8 text: {e}"),
    })
}

/// TOML of one shape; errors name the line and the nearest valid key.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    text: &str,
    path: &Path,
) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| parse_error(text, path, &error))
}

pub(crate) fn in_range(key: &str, value: f64, min: f64, max: f64) -> Result<(), String> {
    if value.is_finite() && (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key}: expected {min} to {max}, found {value}"))
    }
}

fn parse_error(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let line =
        error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let mut message = error.message().trim().to_owned();
    if let Some(key) = nearest_key(&message) {
        message.push_str(&format!("; did you mean `{key}`?"));
    }
    ConfigError::Parse { path: path.into(), line, message }
}

/// The valid key or word most like the unknown one, both read from serde's message about it.
pub fn nearest_key(message: &str) -> Option<String> {
    let unknown = ["unknown field ", "unknown variant "];
    let rest = unknown.iter().find_map(|start| message.strip_prefix(start))?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    names
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMULATED: &str = include_str!("../firmware-config/emulated.toml");

    fn parse(text: &str) -> Result<RobotConfig, ConfigError> {
        RobotConfig::parse(text, Path::new("robot.toml"))
    }

    #[test]
    fn every_shipped_configuration_is_valid_named_as_its_file_and_knows_its_schema() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-config"));
        let mut seen = 0;
        for path in crate::storage::Disk.list(folder).unwrap() {
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let bytes = crate::storage::Disk.read(&path).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            if !text.contains("[[joint]]") {
                continue;
            }
            assert!(text.starts_with("#:schema ./robot.schema.json\n"), "{}", path.display());
            let robot = RobotConfig::load(&crate::storage::Disk, &path).unwrap();
            assert_eq!(robot.joint.len(), 6, "{}", path.display());
            assert!(robot.name.contains(path.file_stem().unwrap().to_str().unwrap()));
            seen += 1;
        }
        assert!(seen >= 7, "only {seen} configurations found");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one() {
        let text = EMULATED.replacen("rate_hz", "rate_hertz", 1);
        let line = text.lines().position(|l| l.starts_with("rate_hertz")).unwrap() + 1;
        let error = parse(&text).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("robot.toml:{line}: unknown field `rate_hertz`")),
            "{error}"
        );
        assert!(error.ends_with("did you mean `rate_hz`?"), "{error}");
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_valid_one() {
        let error = parse(&EMULATED.replacen("\"sts3215\"", "\"sts3125\"", 1)).unwrap_err();
        assert!(error.to_string().ends_with("did you mean `sts3215`?"), "{error}");
    }

    #[test]
    fn values_out_of_range_say_what_was_expected_and_found() {
        for (from, to, says) in [
            ("rate_hz = 100.0", "rate_hz = nan", "control.rate_hz: expected 1 to 1000, found NaN"),
            ("direction = 1", "direction = 2", "direction: expected 1 or -1, found 2"),
            ("id = 2", "id = 1", "must differ in name and id (ids 1 and 1)"),
        ] {
            let error = parse(&EMULATED.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_arm_without_geometry_has_goals_for_its_joints_and_is_refused_any_in_space() {
        let koch = include_str!("../firmware-config/koch-follower.toml");
        let line = "goal_space = \"joint_position\"\n";
        let space = |text: &str| parse(text).map(|robot| robot.control.goal_space);
        assert_eq!(space(&koch.replacen(line, "", 1)).unwrap(), GoalSpace::JointPosition);
        let asked = koch.replacen("joint_position", "end_effector_position", 1);
        let error = space(&asked).unwrap_err().to_string();
        assert!(error.contains("control.goal_space: expected joint_position"), "{error}");
        assert_eq!(space(EMULATED).unwrap(), GoalSpace::default());
    }

    #[test]
    fn any_text_is_parsed_without_a_panic() {
        proptest::proptest!(|(cut in 0usize..EMULATED.len(), noise in ".{0,20}")| {
            let mut text = EMULATED.to_owned();
            let cut = (0..=cut).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.insert_str(cut, &noise);
            let _ = parse(&text);
        });
    }
}
