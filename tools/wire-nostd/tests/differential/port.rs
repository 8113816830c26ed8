//! A serial port that answers with given bytes.

use std::io::{self, Cursor, Read, Write};
use std::time::Duration;

use serialport::{
    ClearBuffer, DataBits, Error, ErrorKind, FlowControl, Parity, Result, SerialPort, StopBits,
};

/// What `call` writes to a port that then answers `answer` and no more, and what it returns.
pub fn exchange<R>(answer: &[u8], call: impl FnOnce(&mut dyn SerialPort) -> R) -> (Vec<u8>, R) {
    let mut port = AnsweringPort { answer: answer.to_vec(), ..Default::default() };
    let result = call(&mut port);
    (port.written, result)
}

#[derive(Default)]
struct AnsweringPort {
    written: Vec<u8>,
    answer: Vec<u8>,
    to_read: Cursor<Vec<u8>>,
}

impl Read for AnsweringPort {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.to_read.read(buffer)
    }
}

impl Write for AnsweringPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend(bytes);
        self.to_read = Cursor::new(std::mem::take(&mut self.answer));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unused<R>() -> Result<R> {
    Err(Error::new(ErrorKind::Unknown, "expected that nobody asks this of the port"))
}

impl SerialPort for AnsweringPort {
    fn bytes_to_read(&self) -> Result<u32> {
        Ok(0)
    }
    fn timeout(&self) -> Duration {
        Duration::from_millis(10)
    }
    fn set_timeout(&mut self, _: Duration) -> Result<()> {
        Ok(())
    }
    fn baud_rate(&self) -> Result<u32> {
        Ok(1_000_000)
    }
    fn name(&self) -> Option<String> {
        None
    }
    fn data_bits(&self) -> Result<DataBits> {
        unused()
    }
    fn flow_control(&self) -> Result<FlowControl> {
        unused()
    }
    fn parity(&self) -> Result<Parity> {
        unused()
    }
    fn stop_bits(&self) -> Result<StopBits> {
        unused()
    }
    fn set_baud_rate(&mut self, _: u32) -> Result<()> {
        unused()
    }
    fn set_data_bits(&mut self, _: DataBits) -> Result<()> {
        unused()
    }
    fn set_flow_control(&mut self, _: FlowControl) -> Result<()> {
        unused()
    }
    fn set_parity(&mut self, _: Parity) -> Result<()> {
        unused()
    }
    fn set_stop_bits(&mut self, _: StopBits) -> Result<()> {
        unused()
    }
    fn write_request_to_send(&mut self, _: bool) -> Result<()> {
        unused()
    }
    fn write_data_terminal_ready(&mut self, _: bool) -> Result<()> {
        unused()
    }
    fn read_clear_to_send(&mut self) -> Result<bool> {
        unused()
    }
    fn read_data_set_ready(&mut self) -> Result<bool> {
        unused()
    }
    fn read_ring_indicator(&mut self) -> Result<bool> {
        unused()
    }
    fn read_carrier_detect(&mut self) -> Result<bool> {
        unused()
    }
    fn bytes_to_write(&self) -> Result<u32> {
        unused()
    }
    fn clear(&self, _: ClearBuffer) -> Result<()> {
        unused()
    }
    fn try_clone(&self) -> Result<Box<dyn SerialPort>> {
        unused()
    }
    fn set_break(&self) -> Result<()> {
        unused()
    }
    fn clear_break(&self) -> Result<()> {
        unused()
    }
}
