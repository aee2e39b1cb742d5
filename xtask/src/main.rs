//! Developer tasks of the Kinora workspace. `cargo xtask` without arguments lists them.

mod ci;
mod demo;
mod deny;
mod gpu_check;
mod mutants;
mod new_kernel;
mod release;
mod reliability;
mod rules;
mod setup;
mod shell;
mod tasks;
mod web;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <task> [arguments]

  generate PROMPT [flags]  set up what is missing, build, make a clip; flags as in `kinora generate --help`
  bench [flags]            build and measure kernels; flags as in `kinora bench --help`
  gpu-check [FILE]         ten minutes on a GPU: kernels right there, how fast, and out of memory; a report in FILE
  test                     everything CI checks, cheap checks first
  demo                     build the demo page, serve it on this machine and print its address; PORT chooses another
  web                      build the npm package into web/dist
  web test [names]         build it and run its tests in headless Chromium, all or those of web/test/NAME.test.mjs
  consumers [names]        build sites from the packed package, each with its own install, and make a clip with each
  conformance              a page that compares every kernel with its twin in whatever browser opens it, in target/conformance
  docs                     the site of guides and reference, in target/docs
  release --dry-run        everything a release consists of, with checksums; publishes nothing
  golden [parts]           make the PyTorch fixtures in tests/golden again
  faults                   fail every call to the graphics API, one by one
  fuzz [FILES] [SEED]      damaged files of every kind through every parser
  mutants [NUMBER] [PART]  kernels, plans and loaders with one mistake each, which tests must notice
  cases [NUMBER]           kernels over random shapes, offsets and formats
  soak [MINUTES]           make and cancel clips for so long, 30 minutes if not said
  deny                     licences, bans, sources and advisories of all dependencies
  advisories FOLDER        the snapshot of advisories anew, from a clone of the RustSec database
  new-kernel FOLDER/NAME   write the files of a new kernel, ready to be changed
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let result = match task.as_str() {
        "generate" => tasks::generate(&arguments),
        "bench" => tasks::bench(&arguments),
        "gpu-check" => gpu_check::gpu_check(&arguments),
        "test" if arguments.is_empty() => ci::test(),
        "demo" if arguments.is_empty() => demo::demo(),
        "web" if arguments.is_empty() => web::build(),
        "web" if arguments.first().is_some_and(|first| first == "test") => web::test(&arguments[1..]).and_then(shell::Counts::verdict),
        "consumers" => web::consumers(&arguments),
        "conformance" if arguments.is_empty() => web::conformance(),
        "docs" if arguments.is_empty() => web::docs(),
        "release" if arguments == ["--dry-run"] => release::dry_run(),
        "golden" => tasks::golden(&arguments),
        "faults" if arguments.is_empty() => reliability::faults(),
        "fuzz" => reliability::fuzz(&arguments),
        "mutants" => reliability::mutants(&arguments),
        "cases" => reliability::cases(&arguments),
        "soak" => reliability::soak(&arguments),
        "deny" if arguments.is_empty() => deny::check(),
        "advisories" if arguments.len() == 1 => deny::renew(arguments[0].as_ref()),
        "new-kernel" => new_kernel::new_kernel(&arguments),
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("xtask: unknown task `{}`\n\n{USAGE}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(shell::Failed { message, exit }) => {
            // A program that failed by itself has said why.
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            ExitCode::from(exit)
        }
    }
}
