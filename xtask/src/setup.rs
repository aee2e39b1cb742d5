//! What a fresh machine lacks: a Vulkan loader, drivers, and the package manager calls that add them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::shell::{Outcome, run, works};

/// A software adapter that the tests run on, and the Debian package that brings it.
pub(crate) struct SoftwareAdapter {
    pub(crate) name: &'static str,
    /// Start of the file name of its driver manifest.
    manifest: &'static str,
    folders: &'static [&'static str],
    package: &'static str,
}

pub(crate) const LAVAPIPE: SoftwareAdapter = SoftwareAdapter {
    name: "lavapipe",
    manifest: "lvp_icd",
    folders: &["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"],
    package: "mesa-vulkan-drivers",
};

pub(crate) const SWIFTSHADER: SoftwareAdapter = SoftwareAdapter {
    name: "SwiftShader",
    manifest: "vk_swiftshader_icd",
    folders: &["/usr/lib/chromium", "/usr/share/vulkan/icd.d", "/opt/google/chrome"],
    package: "chromium",
};

impl SoftwareAdapter {
    /// The driver manifest, after installing its package if there is none.
    pub(crate) fn manifest(&self) -> Outcome<PathBuf> {
        ensure_loader()?;
        if self.find().is_none() {
            install(&[self.package])?;
        }
        self.find()
            .ok_or_else(|| format!("no {} driver: `{}*.json` is in none of {}", self.name, self.manifest, self.folders.join(", ")).into())
    }

    fn find(&self) -> Option<PathBuf> {
        self.folders
            .iter()
            .flat_map(|folder| manifests(Path::new(folder)))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(self.manifest)))
    }
}

/// Makes sure that some Vulkan driver can be found; other systems bring their graphics API along.
pub(crate) fn ensure_adapter() -> Outcome {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    ensure_loader()?;
    if driver_exists() {
        return Ok(());
    }
    install(&[LAVAPIPE.package])?;
    if driver_exists() { Ok(()) } else { Err("still no Vulkan driver after installing mesa-vulkan-drivers".into()) }
}

/// A program that some test needs, by the Debian package of the same name.
pub(crate) fn ensure_program(name: &str) -> Outcome {
    if works(name, &["-version"]) {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        return Err(format!("missing: {name}. Install it and put it on the PATH").into());
    }
    install(&[name])
}

fn ensure_loader() -> Outcome {
    let known = works("sh", &["-c", "ldconfig -p 2>/dev/null | grep -q libvulkan.so.1 || /sbin/ldconfig -p | grep -q libvulkan.so.1"]);
    if known || !cfg!(target_os = "linux") { Ok(()) } else { install(&["libvulkan1"]) }
}

/// Any driver manifest where the loader looks.
fn driver_exists() -> bool {
    let chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().filter_map(env::var_os);
    let chosen: Vec<_> = chosen.flat_map(|list| env::split_paths(&list).collect::<Vec<_>>()).collect();
    if !chosen.is_empty() {
        return chosen.iter().any(|path| path.is_file());
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folders = ["/usr/share", "/usr/local/share", "/etc"].map(PathBuf::from).into_iter().chain([home.join(".local/share")]);
    folders.map(|folder| folder.join("vulkan/icd.d")).any(|folder| !manifests(&folder).is_empty())
}

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    found.sort();
    found
}

/// Installs Debian packages as root or through a sudo that asks nothing, or says what to type.
pub(crate) fn install(packages: &[&str]) -> Outcome {
    let list = packages.join(" ");
    let root = works("sh", &["-c", "test \"$(id -u)\" = 0"]);
    let prefix: &[&str] = match (works("apt-get", &["--version"]), root, works("sudo", &["-n", "true"])) {
        (true, true, _) => &["apt-get"],
        (true, false, true) => &["sudo", "-n", "apt-get"],
        (true, false, false) => return Err(format!("missing: {list}. Type: sudo apt-get install {list}").into()),
        (false, ..) => {
            return Err(format!("missing: a Vulkan loader or driver. Install what Debian calls {list} with your package manager").into());
        }
    };
    println!("installing {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    let install = || apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat());
    // A fresh container has no package lists; a machine in use should not have to fetch them.
    install().or_else(|_| apt(&["update", "-qq"]).and_then(|()| install()))
}
