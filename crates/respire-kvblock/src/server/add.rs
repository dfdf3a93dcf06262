//! Add: the entries first, then the mappings, in one round trip.

use respire::{Pipeline, Reply};

use super::{
    ServerIndex, is_wrong_type,
    keys::Key,
    refusal,
    scripts::{Call, MAP, rerun_unknown},
};
use crate::{BlockHash, IndexError, PodEntry, mapping::mapped_positions};

const ADD_FAILED: &str = "failed to add to the index";

impl ServerIndex {
    /// Entries go before mappings. In between, another writer's eviction may find the request key empty and drop the
    /// engine key; were the mapping written first, it would be dropped with it, and the entry could not be evicted any
    /// more.
    pub(super) async fn add_and_map(
        &self,
        engine_keys: &[BlockHash],
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let fields: Vec<Vec<u8>> = entries.iter().map(PodEntry::to_field).collect();
        let request_names: Vec<Key> = request_keys.iter().map(|&key| Key::request(key)).collect();
        let mappings = mappings(engine_keys, &request_names);

        let field_bytes: usize = fields.iter().map(|field| field.len() + 16).sum();
        let mut pipeline =
            Pipeline::with_capacity(request_names.len() * (field_bytes + 44) + mappings.len() * 96);
        for name in &request_names {
            push_entries(&mut pipeline, name, &fields);
        }
        for mapping in &mappings {
            push_mapping(&mut pipeline, mapping);
        }
        let replies = self.client.pipeline(pipeline).await;
        let replies = replies.map_err(|error| IndexError::client(ADD_FAILED, error))?;

        // The first complaint is returned, but not before everything else has been seen to.
        let (added, mapped) = replies.split_at(request_names.len());
        let mut outcome = Ok(());
        for (reply, name) in added.iter().zip(&request_names) {
            outcome = outcome.and(self.check_written(reply, name));
        }
        let mut of_older_form = Vec::new();
        for (reply, mapping) in mapped.iter().zip(mappings) {
            if is_wrong_type(reply) {
                of_older_form.push(mapping);
            } else {
                outcome = outcome.and(check(reply));
            }
        }
        outcome.and(self.map_by_script(&of_older_form).await)
    }

    /// Maps engine keys that are no sorted sets.
    async fn map_by_script(&self, mappings: &[Call]) -> Result<(), IndexError> {
        let failed = |error| IndexError::client(ADD_FAILED, error);
        let mut pipeline = Pipeline::new();
        for mapping in mappings {
            pipeline.push(mapping.by_digest());
        }
        let mut replies = self.client.pipeline(pipeline).await.map_err(failed)?;
        rerun_unknown(&self.client, mappings, &mut replies).await.map_err(failed)?;
        for (reply, mapping) in replies.iter().zip(mappings) {
            if reply.parse::<i64>().map_err(failed)? == 0 {
                return Err(IndexError::foreign_key(mapping.keys[0].as_ref()));
            }
        }
        Ok(())
    }

    fn check_written(&self, reply: &Reply, name: &Key) -> Result<(), IndexError> {
        if self.is_foreign(reply) {
            return Err(IndexError::foreign_key(name.as_ref()));
        }
        check(reply)
    }
}

fn check(reply: &Reply) -> Result<(), IndexError> {
    refusal(reply).map_or(Ok(()), |error| Err(IndexError::client(ADD_FAILED, error)))
}

fn push_entries(pipeline: &mut Pipeline, name: &Key, fields: &[Vec<u8>]) {
    let mut args: Vec<&[u8]> = Vec::with_capacity(2 + 2 * fields.len());
    args.extend([b"HSET", name.as_ref()]);
    for field in fields {
        args.extend([field.as_slice(), b""]);
    }
    pipeline.command(&args);
}

fn push_mapping(pipeline: &mut Pipeline, mapping: &Call) {
    let mut args: Vec<&[u8]> = Vec::with_capacity(2 + mapping.args.len());
    args.extend([b"ZADD", mapping.keys[0].as_ref()]);
    args.extend(mapping.args.iter().map(Vec::as_slice));
    pipeline.command(&args);
}

/// For each engine key the scores and names of its request keys, as arguments for ZADD and for the script alike.
///
/// A score is the position within the engine key's own list. Released versions before llm-d-router counted through the
/// whole call instead; both sort alike, and only this one writes the same bytes however a stream is cut into calls.
fn mappings(engine_keys: &[BlockHash], request_names: &[Key]) -> Vec<Call> {
    mapped_positions(engine_keys.len(), request_names.len())
        .map(|(engine, range)| {
            let mut call = Call::new(&MAP);
            call.keys.push(Key::engine(engine_keys[engine]));
            for (score, name) in request_names[range].iter().enumerate() {
                call.args.push(score.to_string().into_bytes());
                call.args.push(name.as_ref().to_vec());
            }
            call
        })
        .collect()
}
