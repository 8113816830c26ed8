use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::hal::servo::{dynamixel as x, feetech as sts};
use crate::hal::wire::{dynamixel, feetech};

/// Answers each request with the next of its lines, which come at once; an empty line is silence.
#[derive(Clone)]
struct Scripted {
    lines: Arc<Mutex<VecDeque<Line>>>,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    ready: VecDeque<u8>,
    /// An adapter hands on all that came so long after the request, in one piece.
    gathers: Duration,
    hands_on: Time,
    clock: ManualClock,
}

#[derive(Clone)]
enum Line {
    Bytes(Vec<u8>),
    /// The request itself.
    Echo,
}

impl Port for Scripted {
    fn write(&mut self, bytes: &[u8], _deadline: Time) -> Result<(), PortError> {
        self.asked.lock().unwrap().push(bytes.to_vec());
        match self.lines.lock().unwrap().pop_front() {
            Some(Line::Bytes(line)) => self.ready.extend(line),
            Some(Line::Echo) => self.ready.extend(bytes),
            None => {}
        }
        self.hands_on = self.clock.now() + self.gathers;
        Ok(())
    }
    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        if !self.ready.is_empty() {
            self.clock.sleep_until(deadline.min(self.hands_on));
            if deadline < self.hands_on {
                return Err(PortError::TimedOut);
            }
        }
        let count = self.ready.len().min(buf.len());
        buf.iter_mut().zip(self.ready.drain(..count)).for_each(|(to, byte)| *to = byte);
        if count == 0 {
            self.clock.sleep_until(deadline);
            return Err(PortError::TimedOut);
        }
        Ok(count)
    }
    fn purge(&mut self) -> Result<usize, PortError> {
        Ok(self.ready.drain(..).count())
    }
}

/// One protocol: how its servos answer.
struct Speech {
    protocol: Protocol,
    /// Id, in trouble, data.
    packet: fn(u8, bool, &[u8]) -> Vec<u8>,
    position: Register,
    block: Block,
    /// The address and size in a read of one servo.
    read: fn(&[u8]) -> (u8, u16, u8),
}

fn feetech_packet(id: u8, trouble: bool, data: &[u8]) -> Vec<u8> {
    let mut out = feetech::PacketBuf::new();
    let error = if trouble { trouble::OVERLOAD } else { 0 };
    feetech::Status { id, error, data }.emit(&mut out).unwrap();
    out.to_vec()
}

fn dynamixel_packet(id: u8, alert: bool, data: &[u8]) -> Vec<u8> {
    let mut out = dynamixel::PacketBuf::new();
    dynamixel::Status { id, alert, refusal: None, data }.emit(&mut out).unwrap();
    out.to_vec()
}

fn refusal_packet(id: u8, refusal: Refusal) -> Vec<u8> {
    let mut out = dynamixel::PacketBuf::new();
    let status = dynamixel::Status { id, alert: false, refusal: Some(refusal), data: &[] };
    status.emit(&mut out).unwrap();
    out.to_vec()
}

const FEETECH: Speech = Speech {
    protocol: Protocol::Feetech,
    packet: feetech_packet,
    position: sts::PRESENT_POSITION,
    block: sts::STS3215.health,
    read: |bytes| match feetech::Request::parse(&feetech::Packet::new_checked(bytes).unwrap()) {
        Some(feetech::Request::Read { id, address, size }) => (id, address.into(), size),
        other => panic!("{other:?}"),
    },
};

const DYNAMIXEL: Speech = Speech {
    protocol: Protocol::Dynamixel,
    packet: dynamixel_packet,
    position: x::PRESENT_POSITION,
    block: x::XL330_M288.motion,
    read: |bytes| {
        let mut bytes = bytes.to_vec();
        let packet = dynamixel::Packet::new_checked(&mut bytes).unwrap();
        match dynamixel::Request::parse(&packet) {
            Some(dynamixel::Request::Read { id, address, size }) => (id, address, size as u8),
            other => panic!("{other:?}"),
        }
    },
};

struct Rig {
    bus: Bus,
    script: Scripted,
    deadline: Time,
}

fn rig(speech: &Speech, lines: impl IntoIterator<Item = Vec<u8>>) -> Rig {
    let script = Scripted {
        lines: Arc::new(Mutex::new(lines.into_iter().map(Line::Bytes).collect())),
        asked: Arc::default(),
        ready: VecDeque::new(),
        gathers: Duration::ZERO,
        hands_on: Time::ZERO,
        clock: ManualClock::default(),
    };
    let clock = Arc::new(script.clock.clone());
    let bus = Bus::new(Box::new(script.clone()), clock, speech.protocol, 1_000_000);
    Rig { bus, script, deadline: Time::ZERO + Duration::from_millis(9) }
}

impl Rig {
    fn asked(&self) -> Vec<Vec<u8>> {
        self.script.asked.lock().unwrap().clone()
    }
}

/// So many bytes of a register with this low byte.
fn data(low: u8, size: u8) -> Vec<u8> {
    (0..size).map(|i| if i == 0 { low } else { 0 }).collect()
}

#[test]
fn each_kind_of_fault_is_counted_and_none_hides_the_answer_behind_it() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let size = tagged(Block { address: 0, size: speech.position.size }, 0).size;
        let mut line = vec![0x00, 0x55];
        line.extend((speech.packet)(2, false, &data(1, size)));
        line.extend((speech.packet)(1, false, &data(1, size - 1)));
        let mut damaged = (speech.packet)(1, false, &data(1, size));
        let last = damaged.len() - 3;
        damaged[last] ^= 1;
        line.extend(&damaged);
        line.extend((speech.packet)(1, true, &data(77, size)));
        let mut rig = rig(speech, [line]);
        let (position, status) = rig.bus.read(1, &speech.position, rig.deadline).unwrap();
        assert_eq!(position, 77);
        assert_ne!(status, 0);
        let counters = rig.bus.counters();
        assert_eq!((counters.wrong_id, counters.wrong_length), (1, 1), "{:?}", speech.protocol);
        assert_eq!((counters.timeouts, counters.retries), (0, 0));
        // The damaged packet's own bytes are garbage too, but for the first.
        assert_eq!(counters.garbage_bytes, 2 + damaged.len() as u64 - 1);
        let kinds = (counters.checksum, counters.crc, counters.status_bits, counters.alerts);
        match speech.protocol {
            Protocol::Feetech => assert_eq!(kinds, (1, 0, 1, 0)),
            Protocol::Dynamixel => assert_eq!(kinds, (0, 1, 0, 1)),
        }
    }
}

#[test]
fn an_echo_is_no_answer() {
    // The echo of a Feetech read looks like servo 1 saying 8 bytes with the angle bit set.
    for speech in [&FEETECH, &DYNAMIXEL] {
        let size = tagged(Block { address: 0, size: speech.position.size }, 1).size;
        let mut rig = rig(speech, []);
        let answer = (speech.packet)(1, false, &data(7, size));
        rig.script.lines.lock().unwrap().extend([Line::Echo, Line::Bytes(answer)]);
        assert_eq!(rig.bus.read(1, &speech.position, rig.deadline).unwrap(), (7, 0));
        assert_eq!((rig.bus.counters().echoes, rig.bus.counters().retries), (1, 1));
    }
}

#[test]
fn a_bus_of_silence_ends_at_its_deadline_after_all_tries() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let mut rig = rig(speech, []);
        let silent = rig.bus.read(7, &speech.position, rig.deadline);
        assert!(matches!(silent, Err(BusError::NoAnswer { id: 7 })));
        assert_eq!(rig.bus.clock().now(), rig.deadline);
        assert_eq!((rig.bus.counters().timeouts, rig.bus.counters().retries), (3, 2));
        let later = rig.deadline + Duration::from_millis(9);
        let answers = rig.bus.sync_read(&[1, 2], speech.block, later).unwrap();
        assert_eq!(answers, [Err(Miss::Silent), Err(Miss::Silent)]);
        assert!(rig.bus.clock().now() <= later);
    }
}

#[test]
fn reads_with_different_tags_differ_in_length_whatever_they_read() {
    let size = |size, tag| tagged(Block { address: 0, size }, tag).size;
    for (one, other) in (1..=24).flat_map(|one| (1..=24).map(move |other| (one, other))) {
        for (tag, next) in (0..TAGS).flat_map(|t| (0..TAGS).map(move |n| (t, n))) {
            assert!(size(one, tag) >= one);
            assert_eq!(tag == next, size(one, tag) % TAGS == size(other, next) % TAGS);
        }
    }
}

#[test]
fn answers_that_an_adapter_hands_on_in_one_piece_are_waited_for() {
    const IDS: [u8; 6] = [1, 2, 3, 4, 5, 6];
    const READS: usize = 50;
    for (speech, ms) in [(&FEETECH, 1), (&FEETECH, 4), (&DYNAMIXEL, 2), (&DYNAMIXEL, 8)] {
        let block = speech.block;
        let mut rig = rig(speech, []);
        let size = tagged(block, rig.bus.tag).size;
        let answers: Vec<u8> = IDS
            .iter()
            .flat_map(|id| (speech.packet)(*id, false, &vec![*id; size.into()]))
            .collect();
        let mut script = rig.script.clone();
        script.gathers = Duration::from_millis(ms);
        script.lines.lock().unwrap().extend(vec![Line::Bytes(answers); READS]);
        let clock = script.clock.clone();
        rig.bus.port = Box::new(script);
        for _ in 0..READS {
            // Its tag stays.
            rig.bus.incomplete = clock.now();
            let deadline = clock.now() + Duration::from_millis(20);
            let answers = rig.bus.sync_read(&IDS, block, deadline).unwrap();
            assert!(answers.iter().all(Result::is_ok));
        }
        let counters = rig.bus.counters();
        assert_eq!((counters.timeouts, counters.retries), (0, 0), "{ms} ms");
    }
}

#[test]
fn a_late_answer_has_the_wrong_length_for_the_next_read() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let first = tagged(Block { address: 0, size: speech.position.size }, 0).size;
        let late = (speech.packet)(1, false, &data(1, first));
        // Nothing comes for the first try; its answer comes when the second is awaited.
        let second = (speech.packet)(1, false, &data(2, first + 1));
        let mut rig = rig(speech, [vec![], [late, second].concat()]);
        assert_eq!(rig.bus.read(1, &speech.position, rig.deadline).unwrap(), (2, 0));
        assert_eq!(rig.bus.counters().wrong_length, 1);
        let sizes: Vec<u8> = rig.asked().iter().map(|bytes| (speech.read)(bytes).2).collect();
        assert_eq!(sizes, [first, first + 1]);
    }
}

#[test]
fn a_sync_read_asks_again_only_whom_it_missed() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let size = |tag| tagged(speech.block, tag).size;
        let from = |id, tag| (speech.packet)(id, false, &data(id, size(tag)));
        let mut rig = rig(speech, [[from(1, 0), from(3, 0)].concat(), from(2, 1)]);
        let answers = rig.bus.sync_read(&[1, 2, 3], speech.block, rig.deadline).unwrap();
        for (id, answer) in (1..).zip(&answers) {
            assert_eq!(answer.as_ref().unwrap().data.as_slice(), data(id, speech.block.size));
        }
        let again = (speech.read)(rig.asked().last().unwrap());
        assert_eq!(again, (2, speech.block.address, size(1)));
        assert_eq!((rig.bus.counters().retries, rig.bus.counters().timeouts), (1, 0));
    }
}

#[test]
fn an_answer_to_an_earlier_request_of_the_same_read_counts_and_is_as_old_as_that() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let from = |id, tag| (speech.packet)(id, false, &data(id, tagged(speech.block, tag).size));
        let mut rig = rig(speech, [from(1, 0), from(2, 0)]);
        let answers = rig.bus.sync_read(&[1, 2], speech.block, rig.deadline).unwrap();
        let late = answers[1].as_ref().unwrap();
        assert_eq!((late.data[0], late.asked), (2, Time::ZERO));
        // The answer to the second request is still to come: it is not the next one's.
        let line = Line::Bytes(from(1, 1));
        rig.script.lines.lock().unwrap().push_back(line);
        let later = rig.deadline + Duration::from_millis(9);
        let answers = rig.bus.sync_read(&[1], speech.block, later).unwrap();
        assert_eq!(answers, [Err(Miss::Length)]);
    }
}

#[test]
fn what_is_not_believed_is_asked_for_again() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let size = tagged(speech.block, 0).size;
        let line = |low: u8| (speech.packet)(2, false, &data(low, size));
        let mut rig = rig(speech, [line(7), line(8), line(9)]);
        let asks = [Ask { id: 2, block: speech.block, together: true }];
        let believe = |place, answer: &Answer| place == 0 && answer.data[0] == 9;
        let answers = rig.bus.read_plausible(&asks, rig.deadline, believe).unwrap();
        assert_eq!(answers[0].as_ref().unwrap().data[0], 9);
        assert_eq!((rig.asked().len(), rig.bus.counters().timeouts), (3, 0));
    }
}

#[test]
fn feetech_servos_that_may_wait_for_the_end_of_a_request_are_sent_it_before_they_are_asked_again() {
    for (speech, fills) in [(&FEETECH, 1), (&DYNAMIXEL, 0)] {
        let mut rig = rig(speech, []);
        rig.bus.sync_read(&[1, 2], speech.block, rig.deadline).unwrap();
        let zeros = |bytes: &Vec<u8>| bytes.iter().all(|byte| *byte == 0);
        assert_eq!(rig.asked().iter().filter(|bytes| zeros(bytes)).count(), fills);
        assert!(rig.asked().get(1).is_some_and(|second| zeros(second) == (fills == 1)));
        assert!(rig.bus.busy_until <= rig.deadline);
    }
}

#[test]
fn each_servo_missing_from_a_sync_read_says_why() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let pass = |tag: u8| {
            let size = tagged(speech.block, tag).size;
            let mut damaged = (speech.packet)(2, false, &data(0, size));
            let last = damaged.len() - 3;
            damaged[last] ^= 4;
            let short = (speech.packet)(3, false, &data(0, size - 2));
            [(speech.packet)(1, true, &data(0, size)), damaged, short].concat()
        };
        let mut rig = rig(speech, [pass(0), pass(1)]);
        let answers = rig.bus.sync_read(&[1, 2, 3, 4], speech.block, rig.deadline).unwrap();
        assert_ne!(answers[0].as_ref().unwrap().status, 0);
        let misses: Vec<Miss> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(misses, [Miss::Checksum, Miss::Length, Miss::Silent]);
    }
}

#[test]
fn servos_without_sync_read_are_read_one_by_one_within_the_same_deadline() {
    let block = sts::SCS0009.health;
    let asks: Vec<Ask> = (1..=3).map(|id| Ask { id, block, together: false }).collect();
    let from = |id, tag| feetech_packet(id, false, &data(id, tagged(block, tag).size));
    // Servo 2 is silent in all passes: each of its reads is the last with its tag.
    let mut rig = rig(&FEETECH, [from(1, 0), vec![], from(3, 1), vec![]]);
    let answers = rig.bus.read_many(&asks, rig.deadline).unwrap();
    assert_eq!(answers[1], Err(Miss::Silent));
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(rig.bus.clock().now() <= rig.deadline);
    let asked: Vec<u8> = rig.asked().iter().map(|bytes| (FEETECH.read)(bytes).0).collect();
    assert_eq!(asked, [1, 2, 3, 2, 2, 2]);
}

#[test]
fn dynamixel_servos_asked_for_different_registers_are_asked_in_one_request() {
    let (motion, health) = (x::XL330_M288.motion, x::XL330_M288.health);
    let asks = [(1, motion), (2, health)].map(|(id, block)| Ask { id, block, together: true });
    let sizes = [motion, health].map(|block| tagged(block, 0).size);
    let from = |id: u8| dynamixel_packet(id, false, &data(id, sizes[usize::from(id) - 1]));
    let mut rig = rig(&DYNAMIXEL, [[from(1), from(2)].concat()]);
    let answers = rig.bus.read_many(&asks, rig.deadline).unwrap();
    for ((id, answer), block) in (1..).zip(&answers).zip([motion, health]) {
        assert_eq!(answer.as_ref().unwrap().data.as_slice(), data(id, block.size));
    }
    let mut asked = rig.asked();
    let packet = dynamixel::Packet::new_checked(&mut asked[0]).unwrap();
    let Some(dynamixel::Request::BulkRead { blocks }) = dynamixel::Request::parse(&packet) else {
        panic!("{packet:?}");
    };
    let expected: Vec<_> = (1..)
        .zip([motion, health].map(|block| tagged(block, 0)))
        .map(|(id, block)| (id, block.address, u16::from(block.size)))
        .collect();
    assert_eq!(dynamixel::bulk_reads(blocks).collect::<Vec<_>>(), expected);
}

#[test]
fn a_fast_read_takes_the_common_answer_and_those_missing_from_it_are_asked_the_plain_way() {
    let block = x::XL330_M288.motion;
    let full = data(9, tagged(block, 0).size);
    let mut common = dynamixel::PacketBuf::new();
    let part = |id| dynamixel::Status { id, alert: false, refusal: None, data: &full };
    dynamixel::emit_fast(&mut common, [1, 2, 3].map(part).into_iter()).unwrap();
    // Servo 3 does not answer: the common answer ends before its part.
    common.truncate(common.len() - full.len() - 4);
    let plain = dynamixel_packet(3, false, &data(3, tagged(block, 1).size));
    let mut rig = rig(&DYNAMIXEL, [common.to_vec(), plain]);
    rig.bus.set_fast(true);
    let answers = rig.bus.sync_read(&[1, 2, 3], block, rig.deadline).unwrap();
    let firsts: Vec<u8> = answers.iter().map(|answer| answer.as_ref().unwrap().data[0]).collect();
    assert_eq!(firsts, [9, 9, 3]);
    let mut asked = rig.asked();
    let packet = dynamixel::Packet::new_checked(&mut asked[0]).unwrap();
    let fast = dynamixel::Request::parse(&packet);
    assert!(matches!(fast, Some(dynamixel::Request::FastSyncRead { ids: [1, 2, 3], .. })));
    assert_eq!((DYNAMIXEL.read)(&asked[1]).0, 3);
}

#[test]
fn a_servo_that_says_no_is_believed_at_once_but_for_damage_on_the_way() {
    let lines = [
        refusal_packet(1, Refusal::Crc),
        dynamixel_packet(1, false, &[]),
        refusal_packet(1, Refusal::Access),
    ];
    let mut rig = rig(&DYNAMIXEL, lines);
    assert_eq!(rig.bus.write(1, &x::GOAL_POSITION, -5, rig.deadline).unwrap(), 0);
    assert_eq!((rig.bus.counters().retries, rig.bus.counters().refused), (1, 1));
    let error = rig.bus.write(1, &x::GOAL_POSITION, 5, rig.deadline).unwrap_err();
    assert!(matches!(error, BusError::Refused { id: 1, refusal: Refusal::Access }), "{error}");
    assert_eq!((rig.bus.counters().retries, rig.bus.counters().timeouts), (1, 0));
}

#[test]
fn data_that_looks_like_a_header_goes_through() {
    // As a position in the servo: FF FF FD 00 stands where it would begin a packet.
    let value = 0x00FD_FFFF;
    let sent = x::PRESENT_POSITION.encode(value).unwrap();
    let line = [sent.as_slice(), &[0xFF, 0xFF, 0xFD, 0xFD]].concat();
    let mut rig = rig(&DYNAMIXEL, [dynamixel_packet(1, false, &line)]);
    assert_eq!(rig.bus.read(1, &x::PRESENT_POSITION, rig.deadline).unwrap(), (value, 0));
    rig.bus.sync_write(&x::GOAL_POSITION, [(1, value)], rig.deadline).unwrap();
    let mut asked = rig.asked().pop().unwrap();
    let packet = dynamixel::Packet::new_checked(&mut asked).unwrap();
    let Some(dynamixel::Request::SyncWrite { address: 116, size: 4, blocks }) =
        dynamixel::Request::parse(&packet)
    else {
        panic!("{packet:?}");
    };
    assert_eq!(blocks, [&[1], sent.as_slice()].concat());
}

#[test]
fn a_scan_names_each_servo_and_its_model() {
    let ids = [feetech_packet(1, false, &[]), feetech_packet(9, true, &[])].concat();
    // A read of 2 bytes has 8 with the first tag.
    let number = |id, low, high| feetech_packet(id, false, &[low, high, 0, 0, 0, 0, 0, 0]);
    let lines = [ids, number(1, 0x09, 0x03), number(9, 0x05, 0x04)];
    let mut rig = rig(&FEETECH, lines);
    let found = rig.bus.scan(rig.deadline).unwrap();
    let named: Vec<_> = found.iter().map(|f| (f.id, f.model.unwrap().name, f.status)).collect();
    assert_eq!(named, [(1, "sts3215", 0), (9, "scs0009", trouble::OVERLOAD)]);

    let pong = |id, low, high| dynamixel_packet(id, false, &[low, high, 46]);
    let line = [pong(1, 0x24, 0x04), pong(2, 0xB0, 0x04), pong(3, 0x34, 0x12)].concat();
    let mut rig = self::rig(&DYNAMIXEL, [line]);
    let found = rig.bus.scan(rig.deadline).unwrap();
    let named: Vec<_> = found.iter().map(|f| (f.id, f.model.map(|m| m.name))).collect();
    assert_eq!(named, [(1, Some("xl430-w250")), (2, Some("xl330-m288")), (3, None)]);
    assert_eq!(found[2].number, 0x1234);
}

#[test]
fn commands_to_all_wait_for_nobody() {
    for speech in [&FEETECH, &DYNAMIXEL] {
        let mut rig = rig(speech, []);
        rig.bus.action(BROADCAST, rig.deadline).unwrap();
        rig.bus.write(BROADCAST, &speech.position, 1, rig.deadline).unwrap();
        assert_eq!((rig.bus.clock().now(), rig.asked().len()), (Time::ZERO, 2));
    }
}
