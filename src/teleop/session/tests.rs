use super::*;
use crate::episode::Fault;

const CONFIG: SessionConfig = SessionConfig {
    count: 2,
    episode: Duration::from_secs(10),
    reset: Duration::from_secs(5),
    autonomous: false,
    by_hand: false,
};

/// A session with an arm, a device and a log that do what they are told.
struct World {
    session: Session,
    seen: Observed,
    open: bool,
    done: Vec<Effect>,
}

impl World {
    fn new(config: SessionConfig) -> Self {
        let seen = Observed {
            now: Time(1),
            mode: Mode::Disarmed,
            home: false,
            together: false,
            done: false,
            files: 0,
            failures: 0,
        };
        Self { session: Session::new(config), seen, open: false, done: Vec::new() }
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Arm => self.seen.mode = Mode::Holding,
                Effect::EmergencyStop => self.fault(Fault::EmergencyStop),
                Effect::GoHome => self.seen.home = true,
                Effect::TakeOver => (self.seen.mode, self.seen.together) = (Mode::Teleop, true),
                Effect::LetGo if self.seen.mode == Mode::Teleop => self.seen.mode = Mode::Holding,
                Effect::Record => self.open = true,
                Effect::Conclude(_) => self.end(),
                Effect::LetGo | Effect::Mark | Effect::Cut | Effect::Remove => {}
            }
            self.done.push(effect);
        }
    }

    fn end(&mut self) {
        self.seen.files += u64::from(std::mem::take(&mut self.open));
    }

    fn fault(&mut self, fault: Fault) {
        self.seen.mode = Mode::Faulted(fault);
        self.end();
    }

    fn say(&mut self, word: Word) -> State {
        let effects = self.session.word(word);
        self.apply(effects);
        self.run(1.0)
    }

    fn run(&mut self, seconds: f64) -> State {
        for _ in 0..(seconds / 0.02) as usize {
            self.seen.now = self.seen.now + Duration::from_millis(20);
            let effects = self.session.observe(&self.seen);
            self.apply(effects);
        }
        self.session.state()
    }

    fn count(&self, effect: Effect) -> usize {
        self.done.iter().filter(|done| **done == effect).count()
    }
}

#[test]
fn a_session_records_as_many_as_it_is_to_and_ends() {
    let mut world = World::new(CONFIG);
    assert_eq!(world.run(1.0), State::Idle, "nothing moves before somebody says so");
    assert_eq!(world.say(Word::Start), State::Armed);
    assert_eq!(world.say(Word::Start), State::Recording);
    assert_eq!(world.say(Word::Success), State::Armed);
    assert_eq!(world.session.progress(), (1, 2));
    assert_eq!(world.say(Word::Start), State::Recording);
    assert_eq!(world.say(Word::Stop), State::Review);
    assert_eq!(world.say(Word::Failure), State::Finished);
    assert_eq!(world.session.progress(), (2, 2));
    let verdicts = [Some(true), Some(false)].map(|v| world.count(Effect::Conclude(v)));
    assert_eq!((verdicts, world.count(Effect::Remove)), ([1, 1], 0));
    assert!(!world.session.failed());
}

#[test]
fn what_is_thrown_away_or_undone_is_removed_and_does_not_count() {
    let mut world = World::new(CONFIG);
    world.say(Word::Arm);
    world.say(Word::Start);
    assert_eq!(world.say(Word::Again), State::Armed);
    assert_eq!((world.session.progress().0, world.count(Effect::Remove)), (0, 1));
    world.say(Word::Start);
    world.say(Word::Accept);
    assert_eq!((world.session.progress().0, world.count(Effect::Remove)), (1, 1));
    assert_eq!(world.say(Word::Undo), State::Armed);
    assert_eq!((world.session.progress().0, world.count(Effect::Remove)), (0, 2));
    // There is nothing left that was recorded here: no file of an earlier session is touched.
    world.say(Word::Undo);
    assert_eq!((world.session.progress().0, world.count(Effect::Remove)), (0, 2));
}

#[test]
fn a_file_is_not_removed_before_the_log_has_closed_it() {
    let mut world = World::new(CONFIG);
    world.say(Word::Arm);
    world.say(Word::Start);
    world.open = false;
    world.session.word(Word::Again);
    assert_eq!(world.run(2.0), State::Saving);
    assert_eq!(world.count(Effect::Remove), 0);
    world.seen.files += 1;
    world.run(1.0);
    assert_eq!(world.count(Effect::Remove), 1);
}

#[test]
fn an_episode_that_the_log_lost_does_not_count_and_nothing_is_removed() {
    for keep in [Word::Accept, Word::Again] {
        let mut world = World::new(CONFIG);
        world.say(Word::Arm);
        world.say(Word::Start);
        world.open = false;
        world.seen.failures += 1;
        assert_eq!(world.say(keep), State::Armed);
        assert_eq!((world.session.progress().0, world.count(Effect::Remove)), (0, 0));
    }
}

#[test]
fn an_e_stop_works_in_every_state_and_keeps_what_was_recorded() {
    let words = [Word::Arm, Word::Start, Word::Stop];
    for count in 0..=words.len() {
        let mut world = World::new(CONFIG);
        world.run(1.0);
        words[..count].iter().for_each(|word| {
            world.say(*word);
        });
        assert_eq!(world.say(Word::EmergencyStop), State::Idle, "after {count} words");
        assert_eq!(world.count(Effect::EmergencyStop), 1);
        assert_eq!(world.session.progress().0, usize::from(count > 1));
        assert_eq!(world.say(Word::Arm), State::Armed);
    }
}

#[test]
fn quitting_keeps_what_is_open() {
    for word in [Word::Start, Word::Stop] {
        let mut world = World::new(CONFIG);
        world.say(Word::Arm);
        world.say(Word::Start);
        world.say(word);
        assert_eq!(world.say(Word::Quit), State::Finished);
        assert_eq!((world.session.progress().0, world.count(Effect::Remove)), (1, 0));
    }
}

#[test]
fn a_leader_that_is_far_away_is_asked_again_until_it_is_near() {
    let mut world = World::new(CONFIG);
    let effects = world.session.word(Word::Arm);
    world.apply(effects);
    let mut tries = 0;
    for _ in 0..100 {
        world.seen.now = world.seen.now + Duration::from_millis(20);
        for effect in world.session.observe(&world.seen) {
            assert_eq!(effect, Effect::TakeOver);
            tries += 1;
            world.session.refused(effect, "bring it nearer");
        }
    }
    assert!((3..=5).contains(&tries), "{tries} tries in 2 s");
    let state = (world.session.state(), world.session.message());
    assert_eq!(state, (State::Reset, "bring it nearer"));
    assert_eq!(world.run(1.0), State::Armed);
}

#[test]
fn torque_goes_off_only_when_the_hands_are_on_the_arm_and_nothing_moves_between() {
    let mut world = World::new(SessionConfig { by_hand: true, ..CONFIG });
    assert_eq!(world.say(Word::Arm), State::Reset);
    assert_eq!(world.run(20.0), State::Reset);
    assert_eq!(world.count(Effect::TakeOver), 0);
    assert_eq!(world.say(Word::Start), State::Armed);
    world.say(Word::Start);
    assert_eq!(world.say(Word::Success), State::Reset);
    assert_eq!((world.run(20.0), world.count(Effect::GoHome)), (State::Reset, 0));
}

#[test]
fn time_that_is_up_cuts_and_waits_for_the_verdict() {
    let mut world = World::new(CONFIG);
    world.say(Word::Arm);
    world.say(Word::Start);
    assert_eq!(world.run(20.0), State::Review);
    assert_eq!(world.count(Effect::Cut), 1);
}

#[test]
fn who_needs_nobody_does_it_all_and_ends_at_a_fault() {
    let mut world = World::new(SessionConfig { autonomous: true, ..CONFIG });
    world.run(1.0);
    assert_eq!(world.session.state(), State::Recording);
    world.seen.done = true;
    assert_eq!(world.run(2.0), State::Finished);
    assert_eq!((world.session.progress().0, world.session.failed()), (2, false));
    let mut world = World::new(SessionConfig { autonomous: true, ..CONFIG });
    world.run(1.0);
    world.fault(Fault::Stall);
    assert_eq!(world.run(1.0), State::Finished);
    assert!(world.session.failed() && world.session.message().contains("pushed"));
    assert_eq!(world.session.progress().0, 1, "a failure is worth something, too");
}
