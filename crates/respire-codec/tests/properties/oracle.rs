//! A decoder as one would write it from the grammar alone: the whole input at
//! once, recursive, one copy of everything. It prints what it reads.

use std::fmt::Write as _;

use respire_codec::{DecoderConfig, Mode, Protocol, Reason};

use super::{End, Outcome};

/// What the grammar says about an input.
pub(crate) fn outcome(mut config: DecoderConfig, input: &[u8]) -> Outcome {
    config.limits.header_digits = config.limits.header_digits.max(20);
    let mut frames = Vec::new();
    let mut start = 0;
    loop {
        if start == input.len() {
            return Outcome { frames, end: End::Clean };
        }
        let rest = &input[start..];
        let window = &rest[..rest.len().min(config.limits.frame_bytes)];
        let mut reader = Reader { config, input: window, at: 0, nodes: 0, hoisted: Vec::new() };
        let mut text = String::new();
        match reader.reply(&mut text, 0, true) {
            Ok(_) => {
                start += reader.at;
                frames.append(&mut reader.hoisted);
                frames.push(text);
            }
            // The longest frame that is allowed was not enough.
            Err(Halt::Wait) if rest.len() >= config.limits.frame_bytes => {
                let offset = (start + reader.at) as u64;
                return Outcome { frames, end: End::Error(Reason::FrameTooLong, offset) };
            }
            Err(Halt::Wait) => return Outcome { frames, end: End::Wait },
            Err(Halt::Fault(reason, at)) => {
                return Outcome { frames, end: End::Error(reason, (start + at) as u64) };
            }
        }
    }
}

enum Halt {
    Wait,
    Fault(Reason, usize),
}

struct Reader<'a> {
    config: DecoderConfig,
    input: &'a [u8],
    /// Start of the value, header, chunk or end marker that is being read.
    at: usize,
    nodes: usize,
    hoisted: Vec<String>,
}

/// How many children follow.
enum Count {
    Known(u64),
    Streamed,
}

impl Reader<'_> {
    /// A value with the attributes and misplaced pushes in front of it. Returns
    /// where the value itself starts.
    fn reply(&mut self, out: &mut String, depth: usize, top: bool) -> Result<usize, Halt> {
        if !top {
            self.pushes(depth)?;
        }
        let mut attributes = Vec::new();
        let mut described = false;
        while self.byte(self.at)? == b'|' && self.config.protocol == Protocol::Resp3 {
            described = true;
            self.attribute(&mut attributes, depth)?;
        }
        match self.byte(self.at)? {
            b'>' if described => return Err(Halt::Fault(Reason::AttributedPush, self.at)),
            b'.' if described => return Err(Halt::Fault(Reason::MisplacedEnd, self.at)),
            _ => {}
        }
        if !attributes.is_empty() {
            write!(out, "|{{{}}} ", attributes.join(", ")).unwrap();
        }
        let start = self.at;
        self.value(out, depth)?;
        Ok(start)
    }

    /// Pushes where none may be.
    fn pushes(&mut self, depth: usize) -> Result<(), Halt> {
        while self.byte(self.at)? == b'>' && self.config.protocol == Protocol::Resp3 {
            if self.config.mode == Mode::Strict {
                return Err(Halt::Fault(Reason::NestedPush, self.at));
            }
            let mut push = String::new();
            self.aggregate(&mut push, depth)?;
            self.hoisted.push(push);
        }
        Ok(())
    }

    fn attribute(&mut self, pairs: &mut Vec<String>, depth: usize) -> Result<(), Halt> {
        let (Count::Known(count), end) = self.header(2)? else { return Err(Halt::Wait) };
        self.open(depth, end)?;
        for _ in 0..count {
            pairs.push(self.pair(depth + 1)?);
        }
        Ok(())
    }

    fn pair(&mut self, depth: usize) -> Result<String, Halt> {
        let mut text = String::new();
        self.reply(&mut text, depth, false)?;
        text.push_str(": ");
        self.reply(&mut text, depth, false)?;
        Ok(text)
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Result<(), Halt> {
        let tag = self.byte(self.at)?;
        let resp2 = self.config.protocol == Protocol::Resp2;
        if resp2 && b"_#,(!=~%|>;.".contains(&tag) {
            return Err(Halt::Fault(Reason::NotInProtocol, self.at));
        }
        match tag {
            b'+' => write!(out, "+\"{}\"", self.line()?.escape_ascii()).unwrap(),
            b'-' => write!(out, "-\"{}\"", self.line()?.escape_ascii()).unwrap(),
            b',' => write!(out, "{}", self.line()?.escape_ascii()).unwrap(),
            b'(' => write!(out, "({}", self.line()?.escape_ascii()).unwrap(),
            b':' => write!(out, "{}", self.integer()?).unwrap(),
            b'_' => {
                let end = self.expect(self.at + 1, b"\r\n", Reason::MissingCrlf)?;
                self.scalar(end)?;
                out.push_str("null");
            }
            b'#' => out.push_str(self.boolean()?),
            b'$' | b'*' if self.peek(self.at + 1) == Some(b'-') => {
                let end = self.expect(self.at + 2, b"1\r\n", Reason::MalformedLength)?;
                self.scalar(end)?;
                out.push_str("null");
            }
            b'$' if self.peek(self.at + 1) == Some(b'?') => self.streamed_string(out)?,
            b'$' => write!(out, "\"{}\"", self.blob()?.escape_ascii()).unwrap(),
            b'!' => write!(out, "!\"{}\"", self.blob()?.escape_ascii()).unwrap(),
            b'=' => {
                let payload = self.blob()?;
                let (format, text) = (payload[..3].escape_ascii(), payload[4..].escape_ascii());
                write!(out, "{format}:\"{text}\"").unwrap();
            }
            b'*' | b'~' | b'%' | b'>' => self.aggregate(out, depth)?,
            b'.' => return Err(Halt::Fault(Reason::MisplacedEnd, self.at)),
            b';' => return Err(Halt::Fault(Reason::MisplacedChunk, self.at)),
            _ => return Err(Halt::Fault(Reason::UnknownType, self.at)),
        }
        Ok(())
    }

    fn aggregate(&mut self, out: &mut String, depth: usize) -> Result<(), Halt> {
        let tag = self.byte(self.at)?;
        let map = tag == b'%';
        let per_entry = if map { 2 } else { 1 };
        let (count, end) = self.header(per_entry)?;
        self.open(depth, end)?;
        out.push_str(match tag {
            b'%' => "{",
            b'~' => "~[",
            b'>' => ">[",
            _ => "[",
        });
        let mut children = 0u64;
        while match count {
            Count::Known(entries) => children < entries * per_entry,
            Count::Streamed => !self.stream_ends(children, map, depth)?,
        } {
            out.push_str(match children {
                0 => "",
                odd if map && odd % 2 == 1 => ": ",
                _ => ", ",
            });
            let start = self.reply(out, depth + 1, false)?;
            children += 1;
            if children > u64::from(self.config.limits.elements) {
                return Err(Halt::Fault(Reason::TooManyElements, start));
            }
        }
        out.push(if map { '}' } else { ']' });
        Ok(())
    }

    /// Whether the end of a streamed aggregate comes next; then it is read.
    fn stream_ends(&mut self, children: u64, map: bool, depth: usize) -> Result<bool, Halt> {
        self.pushes(depth + 1)?;
        if self.byte(self.at)? != b'.' {
            return Ok(false);
        }
        if map && children % 2 == 1 {
            return Err(Halt::Fault(Reason::MisplacedEnd, self.at));
        }
        self.at = self.expect(self.at + 1, b"\r\n", Reason::MisplacedEnd)?;
        Ok(true)
    }

    /// The header of an aggregate whose children come `per_entry` at a time.
    fn header(&mut self, per_entry: u64) -> Result<(Count, usize), Halt> {
        if self.peek(self.at + 1) == Some(b'?') && b"*~%".contains(&self.byte(self.at)?) {
            let end = self.streamed_header()?;
            return Ok((Count::Streamed, end));
        }
        let (count, end) = self.length()?;
        if count.saturating_mul(u128::from(per_entry)) > u128::from(self.config.limits.elements) {
            return Err(Halt::Fault(Reason::TooManyElements, self.at));
        }
        Ok((Count::Known(count as u64), end))
    }

    fn streamed_header(&mut self) -> Result<usize, Halt> {
        if self.config.protocol == Protocol::Resp2 {
            return Err(Halt::Fault(Reason::NotInProtocol, self.at));
        }
        self.expect(self.at + 2, b"\r\n", Reason::MalformedLength)
    }

    /// The digits behind the type byte, and where the line ends.
    fn length(&self) -> Result<(u128, usize), Halt> {
        let mut value = 0u128;
        let mut at = self.at + 1;
        while self.byte(at)?.is_ascii_digit() {
            if at - self.at > usize::from(self.config.limits.header_digits) {
                return Err(Halt::Fault(Reason::HeaderTooLong, self.at));
            }
            value = value.saturating_mul(10).saturating_add(u128::from(self.byte(at)? - b'0'));
            at += 1;
        }
        if at == self.at + 1 {
            return Err(Halt::Fault(Reason::MalformedLength, at));
        }
        Ok((value, self.expect(at, b"\r\n", Reason::MalformedLength)?))
    }

    /// Accounts for an aggregate whose header ends at `end`, and enters it.
    fn open(&mut self, depth: usize, end: usize) -> Result<(), Halt> {
        self.count_nodes(2)?;
        if depth >= self.config.limits.depth {
            return Err(Halt::Fault(Reason::TooDeep, self.at));
        }
        self.at = end;
        Ok(())
    }

    /// Accounts for a scalar that ends at `end`, and passes over it.
    fn scalar(&mut self, end: usize) -> Result<(), Halt> {
        self.count_nodes(1)?;
        self.at = end;
        Ok(())
    }

    fn count_nodes(&mut self, nodes: usize) -> Result<(), Halt> {
        self.nodes += nodes;
        if self.nodes > self.config.limits.tape_nodes {
            return Err(Halt::Fault(Reason::TooManyNodes, self.at));
        }
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, Halt> {
        let start = self.at + 1;
        let mut end = start;
        while !b"\r\n".contains(&self.byte(end)?) {
            if end - start == self.config.limits.line_bytes {
                return Err(Halt::Fault(Reason::LineTooLong, self.at));
            }
            end += 1;
        }
        let text = self.input[start..end].to_vec();
        let end = self.expect(end, b"\r\n", Reason::StrayLineBreak)?;
        self.scalar(end)?;
        Ok(text)
    }

    fn integer(&mut self) -> Result<i64, Halt> {
        let start = self.at + 1;
        let sign = usize::from(b"+-".contains(&self.byte(start)?));
        let mut end = start + sign;
        while self.byte(end)?.is_ascii_digit() {
            if end - start - sign == usize::from(self.config.limits.header_digits) {
                return Err(Halt::Fault(Reason::HeaderTooLong, self.at));
            }
            end += 1;
        }
        if end == start + sign {
            return Err(Halt::Fault(Reason::MalformedInteger, end));
        }
        let text = String::from_utf8(self.input[start..end].to_vec()).unwrap();
        let end = self.expect(end, b"\r\n", Reason::MalformedInteger)?;
        let Ok(number) = text.parse() else {
            return Err(Halt::Fault(Reason::IntegerOutOfRange, self.at));
        };
        self.scalar(end)?;
        Ok(number)
    }

    fn boolean(&mut self) -> Result<&'static str, Halt> {
        let text = match self.byte(self.at + 1)? {
            b't' => "true",
            b'f' => "false",
            _ => return Err(Halt::Fault(Reason::MalformedBoolean, self.at + 1)),
        };
        let end = self.expect(self.at + 2, b"\r\n", Reason::MissingCrlf)?;
        self.scalar(end)?;
        Ok(text)
    }

    fn blob(&mut self) -> Result<Vec<u8>, Halt> {
        let (length, start) = self.length()?;
        let verbatim = self.byte(self.at)? == b'=';
        let end = self.payload_end(length, start)?;
        if verbatim && length < 4 {
            return Err(Halt::Fault(Reason::MalformedVerbatim, self.at));
        }
        if verbatim && self.byte(start + 3)? != b':' {
            return Err(Halt::Fault(Reason::MalformedVerbatim, start + 3));
        }
        let after = self.expect(end, b"\r\n", Reason::MissingCrlf)?;
        self.scalar(after)?;
        Ok(self.input[start..end].to_vec())
    }

    fn payload_end(&self, length: u128, start: usize) -> Result<usize, Halt> {
        if length > self.config.limits.bulk_bytes as u128 {
            return Err(Halt::Fault(Reason::BulkTooLong, self.at));
        }
        let end = start + length as usize;
        if end + 2 > self.config.limits.frame_bytes {
            return Err(Halt::Fault(Reason::FrameTooLong, self.at));
        }
        Ok(end)
    }

    fn streamed_string(&mut self, out: &mut String) -> Result<(), Halt> {
        let end = self.streamed_header()?;
        self.count_nodes(2)?;
        self.at = end;
        let mut text = Vec::new();
        let mut chunks = 0;
        loop {
            if self.byte(self.at)? != b';' {
                return Err(Halt::Fault(Reason::MisplacedChunk, self.at));
            }
            let (length, start) = self.length()?;
            if length == 0 {
                if self.input[self.at..start] != *b";0\r\n" {
                    return Err(Halt::Fault(Reason::MisplacedChunk, self.at));
                }
                self.at = start;
                write!(out, "\"{}\"", text.escape_ascii()).unwrap();
                return Ok(());
            }
            if length.saturating_add(text.len() as u128) > self.config.limits.bulk_bytes as u128 {
                return Err(Halt::Fault(Reason::BulkTooLong, self.at));
            }
            let end = self.payload_end(length, start)?;
            let after = self.expect(end, b"\r\n", Reason::MissingCrlf)?;
            text.extend_from_slice(&self.input[start..end]);
            chunks += 1;
            let chunk = self.at;
            self.scalar(after)?;
            if chunks > self.config.limits.elements {
                return Err(Halt::Fault(Reason::TooManyElements, chunk));
            }
        }
    }

    fn expect(&self, at: usize, text: &[u8], reason: Reason) -> Result<usize, Halt> {
        for (ahead, byte) in text.iter().enumerate() {
            if self.byte(at + ahead)? != *byte {
                return Err(Halt::Fault(reason, at + ahead));
            }
        }
        Ok(at + text.len())
    }

    fn peek(&self, at: usize) -> Option<u8> {
        self.input.get(at).copied()
    }

    fn byte(&self, at: usize) -> Result<u8, Halt> {
        self.peek(at).ok_or(Halt::Wait)
    }
}
