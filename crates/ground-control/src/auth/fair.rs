//! A queue in which nobody waits for more than their share: the next one is taken from each lane in turn.
//!
//! It is bounded for each lane and in all. When it is full, the longest lane gives up its last place to whoever stands in a
//! shorter one: a flood from one lane refuses itself and nobody else. Of one lane no more than one is served at a time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// What became of somebody who came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<T> {
    /// Waits.
    Waits,
    /// Waits in the place of this one, who has to go.
    Displaced(T),
    /// There is no room.
    Refused(T),
}

/// Those who wait, by lane.
#[derive(Debug)]
pub(super) struct FairQueue<L, T> {
    lanes: HashMap<L, VecDeque<T>>,
    /// Lanes in which somebody waits, in the order in which they are served; those in service are passed over.
    ring: VecDeque<L>,
    in_service: HashSet<L>,
    waiting: usize,
    per_lane: usize,
    total: usize,
}

impl<L: Clone + Eq + Hash, T> FairQueue<L, T> {
    /// Empty, with these bounds.
    pub(super) fn new(per_lane: usize, total: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            in_service: HashSet::new(),
            waiting: 0,
            per_lane,
            total,
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Somebody comes. `gone` tells of those who wait which have left meanwhile: their places are free.
    pub(super) fn push(&mut self, lane: L, item: T, gone: impl Fn(&T) -> bool) -> Pushed<T> {
        let length = |queue: &Self| queue.lanes.get(&lane).map_or(0, VecDeque::len);
        if length(self) >= self.per_lane || self.waiting >= self.total {
            self.retain(|item| !gone(item));
        }
        let mine = length(self);
        if mine >= self.per_lane {
            return Pushed::Refused(item);
        }
        let mut displaced = None;
        if self.waiting >= self.total {
            let longest = self.lanes.iter().max_by_key(|(_, waiting)| waiting.len());
            // Whoever took the place of one in a lane that is no longer than theirs will be would be displaced in turn.
            let Some(longest) =
                longest.filter(|(_, waiting)| waiting.len() > mine + 1).map(|(lane, _)| lane.clone())
            else {
                return Pushed::Refused(item);
            };
            displaced = self.lanes.get_mut(&longest).and_then(VecDeque::pop_back);
            self.waiting -= usize::from(displaced.is_some());
        }
        let waiting = self.lanes.entry(lane.clone()).or_default();
        if waiting.is_empty() {
            self.ring.push_back(lane);
        }
        waiting.push_back(item);
        self.waiting += 1;
        displaced.map_or(Pushed::Waits, Pushed::Displaced)
    }

    /// The next one to be served, and its lane, which is then in service until [`FairQueue::served`].
    pub(super) fn pop(&mut self) -> Option<(L, T)> {
        let at = self.ring.iter().position(|lane| !self.in_service.contains(lane))?;
        let lane = self.ring.remove(at)?;
        let waiting = self.lanes.get_mut(&lane)?;
        let item = waiting.pop_front()?;
        self.waiting -= 1;
        if waiting.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.ring.push_back(lane.clone());
        }
        self.in_service.insert(lane.clone());
        Some((lane, item))
    }

    /// The one of this lane who was served is done.
    pub(super) fn served(&mut self, lane: &L) {
        self.in_service.remove(lane);
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.lanes.retain(|_, waiting| {
            waiting.retain(&keep);
            !waiting.is_empty()
        });
        self.ring.retain(|lane| self.lanes.contains_key(lane));
        self.waiting = self.lanes.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(per_lane: usize, total: usize) -> FairQueue<u8, u32> {
        FairQueue::new(per_lane, total)
    }

    fn push(queue: &mut FairQueue<u8, u32>, lane: u8, item: u32) -> Pushed<u32> {
        queue.push(lane, item, |_| false)
    }

    /// One source floods; another that comes later is the next but one, not the last.
    #[test]
    fn a_flood_holds_up_nobody_else() {
        let mut queue = queue(100, 200);
        for n in 0..100 {
            assert_eq!(push(&mut queue, 1, n), Pushed::Waits);
        }
        assert_eq!(push(&mut queue, 1, 100), Pushed::Refused(100));
        assert_eq!(push(&mut queue, 2, 1000), Pushed::Waits);
        let order: Vec<u32> = std::iter::from_fn(|| {
            let (lane, item) = queue.pop()?;
            queue.served(&lane);
            Some(item)
        })
        .take(2)
        .collect();
        assert_eq!(order, [0, 1000]);
    }

    #[test]
    fn a_full_queue_still_has_room_for_who_has_least() {
        let mut queue = queue(10, 10);
        for n in 0..10 {
            push(&mut queue, 1, n);
        }
        assert_eq!(push(&mut queue, 2, 100), Pushed::Displaced(9));
        assert_eq!(push(&mut queue, 1, 10), Pushed::Refused(10));
        for n in 1..5 {
            assert_eq!(push(&mut queue, 2, 100 + n), Pushed::Displaced(9 - n));
        }
        assert_eq!(push(&mut queue, 2, 105), Pushed::Refused(105), "five and five");
        assert_eq!(
            push(&mut queue, 3, 200),
            Pushed::Displaced(if queue.lanes[&1].len() == 5 { 104 } else { 4 })
        );
    }

    #[test]
    fn of_one_lane_one_is_served_at_a_time() {
        let mut queue = queue(10, 10);
        for n in 0..3 {
            push(&mut queue, 1, n);
        }
        push(&mut queue, 2, 10);
        assert_eq!(queue.pop(), Some((1, 0)));
        assert_eq!(queue.pop(), Some((2, 10)));
        assert_eq!(queue.pop(), None, "two wait, whose lane is in service");
        queue.served(&1);
        assert_eq!(queue.pop(), Some((1, 1)));
    }

    #[test]
    fn who_has_left_takes_no_room() {
        let mut queue = queue(2, 2);
        push(&mut queue, 1, 0);
        push(&mut queue, 1, 1);
        assert_eq!(queue.push(2, 2, |item| *item == 0), Pushed::Waits);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.pop(), Some((1, 1)));
        assert_eq!(queue.pop(), Some((2, 2)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Pop,
        Served,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => (0u8..6).prop_map(Step::Push), 2 => Just(Step::Pop), 2 => Just(Step::Served)]
    }

    proptest! {
        #[test]
        fn bounds_and_order_hold(steps in proptest::collection::vec(step(), 1..300), per_lane in 1usize..8, total in 1usize..20) {
            let mut queue = queue(per_lane, total);
            let mut model: HashMap<u8, VecDeque<u32>> = HashMap::new();
            let mut serving: Vec<u8> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                let n = u32::try_from(n).unwrap();
                match step {
                    Step::Push(lane) => {
                        let mine = model.get(&lane).map_or(0, VecDeque::len);
                        let all: usize = model.values().map(VecDeque::len).sum();
                        match push(&mut queue, lane, n) {
                            Pushed::Waits => {
                                prop_assert!(all < total);
                                model.entry(lane).or_default().push_back(n);
                            }
                            Pushed::Displaced(item) => {
                                prop_assert_eq!(all, total);
                                let other = model.values_mut().find(|items| items.contains(&item)).unwrap();
                                prop_assert!(other.len() > mine + 1);
                                prop_assert_eq!(other.pop_back(), Some(item));
                                model.entry(lane).or_default().push_back(n);
                            }
                            Pushed::Refused(item) => {
                                prop_assert_eq!(item, n);
                                let longest = model.values().map(VecDeque::len).max().unwrap_or(0);
                                prop_assert!(mine >= per_lane || (all >= total && longest <= mine + 1));
                            }
                        }
                    }
                    Step::Pop => match queue.pop() {
                        Some((lane, item)) => {
                            prop_assert!(!serving.contains(&lane));
                            prop_assert_eq!(model.get_mut(&lane).unwrap().pop_front(), Some(item));
                            serving.push(lane);
                        }
                        None => prop_assert!(model.iter().all(|(lane, items)| items.is_empty() || serving.contains(lane))),
                    },
                    Step::Served => if let Some(lane) = serving.pop() {
                        queue.served(&lane);
                    },
                }
                prop_assert!(model.values().all(|items| items.len() <= per_lane));
                prop_assert_eq!(queue.len(), model.values().map(VecDeque::len).sum::<usize>());
                prop_assert!(queue.len() <= total);
            }
        }

        /// However many wait, everybody at the front of a lane is served before any lane is served twice more.
        #[test]
        fn nobody_is_passed_over(lanes in proptest::collection::vec(1usize..30, 1..8)) {
            let mut queue = queue(1000, 1000);
            for (lane, count) in lanes.iter().enumerate() {
                for n in 0..*count {
                    push(&mut queue, u8::try_from(lane).unwrap(), u32::try_from(n).unwrap());
                }
            }
            let mut first = HashSet::new();
            for _ in 0..lanes.len() {
                let (lane, item) = queue.pop().unwrap();
                queue.served(&lane);
                prop_assert_eq!(item, 0);
                first.insert(lane);
            }
            prop_assert_eq!(first.len(), lanes.len());
        }
    }
}
