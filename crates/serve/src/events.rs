//! `GET /v1/videos/{id}/events`: a job as it changes, with previews, as server-sent events. The last one is of a job that is over.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{Duration, timeout},
};

use crate::{
    http::{App, Owner, Problem},
    server::Server,
};

/// A silent connection is closed by proxies in between, and one that is gone is noticed by writing.
const HEARTBEAT: Duration = Duration::from_secs(15);

struct Listener {
    server: Arc<Server>,
    owner: String,
    id: String,
    changes: tokio::sync::broadcast::Receiver<Arc<str>>,
    stopped: watch::Receiver<bool>,
    /// Nothing was told yet.
    fresh: bool,
    over: bool,
    preview: Option<String>,
}

pub(crate) async fn events(
    State(server): App,
    Extension(Owner(owner)): Extension<Owner>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    server.find(&owner, &id).ok_or_else(Problem::not_found)?;
    let (changes, stopped) = (server.changes.subscribe(), server.stopped.clone());
    let listener = Listener { server, owner, id, changes, stopped, fresh: true, over: false, preview: None };
    let told = stream::unfold(listener, |mut listener| async move {
        let text = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(text), listener))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(told)).into_response())
}

impl Listener {
    /// The next event as it stands in the stream.
    async fn next(&mut self) -> Option<String> {
        if self.over || *self.stopped.borrow() {
            return None;
        }
        while !self.fresh {
            tokio::select! {
                changed = timeout(HEARTBEAT, self.changes.recv()) => match changed {
                    Err(_) => return Some(": still here\n\n".to_owned()),
                    Ok(Ok(id)) if *id == *self.id => break,
                    Ok(Ok(_)) => {}
                    // What was missed is in the newest state.
                    Ok(Err(RecvError::Lagged(_))) => break,
                    Ok(Err(RecvError::Closed)) => return None,
                },
                _ = self.stopped.changed() => return None,
            }
        }
        self.fresh = false;
        let Some(job) = self.server.find(&self.owner, &self.id) else {
            self.over = true;
            return Some(format!("event: deleted\ndata: {{\"id\":\"{}\"}}\n\n", self.id));
        };
        self.over = job.status.is_over();
        let mut shown = job.to_json();
        if job.preview.is_some() && job.preview != self.preview {
            shown["preview"] = format!("data:image/png;base64,{}", job.preview.as_deref().unwrap_or_default()).into();
            self.preview = job.preview;
        }
        Some(format!("event: {}\ndata: {shown}\n\n", job.status.name()))
    }
}
