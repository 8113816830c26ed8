//! Every fault of a servo, through the emulator.

use super::*;

fn faulty(spec: &str) -> Emulator {
    let mut e = emulator();
    e.inject(&FaultSpec::parse(spec, Path::new("faults.toml")).unwrap(), Time::ZERO);
    e
}

/// The positions that servos 1 and 2 say, `None` from one that says nothing.
fn positions(e: &mut Emulator) -> [Option<i32>; 2] {
    let answers = ask(e, Request::SyncRead { address: 56, size: 2, ids: &[1, 2] });
    [1, 2].map(|id| {
        let (_, _, data) = answers.iter().find(|(from, ..)| *from == id)?;
        servo::PRESENT_POSITION.decode(data)
    })
}

#[test]
fn a_silent_servo_hears_and_says_nothing_and_the_others_do() {
    let mut e = faulty("[[fault]]\nkind = 'silent'\nid = 1\nuntil_s = 0.5");
    assert_eq!(positions(&mut e), [None, Some(1657)]);
    assert_eq!(write(&mut e, 1, &servo::GOAL_POSITION, 99), 0);
    wait(&mut e, 0.6);
    assert_eq!(positions(&mut e), [Some(2048), Some(1657)]);
    assert_ne!(read(&mut e, 1, &servo::GOAL_POSITION), 99);
}

#[test]
fn a_loose_contact_comes_and_goes() {
    let mut e = faulty("[[fault]]\nkind = 'silent'\nid = 1\nperiod_s = 0.2");
    let heard: Vec<bool> = (0..20)
        .map(|_| {
            let heard = positions(&mut e)[0].is_some();
            wait(&mut e, 0.02);
            heard
        })
        .collect();
    let expected: Vec<bool> = (0..20).map(|n| n % 10 >= 5).collect();
    assert_eq!(heard, expected);
}

#[test]
fn a_stuck_servo_says_what_it_said_while_it_moves() {
    let mut e = faulty("[[fault]]\nkind = 'stuck'\nid = 1\ntransaction = 3\nfor_s = 0.5");
    assert_eq!(positions(&mut e)[0], Some(2048));
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    write(&mut e, 1, &servo::GOAL_POSITION, 2400);
    assert_eq!(positions(&mut e)[0], Some(2048));
    wait(&mut e, 0.4);
    assert_eq!(positions(&mut e)[0], Some(2048));
    assert!(e.positions()[0] > 0.4);
    wait(&mut e, 0.6);
    assert_eq!(positions(&mut e)[0], Some(2400));
}

#[test]
fn an_offset_and_a_mirror_are_plausible_lies_and_the_arm_does_not_move() {
    let mut e = faulty("[[fault]]\nkind = 'offset'\nid = 1\nticks = -700");
    assert_eq!(positions(&mut e), [Some(1348), Some(1657)]);
    let mut e = faulty("[[fault]]\nkind = 'mirror'\nid = 2");
    assert_eq!(positions(&mut e), [Some(2048), Some(4096 - 1657)]);
    assert_eq!(e.positions()[0], 0.0);
}

#[test]
fn a_status_fault_is_told_beside_valid_data_and_only_by_its_servo() {
    let mut e = faulty("[[fault]]\nkind = 'status'\nid = 2\nbits = 0x20");
    let answers = ask(&mut e, Request::SyncRead { address: 56, size: 2, ids: &[1, 2] });
    assert_eq!((answers[0].1, answers[1].1), (0, status::OVERLOAD));
    assert_eq!(servo::PRESENT_POSITION.decode(&answers[1].2), Some(1657));
}

#[test]
fn a_refused_eeprom_acknowledges_and_keeps_nothing_and_ram_is_kept() {
    let mut e = faulty("[[fault]]\nkind = 'eeprom_refused'");
    write(&mut e, 1, &servo::LOCK, 0);
    assert_eq!(write(&mut e, 1, &servo::MAX_POSITION, 3000), 1);
    assert_eq!(read(&mut e, 1, &servo::MAX_POSITION), 4095);
    assert_eq!(read(&mut e, 1, &servo::LOCK), 0);
}

#[test]
fn a_brown_out_drops_torque_and_ram_and_keeps_eeprom() {
    let mut e = faulty("[[fault]]\nkind = 'brown_out'\ntransaction = 4");
    write(&mut e, 1, &servo::LOCK, 0);
    write(&mut e, 1, &servo::MAX_POSITION, 3000);
    write(&mut e, 1, &servo::TORQUE_ENABLE, 1);
    assert_eq!(read(&mut e, 1, &servo::TORQUE_ENABLE), 1);
    assert_eq!(read(&mut e, 1, &servo::TORQUE_ENABLE), 0);
    assert_eq!((read(&mut e, 1, &servo::LOCK), read(&mut e, 1, &servo::MAX_POSITION)), (1, 3000));
}

#[test]
fn the_same_seed_gives_the_same_lies() {
    let text = include_str!("../../../../firmware-config/emulated.toml");
    let config = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
    let spec =
        "[[fault]]\nkind = 'silent'\nrate = 0.2\n[[fault]]\nkind = 'offset'\nticks = 9\nrate = 0.2";
    let spec = FaultSpec::parse(spec, Path::new("faults.toml")).unwrap();
    let run = |seed| {
        let mut e = Emulator::new(&config, seed);
        e.inject(&spec, Time::ZERO);
        (0..50).map(|_| positions(&mut e)).collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_port_with_faults_has_those_of_the_line_and_of_the_servos() {
    use crate::clock::{Clock, ManualClock};
    use crate::hal::Port;
    let clock = ManualClock::default();
    let spec = "[[fault]]\nkind = 'silent'\nid = 1\n[[fault]]\nkind = 'drop'\nid = 2\nbyte = 7";
    let spec = FaultSpec::parse(spec, Path::new("faults.toml")).unwrap();
    let emulator = Arc::new(Mutex::new(emulator()));
    let mut port = MemoryPort::new(emulator, Arc::new(clock.clone())).with_faults(&spec);
    let mut bytes = PacketBuf::new();
    Request::SyncRead { address: 56, size: 2, ids: &[1, 2] }.emit(&mut bytes).unwrap();
    let deadline = Time::ZERO + Duration::from_millis(5);
    port.write(&bytes, deadline).unwrap();
    let mut buf = [0; 64];
    let mut said = Vec::new();
    while let Ok(count) = port.read(&mut buf, deadline) {
        said.extend_from_slice(&buf[..count]);
    }
    assert_eq!(clock.now(), deadline);
    // 1657 of servo 2, without the checksum.
    assert_eq!(said, [0xFF, 0xFF, 2, 4, 0, 0x79, 0x06]);
}
