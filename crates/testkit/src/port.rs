//! Ports on loopback that no other test gets, whatever process it runs in.

use std::fs::File;
use std::net::TcpListener;

/// A port that is this test's until it is dropped, also while nobody listens on it.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked; the lock ends with the file.
    _held: File,
}

impl Port {
    /// One that nobody listens on, below those the local parts and outgoing connections take.
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
