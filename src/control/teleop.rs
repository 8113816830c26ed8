//! From whoever steers by hand to the control thread: a ring that neither side waits for.

use heapless::spsc::{Consumer, Producer, Queue};

use crate::episode::TeleopAction;

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
    /// The newest wish that came since the last call, as exactly as it is logged.
    pub(super) fn newest(&mut self) -> Option<TeleopAction> {
        let mut newest = std::iter::from_fn(|| self.0.dequeue()).last()?;
        newest.position.iter_mut().for_each(|q| *q = f64::from(*q as f32));
        Some(newest)
    }
}
