//! The Rust reference's own storage, TCP server and TCP client, as contestants in the benchmarks.

mod fetch;
mod serve;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;

/// The allocator of the reference's daemon.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What any part of this program may fail with; it is only ever told on standard error.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The Rust reference's own storage, server and client.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put a file into the reference's storage, and serve it with the reference's TCP server until SIGTERM.
    Serve(serve::Options),
    /// Fetch all pieces of a task with the reference's TCP client.
    Fetch(fetch::Options),
}

fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vortex-reference: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command on the runtime that the reference's daemon has: tokio's own defaults, with a worker for each core.
fn run(command: Command) -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(options) => serve::serve(options).await,
            Command::Fetch(options) => fetch::fetch(options).await,
        }
    });
    // A daemon goes on writing back after its last piece: the end of a download does not wait for that.
    runtime.shutdown_background();
    outcome
}
