//! The scalars whose text is kept as it was sent.

use alloc::string::ToString;
use core::fmt;

use bytes::Bytes;

use crate::error::{Found, ValueError};
use crate::number::{self, is_big_number, parse_double};
use crate::value::Kind;

/// A double as its text, over borrowed bytes or over [`Bytes`].
///
/// The text is what the peer sent. It is checked when it is read as a number,
/// so that an odd spelling costs one value and not the connection.
///
/// # Example
///
/// ```
/// use respire_codec::Double;
///
/// assert_eq!(Double::new("1.5e3").to_f64(), Ok(1500.0));
/// assert!(Double::new("one").to_f64().is_err());
/// assert_eq!(Double::from(f64::INFINITY).as_bytes(), b"inf");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Double<T = Bytes>(T);

impl<T: AsRef<[u8]>> Double<T> {
    /// A double with this text, which is not checked.
    pub fn new(text: T) -> Self {
        Self(text)
    }

    /// The text as it was sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// The number: decimal with optional fraction and exponent, `inf`, `-inf`,
    /// `nan` or `-nan`. What is too large for the type becomes infinite.
    ///
    /// # Errors
    ///
    /// When the text has another form.
    pub fn to_f64(&self) -> Result<f64, ValueError> {
        parse_double(self.as_bytes())
            .ok_or(ValueError::new("a double", Found::Malformed(Kind::Double)))
    }
}

impl<'a> Double<&'a [u8]> {
    pub(crate) fn map(self, share: impl FnOnce(&'a [u8]) -> Bytes) -> Double {
        Double(share(self.0))
    }

    pub(crate) fn into_text(self) -> &'a [u8] {
        self.0
    }
}

impl From<f64> for Double {
    /// The shortest text that reads back as the same number.
    fn from(number: f64) -> Self {
        let text = if number.is_nan() {
            "nan".to_string()
        } else if number.is_infinite() {
            if number > 0.0 { "inf".to_string() } else { "-inf".to_string() }
        } else if number == 0.0 || (1e-5..1e17).contains(&number.abs()) {
            number.to_string()
        } else {
            alloc::format!("{number:e}")
        };
        Self(Bytes::from(text))
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for Double<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// An integer of any size as its text, over borrowed bytes or over [`Bytes`].
///
/// The text is what the peer sent. A script can make servers send anything
/// here, so it is checked when it is used and not when it is received.
///
/// # Example
///
/// ```
/// use respire_codec::BigNumber;
///
/// let number = BigNumber::new("-170141183460469231731687303715884105728");
/// assert!(number.is_valid());
/// assert_eq!(number.to_i128(), Ok(i128::MIN));
/// assert!(!BigNumber::new("hello").is_valid());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BigNumber<T = Bytes>(T);

impl<T: AsRef<[u8]>> BigNumber<T> {
    /// A big number with this text, which is not checked.
    pub fn new(text: T) -> Self {
        Self(text)
    }

    /// The text as it was sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// Whether the text is an optional sign and digits.
    pub fn is_valid(&self) -> bool {
        is_big_number(self.as_bytes())
    }

    /// The number, if it fits in 128 bits.
    ///
    /// # Errors
    ///
    /// When the text is no integer, or one that is out of range.
    pub fn to_i128(&self) -> Result<i128, ValueError> {
        let found =
            if self.is_valid() { Found::OutOfRange } else { Found::Malformed(Kind::BigNumber) };
        number::parse_integer(self.as_bytes()).ok_or(ValueError::new("an integer", found))
    }
}

impl<'a> BigNumber<&'a [u8]> {
    pub(crate) fn map(self, share: impl FnOnce(&'a [u8]) -> Bytes) -> BigNumber {
        BigNumber(share(self.0))
    }

    pub(crate) fn into_text(self) -> &'a [u8] {
        self.0
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for BigNumber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}", self.as_bytes().escape_ascii())
    }
}

/// Text with three bytes of format, over borrowed bytes or over [`Bytes`].
///
/// # Example
///
/// ```
/// use respire_codec::Verbatim;
///
/// let text = Verbatim::new("txt:Some string").ok_or("three bytes and a colon")?;
/// assert_eq!(text.format(), b"txt");
/// assert_eq!(text.text(), b"Some string");
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verbatim<T = Bytes>(T);

impl<T: AsRef<[u8]>> Verbatim<T> {
    /// From format, colon and text in one piece; `None` if it does not start so.
    pub fn new(payload: T) -> Option<Self> {
        (payload.as_ref().get(3) == Some(&b':')).then_some(Self(payload))
    }

    pub(crate) fn from_payload(payload: T) -> Self {
        Self(payload)
    }

    /// The format: `txt`, `mkd`, or whatever else the peer sends, padded with
    /// spaces to three bytes.
    pub fn format(&self) -> &[u8] {
        self.0.as_ref().get(..3).unwrap_or_default()
    }

    /// The text.
    pub fn text(&self) -> &[u8] {
        self.0.as_ref().get(4..).unwrap_or_default()
    }

    /// Format, colon and text, as they are on the wire.
    pub fn payload(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<'a> Verbatim<&'a [u8]> {
    pub(crate) fn map(self, share: impl FnOnce(&'a [u8]) -> Bytes) -> Verbatim {
        Verbatim(share(self.0))
    }

    pub(crate) fn into_text(self) -> &'a [u8] {
        self.0.get(4..).unwrap_or_default()
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for Verbatim<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\"{}\"", self.format().escape_ascii(), self.text().escape_ascii())
    }
}
