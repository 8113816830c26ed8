mod dynamixel;
mod faults;

use std::path::Path;

use super::*;
use crate::hal::servo::feetech as servo;
use crate::hal::servo::{RAD_PER_TICK, Register};
use crate::hal::wire::feetech::{
    BROADCAST, MAX_PACKET, Packet, PacketBuf, Request, Status, status,
};

fn emulator() -> Emulator {
    let text = include_str!("../../../firmware-config/emulated.toml");
    let mut config = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
    config.emulator.position_noise_ticks = 0.0;
    Emulator::new(&config, 1)
}

fn ask(emulator: &mut Emulator, request: Request<'_>) -> Vec<(u8, u8, Vec<u8>)> {
    let mut bytes = PacketBuf::new();
    request.emit(&mut bytes).unwrap();
    let mut answers = Vec::new();
    emulator.request(&bytes, |_, answer| {
        let packet = Packet::new_checked(answer).unwrap();
        answers.push((packet.id, packet.code, packet.parameters.to_vec()));
    });
    answers
}

fn read(emulator: &mut Emulator, id: u8, register: &Register) -> i32 {
    let request = Request::Read { id, address: register.address as u8, size: register.size };
    let answers = ask(emulator, request);
    register.decode(&answers[0].2).unwrap()
}

fn write(emulator: &mut Emulator, id: u8, register: &Register, value: i32) -> usize {
    let data = register.encode(value).unwrap();
    ask(emulator, Request::Write { id, address: register.address as u8, data: &data }).len()
}

fn wait(emulator: &mut Emulator, seconds: f64) {
    let now = Time(emulator.step * STEP.as_nanos() as u64);
    emulator.advance(now + Duration::from_secs_f64(seconds));
}

#[test]
fn a_goal_is_followed_with_torque_and_only_stored_without() {
    let mut e = emulator();
    write(&mut e, 1, &servo::GOAL_POSITION, 2500);
    wait(&mut e, 2.0);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 2048);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    wait(&mut e, 2.0);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 2500);
    assert_eq!(read(&mut e, 1, &servo::MOVING), 0);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 0);
    write(&mut e, 1, &servo::GOAL_POSITION, 2048);
    wait(&mut e, 2.0);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 2500);
}

#[test]
fn speed_and_acceleration_registers_limit_the_motion() {
    let travelled = |velocity: i32, acceleration: i32| {
        let mut e = emulator();
        write(&mut e, 1, &servo::GOAL_VELOCITY, velocity);
        write(&mut e, 1, &servo::ACCELERATION, acceleration);
        write(&mut e, 1, &servo::GOAL_POSITION, 3200);
        write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
        wait(&mut e, 0.3);
        read(&mut e, 1, &servo::PRESENT_POSITION) - 2048
    };
    let free = travelled(0, 0);
    assert!((500..1000).contains(&free), "4.7 rad/s for 0.3 s: {free}");
    // 26 ms to reach 1000 ticks/s.
    assert!((280..290).contains(&travelled(1000, 0)));
    // 10 x 100 ticks/s^2 for 0.3 s: 45 ticks.
    assert!((43..48).contains(&travelled(0, 10)));
}

#[test]
fn position_limits_bound_the_goal() {
    let mut e = emulator();
    write(&mut e, 1, &servo::LOCK, 0);
    write(&mut e, 1, &servo::MAX_POSITION, 2200);
    write(&mut e, 1, &servo::GOAL_POSITION, 3000);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    wait(&mut e, 2.0);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 2200);
}

#[test]
fn eeprom_is_written_only_without_lock_and_what_is_read_only_never() {
    let mut e = emulator();
    for (register, lock, kept) in
        [(servo::P_GAIN, 1, 32), (servo::P_GAIN, 0, 16), (servo::MODEL, 0, 777)]
    {
        write(&mut e, 2, &servo::LOCK, lock);
        assert_eq!(write(&mut e, 2, &register, 16), 1, "acknowledged all the same");
        assert_eq!(read(&mut e, 2, &register), kept);
    }
}

#[test]
fn response_level_0_silences_all_but_reads_and_pings() {
    let mut e = emulator();
    write(&mut e, 2, &servo::LOCK, 0);
    write(&mut e, 2, &servo::RESPONSE_LEVEL, 0);
    assert_eq!(write(&mut e, 2, &servo::LOCK, 1), 0);
    assert_eq!(read(&mut e, 2, &servo::LOCK), 1);
    assert_eq!(ask(&mut e, Request::Ping { id: 2 }), [(2, 0, vec![])]);
    assert_eq!(write(&mut e, 3, &servo::LOCK, 1), 1);
}

#[test]
fn a_prepared_write_waits_for_the_action() {
    let mut e = emulator();
    let data = servo::GOAL_POSITION.encode(2300).unwrap();
    ask(
        &mut e,
        Request::RegWrite { id: 4, address: servo::GOAL_POSITION.address as u8, data: &data },
    );
    assert_ne!(read(&mut e, 4, &servo::GOAL_POSITION), 2300);
    assert!(ask(&mut e, Request::Action { id: BROADCAST }).is_empty());
    assert_eq!(read(&mut e, 4, &servo::GOAL_POSITION), 2300);
}

#[test]
fn torque_128_makes_here_the_middle() {
    let mut e = emulator();
    e.servo(5).unwrap().place(1.0);
    assert_eq!(read(&mut e, 5, &servo::PRESENT_POSITION), 2700);
    write(&mut e, 5, &servo::TORQUE_ENABLE, 128);
    assert_eq!(read(&mut e, 5, &servo::PRESENT_POSITION), 2048);
    assert_eq!(read(&mut e, 5, &servo::HOMING_OFFSET), 652);
    assert_eq!(read(&mut e, 5, &servo::TORQUE_ENABLE), 0);
}

#[test]
fn positions_wrap_at_one_turn_unless_phase_bit_4_says_otherwise() {
    let mut e = emulator();
    e.servo(1).unwrap().place(2100.0 * RAD_PER_TICK);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 52);
    let phase = read(&mut e, 1, &servo::PHASE);
    e.servo(1).unwrap().set(&servo::PHASE, phase | servo::PHASE_MULTI_TURN);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 4148);
}

#[test]
fn a_load_for_too_long_latches_an_overload_and_leaves_the_protective_torque() {
    let mut e = emulator();
    write(&mut e, 1, &servo::GOAL_POSITION, 2048);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    e.servo(1).unwrap().push(-0.9);
    wait(&mut e, 1.9);
    assert_eq!(read(&mut e, 1, &servo::STATUS), 0, "an overload takes its time");
    wait(&mut e, 0.2);
    let told = status::OVERLOAD | status::OVERCURRENT;
    assert_eq!(ask(&mut e, Request::Ping { id: 1 }), [(1, told, vec![])]);
    // A fifth of the torque does not hold it.
    wait(&mut e, 0.5);
    assert!(read(&mut e, 1, &servo::PRESENT_POSITION) < 1800);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_LOAD), 200);
    e.servo(1).unwrap().push(0.0);
    wait(&mut e, 1.0);
    assert_eq!(read(&mut e, 1, &servo::STATUS), i32::from(told), "it stays without its cause");
}

#[test]
fn a_new_goal_or_a_torque_write_clears_an_overload_and_the_same_goal_does_not() {
    let mut e = emulator();
    for (register, value, cleared) in [
        (servo::GOAL_POSITION, 2048, false),
        (servo::GOAL_POSITION, 2100, true),
        (servo::TORQUE_ENABLE, 1, true),
    ] {
        write(&mut e, 1, &servo::GOAL_POSITION, 2048);
        write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
        e.servo(1).unwrap().push(-0.9);
        wait(&mut e, 2.2);
        e.servo(1).unwrap().push(0.0);
        assert_ne!(read(&mut e, 1, &servo::STATUS), 0);
        write(&mut e, 1, &register, value);
        assert_eq!(read(&mut e, 1, &servo::STATUS) == 0, cleared, "{} {value}", register.name);
    }
}

#[test]
fn a_servo_told_to_unload_no_overload_goes_on_with_all_its_torque() {
    let mut e = emulator();
    write(&mut e, 1, &servo::LOCK, 0);
    write(&mut e, 1, &servo::UNLOADING, 0);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    e.servo(1).unwrap().push(-0.9);
    wait(&mut e, 4.0);
    assert_ne!(read(&mut e, 1, &servo::STATUS), 0);
    assert!(read(&mut e, 1, &servo::PRESENT_LOAD) > 890);
}

#[test]
fn the_p_gain_says_how_stiffly_a_joint_is_held_and_the_i_gain_brings_it_back() {
    let mut e = emulator();
    let mut sag = |p: i32, i: i32| {
        write(&mut e, 1, &servo::LOCK, 0);
        write(&mut e, 1, &servo::P_GAIN, p);
        write(&mut e, 1, &servo::I_GAIN, i);
        write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
        e.servo(1).unwrap().push(-0.3);
        wait(&mut e, 3.0);
        2048 - read(&mut e, 1, &servo::PRESENT_POSITION)
    };
    assert_eq!((sag(32, 0), sag(16, 0), sag(16, 8)), (18, 36, 0));
}

#[test]
fn a_push_lets_an_arm_without_torque_fall_and_damping_slows_it() {
    let fallen = |torque: i32| {
        let mut e = emulator();
        write(&mut e, 1, &servo::TORQUE_ENABLE, torque);
        e.servo(1).unwrap().push(-0.3);
        wait(&mut e, 0.5);
        2048 - read(&mut e, 1, &servo::PRESENT_POSITION)
    };
    let (off, held, damped) = (fallen(0), fallen(1), fallen(2));
    assert!(held < 20 && 50 < damped && 2 * damped < off, "{off} {held} {damped}");
}

#[test]
fn a_supply_out_of_its_limits_is_told_and_shows() {
    let mut e = emulator();
    e.set_supply(0.3);
    wait(&mut e, 0.01);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_VOLTAGE), 36);
    assert_eq!(ask(&mut e, Request::Ping { id: 1 }), [(1, status::VOLTAGE, vec![])]);
    e.set_supply(1.0);
    wait(&mut e, 0.01);
    assert_eq!(ask(&mut e, Request::Ping { id: 1 }), [(1, 0, vec![])]);
}

#[test]
fn velocity_mode_keeps_a_speed_and_pwm_mode_a_share_of_the_fastest() {
    let travelled = |mode: i32, register: &Register, value: i32| {
        let mut e = emulator();
        write(&mut e, 1, &servo::LOCK, 0);
        write(&mut e, 1, &servo::MODE, mode);
        write(&mut e, 1, register, value);
        write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
        wait(&mut e, 0.5);
        read(&mut e, 1, &servo::PRESENT_POSITION) - 2048
    };
    assert!((485..500).contains(&travelled(1, &servo::GOAL_VELOCITY, 1000)));
    assert!((-500..-485).contains(&travelled(1, &servo::GOAL_VELOCITY, -1000)));
    // A quarter of 4.7 rad/s.
    assert!((370..384).contains(&travelled(2, &servo::GOAL_TIME, 250)));
}

#[test]
fn an_id_and_a_speed_take_effect_at_once_and_a_wrong_speed_hears_nothing() {
    let mut e = emulator();
    write(&mut e, 1, &servo::LOCK, 0);
    let data = servo::ID.encode(9).unwrap();
    let request = Request::Write { id: 1, address: 5, data: &data };
    assert_eq!(ask(&mut e, request), [(1, 0, vec![])], "acknowledged as who it was");
    assert!(ask(&mut e, Request::Ping { id: 1 }).is_empty());
    assert_eq!(ask(&mut e, Request::Ping { id: 9 }).len(), 1);
    write(&mut e, 9, &servo::BAUD_RATE, 1);
    assert!(ask(&mut e, Request::Ping { id: 9 }).is_empty());
    e.set_baud(500_000);
    assert_eq!(ask(&mut e, Request::Ping { id: BROADCAST }), [(9, 0, vec![])]);
}

#[test]
fn a_power_cycle_loses_ram_and_torque_and_keeps_eeprom() {
    let mut e = emulator();
    write(&mut e, 1, &servo::LOCK, 0);
    write(&mut e, 1, &servo::MAX_TORQUE, 500);
    write(&mut e, 1, &servo::ACCELERATION, 20);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    write(&mut e, 1, &servo::GOAL_POSITION, 2500);
    wait(&mut e, 1.5);
    e.power_cycle();
    for (register, value) in [
        (servo::TORQUE_ENABLE, 0),
        (servo::ACCELERATION, 0),
        (servo::LOCK, 1),
        (servo::MAX_TORQUE, 500),
        (servo::TORQUE_LIMIT, 500),
        (servo::GOAL_POSITION, 2500),
        (servo::PRESENT_POSITION, 2500),
    ] {
        assert_eq!(read(&mut e, 1, &register), value, "{}", register.name);
    }
}

#[test]
fn turns_are_forgotten_without_power() {
    let mut e = emulator();
    e.servo(1).unwrap().set(&servo::PHASE, servo::PHASE_MULTI_TURN);
    e.servo(1).unwrap().place(3000.0 * RAD_PER_TICK);
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 5048);
    e.power_cycle();
    assert_eq!(read(&mut e, 1, &servo::PRESENT_POSITION), 5048 - 4096);
    // Torque holds it where it is, not a turn away.
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    wait(&mut e, 0.5);
    assert!((e.positions()[0] - 3000.0 * RAD_PER_TICK).abs() < 1e-6, "{:?}", e.positions());
}

#[test]
fn a_factory_reset_forgets_everything() {
    let mut e = emulator();
    write(&mut e, 4, &servo::LOCK, 0);
    write(&mut e, 4, &servo::HOMING_OFFSET, 100);
    e.servos[3].factory_reset();
    assert_eq!((e.servos[3].id(), e.servos[3].get(&servo::HOMING_OFFSET)), (1, 0));
}

#[test]
fn a_hot_servo_says_so() {
    let mut e = emulator();
    e.servo(3).unwrap().heat(72.0);
    assert_eq!(read(&mut e, 3, &servo::PRESENT_TEMPERATURE), 72);
    assert_eq!(ask(&mut e, Request::Ping { id: 3 }), [(3, status::OVERHEAT, vec![])]);
}

#[test]
fn a_moving_joint_draws_load_current_and_voltage() {
    let mut e = emulator();
    let rest = read(&mut e, 1, &servo::PRESENT_VOLTAGE);
    for id in 1..=6 {
        write(&mut e, id, &servo::GOAL_POSITION, 3000);
        write(&mut e, id, &servo::TORQUE_ENABLE, 1);
    }
    wait(&mut e, 0.05);
    assert!(read(&mut e, 1, &servo::PRESENT_LOAD) > 200);
    assert!(read(&mut e, 1, &servo::PRESENT_CURRENT) > 50);
    assert!(read(&mut e, 1, &servo::PRESENT_VELOCITY) > 500);
    assert_eq!(read(&mut e, 1, &servo::MOVING), 1);
    assert!(read(&mut e, 1, &servo::PRESENT_VOLTAGE) < rest);
}

#[test]
fn how_often_time_is_advanced_changes_nothing() {
    let text = include_str!("../../../firmware-config/emulated.toml");
    let config = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
    let run = |slice: u64, seed: u64| {
        let mut e = Emulator::new(&config, seed);
        for id in 1..=6 {
            write(&mut e, id, &servo::GOAL_POSITION, 2600);
            write(&mut e, id, &servo::TORQUE_ENABLE, 1);
        }
        let end = 240_000_000;
        (0..end).step_by(slice as usize).for_each(|t| e.advance(Time(t)));
        e.advance(Time(end));
        ask(&mut e, Request::SyncRead { address: 56, size: 15, ids: &[1, 2, 3, 4, 5, 6] })
    };
    assert_eq!(run(10_000_000, 1), run(333_333, 1));
    assert_ne!(run(10_000_000, 1), run(10_000_000, 2), "the seed makes the noise");
}

/// A wall that the first joint cannot pass (rad).
#[derive(Debug)]
struct Wall(f64);

impl Surroundings for Wall {
    fn step(&mut self, angles: &mut [f64], step: f64) {
        assert_eq!(step, 0.005);
        angles[0] = angles[0].min(self.0);
    }
}

#[test]
fn a_joint_at_a_wall_is_measured_there_and_comes_away_when_its_drive_does() {
    let mut e = emulator();
    e.surround(Arc::new(Mutex::new(Wall(0.2))));
    for id in [1, 2] {
        write(&mut e, id, &servo::GOAL_POSITION, 2048 + 500);
        write(&mut e, id, &servo::TORQUE_ENABLE, 1);
    }
    wait(&mut e, 1.0);
    let wall = 2048 + (0.2 / RAD_PER_TICK).round() as i32;
    let measured = |e: &mut Emulator| [1, 2].map(|id| read(e, id, &servo::PRESENT_POSITION));
    assert_eq!(measured(&mut e), [wall, 2548]);
    assert!((e.positions()[0] - 0.2).abs() < 1e-9, "{:?}", e.positions());
    write(&mut e, 1, &servo::GOAL_POSITION, 2000);
    wait(&mut e, 1.0);
    assert_eq!(measured(&mut e), [2000, 2548]);
}

#[test]
fn answers_take_their_time_on_the_wire() {
    let mut e = emulator();
    let mut bytes = PacketBuf::new();
    Request::SyncRead { address: 56, size: 8, ids: &[1, 2] }.emit(&mut bytes).unwrap();
    let mut delays = Vec::new();
    e.request(&bytes, |delay, answer| delays.push((delay.as_micros(), answer.len())));
    // 30 us turnaround, 14 bytes of 10 us.
    assert_eq!(delays, [(170, 14), (340, 14)]);
}

#[test]
fn a_write_past_the_last_register_is_survived() {
    let mut e = emulator();
    let mut bytes = PacketBuf::new();
    // Instruction 3 writes; the data begins at register 247 and ends at 256.
    Status { id: 1, error: 3, data: &[247, 0, 0, 0, 0, 0, 0, 0, 0, 0] }.emit(&mut bytes).unwrap();
    e.request(&bytes, |_, _| ());
}

#[test]
fn any_request_is_survived() {
    proptest::proptest!(|(
        code in proptest::sample::select(vec![1u8, 2, 3, 4, 5, 0x82, 0x83]),
        id in 0u8..=BROADCAST,
        parameters in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
    )| {
        let mut bytes = PacketBuf::new();
        // An answer with this status byte is a request with this instruction.
        Status { id, error: code, data: &parameters }.emit(&mut bytes).unwrap();
        let mut e = emulator();
        for id in 1..=6 {
            write(&mut e, id, &servo::LOCK, 0);
        }
        e.request(&bytes, |_, answer| assert!(answer.len() <= MAX_PACKET));
        wait(&mut e, 0.1);
        proptest::prop_assert!(e.positions().iter().all(|q| q.is_finite()));
    });
}
