//! Files that may be pipes: read without waiting for ever for someone who writes to them.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

/// Longest time without a byte, or without anybody who might write one.
const SILENCE: Duration = Duration::from_secs(10);

/// A file for reading; a pipe to which nobody writes for 10 s is an error of reading it.
///
/// # Errors
/// Those of opening it.
pub fn open_input(path: &Path) -> io::Result<Input> {
    #[cfg(unix)]
    {
        use nix::fcntl::OFlag;
        use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
        // A pipe is not opened before someone writes to it, unless that is not waited for. Files do not care.
        let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
        let is_pipe = file.metadata()?.file_type().is_fifo();
        Ok(Input { file, waits_for_writer: is_pipe, silence: SILENCE, patient: false })
    }
    #[cfg(not(unix))]
    Ok(Input { file: File::open(path)?, waits_for_writer: false, silence: SILENCE, patient: false })
}

/// What [`open_input`] opens.
#[derive(Debug)]
pub struct Input {
    file: File,
    /// Until the first byte, the end of a pipe only says that nobody has begun.
    waits_for_writer: bool,
    silence: Duration,
    patient: bool,
}

impl Input {
    /// Waits for as long as somebody holds the pipe open: what comes through it is thought up meanwhile.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// Whether it is a file with an end, which can be opened again.
    pub(crate) fn is_file(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.is_file())
    }

    /// Bytes of it, as far as it knows.
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        const TICK: Duration = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        loop {
            let is_held = match self.file.read(bytes) {
                Ok(0) if self.waits_for_writer && !bytes.is_empty() => false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                read => {
                    self.waits_for_writer &= !read.as_ref().is_ok_and(|count| *count > 0);
                    return read;
                }
            };
            if waited >= self.silence && !(is_held && self.patient) {
                let message = format!("nothing came through it within {} s", self.silence.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(TICK);
            waited += TICK;
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::{fs, io::Write as _, sync::mpsc, thread};

    #[test]
    fn a_pipe_is_read_to_the_end_of_who_writes_and_not_waited_for_without() {
        let path = std::env::temp_dir().join(format!("kinora-pipe-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let opened = |silence| Input { silence, ..open_input(&path).expect("it opens") };
        let mut nothing = Vec::new();
        let refused = opened(Duration::from_millis(50)).read_to_end(&mut nothing).expect_err("nobody writes");
        assert_eq!((refused.kind(), nothing.len()), (io::ErrorKind::TimedOut, 0), "{refused}");
        let mut input = opened(Duration::from_secs(5));
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                thread::sleep(Duration::from_millis(100));
                fs::write(path, vec![7; 200_000])
            }
        });
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).expect("all of it");
        assert!(bytes == [7; 200_000], "{} bytes", bytes.len());
        writer.join().expect("it writes").expect("all of it");
        // Who holds it open and says nothing for a while, or not until the reader has gone.
        for patient in [false, true] {
            let input = opened(Duration::from_millis(50));
            let mut input = if patient { input.patient() } else { input };
            let (begun, has_begun) = mpsc::channel();
            let (gone, is_gone) = mpsc::channel::<()>();
            let writer = thread::spawn({
                let path = path.clone();
                move || -> io::Result<()> {
                    let mut pipe = File::options().write(true).open(path)?;
                    pipe.write_all(b"a")?;
                    begun.send(()).expect("somebody reads");
                    let _ = is_gone.recv_timeout(if patient { Duration::from_millis(300) } else { Duration::from_secs(60) });
                    if patient { pipe.write_all(b"b") } else { Ok(()) }
                }
            });
            has_begun.recv().expect("it writes");
            let mut bytes = Vec::new();
            let read = input.read_to_end(&mut bytes);
            assert_eq!((read.is_ok(), bytes), if patient { (true, b"ab".to_vec()) } else { (false, b"a".to_vec()) });
            drop(gone);
            writer.join().expect("it writes").expect("all of it");
        }
        fs::remove_file(path).expect("ours");
    }
}
