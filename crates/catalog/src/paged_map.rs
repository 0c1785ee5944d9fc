//! A map from small dense integers to shared values that is cheap to copy with one entry changed.

use std::sync::Arc;

const PAGE_LEN: usize = 256;

/// Copying takes one reference count per page; setting an entry of a copy copies its page and no other.
#[derive(Clone, Debug)]
pub(crate) struct PagedMap<T> {
    pages: Vec<Arc<[Option<Arc<T>>; PAGE_LEN]>>,
}

impl<T> PagedMap<T> {
    pub(crate) fn new() -> Self {
        Self { pages: Vec::new() }
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Arc<T>> {
        let index = index as usize;
        self.pages.get(index / PAGE_LEN)?[index % PAGE_LEN].as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Arc<T>> {
        let index = index as usize;
        let page = self.pages.get_mut(index / PAGE_LEN)?;
        Arc::make_mut(page)[index % PAGE_LEN].as_mut()
    }

    pub(crate) fn set(&mut self, index: u32, value: Option<Arc<T>>) {
        let index = index as usize;
        while self.pages.len() <= index / PAGE_LEN {
            self.pages.push(Arc::new([const { None }; PAGE_LEN]));
        }
        Arc::make_mut(&mut self.pages[index / PAGE_LEN])[index % PAGE_LEN] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shares_all_pages_but_the_changed_one() {
        let mut map = PagedMap::new();
        for index in [0, 255, 256, 1000] {
            map.set(index, Some(Arc::new(index)));
        }
        let mut copy = map.clone();
        copy.set(256, None);
        copy.set(2000, Some(Arc::new(2000)));
        *Arc::make_mut(copy.get_mut(255).unwrap()) = 7;
        assert_eq!(copy.get_mut(1), None);

        assert_eq!(map.get(256).map(|value| **value), Some(256));
        assert_eq!(map.get(2000), None);
        assert_eq!(map.get(255).map(|value| **value), Some(255));
        assert_eq!(copy.get(255).map(|value| **value), Some(7));
        assert_eq!(copy.get(256), None);
        assert_eq!(copy.get(2000).map(|value| **value), Some(2000));
        assert_eq!(copy.get(1000).map(|value| **value), Some(1000));
        assert!(!Arc::ptr_eq(&map.pages[0], &copy.pages[0]));
        assert!(!Arc::ptr_eq(&map.pages[1], &copy.pages[1]));
        assert!(Arc::ptr_eq(&map.pages[3], &copy.pages[3]));
    }

    #[test]
    fn an_index_beyond_all_pages_is_absent() {
        assert_eq!(PagedMap::<u8>::new().get(u32::MAX), None);
    }
}
