//! What the tests of the server share: a server with the tiny model on the CPU twins, and a client of a few lines.

#[path = "../../../kernels/tests/support/folder.rs"]
mod folder;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) use folder::Folder;
use serde_json::{Value, json};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

pub(crate) fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model")
}

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The server's command, with jobs in `folder`.
pub(crate) fn command(folder: &Path, words: &[&str]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_kinora-serve"));
    let kinora = program.with_file_name(format!("kinora{}", std::env::consts::EXE_SUFFIX));
    assert!(kinora.is_file(), "`{}` is missing: build the workspace, or `cargo build -p kinora`", kinora.display());
    let mut command = Command::new(program);
    // Nothing here is about encoders.
    command.env("KINORA_FFMPEG", "");
    let split = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    command.args(["--model"]).arg(tiny_model()).arg("--data").arg(folder).args(&words[..split]);
    if !words.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(["--", "--executor", "cpu"]).args(words.get(split + 1..).unwrap_or_default());
    command
}

impl Server {
    /// Starts a server on a free port; after `--` come words for the worker.
    pub(crate) fn start(folder: &Path, words: &[&str]) -> Outcome<Self> {
        let mut child = command(folder, words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").ok_or_else(|| format!("it said `{line}`"))?.to_owned();
        Ok(Self { child, address })
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all((head + "\r\n").as_bytes())?;
        // A server that refuses a long body may close before it has read it.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no answer")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
        let mut body = bytes[end + 4..].to_vec();
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            body = whole(&body);
        }
        Ok(Answer { status, head, body })
    }

    pub(crate) fn get(&self, path: &str) -> Outcome<Answer> {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn create(&self, body: &Value) -> Outcome<Answer> {
        self.create_with(body, &[])
    }

    pub(crate) fn create_with(&self, body: &Value, headers: &[(&str, &str)]) -> Outcome<Answer> {
        let headers = [&[("Content-Type", "application/json")], headers].concat();
        self.ask("POST", "/v1/videos", &headers, body.to_string().as_bytes())
    }

    /// A form of texts and one file.
    pub(crate) fn form(&self, fields: &[(&str, &str)], file: &[u8]) -> Outcome<Answer> {
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend(format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
        }
        body.extend(b"--b0\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"../../x.png\"\r\n\r\n");
        body.extend(file);
        body.extend(b"\r\n--b0--\r\n");
        self.ask("POST", "/v1/videos", &[("Content-Type", "multipart/form-data; boundary=b0")], &body)
    }

    /// Waits until a job is over.
    pub(crate) fn over(&self, id: &str) -> Outcome<Value> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120) {
            let job = self.get(&format!("/v1/videos/{id}"))?.json();
            if job["status"] == "completed" || job["status"] == "failed" {
                return Ok(job);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{id} is not made in two minutes").into())
    }

    /// Asks it to stop, and waits for that.
    pub(crate) fn stop(mut self) -> Outcome<Option<i32>> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A body without the lengths of its chunks.
fn whole(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(str::from_utf8(&chunks[..end]).unwrap_or("0"), 16).unwrap_or(0);
        let Some(chunk) = chunks.get(end + 2..end + 2 + length).filter(|chunk| !chunk.is_empty()) else { break };
        body.extend(chunk);
        chunks = chunks.get(end + 4 + length..).unwrap_or_default();
    }
    body
}

/// A small request that the tiny model can make.
pub(crate) fn small(seed: u64) -> Value {
    json!({ "prompt": "a fox", "seed": seed, "steps": 2, "size": "32x32", "seconds": "0.4" })
}
