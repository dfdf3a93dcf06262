//! What the registry says, as it was read.

use std::{collections::HashMap, fmt, sync::Arc};

use hashbrown::HashMap as FastMap;

use super::{
    columns::{COLUMNS_MAX, Columns},
    keys::Epoch,
    scripts::Scripts,
};
use crate::{PodEntry, PodSet};

/// 16 hexadecimal digits that were made at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token([u8; 16]);

impl Token {
    pub(super) fn random() -> Self {
        let mut digits = [0; 16];
        let random: u64 = rand::random();
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(random >> (4 * at)) as usize & 0xf];
        }
        Self(digits)
    }

    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let digits: [u8; 16] = text.try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(Self(digits))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&digit| write!(f, "{}", char::from(digit)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An incarnation of a pod.
#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) pod: Arc<str>,
    /// Which life of the pod it is, counted from 1.
    pub(super) number: u64,
    confirmed_in: Token,
    lapsed: bool,
    /// Whether it has a lease.
    pub(super) leased: bool,
    /// Its writers, one behind the other.
    writers: Vec<u8>,
    /// The numbers of their last writes.
    last_writes: Vec<(Token, u64)>,
    /// How often writers were taken off it.
    taken_off: u64,
}

/// One state of the registry.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) epoch: Epoch,
    pub(super) generation: Token,
    pub(super) nonce: Token,
    pub(super) version: u64,
    /// One more than the highest column that was ever used.
    pub(super) next: usize,
    incarnations: FastMap<Token, Incarnation>,
    current: FastMap<Box<str>, Token>,
    /// For each pod the number of the last life that is over, and since when in milliseconds of the server's clock.
    ended: FastMap<Box<str>, (u64, u64)>,
    /// No pod that is not listed any more has had a life above this.
    pub(super) forgotten: u64,
    columns: FastMap<Token, Vec<(Arc<PodEntry>, u16)>>,
    /// The columns that are retired, and since when as the server wrote it.
    pub(super) retired: Vec<(u16, Vec<u8>)>,
    /// The columns that count.
    visible: Columns,
    /// For each column that counts its entry's place in `table`.
    places: Vec<u32>,
    /// The entries that count.
    pub(super) table: Arc<Vec<Arc<PodEntry>>>,
    /// For each entry of `table` its pod's place in `pods`.
    pub(super) pod_of: Vec<u32>,
    /// The pods that count.
    pub(super) pods: Vec<Arc<str>>,
    /// The scripts of the generation.
    pub(super) scripts: Arc<Scripts>,
}

/// The fields that tell of one incarnation, as they come in.
#[derive(Default)]
struct Fields {
    record: Option<Vec<u8>>,
    number: Option<u64>,
    lapsed: bool,
    leased: bool,
    writers: Vec<u8>,
    last_writes: Vec<(Token, u64)>,
    taken_off: u64,
}

impl Registry {
    /// Reads the fields and values of the registry. `None` where something is not as we write it. `before` is an earlier state,
    /// whose scripts are kept if they are still right.
    pub(super) fn read(fields: &[Vec<u8>], before: Option<&Self>) -> Option<Self> {
        let mut fixed: HashMap<&[u8], &[u8]> = HashMap::new();
        let mut incarnations: FastMap<Token, Fields> = FastMap::new();
        let mut columns: Vec<(u16, &[u8])> = Vec::new();
        let (mut current, mut ended) = (FastMap::new(), FastMap::new());
        let mut retired = Vec::new();
        let (pairs, []) = fields.as_chunks::<2>() else { return None };
        for [field, value] in pairs {
            let (kind, name) = field.split_first()?;
            match (kind, &**field) {
                (_, b"epoch" | b"gen" | b"nonce" | b"version" | b"next" | b"forgotten") => {
                    fixed.insert(field, value);
                }
                (_, b"server" | b"free") => {}
                (b'p', _) => {
                    current.insert(text(name)?.into(), Token::read(value)?);
                }
                (b'd', _) => {
                    let (last, since) = text(value)?.split_once(' ')?;
                    ended.insert(text(name)?.into(), (last.parse().ok()?, since.parse().ok()?));
                }
                (b'n', _) => {
                    incarnations.entry(Token::read(name)?).or_default().number =
                        Some(number(value)?);
                }
                (b'c', _) => columns.push((number(name)?, value)),
                (b'r', _) => retired.push((number(name)?, value.clone())),
                (b'i', _) => {
                    incarnations.entry(Token::read(name)?).or_default().record =
                        Some(value.clone());
                }
                (b'x', _) => incarnations.entry(Token::read(name)?).or_default().lapsed = true,
                (b'l', _) => incarnations.entry(Token::read(name)?).or_default().leased = true,
                (b'j', _) => {
                    incarnations.entry(Token::read(name)?).or_default().writers = value.clone();
                }
                (b's', _) => {
                    let (id, writer) = name.split_at_checked(16)?;
                    let last = (Token::read(writer)?, number(value)?);
                    incarnations.entry(Token::read(id)?).or_default().last_writes.push(last);
                }
                (b't', _) => {
                    incarnations.entry(Token::read(name)?).or_default().taken_off = number(value)?;
                }
                // A later version may have more to say.
                _ => {}
            }
        }
        let fixed = |name: &str| fixed.get(name.as_bytes()).copied();
        let generation = Token::read(fixed("gen")?)?;
        let scripts = match before {
            Some(before) if before.generation == generation => Arc::clone(&before.scripts),
            _ => Arc::new(Scripts::of(generation)),
        };
        retired.sort_unstable();
        let mut registry = Self {
            epoch: fixed("epoch")?.try_into().ok()?,
            generation,
            nonce: Token::read(fixed("nonce")?)?,
            version: number(fixed("version")?)?,
            next: number::<u32>(fixed("next")?)?.min(COLUMNS_MAX) as usize,
            incarnations: FastMap::new(),
            current,
            ended,
            forgotten: fixed("forgotten").map_or(Some(0), number)?,
            columns: FastMap::new(),
            retired,
            visible: Columns::default(),
            places: Vec::new(),
            table: Arc::default(),
            pod_of: Vec::new(),
            pods: Vec::new(),
            scripts,
        };
        for (id, fields) in incarnations {
            registry.insert_incarnation(id, fields)?;
        }
        columns.sort_unstable();
        registry.insert_columns(&columns)?;
        Some(registry)
    }

    fn insert_incarnation(&mut self, id: Token, fields: Fields) -> Option<()> {
        let record = fields.record?;
        let (confirmed_in, pod) = record.split_at_checked(16)?;
        let incarnation = Incarnation {
            pod: text(pod.strip_prefix(b" ")?)?.into(),
            number: fields.number?,
            confirmed_in: Token::read(confirmed_in)?,
            lapsed: fields.lapsed,
            leased: fields.leased,
            writers: fields.writers,
            last_writes: fields.last_writes,
            taken_off: fields.taken_off,
        };
        self.incarnations.insert(id, incarnation);
        Some(())
    }

    fn insert_columns(&mut self, columns: &[(u16, &[u8])]) -> Option<()> {
        let room = columns.last().map_or(0, |(column, _)| usize::from(*column) + 1);
        self.visible = Columns::with_room(room);
        self.places = vec![0; room];
        let (mut table, mut numbers) = (Vec::new(), FastMap::new());
        for &(column, value) in columns {
            let (id, entry) = value.split_at_checked(16)?;
            let id = Token::read(id)?;
            let entry = Arc::new(PodEntry::from_field(entry.strip_prefix(b" ")?)?);
            self.columns.entry(id).or_default().push((Arc::clone(&entry), column));
            let incarnation = self.incarnations.get(&id)?;
            if !incarnation.counts(self.generation) {
                continue;
            }
            self.visible.insert(usize::from(column));
            // There are no more than 65,536.
            self.places[usize::from(column)] = table.len() as u32;
            table.push(entry);
            let pods = &mut self.pods;
            self.pod_of.push(*numbers.entry(Arc::clone(&incarnation.pod)).or_insert_with(|| {
                pods.push(Arc::clone(&incarnation.pod));
                pods.len() as u32 - 1
            }));
        }
        self.table = Arc::new(table);
        Some(())
    }

    /// The incarnation that a pod is in.
    pub(super) fn current(&self, pod: &str) -> Option<Token> {
        self.current.get(pod).copied()
    }

    /// Which life of its pod an incarnation is.
    pub(super) fn number(&self, id: Token) -> Option<u64> {
        self.incarnations.get(&id).map(|found| found.number)
    }

    /// The number of the last life of a pod that is over, or one that is not below it where the pod is not listed; 0 before the first.
    pub(super) fn ended(&self, pod: &str) -> u64 {
        match (self.ended.get(pod), self.current(pod)) {
            (Some(&(last, _)), _) => last,
            (None, Some(id)) => self.number(id).map_or(0, |life| life.saturating_sub(1)),
            (None, None) => self.forgotten,
        }
    }

    /// Whether lives of the pod are counted.
    pub(super) fn lists(&self, pod: &str) -> bool {
        self.ended.contains_key(pod) || self.current.contains_key(pod)
    }

    /// The pods that have been gone since then or longer, in milliseconds of the server's clock.
    pub(super) fn gone_since(&self, then: u64) -> impl Iterator<Item = &str> {
        let gone = self
            .ended
            .iter()
            .filter(move |(pod, (_, since))| *since <= then && !self.current.contains_key(&**pod));
        gone.map(|(pod, _)| &**pod)
    }

    /// Whether the pod is in the first life that is counted.
    pub(super) fn is_first(&self, pod: &str) -> bool {
        self.current.contains_key(pod) && !self.ended.contains_key(pod)
    }

    /// Whether the incarnation is there and confirmed in this generation.
    pub(super) fn is_confirmed(&self, id: Token) -> bool {
        self.incarnations.get(&id).is_some_and(|found| found.confirmed_in == self.generation)
    }

    /// How often writers were taken off an incarnation; `None` if there is no such incarnation.
    pub(super) fn taken_off(&self, id: Token) -> Option<u64> {
        self.incarnations.get(&id).map(|found| found.taken_off)
    }

    /// Whether no other writer than this one may know more of the incarnation.
    pub(super) fn is_alone(&self, id: Token, writer: Token) -> bool {
        self.incarnations.get(&id).is_some_and(|found| found.writers == writer.as_bytes())
    }

    /// The number of the last write of a writer to the incarnation that the server knows of.
    pub(super) fn last_write(&self, id: Token, writer: Token) -> Option<u64> {
        let last_writes = &self.incarnations.get(&id)?.last_writes;
        last_writes.iter().find(|(of, _)| *of == writer).map(|&(_, number)| number)
    }

    /// The column of an entry.
    pub(super) fn column(&self, id: Token, entry: &PodEntry) -> Option<u16> {
        let columns = self.columns.get(&id)?;
        columns.iter().find(|(of, _)| **of == *entry).map(|&(_, column)| column)
    }

    /// The incarnations that have a lease.
    pub(super) fn leased(&self) -> impl Iterator<Item = Token> {
        self.incarnations.iter().filter(|(_, found)| found.leased).map(|(&id, _)| id)
    }

    /// The pods that hold what counts, or would if they held anything.
    pub(super) fn counting_pods(&self) -> impl Iterator<Item = &Arc<str>> {
        self.incarnations
            .values()
            .filter(|found| found.confirmed_in == self.generation)
            .map(|found| &found.pod)
    }

    /// How many bytes a bitmap of all columns takes.
    pub(super) fn width(&self) -> usize {
        self.next.div_ceil(8)
    }

    /// The columns that count for these pods.
    pub(super) fn columns_of(&self, pods: &PodSet) -> Columns {
        if pods.is_all() {
            return self.visible.clone();
        }
        let mut columns = Columns::with_room(self.places.len());
        self.visible
            .iter()
            .filter(|&column| pods.contains(&self.table[self.place(column)].pod_identifier))
            .for_each(|column| columns.insert(column));
        columns
    }

    /// The place in `table` of a column that counts.
    pub(super) fn place(&self, column: usize) -> usize {
        self.places[column] as usize
    }
}

impl Incarnation {
    fn counts(&self, generation: Token) -> bool {
        self.confirmed_in == generation && !self.lapsed
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    text(digits)?.parse().ok()
}
