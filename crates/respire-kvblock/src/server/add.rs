//! Add: entries and their mappings, in one round trip.

use respire::{Pipeline, Reply, Value};

use super::{
    ClearBy, FieldFormat, ServerIndex,
    keys::Key,
    mappings::RequestKeys,
    refusal,
    reverse::Addition,
    scripts::{Call, MAP, rerun_unknown},
};
use crate::{
    BlockHash, IndexError, PodEntry,
    error::excerpt,
    mapping::{Mapping, mappings},
};

/// Why an entry is not added in the older form.
const NO_TEXT: &str = "the field format \"text\" has no form for an entry with a group, nor for a pod or tier whose \
                       name holds its marks";

const ADD_FAILED: &str = "failed to add to the index";

/// How many commands one transaction holds, unless a single engine key takes more: about 128 blocks with their
/// mappings. While it runs the server does nothing else; between two it serves others.
const COMMANDS_PER_TRANSACTION: usize = 256;

/// The bytes of a command around its fields: headers, name and key.
const COMMAND_BYTES: usize = 44;

/// One command of an add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The entries of the request key at this position.
    Entries(usize),
    /// The mapping of this number.
    Mapping(usize),
    /// What leads from pods to request keys, by this number.
    Reverse(usize),
}

impl ServerIndex {
    /// What an engine key maps to is written in one transaction with the mapping, so that neither is there without the
    /// other: a server that is out of memory refuses a transaction as a whole. In it, entries go before mappings, should a
    /// server that is no Valkey and no Redis run its commands one by one: between the two another writer's eviction may
    /// find the request key empty and drop the engine key with a mapping that was written first.
    pub(super) async fn add_and_map(
        &self,
        engine_keys: &[BlockHash],
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let fields = self.fields_of(entries)?;
        let names: Vec<Key> = request_keys.iter().map(|&key| self.names.request(key)).collect();
        let mappings = mappings(engine_keys, names.len());
        let mut transactions = transactions(&mappings, names.len());
        let additions = match self.clear_by {
            ClearBy::Scan => Vec::new(),
            _ => self.note_reverse(&mut transactions, request_keys, entries),
        };

        let field_bytes: usize = fields.iter().map(|field| field.len() + 16).sum();
        let bytes = names.len() * (field_bytes + COMMAND_BYTES) + mappings.len() * 96;
        let mut pipeline = Pipeline::with_capacity(bytes + transactions.len() * 32);
        for steps in &transactions {
            pipeline.command(&["MULTI"]);
            for step in steps {
                match *step {
                    Step::Entries(at) => push_entries(&mut pipeline, &names[at], &fields),
                    Step::Mapping(at) => {
                        self.push_mapping(&mut pipeline, &mappings[at], request_keys);
                    }
                    Step::Reverse(at) => additions[at].push(&mut pipeline),
                }
            }
            pipeline.command(&["EXEC"]);
        }
        let replies = self.send(ADD_FAILED, pipeline).await?;

        // The first complaint is returned, but not before everything else has been seen to.
        let mut outcome = Ok(());
        let mut of_older_form = Vec::new();
        let mut rest = replies.as_slice();
        for steps in &transactions {
            let (own, behind) = rest.split_at(steps.len() + 2);
            rest = behind;
            outcome = outcome.and(self.check_transaction(own, steps, &names, &mut of_older_form));
        }
        let script_call = |&at: &usize| self.script_call(&mappings[at], request_keys);
        let calls: Vec<Call> = of_older_form.iter().map(script_call).collect();
        outcome.and(self.map_by_script(&calls).await)?;
        let added = mappings.iter().map(|mapping| {
            let keys = mapping.positions().map(|at| request_keys[at]);
            (mapping.engine_key, keys.collect::<RequestKeys>())
        });
        self.mappings.extend(added);
        Ok(())
    }

    /// Puts in front of each transaction what leads from the pods to the request keys that it writes.
    fn note_reverse(
        &self,
        transactions: &mut [Vec<Step>],
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Vec<Addition> {
        let mut additions = Vec::new();
        for steps in transactions {
            let written = steps.iter().filter_map(|step| match *step {
                Step::Entries(at) => Some(request_keys[at]),
                _ => None,
            });
            let first = additions.len();
            additions.extend(self.reverse_additions(&written.collect::<Vec<_>>(), entries));
            steps.splice(0..0, (first..additions.len()).map(Step::Reverse));
        }
        additions
    }

    /// How the entries are written.
    fn fields_of(&self, entries: &[PodEntry]) -> Result<Vec<Vec<u8>>, IndexError> {
        match self.field_format {
            FieldFormat::Json => Ok(entries.iter().map(PodEntry::to_field).collect()),
            FieldFormat::Text => {
                let fields = entries.iter().map(PodEntry::to_text_field).collect::<Option<_>>();
                fields.ok_or_else(|| IndexError::invalid_input(NO_TEXT))
            }
        }
    }

    fn push_mapping(&self, pipeline: &mut Pipeline, mapping: &Mapping, request_keys: &[BlockHash]) {
        let name = self.names.engine(mapping.engine_key);
        let members = members(mapping, request_keys);
        let mut args: Vec<&[u8]> = Vec::with_capacity(2 + members.len());
        args.extend([b"ZADD", name.as_ref()]);
        args.extend(members.iter().map(Vec::as_slice));
        pipeline.command(&args);
    }

    fn script_call(&self, mapping: &Mapping, request_keys: &[BlockHash]) -> Call {
        let mut call = Call::new(&MAP);
        call.keys.push(self.names.engine(mapping.engine_key));
        call.args = members(mapping, request_keys);
        call
    }

    /// Looks through the replies to a transaction. Collects the mappings whose engine key is no sorted set.
    fn check_transaction(
        &self,
        replies: &[Reply],
        steps: &[Step],
        names: &[Key],
        of_older_form: &mut Vec<usize>,
    ) -> Result<(), IndexError> {
        let Some(executed) = replies.last() else { return Ok(()) };
        let Value::Array(results) = executed.value().get() else {
            // What was refused before says why nothing was executed.
            let refused = replies.iter().find_map(refusal);
            let error = refused.or_else(|| executed.parse::<Vec<i64>>().err());
            return error.map_or(Ok(()), |error| Err(IndexError::client(ADD_FAILED, error)));
        };
        let mut outcome = Ok(());
        for (result, step) in results.into_iter().zip(steps) {
            let Some(text) = result.error() else { continue };
            let error = match *step {
                Step::Mapping(at) if is_wrong_type_text(text) => {
                    of_older_form.push(at);
                    continue;
                }
                Step::Entries(at) if is_wrong_type_text(text) => {
                    self.count_wrong_type();
                    IndexError::foreign_key(names[at].as_ref())
                }
                _ => refused_inside(executed, text),
            };
            outcome = outcome.and(Err(error));
        }
        outcome
    }

    /// Maps engine keys that are no sorted sets.
    async fn map_by_script(&self, calls: &[Call]) -> Result<(), IndexError> {
        if calls.is_empty() {
            return Ok(());
        }
        let failed = |error| IndexError::client(ADD_FAILED, error);
        let mut pipeline = Pipeline::new();
        for call in calls {
            pipeline.push(call.by_digest());
        }
        let mut replies = self.send(ADD_FAILED, pipeline).await?;
        rerun_unknown(self, calls, &mut replies).await.map_err(failed)?;
        let mut outcome = Ok(());
        for (reply, call) in replies.iter().zip(calls) {
            outcome = outcome.and(match reply.parse::<i64>() {
                Ok(1..) => Ok(()),
                Ok(mapped) => {
                    if mapped < 0 {
                        self.count_wrong_type();
                    }
                    Err(IndexError::foreign_key(call.keys[0].as_ref()))
                }
                Err(error) => Err(failed(error)),
            });
        }
        outcome
    }
}

fn is_wrong_type_text(error: &[u8]) -> bool {
    error.starts_with(b"WRONGTYPE ")
}

/// A refusal that stands inside the reply to a transaction.
fn refused_inside(executed: &Reply, text: &[u8]) -> IndexError {
    let doing = format!("{ADD_FAILED}: the server answered {}", excerpt(text));
    let error = executed.parse::<Vec<i64>>().expect_err("an error among the results is no number");
    IndexError::client(doing, error)
}

/// Cuts an add into transactions. An engine key's request keys are never in a later one than its mapping, and in an
/// earlier one only if they are there for another engine key.
fn transactions(mappings: &[Mapping], request_keys: usize) -> Vec<Vec<Step>> {
    let mut written = vec![false; request_keys];
    let mut transactions = Vec::new();
    let mut steps = Vec::new();
    for (number, mapping) in mappings.iter().enumerate() {
        let new = mapping.positions().filter(|&at| !std::mem::replace(&mut written[at], true));
        steps.extend(new.map(Step::Entries));
        steps.push(Step::Mapping(number));
        if steps.len() >= COMMANDS_PER_TRANSACTION {
            transactions.push(std::mem::take(&mut steps));
        }
    }
    for (at, _) in written.iter().enumerate().filter(|(_, written)| !**written) {
        steps.push(Step::Entries(at));
        if steps.len() >= COMMANDS_PER_TRANSACTION {
            transactions.push(std::mem::take(&mut steps));
        }
    }
    if !steps.is_empty() {
        transactions.push(steps);
    }
    transactions
}

fn push_entries(pipeline: &mut Pipeline, name: &Key, fields: &[Vec<u8>]) {
    let mut args: Vec<&[u8]> = Vec::with_capacity(2 + 2 * fields.len());
    args.extend([b"HSET", name.as_ref()]);
    for field in fields {
        args.extend([field.as_slice(), b""]);
    }
    pipeline.command(&args);
}

/// The scores and names of an engine key's request keys, as arguments for ZADD and for the script alike.
///
/// A score is the position within the engine key's own list. Released versions before llm-d-router counted through the
/// whole call instead; both sort alike, and only this one writes the same bytes however a stream is cut into calls.
fn members(mapping: &Mapping, request_keys: &[BlockHash]) -> Vec<Vec<u8>> {
    mapping
        .positions()
        .enumerate()
        .flat_map(|(score, at)| {
            [score.to_string().into_bytes(), request_keys[at].to_string().into_bytes()]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(engine_keys: impl IntoIterator<Item = u64>, request_keys: usize) -> Vec<Vec<Step>> {
        let engine_keys: Vec<_> = engine_keys.into_iter().map(BlockHash).collect();
        transactions(&mappings(&engine_keys, request_keys), request_keys)
    }

    #[test]
    fn a_mapping_stands_behind_its_entries_in_the_same_transaction() {
        use Step::{Entries, Mapping};
        assert_eq!(
            cut([1, 2], 3),
            [vec![Entries(0), Entries(1), Mapping(0), Entries(2), Mapping(1)]]
        );
        // Engine key 7 is named again for the last request key.
        assert_eq!(
            cut([7, 8, 7], 3),
            [vec![Entries(0), Entries(2), Mapping(0), Entries(1), Mapping(1)]]
        );
        assert_eq!(cut([], 2), [vec![Entries(0), Entries(1)]]);
    }

    #[test]
    fn long_adds_are_cut_between_engine_keys() {
        let lengths = |cut: Vec<Vec<Step>>| cut.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(cut(0..128, 128)), [256]);
        assert_eq!(lengths(cut(0..300, 300)), [256, 256, 88]);
        assert_eq!(lengths(cut([], 600)), [256, 256, 88]);
        // One engine key is not cut.
        assert_eq!(lengths(cut([1], 1000)), [1001]);
        for transaction in cut(0..1000, 1000) {
            for pair in transaction.chunks(2) {
                assert!(matches!(pair, [Step::Entries(at), Step::Mapping(number)] if at == number));
            }
        }
    }
}
