use std::path::Path;

use super::*;
use crate::clock::ManualClock;
use crate::hal::wire::feetech::{PacketBuf, Request, Status};

/// Answers every request at once with what servos 1 and 2 say, and keeps the requests.
struct Wire {
    clock: ManualClock,
    ready: VecDeque<u8>,
    requests: Vec<Vec<u8>>,
}

impl Port for Wire {
    fn write(&mut self, bytes: &[u8], _: Time) -> Result<(), PortError> {
        self.requests.push(bytes.to_vec());
        self.ready.extend([said(1), said(2)].concat());
        Ok(())
    }
    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        // In small cuts, as a real port may.
        let count = self.ready.len().min(buf.len()).min(5);
        if count == 0 {
            self.clock.sleep_until(deadline);
            return Err(PortError::TimedOut);
        }
        buf.iter_mut().zip(self.ready.drain(..count)).for_each(|(to, byte)| *to = byte);
        Ok(count)
    }
    fn purge(&mut self) -> Result<usize, PortError> {
        Ok(self.ready.drain(..).count())
    }
}

fn said(id: u8) -> Vec<u8> {
    let mut out = PacketBuf::new();
    Status { id, error: 0, data: &[0x12, 0x08] }.emit(&mut out).unwrap();
    out.to_vec()
}

fn request() -> Vec<u8> {
    let mut out = PacketBuf::new();
    Request::SyncRead { address: 56, size: 2, ids: &[1, 2] }.emit(&mut out).unwrap();
    out.to_vec()
}

struct Rig {
    clock: ManualClock,
    port: FaultInjector<Wire>,
}

fn rig(spec: &str, seed: u64) -> Rig {
    let clock = ManualClock::default();
    let wire = Wire { clock: clock.clone(), ready: VecDeque::new(), requests: Vec::new() };
    let spec = FaultSpec::parse(spec, Path::new("faults.toml")).unwrap();
    let shared = Arc::new(clock.clone());
    Rig { clock, port: FaultInjector::new(wire, &spec, Protocol::Feetech, seed, shared) }
}

impl Rig {
    /// What comes within 10 ms of a request, with the time (ms) of each cut.
    fn exchange(&mut self) -> Vec<(u64, Vec<u8>)> {
        let start = self.clock.now();
        let deadline = start + Duration::from_millis(10);
        self.port.write(&request(), deadline).unwrap();
        let mut cuts = Vec::new();
        let mut buf = [0; 64];
        while let Ok(count) = self.port.read(&mut buf, deadline) {
            let at = self.clock.now().since(start).as_millis() as u64;
            cuts.push((at, buf[..count].to_vec()));
        }
        cuts
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.exchange().into_iter().flat_map(|(_, bytes)| bytes).collect()
    }
}

fn both() -> Vec<u8> {
    [said(1), said(2)].concat()
}

#[test]
fn without_faults_every_byte_goes_through_and_none_is_held_back() {
    let mut rig = rig("", 1);
    assert_eq!(rig.bytes(), both());
    assert_eq!(rig.port.inner.requests, [request()]);
}

#[test]
fn a_fault_hits_the_byte_of_the_servo_of_the_transaction_named_and_no_other() {
    for (byte, from_1) in (0..8).flat_map(|byte| [(byte, true), (byte, false)]) {
        let id = if from_1 { 1 } else { 2 };
        let spec = format!(
            "[[fault]]\nkind = 'flip'\ntransaction = 3\nid = {id}\nbyte = {byte}\nbits = 0x40"
        );
        let mut rig = rig(&spec, 1);
        for transaction in 0..6 {
            let mut expected = both();
            if transaction == 3 {
                expected[byte + if from_1 { 0 } else { 8 }] ^= 0x40;
            }
            assert_eq!(rig.bytes(), expected, "{transaction} {id} {byte}");
        }
    }
}

#[test]
fn a_rate_is_kept_and_the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut rig = rig(
            "[[fault]]\nkind = 'flip'\nrate = 0.1\ncount = 2\n[[fault]]\nkind = 'garbage'\nrate = 0.1",
            seed,
        );
        (0..1000).map(|_| rig.bytes()).collect::<Vec<_>>()
    };
    let one = run(1);
    assert_eq!(one, run(1));
    assert_ne!(one, run(2));
    // 2000 packets, of which 1 - 0.9 * 0.9 are damaged: 380.
    let whole = one.iter().map(|bytes| usize::from(*bytes == both())).sum::<usize>();
    assert!((600..720).contains(&whole), "0.81 * 0.81 of 1000: {whole}");
}

#[test]
fn an_answer_that_is_late_comes_before_the_next_one() {
    let mut rig = rig("[[fault]]\nkind = 'late'\ntransaction = 0\nid = 2", 1);
    assert_eq!(rig.bytes(), said(1));
    // A purge finds nothing of it.
    assert_eq!(rig.port.purge().unwrap(), 0);
    assert_eq!(rig.bytes(), [said(2), both()].concat());
}

#[test]
fn a_slow_packet_comes_later_and_so_does_what_is_behind_it() {
    let mut second = rig("[[fault]]\nkind = 'slow'\nid = 2\ndelay_us = 3000", 1);
    assert_eq!(second.exchange(), [(0, said(1)), (3, said(2))]);
    let mut rig = rig("[[fault]]\nkind = 'slow'\nid = 1\ndelay_us = 30000", 1);
    assert!(rig.exchange().is_empty(), "not before the deadline");
    rig.clock.advance(Duration::from_millis(40));
    assert_eq!(rig.port.purge().unwrap(), 16);
}

#[test]
fn merged_packets_lose_an_end_and_a_header() {
    let mut rig = rig("[[fault]]\nkind = 'merge'\ntransaction = 1\nid = 1", 1);
    assert_eq!(rig.bytes(), both());
    assert_eq!(rig.bytes(), [&said(1)[..7], &said(2)[2..]].concat());
    assert_eq!(rig.bytes(), both());
}

#[test]
fn an_echo_comes_before_the_answer() {
    let mut rig = rig("[[fault]]\nkind = 'echo'\ntransaction = 1", 1);
    assert_eq!(rig.bytes(), both());
    assert_eq!(rig.bytes(), [request(), both()].concat());
}

#[test]
fn a_damaged_request_is_what_the_servos_get() {
    let mut rig = rig("[[fault]]\nkind = 'drop'\non = 'request'\nbyte = 4", 1);
    assert_eq!(rig.bytes(), both());
    let mut expected = request();
    expected.remove(4);
    assert_eq!(rig.port.inner.requests, [expected]);
}

#[test]
fn a_lost_port_fails_in_every_call_until_it_is_back() {
    let mut rig = rig("[[fault]]\nkind = 'lost'\ntransaction = 1\nfor_s = 0.5", 1);
    assert_eq!(rig.bytes(), both());
    let soon = rig.clock.now() + Duration::from_millis(1);
    assert!(matches!(rig.port.write(&request(), soon), Err(PortError::Lost)));
    assert!(matches!(rig.port.read(&mut [0; 8], soon), Err(PortError::Lost)));
    assert!(matches!(rig.port.purge(), Err(PortError::Lost)));
    rig.clock.advance(Duration::from_millis(500));
    assert_eq!(rig.port.purge().unwrap(), 0);
    assert_eq!(rig.bytes(), both());
    assert_eq!(rig.port.inner.requests.len(), 2, "what was sent meanwhile is gone");
}

#[test]
fn a_fault_keeps_to_its_time_and_its_period() {
    let mut rig = rig(
        "[[fault]]\nkind = 'truncate'\nbyte = 0\nfrom_s = 0.1\nuntil_s = 0.3\nperiod_s = 0.1",
        1,
    );
    // Exchanges take 10 ms.
    let lost: Vec<bool> = (0..40).map(|_| rig.bytes().is_empty()).collect();
    let expected: Vec<bool> = (0..40).map(|n| (10..30).contains(&n) && n % 10 < 5).collect();
    assert_eq!(lost, expected);
}

#[test]
fn what_is_no_packet_goes_through_unharmed() {
    let mut rig = rig("[[fault]]\nkind = 'truncate'\nbyte = 0", 1);
    let deadline = Time::ZERO + Duration::from_millis(1);
    let partial = [0x00, 0x55, 0xFF, 0xFF, 0x01];
    rig.port.inner.ready.extend(partial);
    let mut buf = [0; 64];
    let mut bytes = Vec::new();
    while let Ok(count) = rig.port.read(&mut buf, deadline) {
        bytes.extend_from_slice(&buf[..count]);
    }
    assert_eq!(bytes, partial);
}
