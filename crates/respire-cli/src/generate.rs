//! A workload of one's own, for when there is no trace at hand.
//!
//! Sessions begin at random moments. Each has a system prompt that it shares with other sessions,
//! and one or more turns: a turn's prompt is the whole conversation so far and something new. The
//! constants were fitted to the Mooncake conversation trace by eye; the tests hold the result to
//! its arrival rate, prompt lengths and block hit rate within bounds, not to its every detail.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rand::distr::Distribution;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Exp, LogNormal, Zipf};

use crate::trace::{BLOCK_TOKENS, Request};

/// How many requests a generated workload has when no limit is given: about as many as the trace
/// that it resembles.
pub const REQUESTS_DEFAULT: u64 = 12_000;

/// New sessions a second.
const SESSIONS_PER_SECOND: f64 = 2.15;
/// The chance that a turn is followed by another one.
const NEXT_TURN_CHANCE: f64 = 0.38;
/// Seconds from one turn's arrival to the next one's: median and spread (sigma of the logarithm).
const THINK_SECONDS: (f64, f64) = (60.0, 1.0);
/// Tokens of a session's first message, likewise.
const FIRST_MESSAGE_TOKENS: (f64, f64) = (4_000.0, 1.3);
/// Tokens of each later message, likewise.
const NEXT_MESSAGE_TOKENS: (f64, f64) = (1_600.0, 1.3);
/// Tokens of an answer, likewise.
const ANSWER_TOKENS: (f64, f64) = (300.0, 0.8);
/// The longest prompt, in tokens; a conversation that has outgrown it ends.
const PROMPT_TOKENS_MAX: u64 = 126_000;
/// The longest answer, in tokens.
const ANSWER_TOKENS_MAX: u64 = 2_000;
/// How many system prompts there are beside the plain one, which most sessions have. All begin
/// with the same block.
const SYSTEM_PROMPTS: u64 = 24;
/// The part of the sessions that have one of these.
const SYSTEM_PROMPT_CHANCE: f64 = 0.25;
/// How unequally they are used: the exponent of the Zipf distribution.
const SYSTEM_PROMPT_EXPONENT: f64 = 1.1;

/// An endless workload. The same seed makes the same requests, on every machine up to the last
/// bit of its floating-point logarithms.
#[derive(Debug)]
pub struct Generator {
    rng: ChaCha8Rng,
    shapes: Shapes,
    /// The block that all prompts begin with, then those of each system prompt.
    system_prompts: Vec<Vec<u64>>,
    /// The next id that no block has had yet.
    next_block: u64,
    /// When the next session begins, in milliseconds.
    next_session_ms: f64,
    /// The turns to come of the sessions that have begun, the earliest on top. Bounded by the
    /// sessions that begin within a think time, as each has one turn at most in here.
    turns: BinaryHeap<Turn>,
}

/// The distributions that the workload is drawn from.
#[derive(Debug)]
struct Shapes {
    session_seconds: Exp<f64>,
    think_seconds: LogNormal<f64>,
    first_message: LogNormal<f64>,
    next_message: LogNormal<f64>,
    answer: LogNormal<f64>,
    system_prompt: Zipf<f64>,
}

/// A session's next turn.
#[derive(Debug)]
struct Turn {
    timestamp_ms: f64,
    /// The blocks of the conversation so far that are full and can be shared.
    blocks: Vec<u64>,
    /// Tokens of the conversation so far, the last answer included.
    tokens: u64,
    message_tokens: u64,
}

impl Generator {
    /// A workload that depends on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut generator = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            shapes: Shapes::new(),
            system_prompts: Vec::new(),
            next_block: 0,
            next_session_ms: 0.0,
            turns: BinaryHeap::new(),
        };
        let first = generator.new_blocks(1);
        generator.system_prompts.push(first.clone());
        for _ in 0..SYSTEM_PROMPTS {
            let length = generator.rng.random_range(1..=8);
            let blocks = [first.clone(), generator.new_blocks(length)].concat();
            generator.system_prompts.push(blocks);
        }
        generator
    }

    fn new_blocks(&mut self, n: u64) -> Vec<u64> {
        let first = self.next_block;
        self.next_block += n;
        (first..self.next_block).collect()
    }

    /// The turn that arrives next: a known session's, or a new session's first.
    fn next_turn(&mut self) -> Turn {
        match self.turns.peek() {
            Some(turn) if turn.timestamp_ms <= self.next_session_ms => {}
            _ => self.begin_session(),
        }
        self.turns.pop().expect("a session that has just begun has its first turn in the heap")
    }

    fn begin_session(&mut self) {
        let prompt = if self.rng.random_bool(SYSTEM_PROMPT_CHANCE) {
            // The distribution yields 1, 2, … as floating-point numbers.
            self.shapes.system_prompt.sample(&mut self.rng) as usize
        } else {
            0
        };
        let blocks = self.system_prompts[prompt.min(self.system_prompts.len() - 1)].clone();
        let tokens = blocks.len() as u64 * BLOCK_TOKENS;
        let message_tokens = tokens_from(&self.shapes.first_message, &mut self.rng);
        let timestamp_ms = self.next_session_ms;
        self.turns.push(Turn { timestamp_ms, blocks, tokens, message_tokens });
        let pause = self.shapes.session_seconds.sample(&mut self.rng);
        self.next_session_ms += (pause * 1000.0).round();
    }

    /// Decides whether and when the session goes on after `request`.
    fn plan_next_turn(&mut self, request: &Request) {
        if !self.rng.random_bool(NEXT_TURN_CHANCE) {
            return;
        }
        let pause = self.shapes.think_seconds.sample(&mut self.rng);
        let full_blocks = (request.input_length / BLOCK_TOKENS) as usize;
        let turn = Turn {
            timestamp_ms: request.timestamp_ms + (pause * 1000.0).round(),
            blocks: request.hash_ids[..full_blocks].to_vec(),
            tokens: request.input_length + request.output_length,
            message_tokens: tokens_from(&self.shapes.next_message, &mut self.rng),
        };
        if turn.tokens + turn.message_tokens <= PROMPT_TOKENS_MAX {
            self.turns.push(turn);
        }
    }
}

impl Iterator for Generator {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let turn = self.next_turn();
        let input_length = (turn.tokens + turn.message_tokens).min(PROMPT_TOKENS_MAX);
        let mut hash_ids = turn.blocks;
        let missing = input_length.div_ceil(BLOCK_TOKENS) - hash_ids.len() as u64;
        hash_ids.extend(self.new_blocks(missing));
        let output_length = tokens_from(&self.shapes.answer, &mut self.rng).min(ANSWER_TOKENS_MAX);
        let request =
            Request { timestamp_ms: turn.timestamp_ms, input_length, output_length, hash_ids };
        self.plan_next_turn(&request);
        Some(request)
    }
}

impl Shapes {
    fn new() -> Self {
        const PROOF: &str = "the parameters are constants in the distribution's range";
        let log_normal =
            |(median, sigma): (f64, f64)| LogNormal::new(median.ln(), sigma).expect(PROOF);
        Self {
            session_seconds: Exp::new(SESSIONS_PER_SECOND).expect(PROOF),
            think_seconds: log_normal(THINK_SECONDS),
            first_message: log_normal(FIRST_MESSAGE_TOKENS),
            next_message: log_normal(NEXT_MESSAGE_TOKENS),
            answer: log_normal(ANSWER_TOKENS),
            system_prompt: Zipf::new(SYSTEM_PROMPTS as f64, SYSTEM_PROMPT_EXPONENT).expect(PROOF),
        }
    }
}

/// A number of tokens, at least one.
fn tokens_from(distribution: &LogNormal<f64>, rng: &mut ChaCha8Rng) -> u64 {
    // A conversion from floating point saturates, and no prompt comes near the limit.
    (distribution.sample(rng).round() as u64).clamp(1, PROMPT_TOKENS_MAX)
}

/// Turns are ordered by their time, the earliest the greatest; by their first own block where the
/// times are equal, so that the order is the same in every run.
impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |turn: &Self| (turn.blocks.last().copied(), turn.tokens, turn.message_tokens);
        other.timestamp_ms.total_cmp(&self.timestamp_ms).then_with(|| key(other).cmp(&key(self)))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests;
