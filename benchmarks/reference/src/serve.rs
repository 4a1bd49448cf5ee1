//! A parent: a file in the reference's storage, served by the reference's TCP server.

use crate::Failure;
use clap::Args;
use dragonfly_client_config::dfdaemon::Config;
use dragonfly_client_storage::{server::tcp::TCPServer, Storage};
use dragonfly_client_util::{
    id_generator::IDGenerator,
    ratelimiter::new_bandwidth_limiter,
    shutdown::{shutdown_signal, Shutdown},
};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

/// How long to wait before the server is tried again, while it does not listen yet.
const UNTIL_LISTENING: Duration = Duration::from_millis(5);

/// What is served, and where.
#[derive(Args)]
pub struct Options {
    /// The file that is put into the storage, unless its task is there already
    #[arg(long)]
    file: PathBuf,
    /// The ID of the task, of 64 characters
    #[arg(long)]
    task_id: String,
    /// Bytes of every piece but the last
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    piece_length: u64,
    /// The directory of the storage; it is kept, and served again the next time
    #[arg(long)]
    storage: PathBuf,
    /// The port to listen on; 0 for any free one
    #[arg(long)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
}

/// Imports the file, unless the storage has it, then serves until SIGTERM.
pub async fn serve(options: Options) -> Result<(), Failure> {
    let mut config = Config::default();
    config.storage.keep = true;
    let config = Arc::new(config);
    let logs = options.storage.join("logs");
    let storage = Arc::new(Storage::new(config.clone(), &options.storage, logs).await?);
    import(&options, &config, &storage).await?;

    let address = free_address(SocketAddr::new(options.ip, options.port))?;
    let (complete, _completed) = mpsc::unbounded_channel();
    let mut server = TCPServer::new(
        config.clone(),
        address,
        Arc::new(IDGenerator::new(
            address.ip().to_string(),
            "reference".to_string(),
            false,
        )),
        storage,
        Arc::new(new_bandwidth_limiter(config.upload.bandwidth_limit)),
        Shutdown::new(),
        complete,
    );
    tokio::select! {
        outcome = server.run() => Ok(outcome?),
        failure = announce(address) => Err(failure),
        () = shutdown_signal() => Ok(()),
    }
}

/// Puts the file into the storage as a finished standard task, each piece with the digest that the storage computes.
async fn import(options: &Options, config: &Config, storage: &Storage) -> Result<(), Failure> {
    let (task_id, piece_length) = (options.task_id.as_str(), options.piece_length);
    let mut file = File::open(&options.file).await?;
    let content_length = file.metadata().await?.len();
    if let Some(task) = storage.get_task(task_id)? {
        if (task.content_length(), task.piece_length())
            != (Some(content_length), Some(piece_length))
        {
            return Err(format!("the storage has task {task_id} with other lengths").into());
        }
        if task.is_finished() {
            return Ok(());
        }
    }

    storage.prepare_download_task(task_id)?;
    storage
        .download_task_started(task_id, piece_length, content_length, None)
        .await?;
    for number in 0..u32::try_from(content_length.div_ceil(piece_length))? {
        let piece_id = storage.piece_id(task_id, number);
        let offset = u64::from(number) * piece_length;
        let length = piece_length.min(content_length - offset);
        storage
            .download_piece_started(&piece_id, number, offset, length)
            .await?;
        let mut content =
            ReaderStream::with_capacity((&mut file).take(length), config.storage.read_buffer_size);
        storage
            .download_piece_from_source_finished(
                &piece_id,
                task_id,
                offset,
                length,
                &mut content,
                config.storage.write_piece_timeout,
            )
            .await?;
    }
    storage.download_task_finished(task_id)?;
    Ok(())
}

/// The address itself, or with a port that nobody has, as the reference's server does not tell which one it got.
fn free_address(address: SocketAddr) -> Result<SocketAddr, Failure> {
    if address.port() != 0 {
        return Ok(address);
    }
    Ok(TcpListener::bind(address)?.local_addr()?)
}

/// Tells on standard output that connections are accepted, and never comes back but with a failure to tell it.
async fn announce(address: SocketAddr) -> Failure {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(UNTIL_LISTENING).await;
    }
    let mut output = std::io::stdout();
    match writeln!(output, "serving on {address}").and_then(|()| output.flush()) {
        Ok(()) => std::future::pending().await,
        Err(failure) => failure.into(),
    }
}
