//! Adversarial nets (Goodfellow et al. 2014, algorithm 1) on a distribution that is known, and the
//! question that they raise: does a better discriminator teach the generator more?
//!
//! ```text
//! repeat: k times: psi <- a step of  min  - E_data[log D(x)] - E_z[log(1 - D(G(z)))]
//!         theta <- a step of  min  E_z[log(1 - D(G(z)))]        (minimax)
//!                         or  min  - E_z[log D(G(z))]           (non-saturating)
//! ```
//!
//! The better `D`, the closer `D(G(z))` to 0, and the slope of `log(1 - D) = - softplus(logit)` in the
//! logit is `-D`: the minimax generator learns least when it is worst. That of `- log D` is `-(1 - D)`.

use serde::{Deserialize, Serialize};

use super::network::{Activation, Init, Layers, Mlp};
use super::trained::Trained;
use super::{Discriminator, DiscriminatorSettings, LearnError};
use crate::engine::{Engine, Session};
use crate::onnx::{AdamW, Builder, Dim, Value, Verified};
use crate::rng::{Rng, Stream, normal, stream};

/// What a generator minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorLoss {
    /// `E[log(1 - D)]`, the game's own.
    Minimax,
    /// `- E[log D]`: the same fixed point, and a slope where `D` is sure.
    NonSaturating,
}

impl GeneratorLoss {
    /// Its name in settings and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimax => "minimax",
            Self::NonSaturating => "non_saturating",
        }
    }
}

/// Settings of the game.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GameSettings {
    /// The discriminator; its batch is the generator's too.
    pub discriminator: DiscriminatorSettings,
    /// Steps of the discriminator before each of the generator.
    pub k: usize,
    /// What the generator minimises.
    pub generator: GeneratorLoss,
    /// Units of each hidden layer of the generator.
    pub hidden: Vec<usize>,
    /// Numbers of noise in.
    pub noise: usize,
    /// The generator's learning rate.
    pub lr: f32,
}

impl Default for GameSettings {
    fn default() -> Self {
        let discriminator = DiscriminatorSettings {
            hidden: vec![32, 32],
            gradient_penalty: 0.0,
            batch: 128,
            ..DiscriminatorSettings::default()
        };
        let generator = GeneratorLoss::NonSaturating;
        Self { discriminator, k: 1, generator, hidden: vec![32, 32], noise: 2, lr: 1e-3 }
    }
}

/// What a round of the game found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Share of rows that the discriminator had right before its last step.
    pub accuracy: f32,
    /// Norm of the generator's gradient.
    pub gradient: f32,
}

/// A distribution of rows, drawn from one by one.
pub type Source = fn(&mut Rng) -> [f32; 2];

/// Four Gaussians around `(±2, ±2)` with deviation 0.2.
pub fn four_clusters(rng: &mut Rng) -> [f32; 2] {
    let mut coordinate = || {
        let side = if normal(rng) < 0.0 { -2.0 } else { 2.0 };
        side + 0.2 * normal(rng) as f32
    };
    [coordinate(), coordinate()]
}

/// A generator against a discriminator.
pub struct Game {
    settings: GameSettings,
    discriminator: Discriminator,
    generator: Trained,
    session: Session,
    source: Source,
    rng: Rng,
}

impl Game {
    /// The game before its first round.
    ///
    /// # Errors
    /// The engine cannot run a loss.
    pub fn new(
        engine: &Engine,
        settings: &GameSettings,
        source: Source,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let mut weights = stream(seed, Stream::Weights);
        let discriminator = Discriminator::new(engine, &settings.discriminator, 2, &mut weights)?;
        let mlp = Mlp::new(settings.noise, &settings.hidden, 2, Activation::Relu);
        let first = mlp.draw(Init::Xavier, &mut weights);
        let loss = |b: &mut Builder, g: &Layers| loss(b, g, settings, discriminator.mlp());
        let mut b = Builder::new();
        let z = b.input("noise", &[Dim::Batch, Dim::Fixed(settings.noise)]);
        let layers = mlp.given(&mut b, "weights");
        let x = layers.apply(&mut b, z);
        b.output("rows", x);
        Ok(Self {
            generator: Trained::new(engine, &mlp, first, AdamW::default(), loss)?,
            session: engine.load(&Verified::try_from(b.finish()?)?)?,
            discriminator,
            settings: settings.clone(),
            source,
            rng: stream(seed, Stream::Training),
        })
    }

    /// Rows of the generator, `[n, 2]`.
    ///
    /// # Errors
    /// The engine failed.
    pub fn generate(&mut self, n: usize) -> Result<Vec<f32>, LearnError> {
        let noise = self.noise(n);
        let weights = self.generator.weights();
        let dims = [n, self.settings.noise];
        let inputs = [("noise", &dims[..], &noise[..]), ("weights", &[weights.len()], weights)];
        Ok(self.session.run(&inputs)?.swap_remove(0).data)
    }

    fn noise(&mut self, n: usize) -> Vec<f32> {
        (0..n * self.settings.noise).map(|_| normal(&mut self.rng) as f32).collect()
    }

    /// `k` steps of the discriminator; its accuracy.
    ///
    /// # Errors
    /// The engine failed.
    pub fn discriminate(&mut self, k: usize) -> Result<f32, LearnError> {
        let mut accuracy = 0.0;
        for _ in 0..k {
            let n = self.settings.discriminator.batch;
            let data: Vec<f32> = (0..n).flat_map(|_| (self.source)(&mut self.rng)).collect();
            let generated = self.generate(n)?;
            accuracy = self.discriminator.update(&data, &generated, &mut self.rng)?.accuracy;
        }
        Ok(accuracy)
    }

    /// One round: `k` steps of the discriminator, one of the generator with learning rate `lr`.
    ///
    /// # Errors
    /// The engine failed.
    pub fn round(&mut self, k: usize, lr: f32) -> Result<Round, LearnError> {
        let accuracy = self.discriminate(k)?;
        let noise = self.noise(self.settings.discriminator.batch);
        let batch = [("noise", &noise[..]), ("discriminator", self.discriminator.weights())];
        let gradient = self.generator.step(&batch, lr)?.gradient_norm;
        Ok(Round { accuracy, gradient })
    }

    /// One round as the settings say.
    ///
    /// # Errors
    /// The engine failed.
    pub fn play(&mut self) -> Result<Round, LearnError> {
        self.round(self.settings.k, self.settings.lr)
    }
}

/// The generator's loss with the discriminator's weights as an input.
fn loss(b: &mut Builder, g: &Layers, settings: &GameSettings, discriminator: &Mlp) -> Value {
    let rows = [Dim::Fixed(settings.discriminator.batch), Dim::Fixed(settings.noise)];
    let z = b.input("noise", &rows);
    let x = g.apply(b, z);
    let d = discriminator.given(b, "discriminator");
    let logit = d.apply(b, x);
    // log(1 - D) = - softplus(logit) and - log D = softplus(- logit).
    let loss = match settings.generator {
        GeneratorLoss::Minimax => {
            let surprise = b.softplus(logit);
            b.neg(surprise)
        }
        GeneratorLoss::NonSaturating => {
            let minus = b.neg(logit);
            b.softplus(minus)
        }
    };
    b.reduce_mean(loss, &[], false)
}

/// One line of [`report`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Steps of the discriminator before each of the generator.
    pub k: usize,
    /// What the generator minimises.
    pub generator: GeneratorLoss,
    /// The discriminator's accuracy, mean over the rounds.
    pub accuracy: f32,
    /// The norm of the generator's gradient, mean over the rounds.
    pub gradient: f32,
}

/// How good the discriminator is against how large the generator's gradient, for each `k` and both
/// losses. The generator stands still at its first weights, so that the lines differ in nothing but
/// the discriminator: each round begins with a new one. A `k` of some thousands is its convergence.
///
/// # Errors
/// The engine failed.
pub fn report(
    engine: &Engine,
    settings: &GameSettings,
    source: Source,
    ks: &[usize],
    rounds: u64,
) -> Result<Vec<Line>, LearnError> {
    let mut lines = Vec::new();
    for generator in [GeneratorLoss::Minimax, GeneratorLoss::NonSaturating] {
        for k in ks.iter().copied() {
            let settings = GameSettings { generator, ..settings.clone() };
            let mut line = Line { k, generator, accuracy: 0.0, gradient: 0.0 };
            for seed in 0..rounds {
                let round = Game::new(engine, &settings, source, seed)?.round(k, 0.0)?;
                line.accuracy += round.accuracy / rounds as f32;
                line.gradient += round.gradient / rounds as f32;
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

/// The lines as a table of comma-separated values with a heading.
pub fn csv(lines: &[Line]) -> String {
    let line = |l: &Line| format!("{},{},{},{}\n", l.generator.name(), l.k, l.accuracy, l.gradient);
    let heading = "generator,k,discriminator_accuracy,generator_gradient_norm\n".to_owned();
    heading + &lines.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_the_discriminator_the_less_the_minimax_generator_learns() {
        let lines =
            report(&Engine::tract(), &GameSettings::default(), four_clusters, &[1, 5, 1000], 3)
                .unwrap();
        let [one, five, many, _, _, sure] = &lines[..] else { panic!("{lines:?}") };
        assert!(many.accuracy > five.accuracy && many.accuracy > one.accuracy, "{lines:?}");
        assert!(many.gradient < 0.3 * one.gradient, "{lines:?}");
        assert!(many.gradient < 0.3 * sure.gradient, "{lines:?}");
        assert!(csv(&lines).lines().count() == 7);
    }

    #[test]
    fn the_generator_finds_the_distribution() {
        let mut game =
            Game::new(&Engine::tract(), &GameSettings::default(), four_clusters, 1).unwrap();
        let off = |rows: &[f32]| {
            let far = rows.iter().filter(|x| (x.abs() - 2.0).abs() > 0.8).count();
            far as f32 / rows.len() as f32
        };
        let before = off(&game.generate(500).unwrap());
        for _ in 0..4000 {
            game.play().unwrap();
        }
        let rows = game.generate(500).unwrap();
        let after = off(&rows);
        assert!(before > 0.5 && after < 0.25, "{before} {after}");
        // All four clusters, not one of them over and over.
        for quadrant in [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]] {
            let inside = |x: &&[f32; 2]| x[0] * quadrant[0] > 0.0 && x[1] * quadrant[1] > 0.0;
            let share = rows.as_chunks::<2>().0.iter().filter(inside).count() as f32 / 500.0;
            assert!(share > 0.08, "{quadrant:?}: {share}");
        }
    }
}
