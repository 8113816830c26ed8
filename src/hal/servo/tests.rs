use super::*;
use crate::config::ServoModel;

#[test]
fn registers_are_sorted_and_do_not_overlap() {
    for model in MODELS {
        for pair in model.registers.windows(2) {
            let [one, other] = pair else { unreachable!() };
            assert!(one.end() <= other.address, "{}: {} {}", model.name, one.name, other.name);
        }
        for register in model.registers {
            assert!([1, 2, 4].contains(&register.size), "{}: {}", model.name, register.name);
            assert_eq!(model.register(register.name), Some(register), "names are unique");
            assert!(register.default.is_none_or(|value| register.encode(value).is_some()));
        }
    }
    let last = feetech::STS.last().unwrap();
    assert!(last.end() <= u16::from(feetech::MEMORY_END));
}

#[test]
fn every_value_that_fits_comes_back_and_no_other_is_encoded() {
    let edges = [i32::MIN, i32::MIN + 1, -1 << 24, 1 << 24, i32::MAX - 1, i32::MAX];
    for register in MODELS.iter().flat_map(|model| model.registers) {
        let bits = 8 * u32::from(register.size);
        let (least, most) = match register.encoding {
            Encoding::Unsigned => (0, (1i64 << bits.min(31)) - 1),
            Encoding::SignMagnitude(bit) => (1 - (1i64 << bit), (1i64 << bit) - 1),
            Encoding::TwosComplement => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
        };
        let near = [least, most].into_iter().flat_map(|end| end - 300..=end + 300);
        let near = near.filter_map(|value| i32::try_from(value).ok());
        for value in (-300..300).chain(near).chain(edges) {
            let fits = (least..=most).contains(&i64::from(value));
            match register.encode(value) {
                Some(bytes) => {
                    assert!(fits && bytes.len() == usize::from(register.size));
                    assert_eq!(register.decode(&bytes), Some(value), "{}", register.name);
                }
                None => assert!(!fits, "{} {value}", register.name),
            }
        }
    }
}

#[test]
fn a_block_is_decoded_by_address() {
    let block = [0x00, 0x08, 0x05, 0x80, 0x0A, 0x04, 121, 35];
    let at = |register: &Register| register.decode_at(56, &block);
    assert_eq!(at(&feetech::PRESENT_POSITION), Some(2048));
    assert_eq!(at(&feetech::PRESENT_VELOCITY), Some(-5));
    assert_eq!(at(&feetech::PRESENT_LOAD), Some(-10));
    assert_eq!(at(&feetech::PRESENT_TEMPERATURE), Some(35));
    assert_eq!(at(&feetech::GOAL_POSITION), None);
    assert_eq!(at(&feetech::STATUS), None);
}

#[test]
fn each_type_has_its_model_and_the_model_its_protocol_and_registers() {
    use ServoModel::*;
    for servo in [Sts3215, Sts3250, Scs0009, Xl330M077, Xl330M288, Xl430W250, Xm430W350] {
        let model = Model::of(servo);
        assert_eq!(model.protocol, servo.protocol());
        assert_eq!(model.name, serde_json::to_value(servo).unwrap().as_str().unwrap());
        for register in [
            model.model_number,
            model.id,
            model.baud_rate,
            model.torque,
            model.goal,
            model.lowest,
            model.highest,
            model.position,
            model.velocity,
            model.effort,
            model.voltage,
            model.temperature,
        ] {
            assert_eq!(model.register(register.name), Some(&register), "{}", model.name);
        }
        for register in [model.position, model.velocity, model.effort] {
            let end = model.motion.address + u16::from(model.motion.size);
            assert!(register.address >= model.motion.address && register.end() <= end);
        }
        let end = model.health.address + u16::from(model.health.size);
        assert_eq!(model.health.address, model.motion.address);
        assert!(model.voltage.end() <= end && model.temperature.end() <= end);
    }
}

#[test]
fn models_are_told_apart_by_the_bytes_of_their_number() {
    for (protocol, bytes, name) in [
        (Protocol::Feetech, [0x09, 0x03], "sts3215"),
        (Protocol::Feetech, [0x09, 0x0B], "sts3250"),
        // High byte first.
        (Protocol::Feetech, [0x05, 0x04], "scs0009"),
        (Protocol::Dynamixel, [0xB0, 0x04], "xl330-m288"),
        (Protocol::Dynamixel, [0x24, 0x04], "xl430-w250"),
    ] {
        assert_eq!(Model::identify(protocol, &bytes).unwrap().name, name);
    }
    assert_eq!(Model::identify(Protocol::Dynamixel, &[0x09, 0x03]), None);
    assert_eq!(Model::identify(Protocol::Feetech, &[0x09]), None);
}

#[test]
fn address_126_is_the_load_of_an_xl430_and_the_current_of_an_xl330() {
    let at_126 = |model: &Model| *model.registers.iter().find(|r| r.address == 126).unwrap();
    let load = at_126(&dynamixel::XL430_W250);
    assert_eq!((load.name, load.unit), ("Present_Load", Unit::Fraction(1e-3)));
    for (model, ampere) in [(&dynamixel::XL330_M288, 1e-3), (&dynamixel::XM430_W350, 2.69e-3)] {
        let current = at_126(model);
        assert_eq!((current.name, current.unit), ("Present_Current", Unit::Ampere(ampere)));
    }
}

#[test]
fn xl330_and_xl430_have_no_acceleration_limit_and_an_xl430_no_current_registers() {
    for model in [&dynamixel::XL330_M077, &dynamixel::XL330_M288, &dynamixel::XL430_W250] {
        assert_eq!(model.register("Acceleration_Limit"), None);
    }
    for name in ["Current_Limit", "Goal_Current", "Present_Current"] {
        assert_eq!(dynamixel::XL430_W250.register(name), None);
        assert!(dynamixel::XL330_M288.register(name).is_some());
    }
}

#[test]
fn homing_offsets_are_subtracted_by_feetech_and_added_by_dynamixel() {
    let sign = |model: &Model| model.homing.map(|homing| homing.sign);
    assert_eq!(sign(&feetech::STS3215), Some(-1));
    assert_eq!(sign(&dynamixel::XL330_M288), Some(1));
    assert_eq!(sign(&feetech::SCS0009), None);
    for model in MODELS {
        let Some(homing) = model.homing else { continue };
        assert!(homing.register.encode(homing.most).is_some());
        assert!(homing.register.encode(-homing.most).is_some());
    }
}

#[test]
fn baud_codes_are_their_places_and_none_is_given_where_sources_differ() {
    assert_eq!(feetech::STS3215.baud_code(1_000_000), Some(0));
    assert_eq!(feetech::STS3215.baud_code(115_200), Some(4));
    assert_eq!(feetech::STS3215.baud_code(57_600), None);
    assert_eq!(dynamixel::XL330_M288.baud_code(57_600), Some(1));
    assert_eq!(dynamixel::XL330_M288.baud_code(1_000_000), Some(3));
    for model in MODELS {
        let factory = model.register("Baud_Rate").unwrap().default.unwrap();
        assert!(usize::try_from(factory).unwrap() < model.bauds.len());
    }
}

#[test]
fn an_scs_servo_sends_its_high_byte_first() {
    assert_eq!(feetech::SCS0009.position.decode(&[0x02, 0x01]), Some(0x0201));
    assert_eq!(feetech::STS3215.position.decode(&[0x02, 0x01]), Some(0x0102));
    assert!(feetech::scs::SCS.iter().all(|register| register.order == ByteOrder::BigEndian));
    let alone = MODELS.into_iter().filter(|model| !model.sync_read && !model.broadcast_ping);
    assert_eq!(alone.map(|model| model.name).collect::<Vec<_>>(), ["scs0009"]);
}

#[test]
fn hardware_errors_become_the_troubles_that_feetech_names_too() {
    assert_eq!(dynamixel::troubles(0), 0);
    let all = 0x01 | 0x04 | 0x08 | 0x10 | 0x20;
    use trouble::*;
    assert_eq!(dynamixel::troubles(all), VOLTAGE | OVERHEAT | ANGLE | OVERCURRENT | OVERLOAD);
    assert_eq!(dynamixel::troubles(0x20), OVERLOAD);
}
