//! Files of a hub by HTTP: listed with their hashes, resumed by ranges, compared with their hashes before they count.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use ring::digest;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::{cache, cache::Model, failed, text};
use crate::failure::Failure;

/// Attempts in a row without a byte.
const ATTEMPTS: u32 = 6;
/// Longest time until an answer begins.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time for one answer.
const LONGEST_ANSWER: Duration = Duration::from_secs(600);
/// Pause before an attempt that goes on where the one before got to.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// First pause before an attempt that follows one without a byte; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Longest list of files.
const MOST_LIST_BYTES: u64 = 32 << 20;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RemoteFile {
    /// Its path in the repository.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// SHA-256 of its contents, or as git names it by SHA-1: 64 or 40 digits.
    pub(super) hash: String,
}

/// The files of a revision.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) commit: String,
    pub(super) files: Vec<RemoteFile>,
}

/// A hub.
pub(super) struct Remote {
    endpoint: String,
    token: Option<String>,
    agent: Agent,
}

/// Why an attempt ended.
enum Stop {
    /// Another may go on, after the pause that the server asks for.
    Again(String, Option<Duration>),
    /// What is there of the file is longer than the server's.
    Shorter,
    Never(Failure),
}

impl Remote {
    /// `$HF_ENDPOINT` with `$HF_TOKEN`.
    pub(super) fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            // A server that stalls is asked again for the rest; one that is slow too, which costs little.
            .timeout_recv_body(Some(LONGEST_ANSWER))
            .build();
        Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            token: set("HF_TOKEN").map(|token| token.trim().to_owned()),
            agent: agent.into(),
        }
    }

    /// Asks for `url`, from byte `start` on.
    fn get(&self, url: &str, start: u64) -> Result<Response<Body>, Stop> {
        // Bytes as they are: lengths and ranges count them.
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = &self.token {
            // Not passed on to other hosts.
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| Stop::Again(error.to_string(), None))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        match status {
            200 | 206 => Ok(response),
            // Beyond its end: it has changed, or was complete.
            416 => Err(Stop::Shorter),
            408 | 429 | 500..=599 => {
                let pause = header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
                Err(Stop::Again(format!("the server answered {status}"), pause))
            }
            401 | 403 => Err(Stop::Never(
                failed("not-allowed", format!("{url}: the server answered {status}"))
                    .hint("accept the model's conditions on its page, and set HF_TOKEN to a token of yours"),
            )),
            404 => Err(Stop::Never(
                failed("not-on-hub", format!("{url}: there is no such model, revision or file"))
                    .hint("check the spelling; private models need HF_TOKEN"),
            )),
            other => Err(Stop::Never(failed("hub-failed", format!("{url}: the server answered {other}")))),
        }
    }

    /// Calls `attempt` until it succeeds, or fails for good, or fails often without having got further.
    fn persist<T>(what: &str, mut attempt: impl FnMut() -> Result<T, (Stop, bool)>) -> Result<T, Failure> {
        let mut fruitless = 0;
        loop {
            let (problem, pause) = match attempt() {
                Ok(value) => return Ok(value),
                Err((Stop::Never(failure), _)) => return Err(failure),
                Err((stop, further)) => {
                    fruitless = if further { 0 } else { fruitless + 1 };
                    match stop {
                        Stop::Again(problem, pause) => (problem, pause),
                        _ => ("the file is shorter than what is there of it".to_owned(), None),
                    }
                }
            };
            if fruitless >= ATTEMPTS {
                return Err(
                    failed("hub-failed", format!("{what}: {problem}; {ATTEMPTS} attempts")).hint("try again later: what is there is kept")
                );
            }
            let own = fruitless.checked_sub(1).map_or(SHORT_PAUSE, |before| PAUSE * 2u32.pow(before));
            thread::sleep(pause.unwrap_or(own).min(LONGEST_PAUSE));
        }
    }

    /// The files of a model with their hashes.
    pub(super) fn list(&self, model: &Model) -> Result<Listed, Failure> {
        let url = format!(
            "{}/api/models/{}/{}/revision/{}?blobs=true",
            self.endpoint,
            model.owner,
            model.name,
            model.revision.replace('/', "%2F")
        );
        let answer = Self::persist(&url, || {
            let response = self.get(&url, 0).map_err(|stop| (stop, false))?;
            let mut body = String::new();
            let read = response.into_body().into_reader().take(MOST_LIST_BYTES).read_to_string(&mut body);
            read.map_err(|error| (Stop::Again(error.to_string(), None), false))?;
            serde_json::from_str::<Value>(&body).map_err(|error| (Stop::Again(format!("no JSON: {error}"), None), false))
        })?;
        let broken = |problem: String| failed("hub-failed", format!("{url}: {problem}"));
        let hex = |text: &str, digits: &[usize]| digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = text(&answer, "sha").filter(|commit| hex(commit, &[40])).ok_or_else(|| broken("the answer names no commit".into()))?;
        let file = |entry: &Value| {
            let (lfs, name) = (&entry["lfs"], text(entry, "rfilename")?);
            let hash = text(lfs, "sha256").or_else(|| text(entry, "blobId")).filter(|hash| hex(hash, &[40, 64]))?;
            let bytes = lfs["size"].as_u64().or_else(|| entry["size"].as_u64())?;
            Some(RemoteFile { name: name.into(), bytes, hash: hash.into() })
        };
        let entries = answer["siblings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let files = entries.iter().map(|entry| file(entry).ok_or_else(|| broken(format!("a file without name, size and hash: {entry}"))));
        Ok(Listed { commit: commit.into(), files: files.collect::<Result<_, _>>()? })
    }

    /// Fetches a file to `blob`, going on where an earlier attempt ended; returns how many bytes came.
    pub(super) fn fetch(
        &self,
        model: &Model,
        commit: &str,
        file: &RemoteFile,
        blob: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<u64, Failure> {
        let path: Vec<String> = file.name.split('/').map(encoded).collect();
        let url = format!("{}/{}/{}/resolve/{commit}/{}", self.endpoint, model.owner, model.name, path.join("/"));
        let part = blob.with_extension("incomplete");
        let folder = blob.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(|error| cache::unwritable(folder, &error))?;
        let mut fetched = 0;
        // What an attempt got that is not what the hub lists may be the server's fault once.
        for last in [false, true] {
            Self::persist(&url, || {
                let before = fetched;
                let result = self.attempt(&url, file, &part, &mut |bytes, new| {
                    fetched += new;
                    progress(bytes, fetched);
                });
                result.map_err(|stop| (stop, fetched > before))
            })?;
            let found = hash_of(&part, &file.hash).map_err(|error| cache::unwritable(&part, &error))?;
            if found == file.hash {
                fs::rename(&part, blob).map_err(|error| cache::unwritable(blob, &error))?;
                return Ok(fetched);
            }
            fs::remove_file(&part).map_err(|error| cache::unwritable(&part, &error))?;
            if last {
                let message = format!("{url}: what came has the hash {found}, the hub lists {}", file.hash);
                return Err(failed("damaged-download", message).hint("try again later, or check HF_ENDPOINT and proxies"));
            }
        }
        Ok(fetched)
    }

    /// One request for what is missing of a file.
    fn attempt(&self, url: &str, file: &RemoteFile, part: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Stop> {
        let broken = |error: io::Error| Stop::Never(cache::unwritable(part, &error));
        let mut start = fs::metadata(part).map_or(0, |metadata| metadata.len());
        if start > file.bytes {
            start = 0;
        }
        if start == file.bytes && start > 0 {
            return Ok(());
        }
        let response = match self.get(url, start) {
            Err(Stop::Shorter) => {
                fs::remove_file(part).map_err(broken)?;
                return Err(Stop::Shorter);
            }
            other => other?,
        };
        let range = response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if response.status() == 206 && !range.starts_with(&format!("bytes {start}-")) {
            return Err(Stop::Again(format!("asked for bytes from {start}, the server sent `{range}`"), None));
        }
        if response.status() == 200 {
            // It has no ranges: everything comes again.
            start = 0;
        }
        let mut out = OpenOptions::new().create(true).append(start > 0).write(true).truncate(start == 0).open(part).map_err(broken)?;
        let mut body = response.into_body().into_reader().take(file.bytes - start + 1);
        let (mut buffer, mut bytes) = (vec![0; 1 << 18], start);
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    out.write_all(&buffer[..count]).map_err(broken)?;
                    bytes += count as u64;
                    progress(bytes, count as u64);
                }
                Err(error) => return Err(Stop::Again(error.to_string(), None)),
            }
        }
        out.sync_all().map_err(broken)?;
        match bytes.cmp(&file.bytes) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Stop::Again(format!("the answer ended after {bytes} of {} bytes", file.bytes), None)),
            std::cmp::Ordering::Greater => {
                fs::remove_file(part).map_err(broken)?;
                Err(Stop::Again(format!("more came than the {} bytes that the hub lists", file.bytes), None))
            }
        }
    }
}

/// A name as a part of an address.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The hash of a file's contents of the kind that `like` is: SHA-256, or with 40 digits git's name of a file.
pub(super) fn hash_of(path: &Path, like: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = if like.len() == 40 {
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
        context
    } else {
        digest::Context::new(&digest::SHA256)
    };
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
