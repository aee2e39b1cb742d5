//! Arguments of `kinora models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Model on the hub at $HF_ENDPOINT [default: huggingface.co], which may ask for $HF_TOKEN
    #[arg(value_name = "OWNER/NAME[@REVISION]")]
    pub(crate) model: String,
    /// Fetch this file of the repository alone, like one of several GGUF files; several times for several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Vec<String>,
    /// Only say where it is in the cache
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Fetch a model from a hub into the cache that the Hugging Face libraries share ($HF_HOME); goes on where it was interrupted
    Pull(PullArgs),
    /// Compare the files of a fetched model with the hashes that the hub listed, or a folder or a file with its manifest
    Verify {
        /// Fetched model, model folder, file or name
        #[arg(value_name = "OWNER/NAME[@REVISION]|DIR|FILE|NAME")]
        model: String,
    },
    /// Write the SHA-256 of each 4 MiB of a folder's files to manifest.json in it
    Manifest {
        /// Model folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Replace the one that is there
        #[arg(short = 'y', long)]
        overwrite: bool,
    },
    /// Remove a fetched model from the cache
    Rm {
        /// Fetched model
        #[arg(value_name = "OWNER/NAME")]
        model: String,
    },
    /// Models in $KINORA_MODELS, next to this program and in the cache
    List,
    /// Size, shapes and vocabulary of one model
    Info {
        /// Model folder or name
        #[arg(value_name = "DIR|NAME", default_value = crate::models::BUILT_IN)]
        model: String,
    },
}
