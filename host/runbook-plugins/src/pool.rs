//! The memory that all guests of a program share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::Breach;

/// Bytes of linear memory that make a guest a small one. Plugins in Rust take some 2 MiB.
const SMALL: usize = 16 << 20;

/// What guests can have together on the smallest machine: one that needs nothing unusual comes to work.
const LEAST: usize = 256 << 20;

/// Linear memory of all guests together. It is taken when they start and grow, and given back when they end.
#[derive(Debug)]
pub(crate) struct Pool {
    most: usize,
    taken: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    /// Takes memory for a guest that holds `held` bytes. The last quarter is for small ones: a few guests that take all they can
    /// get keep none of those from its work.
    pub(crate) fn take(&self, held: usize, more: usize) -> Result<(), Breach> {
        let wanted = held.saturating_add(more);
        let most = if wanted > SMALL { self.most - self.most / 4 } else { self.most };
        let fits = |taken: usize| taken.checked_add(more).filter(|all| *all <= most);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(taken) => Err(Breach::Together { wanted, taken, most }),
        }
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes for all guests, where nobody says how many: half of the memory that this process can have.
pub(crate) fn sensible() -> usize {
    let memory = total(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let group = group(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    half(memory, &limits_of(Path::new("/sys/fs/cgroup"), &group))
}

/// Half of the machine's memory, or of the least that a group of processes which this one is in may have.
fn half(memory: Option<u64>, limits: &[u64]) -> usize {
    let whole = limits.iter().copied().chain(memory).min();
    whole.map_or(LEAST, |whole| usize::try_from(whole / 2).unwrap_or(usize::MAX).max(LEAST))
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// The group of cgroups(7), version 2.
fn group(cgroup: &str) -> PathBuf {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    PathBuf::from(path)
}

/// What a group, and those that it is in, may have. Those of a container end at its own root.
fn limits_of(root: &Path, group: &Path) -> Vec<u64> {
    let read = |group: &Path| fs::read_to_string(root.join(group).join("memory.max")).ok()?.trim().parse().ok();
    // "max" is no number.
    group.ancestors().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_taken_is_there_for_nobody_else_until_it_is_given_back() {
        let pool = Pool::new(400 * MIB);
        pool.take(0, 200 * MIB).expect("there is enough");
        pool.take(200 * MIB, 50 * MIB).expect("there is enough");
        let refused = pool.take(0, 60 * MIB).expect_err("the last quarter is for small guests");
        assert_eq!(refused, Breach::Together { wanted: 60 * MIB, taken: 250 * MIB, most: 300 * MIB });
        assert_eq!(
            refused.to_string(),
            "memory: it wanted 60 MiB while the plugins at work had 250 MiB, and 300 MiB is the most for all of them together \
             (`serial` at the step lets fewer hosts be at work at once)"
        );
        pool.take(250 * MIB, 50 * MIB).expect("what was refused was not taken");
        pool.take(300 * MIB, 1).expect_err("nothing is left for large guests");
        for _ in 0..10 {
            pool.take(0, 10 * MIB).expect("a small guest comes to its work");
        }
        pool.take(0, 10 * MIB).expect_err("nothing is left at all");
        pool.take(1, usize::MAX).expect_err("no sum is too large");
        pool.give_back(300 * MIB);
        pool.take(0, 60 * MIB).expect("it was given back");
    }

    #[test]
    fn half_of_what_there_is() {
        let meminfo = "MemTotal:       16316412 kB\nMemFree:          611000 kB\n";
        assert_eq!(total(meminfo), Some(16_316_412 << 10));
        assert_eq!((total(""), total("MemTotal: many kB")), (None, None));
        assert_eq!(group("1:name=systemd:/x\n0::/system.slice/a.service\n"), Path::new("system.slice/a.service"));
        assert_eq!((group("0::/\n"), group("")), (PathBuf::new(), PathBuf::new()));
        let gib = |gib: u64| gib << 30;
        assert_eq!(half(Some(gib(4)), &[]), 2 << 30);
        assert_eq!(half(Some(gib(4)), &[gib(8), gib(2)]), 1 << 30);
        assert_eq!((half(Some(1 << 20), &[]), half(None, &[])), (LEAST, LEAST));
        assert!(sensible() >= LEAST);
    }

    #[test]
    fn the_narrowest_group_counts() {
        let root = tempfile::tempdir().expect("makes a folder");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("makes it");
        fs::write(root.path().join("a/memory.max"), "1073741824\n").expect("writes");
        fs::write(inner.join("memory.max"), "max\n").expect("writes");
        assert_eq!(limits_of(root.path(), Path::new("a/b")), [1 << 30]);
        assert!(limits_of(root.path(), Path::new("")).is_empty());
    }
}
