//! From whoever steers by hand to the control thread: a ring that neither side waits for.

use heapless::spsc::{Consumer, Producer, Queue};

use crate::clock::Time;
use crate::joints::JointVec;

/// Where a person wishes the joints to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TeleopAction {
    /// When it was measured.
    pub stamp: Time,
    /// Wished positions (rad), one a joint.
    pub position: JointVec<f64>,
}

/// How a person steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lead {
    /// With a device that tells where the joints are to be.
    #[default]
    Device,
    /// With their hands on the arm itself: its torque is off meanwhile.
    ByHand,
    /// The same, and the motors brake without torque; a fault where a servo cannot.
    Damped,
}

impl Lead {
    /// Whether the arm itself is led, without torque.
    pub fn is_by_hand(self) -> bool {
        self != Self::Device
    }
}

/// More than a device measures in one tick.
const SLOTS: usize = 8;

/// The device's end.
pub struct TeleopSender(Producer<'static, TeleopAction>);

/// The control thread's end. No call allocates, locks or waits.
pub struct TeleopReceiver(Consumer<'static, TeleopAction>);

/// The two ends of a new ring. It lives as long as the program: one control loop needs one.
pub fn teleop_queue() -> (TeleopSender, TeleopReceiver) {
    let ring: &'static mut Queue<TeleopAction, SLOTS> = Box::leak(Box::new(Queue::new()));
    let (sender, receiver) = ring.split();
    (TeleopSender(sender), TeleopReceiver(receiver))
}

impl TeleopSender {
    /// Hands over what is wished for. When the ring is full the loop stands still, and it is lost.
    pub fn send(&mut self, action: TeleopAction) {
        let _ = self.0.enqueue(action);
    }
}

impl TeleopReceiver {
    /// The newest wish that came since the last call.
    pub(super) fn newest(&mut self) -> Option<TeleopAction> {
        std::iter::from_fn(|| self.0.dequeue()).last()
    }
}
