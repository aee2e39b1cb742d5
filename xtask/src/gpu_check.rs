//! What can only be seen on a GPU, in ten minutes and one go: are the kernels right there, how fast are they, what happens
//! when memory runs out. Each stage has a time limit, and what is known is written after each.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    shell::{Failed, Outcome, cargo, output, root, run, works},
    tasks::{quiet_vulkan, target_folder},
};

/// The stage that may fail: what comes after it must not.
const LARGE: &str = "a large clip, then a small one";
/// Frames of different kernels differ by rounding alone.
const LOWEST_PSNR: f64 = 50.0;
const PROMPT: &str = "a cat face, nodding, white";
/// The test programs that compare with CPU twins and with PyTorch, by stage.
const TESTS: [(&str, &str, u64); 2] = [("kernels", "every_variant", 120), ("models", "golden", 120)];

/// `[--software] [--programs FOLDER] [FILE]`: where the report goes, from which folder prebuilt programs come instead of building
/// them, and whether an adapter that computes on the processor will do, to try the task out.
pub(crate) fn gpu_check(arguments: &[String]) -> Outcome {
    let (mut software, mut programs, mut report) = (false, None, PathBuf::from("gpu-check.json"));
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--software" => software = true,
            "--programs" => programs = Some(PathBuf::from(arguments.next().ok_or("--programs needs a folder")?)),
            flag if flag.starts_with('-') => return Err(format!("unknown flag `{flag}`: --software, --programs FOLDER or a file").into()),
            file => report = file.into(),
        }
    }
    let folder =
        programs.map_or_else(build, |folder| fs::canonicalize(&folder).map_err(|error| format!("{}: {error}", folder.display()).into()))?;
    let work = env::temp_dir().join(format!("kinora-gpu-check-{}", std::process::id()));
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let mut check = Check { folder, work, report, stages: Vec::new() };
    let outcome = check.run(software);
    let _ = fs::remove_dir_all(&check.work);
    outcome
}

/// Builds the programs into one folder.
fn build() -> Outcome<PathBuf> {
    let target = target_folder()?;
    run(&mut cargo(&["build", "--release", "--quiet", "--package", "kinora"]))?;
    let folder = target.join("gpu-check");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let copy = |from: &Path, name: &str| {
        let to = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
        fs::copy(from, &to).map(|_| ()).map_err(|error| Failed::from(format!("{}: {error}", from.display())))
    };
    copy(&target.join("release").join(format!("kinora{}", env::consts::EXE_SUFFIX)), "kinora")?;
    let mut build = vec!["test", "--workspace", "--locked", "--no-run", "--quiet", "--message-format", "json"];
    build.extend(TESTS.iter().flat_map(|(_, test, _)| ["--test", test]));
    for line in output(&mut cargo(&build))?.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(program) = message["executable"].as_str().filter(|_| TESTS.iter().any(|(_, test, _)| *test == name)) {
            copy(Path::new(program), name)?;
        }
    }
    Ok(folder)
}

struct Check {
    /// Of the programs.
    folder: PathBuf,
    /// For what they write.
    work: PathBuf,
    report: PathBuf,
    stages: Vec<Value>,
}

impl Check {
    fn run(&mut self, software: bool) -> Outcome {
        let doctor = self.stage("adapter", 30, &["doctor", "--json"])?;
        let is_gpu = |adapter: &Value| adapter["deviceType"].as_str().is_some_and(|kind| kind != "Cpu");
        if !software && !doctor["adapters"].as_array().is_some_and(|adapters| adapters.first().is_some_and(is_gpu)) {
            return Err("the first adapter is no GPU; `kinora doctor` says what there is, --software tries this out without one".into());
        }
        for (name, program, limit) in TESTS {
            self.program(name, limit, program, &["--test-threads=4"])?;
        }
        let [gpu, cpu] = ["gpu.y4m", "cpu.y4m"].map(|name| self.work.join(name).display().to_string());
        for (name, limit) in [("first clip", 60), ("second clip", 60)] {
            self.stage(name, limit, &["generate", PROMPT, "--seed", "1", "-y", "-o", &gpu])?;
        }
        self.stage("clip of the twins", 120, &["generate", PROMPT, "--seed", "1", "-y", "--executor", "cpu", "-o", &cpu])?;
        let psnr = worst_psnr(&gpu, &cpu);
        self.note("clip against the twins", &json!({ "worstPsnr": psnr }))?;
        let bench = self.stage("bench", if software { 900 } else { 240 }, &["bench", "--json"])?;
        // A processor would take an hour for the first of them.
        let survived = software || self.after_a_large_one()?;
        self.table(&bench, psnr);
        println!("report: {}", self.report.display());
        let failed = self.stages.iter().filter(|stage| stage["exit"].is_number() && stage["exit"] != 0 && stage["name"] != LARGE);
        let mut failed: Vec<&str> = failed.filter_map(|stage| stage["name"].as_str()).collect();
        failed.extend((!survived).then_some("a clip after a large one"));
        failed.extend(psnr.is_none_or(|psnr| psnr < LOWEST_PSNR).then_some("clip against the twins"));
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
    }

    /// Whether a clip is made after one that may be more than the card has memory for, in the same process.
    fn after_a_large_one(&mut self) -> Outcome<bool> {
        let [jobs, first, second] = ["jobs.jsonl", "large.y4m", "small.y4m"].map(|name| self.work.join(name));
        let large = json!({ "prompt": PROMPT, "size": "4096x4096", "frames": 9, "steps": 1, "output": first.display().to_string() });
        let small = json!({ "prompt": PROMPT, "output": second.display().to_string() });
        fs::write(&jobs, format!("{large}\n{small}\n")).map_err(|error| format!("{}: {error}", jobs.display()))?;
        self.stage(LARGE, 120, &["generate", "--batch", &jobs.display().to_string(), "-y"])?;
        let found = json!({ "large": first.is_file(), "small": second.is_file() });
        self.note("made", &found)?;
        Ok(second.is_file())
    }

    /// Runs the command.
    fn stage(&mut self, name: &str, limit: u64, arguments: &[&str]) -> Outcome<Value> {
        self.program(name, limit, "kinora", arguments)
    }

    /// Runs one of the programs for at most `limit` seconds; what it printed, as JSON if it is.
    fn program(&mut self, name: &str, limit: u64, program: &str, arguments: &[&str]) -> Outcome<Value> {
        let path = self.folder.join(format!("{program}{}", env::consts::EXE_SUFFIX));
        let [out, err] = ["out", "err"].map(|name| self.work.join(name));
        let file = |path: &Path| File::create(path).map_err(|error| Failed::from(format!("{}: {error}", path.display())));
        let mut command = Command::new(&path);
        command.args(arguments).current_dir(root_or_here()).stdin(Stdio::null()).stdout(file(&out)?).stderr(file(&err)?);
        command.env("KINORA_KERNELS", "gpu");
        let begun = Instant::now();
        let mut child = quiet_vulkan(&mut command).spawn().map_err(|error| format!("{} does not start: {error}", path.display()))?;
        let exit = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status.code().map_or_else(|| json!(status.to_string()), Value::from);
            }
            if begun.elapsed() > Duration::from_secs(limit) {
                let _ = child.kill();
                let _ = child.wait();
                break json!(124);
            }
            thread::sleep(Duration::from_millis(20));
        };
        let seconds = begun.elapsed().as_secs_f64();
        let [printed, said] = [&out, &err].map(|path| fs::read_to_string(path).unwrap_or_default());
        let value = serde_json::from_str(&printed).unwrap_or_else(|_| json!(last_lines(&printed)));
        println!("{name}: exit {exit} after {seconds:.1} s");
        self.stages.push(json!({
            "name": name,
            "seconds": seconds,
            "limit": limit,
            "exit": exit,
            "printed": value,
            "errors": last_lines(&said),
            "clocks": clocks(),
        }));
        self.save()?;
        Ok(value)
    }

    fn note(&mut self, name: &str, value: &Value) -> Outcome {
        println!("{name}: {value}");
        self.stages.push(json!({ "name": name, "found": value }));
        self.save()
    }

    fn save(&self) -> Outcome {
        let text = format!("{:#}\n", json!({ "stages": self.stages }));
        fs::write(&self.report, text).map_err(|error| format!("{}: {error}", self.report.display()).into())
    }

    /// What to look at first.
    fn table(&self, bench: &Value, psnr: Option<f64>) {
        println!("\n{}, {}", bench["device"].as_str().unwrap_or("?"), bench["driver"].as_str().unwrap_or("?"));
        println!("peak {:.0} GFLOP/s, copies {:.0} GB/s", number(&bench["peakGflops"]), number(&bench["copyGigabytesPerSecond"]));
        for row in bench["rows"].as_array().into_iter().flatten() {
            let name = row["name"].as_str().unwrap_or("?");
            println!("{name:<48} {:>9.2} ms {:>6.3} of the peak", number(&row["milliseconds"]), number(&row["fractionOfPeak"]));
        }
        println!("worst frame against the twins: {} dB", psnr.map_or("?".to_owned(), |psnr| format!("{psnr:.1}")));
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The folder of the workspace; where there is none, as on a machine that has only the programs, the current one.
fn root_or_here() -> PathBuf {
    let root = root();
    if root.is_dir() { root } else { PathBuf::from(".") }
}

fn last_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].to_vec()
}

/// What the card is doing, where NVIDIA's tool says so.
fn clocks() -> Value {
    let query = ["--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu", "--format=csv,noheader"];
    if !works("nvidia-smi", &query) {
        return Value::Null;
    }
    output(Command::new("nvidia-smi").args(query)).map_or(Value::Null, |text| text.trim().into())
}

/// The smallest signal-to-noise ratio of a frame of two Y4M clips, in dB; none if they are not of one kind. Equal frames have 99.
fn worst_psnr(a: &str, b: &str) -> Option<f64> {
    let [a, b] = [a, b].map(|path| fs::read(path).ok());
    let (a, b) = (a?, b?);
    let frames = |clip: &[u8]| -> Option<(String, usize)> {
        let end = clip.iter().position(|byte| *byte == b'\n')?;
        let head = String::from_utf8_lossy(&clip[..end]).into_owned();
        let second = clip[end + 1..].windows(6).skip(1).position(|six| six == b"FRAME\n").map_or(clip.len() - end - 1, |at| at + 1);
        Some((head, second))
    };
    let ((head, size), (other, other_size)) = (frames(&a)?, frames(&b)?);
    if a.len() != b.len() || head != other || size != other_size || size == 0 {
        return None;
    }
    let pairs = a[head.len() + 1..].chunks_exact(size).zip(b[head.len() + 1..].chunks_exact(size));
    let of_frame = |(a, b): (&[u8], &[u8])| {
        let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        if squares == 0.0 { 99.0 } else { 10.0 * (255.0f64.powi(2) * size as f64 / squares).log10() }
    };
    pairs.map(of_frame).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_compared_one_by_one() {
        let folder = env::temp_dir().join(format!("kinora-psnr-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let clip = |name: &str, second: [u8; 3]| {
            let path = folder.join(name).display().to_string();
            let mut bytes = b"YUV4MPEG2 W1 H1 C444\nFRAME\nabcFRAME\n".to_vec();
            bytes.extend(second);
            fs::write(&path, bytes).expect("written");
            path
        };
        let (a, b, c) = (clip("a", *b"abc"), clip("b", *b"abc"), clip("c", *b"abd"));
        assert_eq!(worst_psnr(&a, &b), Some(99.0));
        let psnr = worst_psnr(&a, &c).expect("of one kind");
        assert!((psnr - 57.67).abs() < 0.01, "{psnr}");
        assert_eq!(worst_psnr(&a, "none"), None);
        fs::remove_dir_all(folder).expect("there");
    }
}
