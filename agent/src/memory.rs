//! What a great deal of work leaves behind: the allocator keeps what was freed between what is still in use, and a list of
//! 10,000s of objects, or maps that are read whole, leave much of that.

/// Gives the kernel back whatever is free. It takes milliseconds, so nobody should be waiting.
pub(crate) fn give_back() {
    // Other allocators do so by themselves.
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number of bytes to keep, and touches nothing that is in use (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
