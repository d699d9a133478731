//! Who waits to begin, in the order in which they came, without those who have left meanwhile.

use std::collections::VecDeque;

/// So many are looked at in a turn, whether they have left, and two more for each that came.
const AT_ONCE: usize = 32;
/// So many wait before it is looked at all.
const CROWD: usize = 64;

/// A line. Bounded by who lets in; who opens and closes connections faster than they begin does not fill it, as it is
/// gone through again and again, a little at a time.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// Looked at in this pass: they came before the others.
    looked: VecDeque<T>,
    others: VecDeque<T>,
    /// The next pass begins when so many stand in the line: twice as many as stayed in the last.
    pass_at: usize,
    /// Looks that are due.
    due: usize,
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self { looked: VecDeque::new(), others: VecDeque::new(), pass_at: CROWD, due: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looked.is_empty() && self.others.is_empty()
    }

    /// Lets in who came last; `came` is left empty.
    pub(super) fn let_in(&mut self, came: &mut VecDeque<T>) {
        self.due += came.len() * 2;
        if self.others.is_empty() {
            std::mem::swap(&mut self.others, came);
        } else {
            self.others.append(came);
        }
    }

    /// Looks at some, if many stand here.
    pub(super) fn look(&mut self, has_left: impl Fn(&T) -> bool) {
        let due = std::mem::take(&mut self.due) + AT_ONCE;
        if self.looked.len() + self.others.len() < self.pass_at {
            return;
        }
        for _ in 0..due {
            let Some(next) = self.others.pop_front() else {
                std::mem::swap(&mut self.looked, &mut self.others);
                self.pass_at = (self.others.len() * 2).max(CROWD);
                return;
            };
            if !has_left(&next) {
                self.looked.push_back(next);
            }
        }
    }

    /// Looks at all.
    pub(super) fn purge(&mut self, has_left: impl Fn(&T) -> bool) {
        self.looked.retain(|one| !has_left(one));
        self.others.retain(|one| !has_left(one));
    }

    /// Who has waited longest.
    pub(super) fn next(&mut self) -> Option<T> {
        let next = self.looked.pop_front().or_else(|| self.others.pop_front());
        // Most callers have a connection or two, and no more come.
        if self.others.is_empty() && self.others.capacity() < CROWD {
            self.others = VecDeque::new();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_left_go_a_few_at_a_time_and_the_others_keep_their_order() {
        let mut line = Line::new();
        let mut came: VecDeque<u32> = (0..1000).collect();
        line.let_in(&mut came);
        assert!(came.is_empty());
        let stays = |n: &u32| n % 10 == 3;
        let mut looks = 0;
        while line.looked.len() + line.others.len() > 100 {
            assert!(looks < 1000 / AT_ONCE + 2, "one pass finds them all");
            line.look(|n| !stays(n));
            looks += 1;
        }
        line.let_in(&mut (1000..1010).collect());
        line.look(|_| panic!("twice as many come before the next pass"));
        let order: Vec<u32> = std::iter::from_fn(|| line.next()).collect();
        let expected: Vec<u32> = (0..1000).filter(stays).chain(1000..1010).collect();
        assert_eq!(order, expected);
        assert!(line.is_empty());
    }

    #[test]
    fn a_short_line_is_not_looked_at() {
        let mut line = Line::new();
        line.let_in(&mut (0..63).collect());
        line.look(|_| panic!("there is no crowd"));
        assert_eq!(line.next(), Some(0));
    }
}
