//! Turns any bytes into a stream that is nearly always RESP, so that random
//! input gets past the first byte.

/// A stream of frames that the entropy in `data` decides on.
pub(crate) fn stream(data: &[u8]) -> Vec<u8> {
    let mut generator = Generator { entropy: data.iter().copied(), out: Vec::new() };
    while generator.entropy.len() > 0 {
        generator.reply(5, true);
    }
    generator.out
}

/// As [`stream`], with a few bytes of it changed, inserted or removed.
pub(crate) fn broken_stream(data: &[u8]) -> Vec<u8> {
    let (data, changes) = data.split_at(data.len() - data.len() / 8);
    let mut out = stream(data);
    for change in changes.chunks_exact(3) {
        if out.is_empty() {
            break;
        }
        let at = usize::from(change[0]) * out.len() / 256;
        match change[1] % 4 {
            0 => out[at] = change[2],
            1 => out[at] = b"+-:$*_#,(!=~%|>;.?0123456789\r\n"[usize::from(change[2]) % 30],
            2 => out.insert(at, change[2]),
            _ => drop(out.remove(at)),
        }
    }
    out
}

struct Generator<I> {
    entropy: I,
    out: Vec<u8>,
}

impl<I: ExactSizeIterator<Item = u8>> Generator<I> {
    /// A number below `bound`; 0 when the entropy is used up.
    fn below(&mut self, bound: u8) -> u8 {
        self.entropy.next().unwrap_or(0) % bound
    }

    fn put(&mut self, text: impl AsRef<[u8]>) {
        self.out.extend_from_slice(text.as_ref());
    }

    fn reply(&mut self, depth: u8, top: bool) {
        // Pushes and attributes come in front of some values.
        match self.below(12) {
            0 => self.aggregate(b'>', 1, depth),
            1 | 2 => self.aggregate(b'|', 2, depth),
            _ => {}
        }
        if top && self.below(6) == 0 {
            return self.aggregate(b'>', 1, depth);
        }
        self.value(depth);
    }

    fn value(&mut self, depth: u8) {
        let choices = if depth == 0 { 14 } else { 22 };
        match self.below(choices) {
            0 => self.put(b"+OK\r\n"),
            1 => self.line(b'+'),
            2 => self.line(b'-'),
            3 | 4 => self.integer(),
            5 | 6 => self.blob(b'$', 0),
            7 => self.put(["_\r\n", "$-1\r\n", "*-1\r\n"][self.out.len() % 3]),
            8 => self.put(["#t\r\n", "#f\r\n"][self.out.len() % 2]),
            9 => self.double(),
            10 => self.line(b'('),
            11 => self.blob(b'!', 0),
            12 => self.blob(b'=', 4),
            13 => self.streamed_string(),
            14 | 15 => self.aggregate(b'*', 1, depth - 1),
            16 => self.aggregate(b'~', 1, depth - 1),
            17 => self.aggregate(b'%', 2, depth - 1),
            18 => self.streamed(b'*', 1, depth - 1),
            19 => self.streamed(b'~', 1, depth - 1),
            20 => self.streamed(b'%', 2, depth - 1),
            _ => self.put(b"*0\r\n"),
        }
    }

    fn line(&mut self, tag: u8) {
        self.out.push(tag);
        for _ in 0..self.below(40) {
            let byte = self.below(255);
            self.out.push(if b"\r\n".contains(&byte) { b' ' } else { byte });
        }
        self.put(b"\r\n");
    }

    fn integer(&mut self) {
        let mut number = i64::from(self.below(255)) - 100;
        for _ in 0..self.below(8) {
            number = number.wrapping_mul(251).wrapping_add(i64::from(self.below(255)));
        }
        self.put(format!(":{number}\r\n"));
    }

    fn double(&mut self) {
        let text = ["inf", "-inf", "nan", "0.1", "-1.5e-7", "1e400", ".5", "", "+3"];
        let text = text[usize::from(self.below(9))];
        self.put(format!(",{text}\r\n"));
    }

    fn blob(&mut self, tag: u8, shortest: usize) {
        let length = shortest + usize::from(self.below(60));
        self.out.push(tag);
        self.put(format!("{length}\r\n"));
        if shortest > 0 {
            self.put(b"txt:");
        }
        self.payload(length - shortest);
    }

    fn payload(&mut self, length: usize) {
        for _ in 0..length {
            let byte = self.below(255);
            self.out.push(byte);
        }
        self.put(b"\r\n");
    }

    fn streamed_string(&mut self) {
        self.put(b"$?\r\n");
        for _ in 0..self.below(4) {
            let length = 1 + usize::from(self.below(20));
            self.put(format!(";{length}\r\n"));
            self.payload(length);
        }
        self.put(b";0\r\n");
    }

    fn aggregate(&mut self, tag: u8, per_entry: usize, depth: u8) {
        let count = usize::from(self.below(5));
        self.out.push(tag);
        self.put(format!("{count}\r\n"));
        for _ in 0..count * per_entry {
            self.element(depth);
        }
    }

    fn streamed(&mut self, tag: u8, per_entry: usize, depth: u8) {
        self.out.push(tag);
        self.put(b"?\r\n");
        for _ in 0..usize::from(self.below(5)) * per_entry {
            self.element(depth);
        }
        self.put(b".\r\n");
    }

    fn element(&mut self, depth: u8) {
        if depth == 0 { self.value(0) } else { self.reply(depth - 1, false) }
    }
}
