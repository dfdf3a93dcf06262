//! What is sent: the commands of each request, decided by its number.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};

use bytes::Bytes;
use rand::rngs::{ChaCha8Rng, SmallRng};
use rand::{RngExt, SeedableRng};
use respire::{Client, Command, Error, Pipeline, Reply};
use smallvec::SmallVec;

use super::tally::Outcome;

/// What stands for a key in the words of a custom command.
pub const KEY: &str = "{key}";

/// What stands for a value in the words of a custom command.
pub const VALUE: &str = "{value}";

/// The digits of a key's number. All keys have the same length, whatever their number.
const KEY_DIGITS: usize = 10;

/// Which commands are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mix {
    /// `GET` and `SET` in this ratio.
    GetSet {
        /// Shares of `GET`.
        gets: u32,
        /// Shares of `SET`. At least one of the two is not 0.
        sets: u32,
    },
    /// These, each as often as the others.
    Custom(Vec<Template>),
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GetSet { gets, sets } => write!(f, "GET:SET {gets}:{sets}"),
            Self::Custom(templates) => {
                let mut separator = "";
                for template in templates {
                    write!(f, "{separator}{template}")?;
                    separator = " | ";
                }
                Ok(())
            }
        }
    }
}

/// A command with places for a key and a value, such as `HSET {key} field {value}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<Word>,
}

/// A word, cut at the places of keys and values.
type Word = Vec<Piece>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key,
    Value,
}

impl std::str::FromStr for Template {
    type Err = &'static str;

    /// Words are separated by spaces; a word cannot hold one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<_> = text.split_ascii_whitespace().map(pieces).collect();
        if words.is_empty() {
            return Err("expected a command");
        }
        Ok(Self { words })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for word in &self.words {
            f.write_str(separator)?;
            separator = " ";
            for piece in word {
                f.write_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Key => KEY,
                    Piece::Value => VALUE,
                })?;
            }
        }
        Ok(())
    }
}

fn pieces(word: &str) -> Word {
    let mut pieces = Vec::new();
    let mut rest = word;
    while !rest.is_empty() {
        let next = [(KEY, Piece::Key), (VALUE, Piece::Value)]
            .into_iter()
            .filter_map(|(mark, piece)| rest.find(mark).map(|at| (at, mark, piece)))
            .min_by_key(|(at, ..)| *at);
        let Some((at, mark, piece)) = next else {
            pieces.push(Piece::Text(rest.to_owned()));
            break;
        };
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_owned()));
        }
        pieces.push(piece);
        rest = &rest[at + mark.len()..];
    }
    pieces
}

/// The requests of a run.
#[derive(Debug)]
pub(crate) struct Workload {
    mix: Mix,
    keys: NonZeroU32,
    prefix: String,
    value: Bytes,
    pipeline: NonZeroUsize,
    seed: u64,
}

impl Workload {
    /// With values of `value_bytes` printable bytes that do not repeat, for servers and networks
    /// that compress.
    pub(crate) fn new(
        mix: Mix,
        keys: NonZeroU32,
        prefix: String,
        value_bytes: usize,
        pipeline: NonZeroUsize,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let value = (0..value_bytes).map(|_| rng.random_range(b'0'..=b'z')).collect();
        Self { mix, keys, prefix, value, pipeline, seed }
    }

    /// Whether keys are there to be read before the run begins.
    pub(crate) fn is_filled(&self) -> bool {
        matches!(self.mix, Mix::GetSet { gets, .. } if gets > 0)
    }

    /// Whether keys may be there after the run.
    pub(crate) fn writes_keys(&self) -> bool {
        match &self.mix {
            Mix::GetSet { .. } => true,
            Mix::Custom(templates) => templates
                .iter()
                .flat_map(|template| &template.words)
                .flatten()
                .any(|piece| *piece == Piece::Key),
        }
    }

    pub(crate) fn keys(&self) -> u32 {
        self.keys.get()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn value(&self) -> &Bytes {
        &self.value
    }

    /// The name of the n-th key.
    pub(crate) fn key(&self, n: u32) -> SmallVec<[u8; 64]> {
        let mut key = SmallVec::from_slice(self.prefix.as_bytes());
        let mut digits = [b'0'; KEY_DIGITS];
        let mut rest = n;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        key.extend_from_slice(&digits);
        key
    }

    /// Sends the request of this number and waits for its end. The same number sends the same in
    /// every run with the same seed.
    ///
    /// # Errors
    ///
    /// What no other request will do better: the client does not send such a command.
    pub(crate) async fn call(&self, client: &Client, number: u64) -> Result<Outcome, Error> {
        // Numbers that follow each other have to differ in more than a bit.
        let mut rng =
            SmallRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let replies = if self.pipeline.get() == 1 {
            client.execute(self.command(&mut rng)).await.map(|reply| nulls([&reply]))
        } else {
            let mut pipeline = Pipeline::new();
            for _ in 0..self.pipeline.get() {
                pipeline.push(self.command(&mut rng));
            }
            client.pipeline(pipeline).await.and_then(|replies| {
                match replies.iter().find(|reply| reply.server_error().is_some()) {
                    Some(reply) => Err(reply.clone().into_result().expect_err("it is an error")),
                    None => Ok(nulls(&replies)),
                }
            })
        };
        match replies {
            Ok(nulls) => Ok(Outcome::Answered { nulls }),
            Err(error) if error.is_usage() => Err(error),
            Err(error) if error.is_timeout() && !error.is_connect() => {
                Ok(Outcome::Unanswered("timeout"))
            }
            Err(error) => Ok(Outcome::Failed(kind(&error))),
        }
    }

    fn command(&self, rng: &mut SmallRng) -> Command {
        match &self.mix {
            Mix::GetSet { gets, sets } => {
                let key = self.key(rng.random_range(0..self.keys.get()));
                let turn = rng.random_range(0..u64::from(*gets) + u64::from(*sets));
                if turn < u64::from(*gets) {
                    Command::new("GET").arg(&key[..])
                } else {
                    Command::new("SET").arg(&key[..]).arg(&self.value)
                }
            }
            Mix::Custom(templates) => {
                self.fill_in(&templates[rng.random_range(0..templates.len())], rng)
            }
        }
    }

    /// Every `{key}` of one command is the same key.
    fn fill_in(&self, template: &Template, rng: &mut SmallRng) -> Command {
        let key = self.key(rng.random_range(0..self.keys.get()));
        let text = |word: &Word| -> Vec<u8> {
            let mut text = Vec::new();
            for piece in word {
                text.extend_from_slice(match piece {
                    Piece::Text(text) => text.as_bytes(),
                    Piece::Key => &key,
                    Piece::Value => &self.value,
                });
            }
            text
        };
        let (name, args) = template.words.split_first().expect("a template has words");
        Command::new(text(name)).args(args.iter().map(text))
    }
}

fn nulls<'a>(replies: impl IntoIterator<Item = &'a Reply>) -> u64 {
    replies.into_iter().filter(|reply| reply.value().is_null()).count() as u64
}

/// A short name for what went wrong, by which errors are counted.
fn kind(error: &Error) -> String {
    if error.is_connect() {
        "connect".to_owned()
    } else if error.is_closed() {
        "closed".to_owned()
    } else if error.is_protocol() {
        "protocol".to_owned()
    } else if let Some(error) = error.server_error() {
        let code = error.code();
        let is_code =
            (1..=32).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase());
        format!("server: {}", if is_code { code } else { "no code" })
    } else {
        "other".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(mix: Mix, keys: u32) -> Workload {
        let keys = NonZeroU32::new(keys).unwrap();
        Workload::new(mix, keys, "p:".to_owned(), 3, NonZeroUsize::MIN, 1)
    }

    fn custom(text: &str) -> Mix {
        Mix::Custom(vec![text.parse().unwrap()])
    }

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(1)
    }

    #[test]
    fn keys_have_one_length() {
        let workload = workload(Mix::GetSet { gets: 1, sets: 0 }, 1);
        assert_eq!(&workload.key(0)[..], b"p:0000000000");
        assert_eq!(&workload.key(u32::MAX)[..], b"p:4294967295");
    }

    #[test]
    fn gets_and_sets_come_in_their_ratio() {
        let workload = workload(Mix::GetSet { gets: 3, sets: 1 }, 10);
        let mut rng = rng();
        let gets =
            (0..40_000).filter(|_| workload.command(&mut rng).name() == b"GET").count() as f64;
        // Five standard deviations.
        assert!((gets - 30_000.0).abs() < 5.0 * (40_000.0_f64 * 0.75 * 0.25).sqrt(), "{gets}");
        for (gets, sets, name) in [(1, 0, b"GET"), (0, 1, b"SET")] {
            let workload = super::tests::workload(Mix::GetSet { gets, sets }, 10);
            assert!((0..100).all(|_| workload.command(&mut rng).name() == name));
        }
    }

    #[test]
    fn a_template_names_its_places() {
        for text in ["PING", "HSET {key} f {value}", "MGET {key}:a {key}:b x{value}y{key}"] {
            assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
        }
        assert!(" ".parse::<Template>().is_err());
        let words = "SET a{key}b {value}".parse::<Template>().unwrap().words;
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(words[1], [text("a"), Piece::Key, text("b")]);
        assert_eq!(words[2], [Piece::Value]);
    }

    #[test]
    fn a_template_is_filled_in_with_one_key() {
        let workload = workload(custom("LPUSH {key} {key} v={value}"), 1);
        let Mix::Custom(templates) = &workload.mix else { unreachable!() };
        let command = workload.fill_in(&templates[0], &mut rng());
        assert_eq!((command.name(), command.args_len()), (&b"LPUSH"[..], 4));
        assert!(workload.writes_keys() && !workload.is_filled());
        assert!(!super::tests::workload(custom("PING"), 1).writes_keys());
    }

    #[test]
    fn reads_find_something_unless_there_are_none() {
        assert!(workload(Mix::GetSet { gets: 1, sets: 9 }, 1).is_filled());
        assert!(!workload(Mix::GetSet { gets: 0, sets: 1 }, 1).is_filled());
    }
}
