//! A model in one file, its matrices as the device stores them.

use std::path::Path;

use kinora_kernels::{Device, Graph, Weight, WeightFormat};

use super::VideoPipeline;
use crate::error::Result;
use crate::models::family::Direction;
use crate::request::GenerateRequest;
use crate::weights::packed;

impl VideoPipeline {
    /// Writes the model in `folder` by `out` as one file that loads by upload alone: every matrix and convolution that a clip needs and that is
    /// not quantised as the device stores it, everything else as it is. Returns how many matrices are so. The file is loaded like one of
    /// weights, in the same `format`.
    ///
    /// # Errors
    /// Those of a model that cannot be loaded, and of `out`; [`WrongDType`](crate::Error::WrongDType) for blocks of GGUF.
    pub fn pack(folder: &Path, format: WeightFormat, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<usize> {
        let pipeline = Self::load(Device::cpu(), folder, format)?;
        let graphs = pipeline.all_graphs()?;
        let used: Vec<Weight> = graphs.iter().flat_map(Graph::weights).cloned().collect();
        packed::write(folder, &used, format, out)
    }

    /// Plans of everything that a clip may need.
    fn all_graphs(&self) -> Result<Vec<Graph>> {
        let request = GenerateRequest { upscale: 2, interpolate: 2, ..self.request("") };
        let plain = GenerateRequest { guidance: 1.0.into(), ..self.request("") };
        let (job, device) = (self.typical_job(&plain)?, self.device());
        let mut graphs: Vec<Graph> = self.typical_text_plan()?.into_iter().collect();
        graphs.extend(self.typical_denoise(&job, &[job.sequence()]).stages()?.into_iter().map(|(_, graph)| graph));
        for direction in [Direction::Encode, Direction::Decode] {
            graphs.extend(self.coder(direction, &device).choose(direction, job.shape)?.graphs);
        }
        graphs.extend(self.picture_stage()?.map(|(_, graph)| graph));
        graphs.extend(self.refine_plans(&request, request.frames)?.into_iter().map(|(_, plan)| plan));
        Ok(graphs)
    }
}
