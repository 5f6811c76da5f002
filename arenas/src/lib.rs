//! How many arenas the C library's allocator divides its memory among.
//!
//! glibc makes up to eight for each processor, so that threads seldom wait for each other, and keeps in each of them what
//! was freed there. A service has dozens of threads, and messages are made by some and freed by others, so under a
//! backlog each arena comes to hold as much as all of them need. Rust, librdkafka, libpq and SQLite all allocate there,
//! which is why another allocator for Rust alone would not do.

use std::env;
use std::thread::available_parallelism;

/// Has two arenas for each processor at the most, unless the environment asks for another number
/// (`MALLOC_ARENA_MAX`, or `glibc.malloc.arena_max` in `GLIBC_TUNABLES`).
///
/// To be called before other threads begin: those that are there keep their arenas. With another C library than glibc it
/// does nothing.
pub fn limit() {
    if !is_asked_for() {
        limit_to(2 * available_parallelism().map_or(1, usize::from));
    }
}

/// Whether the environment asks for a number.
fn is_asked_for() -> bool {
    env::var_os("MALLOC_ARENA_MAX").is_some()
        || env::var("GLIBC_TUNABLES").is_ok_and(|all| all.contains("glibc.malloc.arena_max"))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn limit_to(arenas: usize) {
    if let Ok(arenas) = libc::c_int::try_from(arenas) {
        // SAFETY: it takes two numbers, and refuses those that it does not know; the allocator's lock is its own.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn limit_to(_arenas: usize) {}

#[cfg(all(test, target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod tests {
    use std::fs;
    use std::sync::Barrier;
    use std::thread;

    /// Arenas but the first one begin at a multiple of this on 64-bit machines (`HEAP_MAX_SIZE` in glibc's arena.c).
    const HEAP: usize = 64 << 20;

    /// In each arena, a piece that is too large for a thread's own cache, and too small for a mapping of its own.
    const PIECE: usize = 64 << 10;

    #[test]
    fn many_threads_share_few_arenas() {
        // The allocator has read that number before the test begins.
        if super::is_asked_for() {
            return;
        }
        super::limit_to(3);
        let (begun, seen) = (Barrier::new(31), Barrier::new(31));
        let heaps = thread::scope(|scope| {
            for _ in 0..30 {
                scope.spawn(|| {
                    let piece = vec![1_u8; PIECE];
                    begun.wait();
                    seen.wait();
                    drop(piece);
                });
            }
            begun.wait();
            let maps = fs::read_to_string("/proc/self/maps");
            seen.wait();
            // What begins with a guard that nobody may touch is a thread's stack.
            let is_writable = |line: &&str| line.contains(" rw-p ");
            let begins = |line: &str| usize::from_str_radix(line.split('-').next()?, 16).ok();
            let heaps = |maps: String| {
                let begin = maps.lines().filter(is_writable).filter_map(begins);
                begin.filter(|at| at % HEAP == 0).count()
            };
            maps.map(heaps)
        });
        assert!(heaps.is_ok_and(|heaps| (1..=3).contains(&heaps)));
    }
}
