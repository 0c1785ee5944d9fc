//! From the stream of a server into the place of a backup.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::index::{BackupIndex, BackupObject, INDEX_NAME};
use crate::object_writer::ObjectWriter;
use crate::stream::{Decoder, Event, StreamEnd, StreamError, StreamHead};
use crate::{BackupError, BackupPlace};

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What was copied so far.
    pub done: StreamEnd,
    /// About how many bytes there will be.
    pub bytes_expected: u64,
}

/// Writes the objects of a stream to `place`, which must be empty, and then the index. `on_progress` is called with every
/// object, and now and then within large ones.
///
/// # Errors
/// [`BackupError::DestinationNotEmpty`] before the stream is asked for anything; else what is wrong with the stream, the
/// connection or the place. There is no index then: what was written is never taken for a backup.
pub async fn import<E>(
    stream: impl Stream<Item = Result<Bytes, E>>,
    place: &BackupPlace,
    on_progress: impl FnMut(Progress),
) -> Result<BackupIndex, BackupError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    place.expect_empty().await?;
    let mut receiver = Receiver {
        place,
        writer: ObjectWriter::new(place.store.clone()),
        head: None,
        objects: Vec::new(),
        received: StreamEnd::default(),
        on_progress,
    };
    let received = receiver.receive(stream).await;
    let Receiver {
        writer,
        head,
        objects,
        ..
    } = receiver;
    if let Err(error) = received {
        writer.abort().await;
        return Err(error);
    }
    writer.finish().await?;
    let head = head.ok_or(StreamError::Magic)?;
    let index = BackupIndex::new(head, objects);
    // Last, and only when everything else is durable.
    let path = place.path(&Path::from(INDEX_NAME));
    let put = place.store.put(&path, index.to_json().into()).await;
    put.map_err(BackupError::object("write", path))?;
    Ok(index)
}

/// What has been received of a stream.
struct Receiver<'a, P> {
    place: &'a BackupPlace,
    writer: ObjectWriter,
    head: Option<StreamHead>,
    objects: Vec<BackupObject>,
    received: StreamEnd,
    on_progress: P,
}

impl<P: FnMut(Progress)> Receiver<'_, P> {
    async fn receive<E>(&mut self, stream: impl Stream<Item = Result<Bytes, E>>) -> Result<(), BackupError>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut stream = std::pin::pin!(stream);
        let mut decoder = Decoder::new();
        while let Some(bytes) = stream.next().await {
            // A server that stops on purpose says why in the stream, before the connection ends.
            let bytes = bytes.map_err(|error| BackupError::Connection(Box::new(error)))?;
            decoder.push(&bytes);
            while let Some(event) = decoder.next_event()? {
                self.take(event).await?;
            }
        }
        Ok(decoder.finish()?)
    }

    async fn take(&mut self, event: Event) -> Result<(), BackupError> {
        match event {
            Event::Head(head) => self.head = Some(head),
            Event::Object { path, length } => {
                self.writer.begin(self.place.path(&path), length).await?;
                self.objects.push(BackupObject {
                    path: path.to_string(),
                    bytes: length,
                    checksum: 0,
                });
            }
            Event::Part(part) => {
                self.writer.part(&part).await?;
                self.received.bytes += part.len() as u64;
                self.report();
            }
            Event::ObjectEnd { checksum } => {
                self.writer.end().await?;
                self.objects
                    .last_mut()
                    .expect("an object ends after it has begun")
                    .checksum = checksum;
                self.received.objects += 1;
                self.report();
            }
            Event::End(_) => {}
        }
        Ok(())
    }

    fn report(&mut self) {
        (self.on_progress)(Progress {
            done: self.received,
            bytes_expected: self.head.as_ref().map_or(0, |head| head.bytes_expected),
        });
    }
}
