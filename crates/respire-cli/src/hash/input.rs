//! What is read: tokens, with or without the rest.

use std::fmt;

use respire_kvblock::{BlockExtra, BlockHash, RawExtraKey};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::HashError;

/// A prompt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) tokens: Vec<u32>,
    pub(super) parent: BlockHash,
    pub(super) extra: Vec<BlockExtra>,
}

impl Input {
    pub(super) fn read(text: &[u8]) -> Result<Self, HashError> {
        if text.trim_ascii().is_empty() {
            let problem = "nothing was given: expected a JSON array of token ids".to_owned();
            return Err(HashError::Input { line: 1, column: 0, problem });
        }
        serde_json::from_slice(text).map_err(|error| {
            // The library's text ends with the position, which stands at the front here.
            let mut problem = error.to_string();
            if let Some(end) = problem.rfind(" at line ") {
                problem.truncate(end);
            }
            HashError::Input { line: error.line(), column: error.column(), problem }
        })
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of token ids, or an object with `tokens`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Input, A::Error> {
        Ok(Input { tokens: tokens(items)?, ..Input::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Input, A::Error> {
        let (mut tokens, mut parent, mut extra) = (None, None, None);
        while let Some(name) = members.next_key::<String>()? {
            let is_second = match name.as_str() {
                "tokens" => tokens.replace(members.next_value::<Tokens>()?.0).is_some(),
                "parent" => parent.replace(members.next_value::<Option<Parent>>()?).is_some(),
                "extra" => extra.replace(members.next_value::<Option<Extra>>()?).is_some(),
                _ => return Err(A::Error::unknown_field(&name, &["tokens", "parent", "extra"])),
            };
            if is_second {
                return Err(A::Error::custom(format!("`{name}` stands there twice")));
            }
        }
        Ok(Input {
            tokens: tokens.ok_or_else(|| A::Error::missing_field("tokens"))?,
            parent: parent.flatten().map_or(BlockHash::EMPTY, |parent| parent.0),
            extra: extra.flatten().map(|extra| extra.0).unwrap_or_default(),
        })
    }
}

struct Tokens(Vec<u32>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(TokensVisitor)
    }
}

struct TokensVisitor;

impl<'de> Visitor<'de> for TokensVisitor {
    type Value = Tokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of token ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Tokens, A::Error> {
        tokens(items).map(Tokens)
    }
}

fn tokens<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Vec<u32>, A::Error> {
    let mut tokens = Vec::new();
    while let Some(token) = items.next_element_seed(Token { position: tokens.len() })? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// A token id, whose complaint says which one it is.
struct Token {
    position: usize,
}

impl<'de> DeserializeSeed<'de> for Token {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_u32(self)
    }
}

impl Visitor<'_> for Token {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {} as token {}", u32::MAX, self.position)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
        let unexpected = serde::de::Unexpected::Unsigned(number);
        u32::try_from(number).map_err(|_| E::invalid_value(unexpected, &self))
    }
}

/// A key, as a number or, for programs whose numbers are not exact, as its decimal text.
struct Parent(BlockHash);

impl<'de> Deserialize<'de> for Parent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParentVisitor)
    }
}

struct ParentVisitor;

impl Visitor<'_> for ParentVisitor {
    type Value = Parent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block key as `parent`: an unsigned number of 64 bits")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Parent, E> {
        Ok(Parent(BlockHash(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Parent, E> {
        let unexpected = serde::de::Unexpected::Str(text);
        text.parse().map(Parent).map_err(|_| E::invalid_value(unexpected, &self))
    }
}

/// What engines announce as `extra_keys`: for each block null or a list.
struct Extra(Vec<BlockExtra>);

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let blocks = Vec::<Option<Vec<RawKey>>>::deserialize(deserializer)?;
        let extra = |block: Option<Vec<RawKey>>| {
            BlockExtra::from_raw(block.iter().flatten().map(RawKey::as_raw), None)
        };
        Ok(Self(blocks.into_iter().map(extra).collect()))
    }
}

enum RawKey {
    Text(String),
    Array(Option<String>),
    Other,
}

impl RawKey {
    fn as_raw(&self) -> RawExtraKey<'_> {
        match self {
            Self::Text(text) => RawExtraKey::Text(text),
            Self::Array(first) => RawExtraKey::Array(first.as_deref()),
            Self::Other => RawExtraKey::Other,
        }
    }
}

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawKeyVisitor)
    }
}

struct RawKeyVisitor;

impl<'de> Visitor<'de> for RawKeyVisitor {
    type Value = RawKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, an array or a number in `extra`")
    }

    fn visit_str<E>(self, text: &str) -> Result<RawKey, E> {
        Ok(RawKey::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawKey, A::Error> {
        let first = items.next_element::<serde_json::Value>()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawKey::Array(match first {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        }))
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawKey, E> {
        Ok(RawKey::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawKey, E> {
        Ok(RawKey::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawKey, E> {
        Ok(RawKey::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawKey, E> {
        Ok(RawKey::Other)
    }

    fn visit_unit<E>(self) -> Result<RawKey, E> {
        Ok(RawKey::Other)
    }
}
