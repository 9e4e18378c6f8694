//! Ports of loopback, each for one test among all test processes.

use std::fs::File;
use std::net::TcpListener;

/// A port that is reserved until this is dropped, also while no process listens on it.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// The lock, which ends with the file.
    _held: File,
}

impl Port {
    /// A free port, below those of the local parts and of outgoing connections.
    pub(crate) fn free() -> Self {
        let directory = std::env::temp_dir().join("tidegate-test-ports");
        std::fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
        for _ in 0..1_000 {
            let random = uuid::Uuid::new_v4().as_u128() % 8_000;
            let number = 10_000 + u16::try_from(random).unwrap_or_default();
            let path = directory.join(number.to_string());
            let held = File::create(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            if held.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _held: held,
                };
            }
        }
        panic!("no free port between 10000 and 17999");
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
