//! Clear: a scan of the whole database, one round trip a page.

use std::collections::HashMap;

use respire::{Command, Pipeline, Reply};

use super::{ServerIndex, check, is_wrong_type, keys::Key, lookup::strings};
use crate::{IndexError, PodEntry};

const CLEAR_FAILED: &str = "failed to clear the pod from the index";

/// How many keys the server looks at for one page: long enough to be worth its round trip, short enough that the hashes
/// of a page, read whole, stay in the order of a megabyte.
const PAGE: usize = 1024;

impl ServerIndex {
    /// Deletes the pod's fields from every request key, whatever their spelling.
    ///
    /// One round trip a page: the deletions of the page before, the fields of this page and the names of the next go
    /// together. A scan returns every key that is there all along, and a field is only deleted by its own bytes, so that
    /// nothing else can be hit when keys come and go meanwhile.
    pub(super) async fn clear_by_scan(&self, pod_identifier: &str) -> Result<(), IndexError> {
        let mut scan = Scan::start(self).await?;
        let mut deletions: Vec<(Key, Vec<Vec<u8>>)> = Vec::new();
        loop {
            let mut pipeline = Pipeline::new();
            for (name, fields) in &deletions {
                let mut args: Vec<&[u8]> = vec![b"HDEL", name.as_ref()];
                args.extend(fields.iter().map(Vec::as_slice));
                pipeline.command(&args);
            }
            for name in &scan.page {
                pipeline.command(&[b"HKEYS", name.as_ref()]);
            }
            if let Some(next) = scan.next(self) {
                pipeline.push(next);
            }
            if pipeline.is_empty() {
                return Ok(());
            }
            let replies = self.send(CLEAR_FAILED, pipeline).await?;
            let (deleted, rest) = replies.split_at(deletions.len());
            for reply in deleted.iter().filter(|reply| !is_wrong_type(reply)) {
                check(CLEAR_FAILED, reply)?;
            }
            let (found, next) = rest.split_at(scan.page.len());
            deletions.clear();
            // A page's distinct fields, and whether each is the pod's. What lookups remember is left alone: a scan meets
            // every field there is, and is not soon repeated.
            let mut verdicts: HashMap<&[u8], bool> = HashMap::new();
            for (reply, name) in found.iter().zip(&scan.page) {
                // A name like ours on something else, or a hash that has been replaced since the scan.
                if self.is_foreign(reply) {
                    continue;
                }
                let mut own = Vec::new();
                for field in strings(reply).map_err(failed)? {
                    let verdict = verdicts.entry(field);
                    if *verdict.or_insert_with(|| names_pod(field, pod_identifier)) {
                        own.push(field.to_vec());
                    }
                }
                if !own.is_empty() {
                    deletions.push((name.clone(), own));
                }
            }
            scan.take_page(self, next.first())?;
        }
    }
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client(CLEAR_FAILED, error)
}

fn names_pod(field: &[u8], pod_identifier: &str) -> bool {
    PodEntry::from_field(field).is_some_and(|entry| entry.pod_identifier == pod_identifier)
}

/// Where a scan of the database is.
struct Scan {
    /// Whether the server picks hashes by itself, as it does from version 6.0 on.
    by_type: bool,
    /// The server's mark for the next page; `None` when there is none.
    cursor: Option<Vec<u8>>,
    /// The request keys of this page.
    page: Vec<Key>,
}

impl Scan {
    /// A scan whose first page is there.
    async fn start(index: &ServerIndex) -> Result<Self, IndexError> {
        let mut scan = Self { by_type: true, cursor: Some(b"0".to_vec()), page: Vec::new() };
        while let Some(command) = scan.next(index) {
            match index.client.execute(command).await {
                Ok(reply) => {
                    scan.take_page(index, Some(&reply))?;
                    break;
                }
                // An older server knows no such option. What else may be wrong shows when it is left out.
                Err(error) if scan.by_type && error.server_error().is_some() => {
                    scan.by_type = false;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(scan)
    }

    /// The command that asks for the next page, if there is one.
    fn next(&self, index: &ServerIndex) -> Option<Command> {
        let mut scan = Command::new("SCAN").arg(self.cursor.as_deref()?).arg("COUNT").arg(PAGE);
        if let Some(pattern) = index.names.pattern() {
            scan = scan.arg("MATCH").arg(pattern);
        }
        Some(if self.by_type { scan.arg("TYPE").arg("hash") } else { scan })
    }

    /// Turns to the next page, which the reply to [`next`](Self::next) is, or to an empty one after the last.
    fn take_page(&mut self, index: &ServerIndex, reply: Option<&Reply>) -> Result<(), IndexError> {
        self.page.clear();
        let Some(reply) = reply else { return Ok(()) };
        let (cursor, names): (&[u8], Vec<&[u8]>) = reply.parse().map_err(failed)?;
        self.cursor = (cursor != b"0").then(|| cursor.to_vec());
        let request_keys = names.into_iter().filter_map(|name| index.names.parse_request(name));
        self.page = request_keys.map(|key| index.names.request(key)).collect();
        Ok(())
    }
}
