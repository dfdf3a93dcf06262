//! Messages as engines write them, for tests.

/// A value to be written: what a peer may send, in whatever shape.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Nil,
    Bool(bool),
    Int(i128),
    /// A number in the longest form there is, as some writers have it.
    WideInt(i128),
    Float(f64),
    Text(String),
    Bin(Vec<u8>),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
    Ext(Vec<u8>),
    /// Bytes that are a value as they are.
    Raw(Vec<u8>),
}

use Tree::{Float, Int, List};

pub(super) fn t(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

pub(super) fn ints<N: Into<i128> + Copy>(numbers: &[N]) -> Tree {
    List(numbers.iter().map(|&number| Int(number.into())).collect())
}

impl Tree {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        use rmp::encode;
        match self {
            Self::Nil => encode::write_nil(out).unwrap(),
            Self::Bool(value) => encode::write_bool(out, *value).unwrap(),
            Int(number) => match u64::try_from(*number) {
                Ok(number) => drop(encode::write_uint(out, number).unwrap()),
                Err(_) => drop(encode::write_sint(out, *number as i64).unwrap()),
            },
            Self::WideInt(number) => match u64::try_from(*number) {
                Ok(number) => encode::write_u64(out, number).unwrap(),
                Err(_) => encode::write_i64(out, *number as i64).unwrap(),
            },
            Float(number) => encode::write_f64(out, *number).unwrap(),
            Self::Text(text) => encode::write_str(out, text).unwrap(),
            Self::Bin(bytes) => encode::write_bin(out, bytes).unwrap(),
            List(elements) => {
                encode::write_array_len(out, elements.len() as u32).unwrap();
                elements.iter().for_each(|element| element.write(out));
            }
            Self::Map(entries) => {
                encode::write_map_len(out, entries.len() as u32).unwrap();
                for (key, value) in entries {
                    key.write(out);
                    value.write(out);
                }
            }
            Self::Ext(bytes) => {
                encode::write_ext_meta(out, bytes.len() as u32, 7).unwrap();
                out.extend_from_slice(bytes);
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// A message of these events, with a data-parallel rank behind them.
pub(super) fn message(events: Vec<Tree>) -> Vec<u8> {
    List(vec![Float(1_700_000_000.25), List(events), Int(0)]).bytes()
}
