//! What a block has besides its tokens.

use std::sync::Arc;

/// What a block's content depends on besides its tokens: the hashes of the images and the like whose place lies in it, and,
/// in a first block, the salt of its cache. Empty for a block of plain text.
///
/// Tokens stand for text; the tokens that keep an image's place are the same for every image. So its hash has to be a part
/// of the block's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockExtra {
    texts: Vec<Arc<str>>,
}

impl BlockExtra {
    /// Whether the block is plain text.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// The texts, in the order in which they are hashed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// From the `extra_keys` that an engine announces for one block.
    ///
    /// Engines mix the name of an adapter (LoRA), the hashes of images and the cache's salt in one list. The adapter's name,
    /// `lora_name`, comes first and is left out: [the model's name](crate::TokenProcessor::block_keys) stands for it. llm-d
    /// kept it until the summer of 2026, and then no prompt to an adapter found the blocks that engines announced.
    ///
    /// ```
    /// use respire_kvblock::{BlockExtra, RawExtraKey};
    ///
    /// let raw = [RawExtraKey::Text("adapter"), RawExtraKey::Array(Some("image")), RawExtraKey::Other];
    /// let extra = BlockExtra::from_raw(raw, Some("adapter"));
    /// assert!(extra.iter().eq(["image"]));
    /// ```
    pub fn from_raw<'a>(
        keys: impl IntoIterator<Item = RawExtraKey<'a>>,
        lora_name: Option<&str>,
    ) -> Self {
        let lora_name = lora_name.filter(|name| !name.is_empty());
        let is_adapter = |position, key| match key {
            RawExtraKey::Text(text) => position == 0 && Some(text) == lora_name,
            _ => false,
        };
        let texts = keys.into_iter().enumerate().filter_map(|(position, key)| match key {
            key if is_adapter(position, key) => None,
            RawExtraKey::Text(text) | RawExtraKey::Array(Some(text)) => Some(Arc::from(text)),
            RawExtraKey::Array(None) | RawExtraKey::Other => None,
        });
        texts.collect()
    }

    /// For a prompt with images and the like: what each of its full blocks has of them.
    ///
    /// `items` may come in any order; where two begin at the same token, the first one is hashed first. The answer is empty if
    /// there are no items.
    ///
    /// ```
    /// use respire_kvblock::{BlockExtra, MediaItem};
    ///
    /// let image = MediaItem { hash: "image".into(), start: 20, length: 30 };
    /// let extra = BlockExtra::of_media(&[image], 64, 16);
    /// let has_image: Vec<bool> = extra.iter().map(|block| !block.is_empty()).collect();
    /// assert_eq!(has_image, [false, true, true, true]);
    /// ```
    ///
    /// # Panics
    ///
    /// When `block_size` is 0.
    pub fn of_media(items: &[MediaItem], tokens: usize, block_size: usize) -> Vec<Self> {
        let blocks = tokens / block_size;
        if items.is_empty() {
            return Vec::new();
        }
        let mut sorted: Vec<&MediaItem> = items.iter().collect();
        sorted.sort_by_key(|item| item.start);
        let mut extra = vec![Self::default(); blocks];
        for item in sorted {
            // As in llm-d, an item without tokens is in a block if it lies within, and not at its start.
            let end = item.start.saturating_add(item.length).div_ceil(block_size).min(blocks);
            for block in extra.iter_mut().take(end).skip(item.start / block_size) {
                block.texts.push(Arc::clone(&item.hash));
            }
        }
        extra
    }

    /// Puts the salt of a request's cache into its first block, behind the images' hashes: two requests with different salts
    /// share no key. `extra` has an element for each of the `blocks` of the prompt, or none yet. Without a salt or a full
    /// block nothing changes.
    pub fn add_cache_salt(extra: &mut Vec<Self>, salt: &str, blocks: usize) {
        if salt.is_empty() || blocks == 0 {
            return;
        }
        if extra.is_empty() {
            extra.resize_with(blocks, Self::default);
        }
        extra[0].texts.push(Arc::from(salt));
    }

    /// Spreads what an engine's blocks have over as many blocks of another size: where these are more, each gets that of the
    /// engine's block which it lies in; where they are fewer, that of all its parts, one after the other.
    ///
    /// Uneven numbers are rounded down, as those of keys are in [`Index::add`](crate::Index::add).
    pub fn realign(extra: &[Self], blocks: usize) -> Vec<Self> {
        Self::realign_all(extra.iter().cloned(), blocks)
    }

    /// As [`realign`](Self::realign), of parts that are made one at a time.
    pub(crate) fn realign_all(
        extra: impl ExactSizeIterator<Item = Self>,
        blocks: usize,
    ) -> Vec<Self> {
        let parts = extra.len();
        if parts == 0 || blocks == 0 {
            return Vec::new();
        }
        if parts <= blocks {
            let mut realigned = Vec::with_capacity(blocks);
            for (at, part) in extra.enumerate() {
                let is_in = |block: &usize| position(*block, blocks, parts) == at;
                let copies = (realigned.len()..blocks).take_while(is_in).count();
                realigned.extend(std::iter::repeat_n(part, copies));
            }
            return realigned;
        }
        let mut realigned = vec![Self::default(); blocks];
        for (at, part) in extra.enumerate() {
            realigned[position(at, parts, blocks)].texts.extend(part.texts);
        }
        realigned
    }
}

/// Where the element `at` of `of` lies among `among`: below it, because `at` is below `of`.
fn position(at: usize, of: usize, among: usize) -> usize {
    (at as u128 * among as u128 / of as u128) as usize
}

impl<T: Into<Arc<str>>> FromIterator<T> for BlockExtra {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        Self { texts: texts.into_iter().map(Into::into).collect() }
    }
}

/// One of the `extra_keys` that an engine announces for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawExtraKey<'a> {
    /// A text: the name of an adapter, the hash of an image, a salt.
    Text(&'a str),
    /// An array, by its first element if that is a text. Older engines wrote `[hash, offset]`; the offset counts nothing.
    Array(Option<&'a str>),
    /// Anything else; passed over.
    Other,
}

/// An image or the like in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaItem {
    /// The hash of its content.
    pub hash: Arc<str>,
    /// The first of the tokens that keep its place, counted from the prompt's first one.
    pub start: usize,
    /// How many tokens keep its place.
    pub length: usize,
}
