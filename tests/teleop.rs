//! A person steers: the loop over the emulator in virtual time, its wishes from a queue.

#[path = "common/bench.rs"]
mod bench;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bench::{Act, Bench, Line, Wire, drift, robot};
use regoal::clock::{Clock as _, ManualClock};
use regoal::config::RobotConfig;
use regoal::control::{
    Actor, Command, Ending, GoalRequest, Inline, Lead, Refusal, TeleopAction, TeleopSender,
    teleop_queue,
};
use regoal::episode::{Events, Fault, LogReceiver, Mode, Outcome, Record, Source, Step, log_queue};
use regoal::hal::{Arm, Emulator, MemoryPort};
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation, PolicyError};
use regoal::teleop::{Follower, Leader, Mapping, Teleoperator as _};

const FEETECH: &str = include_str!("../firmware-config/emulated.toml");

/// The bench with a person at the leader.
struct Led {
    bench: Bench,
    leader: TeleopSender,
    log: LogReceiver,
    records: Vec<Record>,
    /// Where the leader is (rad).
    at: JointVec<f64>,
}

impl Led {
    /// Armed, past the slow start, the leader where the arm is.
    fn new() -> Self {
        Self::steered(Act(ActionKind::JointDelta, |_: &Observation| stack([0.0; 6])))
    }

    fn steered(actor: impl Actor + 'static) -> Self {
        let clock = ManualClock::default();
        let (sender, log) = log_queue();
        let pilot = Box::new(Inline::new(Box::new(actor)));
        let seen = Arc::new(clock.clone());
        let mut bench = Bench::with_log(robot(), pilot, Some(sender), clock, seen);
        let (leader, source) = teleop_queue();
        bench.control = bench.control.with_teleop(source);
        bench.run(1);
        bench.control.command(&Command::Arm).unwrap();
        bench.run(110);
        let at = bench.positions();
        Self { bench, leader, log, records: Vec::new(), at }
    }

    /// The same, steered by the leader, and caught up with.
    fn taken_over() -> Self {
        let mut led = Self::new();
        led.run(1);
        led.command(Command::TakeOver(Lead::Device)).unwrap();
        led.run(120);
        led
    }

    fn command(&mut self, command: Command) -> Result<(), Refusal> {
        self.bench.control.command(&command)
    }

    fn tell(&mut self) {
        let stamp = self.bench.clock.now();
        self.leader.send(TeleopAction { stamp, position: self.at.clone() });
    }

    /// Runs with the leader measured before each tick.
    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tell();
            self.bench.run(1);
            self.records.extend(std::iter::from_fn(|| self.log.receive()));
        }
    }

    fn step(&self) -> &Step {
        self.bench.control.step()
    }

    fn mode(&self) -> Mode {
        self.bench.control.mode()
    }

    fn record(&mut self, goal: &[f32]) {
        let request = GoalRequest {
            goal: stack(goal.iter().copied()),
            timeout: Duration::from_secs(60),
            end_when_reached: false,
            source: Source::Demonstration,
            ..self.bench.goal([0.0; 3])
        };
        self.command(Command::Record(request)).unwrap();
    }

    /// The episodes that were logged since.
    fn episodes(&mut self) -> Vec<(Vec<Step>, Option<Outcome>)> {
        let mut episodes: Vec<(Vec<Step>, Option<Outcome>)> = Vec::new();
        let rest = std::iter::from_fn(|| self.log.receive());
        for record in self.records.drain(..).chain(rest) {
            match (record, episodes.last_mut()) {
                (Record::Begin(_), _) => episodes.push((Vec::new(), None)),
                (Record::Step(step), Some((steps, _))) => steps.push(step),
                (Record::Inputs(_), Some(_)) => {}
                (Record::End(outcome), Some((_, end))) => *end = Some(outcome),
                (record, None) => panic!("{record:?} without a beginning"),
            }
        }
        episodes
    }
}

/// The highest share of a joint's highest speed between two steps.
fn fastest(led: &Led, before: &Step, now: &Step) -> f64 {
    let dt = led.bench.robot.period().as_secs_f64();
    let pairs = before.sent.iter().zip(&now.sent).zip(&led.bench.robot.joint);
    pairs.map(|((a, b), j)| f64::from(b - a).abs() / dt / j.max_velocity).fold(0.0, f64::max)
}

#[test]
fn the_arm_goes_to_the_leader_slowly_and_then_follows_it() {
    let mut led = Led::new();
    led.at[0] += 0.6;
    led.run(1);
    led.command(Command::TakeOver(Lead::Device)).unwrap();
    let share = led.bench.robot.safety.takeover_speed;
    let (mut ticks, mut before) = (0, led.step().clone());
    while (f64::from(led.step().sent[0]) - led.at[0]).abs() > 0.05 {
        led.run(1);
        let speed = fastest(&led, &before, led.step());
        assert!(speed <= share + 1e-3, "tick {ticks}: {speed} of the highest speed");
        assert!(led.step().intervention && led.step().mode == Mode::Teleop);
        assert!((f64::from(led.step().action[0]) - led.at[0]).abs() < 1e-6);
        before = led.step().clone();
        ticks += 1;
        assert!(ticks < 1000, "it never came there");
    }
    led.run(110);
    led.at[0] -= 0.6;
    let mut highest = 0.0f64;
    for _ in 0..100 {
        before = led.step().clone();
        led.run(1);
        highest = highest.max(fastest(&led, &before, led.step()));
    }
    assert!(highest > 0.9, "it follows at {highest} of its highest speed");
    assert!((led.bench.positions()[0] - led.at[0]).abs() < 0.02);
}

#[test]
fn a_leader_that_is_far_away_silent_or_nonsense_does_not_take_over() {
    let mut led = Led::new();
    let take_over = Command::TakeOver(Lead::Device);
    assert_eq!(led.command(take_over.clone()), Err(Refusal::NobodySteers));
    led.at[3] -= 1.1;
    led.run(1);
    let refused = led.command(take_over.clone()).unwrap_err();
    assert_eq!(refused, Refusal::Mismatch { joint: 3 });
    assert!(refused.to_string().contains("joint 4"), "{refused}");
    led.at[3] = f64::NAN;
    led.run(1);
    assert_eq!(led.command(take_over.clone()), Err(Refusal::Mismatch { joint: 3 }));
    assert_eq!(led.mode(), Mode::Holding);
    led.command(Command::Disarm).unwrap();
    assert_eq!(led.command(take_over), Err(Refusal::Disarmed));
}

#[test]
fn a_wish_that_grows_old_is_held_and_the_way_back_to_it_is_slow() {
    let mut led = Led::taken_over();
    led.at[0] += 1.0;
    led.run(5);
    // The leader falls silent in the middle of its way.
    led.bench.run(60);
    assert!(led.step().events.contains(Events::ACTION_LATE) && led.step().action.is_empty());
    let held = led.step().sent.clone();
    led.bench.run(50);
    assert_eq!((led.step().sent.clone(), led.mode()), (held, Mode::Teleop));
    let share = led.bench.robot.safety.takeover_speed;
    for _ in 0..50 {
        let before = led.step().clone();
        led.run(1);
        assert!(fastest(&led, &before, led.step()) <= share + 1e-3);
    }
    led.run(400);
    assert!((led.bench.positions()[0] - led.at[0]).abs() < 0.02);
}

#[test]
fn nonsense_of_the_leader_is_held_and_positions_beyond_the_limits_are_not_sent() {
    let mut led = Led::taken_over();
    for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (before, at) = (led.step().sent.clone(), led.at[2]);
        led.at[2] = nonsense;
        led.run(5);
        assert!(led.step().events.contains(Events::ACTION_REFUSED), "{nonsense}");
        assert_eq!((led.step().sent.clone(), led.mode()), (before, Mode::Teleop), "{nonsense}");
        led.at[2] = at;
    }
    let at = led.at.clone();
    led.at = stack([0.0; 5]);
    led.run(5);
    assert!(led.step().events.contains(Events::ACTION_REFUSED), "five joints of six");
    led.at = at;
    led.at[0] = 3.0;
    led.run(800);
    let highest = led.bench.robot.joint[0].max_rad;
    let sent = f64::from(led.step().sent[0]);
    assert!((highest - 0.05..highest).contains(&sent), "sent to {sent}");
}

#[test]
fn faults_stop_the_arm_while_a_person_steers_and_end_the_demonstration() {
    type Harm = fn(&mut Led);
    let cases: [(Harm, Fault); 4] = [
        (|led| led.command(Command::EmergencyStop).unwrap(), Fault::EmergencyStop),
        (
            |led| {
                let mut celsius = f64::from(led.step().temperature[2]);
                while celsius < 66.0 {
                    celsius += 3.0;
                    led.bench.emulator().servo(3).unwrap().heat(celsius);
                    led.run(3);
                }
            },
            Fault::Overheat,
        ),
        (|led| Line::set(&led.bench.line.silent, true), Fault::BusSilent),
        (|led| led.bench.emulator().servo(2).unwrap().set_status(32), Fault::Servo),
    ];
    for (harm, fault) in cases {
        let mut led = Led::taken_over();
        led.record(&[]);
        led.run(20);
        harm(&mut led);
        led.run(20);
        assert_eq!(led.mode(), Mode::Faulted(fault));
        led.at[0] += 0.5;
        let held = led.bench.positions();
        led.run(50);
        assert!(led.bench.moved_since(&held) < 0.02, "{fault:?}: it followed");
        let episodes = led.episodes();
        assert_eq!(episodes.len(), 1, "{fault:?}");
        let outcome = episodes[0].1.clone().unwrap();
        assert_eq!((outcome.success, outcome.reason.as_str()), (None, "stopped by a fault"));
        assert_eq!(led.command(Command::TakeOver(Lead::Device)), Err(Refusal::Faulted(fault)));
    }
}

#[test]
fn a_demonstration_holds_what_was_wished_and_sent_and_the_operators_word() {
    for verdict in [Some(true), Some(false), None] {
        let mut led = Led::taken_over();
        led.record(&[0.0, -0.25, 0.15]);
        for _ in 0..30 {
            led.at[0] += 0.01;
            led.run(1);
        }
        led.command(Command::Conclude(verdict)).unwrap();
        led.run(3);
        let result = led.bench.control.take_result().unwrap();
        assert_eq!(result.ending, Ending::Concluded);
        let episodes = led.episodes();
        let [(steps, Some(outcome))] = episodes.as_slice() else { panic!("{episodes:?}") };
        // Nobody says anything: the goal was given, and missed.
        assert_eq!(outcome.success, verdict.or(Some(false)));
        assert_eq!((steps.len(), outcome.ticks), (31, 31));
        assert!(outcome.final_distance.unwrap() > 0.02);
        for step in steps {
            assert!(step.intervention && step.mode == Mode::Teleop);
            assert_eq!(step.desired_goal.as_slice(), [0.0, -0.25, 0.15]);
            assert_eq!((step.action.len(), step.sent.len()), (6, 6));
        }
        assert!(steps.last().unwrap().action[0] - steps[0].action[0] > 0.25);
    }
}

#[test]
fn a_goal_is_marked_or_else_the_one_achieved_at_the_end() {
    for mark in [true, false] {
        let mut led = Led::taken_over();
        led.record(&[]);
        led.run(20);
        let here = led.step().achieved_goal.clone();
        if mark {
            led.command(Command::Mark).unwrap();
        }
        led.at[0] += 0.3;
        led.run(60);
        led.command(Command::Cut).unwrap();
        led.run(30);
        // Neither the time until the verdict nor what is done meanwhile is a part of it.
        led.at[0] -= 0.3;
        led.run(60);
        assert_eq!(led.command(Command::Mark), Err(Refusal::NotRecording));
        led.command(Command::Conclude(None)).unwrap();
        let episodes = led.episodes();
        let [(steps, Some(outcome))] = episodes.as_slice() else { panic!("{episodes:?}") };
        assert_eq!((steps.len(), outcome.success), (81, None));
        assert!(steps[0].desired_goal.is_empty());
        let last = steps.last().unwrap();
        let expected = if mark { &here } else { &last.achieved_goal };
        assert_eq!(&last.desired_goal, expected);
        assert_eq!(steps[40].desired_goal.is_empty(), !mark);
        let far = regoal::control::distance(&last.achieved_goal, expected);
        assert_eq!(outcome.final_distance, Some(far));
        assert!(!mark || far > 0.05, "{far}");
    }
}

#[test]
fn nothing_is_recorded_before_somebody_steers_and_letting_go_ends_it() {
    let mut led = Led::new();
    let request = led.bench.goal([0.0, -0.25, 0.15]);
    assert_eq!(led.command(Command::Record(request)), Err(Refusal::NotTeleoperated));
    for command in [Command::Mark, Command::Cut, Command::Conclude(None)] {
        assert_eq!(led.command(command), Err(Refusal::NotRecording));
    }
    led.run(1);
    led.command(Command::TakeOver(Lead::Device)).unwrap();
    led.record(&[]);
    led.run(20);
    led.command(Command::LetGo).unwrap();
    led.run(5);
    assert_eq!(led.mode(), Mode::Holding);
    let episodes = led.episodes();
    assert_eq!(episodes.len(), 1);
    assert_eq!(episodes[0].0.len(), 20);
    assert_eq!(episodes[0].1.as_ref().unwrap().reason.as_str(), "stopped");
}

/// Moves the base by a little more with each tick since it began, and counts its beginnings.
struct Growing(f32, Arc<AtomicU64>);

impl Actor for Growing {
    fn act(&mut self, _: &Observation) -> Result<JointVec<f32>, PolicyError> {
        self.0 += 1e-4;
        Ok(stack([self.0.min(0.01), 0.0, 0.0, 0.0, 0.0, 0.0]))
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
    }
    fn id(&self) -> regoal::episode::PolicyId {
        regoal::episode::PolicyId([9; 16])
    }
    fn reset(&mut self) {
        self.0 = 0.0;
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_person_takes_over_in_mid_episode_and_gives_it_back_without_a_jump() {
    let beginnings = Arc::new(AtomicU64::new(0));
    let mut led = Led::steered(Growing(0.0, beginnings.clone()));
    let goal = GoalRequest {
        timeout: Duration::from_secs(4),
        source: Source::Run,
        ..led.bench.goal([0.3, 0.0, 0.3])
    };
    led.command(Command::Reach(goal.clone())).unwrap();
    led.run(100);
    assert_eq!((led.mode(), beginnings.load(Ordering::Relaxed)), (Mode::Reaching, 1));
    led.at = led.bench.positions();
    led.tell();
    led.command(Command::TakeOver(Lead::Device)).unwrap();
    // Longer than the goal's time: a person has the time it takes.
    for tick in 0..500 {
        led.at[1] += if tick < 100 { 0.002 } else { 0.0 };
        led.run(1);
    }
    assert_eq!(led.mode(), Mode::Teleop);
    led.command(Command::LetGo).unwrap();
    led.run(50);
    assert_eq!((led.mode(), beginnings.load(Ordering::Relaxed)), (Mode::Reaching, 2));
    led.command(Command::Stop).unwrap();
    let episodes = led.episodes();
    assert_eq!(episodes.len(), 1, "one file");
    let steps = &episodes[0].0;
    let by_hand = steps.iter().filter(|step| step.intervention).count();
    assert_eq!((steps.len(), by_hand), (650, 500));
    assert!(steps.iter().all(|step| step.desired_goal == goal.goal));
    assert!(steps.iter().all(|s| s.intervention == (s.mode == Mode::Teleop)));
    // What was sent keeps the gate's limits through both handovers, up to the log's rounding.
    let dt = led.bench.robot.period().as_secs_f64();
    for triple in steps.windows(3) {
        for (j, joint) in led.bench.robot.joint.iter().enumerate() {
            let [a, b, c] = [0, 1, 2].map(|i| f64::from(triple[i].sent[j]));
            assert!((c - b).abs() <= joint.max_velocity * dt + 1e-6);
            let acceleration = (c - 2.0 * b + a) / dt / dt;
            assert!(acceleration.abs() <= joint.max_acceleration + 0.02, "{acceleration}");
        }
    }
}

#[test]
fn an_arm_that_is_led_by_hand_has_no_torque_and_holds_where_it_is_let_go() {
    let mut led = Led::new();
    led.command(Command::TakeOver(Lead::ByHand)).unwrap();
    assert_eq!(led.bench.torque(), [0; 6]);
    led.record(&[]);
    for _ in 0..50 {
        let pan = led.bench.positions()[0];
        led.bench.emulator().servo(1).unwrap().place(pan + 0.01);
        led.bench.run(1);
    }
    led.command(Command::Conclude(Some(true))).unwrap();
    led.bench.run(1);
    let before = led.bench.positions();
    led.command(Command::LetGo).unwrap();
    led.bench.run(100);
    assert_eq!((led.mode(), led.bench.torque()), (Mode::Holding, vec![1; 6]));
    assert!(led.bench.moved_since(&before) < 0.02);
    let episodes = led.episodes();
    let (steps, outcome) = &episodes[0];
    assert_eq!(outcome.as_ref().unwrap().success, Some(true));
    assert!(steps.iter().all(|s| s.sent.is_empty() && s.action == s.position));
    assert!(steps[50].action[0] - steps[0].action[0] > 0.4);
}

#[test]
fn torque_comes_back_only_after_each_goal_was_set_to_where_the_joint_is() {
    for (lead, free) in [(Lead::ByHand, 0), (Lead::Damped, 2)] {
        let mut led = Led::new();
        led.command(Command::TakeOver(lead)).unwrap();
        assert_eq!(led.bench.torque(), [free; 6], "{lead:?}");
        let there: JointVec<f64> = led.bench.positions().iter().map(|q| q + 0.1).collect();
        for (servo, q) in (1..=6).zip(&there) {
            led.bench.emulator().servo(servo).unwrap().place(*q);
        }
        led.bench.run(5);
        led.bench.line.take();
        led.command(Command::LetGo).unwrap();
        let mut set = [false; 6];
        for packet in led.bench.line.take() {
            // One servo at a time: a write of `Goal_Position`.
            if let [0xFF, 0xFF, id @ 1..=6, _, 0x03, 42, low, high, ..] = packet.as_slice() {
                let servo = usize::from(*id) - 1;
                let goal = f64::from(u16::from_le_bytes([*low, *high]));
                let joint = &led.bench.robot.joint[servo];
                let here =
                    f64::from(joint.zero_ticks) + there[servo] / std::f64::consts::TAU * 4096.0;
                assert!((goal - here).abs() < 5.0, "servo {id}: {goal} ticks, {here} expected");
                set[servo] = true;
            }
            if bench::torques(&packet).contains(&1) {
                assert_eq!(set, [true; 6], "{lead:?}: {packet:?}");
            }
        }
        led.bench.run(100);
        assert_eq!((led.mode(), led.bench.torque()), (Mode::Holding, vec![1; 6]));
        assert!(led.bench.moved_since(&there) < 0.02);
    }
}

#[test]
fn a_servo_that_cannot_brake_is_a_fault_and_goes_on_holding() {
    let koch = FEETECH.replace("\"feetech\"", "\"dynamixel\"").replace("sts3215", "xl330-m288");
    let mut bench =
        Bench::armed(RobotConfig::parse(&koch, Path::new("arm.toml")).unwrap(), drift(0.0));
    bench.control.command(&Command::TakeOver(Lead::Damped)).unwrap();
    bench.run(1);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Servo));
    let before = bench.positions();
    bench.run(50);
    assert!(bench.moved_since(&before) < 0.02);
}

/// A leader arm in memory, its servos as they were left: holding.
fn leader(
    mappings: &[Mapping],
) -> (Leader, Arc<Mutex<Emulator>>, Arc<Line>, ManualClock, RobotConfig) {
    let (robot, clock) = (robot(), ManualClock::default());
    let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 5)));
    let line = Arc::<Line>::default();
    let open = {
        let (robot, emulator) = (robot.clone(), emulator.clone());
        let (line, clock) = (line.clone(), Arc::new(clock.clone()));
        move || {
            let wire = Wire::new(MemoryPort::new(emulator.clone(), clock.clone()), line.clone());
            Arm::listen(&robot, Box::new(wire), clock.clone())
        }
    };
    let leader = Leader::open(&robot, &robot, mappings, open).unwrap();
    (leader, emulator, line, clock, robot)
}

#[test]
fn a_leader_is_read_and_told_nothing_but_that_its_torque_is_off() {
    let (mut leader, _, line, clock, _) = leader(&[]);
    for _ in 0..10 {
        clock.advance(Duration::from_millis(10));
        let follower = Follower { now: clock.now(), ..Follower::default() };
        assert!(leader.poll(&follower).unwrap().is_some());
    }
    let mut off = 0;
    for packet in line.take() {
        let writes = matches!(packet[4], 0x03 | 0x04 | 0x83);
        let torques = bench::torques(&packet);
        assert!(!writes || !torques.is_empty(), "{packet:?}");
        assert!(torques.iter().all(|torque| *torque == 0), "{packet:?}");
        off += torques.len();
    }
    assert!(off >= 6);
}

#[test]
fn the_joints_mirror_the_leaders_by_name_and_scale_and_its_age_is_told() {
    let mappings = ["gripper=wrist_roll*-0.5".parse().unwrap()];
    let (mut leader, emulator, line, clock, robot) = leader(&mappings);
    for (i, joint) in robot.joint.iter().enumerate() {
        emulator.lock().unwrap().servo(joint.id).unwrap().place(0.1 * i as f64);
    }
    let mut poll = |line: &Line, silent: bool| {
        Line::set(&line.silent, silent);
        clock.advance(Duration::from_millis(10));
        let follower = Follower { now: clock.now(), ..Follower::default() };
        leader.poll(&follower).unwrap().unwrap()
    };
    let action = poll(&line, false);
    let expected = [0.0, 0.1, 0.2, 0.3, 0.4, -0.2];
    for (q, expected) in action.position.iter().zip(expected) {
        assert!((q - expected).abs() < 0.01, "{:?}", action.position);
    }
    // One that falls silent has an old stamp, and the loop holds.
    let later = poll(&line, true);
    assert_eq!(later, action);
}

#[test]
fn a_relative_leader_goes_on_from_where_the_arm_is() {
    let (leader, emulator, _, clock, _) = leader(&[]);
    let mut leader = leader.relative();
    let sent: JointVec<f64> = stack([0.5, 0.4, 0.3, 0.2, 0.1, 0.0]);
    let poll = |leader: &mut Leader| {
        clock.advance(Duration::from_millis(10));
        let now = clock.now();
        let follower = Follower { now, sent: sent.clone(), ..Follower::default() };
        leader.poll(&follower).unwrap().unwrap().position
    };
    let stays = |leader: &mut Leader| {
        let off = poll(leader).iter().zip(&sent).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-9, "{off} rad");
    };
    stays(&mut leader);
    emulator.lock().unwrap().servo(1).unwrap().place(-0.1);
    stays(&mut leader);
    emulator.lock().unwrap().servo(1).unwrap().place(0.0);
    leader.engage(true, &Follower::default());
    stays(&mut leader);
    emulator.lock().unwrap().servo(1).unwrap().place(0.2);
    let moved = poll(&mut leader);
    assert!((moved[0] - 0.7).abs() < 0.01 && (moved[1] - 0.4).abs() < 0.01, "{moved:?}");
}

#[test]
fn a_leader_that_is_unplugged_is_found_again() {
    let (mut leader, _, line, clock, _) = leader(&[]);
    let mut poll = || {
        clock.advance(Duration::from_millis(100));
        leader.poll(&Follower { now: clock.now(), ..Follower::default() })
    };
    assert!(poll().unwrap().is_some());
    Line::set(&line.gone, true);
    assert!(poll().is_err());
    (0..20).for_each(|_| assert!(!poll().is_ok_and(|action| action.is_some())));
    Line::set(&line.gone, false);
    let found = (0..10).any(|_| poll().is_ok_and(|action| action.is_some()));
    assert!(found);
}
