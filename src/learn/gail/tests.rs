use super::*;
use crate::env::{Ends, EnvError, EnvSpec};
use crate::learn::demonstrations::collect;
use crate::learn::evaluate;
use crate::learn::rollout::{Actor, Noise};

/// A point on a line that its expert steers to the goal, or to zero where there are no goals.
struct Line {
    spec: EnvSpec,
    x: [f32; 1],
    goal: Vec<f32>,
}

impl Line {
    fn boxed(actions: ActionSpace, goal: usize) -> Box<dyn Env> {
        let spec = EnvSpec {
            name: "line",
            observation: 1,
            goal,
            actions,
            horizon: 10,
            tolerance: 0.0,
            ends: Ends::Never,
        };
        Box::new(Self { spec, x: [0.0], goal: vec![0.0; goal] })
    }

    fn error(&self) -> f32 {
        self.goal.first().unwrap_or(&0.0) - self.x[0]
    }
}

const CONTINUOUS: ActionSpace = ActionSpace::Continuous { size: 1, limit: 0.2 };
const DISCRETE: ActionSpace = ActionSpace::Discrete { choices: 3 };

impl Env for Line {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }
    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        (0..self.spec.goal).map(|_| rng.random_range(-1.0..1.0)).collect()
    }
    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        (self.x, self.goal) = ([rng.random_range(-1.0..1.0)], goal.to_vec());
        Ok(())
    }
    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        self.x[0] += match self.spec.actions {
            ActionSpace::Continuous { limit, .. } => action[0].clamp(-limit, limit),
            ActionSpace::Discrete { .. } => 0.2 * (action[0] - 1.0),
        };
        Ok(())
    }
    fn observation(&self) -> &[f32] {
        &self.x
    }
    fn achieved_goal(&self) -> &[f32] {
        &self.x[..self.spec.goal]
    }
    fn desired_goal(&self) -> &[f32] {
        &self.goal
    }
    fn reward(&self) -> f32 {
        -self.error().abs()
    }
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        Ok(vec![match self.spec.actions {
            ActionSpace::Continuous { limit, .. } => self.error().clamp(-limit, limit),
            ActionSpace::Discrete { .. } => (self.error() / 0.2).round().clamp(-1.0, 1.0) + 1.0,
        }])
    }
}

fn settings(gradient: PolicyGradient) -> GailSettings {
    // The lecture's gradient has no trust region: it needs rewards that change slowly, and small
    // steps (with 3e-3 it wanders off again on all of three seeds).
    let (lr, gradient_penalty) = match gradient {
        PolicyGradient::Ppo => (1e-3, 0.1),
        PolicyGradient::Reinforce => (1e-3, 1.0),
    };
    let discriminator = DiscriminatorSettings {
        hidden: vec![32, 32],
        batch: 128,
        gradient_penalty,
        ..DiscriminatorSettings::default()
    };
    GailSettings {
        gradient,
        hidden: vec![32, 32],
        steps: 500,
        minibatch: 64,
        gamma: 0.9,
        lambda: 0.95,
        lr,
        discriminator,
        discriminator_updates: 8,
        ..GailSettings::default()
    }
}

fn gail(settings: &GailSettings, actions: ActionSpace, goal: usize) -> Gail {
    let mut env = Line::boxed(actions, goal);
    let mut rng = stream(1, Stream::Demonstrations);
    let demonstrations = collect(env.as_mut(), 20, Noise::default(), &mut rng).unwrap();
    Gail::new(&Engine::tract(), settings, env, &demonstrations, 1).unwrap()
}

/// Mean sum of the task's own rewards.
fn mean_return(gail: &Gail, actions: ActionSpace, goal: usize) -> f64 {
    let mut env = Line::boxed(actions, goal);
    let mut actor = Actor::new(&Engine::tract(), &gail.policy().unwrap(), actions).unwrap();
    let goals = evaluate::goals(env.as_ref(), 50, 1);
    evaluate::run(env.as_mut(), &mut actor, &goals, Noise::default(), 1).unwrap().mean_return
}

/// The task's own rewards, which the learner never sees, before and after.
fn learns(gradient: PolicyGradient, actions: ActionSpace, goal: usize, iterations: usize) {
    let mut gail = gail(&settings(gradient), actions, goal);
    let before = mean_return(&gail, actions, goal);
    for _ in 0..iterations {
        gail.iterate().unwrap();
    }
    // The expert's return is a fifth of that of doing nothing.
    let after = mean_return(&gail, actions, goal);
    assert!(after > 0.5 * before, "{before} before, {after} after");
}

#[test]
fn ppo_imitates_numbers_from_the_experts_actions_alone() {
    learns(PolicyGradient::Ppo, CONTINUOUS, 0, 40);
}

#[test]
fn ppo_imitates_choices_from_the_experts_actions_alone() {
    learns(PolicyGradient::Ppo, DISCRETE, 0, 30);
}

#[test]
fn ppo_imitates_with_goals() {
    learns(PolicyGradient::Ppo, CONTINUOUS, 1, 120);
}

#[test]
fn reinforce_imitates_numbers_from_the_experts_actions_alone() {
    learns(PolicyGradient::Reinforce, CONTINUOUS, 0, 100);
}

#[test]
fn reinforce_imitates_choices_from_the_experts_actions_alone() {
    learns(PolicyGradient::Reinforce, DISCRETE, 0, 100);
}

#[test]
fn saved_and_restored_it_goes_on_bit_for_bit() {
    for gradient in [PolicyGradient::Ppo, PolicyGradient::Reinforce] {
        let mut whole = gail(&settings(gradient), CONTINUOUS, 1);
        whole.iterate().unwrap();
        let mut again = gail(&settings(gradient), CONTINUOUS, 1);
        again.restore(&whole.save().unwrap()).unwrap();
        assert_eq!(whole.iterate().unwrap(), again.iterate().unwrap());
        let bytes = |gail: &Gail| gail.policy().unwrap().to_bytes();
        assert!(bytes(&whole) == bytes(&again), "{gradient:?}");
    }
}

#[test]
fn the_deployed_policy_does_what_the_acting_one_prefers() {
    let mut gail = gail(&settings(PolicyGradient::Ppo), CONTINUOUS, 1);
    gail.iterate().unwrap();
    let mut env = Line::boxed(CONTINUOUS, 1);
    env.reset(&[0.4], &mut stream(3, Stream::HeldOut)).unwrap();
    let mut action = [0.0];
    let mut actor = Actor::new(&Engine::tract(), &gail.policy().unwrap(), CONTINUOUS).unwrap();
    actor.act(env.as_ref(), &mut action, &mut stream(4, Stream::HeldOut)).unwrap();
    let (mut row, mut y) = (Vec::new(), [0.0]);
    gail.standard.row(env.observation(), env.desired_goal(), &mut row);
    acting(&gail.engine, &gail.policy).unwrap().run_into(&[&row], &mut y).unwrap();
    assert!((action[0] - 0.2 * y[0]).abs() < 1e-6 && y[0] != 0.0, "{action:?} {y:?}");
}
