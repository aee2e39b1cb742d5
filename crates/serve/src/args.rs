//! The command line of `kinora-serve`.

#![expect(clippy::doc_markdown, reason = "the comments are the help text, where backticks would be shown")]

use std::{env, ffi::OsString, fs, net::SocketAddr, path::PathBuf};

use clap::Parser;
use ring::digest::{SHA256, digest};

/// Makes clips for applications: OpenAI's video API over HTTP, on this machine
#[derive(Debug, Clone, Parser)]
#[command(name = "kinora serve", bin_name = "kinora serve", version, max_term_width = 100)]
#[command(after_help = "What follows -- goes to `kinora generate` as it is, like: kinora serve -- --steps 8 --memory 4GB")]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one and says which
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8321")]
    pub(crate) listen: SocketAddr,
    /// Who gives this token may make clips, and sees those made with it alone; may be repeated. Needed beyond this machine
    #[arg(long, value_name = "TOKEN")]
    token: Vec<String>,
    /// Tokens, one a line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Model folder, or the name of a model, as in `kinora generate`
    #[arg(short, long, value_name = "DIR|NAME", default_value = "flipbook")]
    pub(crate) model: String,
    /// Folder of jobs, inputs and clips
    #[arg(long, value_name = "DIR", default_value = "kinora-serve")]
    pub(crate) data: PathBuf,
    /// Jobs of one token that may wait; more are told to come back later
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) queue: u32,
    /// Jobs that are with the worker at once: it computes those of equal steps side by side
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) at_once: u32,
    /// Bytes of a request, its image included
    #[arg(long, value_name = "BYTES", default_value_t = 20_000_000)]
    pub(crate) max_body: usize,
    /// Pixels of a clip, all its frames together
    #[arg(long, value_name = "N", default_value_t = 200_000_000)]
    pub(crate) max_pixels: u64,
    /// Bytes that clips and inputs may take; new jobs are refused beyond
    #[arg(long, value_name = "BYTES", default_value_t = 10_000_000_000)]
    pub(crate) disk: u64,
    /// Seconds that a finished clip is kept
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(crate) keep: u64,
    /// Seconds that what is being made has to be finished in when the server is stopped; the rest waits for the next start
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
    /// Steps from one preview to the next; 0 for none
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) preview_every: u32,
    /// Also serve the files of this folder: a page, such as the one that `cargo xtask demo` builds
    #[arg(long, value_name = "DIR")]
    pub(crate) page: Option<PathBuf>,
    /// The kinora command [default: beside this program, or found by its name]
    #[arg(long, value_name = "FILE")]
    kinora: Option<PathBuf>,
    /// For `kinora generate`
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<OsString>,
}

/// A token by its hash: what is stored and compared is never the token.
pub(crate) fn owner(token: &str) -> String {
    digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Args {
    /// Hashes of all tokens.
    pub(crate) fn tokens(&self) -> Result<Vec<String>, String> {
        let mut tokens = self.token.clone();
        if let Some(path) = &self.token_file {
            let text = fs::read_to_string(path).map_err(|error| format!("cannot read the tokens in `{}`: {error}", path.display()))?;
            tokens.extend(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
            if tokens.is_empty() {
                return Err(format!("`{}` holds no token", path.display()));
            }
        }
        match tokens.iter().find(|token| token.len() < 8) {
            Some(_) => Err("a token is shorter than 8 characters; `openssl rand -hex 16` makes one".to_owned()),
            None => Ok(tokens.iter().map(|token| owner(token)).collect()),
        }
    }

    /// The same with paths that mean the same in every folder: the processes that do the work run in that of the clips.
    pub(crate) fn usable_anywhere(self) -> Self {
        let whole = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
        let model = PathBuf::from(&self.model);
        let model = if model.exists() { whole(model).to_string_lossy().into_owned() } else { self.model };
        Self { data: whole(self.data), kinora: self.kinora.map(whole), page: self.page.map(whole), model, ..self }
    }

    /// The command that does the work.
    pub(crate) fn kinora(&self) -> PathBuf {
        let name = format!("kinora{}", env::consts::EXE_SUFFIX);
        let beside = || env::current_exe().ok().map(|program| program.with_file_name(&name)).filter(|path| path.is_file());
        self.kinora.clone().or_else(beside).unwrap_or_else(|| name.clone().into())
    }
}
