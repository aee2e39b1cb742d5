//! Plans and loaders with one mistake each: does a test notice? All mistakes are compiled at once into a copy of the workspace, and a
//! variable chooses the one that is made, so that hundreds cost one build.

mod copy;
#[path = "../../crates/kernels/tests/support/random.rs"]
mod random;
mod sites;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::{
    copy::{mirror, write_mutants},
    random::Random,
};
use crate::{
    setup,
    shell::{Outcome, cargo, root},
    tasks::{quiet_vulkan, target_folder},
};

/// Where mistakes are made: what records, fuses, places and cuts plans, and what reads and packs weights and requests.
const PLACES: [&str; 27] = [
    "kernels/src/cost.rs",
    "kernels/src/encoding",
    "kernels/src/encoding.rs",
    "kernels/src/footprint.rs",
    "kernels/src/fuse.rs",
    "kernels/src/lower.rs",
    "kernels/src/memory.rs",
    "kernels/src/ops",
    "kernels/src/pack.rs",
    "kernels/src/plan.rs",
    "kernels/src/raw.rs",
    "kernels/src/segments.rs",
    "kernels/src/shape.rs",
    "kernels/src/tensor.rs",
    "kernels/src/weight.rs",
    "runtime/src/conditioning",
    "runtime/src/layout.rs",
    "runtime/src/sampling/denoise.rs",
    "runtime/src/sampling/guidance.rs",
    "runtime/src/sampling/packing.rs",
    "runtime/src/sampling/schedule.rs",
    "runtime/src/sampling/solvers",
    "runtime/src/sampling/spacing.rs",
    "runtime/src/sampling/tokens.rs",
    "runtime/src/sampling/track.rs",
    "runtime/src/shape.rs",
    "runtime/src/weights",
];

/// Tests that are asked, beside those within the libraries.
const TESTS: [&str; 20] = [
    "plan",
    "schedule",
    "safetensors",
    "gguf",
    "conditioning",
    "solvers",
    "sampler",
    "states",
    "properties",
    "packing",
    "wan_pipeline",
    "small_kernels",
    "streaming",
    "given_tokens",
    "wan_image_pipeline",
    "containers",
    "chunks",
    "tasks",
    "golden",
    "requirements",
];

/// Changes that no test can see: the file's end, what is changed in it, what it becomes, and the reason.
const WITHOUT_EFFECT: [(&str, &str, &str, &str); 2] = [
    ("kernels/src/weight.rs", "rows.len() * self.row_len()", "rows.len() / self.row_len()", "a list that begins too small grows"),
    (
        "solvers/multistep.rs",
        "(**first - 1.0).abs() < EPS",
        "(**first - 1.0).abs() <= EPS",
        "no schedule begins exactly a millionth below 1",
    ),
];

/// A test may take so long, or eight times as long as without a mistake; what hangs is noticed.
const LONGEST: Duration = Duration::from_secs(180);

/// Makes `count` of the mistakes and asks the tests.
pub(crate) fn plans_and_loaders(count: usize) -> Outcome {
    setup::ensure_adapter()?;
    let copy = target_folder()?.join("mutants");
    mirror(&root(), &copy)?;
    let sites = sites::in_places(&PLACES)?;
    println!("{} places", sites.len());
    let mut refused = BTreeSet::new();
    loop {
        write_mutants(&copy, &sites, &mut refused)?;
        let wrong = refusals(&copy)?;
        if wrong.is_empty() {
            break;
        }
        let before = refused.len();
        refused.extend((0..sites.len()).filter(|at| wrong.contains(&(sites[*at].file.clone(), sites[*at].line))));
        if refused.len() == before {
            return Err(format!("the copy in {} does not compile", copy.display()).into());
        }
        println!("{} are no programs", refused.len());
    }
    let tests = build(&copy)?;
    let mut open: Vec<usize> = (0..sites.len()).filter(|at| !refused.contains(at)).collect();
    let mut random = Random(20_261_128);
    let mut survivors = Vec::new();
    let mut tried = 0;
    while tried < count && !open.is_empty() {
        let number = open.swap_remove(random.below(open.len()));
        let site = &sites[number];
        let text = fs::read_to_string(root().join(&site.file)).unwrap_or_default();
        let line = text.lines().nth(site.line).unwrap_or_default().trim();
        if WITHOUT_EFFECT.iter().any(|(file, was, is, _)| site.file.ends_with(file) && site.was == *was && site.is == *is) {
            continue;
        }
        let begun = Instant::now();
        let by = tests.iter().find_map(|test| match test.verdict(Some(number), test.longest()) {
            Verdict::Passes => None,
            Verdict::Fails => Some(test.name.clone()),
            Verdict::Hangs => Some(format!("{} hangs", test.name)),
        });
        tried += 1;
        let shown = format!("{number}, {}:{}: `{}` → `{}` in `{line}`", site.file.display(), site.line + 1, site.was, site.is);
        println!("{tried}: {} ({:.0} s): {shown}", by.as_deref().unwrap_or("SURVIVES"), begun.elapsed().as_secs_f64());
        if by.is_none() {
            survivors.push(shown);
        }
    }
    println!("{tried} mistakes in plans and loaders, {} not noticed", survivors.len());
    if survivors.is_empty() { Ok(()) } else { Err(format!("no test notices:\n  {}", survivors.join("\n  ")).into()) }
}

/// What cargo says of the copy, as JSON.
fn cargo_in(copy: &Path, arguments: &[&str]) -> Outcome<Vec<Value>> {
    let mut command = cargo(arguments);
    command.current_dir(copy).env("CARGO_TARGET_DIR", target_folder()?).stderr(Stdio::null());
    let told = command.output().map_err(|error| error.to_string())?.stdout;
    Ok(String::from_utf8_lossy(&told).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The lines that do not compile, by file.
fn refusals(copy: &Path) -> Outcome<BTreeSet<(PathBuf, usize)>> {
    let mut wrong = BTreeSet::new();
    for message in cargo_in(copy, &["check", "--workspace", "--offline", "--lib", "--keep-going", "--message-format", "json"])? {
        for span in message["message"]["spans"].as_array().into_iter().flatten().filter(|_| message["message"]["level"] == "error") {
            let line = |name: &str| span[name].as_u64().unwrap_or_default() as usize;
            let file = PathBuf::from(span["file_name"].as_str().unwrap_or_default());
            wrong.extend((line("line_start")..=line("line_end")).map(|line| (file.clone(), line.saturating_sub(1))));
        }
    }
    Ok(wrong)
}

/// Builds the tests: their names, the folders that they run in and their programs.
fn build(copy: &Path) -> Outcome<Vec<Test>> {
    let mut arguments = vec!["test", "--workspace", "--offline", "--lib", "--no-run", "--message-format", "json"];
    TESTS.iter().for_each(|name| arguments.extend(["--test", name]));
    let mut tests: Vec<Test> = Vec::new();
    for message in cargo_in(copy, &arguments)? {
        let (name, program) = (message["target"]["name"].as_str().unwrap_or_default(), message["executable"].as_str());
        let Some(program) = program.filter(|_| message["profile"]["test"] == true) else { continue };
        let folder = Path::new(message["manifest_path"].as_str().unwrap_or_default()).parent().unwrap_or(copy).to_owned();
        if TESTS.contains(&name) || ["kinora_kernels", "kinora_runtime"].contains(&name) {
            tests.push(Test { name: name.to_owned(), folder, program: program.into(), takes: Duration::ZERO });
        }
    }
    if tests.len() != TESTS.len() + 2 {
        return Err(format!("{} of {} tests were built", tests.len(), TESTS.len() + 2).into());
    }
    // Quick ones come first: most mistakes are noticed by any.
    for test in &mut tests {
        let begun = Instant::now();
        if test.verdict(None, 20 * LONGEST) != Verdict::Passes {
            return Err(format!("`{}` fails without a mistake", test.name).into());
        }
        test.takes = begun.elapsed();
    }
    tests.sort_by_key(|test| test.takes);
    Ok(tests)
}

/// A program of tests.
struct Test {
    name: String,
    folder: PathBuf,
    program: PathBuf,
    /// How long it takes without a mistake.
    takes: Duration,
}

/// What a program of tests says of a mistake.
#[derive(PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails,
    Hangs,
}

impl Test {
    /// What it says with a mistake, or without one; the first failure ends it.
    fn verdict(&self, mistake: Option<usize>, longest: Duration) -> Verdict {
        let mut command = Command::new(&self.program);
        quiet_vulkan(&mut command).current_dir(&self.folder).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(number) = mistake {
            command.env("KINORA_MUTANT", number.to_string());
        }
        let Ok(mut child) = command.spawn() else { return Verdict::Fails };
        let (send, lines) = mpsc::channel();
        let told = child.stdout.take();
        let read = move |told| BufReader::new(told).lines().map_while(Result::ok).try_for_each(|line| send.send(line));
        thread::spawn(move || told.map(read));
        let begun = Instant::now();
        let verdict = loop {
            match lines.recv_timeout(longest.saturating_sub(begun.elapsed())) {
                Ok(line) if line.ends_with(" FAILED") => break Verdict::Fails,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break Verdict::Hangs,
                Err(RecvTimeoutError::Disconnected) if child.wait().is_ok_and(|status| status.success()) => return Verdict::Passes,
                Err(RecvTimeoutError::Disconnected) => return Verdict::Fails,
            }
        };
        let _ = child.kill().and_then(|()| child.wait().map(drop));
        verdict
    }

    /// What passes otherwise and takes so long hangs, even where other work slows it.
    fn longest(&self) -> Duration {
        LONGEST.max(8 * self.takes)
    }
}
