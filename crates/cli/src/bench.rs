//! `kinora bench`: the adapter's peak, and what share of it each kernel and each part of a model reaches.

use kinora_bench::{Batch, Bench, MemoryRow, Row, Spread};
use kinora_runtime::Device;
use serde_json::json;

use crate::{
    Report,
    args::{BenchArgs, PartsArgs},
    failure::{Exit, Failure},
    models, parts, run,
};

pub(crate) fn bench(args: &BenchArgs) -> Result<Report, Failure> {
    let device = run::open_device(&args.device)?;
    let Device::Gpu(gpu) = &device else {
        return Err(Failure::new(Exit::Usage, "no-gpu-to-measure", "bench measures GPU kernels; the CPU twins are not made for speed")
            .hint("leave out --executor cpu"));
    };
    let pipeline =
        if args.kernels_only { None } else { Some(parts::load(&device, &models::find(&args.model)?, &PartsArgs::default(), args.dtype)?) };
    let result = pollster::block_on(kinora_bench::bench(gpu, pipeline.as_ref()))?;
    let text = table(&device.name(), &result);
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
    let memory_rows: Vec<_> = result
        .memory_rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "milliseconds": row.milliseconds,
                "gigabytesPerSecond": row.bytes_per_second / 1e9,
                "fractionOfCopy": row.fraction_of_copy,
            })
        })
        .collect();
    let Spread { lowest, median, highest } = result.peak_flops;
    let json = json!({
        "device": device.name(),
        "peakGflops": median / 1e9,
        "peakGflopsRange": [lowest / 1e9, highest / 1e9],
        "rows": rows,
        "copyGigabytesPerSecond": result.copy_bytes.median / 1e9,
        "memoryRows": memory_rows,
        "batch": result.batch.map(|batch| json!({
            "clips": batch.clips,
            "millisecondsAlone": batch.milliseconds_alone,
            "millisecondsPacked": batch.milliseconds_packed,
            "speedup": batch.speedup,
        })),
    });
    Ok(Report::new(text, json))
}

fn table(device: &str, result: &Bench) -> String {
    let Bench { peak_flops: peak, copy_bytes: copy, rows, memory_rows, batch } = result;
    let mut lines = vec![device.to_owned()];
    let range = |s: &Spread| format!("{:.1} ({:.1} to {:.1})", s.median / 1e9, s.lowest / 1e9, s.highest / 1e9);
    lines.push(format!("peak {} GFLOP/s of multiply-adds; shares are of the bursts beside a row", range(peak)));
    for Row { name, dispatches, milliseconds, flops_per_second, fraction_of_peak } in rows {
        let gflops = flops_per_second / 1e9;
        lines.push(format!("{name:<36} {milliseconds:>9.2} ms {gflops:>8.1} GFLOP/s {fraction_of_peak:>6.3} {dispatches:>4} dispatches"));
    }
    lines.push(format!("copying {} GB/s, read and written", range(copy)));
    for MemoryRow { name, milliseconds, bytes_per_second, fraction_of_copy } in memory_rows {
        lines.push(format!("{name:<36} {milliseconds:>9.2} ms {:>8.1} GB/s    {fraction_of_copy:>6.3}", bytes_per_second / 1e9));
    }
    if let Some(Batch { clips, milliseconds_alone, milliseconds_packed, speedup }) = batch {
        lines.push(format!(
            "{clips} small clips {milliseconds_alone:.0} ms, packed {milliseconds_packed:.0} ms: {speedup:.2} times as fast"
        ));
    }
    lines.join("\n")
}
