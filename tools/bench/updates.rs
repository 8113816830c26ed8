//! What updates of the learners cost, in processor time of one thread: sampling, hindsight and target
//! networks included.

use regoal::env::{ActionSpace, Ends, Env, EnvError, EnvSpec, named};
use regoal::goal::Trajectory;
use regoal::learn::DiscriminatorSettings;
use regoal::learn::gail::{Gail, GailSettings};
use regoal::learn::goal_gail::{GoalGail, GoalGailSettings};
use regoal::learn::her::{Her, HerSettings, HerTraining};
use regoal::learn::learner::Learner as _;
use regoal::learn::off_policy::{DdpgSettings, OffPolicySettings};
use regoal::rng::Rng;

use super::measure::{Contender, Figure, ROUNDS, Unit, cpu_rate, in_rounds, pinned};
use super::{Setup, peers};

/// Two hidden layers of this width under DDPG.
fn learner(width: usize) -> OffPolicySettings {
    let ddpg = DdpgSettings { hidden: vec![width; 2], ..DdpgSettings::default() };
    OffPolicySettings { ddpg, ..OffPolicySettings::default() }
}

/// Ten rollouts or more fill the replay buffer; they earn hardly an update.
fn her() -> HerSettings {
    HerSettings { updates_per_step: 1e-3, cut: false, ..HerSettings::default() }
}

/// DDPG with hindsight in four rooms: 256 transitions an update.
pub fn ddpg_her(setup: &Setup, width: usize) -> Vec<Figure> {
    let training = HerTraining { her: her(), learner: learner(width) };
    let mut her = Her::new(setup.best(), &training, named("four_rooms").unwrap(), 1).unwrap();
    her.iterate().unwrap();
    let ours: Contender<'_, 1> = Box::new(move || {
        Some([cpu_rate(|| {
            her.update().unwrap();
        })])
    });
    let peers: &[&str] = if width == 256 { &["sb3-her", "torch-eager"] } else { &["torch-eager"] };
    figures(&format!("update/ddpg_her/{width}"), ours, peers, ROUNDS, Unit::Updates)
}

/// goalGAIL in four rooms: 256 transitions of the agent and 96 of the expert an update, and a step of
/// the discriminator on 256 of each, with its gradient penalty, for every two.
pub fn goalgail(setup: &Setup) -> Vec<Figure> {
    let settings =
        GoalGailSettings { her: her(), learner: learner(256), ..GoalGailSettings::default() };
    let env = named("four_rooms").unwrap();
    let mut goal_gail = GoalGail::new(setup.best(), &settings, env, 1).unwrap();
    goal_gail.iterate().unwrap();
    let ours: Contender<'_, 1> = Box::new(move || {
        let pairs = cpu_rate(|| {
            goal_gail.update().unwrap();
            goal_gail.update().unwrap();
            goal_gail.discriminate(false).unwrap();
        });
        Some([2.0 * pairs])
    });
    figures("update/goalgail/256", ours, &["torch-eager"], ROUNDS, Unit::Updates)
}

/// Rounds of a loop that takes seconds.
const FEW: usize = 5;

/// GAIL, its whole loop on an environment that costs nothing: 2048 steps, 16 steps of the
/// discriminator on 256 rows of each side without a penalty, as its peer's, and PPO with 10 epochs of
/// batches of 64.
pub fn gail(setup: &Setup) -> Vec<Figure> {
    let defaults = GailSettings { steps: 2048, epochs: 10, minibatch: 64, ..Default::default() };
    let discriminator =
        DiscriminatorSettings { gradient_penalty: 0.0, batch: 256, ..defaults.discriminator };
    let settings =
        GailSettings { hidden: vec![256; 2], discriminator, discriminator_updates: 16, ..defaults };
    let demonstrations: Vec<Trajectory> = (0..20).map(Point::demonstration).collect();
    let env = Box::new(Point::new());
    let mut gail = Gail::new(setup.best(), &settings, env, &demonstrations, 1).unwrap();
    let ours: Contender<'_, 1> = Box::new(move || {
        let before = gail.env_steps();
        let mut calls = 0.0;
        let rate = cpu_rate(|| {
            gail.iterate().unwrap();
            calls += 1.0;
        });
        Some([rate * (gail.env_steps() - before) as f64 / calls])
    });
    figures("update/gail/256", ours, &["imitation"], FEW, Unit::EnvSteps)
}

/// Ours against each peer, in turns.
fn figures(
    name: &str,
    ours: Contender<'_, 1>,
    peers: &[&'static str],
    rounds: usize,
    unit: Unit,
) -> Vec<Figure> {
    let values = pinned(1, || {
        let theirs = peers.iter().map(|peer| peers::contender(peer, name, 1));
        in_rounds(rounds, &mut std::iter::once(ours).chain(theirs).collect::<Vec<_>>())
    });
    let value = |i: usize| values[i].map(|[rate]| rate);
    let figure = Figure::new(name, value(0).unwrap_or(0.0), unit);
    let against = |(i, peer): (usize, &&'static str)| figure.clone().against(peer, value(i + 1));
    peers.iter().enumerate().map(against).collect()
}

/// A point that goes where it is told, and where it should be: an environment that costs nothing.
struct Point {
    spec: EnvSpec,
    /// Its place, then the place wished for.
    state: [f32; 4],
}

impl Point {
    fn new() -> Self {
        let spec = EnvSpec {
            name: "point",
            observation: 4,
            goal: 0,
            actions: ActionSpace::Continuous { size: 2, limit: 1.0 },
            horizon: 50,
            tolerance: 0.0,
            ends: Ends::Never,
        };
        Self { spec, state: [0.0; 4] }
    }

    /// Straight there.
    fn demonstration(number: usize) -> Trajectory {
        let mut point = Self::new();
        let (sin, cos) = (number as f32).sin_cos();
        point.state = [2.0 * sin, 2.0 * cos, -cos, sin];
        let (mut seen, mut actions) = (vec![point.state], Vec::new());
        for _ in 0..point.spec.horizon {
            let [x, y, to_x, to_y] = point.state;
            let action = [5.0 * (to_x - x), 5.0 * (to_y - y)].map(|a| a.clamp(-1.0, 1.0));
            point.step(&action).unwrap();
            actions.push(action);
            seen.push(point.state);
        }
        Trajectory::new(&seen, &vec![[]; seen.len()], &actions, &[]).unwrap()
    }
}

impl Env for Point {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn sample_goal(&self, _: &mut Rng) -> Vec<f32> {
        Vec::new()
    }

    fn reset(&mut self, _: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        use rand::RngExt as _;
        self.state.fill_with(|| rng.random_range(-2.0..=2.0));
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        for (x, a) in self.state.iter_mut().zip(action) {
            *x = (*x + 0.2 * a.clamp(-1.0, 1.0)).clamp(-20.0, 20.0);
        }
        Ok(())
    }

    fn observation(&self) -> &[f32] {
        &self.state
    }

    fn achieved_goal(&self) -> &[f32] {
        &[]
    }

    fn desired_goal(&self) -> &[f32] {
        &[]
    }

    fn reward(&self) -> f32 {
        let [x, y, to_x, to_y] = self.state;
        -(to_x - x).hypot(to_y - y)
    }
}
