//! `kinora convert`: a model folder as one file that loads by upload alone, with its manifest beside it.

use kinora_media::Place;
use kinora_runtime::{Error, VideoPipeline};
use serde_json::json;

use crate::{
    Report,
    args::ConvertArgs,
    failure::{Exit, Failure},
    manifest, models, run,
};

pub(crate) fn convert(args: &ConvertArgs) -> Result<Report, Failure> {
    let folder = models::find(&args.model)?;
    if !folder.is_dir() {
        let message = format!("`{}` is a file; expected a model folder with model_index.json", folder.display());
        return Err(Failure::new(Exit::Usage, "not-a-folder", message));
    }
    let place = Place::open(&args.output, args.overwrite)?;
    let (mut failed, mut packed) = (None, 0);
    let written = place.write(&mut |out| {
        let copied = VideoPipeline::pack(&folder, run::weight_format(args.dtype), &mut |bytes| {
            let refused = |source| Error::Io { action: "write", path: args.output.clone(), source };
            out.write_all(bytes).map_err(refused)
        });
        match copied {
            Ok(count) => packed = count,
            Err(error) => {
                let kind = std::io::Error::other(error.to_string());
                failed = Some(error);
                return Err(kind.into());
            }
        }
        Ok(())
    });
    let (path, bytes) = match (written, failed) {
        (_, Some(error)) => return Err(error.into()),
        (written, None) => written?,
    };
    let listed = manifest::write(&path, true)?;
    let json = json!({ "path": path.display().to_string(), "sizeBytes": bytes, "packed": packed, "manifest": listed.json["path"] });
    Ok(Report::new(path.as_os_str(), json))
}
