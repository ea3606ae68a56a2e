//! Which allocator this process has, and how it returns what was freed to the system.
//!
//! glibc keeps what a burst of transfers freed, in an arena for each thread, and gives it back only from the end of a heap. A
//! process that is idle for most of its life, beside workloads on a small device, should not hold megabytes for its last
//! burst. Static programs are linked with musl, whose allocator has one lock for all threads: they get jemalloc, which is
//! told to give back likewise. This is a crate of its own because it is the only place of the workspace with `unsafe` code.

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives free pages in the middle of all heaps back to the system. Cheap where there is nothing to give (well under a
/// millisecond for heaps of a few megabytes). Does nothing where the allocator is neither glibc's nor jemalloc.
pub fn return_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes a number, locks each arena while it looks at it, and frees nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
    #[cfg(target_env = "musl")]
    purge();
}

/// Name of jemalloc's order to give back the unused pages of all arenas: 4096 is its `MALLCTL_ARENAS_ALL`.
#[cfg(target_env = "musl")]
const PURGE: &std::ffi::CStr = c"arena.4096.purge";

/// jemalloc returns pages as further calls go by; an idle process makes none.
#[cfg(target_env = "musl")]
fn purge() -> i32 {
    use std::ptr::null_mut;
    // SAFETY: the name ends with a NUL, nothing is read or written through the null pointers, which stand for "no old and
    // no new value", and pages that are in use are not touched.
    unsafe { tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null_mut(), null_mut(), null_mut(), 0) }
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

    #[cfg(target_env = "musl")]
    #[test]
    fn jemalloc_knows_the_order() {
        assert_eq!(super::purge(), 0);
    }
}
