//! Returns memory that this process has freed to the system.
//!
//! glibc keeps what a burst of transfers freed, in an arena for each thread, and gives it back only from the end of a heap. A
//! process that is idle for most of its life, beside workloads on a small device, should not hold megabytes for its last
//! burst. This is a crate of its own because it is the only place of the workspace with `unsafe` code.

/// Gives free pages in the middle of all heaps back to the system. Cheap where there is nothing to give (well under a
/// millisecond for heaps of a few megabytes). Does nothing where the allocator is another than glibc's.
pub fn return_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes a number, locks each arena while it looks at it, and frees nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_allocated_stays() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![1_u8; 1 << 20]);
        super::return_freed();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
