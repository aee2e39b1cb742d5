//! Bursts of a kernel between bursts of the adapter's own rate.

use std::time::Instant;

use kinora_kernels::{Cadence, Executable};
use kinora_runtime::{Error, Result};

use crate::{MemoryRow, Row};

/// A burst of a kernel is at least this long, in seconds, so that its start is negligible.
const BURST: f64 = 0.04;
/// Bursts per row, and for rows so long that those would take seconds.
const ROUNDS: usize = 9;
const FEW_ROUNDS: usize = 3;

/// A rate measured many times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub lowest: f64,
    /// Half were smaller.
    pub median: f64,
    /// The largest.
    pub highest: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { lowest: values[0], median: values[values.len() / 2], highest: values[values.len() - 1] }
    }
}

/// Compares kernels with one rate of the adapter.
pub(crate) struct Meter<R> {
    /// Measures the rate once.
    pub(crate) rate: R,
    /// All it has said.
    pub(crate) rates: Vec<f64>,
}

/// Medians of several bursts.
struct Timing {
    /// Of one run.
    seconds: f64,
    /// Work per second as a share of the rate.
    share: f64,
}

impl<R: AsyncFnMut() -> Result<f64>> Meter<R> {
    pub(crate) async fn row(&mut self, name: impl Into<String>, exec: &Executable, scope: &str) -> Result<Row> {
        let (dispatches, flops) = exec.run_scope(Cadence::EveryStep, scope, 1).await?; // compiles
        let name = name.into();
        if dispatches == 0 {
            // Nothing takes no time: a row that shines.
            let expected = format!("kernels whose labels begin with `{scope}`");
            return Err(Error::InvalidRequest { parameter: name, found: "none".into(), expected });
        }
        let Timing { seconds, share } = self.compare(flops, async |times| bursts(exec, scope, times).await).await?;
        Ok(Row { name, dispatches, milliseconds: seconds * 1e3, flops_per_second: flops / seconds, fraction_of_peak: share })
    }

    pub(crate) async fn memory_row(&mut self, name: &str, exec: &Executable, bytes: f64) -> Result<MemoryRow> {
        exec.run_scope(Cadence::EveryStep, "", 1).await?; // compiles
        let Timing { seconds, share } = self.compare(bytes, async |times| bursts(exec, "", times).await).await?;
        Ok(MemoryRow { name: name.into(), milliseconds: seconds * 1e3, bytes_per_second: bytes / seconds, fraction_of_copy: share })
    }

    /// `burst` takes how often to run and returns the seconds it took; one run does `work`.
    async fn compare(&mut self, work: f64, mut burst: impl AsyncFnMut(usize) -> Result<f64>) -> Result<Timing> {
        let once = burst(1).await?;
        let times = (BURST / once).ceil().max(1.0) as usize;
        let rounds = if once > 10.0 * BURST { FEW_ROUNDS } else { ROUNDS };
        let (mut seconds, mut shares) = (Vec::new(), Vec::new());
        let mut before = (self.rate)().await?;
        self.rates.push(before);
        for _ in 0..rounds {
            let one = burst(times).await? / times as f64;
            let after = (self.rate)().await?;
            self.rates.push(after);
            seconds.push(one);
            shares.push(work / one / f64::midpoint(before, after));
            before = after;
        }
        Ok(Timing { seconds: Spread::of(seconds).median, share: Spread::of(shares).median })
    }
}

/// Seconds of `times` runs.
async fn bursts(exec: &Executable, scope: &str, times: usize) -> Result<f64> {
    let begun = Instant::now();
    exec.run_scope(Cadence::EveryStep, scope, times).await?;
    Ok(begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that gets slower with every burst, from full speed to a third, and a kernel at a quarter of its peak.
    #[test]
    fn a_drifting_machine_does_not_move_the_share() {
        let speed = std::cell::Cell::new(90e9);
        let drift = || {
            speed.set(speed.get() - 3e9);
            speed.get()
        };
        let mut meter = Meter { rate: async || Ok(drift()), rates: Vec::new() };
        let work = 5e9;
        let timing = meter.compare(work, async |times| Ok(times as f64 * work / (0.25 * drift())));
        let timing = pollster::block_on(timing).expect("nothing fails");
        assert!((timing.share - 0.25).abs() < 1e-9, "{}", timing.share);
        let rates = Spread::of(meter.rates);
        assert!(rates.highest / rates.lowest > 1.05, "{rates:?}");
    }
}
