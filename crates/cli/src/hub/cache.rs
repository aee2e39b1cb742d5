//! The layout of the shared cache: `models--OWNER--NAME` with `blobs` named by hash, `snapshots` of links to them, and `refs`.

use std::{
    env, fmt, fs,
    fs::{File, TryLockError},
    path::{Component, Path, PathBuf},
};

use super::{RemoteFile, failed};
use crate::failure::Failure;

/// `owner/name`, and which revision of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) revision: String,
}

impl Model {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let word =
            |word: &str| !word.is_empty() && !word.starts_with('.') && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let revised = !revision.is_empty() && revision.split('/').all(word);
        match path.split_once('/') {
            Some((owner, name)) if word(owner) && word(name) && revised => {
                Ok(Self { owner: owner.into(), name: name.into(), revision: revision.into() })
            }
            _ => Err(failed(
                "bad-model-name",
                format!("`{text}` is no name of a model on a hub; expected owner/name or owner/name@revision"),
            )),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// The folder of the user's caches.
pub(crate) fn caches() -> Option<PathBuf> {
    let home = || folder_in("HOME").or_else(|| folder_in("USERPROFILE")).map(|home| home.join(".cache"));
    folder_in("XDG_CACHE_HOME").or_else(home)
}

/// What a variable of the environment names.
fn folder_in(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The cache on this machine.
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// `$HF_HUB_CACHE`, `$HF_HOME/hub`, or the one below the user's caches.
    pub(super) fn open() -> Result<Self, Failure> {
        let own = || caches().map(|caches| caches.join("huggingface"));
        let root = folder_in("HF_HUB_CACHE").or_else(|| folder_in("HF_HOME").or_else(own).map(|home| home.join("hub")));
        root.map(Self).ok_or_else(|| failed("no-cache", "there is no home folder for a cache of models").hint("set HF_HOME to a folder"))
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    pub(super) fn folder(&self, model: &Model) -> PathBuf {
        self.0.join(format!("models--{}--{}", model.owner, model.name))
    }

    /// Where the contents of a file are kept.
    pub(super) fn blob(&self, model: &Model, file: &RemoteFile) -> PathBuf {
        self.folder(model).join("blobs").join(&file.hash)
    }

    /// Keeps others from fetching the same model; freed when dropped, and by the system if this process dies.
    pub(super) fn lock(&self, model: &Model) -> Result<File, Failure> {
        let path = self.0.join(".locks").join(format!("models--{}--{}", model.owner, model.name)).join("kinora.lock");
        let opened = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&path));
        let file = opened.map_err(|error| unwritable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => eprintln!("waiting for another process that fetches {model}"),
            Err(TryLockError::Error(error)) => return Err(unwritable(&path, &error)),
        }
        file.lock().map_err(|error| unwritable(&path, &error))?;
        Ok(file)
    }

    /// Gives a blob its name in the snapshot of a commit.
    pub(super) fn link(&self, model: &Model, commit: &str, file: &RemoteFile) -> Result<(), Failure> {
        let name = Path::new(&file.name);
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(failed("bad-file-name", format!("the hub lists a file `{}`, which is no path inside a folder", file.name)));
        }
        let link = self.folder(model).join("snapshots").join(commit).join(name);
        if link.exists() {
            return Ok(());
        }
        let made = link.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            // A link that leads nowhere is in the way.
            let _ = fs::remove_file(&link);
            place(&self.blob(model, file), &link, name.components().count())
        });
        made.map_err(|error| unwritable(&link, &error))
    }

    /// Says which commit a revision is.
    pub(super) fn point(&self, model: &Model, commit: &str) -> Result<(), Failure> {
        if model.revision == commit {
            return Ok(());
        }
        let path = self.folder(model).join("refs").join(&model.revision);
        let part = path.with_extension("part");
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&part, commit))
            .and_then(|()| fs::rename(&part, &path));
        written.map_err(|error| unwritable(&path, &error))
    }

    /// The folder of the files of a revision, if there is one.
    pub(super) fn snapshot(&self, model: &Model) -> Option<PathBuf> {
        let folder = self.folder(model);
        let commit = fs::read_to_string(folder.join("refs").join(&model.revision)).unwrap_or_else(|_| model.revision.clone());
        let snapshot = folder.join("snapshots").join(commit.trim());
        snapshot.is_dir().then_some(snapshot)
    }

    /// Name and contents of every file of a revision.
    pub(super) fn files(&self, model: &Model) -> Result<Vec<(String, PathBuf)>, Failure> {
        let missing = || failed("model-not-found", format!("`{model}` is not in the cache at `{}`", self.0.display()));
        let snapshot = self.snapshot(model).ok_or_else(missing)?;
        let mut files = Vec::new();
        let mut folders = vec![snapshot.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| unwritable(&folder, &error))?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&snapshot).unwrap_or(&path).display().to_string();
                    // What a link that leads nowhere would lead to is still its name.
                    let blob = fs::read_link(&path).map_or_else(|_| path.clone(), |target| path.with_file_name(target));
                    files.push((name, blob));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// All models with a main revision.
    pub(super) fn models(&self) -> Vec<Model> {
        let names = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let parsed = |name: &String| Model::parse(&name.strip_prefix("models--")?.replacen("--", "/", 1)).ok();
        names.iter().filter_map(parsed).collect()
    }
}

/// A link from a snapshot to a blob, relative so that the cache can be moved.
#[cfg(unix)]
fn place(blob: &Path, link: &Path, depth: usize) -> std::io::Result<()> {
    let up: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
    std::os::unix::fs::symlink(up.join("blobs").join(blob.file_name().unwrap_or_default()), link)
}

/// Links need a privilege on Windows: the file is there twice by name, once in memory.
#[cfg(not(unix))]
fn place(blob: &Path, link: &Path, _: usize) -> std::io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let hint = if error.kind() == std::io::ErrorKind::StorageFull {
        "free some space, or set HF_HOME to another disk"
    } else {
        "set HF_HOME to a folder you may write to"
    };
    failed("cache-unwritable", format!("cannot use `{}`: {error}", path.display())).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_the_cache() {
        let parsed = |text: &str| Model::parse(text).map(|model| model.to_string());
        assert_eq!(parsed("Wan-AI/Wan2.1-T2V-1.3B-Diffusers").ok().as_deref(), Some("Wan-AI/Wan2.1-T2V-1.3B-Diffusers"));
        assert_eq!(parsed("a/b@refs/pr/1").ok().as_deref(), Some("a/b@refs/pr/1"));
        for wrong in ["a", "a/b/c", "../b", "a/..", "a/b@", "a/b@../c", "a /b", "/b", "a/"] {
            assert!(parsed(wrong).is_err(), "`{wrong}` was accepted");
        }
    }
}
