//! `kinora-serve`: jobs over HTTP in the form of `OpenAI`'s video API. It computes nothing itself: a `kinora` process makes the
//! clips and another says what is possible, so that a request is answered while both cores are busy.

mod args;
mod create;
mod events;
mod http;
mod images;
mod job;
mod metrics;
mod page;
mod planner;
mod queue;
mod server;
mod store;
mod videos;
mod worker;

use std::{process::ExitCode, sync::Arc};

use clap::Parser as _;
use tokio::{net::TcpListener, runtime, signal, sync::watch};

use crate::{args::Args, server::Server};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(args)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), String> {
    let tokens = args.tokens()?;
    if tokens.is_empty() && !args.listen.ip().is_loopback() {
        return Err(format!(
            "{} can be reached from other machines, where everyone could make clips; give --token-file FILE, or listen on 127.0.0.1",
            args.listen
        ));
    }
    let listener = TcpListener::bind(args.listen).await.map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server::open(args, tokens, stopped.clone())?);
    let worker = tokio::spawn(worker::drive(server.clone(), stopped.clone()));
    let housekeeping = tokio::spawn(server::keep_house(server.clone(), stopped.clone()));
    // Scripts that asked for a free port read it here.
    println!("listening on http://{address}");
    let asked = async move {
        ask_to_stop().await;
        eprintln!("stopping: what is being made is finished first");
        // Nobody listens only when everything has ended.
        let _ = stop.send(true);
    };
    axum::serve(listener, http::router(server.clone())).with_graceful_shutdown(asked).await.map_err(|error| error.to_string())?;
    for task in [worker, housekeeping] {
        task.await.map_err(|error| error.to_string())?;
    }
    server.close();
    Ok(())
}

/// Returns at the first Ctrl-C or termination.
async fn ask_to_stop() {
    #[cfg(unix)]
    {
        let Ok(mut terminated) = signal::unix::signal(signal::unix::SignalKind::terminate()) else { return };
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = signal::ctrl_c().await;
}
