//! What is possible, asked of a `kinora plan` process: it knows the model and computes nothing, so a request is refused with the
//! reason before it is taken.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time::timeout,
};

use crate::args::Args;

/// The model is opened once; a plan takes milliseconds, beside a worker that has all cores more.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Planner {
    program: PathBuf,
    words: Vec<OsString>,
    folder: PathBuf,
    process: Mutex<Option<Process>>,
}

struct Process {
    /// Ends with this.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// The arguments of a process that reads jobs from its standard input.
pub(crate) fn words(args: &Args, subcommand: &str) -> Vec<OsString> {
    let own = [subcommand, "--batch", "-", "--json", "--model", &args.model].map(OsString::from);
    own.into_iter().chain(args.flags.iter().cloned()).collect()
}

impl Planner {
    pub(crate) fn new(args: &Args) -> Self {
        Self { program: args.kinora(), words: words(args, "plan"), folder: args.data.join("clips"), process: Mutex::new(None) }
    }

    /// What a line would become, or why not; an error if nobody can tell.
    pub(crate) async fn plan(&self, line: &Map<String, Value>) -> Result<Value, String> {
        let mut process = self.process.lock().await;
        let text = Value::Object(line.clone()).to_string() + "\n";
        // One that ended since the last question is started again.
        for last in [false, true] {
            let mut running = match process.take() {
                Some(running) => running,
                None => self.start()?,
            };
            match timeout(PATIENCE, ask(&mut running, &text)).await {
                Ok(Some(answer)) => {
                    *process = Some(running);
                    return Ok(answer);
                }
                Err(_) => return Err(format!("`kinora plan` did not answer within {} s", PATIENCE.as_secs())),
                Ok(None) if last => {}
                Ok(None) => continue,
            }
        }
        Err("`kinora plan` ended without an answer; its messages are on standard error".to_owned())
    }

    fn start(&self) -> Result<Process, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.words).current_dir(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let failed = |problem: String| format!("`{}` does not start: {problem}", self.program.display());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return Err(failed("it has no pipes".into())) };
        Ok(Process { _child: child, input, output: BufReader::new(output).lines() })
    }
}

async fn ask(process: &mut Process, text: &str) -> Option<Value> {
    process.input.write_all(text.as_bytes()).await.ok()?;
    process.input.flush().await.ok()?;
    serde_json::from_str(&process.output.next_line().await.ok()??).ok()
}
