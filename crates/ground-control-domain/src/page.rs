//! Pages of a list: bounded, ordered by name, with the total beside them.

/// The largest page that anyone may ask for.
pub const MAX_PAGE_SIZE: u32 = 100;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: u32,
    size: u32,
}

impl Page {
    /// Page `number` (counted from 1) of `size` entries; both are brought into their bounds.
    pub fn new(number: u32, size: u32) -> Self {
        Self { number: number.max(1), size: size.clamp(1, MAX_PAGE_SIZE) }
    }

    /// The page's number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many entries it holds at most.
    pub fn size(self) -> u32 {
        self.size
    }

    /// How many entries stand before it.
    pub fn offset(self) -> i64 {
        i64::from(self.number - 1) * i64::from(self.size)
    }

    /// The size as the databases take it.
    pub fn limit(self) -> i64 {
        i64::from(self.size)
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new(1, MAX_PAGE_SIZE)
    }
}

/// One page of a list and the length of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// How many entries the whole list has.
    pub total: u64,
}

impl<T> Paged<T> {
    /// The same page with every entry turned into something else.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Paged<U> {
        Paged { items: self.items.into_iter().map(f).collect(), total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_are_always_within_bounds(number: u32, size: u32) {
            let page = Page::new(number, size);
            prop_assert!(page.number() >= 1);
            prop_assert!((1..=MAX_PAGE_SIZE).contains(&page.size()));
            prop_assert!(page.offset() >= 0);
        }
    }
}
