//! What can be told of a command from its words.

use super::{
    keys,
    placement::{self, Blocking},
    table::CommandInfo,
    words::Words,
};

/// One encoded command.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// May go on behind the last word of the command.
    words: Words<'a>,
    count: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(words: Words<'a>, count: usize) -> Self {
        Self { words, count }
    }

    /// Whether all of the commands that follow one another in `words` are of a kind. `MULTI` and `EXEC` around them are of
    /// any.
    pub(super) fn all_of(mut words: Words<'a>, holds: impl Fn(&Self) -> bool) -> bool {
        while let Some((count, words)) = words.next_command() {
            let command = Self { words, count };
            let surrounds =
                command.info().is_some_and(|info| matches!(info.name(), "multi" | "exec"));
            if !surrounds && !holds(&command) {
                return false;
            }
        }
        true
    }

    /// The commands that follow one another in `words`.
    pub(super) fn each_of(mut words: Words<'a>) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let (count, words) = words.next_command()?;
            Some(Self { words, count })
        })
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.words.take(self.count)
    }

    pub(super) fn args(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.words().skip(1)
    }

    pub(crate) fn info(&self) -> Option<&'static CommandInfo> {
        let mut words = self.words();
        let name = words.next()?;
        CommandInfo::of_words(name, || words.next())
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.info().is_some_and(CommandInfo::is_read_only)
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        let Some(info) = self.info() else { return false };
        info.is_read_only() || info.rule.repeat.allows(&mut self.args())
    }

    pub(crate) fn blocking(&self) -> Option<Blocking> {
        placement::blocking(self.info()?, self.args())
    }

    /// Its keys, or the channels that have slots as keys do.
    pub(crate) fn keys(&self, channels: bool) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let info = self.info();
        let specs = info.map_or(&[][..], CommandInfo::key_specs);
        // MIGRATE has the empty key where its keys stand elsewhere.
        let skips_empty = info.is_some_and(|info| info.name() == "migrate");
        keys::select(specs, channels, self.words(), self.count)
            .filter(move |key| !(skips_empty && key.is_empty()))
    }
}
