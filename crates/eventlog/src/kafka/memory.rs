//! The memory of librdkafka, which comes from the C library.

/// Keeps it in one arena. The C library gives each thread one of its own, and what one thread takes and another
/// gives back, as every record is, stays with the first: with a long backlog some 20 MiB that nobody uses.
/// Rust's own memory comes from elsewhere.
pub(super) fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no other way to be told")]
    // SAFETY: it sets a number, under the allocator's own lock (mallopt(3)).
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
