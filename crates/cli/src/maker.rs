//! Tasks become files: those that can be computed side by side are made together, one pack after another, so that a batch of any
//! length keeps no more than a pack of clips in memory.

use std::{
    io,
    time::{Duration, Instant},
};

use kinora_runtime::Options;

use crate::{
    failure::{Exit, Failure},
    generate::Task,
    interrupt,
    progress::{Renderer, in_words},
    run::{self, CancelToken, Event, GenerateRequest, Metadata, VideoPipeline},
    writers::{Outcome, Writers, head},
};

/// Tasks that are looked through for those that go side by side: more than a pack of the smallest clips holds.
const WINDOW: usize = 256;

/// Where tasks come from and where their outcomes go.
pub(crate) trait Jobs {
    /// What an outcome is told with.
    type Tag;

    /// Up to `most` more tasks. Waits for one where `wait`; none is then the end.
    fn more(&mut self, most: usize, wait: bool) -> Vec<(Self::Tag, Task)>;

    /// These are computed next, until `stop` is cancelled; those that are not wanted any more are left out.
    fn begin(&mut self, pack: Vec<Admitted<Self::Tag>>, stop: &CancelToken) -> Vec<Admitted<Self::Tag>>;

    /// Whether the file is still wanted now that the clip is there.
    fn keep(&mut self, tag: &Self::Tag) -> bool;

    /// How one of them is, in progress as JSON.
    fn name<'a>(&self, tag: &'a Self::Tag) -> Option<&'a serde_json::Value>;

    /// What came of it.
    fn tell(&mut self, tag: Self::Tag, outcome: Outcome);
}

/// A task whose request is decided, but for the pixels of what it is given.
pub(crate) struct Admitted<T> {
    pub(crate) tag: T,
    task: Task,
    options: Options,
    request: GenerateRequest,
    wording: Option<Event>,
}

pub(crate) struct Maker<'a> {
    pipeline: &'a VideoPipeline,
    pub(crate) renderer: Renderer<io::Stderr>,
    /// Time spent on making clips and on writing them.
    pub(crate) generating: Duration,
    pub(crate) writing: Duration,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(pipeline: &'a VideoPipeline, renderer: Renderer<io::Stderr>) -> Self {
        Self { pipeline, renderer, generating: Duration::ZERO, writing: Duration::ZERO }
    }

    /// Finds what is wrong with a task before anything is computed; what the clip will be.
    pub(crate) fn check(&self, task: &Task) -> Result<Metadata, Failure> {
        let (_, metadata) = run::draft(task.options(), task, self.pipeline, &mut |_| {})?;
        check_output(task, &metadata)?;
        Ok(metadata)
    }

    /// Makes what there is until there is no more. What fails is told, and does not stop the others; an error is one after which
    /// nothing else would do.
    pub(crate) fn run<J: Jobs>(&mut self, jobs: &mut J) -> Result<(), Failure> {
        let mut admitted: Vec<Admitted<J::Tag>> = Vec::new();
        loop {
            let new = jobs.more(WINDOW.saturating_sub(admitted.len()), admitted.is_empty());
            let ended = new.is_empty();
            self.admit(new, jobs, &mut admitted)?;
            if admitted.is_empty() {
                if ended {
                    return Ok(());
                }
                continue;
            }
            let requests: Vec<GenerateRequest> = admitted.iter().map(|one| one.request.clone()).collect();
            let members = self.pipeline.packs(&requests).swap_remove(0);
            let (mut pack, mut rest) = (Vec::new(), Vec::new());
            for (at, one) in admitted.into_iter().enumerate() {
                if members.contains(&at) { pack.push(one) } else { rest.push(one) }
            }
            admitted = rest;
            self.make(pack, jobs)?;
        }
    }

    /// Decides the requests of new tasks. What is there already and what cannot be made is told at once.
    fn admit<J: Jobs>(&mut self, new: Vec<(J::Tag, Task)>, jobs: &mut J, admitted: &mut Vec<Admitted<J::Tag>>) -> Result<(), Failure> {
        let understood = run::understand(&new.iter().map(|(_, task)| (task.options(), task.given())).collect::<Vec<_>>(), self.pipeline);
        // One prompt that cannot be read does not make the others unreadable.
        let understood: Vec<Result<_, Failure>> = match understood {
            Ok(all) => all.into_iter().map(Ok).collect(),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(_) => {
                new.iter().map(|(_, task)| Ok(run::understand(&[(task.options(), task.given())], self.pipeline)?.remove(0))).collect()
            }
        };
        for ((tag, task), understood) in new.into_iter().zip(understood) {
            let decided = understood.and_then(|(options, wording)| {
                let (draft, metadata) = run::draft(options.clone(), &task, self.pipeline, &mut |_| {})?;
                check_output(&task, &metadata)?;
                Ok((options, wording, draft.request, metadata))
            });
            match decided {
                Err(failure) => jobs.tell(tag, Err(failure)),
                Ok((options, wording, request, metadata)) => match task.found(&metadata) {
                    Some(found) => jobs.tell(tag, found),
                    None => admitted.push(Admitted { tag, task, options, request, wording }),
                },
            }
        }
        Ok(())
    }

    fn make<J: Jobs>(&mut self, pack: Vec<Admitted<J::Tag>>, jobs: &mut J) -> Result<(), Failure> {
        let stop = CancelToken::default();
        let pack = jobs.begin(pack, &stop);
        let mut ready = Vec::new();
        for Admitted { tag, task, options, wording, .. } in pack {
            match self.ready(jobs.name(&tag), &task, options, wording.as_ref()) {
                Ok((request, metadata, frames)) => {
                    let clip = task.clip(&request, metadata, frames);
                    ready.push((tag, clip, request));
                }
                Err(failure) => jobs.tell(tag, Err(failure)),
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        let mut requests = Vec::with_capacity(ready.len());
        let mut writers = Writers::new(jobs, &mut self.renderer, &stop);
        for (tag, clip, request) in ready {
            writers.add(tag, clip);
            requests.push(request);
        }
        let begun = Instant::now();
        let finished = interrupt::with(&stop, || run::generate(self.pipeline, &requests, &stop, &mut writers));
        let Writers { members, spent, .. } = writers;
        self.writing += spent;
        self.generating += begun.elapsed().saturating_sub(spent);
        let Err(failure) = finished else { return Ok(()) };
        let ends = interrupt::token().is_cancelled() || matches!(failure.exit, Exit::Internal | Exit::NoGpu);
        members.into_iter().flatten().for_each(|tag| jobs.tell(tag, Err(failure.clone())));
        if ends { Err(failure) } else { Ok(()) }
    }

    /// The request with the pixels of what it is given, and how many frames come of it, if there is an end.
    fn ready(
        &mut self,
        name: Option<&serde_json::Value>,
        task: &Task,
        options: Options,
        wording: Option<&Event>,
    ) -> Result<(GenerateRequest, Metadata, Option<usize>), Failure> {
        let renderer = &mut self.renderer;
        let note = &mut |text| renderer.show_of(name, &Event::Note { text });
        let (draft, metadata) = run::draft(options, task, self.pipeline, note)?;
        let request = run::fit(draft, task, self.pipeline, note)?;
        if let Some(words) = run::processor_time(self.pipeline, &request)?.and_then(in_words) {
            note(format!("this takes {words} on the processor"));
        }
        let frames = self.pipeline.finished_frames(&request)?;
        self.renderer.show_of(name, &Event::Start(Box::new(metadata.clone())));
        if let Some(wording) = wording {
            self.renderer.show_of(name, wording);
        }
        Ok((request, metadata, frames))
    }
}

/// Whether a task's output can hold the clip.
fn check_output(task: &Task, clip: &Metadata) -> Result<(), Failure> {
    Ok(task.output().check(&head(clip, Some(clip.frames).filter(|frames| *frames > 0))?)?)
}
