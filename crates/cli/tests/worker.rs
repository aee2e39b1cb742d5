//! `--batch -`: one process that is told jobs by lines and answers each by a line; batches that go on where they were stopped.

#[path = "../../kernels/tests/support/random.rs"]
mod random;
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use random::Random;
use serde_json::{Value, json};
use support::Folder;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn kinora(folder: &Folder, subcommand: &str, words: &[&str]) -> Command {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.args([subcommand, "--executor", "cpu", "--json", "--steps", "2", "-m"]).arg(model).args(words).current_dir(&folder.0);
    command
}

struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(folder: &Folder, subcommand: &str, words: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let mut command = kinora(folder, subcommand, &[&["--batch", "-"], words].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn tell(&mut self, line: &Value) -> Outcome {
        Ok(writeln!(self.input.as_mut().ok_or("ended")?, "{line}")?)
    }

    fn answer(&mut self) -> Result<Value, Box<dyn std::error::Error>> {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line)? > 0, "it ended without an answer");
        Ok(serde_json::from_str(&line)?)
    }

    /// Ends the input, and returns the answers that are left and the exit code.
    fn end(mut self) -> Result<(Vec<Value>, Option<i32>), Box<dyn std::error::Error>> {
        self.input = None;
        let rest: Vec<Value> = self.output.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_, std::io::Error>>()?;
        Ok((rest, self.child.wait()?.code()))
    }
}

#[test]
fn each_line_is_answered_while_the_input_stays_open() -> Outcome {
    let folder = Folder::new("open")?;
    let mut worker = Worker::start(&folder, "generate", &[])?;
    worker.tell(&json!({ "prompt": "a fox", "seed": 7, "output": "a.gif" }))?;
    let answer = worker.answer()?;
    assert_eq!((&answer["id"], &answer["outcome"], &answer["output"]), (&json!(1), &json!("done"), &json!("a.gif")), "{answer}");
    assert_eq!((&answer["clip"]["seed"], &answer["clip"]["format"]), (&json!(7), &json!("gif")), "{answer}");
    for (line, part) in [
        (json!({ "id": "x", "prompt": "a", "frame": 5 }), "--frame"),
        (json!({ "id": "x", "prompt": "a", "variations": 2, "output": "b.gif" }), "one clip"),
        (json!({ "id": "x", "prompt": "a", "output": "-", "format": "gif" }), "names a file"),
        (json!({ "id": "x", "prompt": "a", "output": "a.gif" }), "exists"),
        (json!({ "id": "x", "prompt": "a", "output": "b.gif", "width": 33 }), "width"),
    ] {
        worker.tell(&line)?;
        let answer = worker.answer()?;
        let message = answer["error"]["message"].as_str().unwrap_or_default().replace("name a file", "names a file");
        assert!(answer["id"] == "x" && answer["outcome"] == "failed" && message.contains(part), "{line}: {answer}");
    }
    worker.tell(&json!({ "id": "last", "prompt": "-", "seed": 1, "output": "b.gif" }))?;
    let (rest, code) = worker.end()?;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!((&rest[0]["id"], &rest[0]["clip"]["prompt"]), (&json!("last"), &json!("-")), "a hyphen is no standard input: {rest:?}");
    assert_eq!(code, Some(2), "the first failure decides");
    Ok(())
}

#[test]
fn jobs_are_taken_back_by_a_line() -> Outcome {
    let folder = Folder::new("cancel")?;
    let mut worker = Worker::start(&folder, "generate", &["--progress", "json"])?;
    worker.tell(&json!({ "id": 1, "prompt": "a", "steps": 1000, "output": "a.gif" }))?;
    let mut progress = BufReader::new(worker.child.stderr.take().ok_or("no progress")?).lines();
    let step = progress.by_ref().flatten().find(|line| line.contains("\"step\"")).ok_or("no step")?;
    assert_eq!(serde_json::from_str::<Value>(&step)?["id"], 1, "{step}");
    worker.tell(&json!({ "id": 2, "prompt": "b", "output": "b.gif" }))?;
    worker.tell(&json!({ "id": 3, "prompt": "c", "output": "c.gif" }))?;
    for id in [2, 1, 99] {
        worker.tell(&json!({ "cancel": id }))?;
    }
    let (answers, code) = worker.end()?;
    drop(progress);
    let told: Vec<_> = answers.iter().map(|answer| (answer["id"].as_u64(), answer["outcome"].as_str())).collect();
    assert_eq!(told, [(Some(2), Some("cancelled")), (Some(1), Some("cancelled")), (Some(3), Some("done"))], "{answers:?}");
    assert_eq!(code, Some(0), "what was taken back did not fail");
    let made = ["a.gif", "b.gif", "c.gif"].map(|name| folder.0.join(name).exists());
    assert_eq!(made, [false, false, true], "only what was wanted is there");
    Ok(())
}

#[test]
fn a_batch_goes_on_where_it_was_stopped() -> Outcome {
    let folder = Folder::new("resume")?;
    let line = |prompt: &str, output: &str| json!({ "prompt": prompt, "output": output, "seed": 7 }).to_string();
    let lines = [line("a", "a.gif"), line("b", "b.mp4"), json!({ "prompt": "c", "output": "c/" }).to_string(), line("d", "d.apng")];
    fs::write(folder.0.join("jobs.jsonl"), lines.join("\n"))?;
    let run = |words: &[&str]| -> Result<(Option<i32>, Value), Box<dyn std::error::Error>> {
        let output = kinora(&folder, "generate", &[&["--batch", "jobs.jsonl", "--resume"], words].concat()).output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    };
    // Two machines have done two thirds.
    assert_eq!((run(&["--shard", "0/3"])?.0, run(&["--shard", "1/3"])?.0), (Some(0), Some(0)), "shards");
    assert!(!folder.0.join("c").exists() && folder.0.join("b.mp4").exists() && folder.0.join("d.apng").exists(), "lines 0, 1 and 3");
    let before = fs::metadata(folder.0.join("b.mp4"))?.modified()?;
    let whole = fs::read(folder.0.join("d.apng"))?;
    fs::write(folder.0.join("d.apng"), &whole[..whole.len() - 20])?;
    let (code, json) = run(&[])?;
    assert_eq!((code, json["clips"].as_array().map(Vec::len)), (Some(0), Some(4)), "{json}");
    assert!(fs::metadata(folder.0.join("b.mp4"))?.modified()? == before, "what is whole is left alone");
    assert!(fs::read(folder.0.join("d.apng"))? == whole, "what is cut off is made again");
    let mut worker = Worker::start(&folder, "generate", &["--resume"])?;
    lines.iter().try_for_each(|line| worker.tell(&serde_json::from_str(line)?))?;
    worker.tell(&json!({ "prompt": "another", "output": "a.gif", "seed": 7 }))?;
    worker.tell(&json!({ "prompt": "unnamed" }))?;
    let (answers, _) = worker.end()?;
    let told = |outcome: &str| answers.iter().filter(|answer| answer["outcome"] == outcome).count();
    assert_eq!((told("skipped"), told("failed")), (4, 2), "a seed that nobody chose may be any: {answers:?}");
    Ok(())
}

#[test]
fn plans_are_answered_line_by_line() -> Outcome {
    let folder = Folder::new("plans")?;
    let mut worker = Worker::start(&folder, "plan", &[])?;
    worker.tell(&json!({ "id": 1, "prompt": "a", "duration": 1, "output": "a.mp4" }))?;
    let answer = worker.answer()?;
    assert!(answer["id"] == 1 && answer["clip"]["frames"].as_u64() > Some(1) && answer["plan"]["deviceBytes"].is_u64(), "{answer}");
    worker.tell(&json!({ "id": 2, "prompt": "a", "size": "33x33", "output": "a.mp4" }))?;
    assert_eq!(worker.answer()?["error"]["code"], "invalid-request", "a size that the model cannot make");
    assert_eq!(worker.end()?.1, Some(0), "each answer says what is wrong");
    assert!(!folder.0.join("a.mp4").exists(), "nothing is made");
    Ok(())
}

/// Long: a thousand jobs take minutes. Run by name, with `--ignored`.
#[test]
#[ignore = "minutes of work; docs/serving.md has the figures"]
fn a_thousand_jobs_take_no_more_memory_than_a_hundred() -> Outcome {
    let folder = Folder::new("thousand")?;
    let job = |at: usize, run: &str| json!({ "prompt": "a fox", "seed": at, "output": format!("{run}-{at}.gif") });
    let mut worker = Worker::start(&folder, "generate", &["-q"])?;
    let begun = std::time::Instant::now();
    // Told while they are made, as a scheduler would.
    let (mut sizes, mut told) = (Vec::new(), 0);
    for at in 0..1000 {
        while told < 1000 && told < at + 256 {
            worker.tell(&job(told, "w"))?;
            told += 1;
        }
        assert_eq!(worker.answer()?["outcome"], "done");
        if at % 100 == 99 {
            let status = fs::read_to_string(format!("/proc/{}/status", worker.child.id()))?;
            let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
            sizes.push(line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default());
        }
    }
    let by_worker = begun.elapsed().as_secs_f64();
    worker.end()?;
    let lines: Vec<String> = (0..1000).map(|at| job(at, "f").to_string()).collect();
    fs::write(folder.0.join("jobs.jsonl"), lines.join("\n"))?;
    let begun = std::time::Instant::now();
    assert!(kinora(&folder, "generate", &["--batch", "jobs.jsonl", "-q"]).output()?.status.success(), "from a file");
    let by_file = begun.elapsed().as_secs_f64();
    println!("worker {by_worker:.1} s, file {by_file:.1} s: {:.3}; resident kB after each hundred: {sizes:?}", by_file / by_worker);
    assert!(by_file / by_worker >= 0.95, "throughput");
    assert!(sizes[9] as f64 <= 1.05 * sizes[1] as f64, "memory grows: {sizes:?}");
    Ok(())
}

/// Twenty workers are killed at moments by chance; a batch that goes on makes the rest.
#[test]
#[ignore = "a minute of work; docs/serving.md has the figures"]
fn every_output_is_there_once_and_whole_after_twenty_kills() -> Outcome {
    let folder = Folder::new("kills")?;
    let lines: Vec<String> =
        (0..200).map(|at| json!({ "prompt": "a fox", "seed": at, "steps": 12, "output": format!("{at}.gif") }).to_string()).collect();
    fs::write(folder.0.join("jobs.jsonl"), lines.join("\n"))?;
    let words = ["--batch", "-", "--resume", "-q"];
    let (mut kills, mut made) = (0, 0);
    let mut random = Random(u64::from(std::process::id()));
    while kills < 20 {
        let mut command = kinora(&folder, "generate", &words);
        let mut child = command.stdin(fs::File::open(folder.0.join("jobs.jsonl"))?).stdout(Stdio::piped()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(100 + random.below(900) as u64));
        child.kill()?;
        let answers = child.wait_with_output()?.stdout;
        made += String::from_utf8_lossy(&answers).lines().filter(|line| line.contains("\"done\"")).count();
        kills += 1;
    }
    let mut command = kinora(&folder, "generate", &words);
    let last = command.stdin(fs::File::open(folder.0.join("jobs.jsonl"))?).output()?;
    assert!(last.status.success(), "the last one finishes");
    made += String::from_utf8_lossy(&last.stdout).lines().filter(|line| line.contains("\"done\"")).count();
    let mut names: Vec<String> =
        fs::read_dir(&folder.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<_>>()?;
    names.retain(|name| name != "jobs.jsonl");
    assert_eq!(names.len(), 200, "{names:?}");
    for at in 0..200 {
        let bytes = fs::read(folder.0.join(format!("{at}.gif")))?;
        assert!(bytes.starts_with(b"GIF89a") && bytes.ends_with(b";"), "{at}.gif is whole");
    }
    println!("20 kills: 200 outputs, {made} answers of done");
    Ok(())
}
