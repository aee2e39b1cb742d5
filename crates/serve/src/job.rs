//! One job: what is stored of it, and what a client sees.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    InProgress,
    Completed,
    Failed,
}

impl Status {
    pub(crate) const ALL: [Self; 4] = [Self::Queued, Self::InProgress, Self::Completed, Self::Failed];

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Counts up: the order in which jobs came.
    pub(crate) number: u64,
    pub(crate) id: String,
    /// Hash of the token it came with; empty without tokens.
    pub(crate) owner: String,
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) size: String,
    pub(crate) seconds: String,
    pub(crate) seed: u64,
    /// What the worker is told.
    pub(crate) line: Map<String, Value>,
    pub(crate) status: Status,
    pub(crate) created_at: u64,
    pub(crate) completed_at: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) failure: Option<Failure>,
    /// Of its input and its clip, on disk.
    pub(crate) bytes: u64,
    #[serde(skip)]
    pub(crate) progress: f64,
    /// The first frame as it was predicted last, a PNG in base64.
    #[serde(skip)]
    pub(crate) preview: Option<String>,
    /// How often a worker ended while it made this.
    #[serde(skip)]
    pub(crate) crashes: u32,
}

impl Job {
    /// The file of the clip, inside the folder of clips.
    pub(crate) fn clip_name(&self) -> String {
        format!("{}.mp4", self.id)
    }

    /// As `OpenAI`'s API has it, with the seed besides.
    pub(crate) fn to_json(&self) -> Value {
        let progress = if self.status == Status::Completed { 100 } else { (self.progress * 100.0).clamp(0.0, 99.0) as u32 };
        json!({
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": self.status,
            "progress": progress,
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "expires_at": self.expires_at,
            "prompt": self.prompt,
            "size": self.size,
            "seconds": self.seconds,
            "seed": self.seed,
            "error": self.failure,
            "remixed_from_video_id": null,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() -> Result<(), serde_json::Error> {
        let job = Job {
            number: 3,
            id: "video_1".into(),
            owner: String::new(),
            model: "flipbook".into(),
            prompt: "a fox".into(),
            size: "96x96".into(),
            seconds: "1.4".into(),
            seed: u64::MAX,
            line: Map::from_iter([("prompt".into(), "a fox".into())]),
            status: Status::InProgress,
            created_at: 1,
            completed_at: None,
            expires_at: None,
            failure: None,
            bytes: 7,
            progress: 0.0,
            preview: None,
            crashes: 0,
        };
        assert_eq!(serde_json::from_str::<Job>(&serde_json::to_string(&job)?)?, job, "whole");
        let shown = Job { progress: 1.0, ..job }.to_json();
        assert_eq!((&shown["status"], &shown["progress"]), (&json!("in_progress"), &json!(99)), "100 is said of what is there");
        Ok(())
    }
}
