//! The files of a model as JavaScript brings them: in pieces into memory, or kept by it and read by ranges.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use js_sys::Uint8Array;
use kinora_runtime::weights::{Contents, ModelFiles};
use kinora_runtime::{ByteSource, SharedBytes};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::convert::Failure;

#[wasm_bindgen]
extern "C" {
    /// A file that JavaScript keeps open: `KeptFile` of src/cache.ts.
    pub type Reader;

    /// Fills `into` with what is at `at`, and returns how many bytes there were.
    #[wasm_bindgen(method, catch)]
    fn read(this: &Reader, into: &mut [u8], at: f64) -> Result<f64, JsValue>;

    /// Lets others have it.
    #[wasm_bindgen(method)]
    fn close(this: &Reader);
}

// Sources must be `Send`, which no JavaScript object is; there is one thread, so a thread-local is the same.
thread_local!(static READERS: RefCell<BTreeMap<usize, Reader>> = const { RefCell::new(BTreeMap::new()) });

/// A [`Reader`], which is closed with it.
struct Kept {
    number: usize,
    size: u64,
}

impl Kept {
    fn new(reader: Reader, size: u64) -> Self {
        let number = READERS.with_borrow_mut(|readers| {
            let number = readers.last_key_value().map_or(0, |(last, _)| last + 1);
            readers.insert(number, reader);
            number
        });
        Self { number, size }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // When the thread ends, they are gone already.
        if let Ok(Some(reader)) = READERS.try_with(|readers| readers.borrow_mut().remove(&self.number)) {
            reader.close();
        }
    }
}

impl ByteSource for Kept {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= self.size).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(length, 0);
        let read = READERS.with_borrow(|readers| readers.get(&self.number).map(|reader| reader.read(&mut bytes, range.start as f64)));
        match read {
            Some(Ok(read)) if read == length as f64 => Ok(Cow::Owned(bytes)),
            Some(Err(error)) => Err(io::Error::other(format!("{error:?}"))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The files of a model while they arrive, in pieces and side by side.
#[wasm_bindgen]
#[derive(Default)]
pub struct Files(Vec<(String, Contents)>);

#[wasm_bindgen]
impl Files {
    /// No files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts another file and returns its number; `bytes` is its size if known, else 0.
    ///
    /// # Errors
    /// `out-of-memory` if there is no room for it.
    pub fn begin(&mut self, path: String, bytes: usize) -> Result<usize, JsValue> {
        let mut file = Vec::new();
        file.try_reserve_exact(bytes).map_err(|_| no_room(&path))?;
        self.0.push((path, Contents::Here(file)));
        Ok(self.0.len() - 1)
    }

    /// Continues a file.
    ///
    /// # Errors
    /// `out-of-memory` if there is no room for it.
    pub fn append(&mut self, file: usize, piece: &Uint8Array) -> Result<(), JsValue> {
        let Some((path, Contents::Here(file))) = self.0.get_mut(file) else {
            return Err(Failure::new("internal", "a piece of no file").into());
        };
        let (start, length) = (file.len(), piece.length() as usize);
        file.try_reserve(length).map_err(|_| no_room(path))?;
        file.resize(start + length, 0);
        piece.copy_to(&mut file[start..]);
        Ok(())
    }

    /// Empties a file.
    pub fn restart(&mut self, file: usize) {
        if let Some((_, Contents::Here(file))) = self.0.get_mut(file) {
            file.clear();
        }
    }

    /// Adds a whole file that stays where it is, and is read when it is needed.
    pub fn keep(&mut self, path: String, bytes: f64, reader: Reader) {
        let file: SharedBytes = Arc::new(Kept::new(reader, bytes as u64));
        self.0.push((path, Contents::Kept(file)));
    }
}

impl Files {
    /// All of them as a model's folder that errors call `label`.
    pub(crate) fn into_model(self, label: String) -> ModelFiles {
        let mut model = ModelFiles::new(label);
        self.0.into_iter().for_each(|(path, contents)| model.insert(path, contents));
        model
    }
}

fn no_room(path: &str) -> Failure {
    Failure::new("out-of-memory", format!("this tab has no memory left for {path}"))
}
