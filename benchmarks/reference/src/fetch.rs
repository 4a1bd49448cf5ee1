//! A child: all pieces of a task from one parent, by the reference's TCP client.

use crate::Failure;
use clap::Args;
use dragonfly_client_config::dfdaemon::Config;
use dragonfly_client_core::Error;
use dragonfly_client_storage::{client::tcp::TCPClient, Storage};
use dragonfly_client_util::fs::fallocate;
use futures::TryStreamExt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What is fetched, from where, and where to.
#[derive(Args)]
pub struct Options {
    /// The address of the parent, HOST:PORT
    #[arg(long)]
    parent: String,
    /// The ID of the task, of 64 characters
    #[arg(long)]
    task_id: String,
    /// Pieces of the task
    #[arg(long)]
    piece_count: u32,
    /// Bytes of the task
    #[arg(long)]
    content_length: u64,
    /// Bytes of every piece but the last
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    piece_length: u64,
    /// Pieces under way at once
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// The directory of the storage, which is emptied first, as the reference does by default
    #[arg(long, required_unless_present = "plain")]
    storage: Option<PathBuf>,
    /// The file to write, which must not exist; with a storage a hard link of the content in it
    #[arg(long)]
    output: PathBuf,
    /// Write verified pieces straight into the output, without the reference's storage
    #[arg(long)]
    plain: bool,
}

/// Fetches all pieces, a number of them at once, and fails with the first that fails.
pub async fn fetch(options: Options) -> Result<(), Failure> {
    let pieces = options.content_length.div_ceil(options.piece_length);
    if pieces != u64::from(options.piece_count) {
        return Err(format!(
            "expected {pieces} pieces by the lengths, not {}",
            options.piece_count
        )
        .into());
    }
    let child = Arc::new(Child::new(options).await?);
    let semaphore = Arc::new(Semaphore::new(child.options.concurrency as usize));
    let mut under_way = JoinSet::new();
    for number in 0..child.options.piece_count {
        let permit = semaphore.clone().acquire_owned().await?;
        let child = child.clone();
        under_way.spawn(async move {
            let _permit = permit;
            let parent = &child.options.parent;
            let fetched = child.fetch_piece(number).await;
            fetched.map_err(|failure| format!("piece {number} from {parent}: {failure}"))
        });
        while let Some(fetched) = under_way.try_join_next() {
            fetched??;
        }
    }
    while let Some(fetched) = under_way.join_next().await {
        fetched??;
    }
    child.finish().await
}

/// Where verified pieces go.
enum Destination {
    /// The reference's storage.
    Storage(Box<Storage>),
    /// The output itself.
    Plain(File),
}

/// All that the pieces have in common.
struct Child {
    options: Options,
    config: Arc<Config>,
    client: TCPClient,
    destination: Destination,
}

impl Child {
    /// Prepares the destination for a new task.
    async fn new(options: Options) -> Result<Self, Failure> {
        let config = Arc::new(Config::default());
        let destination = match &options.storage {
            Some(directory) if !options.plain => Destination::Storage(Box::new(
                open_storage(directory, config.clone(), &options).await?,
            )),
            _ => {
                let file = tokio::fs::File::create_new(&options.output).await?;
                fallocate(&file, options.content_length).await?;
                Destination::Plain(file.into_std().await)
            }
        };
        Ok(Self {
            client: TCPClient::new(config.clone(), options.parent.clone()),
            options,
            config,
            destination,
        })
    }

    /// Fetches a piece, verifies it and writes it where the parent says that it belongs, as the reference does.
    async fn fetch_piece(&self, number: u32) -> Result<(), Error> {
        let offset = u64::from(number) * self.options.piece_length;
        let length = self
            .options
            .piece_length
            .min(self.options.content_length - offset);
        match &self.destination {
            Destination::Storage(storage) => {
                self.fetch_into_storage(storage, number, offset, length)
                    .await
            }
            Destination::Plain(file) => self.fetch_into_file(file, number, length).await,
        }
    }

    /// The way of a piece through the reference's daemon, its bandwidth limiter and its metrics left out.
    async fn fetch_into_storage(
        &self,
        storage: &Storage,
        number: u32,
        offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        let task_id = &self.options.task_id;
        let piece_id = storage.piece_id(task_id, number);
        storage
            .download_piece_started(&piece_id, number, offset, length)
            .await?;
        let (mut content, offset, digest) = self.client.download_piece(number, task_id).await?;
        storage
            .download_piece_from_parent_finished(
                &piece_id,
                task_id,
                offset,
                length,
                &digest,
                &self.options.parent,
                &mut content,
                self.config.storage.write_piece_timeout,
            )
            .await?;
        Ok(())
    }

    /// The shortest way to the disk: each chunk is hashed and written by the thread that has received it, while it
    /// is hot in the processor's cache.
    async fn fetch_into_file(&self, file: &File, number: u32, length: u64) -> Result<(), Error> {
        let (mut content, offset, digest) = self
            .client
            .download_piece(number, &self.options.task_id)
            .await?;
        let mut hasher = crc32fast::Hasher::new();
        let mut written = 0;
        while let Some(chunk) = content.try_next().await? {
            hasher.update(&chunk);
            file.write_all_at(&chunk, offset + written)?;
            written += chunk.len() as u64;
        }
        if written != length {
            return Err(Error::Unknown(format!(
                "expected length {length} but got {written}"
            )));
        }
        let actual = format!("crc32:{}", hasher.finalize());
        if digest != actual {
            return Err(Error::DigestMismatch(digest, actual));
        }
        Ok(())
    }

    /// Names the whole content after the output, as the reference does where storage and output are on one disk.
    async fn finish(&self) -> Result<(), Failure> {
        if let Destination::Storage(storage) = &self.destination {
            storage.download_task_finished(&self.options.task_id)?;
            storage
                .hard_link_task(&self.options.task_id, &self.options.output)
                .await?;
        }
        Ok(())
    }
}

/// A storage that waits for the pieces of the task.
async fn open_storage(
    directory: &Path,
    config: Arc<Config>,
    options: &Options,
) -> Result<Storage, Failure> {
    let storage = Storage::new(config, directory, directory.join("logs")).await?;
    storage.prepare_download_task(&options.task_id)?;
    storage
        .download_task_started(
            &options.task_id,
            options.piece_length,
            options.content_length,
            None,
        )
        .await?;
    Ok(storage)
}
