//! From a pod to its request keys, so that a clear need not look at every key there is.
//!
//! | key | type | content |
//! |---|---|---|
//! | `engine:~fields:<prefix>~<pod>` | set | every entry of the pod that was ever added, as its JSON field |
//! | `engine:~keys:<prefix>~<bucket>~<field>` | set | the request keys that hold the entry, as signed numbers |
//!
//! llm-d's clear passes by names that start with `engine:`, and takes no such name for an engine key's, because those go on
//! with a digit. A set of up to 512 integers takes eight bytes for each, so an entry's request keys are spread over 256.
//!
//! The sets may name too much and never too little: a request key is put there in the transaction that adds the entry, and
//! taken out by a script that looks whether the entry is really gone. Whatever is lost or comes in between, a clear finds
//! every entry that an index has added which keeps the sets.

use std::collections::HashMap;

use respire::{Command, Pipeline, Reply};

use super::{
    ServerIndex, check,
    keys::Key,
    lookup::strings,
    scripts::{Call, DROP_FIELD, TIDY, rerun_unknown},
};
use crate::{BlockHash, IndexError, PodEntry};

const CLEAR_FAILED: &str = "failed to clear the pod from the index";

/// Over how many sets an entry's request keys are spread.
const BUCKETS: usize = 256;

/// How many sets are read at a time, in the common case a few thousand request keys.
const BUCKETS_PER_PAGE: usize = 32;

/// From how many request keys an entry is taken in one pipeline: some hundred kilobytes.
const KEYS_PER_DELETION: usize = 4096;

/// How many request keys one call of the tidying script looks at.
const KEYS_PER_TIDY: usize = 256;

/// Which of an entry's sets a request key belongs to.
fn bucket(request_key: BlockHash) -> u8 {
    // The top bits of the product depend on all bits of the key.
    (request_key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// A request key as a member: a signed number, which a server keeps in eight bytes.
fn member(request_key: BlockHash) -> Vec<u8> {
    request_key.0.cast_signed().to_string().into_bytes()
}

fn parse_member(member: &[u8]) -> Option<BlockHash> {
    let number: i64 = std::str::from_utf8(member).ok()?.parse().ok()?;
    Some(BlockHash(number.cast_unsigned()))
}

/// One command that puts members into a set.
pub(super) struct Addition {
    key: Key,
    members: Vec<Vec<u8>>,
}

impl Addition {
    pub(super) fn push(&self, pipeline: &mut Pipeline) {
        let mut args: Vec<&[u8]> = vec![b"SADD", self.key.as_ref()];
        args.extend(self.members.iter().map(Vec::as_slice));
        pipeline.command(&args);
    }
}

impl ServerIndex {
    /// What has to be put into sets when these entries are added to these request keys.
    pub(super) fn reverse_additions(
        &self,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Vec<Addition> {
        let mut by_bucket: HashMap<u8, Vec<Vec<u8>>> = HashMap::new();
        for &key in request_keys {
            by_bucket.entry(bucket(key)).or_default().push(member(key));
        }
        let mut additions = Vec::with_capacity(entries.len() * (by_bucket.len() + 1));
        for entry in entries {
            let field = entry.to_field();
            for (&bucket, members) in &by_bucket {
                let key = self.names.reverse_keys(bucket, &field);
                additions.push(Addition { key, members: members.clone() });
            }
            let key = self.names.reverse_fields(&entry.pod_identifier);
            additions.push(Addition { key, members: vec![field] });
        }
        additions
    }

    /// Calls that take request keys out of the sets of those entries that they no longer hold.
    pub(super) fn tidyings<'a>(
        &self,
        request_keys: &[BlockHash],
        entries: impl IntoIterator<Item = &'a PodEntry>,
    ) -> Vec<Call> {
        let mut calls = Vec::new();
        for entry in entries {
            let field = entry.to_field();
            let spellings: Vec<Vec<u8>> = entry.spellings().collect();
            for keys in request_keys.chunks(KEYS_PER_TIDY) {
                let mut call = Call::new(&TIDY);
                call.args.push(spellings.len().to_string().into_bytes());
                call.args.extend(spellings.iter().cloned());
                for &key in keys {
                    call.keys.push(self.names.reverse_keys(bucket(key), &field));
                    call.keys.push(self.names.request(key));
                    call.args.push(member(key));
                }
                calls.push(call);
            }
        }
        calls
    }

    /// Deletes what the sets say of the pod, and then the sets.
    pub(super) async fn clear_by_reverse_index(
        &self,
        pod_identifier: &str,
    ) -> Result<(), IndexError> {
        let fields = self.names.reverse_fields(pod_identifier);
        let reply = self.client.execute(Command::new("SMEMBERS").arg(fields.as_ref())).await;
        let reply = reply.map_err(failed)?;
        for field in strings(&reply).map_err(failed)? {
            // What is no entry of the pod was not put there by an index.
            let entry = PodEntry::from_field(field);
            let Some(entry) = entry.filter(|entry| entry.pod_identifier == pod_identifier) else {
                continue;
            };
            self.clear_entry(&entry).await?;
            let mut call = Call::new(&DROP_FIELD);
            call.keys.push(fields.clone());
            let buckets = (0..BUCKETS).map(|bucket| self.names.reverse_keys(bucket as u8, field));
            call.keys.extend(buckets);
            call.args.push(field.to_vec());
            self.run(&[call], Pipeline::new()).await?;
        }
        Ok(())
    }

    async fn clear_entry(&self, entry: &PodEntry) -> Result<(), IndexError> {
        let field = entry.to_field();
        let spellings: Vec<Vec<u8>> = entry.spellings().collect();
        for start in (0..BUCKETS).step_by(BUCKETS_PER_PAGE) {
            let mut pipeline = Pipeline::new();
            for bucket in start..start + BUCKETS_PER_PAGE {
                let key = self.names.reverse_keys(bucket as u8, &field);
                pipeline.command(&[b"SMEMBERS", key.as_ref()]);
            }
            let replies = self.send(CLEAR_FAILED, pipeline).await?;
            let mut request_keys = Vec::new();
            for reply in &replies {
                let members = strings(reply).map_err(failed)?;
                request_keys.extend(members.filter_map(parse_member));
            }
            for request_keys in request_keys.chunks(KEYS_PER_DELETION) {
                let mut deletions = Pipeline::new();
                for &key in request_keys {
                    let name = self.names.request(key);
                    let mut args: Vec<&[u8]> = vec![b"HDEL", name.as_ref()];
                    args.extend(spellings.iter().map(Vec::as_slice));
                    deletions.command(&args);
                }
                self.run(&self.tidyings(request_keys, [entry]), deletions).await?;
            }
        }
        Ok(())
    }

    /// Sends commands and then calls of scripts, and fails for the first that is refused. A key of another type holds
    /// nothing of ours.
    async fn run(&self, calls: &[Call], mut pipeline: Pipeline) -> Result<(), IndexError> {
        for call in calls {
            pipeline.push(call.by_digest());
        }
        let mut replies = self.send(CLEAR_FAILED, pipeline).await?;
        let mut called = replies.split_off(replies.len() - calls.len());
        rerun_unknown(self, calls, &mut called).await.map_err(failed)?;
        let refused = |reply: &Reply| match self.is_foreign(reply) {
            true => Ok(()),
            false => check(CLEAR_FAILED, reply),
        };
        replies.iter().chain(&called).try_for_each(refused)
    }
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client(CLEAR_FAILED, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_the_key_as_a_signed_number() {
        for key in [0, 1, i64::MAX as u64, 1 << 63, u64::MAX] {
            assert_eq!(parse_member(&member(BlockHash(key))), Some(BlockHash(key)));
        }
        assert_eq!(member(BlockHash(u64::MAX)), b"-1");
        assert_eq!(parse_member(b"x"), None);
    }

    #[test]
    fn keys_are_spread_over_all_buckets_evenly() {
        for step in [1, 3, 256, 65_535] {
            let mut filled = [0_u32; BUCKETS];
            for i in 0..25_600 {
                filled[usize::from(bucket(BlockHash(i * step)))] += 1;
            }
            assert!(filled.iter().all(|&keys| (1..400).contains(&keys)), "{step}: {filled:?}");
        }
    }
}
