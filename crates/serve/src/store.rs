//! Jobs on disk: a `SQLite` file with a thread of its own. Whoever waits for a change knows that it survives a crash; changes that
//! come together are one transaction.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::job::Job;

enum Change {
    Save(String, String),
    Remove(String),
}

type Order = (Change, Option<oneshot::Sender<Result<(), String>>>);

pub(crate) struct Store {
    orders: Mutex<Option<Sender<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the file, and returns the jobs in it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Job>), String> {
        let failed = |error: rusqlite::Error| format!("cannot use the jobs in `{}`: {error}", path.display());
        let connection = Connection::open(path).map_err(failed)?;
        // The log is on disk before a change is confirmed. A second server on the same folder is refused.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, job TEXT NOT NULL) WITHOUT ROWID;
                 BEGIN IMMEDIATE; COMMIT;",
            )
            .map_err(failed)?;
        let mut jobs = Vec::new();
        {
            let mut rows = connection.prepare("SELECT job FROM jobs").map_err(failed)?;
            for text in rows.query_map([], |row| row.get::<_, String>(0)).map_err(failed)? {
                let text = text.map_err(failed)?;
                jobs.push(serde_json::from_str(&text).map_err(|error| format!("`{}` holds no job: {error}", path.display()))?);
            }
        }
        let (orders, queue) = mpsc::channel();
        let thread = thread::spawn(move || write(connection, &queue));
        Ok((Self { orders: Mutex::new(Some(orders)), thread: Mutex::new(Some(thread)) }, jobs))
    }

    /// Stores a job; returns when that is safe.
    pub(crate) async fn save(&self, job: &Job) -> Result<(), String> {
        let (told, answer) = oneshot::channel();
        self.order(save(job), Some(told));
        answer.await.unwrap_or_else(|_| Err("the store is closed".to_owned()))
    }

    /// Stores a job soon.
    pub(crate) fn save_later(&self, job: &Job) {
        self.order(save(job), None);
    }

    /// Forgets a job; returns when that is safe.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), String> {
        let (told, answer) = oneshot::channel();
        self.order(Change::Remove(id.to_owned()), Some(told));
        answer.await.unwrap_or_else(|_| Err("the store is closed".to_owned()))
    }

    fn order(&self, change: Change, told: Option<oneshot::Sender<Result<(), String>>>) {
        // After the end the one who waits is told so by the channel that is dropped.
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = orders.as_ref().map(|orders| orders.send((change, told)));
    }

    /// Writes what is left.
    pub(crate) fn close(&self) {
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(JoinHandle::join);
    }
}

fn save(job: &Job) -> Change {
    Change::Save(job.id.clone(), serde_json::to_string(job).unwrap_or_default())
}

fn write(mut connection: Connection, orders: &Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let batch: Vec<Order> = std::iter::once(first).chain(orders.try_iter()).collect();
        let done = commit(&mut connection, &batch).map_err(|error| format!("cannot store jobs: {error}"));
        if let Err(problem) = &done {
            eprintln!("error: {problem}");
        }
        for told in batch.into_iter().filter_map(|(_, told)| told) {
            // Whoever went away meanwhile needs no answer.
            let _ = told.send(done.clone());
        }
    }
}

fn commit(connection: &mut Connection, batch: &[Order]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (change, _) in batch {
        match change {
            Change::Save(id, job) => transaction.execute("INSERT OR REPLACE INTO jobs (id, job) VALUES (?1, ?2)", params![id, job])?,
            Change::Remove(id) => transaction.execute("DELETE FROM jobs WHERE id = ?1", params![id])?,
        };
    }
    transaction.commit()
}
