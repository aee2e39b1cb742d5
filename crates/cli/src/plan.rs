//! `kinora plan`: what a clip would take, found without running anything or reading a weight.

use std::{
    env, fs,
    io::{self, Write as _},
    path::Path,
};

use kinora_runtime::Requirements;
use serde_json::{Map, Value, json};

use crate::{
    Report,
    args::{ConsoleArgs, GenerateArgs},
    batch,
    failure::{Exit, Failure},
    generate::{self, Task},
    lines::Lines,
    models,
    progress::Renderer,
    run::{self, VideoPipeline},
};

pub(crate) fn plan(args: &GenerateArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    if args.many.is_worker() {
        return answer(args, console);
    }
    let tasks = batch::expand(args)?.into_iter().map(|args| Task::open(args, console)).collect::<Result<Vec<_>, _>>()?;
    let folder = models::find(&args.model)?;
    let pipeline = generate::load(args, &folder, &mut Renderer::stderr(console))?;
    let disk = disk_bytes(&folder);
    let planned = tasks.iter().map(|task| task_plan(task, &pipeline, disk)).collect::<Result<Vec<_>, _>>()?;
    let (texts, mut jsons): (Vec<String>, Vec<Value>) = planned.into_iter().unzip();
    let json = if jsons.len() == 1 { jsons.remove(0) } else { json!({ "clips": jsons }) };
    Ok(Report::new(format!("device    {}\n{}", pipeline.device().name(), texts.join("\n\n")), json))
}

/// Answers lines of jobs one by one as they come, until the input ends.
fn answer(args: &GenerateArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    let folder = models::find(&args.model)?;
    let pipeline = generate::load(args, &folder, &mut Renderer::stderr(console))?;
    let (disk, own) = (disk_bytes(&folder), batch::without_batch(env::args_os().collect()));
    let planned = |flags: Map<String, Value>| -> Result<Value, Failure> {
        let args = batch::job_of(&own, &flags, false).map_err(|problem| Failure::new(Exit::Usage, "bad-batch", problem))?;
        let task = Task::open(args, console)?;
        let (draft, metadata) = run::draft(task.options(), &task, &pipeline, &mut |_| {})?;
        let request = run::fit(draft, &task, &pipeline, &mut |_| {})?;
        Ok(json!({ "clip": metadata, "plan": to_json(&run::requirements(&pipeline, &request)?, disk) }))
    };
    for (number, line) in Lines::new(io::stdin().lock()) {
        let mut id = json!(number + 1);
        let answer = line.map_err(|problem| Failure::new(Exit::Usage, "bad-batch", problem)).and_then(|mut flags| {
            id = flags.remove("id").unwrap_or_else(|| id.clone());
            planned(flags)
        });
        let mut answer = answer.unwrap_or_else(|failure| failure.to_json());
        answer["id"] = id;
        let mut out = io::stdout().lock();
        let told = writeln!(out, "{answer}").and_then(|()| out.flush());
        told.map_err(|error| Failure::new(Exit::Output, "output-failed", format!("cannot write an answer: {error}")))?;
    }
    Ok(Report::new("", Value::Null))
}

fn task_plan(task: &Task, pipeline: &VideoPipeline, disk: u64) -> Result<(String, Value), Failure> {
    let (draft, _) = run::draft(task.options(), task, pipeline, &mut |_| {})?;
    let request = run::fit(draft, task, pipeline, &mut |_| {})?;
    let found = run::requirements(pipeline, &request)?;
    let clip = format!("{}x{}, {} frames", request.width, request.height, request.frames);
    Ok((table(&clip, &found, disk), to_json(&found, disk)))
}

fn table(clip: &str, found: &Requirements, disk: u64) -> String {
    let mut lines = vec![format!("clip      {clip}"), format!("weights   {} on disk", shown(disk)), String::new()];
    lines.push(format!("{:<14}{:>10}{:>13}{:>10}{:>10}{:>10}  pieces", "stage", "peak", "activations", "weights", "quantised", "streamed"));
    for stage in &found.stages {
        let [peak, activations, weights, kept, streamed] =
            [stage.peak_bytes, stage.activation_bytes, stage.weight_bytes, stage.kept_bytes, stage.streamed_bytes].map(shown);
        let [times, tiles] = stage.pieces;
        lines.push(format!(
            "{:<14}{peak:>10}{activations:>13}{weights:>10}{kept:>10}{streamed:>10}  {times} in time, {tiles} in space",
            stage.name
        ));
    }
    lines.push(format!("\ndevice    {} at most", shown(found.device_bytes)));
    lines.push(format!("host      {} at most", shown(found.host_bytes)));
    lines.join("\n")
}

fn to_json(found: &Requirements, disk: u64) -> Value {
    let stages: Vec<_> = found
        .stages
        .iter()
        .map(|stage| {
            json!({
                "name": stage.name,
                "peakBytes": stage.peak_bytes,
                "activationBytes": stage.activation_bytes,
                "weightBytes": stage.weight_bytes,
                "quantisedBytes": stage.kept_bytes,
                "streamedBytes": stage.streamed_bytes,
                "pieces": { "time": stage.pieces[0], "space": stage.pieces[1] },
            })
        })
        .collect();
    json!({ "diskBytes": disk, "deviceBytes": found.device_bytes, "hostBytes": found.host_bytes, "stages": stages })
}

/// Bytes in the units that --memory takes.
fn shown(bytes: u64) -> String {
    match bytes {
        0 => "-".to_owned(),
        bytes if bytes >= 1_000_000_000 => format!("{:.2} GB", bytes as f64 / 1e9),
        bytes => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Bytes of the files in a folder and in its folders, or of a file.
fn disk_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let inside: u64 = entries.map(|entry| disk_bytes(&entry.path())).sum();
    inside + fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |file| file.len())
}
