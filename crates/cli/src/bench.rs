//! `kinora bench`: the adapter's peak, and what share of it each kernel and each part of a model reaches.

mod against;

use kinora_bench::{Batch, Bench, Clip, MemoryRow, Row, Spread};
use kinora_media::Place;
use kinora_runtime::Device;
use serde_json::{Value, json};

use self::against::Earlier;
use crate::{
    Report,
    args::{BenchArgs, PartsArgs},
    failure::{Exit, Failure},
    models, parts, run,
};

pub(crate) fn bench(args: &BenchArgs) -> Result<Report, Failure> {
    // Known before the minutes of measuring.
    let saved = args.save.as_deref().map(|path| Place::open(path, args.overwrite)).transpose()?;
    let earlier = args.against.as_deref().map(Earlier::read).transpose()?;
    let device = run::open_device(&args.device)?;
    let Device::Gpu(gpu) = &device else {
        return Err(Failure::new(Exit::Usage, "no-gpu-to-measure", "bench measures GPU kernels; the CPU twins are not made for speed")
            .hint("leave out --executor cpu"));
    };
    let pipeline =
        if args.kernels_only { None } else { Some(parts::load(&device, &models::find(&args.model)?, &PartsArgs::default(), args.dtype)?) };
    let result = pollster::block_on(kinora_bench::bench(gpu, pipeline.as_ref()))?;
    let mut json = to_json(&device.name(), &result);
    let info = gpu.info();
    (json["driver"], json["backend"]) = (info.driver.clone().into(), info.backend.clone().into());
    json["model"] = if args.kernels_only { Value::Null } else { args.model.clone().into() };
    if let Some(place) = saved {
        let text = format!("{json:#}\n");
        place.write(&mut |out| Ok(out.write_all(text.as_bytes())?))?;
    }
    let mut lines = if args.share { shared(&json) } else { table(&device.name(), &result) };
    if let Some(earlier) = earlier {
        json["against"] = earlier.compare(&json);
        lines.extend(against::table(&json["against"]));
    }
    Ok(Report::new(lines.join("\n"), json))
}

/// A row of a table to post, under its head.
fn shared(bench: &Value) -> Vec<String> {
    let text = |key: &str| bench[key].as_str().unwrap_or_default().replace('|', "/");
    let number = |value: &Value, digits: usize| value.as_f64().map_or("–".to_owned(), |value| format!("{value:.digits$}"));
    let seconds = |key: &str| bench["clip"][key].as_f64().map_or("–".to_owned(), |ms| format!("{:.3}", ms / 1e3));
    let share = bench["rows"].as_array().into_iter().flatten().find(|row| row["name"] == "transformer/step");
    let size = bench["clip"]["size"].as_array().map(|size| size.iter().map(Value::to_string).collect::<Vec<_>>().join("×"));
    let cells = [
        text("device"),
        text("driver"),
        number(&bench["peakGflops"], 0),
        format!("{} {}", text("model"), size.unwrap_or_default()).trim().to_owned(),
        seconds("stepMilliseconds"),
        number(share.map_or(&Value::Null, |row| &row["fractionOfPeak"]), 3),
        seconds("firstMilliseconds"),
        seconds("wholeMilliseconds"),
        env!("CARGO_PKG_VERSION").to_owned(),
    ];
    let head = ["Adapter", "Driver", "GFLOP/s at most", "Model", "s a step", "share of that", "first clip, s", "clip, s", "Kinora"];
    vec![format!("| {} |", head.join(" | ")), format!("|{}", "---|".repeat(head.len())), format!("| {} |", cells.join(" | "))]
}

fn to_json(device: &str, result: &Bench) -> Value {
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
    let clip = result.clip.as_ref().map(|clip| {
        json!({
            "size": clip.size,
            "steps": clip.steps,
            "firstMilliseconds": clip.first,
            "wholeMilliseconds": clip.whole,
            "textMilliseconds": clip.text,
            "stepMilliseconds": clip.step,
            "decodeMilliseconds": clip.decode,
        })
    });
    json!({
        "kinora": env!("CARGO_PKG_VERSION"),
        "device": device,
        "peakGflops": median / 1e9,
        "peakGflopsRange": [lowest / 1e9, highest / 1e9],
        "rows": rows,
        "copyGigabytesPerSecond": result.copy_bytes.median / 1e9,
        "memoryRows": memory_rows,
        "clip": clip,
        "batch": result.batch.map(|batch| json!({
            "clips": batch.clips,
            "millisecondsAlone": batch.milliseconds_alone,
            "millisecondsPacked": batch.milliseconds_packed,
            "speedup": batch.speedup,
        })),
    })
}

fn table(device: &str, result: &Bench) -> Vec<String> {
    let Bench { peak_flops: peak, copy_bytes: copy, rows, memory_rows, clip, batch } = result;
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
    if let Some(Clip { size: [width, height, frames], steps, first, whole, text, step, decode }) = clip {
        lines.push(format!("a clip of {width}×{height}, {frames} frames, {steps} steps: {first:.0} ms, later ones {whole:.0} ms"));
        lines.push(format!("  prompt {text:.0} ms, a step {step:.1} ms, frames {decode:.0} ms"));
    }
    if let Some(Batch { clips, milliseconds_alone, milliseconds_packed, speedup }) = batch {
        lines.push(format!(
            "{clips} small clips {milliseconds_alone:.0} ms, packed {milliseconds_packed:.0} ms: {speedup:.2} times as fast"
        ));
    }
    lines
}
