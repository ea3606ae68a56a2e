//! What this process takes of the machine, under the names that every client of Prometheus uses.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::catalogue::Catalogue;

#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    pub(super) resident: Gauge,
}

impl Process {
    pub(super) fn new(all: &mut Catalogue) -> Self {
        let started: Gauge<f64, AtomicU64> = all.add(
            "process_start_time_seconds",
            &[],
            "Unix time at which the server started",
            Gauge::default(),
        );
        started.set(Timestamp::now().as_duration().as_secs_f64());
        Self {
            cpu: all.add(
                "process_cpu_seconds",
                &[],
                "CPU time of the process, user and system",
                Counter::default(),
            ),
            resident: all.add(
                "process_resident_memory_bytes",
                &[],
                "Resident memory of the process",
                Gauge::default(),
            ),
        }
    }

    /// Takes the figures of this moment; what the system does not tell stays as it was.
    pub(super) fn look(&self) {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        if let (Ok(seconds), Ok(nanos)) = (u64::try_from(cpu.tv_sec), u32::try_from(cpu.tv_nsec)) {
            let spent = std::time::Duration::new(seconds, nanos).as_secs_f64();
            // The counter keeps the bits of its number in an integer.
            self.cpu.inner().store(spent.to_bits(), Ordering::Relaxed);
        }
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
    }
}

/// The second field of `statm` (proc(5)) is the resident set, in pages.
fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}
