//! Where things are, and names that no other test has.

use std::path::{Path, PathBuf};

/// The workspace's root directory.
pub(crate) fn workspace() -> &'static Path {
    // crates/testkit, hence two up.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// Cargo's target directory, which also holds the local parts and the logs.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => workspace().join(target),
        None => workspace().join("target"),
    }
}

/// A name that no other test has: 32 hexadecimal digits.
pub(crate) fn unique() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}
