//! How much memory this process has, and may still take.

/// Bytes in memory that belong to this process alone; `None` where nobody says.
#[cfg(target_os = "linux")]
pub fn private() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    Some(kilobytes(&text, "Private_Clean:")? + kilobytes(&text, "Private_Dirty:")?)
}

/// As on Linux, where it is known.
#[cfg(not(target_os = "linux"))]
pub fn private() -> Option<u64> {
    None
}

/// The bytes in a line of a file of the kernel.
#[cfg(target_os = "linux")]
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|count| count * 1024)
}

/// Bytes that are left of the machine's memory, of the limit of its group of processes and of its own; `None` where nobody says.
#[cfg(target_os = "linux")]
pub(crate) fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable:"));
    let group = || {
        let [most, now] = ["memory.max", "memory.current"].map(|name| read(&format!("/sys/fs/cgroup/{name}"))?.trim().parse::<u64>().ok());
        Some(most?.saturating_sub(now?))
    };
    [machine, group(), address_space()].into_iter().flatten().min()
}

/// Bytes that are left of the address space that this process is limited to (`ulimit -v`); `None` without a limit.
#[cfg(target_os = "linux")]
pub fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max address space"))?;
    let most = line.split_whitespace().nth(3)?.parse::<u64>().ok()?;
    Some(most.saturating_sub(kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?))
}

/// As on Linux, where it is known.
#[cfg(not(target_os = "linux"))]
pub fn address_space() -> Option<u64> {
    None
}

/// As on Linux, where it is known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn available() -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn some_memory_is_left() {
        let left = super::available().expect("Linux says");
        assert!(left > 1 << 20 && left < 1 << 50, "{left}");
        let before = super::private().expect("Linux says");
        let more = std::hint::black_box(vec![1u8; 64 << 20]);
        let grown = super::private().expect("Linux says").saturating_sub(before);
        assert!(grown >= more.len() as u64 / 2, "{grown} bytes more with {} of its own", more.len());
    }
}
