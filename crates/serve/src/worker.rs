//! Drives the `kinora generate` process that makes the clips: hands it jobs, hears how far they are, starts it again if it ends.

use std::{collections::HashMap, ffi::OsString, process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{job::Failure, planner::words, server::Server};

/// A worker that ends at once is not started more often.
const PAUSE: Duration = Duration::from_secs(1);

/// What a worker says.
enum Said {
    Answer(Value),
    Progress(Value),
    Ended,
}

/// Runs workers until the server stops and the last one has finished or its time is up.
pub(crate) async fn drive(server: Arc<Server>, mut stopped: watch::Receiver<bool>) {
    let cancelled = server.cancelled.lock().ok().and_then(|mut cancelled| cancelled.take());
    let Some(mut cancelled) = cancelled else { return };
    while !*stopped.borrow() {
        match start(&server) {
            Ok((child, input, said)) => attend(&server, child, input, said, &mut cancelled, &mut stopped).await,
            Err(problem) => eprintln!("error: {problem}"),
        }
        if !*stopped.borrow() {
            server.metrics.worker_ended();
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = stopped.changed() => {}
            }
        }
    }
}

fn start(server: &Server) -> Result<(Child, ChildStdin, mpsc::Receiver<Said>), String> {
    let args = &server.args;
    let program = args.kinora();
    let every = args.preview_every.to_string();
    let more = ["--progress", "json", "--resume", "--preview-every", &every].map(OsString::from);
    let mut command = Command::new(&program);
    command.args(words(args, "generate")).args(more).current_dir(args.data.join("clips"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A Ctrl-C in the terminal is for the server, which then ends its worker.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| format!("`{}` does not start: {error}", program.display()))?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(format!("`{}` has no pipes", program.display()));
    };
    let (say, said) = mpsc::channel(64);
    let answers = say.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(answer) = serde_json::from_str(&line) {
                // Whoever listened is gone with the worker.
                let _ = answers.send(Said::Answer(answer)).await;
            }
        }
        let _ = answers.send(Said::Ended).await;
    });
    tokio::spawn(async move {
        let mut lines = BufReader::new(errors).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(progress) => drop(say.send(Said::Progress(progress)).await),
                // What it says to people.
                Err(_) => eprintln!("{line}"),
            }
        }
    });
    Ok((child, input, said))
}

async fn attend(
    server: &Server,
    mut child: Child,
    input: ChildStdin,
    mut said: mpsc::Receiver<Said>,
    cancelled: &mut mpsc::UnboundedReceiver<String>,
    stopped: &mut watch::Receiver<bool>,
) {
    let mut input = Some(input);
    let mut with_worker: HashMap<String, Instant> = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut last_end = Instant::now();
    let mut deadline = None;
    let mut crashed = false;
    loop {
        while input.is_some() && with_worker.len() < server.args.at_once as usize {
            let Some(job) = server.begin() else { break };
            let mut line = job.line.clone();
            line.insert("id".into(), job.id.clone().into());
            order.push(job.id.clone());
            with_worker.insert(job.id, Instant::now());
            if !tell(&mut input, &Value::Object(line)).await {
                break;
            }
        }
        if input.is_none() && with_worker.is_empty() {
            break;
        }
        let grace = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = said.recv() => match heard {
                Some(Said::Answer(answer)) => {
                    let id = answer["id"].as_str().unwrap_or_default();
                    if let Some(begun) = with_worker.remove(id) {
                        // Those beside it were made in the same time.
                        let seconds = last_end.max(begun).elapsed().as_secs_f64();
                        last_end = Instant::now();
                        order.retain(|known| known != id);
                        server.end(id, outcome(&answer), Some(seconds));
                    }
                }
                Some(Said::Progress(event)) => {
                    if let (Some(id), Some(fraction)) = (event["id"].as_str(), event["fraction"].as_f64()) {
                        server.progress(id, fraction, event["preview"].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
                    }
                }
                Some(Said::Ended) | None => {
                    crashed = true;
                    break;
                }
            },
            id = cancelled.recv() => {
                if let Some(id) = id {
                    tell(&mut input, &json!({ "cancel": id })).await;
                }
            }
            () = server.work.notified() => {}
            _ = stopped.changed(), if deadline.is_none() => {
                deadline = Some(Instant::now() + Duration::from_secs(server.args.grace));
                // What it has it finishes; no more comes.
                input = None;
            }
            () = grace => break,
        }
    }
    drop(input);
    // It is at its end, or over its time.
    if timeout(PAUSE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
    order.retain(|id| with_worker.contains_key(id));
    server.give_back(&order, crashed);
}

/// Whether the worker took the line.
async fn tell(input: &mut Option<ChildStdin>, line: &Value) -> bool {
    let Some(pipe) = input else { return false };
    let text = format!("{line}\n");
    let told = async { pipe.write_all(text.as_bytes()).await.and(pipe.flush().await) };
    told.await.is_ok()
}

fn outcome(answer: &Value) -> Result<(), Failure> {
    match answer["outcome"].as_str() {
        Some("done" | "skipped") => Ok(()),
        _ => {
            let text = |key: &str| answer["error"][key].as_str().unwrap_or("unknown").to_owned();
            Err(Failure { code: text("code"), message: text("message") })
        }
    }
}
