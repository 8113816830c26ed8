//! What can go wrong, when and where, as a TOML file says it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{self, ConfigError};
use crate::storage::Storage;

/// All faults of a bus.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// Each can happen beside the others.
    #[serde(default)]
    pub fault: Vec<Fault>,
}

/// One way to fail, and when it does: whenever all the conditions given hold, with probability
/// `rate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// How probable it is for each packet (line) or each request and servo (servo); 1 if missing.
    #[serde(default = "certain")]
    pub rate: f64,
    /// Which packets the line damages.
    #[serde(default)]
    pub on: Side,
    /// Only packets to or from this servo, or only this servo.
    pub id: Option<u8>,
    /// Only this request and its answers, from 0.
    pub transaction: Option<u64>,
    /// The byte of the packet where it happens, from 0; at random if missing.
    pub byte: Option<usize>,
    /// How many bytes (`drop`, `duplicate`, `insert`, `garbage`) or bits (`flip`); 1 if missing.
    pub count: Option<u32>,
    /// How much later (`slow`, µs).
    pub delay_us: Option<f64>,
    /// How far off (`offset`, ticks).
    pub ticks: Option<i32>,
    /// The status bits (`status`), or the bits of `flip` in its one byte.
    pub bits: Option<u8>,
    /// Not before (s since the start).
    pub from_s: Option<f64>,
    /// Not from then on (s since the start).
    pub until_s: Option<f64>,
    /// How long it lasts once it has happened (`lost` and the faults of a servo; s).
    pub for_s: Option<f64>,
    /// On for half of each period (s): a loose contact.
    pub period_s: Option<f64>,
}

fn certain() -> f64 {
    1.0
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// From a servo.
    #[default]
    Answer,
    /// To the servos.
    Request,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Line: bytes get lost.
    Drop,
    /// Line: bytes come twice.
    Duplicate,
    /// Line: random bytes come in between.
    Insert,
    /// Line: a byte and the one after it change places.
    Swap,
    /// Line: bits change: `bits` of one byte, or `count` bits of the packet.
    Flip,
    /// Line: the packet ends before `byte`; at 0 it is lost as a whole.
    Truncate,
    /// Line: random bytes come before the packet.
    Garbage,
    /// Line: the packet runs into the next one: its end and the next one's header are lost.
    Merge,
    /// Line: the adapter gives back the request before the answer.
    Echo,
    /// Line: a valid packet of another id.
    WrongId,
    /// Line: a valid packet with one parameter too many, or none where one is left out.
    WrongLength,
    /// Line: the answer comes with that of the next request.
    Late,
    /// Line: the packet comes later.
    Slow,
    /// Line: framing noise of a clock that drifts: of a quarter of the bytes the last bit is
    /// missed and reads as the stop bit.
    Drift,
    /// Line: the port is gone, and comes back when it is over.
    Lost,
    /// Servo: hears and says nothing.
    Silent,
    /// Servo: its measurements stay as they are.
    Stuck,
    /// Servo: its position is off.
    Offset,
    /// Servo: its position runs backwards.
    Mirror,
    /// Servo: reports trouble that it does not have.
    Status,
    /// Servo: acknowledges writes to its EEPROM and keeps none.
    EepromRefused,
    /// Servo: resets: torque and RAM are gone, EEPROM is kept.
    BrownOut,
}

impl Kind {
    /// Whether a servo does it, not the line.
    pub fn of_servo(self) -> bool {
        use Kind::*;
        matches!(self, Silent | Stuck | Offset | Mirror | Status | EepromRefused | BrownOut)
    }
}

impl Fault {
    /// This kind of fault, certain everywhere and always.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            rate: 1.0,
            on: Side::Answer,
            id: None,
            transaction: None,
            byte: None,
            count: None,
            delay_us: None,
            ticks: None,
            bits: None,
            from_s: None,
            until_s: None,
            for_s: None,
            period_s: None,
        }
    }

    fn check(&self) -> Result<(), String> {
        use Kind::*;
        let kind = self.kind;
        let fits = |key: &str, given: bool, kinds: bool| {
            if given && !kinds {
                return Err(format!("{key}: expected not to be given for kind {kind:?}, found it"));
            }
            Ok(())
        };
        let line = !kind.of_servo();
        fits("on", self.on != Side::Answer, line && !matches!(kind, Echo | Lost | Late))?;
        fits(
            "byte",
            self.byte.is_some(),
            matches!(kind, Drop | Duplicate | Insert | Swap | Flip | Truncate),
        )?;
        fits(
            "count",
            self.count.is_some(),
            matches!(kind, Drop | Duplicate | Insert | Flip | Garbage),
        )?;
        fits("delay_us", self.delay_us.is_some(), kind == Slow)?;
        fits("ticks", self.ticks.is_some(), kind == Offset)?;
        fits("bits", self.bits.is_some(), matches!(kind, Status | Flip))?;
        fits("for_s", self.for_s.is_some(), kind == Lost || (!line && kind != BrownOut))?;
        for (key, missing) in [
            ("delay_us", kind == Slow && self.delay_us.is_none()),
            ("ticks", kind == Offset && self.ticks.is_none()),
            ("bits", kind == Status && self.bits.is_none()),
        ] {
            if missing {
                return Err(format!("{key}: expected a value for kind {kind:?}, found none"));
            }
        }
        config::in_range("rate", self.rate, 0.0, 1.0)?;
        for (key, value, least) in [
            ("count", self.count.map(f64::from), 1.0),
            ("delay_us", self.delay_us, 0.0),
            ("from_s", self.from_s, 0.0),
            ("until_s", self.until_s, self.from_s.unwrap_or(0.0)),
            ("for_s", self.for_s, 0.0),
            ("period_s", self.period_s, 1e-3),
        ] {
            value.map_or(Ok(()), |value| config::in_range(key, value, least, 1e9))?;
        }
        Ok(())
    }
}

impl FaultSpec {
    /// Reads and checks a specification.
    ///
    /// # Errors
    /// The file is missing, is not TOML, has an unknown key (named with its line and the nearest
    /// valid key), or a value does not fit its kind of fault.
    pub fn load(storage: &dyn Storage, path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&config::read_text(storage, path)?, path)
    }

    /// The same from a text; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let spec: Self = config::parse_toml(text, path)?;
        for (index, fault) in spec.fault.iter().enumerate() {
            fault.check().map_err(|message| ConfigError::Value {
                path: path.into(),
                message: format!("[[fault]] {}: {message}", index + 1),
            })?;
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FaultSpec, String> {
        FaultSpec::parse(text, Path::new("faults.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_example_is_valid_and_shows_every_kind() {
        let spec = parse(include_str!("../../../firmware-config/faults.toml")).unwrap();
        use Kind::*;
        for kind in [
            Drop,
            Duplicate,
            Insert,
            Swap,
            Flip,
            Truncate,
            Garbage,
            Merge,
            Echo,
            WrongId,
            WrongLength,
            Late,
            Slow,
            Drift,
            Lost,
            Silent,
            Stuck,
            Offset,
            Mirror,
            Status,
            EepromRefused,
            BrownOut,
        ] {
            assert!(spec.fault.iter().any(|fault| fault.kind == kind), "{kind:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one() {
        let error = parse("[[fault]]\nkind = 'drop'\nrat = 0.5\n").unwrap_err();
        assert!(error.starts_with("faults.toml:3: unknown field `rat`"), "{error}");
        assert!(error.ends_with("did you mean `rate`?"), "{error}");
        let error = parse("[[fault]]\nkind = 'dorp'\n").unwrap_err();
        assert!(error.starts_with("faults.toml:2: unknown variant `dorp`"), "{error}");
    }

    #[test]
    fn a_value_that_does_not_fit_its_kind_is_refused() {
        for (text, says) in [
            ("kind = 'drop'\nrate = 1.5", "rate: expected 0 to 1, found 1.5"),
            ("kind = 'drop'\nticks = 5", "ticks: expected not to be given for kind Drop"),
            ("kind = 'offset'", "ticks: expected a value for kind Offset, found none"),
            ("kind = 'slow'\ndelay_us = nan", "delay_us: expected 0"),
            ("kind = 'silent'\non = 'request'", "on: expected not to be given for kind Silent"),
            ("kind = 'stuck'\nfrom_s = 2\nuntil_s = 1", "until_s: expected 2"),
        ] {
            let error = parse(&format!("[[fault]]\n{text}\n")).unwrap_err();
            assert!(error.contains("[[fault]] 1: ") && error.contains(says), "{error}");
        }
    }
}
