//! The methods of training by name: one entry each.

use toml::Table;

use super::LearnError;
use super::bc::{Bc, BcSettings};
use super::gail::{Gail, GailSettings};
use super::goal_gail::{GoalGail, GoalGailSettings};
use super::her::{Her, HerTraining};
use super::learner::Learner;
use super::settings::{self, SettingsError};
use crate::engine::Engine;
use crate::env::Env;

/// A preset that stands in `presets/METHOD-NAME.toml`.
macro_rules! preset {
    ($method:literal, $name:literal) => {
        Preset {
            name: $name,
            text: include_str!(concat!("presets/", $method, "-", $name, ".toml")),
        }
    };
}

/// A method: how its settings are read, and how a learner is made of them.
#[derive(Clone, Copy)]
pub struct Method {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Steps in the environment of a training unless said otherwise; nothing for a method that takes
    /// none: its own setting `steps` says how long it trains.
    pub steps: Option<u64>,
    /// Settings by name.
    pub presets: &'static [Preset],
    /// Completes settings: see [`settings::resolve`].
    pub resolve: fn(Table, &str) -> Result<Table, SettingsError>,
    /// Makes the learner.
    pub build: Build,
}

/// Makes a learner of complete settings, an environment, an engine and a seed.
pub type Build = fn(Table, Box<dyn Env>, &Engine, u64) -> Result<Box<dyn Learner>, LearnError>;

/// Settings by name: a TOML text whose first line, a comment, says what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name.
    pub name: &'static str,
    /// The TOML text.
    pub text: &'static str,
}

impl Preset {
    /// What it is, in a line.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

/// All methods.
pub const METHODS: &[Method] = &[
    Method {
        name: "bc",
        about: "behaviour cloning: the demonstrated actions are made likely",
        steps: None,
        presets: &[
            preset!("bc", "gaussian"),
            preset!("bc", "covariance"),
            preset!("bc", "mixture"),
            preset!("bc", "categorical"),
            preset!("bc", "hold"),
        ],
        resolve: settings::resolve::<BcSettings>,
        build: clone,
    },
    Method {
        name: "gcbc",
        about: "goal-conditioned behaviour cloning with hindsight",
        steps: None,
        presets: &[preset!("gcbc", "future"), preset!("gcbc", "final"), preset!("gcbc", "near")],
        resolve: |settings, from| {
            let mut all = settings::table(&BcSettings::goal_conditioned(), from)?;
            settings::lay_over(&mut all, settings);
            settings::resolve::<BcSettings>(all, from)
        },
        build: clone,
    },
    Method {
        name: "gail",
        about: "generative adversarial imitation: policy gradient on the discriminator's reward",
        steps: Some(300_000),
        presets: &[preset!("gail", "ppo"), preset!("gail", "slide")],
        resolve: settings::resolve::<GailSettings>,
        build: |settings, mut env, engine, seed| {
            let settings: GailSettings = settings::parse(settings, "settings")?;
            let shown = settings.demonstrations.collect(env.as_mut(), seed)?;
            Ok(Box::new(Gail::new(engine, &settings, env, &shown, seed)?))
        },
    },
    Method {
        name: "her",
        about: "hindsight experience replay: a rollout succeeds at the goals it did achieve",
        steps: Some(150_000),
        presets: &[
            preset!("her", "paper"),
            preset!("her", "best"),
            preset!("her", "no-hindsight"),
            preset!("her", "bits"),
            preset!("her", "bits-no-hindsight"),
            preset!("her", "reach"),
            preset!("her", "manipulation"),
        ],
        resolve: settings::resolve::<HerTraining>,
        build: |settings, env, engine, seed| {
            let settings = settings::parse(settings, "settings")?;
            Ok(Box::new(Her::new(engine, &settings, env, seed)?))
        },
    },
    Method {
        name: "goalgail",
        about: "goal-conditioned adversarial imitation with hindsight; --relabel 0 is Goal GAIL",
        steps: Some(150_000),
        presets: &[
            preset!("goalgail", "paper"),
            preset!("goalgail", "slide"),
            preset!("goalgail", "best"),
            preset!("goalgail", "noisy-expert"),
            preset!("goalgail", "manipulation"),
        ],
        resolve: settings::resolve::<GoalGailSettings>,
        build: |settings, env, engine, seed| {
            let settings = settings::parse(settings, "settings")?;
            Ok(Box::new(GoalGail::new(engine, &settings, env, seed)?))
        },
    },
];

/// Clones the environment's expert.
fn clone(
    settings: Table,
    mut env: Box<dyn Env>,
    engine: &Engine,
    seed: u64,
) -> Result<Box<dyn Learner>, LearnError> {
    let settings: BcSettings = settings::parse(settings, "settings")?;
    let shown = settings.demonstrations.collect(env.as_mut(), seed)?;
    Ok(Box::new(Bc::new(engine, &settings, env.spec(), &shown, seed)?))
}

/// The method of a name.
pub fn named(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

impl Method {
    /// The settings of a preset.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn preset(&self, name: &str) -> Result<Table, SettingsError> {
        let found = self.presets.iter().find(|preset| preset.name == name);
        let names = || self.presets.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let preset = found.ok_or_else(|| SettingsError::Refused {
            from: "--preset".into(),
            message: format!("expected a preset of {} ({}), found `{name}`", self.name, names()),
        })?;
        settings::read(preset.text, &format!("preset {name}"))
    }

    /// The settings that layers make, the first one lowest; each comes with the name that errors
    /// call it by.
    ///
    /// # Errors
    /// A layer has an unknown key or a value of another type.
    pub fn settings(&self, layers: Vec<(String, Table)>) -> Result<Table, SettingsError> {
        let mut settings = (self.resolve)(Table::new(), "defaults")?;
        for (from, layer) in layers {
            settings::lay_over(&mut settings, layer);
            settings = (self.resolve)(settings, &from)?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_says_what_it_is() {
        for method in METHODS {
            for preset in method.presets {
                let layers = vec![(preset.name.to_owned(), method.preset(preset.name).unwrap())];
                method.settings(layers).unwrap_or_else(|e| panic!("{}: {e}", method.name));
                assert!(preset.text.starts_with("# ") && preset.about().len() > 10, "{preset:?}");
            }
        }
    }
}
