//! The machine that a result is of, in one sentence.

use std::fmt;

/// Cores, memory, kernel.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    model: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let kib = field(&file("/proc/meminfo"), "MemTotal");
        let kib = kib.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        Self {
            model: field(&file("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            cores,
            memory_gib,
            kernel,
        } = self;
        // What comes behind the first dash of a kernel's version names who built it.
        let kernel = kernel.split('-').next().unwrap_or_default();
        write!(
            f,
            "Machine: {cores} cores ({model}), {memory_gib} GiB, Linux {kernel}."
        )
    }
}
