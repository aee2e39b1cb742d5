//! `kinora bench`: the adapter's peak, and what share of it each kernel and each part of a model reaches.

use std::fmt::Write as _;

use kinora_runtime::{Device, bench};
use serde_json::json;

use crate::{
    Report,
    args::BenchArgs,
    failure::{Exit, Failure},
    models, run,
};

pub(crate) fn bench(args: &BenchArgs) -> Result<Report, Failure> {
    let device = run::open_device(&args.device)?;
    let Device::Gpu(gpu) = &device else {
        return Err(Failure::new(Exit::Usage, "no-gpu-to-measure", "bench measures GPU kernels; the CPU twins are not made for speed")
            .hint("leave out --executor cpu"));
    };
    let pipeline = if args.kernels_only { None } else { Some(run::load(&device, &models::find(&args.model)?, args.dtype)?) };
    let result = pollster::block_on(bench::bench(gpu, pipeline.as_ref()))?;
    let mut text = format!("{}\npeak {:.1} GFLOP/s of multiply-adds\n", device.name(), result.peak_flops / 1e9);
    for row in &result.rows {
        let bench::Row { name, dispatches, milliseconds, flops_per_second, fraction_of_peak } = row;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<36} {milliseconds:>9.2} ms {:>8.1} GFLOP/s {fraction_of_peak:>6.3} {dispatches:>4} dispatches",
            flops_per_second / 1e9
        );
    }
    let rows: Vec<_> = result
        .rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "dispatches": row.dispatches,
                "milliseconds": row.milliseconds,
                "gflops": row.flops_per_second / 1e9,
                "fractionOfPeak": row.fraction_of_peak,
            })
        })
        .collect();
    let json = json!({ "device": device.name(), "peakGflops": result.peak_flops / 1e9, "rows": rows });
    Ok(Report { text: text.trim_end().to_owned(), json })
}
