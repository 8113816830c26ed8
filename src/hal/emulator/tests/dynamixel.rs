//! Dynamixel's X servos: an arm as Koch v1.1 has it, two XL430-W250 and four XL330-M288.

use super::super::*;
use crate::clock::Time;
use crate::hal::servo::dynamixel::{self as table, XL330_M288, XL430_W250};
use crate::hal::servo::{Register, trouble};
use crate::hal::wire::dynamixel::{
    BROADCAST, Decoder, FastDecoder, Keep, PacketBuf, Refusal, Request, Status, bulk_block,
};

fn emulator() -> Emulator {
    let text = include_str!("../../../../firmware-config/emulated.toml");
    let mut text = text.replace("\"feetech\"", "\"dynamixel\"");
    text = text.replacen("sts3215\"\n", "xl430-w250\"\n", 2);
    text = text.replace("servo = \"sts3215\"", "servo = \"xl330-m288\"");
    let mut config = RobotConfig::parse(&text, std::path::Path::new("koch.toml")).unwrap();
    config.emulator.position_noise_ticks = 0.0;
    config.joint.iter_mut().for_each(|joint| joint.home_rad = 0.0);
    Emulator::new(&config, 1)
}

/// What an answer says, and when it is all there (µs after the request).
#[derive(Debug, PartialEq)]
struct Said {
    id: u8,
    alert: bool,
    refusal: Option<Refusal>,
    data: Vec<u8>,
    at: u128,
}

fn ask(e: &mut Emulator, request: Request<'_>) -> Vec<Said> {
    let mut bytes = PacketBuf::new();
    request.emit(&mut bytes).unwrap();
    let mut said = Vec::new();
    e.request(&bytes, |at, mut packet| {
        let mut decoder = Decoder::default();
        let packet = decoder.next(&mut packet).unwrap().unwrap();
        let Status { id, alert, refusal, data } = Status::parse(&packet).unwrap();
        said.push(Said { id, alert, refusal, data: data.to_vec(), at: at.as_micros() });
    });
    said
}

fn read(e: &mut Emulator, id: u8, register: &Register) -> i32 {
    let request = Request::Read { id, address: register.address, size: register.size.into() };
    register.decode(&ask(e, request)[0].data).unwrap()
}

/// Writes and says what the servo did not like.
fn write(e: &mut Emulator, id: u8, register: &Register, value: i32) -> Option<Refusal> {
    let data = register.encode(value).unwrap();
    ask(e, Request::Write { id, address: register.address, data: &data })[0].refusal
}

fn wait(e: &mut Emulator, seconds: f64) {
    let now = Time(e.step * STEP.as_nanos() as u64);
    e.advance(now + Duration::from_secs_f64(seconds));
}

#[test]
fn a_ping_tells_model_and_firmware_and_a_broadcast_finds_all() {
    let mut e = emulator();
    let said = ask(&mut e, Request::Ping { id: BROADCAST });
    let models: Vec<_> =
        said.iter().map(|s| (s.id, i32::from(s.data[0]) + 256 * i32::from(s.data[1]))).collect();
    let (xl430, xl330) = (XL430_W250.number, XL330_M288.number);
    assert_eq!(models, [(1, xl430), (2, xl430), (3, xl330), (4, xl330), (5, xl330), (6, xl330)]);
    assert_eq!(said[0].data[2], 52);
}

#[test]
fn a_goal_is_followed_with_torque_at_the_profile_s_speed_and_acceleration() {
    let mut e = emulator();
    assert_eq!(write(&mut e, 3, &table::GOAL_POSITION, 2500), None);
    wait(&mut e, 1.0);
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), 2048);
    write(&mut e, 3, &table::TORQUE_ENABLE, 1);
    wait(&mut e, 1.0);
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), 2500);
    // 64 * 0.229 rpm is 1000 ticks/s, 10 * 214.577 rpm^2 is 2441 ticks/s^2.
    for (velocity, acceleration, travel) in [(64, 0, 485..500), (0, 10, 300..310)] {
        write(&mut e, 3, &table::PROFILE_VELOCITY, velocity);
        write(&mut e, 3, &table::PROFILE_ACCELERATION, acceleration);
        write(&mut e, 3, &table::GOAL_POSITION, 700);
        wait(&mut e, 0.5);
        let travelled = 2500 - read(&mut e, 3, &table::PRESENT_POSITION);
        assert!(travel.contains(&travelled), "{travelled}");
        write(&mut e, 3, &table::PROFILE_VELOCITY, 0);
        write(&mut e, 3, &table::PROFILE_ACCELERATION, 0);
        write(&mut e, 3, &table::GOAL_POSITION, 2500);
        wait(&mut e, 1.5);
    }
}

#[test]
fn eeprom_is_written_only_without_torque_and_each_refusal_has_its_number() {
    let mut e = emulator();
    for (register, value, refusal) in [
        (table::MAX_POSITION, 3000, None),
        (table::GOAL_POSITION, 3001, Some(Refusal::Limit)),
        (table::GOAL_VELOCITY, 266, Some(Refusal::Limit)),
        (table::PRESENT_POSITION, 0, Some(Refusal::Access)),
        (table::ID, 253, Some(Refusal::Range)),
        (table::MODE, 2, Some(Refusal::Range)),
        (table::TORQUE_ENABLE, 1, None),
        (table::MAX_POSITION, 4095, Some(Refusal::Access)),
    ] {
        assert_eq!(write(&mut e, 1, &register, value), refusal, "{} {value}", register.name);
    }
    assert_eq!(read(&mut e, 1, &table::MAX_POSITION), 3000);
    let short = Request::Write { id: 1, address: table::GOAL_POSITION.address, data: &[1, 2] };
    assert_eq!(ask(&mut e, short)[0].refusal, Some(Refusal::Length));
    let nowhere = Request::Write { id: 1, address: 250, data: &[1] };
    assert_eq!(ask(&mut e, nowhere)[0].refusal, Some(Refusal::Access));
}

#[test]
fn address_126_is_the_load_of_an_xl430_and_the_current_of_an_xl330() {
    let mut e = emulator();
    for id in [1, 3] {
        write(&mut e, id, &table::TORQUE_ENABLE, 1);
        e.servo(id).unwrap().push(-0.4);
    }
    wait(&mut e, 1.0);
    assert_eq!(read(&mut e, 1, &table::PRESENT_LOAD), 400);
    assert_eq!(read(&mut e, 3, &table::PRESENT_CURRENT_1), 700);
    assert_eq!(read(&mut e, 1, &table::PRESENT_VOLTAGE), 117);
    assert_eq!(read(&mut e, 3, &table::PRESENT_VOLTAGE), 49);
}

#[test]
fn a_gripper_presses_with_its_goal_current_only() {
    let mut e = emulator();
    write(&mut e, 6, &table::MODE, table::MODE_CURRENT_POSITION);
    write(&mut e, 6, &table::GOAL_CURRENT_1, 350);
    write(&mut e, 6, &table::TORQUE_ENABLE, 1);
    e.servo(6).unwrap().push(-0.15);
    wait(&mut e, 0.5);
    assert!((e.positions()[5]).abs() < 0.05, "a fifth of the torque holds 0.15");
    e.servo(6).unwrap().push(-0.5);
    wait(&mut e, 0.5);
    assert_eq!(read(&mut e, 6, &table::PRESENT_CURRENT_1), 350);
    assert!(e.positions()[5] < -0.1);
}

#[test]
fn extended_position_mode_goes_beyond_one_turn_and_velocity_mode_keeps_a_speed() {
    let mut e = emulator();
    write(&mut e, 3, &table::MODE, table::MODE_EXTENDED_POSITION);
    write(&mut e, 3, &table::TORQUE_ENABLE, 1);
    assert_eq!(write(&mut e, 3, &table::GOAL_POSITION, -5000), None);
    wait(&mut e, 4.0);
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), -5000);
    write(&mut e, 3, &table::TORQUE_ENABLE, 0);
    assert!(ask(&mut e, Request::ClearMultiTurn { id: 3 })[0].refusal.is_none());
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), -5000 + 2 * 4096);
    write(&mut e, 4, &table::MODE, 1);
    write(&mut e, 4, &table::TORQUE_ENABLE, 1);
    write(&mut e, 4, &table::GOAL_VELOCITY, -64);
    wait(&mut e, 0.5);
    assert!((-64..=-63).contains(&read(&mut e, 4, &table::PRESENT_VELOCITY)));
}

#[test]
fn a_homing_offset_is_added() {
    let mut e = emulator();
    write(&mut e, 3, &table::HOMING_OFFSET, -100);
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), 1948);
    write(&mut e, 3, &table::GOAL_POSITION, 1948);
    write(&mut e, 3, &table::TORQUE_ENABLE, 1);
    wait(&mut e, 0.5);
    assert!(e.positions()[2].abs() < 1e-3);
}

#[test]
fn a_homing_offset_out_of_range_counts_in_extended_position_mode_only() {
    let mut e = emulator();
    write(&mut e, 3, &table::HOMING_OFFSET, 1025);
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), 2048);
    write(&mut e, 3, &table::MODE, table::MODE_EXTENDED_POSITION);
    assert_eq!(read(&mut e, 3, &table::PRESENT_POSITION), 3073);
}

#[test]
fn a_hardware_error_alerts_shuts_down_and_is_cleared_by_a_reboot_only() {
    let mut e = emulator();
    write(&mut e, 3, &table::TORQUE_ENABLE, 1);
    e.servo(3).unwrap().push(-0.9);
    wait(&mut e, 2.5);
    e.servo(3).unwrap().push(0.0);
    wait(&mut e, 1.0);
    assert!(ask(&mut e, Request::Ping { id: 3 })[0].alert);
    assert_eq!(read(&mut e, 3, &table::HARDWARE_ERROR), 0x20);
    assert_eq!(e.servo(3).unwrap().troubles(), trouble::OVERLOAD);
    assert_eq!(read(&mut e, 3, &table::TORQUE_ENABLE), 0);
    assert_eq!(write(&mut e, 3, &table::TORQUE_ENABLE, 1), Some(Refusal::ResultFail));
    assert_eq!(ask(&mut e, Request::Reboot { id: 3 }).len(), 1);
    assert!(!ask(&mut e, Request::Ping { id: 3 })[0].alert);
    assert_eq!(write(&mut e, 3, &table::TORQUE_ENABLE, 1), None);
}

#[test]
fn a_bus_watchdog_stops_a_servo_that_nobody_speaks_to_until_0_is_written() {
    let mut e = emulator();
    write(&mut e, 3, &table::BUS_WATCHDOG, 5);
    wait(&mut e, 1.0);
    assert_eq!(read(&mut e, 3, &table::BUS_WATCHDOG), 5, "without torque it does not count");
    write(&mut e, 3, &table::TORQUE_ENABLE, 1);
    write(&mut e, 3, &table::PROFILE_VELOCITY, 30);
    write(&mut e, 3, &table::GOAL_POSITION, 4000);
    for _ in 0..10 {
        wait(&mut e, 0.09);
        read(&mut e, 3, &table::PRESENT_POSITION);
    }
    assert_eq!(read(&mut e, 3, &table::BUS_WATCHDOG), 5);
    let before = e.positions()[2];
    // Others are spoken to.
    for _ in 0..11 {
        wait(&mut e, 0.01);
        read(&mut e, 4, &table::PRESENT_POSITION);
    }
    let stopped = e.positions()[2];
    assert!(stopped > before);
    wait(&mut e, 0.5);
    assert!((e.positions()[2] - stopped).abs() < 0.02);
    assert_eq!(read(&mut e, 3, &table::BUS_WATCHDOG), table::WATCHDOG_TRIPPED);
    assert_eq!(write(&mut e, 3, &table::GOAL_POSITION, 2000), Some(Refusal::Range));
    assert_eq!(write(&mut e, 3, &table::BUS_WATCHDOG, 0), None);
    assert_eq!(write(&mut e, 3, &table::GOAL_POSITION, 2000), None);
}

#[test]
fn the_return_level_says_what_is_answered() {
    let mut e = emulator();
    write(&mut e, 1, &table::STATUS_RETURN_LEVEL, 1);
    let data = [1];
    let torque = Request::Write { id: 1, address: 64, data: &data };
    assert!(ask(&mut e, torque).is_empty());
    assert_eq!(read(&mut e, 1, &table::TORQUE_ENABLE), 1);
    ask(&mut e, Request::Write { id: 1, address: 68, data: &[0] });
    assert!(ask(&mut e, Request::Read { id: 1, address: 64, size: 1 }).is_empty());
    assert_eq!(ask(&mut e, Request::Ping { id: 1 }).len(), 1);
}

#[test]
fn an_answer_waits_for_the_return_delay() {
    let mut e = emulator();
    // 500 us of the factory, 30 us turnaround, 14 bytes of 10 us.
    assert_eq!(ask(&mut e, Request::Ping { id: 1 })[0].at, 500 + 30 + 140);
    write(&mut e, 1, &table::RETURN_DELAY, 0);
    assert_eq!(ask(&mut e, Request::Ping { id: 1 })[0].at, 30 + 140);
}

#[test]
fn a_sync_read_is_answered_one_by_one_and_a_fast_one_in_common() {
    let mut e = emulator();
    let (address, size) = (table::PRESENT_POSITION.address, 4);
    let said = ask(&mut e, Request::SyncRead { address, size, ids: &[2, 1, 42] });
    let expected = 2048i32.to_le_bytes().to_vec();
    assert_eq!((said.len(), said[0].id, &said[1].data), (2, 2, &expected));
    let fast = |e: &mut Emulator, ids: &[u8]| {
        let mut bytes = PacketBuf::new();
        Request::FastSyncRead { address, size, ids }.emit(&mut bytes).unwrap();
        let mut said = Vec::new();
        e.request(&bytes, |_, mut packet| {
            let mut decoder = FastDecoder::new(ids.iter().map(|_| 4)).unwrap();
            while let Some(part) = decoder.next(&mut packet) {
                let part = part.unwrap();
                said.push((part.id, part.data.to_vec()));
            }
        });
        said
    };
    let part = |id: u8| (id, expected.clone());
    assert_eq!(fast(&mut e, &[3, 1]), [part(3), part(1)]);
    assert_eq!(fast(&mut e, &[3, 42, 1]), [part(3)], "it ends where one is missing");
    assert_eq!(fast(&mut e, &[42, 1]), []);
}

#[test]
fn bulk_reads_and_writes_reach_registers_of_their_own() {
    let mut e = emulator();
    let position = table::GOAL_POSITION.address;
    let blocks = [&bulk_block(1, position, 4)[..], &[0xD0, 7, 0, 0], &bulk_block(2, 65, 1), &[1]];
    assert!(ask(&mut e, Request::BulkWrite { blocks: &blocks.concat() }).is_empty());
    let blocks = [bulk_block(2, 65, 1), bulk_block(1, position, 4)].concat();
    let said = ask(&mut e, Request::BulkRead { blocks: &blocks });
    assert_eq!((said[0].id, &said[0].data[..]), (2, &[1][..]));
    assert_eq!((said[1].id, &said[1].data[..]), (1, &[0xD0, 7, 0, 0][..]));
}

#[test]
fn a_prepared_write_waits_for_the_action_and_an_action_alone_is_refused() {
    let mut e = emulator();
    assert_eq!(ask(&mut e, Request::Action { id: 1 })[0].refusal, Some(Refusal::Instruction));
    let (address, data) = (table::GOAL_POSITION.address, 2300i32.to_le_bytes());
    ask(&mut e, Request::RegWrite { id: 1, address, data: &data });
    assert_eq!(read(&mut e, 1, &table::REGISTERED), 1);
    assert_eq!(read(&mut e, 1, &table::GOAL_POSITION), 2048);
    assert!(ask(&mut e, Request::Action { id: BROADCAST }).is_empty());
    assert_eq!(read(&mut e, 1, &table::GOAL_POSITION), 2300);
    assert_eq!(read(&mut e, 1, &table::REGISTERED), 0);
}

#[test]
fn a_factory_reset_keeps_what_it_is_told_to() {
    for (keep, id, baud) in [(Keep::IdAndBaudRate, 4, 3), (Keep::Id, 4, 1), (Keep::Nothing, 1, 1)] {
        let mut e = emulator();
        write(&mut e, 4, &table::HOMING_OFFSET, 50);
        ask(&mut e, Request::FactoryReset { id: 4, keep });
        let servo = &e.servos[3];
        assert_eq!(servo.get(&table::HOMING_OFFSET), 0);
        assert_eq!((i32::from(servo.id()), servo.get(&table::BAUD_RATE)), (id, baud));
    }
}

#[test]
fn any_request_is_survived() {
    proptest::proptest!(|(
        code in proptest::sample::select(
            vec![1u8, 2, 3, 4, 5, 6, 8, 0x10, 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A]),
        id in 0u8..=252,
        parameters in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
    )| {
        let mut bytes = PacketBuf::new();
        let id = if id > 6 { BROADCAST } else { id };
        crate::hal::wire::dynamixel::Packet { id, instruction: code, parameters: &parameters }
            .emit(&mut bytes)
            .unwrap();
        let mut e = emulator();
        e.request(&bytes, |_, _| ());
        wait(&mut e, 0.1);
        proptest::prop_assert!(e.positions().iter().all(|q| q.is_finite()));
    });
}
